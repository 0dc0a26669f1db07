"""`pip install lipnb` brings what the library imports, and importing it needs no backend but the one that Keras runs on."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import lipnb

pytestmark = pytest.mark.once

MODULES = sorted(Path(lipnb.__file__).parent.glob("*.py"))
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
BACKENDS = {"tensorflow", "jax", "torch"}


def imported(tree: ast.AST) -> set[str]:
    """The packages that the import statements in the tree name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def on_import(tree: ast.Module) -> set[str]:
    """Those that are imported with the module: outside of functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        function.body = [ast.Pass()]
    return imported(tree)


def test_what_is_imported_is_what_is_declared():
    lines = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    declared = {re.match(r"[\w-]+", line)[0] for line in lines}
    found = set().union(*(imported(ast.parse(path.read_text())) for path in MODULES))
    assert found - {*sys.stdlib_module_names, "lipnb"} - BACKENDS == declared


def test_backends_are_imported_only_where_they_are_used_and_in_one_file():
    for path in MODULES:
        assert not on_import(ast.parse(path.read_text())) & BACKENDS, path
        assert path.name == "autodiff.py" or not imported(ast.parse(path.read_text())) & BACKENDS, path


def test_the_check_can_fail():
    tree = ast.parse("import torch.nn\n\n\ndef f():\n    from jax import numpy\n")
    assert imported(tree) == {"torch", "jax"}
    assert on_import(tree) == {"torch"}
