"""Measure and constrain the Lipschitz constant of Keras 3 models, on TensorFlow, JAX and PyTorch.

``*_norm`` is exact to rounding, ``*_bound`` proven from above, ``*_estimate`` found from below. Norms are
Euclidean. ``lipnb.lab``, which the book's experiments are built on, is not imported from here.
"""

import sys
from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "bound_table": ["LayerBound", "LipschitzBound"],
    "bounds": ["lipschitz_bound"],
    "constraints": ["FrobeniusClip", "SpectralClip", "WeightClip"],
    "convolutions": ["conv_matrix", "conv_norm", "conv_norm_bound"],
    "estimates": ["certified_radius", "lipschitz_estimate"],
    "norms": ["frobenius_norm", "power_iteration", "spectral_norm", "spectral_norm_estimate"],
    "penalties": ["gradient_penalty", "input_gradient_norm"],
    "regularizers": ["FrobeniusPenalty", "SpectralNormPenalty"],
    "reparam": ["FrobeniusNormalization", "SpectralNormalization"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = list(_HOME)


def _register() -> None:
    """Make the classes that a saved model may name known to Keras: their modules register them."""
    for module in ("constraints", "regularizers", "reparam"):
        import_module(f"lipnb.{module}")


def __getattr__(name: str) -> object:
    """Import a public name on first use: Keras takes seconds to load, and the lab's tools do without it."""
    if name not in _HOME:
        raise AttributeError(f"module 'lipnb' has no attribute {name!r}")
    _register()
    value = getattr(import_module(f"lipnb.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "keras" in sys.modules:
    _register()
