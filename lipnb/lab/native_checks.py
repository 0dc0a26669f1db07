"""The spectral normalization of PyTorch, Flax and Equinox, put to the two checks that need no Keras (claim I4).

``python -m lipnb.lab.native_checks torch`` (or flax, equinox) prints the report of one library as JSON;
``--record`` keeps it as ``book/results/keras/<library>_native.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from lipnb.lab import keras_reports
from lipnb.lab.linear_algebra import random_svd

__all__ = ["LIBRARIES", "report"]

W = random_svd([1.0, 0.5, 0.25], 4, 3, seed=0)[0]
ROUNDS = 50  # training calls with the new kernel


def torch_from_zero() -> list[float]:
    """torch.nn.utils.parametrizations.spectral_norm."""
    import torch

    layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 3, bias=False))
    original, norms = layer.parametrizations.weight.original, []
    for kernel in (0 * W, *[3 * W] * ROUNDS):
        original.data.copy_(torch.tensor(kernel.T))
        norms.append(_norm(layer(torch.eye(4)).detach().numpy()))
    return norms


def flax_from_zero() -> list[float]:
    """flax.linen.SpectralNorm."""
    import flax.linen as nn
    import jax

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.SpectralNorm(nn.Dense(3, use_bias=False))(x, update_stats=True)

    layer, x = Layer(), np.eye(4, dtype="float32")
    variables, norms = layer.init(jax.random.key(0), x), []
    stats = variables["batch_stats"]
    for kernel in (0 * W, *[3 * W] * ROUNDS):
        params = jax.tree.map(lambda old, new=kernel: new.astype("float32"), variables["params"])
        y, changed = layer.apply({"params": params, "batch_stats": stats}, x, mutable="batch_stats")
        stats = changed["batch_stats"]
        norms.append(_norm(y))
    return norms


def equinox_from_zero() -> list[float]:
    """equinox.nn.SpectralNorm."""
    import equinox
    import jax

    def make() -> Any:
        linear = equinox.nn.Linear(4, 3, use_bias=False, key=jax.random.key(0))
        return equinox.nn.SpectralNorm(linear, "weight", key=jax.random.key(1))

    layer, state = equinox.nn.make_with_state(make)()
    norms = []
    for kernel in (0 * W, *[3 * W] * ROUNDS):
        layer = equinox.tree_at(lambda x: x.layer.weight, layer, jax.numpy.asarray(kernel.T, "float32"))
        rows = []
        for x in np.eye(4, dtype="float32"):
            y, state = layer(x, state)
            rows.append(y)
        norms.append(_norm(rows))
    return norms


LIBRARIES: dict[str, Callable[[], list[float]]] = {
    "torch": torch_from_zero,
    "flax": flax_from_zero,
    "equinox": equinox_from_zero,
}


def report(library: str) -> dict[str, Any]:
    """Norms of the effective kernel: in a call with W = 0, then in calls with a W of norm 3 (None: NaN)."""
    first, *later = LIBRARIES[library]()
    return {
        "backend": f"{library}_native",
        "versions": keras_reports.versions("numpy", library, *(["jax"] if library != "torch" else [])),
        "name": (LIBRARIES[library].__doc__ or "").rstrip("."),
        "at_zero": _or_none(first),
        "after_zero": _or_none(later[-1]),
    }


def _norm(kernel: Any) -> float:
    kernel = np.asarray(kernel, np.float64)
    return float(np.linalg.norm(kernel, 2)) if np.all(np.isfinite(kernel)) else float("nan")


def _or_none(norm: float) -> float | None:
    return norm if np.isfinite(norm) else None


if __name__ == "__main__":
    keras_reports.main(sys.argv[1:], lambda: report(sys.argv[1]))
