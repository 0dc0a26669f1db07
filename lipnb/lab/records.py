"""A run's record: one JSON of numbers, one npz of arrays, written whole or not at all, checked by hash.

``<folder>/<experiment>/<run>.json`` holds the parameters, what was measured, where and with what;
``<run>.npz`` beside it holds arrays (samples, features' statistics). The JSON names the npz's SHA-256 and is
written last: a record that can be read is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lipnb.lab import paths

__all__ = ["code_files", "damaged", "hash_files", "provenance", "read", "read_arrays", "write"]

PACKAGES = ("keras", "numpy", "scipy", "tensorflow", "tensorflow-cpu", "jax", "torch", "papermill")
NOT_IMPORTED_BY_RUNS = {"figures.py", "verdicts.py", "claims.py", "progress.py", "site.py", "statistics.py"}


def write(folder: Path, run_id: str, record: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> Path:
    """Write ``record`` and ``arrays`` as ``folder/run_id``.json and .npz, each beside its place and then renamed.

    Raises ValueError for a NaN or infinite number in the record (JSON has none: say "diverged" instead).
    """
    arrays_path, path = folder / f"{run_id}.npz", folder / f"{run_id}.json"
    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        _replace(arrays_path, lambda file: np.savez_compressed(file, **arrays))
        record = record | {"arrays_sha256": _sha256(arrays_path)}
    text = json.dumps(record | {"run": run_id}, indent=1, sort_keys=True, allow_nan=False)
    _replace(path, lambda file: file.write(f"{text}\n".encode()))
    return path


def read(folder: Path, experiment: str) -> list[dict[str, Any]]:
    """All records of ``experiment`` below ``folder``, by run name; an empty list where there are none."""
    return [json.loads(path.read_text()) for path in sorted((folder / experiment).glob("*.json"))]


def read_arrays(folder: Path, experiment: str, run_id: str) -> dict[str, np.ndarray]:
    """The arrays of one run. Raises OSError where they are not those of its record."""
    path = folder / experiment / f"{run_id}.npz"
    if _is_damaged(path.with_suffix(".json")):
        raise OSError(f"{path} must match the hash in its record: delete both and run again. Received: other content")
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def damaged(folder: Path) -> list[Path]:
    """Records below ``folder`` that cannot be read, or whose arrays are missing or altered."""
    return [path for path in sorted(folder.rglob("*.json")) if _is_damaged(path)]


def _is_damaged(path: Path) -> bool:
    try:
        expected = json.loads(path.read_text()).get("arrays_sha256")
        return expected is not None and _sha256(path.with_suffix(".npz")) != expected
    except (OSError, ValueError):
        return True


def provenance(notebook: str, dataset: str) -> dict[str, Any]:
    """Where, when and with what a run was made: everything needed to make it again or to explain a difference."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": keras.backend.backend(),
        "device": _device(),
        "python": sys.version.split()[0],
        "versions": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
        "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "inputs": {
            "notebook": hash_files([paths.ROOT / "notebooks" / notebook]),
            "code": hash_files(code_files()),
            "lock": hash_files([paths.ROOT / "requirements.lock"]),
            "dataset": dataset,
        },
    }


def code_files() -> list[Path]:
    """The library files that a run can import: what draws and judges afterwards is left out."""
    files = sorted((paths.ROOT / "lipnb").rglob("*.py"))
    return [path for path in files if path.name not in NOT_IMPORTED_BY_RUNS]


def hash_files(files: Iterable[Path]) -> str:
    """SHA-256 of the files' names and contents."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _replace(path: Path, write_to: Any) -> None:
    beside = path.with_name(f".{path.name}.partial")
    with beside.open("wb") as file:
        write_to(file)
    os.replace(beside, path)


def _git(*arguments: str) -> str | None:
    result = subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
        return True
    except metadata.PackageNotFoundError:
        return False


def _device() -> str:
    devices = [d for d in keras.distribution.list_devices() if not d.startswith("cpu")]
    if devices:
        return ", ".join(devices)
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return models[0] if models else "cpu"
