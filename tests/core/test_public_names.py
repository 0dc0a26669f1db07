"""Every public name is what it says, whatever was imported before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lipnb

ALL_MODULES_FIRST = """
import importlib, pkgutil, types
import lipnb
for module in pkgutil.iter_modules(lipnb.__path__):
    if module.name not in ("lab", "__main__"):
        importlib.import_module(f"lipnb.{module.name}")
for name in lipnb.__all__:
    assert not isinstance(getattr(lipnb, name), types.ModuleType), f"lipnb.{name} is a module"
print(len(lipnb.__all__), "names")
"""


@pytest.mark.once
def test_no_public_name_is_hidden_by_a_module():
    run = subprocess.run([sys.executable, "-c", ALL_MODULES_FIRST], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-600:]
    assert run.stdout.split()[-1] == "names"


def test_type_hints_are_for_users_too():
    assert Path(lipnb.__file__).with_name("py.typed").is_file()
