"""Which library files a notebook depends on, read from the import statements."""

from __future__ import annotations

import ast
from pathlib import Path

import jupytext

from lipnb.lab import paths

__all__ = ["run_code"]

# What only draws, judges or publishes: a run may show a picture, but its record does not depend on it.
AFTER_RUNS = {"claims.py", "figures.py", "headline.py", "statistics.py", "tables.py", "verdicts.py"}


def run_code(notebook: Path) -> list[Path]:
    """The files of lipnb that the record of a run of ``notebook`` depends on: its imports, and theirs in turn."""
    cells = jupytext.read(notebook).cells
    source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    found: set[Path] = set()
    pending = _imported(source)
    while pending:
        path = pending.pop()
        if path not in found and path.name not in AFTER_RUNS:
            found.add(path)
            pending |= _imported(path.read_text())
    return sorted(found)


def _imported(source: str) -> set[Path]:
    """Files of the modules of lipnb that ``source`` names in its import statements."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    candidates = {paths.ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith("lipnb")}
    return {path for path in candidates if path.is_file()}
