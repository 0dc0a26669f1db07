"""A run's record: one JSON of numbers, one npz of arrays, written whole or not at all, checked by hash.

``<folder>/<experiment>/<run>.json`` holds the parameters, what was measured, where and with what;
``<run>.npz`` beside it holds arrays (samples, features' statistics). The JSON names the npz's SHA-256 and is
written last: a record that can be read is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["damaged", "hash_arrays", "hash_files", "read", "read_arrays", "write"]


def write(
    folder: Path, run_id: str, record: dict[str, Any], arrays: dict[str, np.ndarray] | None = None
) -> Path:
    """Write ``record`` and ``arrays`` as ``folder/run_id``.json and .npz, each beside its place and then renamed.

    Raises ValueError for a NaN or infinite number in the record (JSON has none: say "diverged" instead).
    """
    arrays_path, path = folder / f"{run_id}.npz", folder / f"{run_id}.json"
    _to_json(record)  # raises before anything of an earlier record is touched
    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        _replace(arrays_path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
        record = record | {"arrays_sha256": _sha256(arrays_path)}
    text = _to_json(record | {"run": run_id})
    _replace(path, lambda file: file.write(f"{text}\n".encode()))
    if not arrays:
        arrays_path.unlink(missing_ok=True)  # of an earlier record
    return path


def read(folder: Path, experiment: str) -> list[dict[str, Any]]:
    """All records of ``experiment`` below ``folder``, by run name; an empty list where there are none."""
    return [json.loads(path.read_text()) for path in sorted((folder / experiment).glob("*.json"))]


def read_arrays(folder: Path, experiment: str, run_id: str) -> dict[str, np.ndarray]:
    """The arrays of one run. Raises OSError where they are not those of its record."""
    path = folder / experiment / f"{run_id}.npz"
    if _is_damaged(path.with_suffix(".json")):
        raise OSError(
            f"{path} must match the hash in its record: delete both and run again. Received: other content"
        )
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def damaged(folder: Path) -> list[Path]:
    """Records below ``folder`` that cannot be read, or whose arrays are missing or altered."""
    return [path for path in sorted(folder.rglob("*.json")) if _is_damaged(path)]


def _is_damaged(path: Path) -> bool:
    try:
        expected = json.loads(path.read_text()).get("arrays_sha256")
        return expected is not None and _sha256(path.with_suffix(".npz")) != expected
    except (OSError, ValueError, AttributeError):  # the last: JSON, but no object
        return True


def hash_files(files: Iterable[Path]) -> str:
    """SHA-256 of the files' names and contents."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def hash_arrays(arrays: Iterable[np.ndarray]) -> str | None:
    """SHA-256 of the arrays' dtypes, shapes and entries, in their order; None without arrays."""
    digest, known = hashlib.sha256(), False
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}\0".encode() + np.ascontiguousarray(array).tobytes())
        known = True
    return digest.hexdigest() if known else None


def _to_json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1, sort_keys=True, allow_nan=False)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _replace(path: Path, write_to: Any) -> None:
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("wb") as file:
            write_to(file)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
