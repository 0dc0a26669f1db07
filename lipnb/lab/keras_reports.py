"""Reports of the Keras checks from other backends: run in processes of their own, or read where recorded.

A process can import one Keras backend only. ``start`` runs the checks of another one beside the notebook;
where that backend is not installed, its report is the committed one of ``book/results/keras``.
"""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from lipnb.lab import paths, records
from lipnb.lab.tables import Table

__all__ = [
    "FOLDER",
    "Pending",
    "Scripts",
    "checks_table",
    "main",
    "recorded",
    "start",
    "versions",
    "zero_table",
]

FOLDER = paths.RECORDED / "keras"


@dataclass
class Pending:
    """A report that is being made (``process``) or is recorded."""

    name: str
    process: subprocess.Popen | None

    def report(self) -> dict[str, Any]:
        """The report, with ``live`` saying whether it was made here; waits for the process.

        Raises RuntimeError with the process's own words where it failed, OSError where nothing is recorded.
        """
        if self.process is None:
            return recorded(self.name)
        output, errors = self.process.communicate()
        if self.process.returncode != 0:
            raise RuntimeError(f"the checks on {self.name} must run. Received: {errors[-2000:]}")
        return json.loads(output.splitlines()[-1]) | {"live": True}


@dataclass(frozen=True)
class Scripts:
    """The scripts of ``lipnb/lab/upstream``, one a bug, each folded behind its first line."""

    folder: Path = Path(__file__).parent / "upstream"

    def texts(self) -> dict[str, str]:
        """Source by file name."""
        return {path.name: path.read_text() for path in sorted(self.folder.glob("*.py"))}

    def _repr_html_(self) -> str:
        def fold(name: str, text: str) -> str:
            title, source = html.escape(_title(text)), html.escape(text)
            summary = f"<summary><code>{name}</code> {title}</summary>"
            return f'<details class="lipnb-details">{summary}<pre>{source}</pre></details>'

        return "".join(fold(*item) for item in self.texts().items())

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {_title(text)}" for name, text in self.texts().items())


def recorded(name: str) -> dict[str, Any]:
    """The committed report ``name``. Raises OSError where there is none."""
    return json.loads((FOLDER / f"{name}.json").read_text()) | {"live": False}


def checks_table(reports: Mapping[str, dict[str, Any]], meanings: Mapping[str, str]) -> Table:
    """One row a check (name → meaning), one column a wrapper and backend; the caption says which ran here."""
    found = {(r["wrapper"], b, r["check"]): r for b, report in reports.items() for r in report["checks"]}
    columns = list(dict.fromkeys(key[:2] for key in sorted(found, key=lambda key: key[0])))
    rows = [[text, *(_cell(found[*column, name]) for column in columns)] for name, text in meanings.items()]
    versions = {
        b: f"{b} {r['versions'][b]}, {'run here' if r['live'] else 'recorded'}" for b, r in reports.items()
    }
    keras_version = next(iter(reports.values()))["versions"]["keras"]
    caption = f"Keras {keras_version} on {'; '.join(versions.values())}. ✓: as W/σ(W) asks."
    return Table(["check", *(f"{wrapper}, {backend}" for wrapper, backend in columns)], rows, caption)


def zero_table(reports: Mapping[str, dict[str, Any]], natives: Sequence[dict[str, Any]]) -> Table:
    """What other libraries' layers do after a zero kernel (``natives``, recorded), and lipnb's (``reports``)."""
    rows = []
    for native in natives:
        version = native["versions"][native["backend"].removesuffix("_native")]
        rows.append([f"{native['name']} ({version})", _norm(native["after_zero"])])
    for backend, report in reports.items():
        norm = next(
            r["number"] for r in report["checks"] if (r["wrapper"], r["check"]) == ("lipnb", "from_zero")
        )
        rows.append([f"lipnb.SpectralNormalization on {backend}", _norm(norm)])
    caption = "A zero kernel, then one of norm 3, normalised to: (libraries recorded with the book)"
    return Table(["layer", "norm of the kernel in use"], rows, caption)


def _cell(row: dict[str, Any]) -> str:
    return ("✓ " if row["passed"] else "✗ ") + ("raises" if row["number"] is None else f"{row['number']:.3g}")


def _norm(norm: float | None) -> str:
    return "NaN" if norm is None else f"{norm:.2f}"


def start(backend: str) -> Pending:
    """Start the checks on ``backend`` in a process of its own, where it is installed."""
    if util.find_spec(backend) is None:
        return Pending(backend, None)
    settings = {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lipnb.lab.keras_checks"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **settings},
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Pending(backend, process)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions by package, and Python's."""
    names = {"tensorflow": ("tensorflow", "tensorflow-cpu")}
    found = {"python": sys.version.split()[0]}
    for package in packages:
        for name in names.get(package, (package,)):
            try:
                found[package] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return found


def main(arguments: Sequence[str], report: Callable[[], dict[str, Any]]) -> Path | None:
    """Command line of a module of checks: print the report as one line of JSON, or keep it with ``--record``."""
    made = report()
    if "--record" in arguments:
        return records.write(FOLDER, made["backend"], made)
    print(json.dumps(made, allow_nan=False))
    return None


def _title(text: str) -> str:
    return text.split('"""')[1]
