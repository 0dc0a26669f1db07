"""Every public name is what it says, whatever was imported before it, and brings its types."""

from __future__ import annotations

import pkgutil
import types
from pathlib import Path

import lipnb


def test_no_public_name_is_hidden_by_a_module():
    """A submodule becomes an attribute of the package as soon as it is imported: none may have a public name."""
    assert not {module.name for module in pkgutil.iter_modules(lipnb.__path__)} & set(lipnb.__all__)
    assert not any(isinstance(getattr(lipnb, name), types.ModuleType) for name in lipnb.__all__)


def test_type_hints_are_for_users_too():
    assert Path(lipnb.__file__).with_name("py.typed").is_file()
