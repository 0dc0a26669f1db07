"""Lipschitz constants of the Keras activations with respect to the Euclidean norm.

For an elementwise φ the constant is sup |φ'|; the suprema without a closed form are rounded up in their
last digit. NaN-free closed forms, where φ' peaks:
gelu at √2: Φ(√2) + √2 φ(√2) = (1 + erf(1))/2 + e⁻¹/√π; silu at 2.3994 (2 = x tanh(x/2)); mish at 1.4906;
hard_silu at 3: (2·3 + 3)/6.

Softmax: J = diag(p) − ppᵀ has absolute row sums 2pᵢ(1 − pᵢ) ≤ 1/2, hence ‖J‖₂ ≤ 1/2 (Gershgorin), attained at
p = (1/2, 1/2, 0, …). Log-softmax: J = I − 1pᵀ is an oblique projection, ‖J‖₂ = √n‖p‖ < √n for n ≥ 2.
Sparsemax should be the Euclidean projection onto the simplex, with constant 1. Keras 3.15 subtracts another
threshold (from the sum of all partial sums over the support), so that its function jumps.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from lipnb.sites import Constant, none

__all__ = ["activation_constant"]

_SUPREMA = {
    "celu": 1.0,
    "elu": 1.0,
    "gelu": 1.1289041451851549,
    "hard_sigmoid": 1 / 6,
    "hard_silu": 1.5,
    "hard_tanh": 1.0,
    "leaky_relu": 1.0,
    "linear": 1.0,
    "log_sigmoid": 1.0,
    "mish": 1.0884981612517279,
    "relu": 1.0,
    "relu6": 1.0,
    "selu": 1.7580993408473769,
    "sigmoid": 0.25,
    "silu": 1.0998393201288670,
    "soft_shrink": 1.0,
    "softmax": 0.5,
    "softplus": 1.0,
    "softsign": 1.0,
    "sparse_plus": 1.0,
    "sparse_sigmoid": 0.5,
    "squareplus": 1.0,
    "tanh": 1.0,
    "tanh_shrink": 1.0,
}

_REASONS = {
    "exponential": "exp has an unbounded derivative",
    "glu": "a·sigmoid(b) is a product of two unbounded inputs",
    "hard_shrink": "hard_shrink jumps at its threshold",
    "sparsemax": "sparsemax as Keras computes it jumps where its support changes",
    "threshold": "threshold jumps at its threshold",
}


def activation_constant(activation: Any, size: int | None = None) -> Constant:
    """Constant of a function of ``keras.activations``.

    Parameters
    ----------
    activation
        The function itself (``layer.activation``); None is linear.
    size
        Length n of the last axis, which log_softmax needs.

    Returns
    -------
    Constant
        Exact; without a constant (and with the reason) for exponential, glu, hard_shrink, sparsemax and
        threshold, and for a function that is not one of ``keras.activations``.
    """
    name = getattr(activation, "__name__", type(activation).__name__) if activation is not None else "linear"
    if activation is not None and getattr(keras.activations, name, None) is not activation:
        return none(f"unknown activation {name}: its derivative is not known to be bounded")
    if name == "log_softmax":
        return none("log_softmax over an axis of unknown length") if size is None else _log_softmax(size)
    if name not in _SUPREMA:
        return none(_REASONS.get(name, f"no constant is known for the activation {name}"))
    return Constant(_SUPREMA[name], note="" if name == "linear" else name)


def _log_softmax(size: int) -> Constant:
    return Constant(math.sqrt(size) if size > 1 else 0.0, note="log_softmax")
