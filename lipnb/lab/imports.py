"""Which library code a notebook's record depends on, and whether that code changed what it does."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

import jupytext

from lipnb.lab import paths

__all__ = ["fingerprint", "run_code"]

DRAWS = "figures.py"  # a run may show a picture, but its record does not depend on it


def run_code(notebook: Path) -> list[Path]:
    """The files of lipnb that the record of a run of ``notebook`` depends on: its imports, and theirs in turn."""
    cells = jupytext.read(notebook).cells
    source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    found: set[Path] = set()
    pending = _imported(source)
    while pending:
        path = pending.pop()
        if path not in found and path.name != DRAWS:
            found.add(path)
            pending |= _imported(path.read_text())
    return sorted(found)


def fingerprint(files: Iterable[Path]) -> str:
    """SHA-256 of what the files' code does: layout, comments, docstrings and type hints do not count."""
    digest = hashlib.sha256()
    for path in files:
        tree = _Bare().visit(ast.parse(path.read_text()))
        digest.update(f"{path.name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


class _Bare(ast.NodeTransformer):
    """Drops docstrings and type hints, and the imports that only type hints may need."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # A bare annotation is a dataclass's field: it does something, and stays.
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _imported(source: str) -> set[Path]:
    """Files of the modules of lipnb that ``source`` names in its import statements."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    candidates = {
        paths.ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith("lipnb")
    }
    return {path for path in candidates if path.is_file()}
