"""Registration with Keras, which knows a class named in a saved model only once its module has been imported.

``import lipnb`` imports no such module, for Keras takes seconds to load and the lab's tools do without it. They are
imported as soon as Keras has been: at once where it is there already, else at the end of its own import.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["register", "register_with_keras"]

MODULES = ("lipnb.constraints", "lipnb.regularizers", "lipnb.reparam")  # all that register classes


def register() -> None:
    """Import Keras, then the modules that register lipnb's classes with it."""
    for name in ("keras", *MODULES):
        importlib.import_module(name)


def register_with_keras() -> None:
    """``register()`` where Keras is loaded, else as soon as it is."""
    if "keras" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _KerasFinder())


class _KerasFinder(MetaPathFinder):
    """Finds Keras once, as Python would without it, and registers at the end of what its import executes."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_register(spec.loader.exec_module)  # type: ignore[assignment]
        return spec


def _then_register(load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def load_and_register(module: ModuleType) -> None:
        load(module)
        if not _half_loaded():
            register()

    return load_and_register


def _half_loaded() -> bool:
    """Whether a module of lipnb is importing Keras: nothing that needs this module can be imported before its end."""
    modules = [module for name, module in sys.modules.items() if name.startswith("lipnb.")]
    return any(getattr(module.__spec__, "_initializing", False) for module in modules)
