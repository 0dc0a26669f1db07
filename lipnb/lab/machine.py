"""What a run says of the machine under it: determinism, progress, provenance."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

from lipnb.lab import paths, records
from lipnb.lab.imports import fingerprint, run_code

__all__ = ["checkpoint", "make_deterministic", "phase", "provenance", "reporter"]

PACKAGES = ("keras", "numpy", "scipy", "tensorflow", "tensorflow-cpu", "jax", "torch", "papermill")


def make_deterministic() -> None:
    """Ask the backend for the same bits from the same seed, on this machine with this number of threads."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


_PHASES: list[tuple[str, float]] = []  # what was begun, and when


def phase(name: str) -> None:
    """Begin a phase of the run; its seconds stand in the record's provenance."""
    _PHASES.append((name, time.perf_counter()))


def _seconds() -> dict[str, float]:
    """Seconds of each phase, in the order in which they were first begun; the last one lasts until now."""
    times = [*(begun for _, begun in _PHASES), time.perf_counter()]
    found: dict[str, float] = {}
    for (name, begun), end in zip(_PHASES, times[1:], strict=True):
        found[name] = round(found.get(name, 0.0) + end - begun, 2)
    return found


def reporter(folder: Path, experiment: str, name: str) -> Callable[[int, int], None]:
    """Function of (done, total) that leaves a run's progress where :mod:`lipnb.lab.pipeline` looks, twice a second."""
    path = folder.parent / "progress" / f"{experiment}.{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5 or done == total:
            last = time.monotonic()
            beside = path.with_suffix(".partial")
            beside.write_text(json.dumps({"run": f"{experiment}/{name}", "done": done, "total": total}))
            os.replace(beside, path)

    return report


def checkpoint(folder: Path, experiment: str, name: str, notebook: str, parameters: dict[str, Any]) -> Path:
    """Where a run keeps its checkpoint: another file once its notebook, code or parameters change."""
    source = paths.ROOT / "notebooks" / "runs" / notebook
    code = fingerprint(run_code(source))
    text = json.dumps(parameters, sort_keys=True) + records.hash_files([source, paths.LOCK]) + code
    return (
        folder.parent
        / "checkpoints"
        / f"{experiment}.{name}.{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"
    )


def provenance(notebook: str, dataset: str | None = None, arrays: Iterable[Any] = ()) -> dict[str, Any]:
    """Where, when, how long and with what a run was made: what is needed to make it again or to explain a difference.

    ``arrays`` are those of ``dataset``, known by their SHA-256.
    """
    source = paths.ROOT / "notebooks" / "runs" / notebook
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": _seconds(),
        "backend": keras.backend.backend(),
        "device": _device(),
        "python": sys.version.split()[0],
        "versions": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
        "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if (changes := _git("status", "--porcelain")) is None else bool(changes),
        "inputs": {
            "notebook": records.hash_files([source]),
            "code": fingerprint(run_code(source)),
            "lock": records.hash_files([paths.LOCK]),
            "dataset": dataset,
            "arrays": records.hash_arrays(arrays),
        },
    }


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    result = subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _device() -> str:
    """The accelerators' names, else the processor's."""
    accelerators = [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processors = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return ", ".join(accelerators) or (processors[0] if processors else "cpu")
