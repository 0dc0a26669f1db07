"""Lipschitz constants of the Keras activations with respect to the Euclidean norm.

For an elementwise φ the constant is sup |φ'|; the suprema without a closed form are rounded up in their
last digit. NaN-free closed forms, where φ' peaks:
gelu at √2: Φ(√2) + √2 φ(√2) = (1 + erf(1))/2 + e⁻¹/√π; silu at 2.3994 (2 = x tanh(x/2)); mish at 1.4906;
hard_silu at 3: (2·3 + 3)/6. gelu's form with tanh peaks at 1.4185.

Softmax: J = diag(p) − ppᵀ has absolute row sums 2pᵢ(1 − pᵢ) ≤ 1/2, hence ‖J‖₂ ≤ 1/2 (Gershgorin), attained at
p = (1/2, 1/2, 0, …); of one entry it is the constant 1. Log-softmax: J = I − 1pᵀ is an oblique projection,
‖J‖₂ = √n‖p‖ < √n for n ≥ 2. Sparsemax should be the Euclidean projection onto the simplex, with constant 1. Keras
3.15 subtracts another threshold (from the sum of all partial sums over the support), so that its function jumps.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import keras

from lipnb.sites import Constant, Shape, none

__all__ = ["OPERATIONS", "activation_constant", "operation_constant"]

_SUPREMA = {
    "hard_sigmoid": 1 / 6,
    "hard_silu": 1.5,
    "hard_tanh": 1.0,
    "linear": 1.0,
    "log_sigmoid": 1.0,
    "mish": 1.0884981612517279,
    "relu6": 1.0,
    "selu": 1.7580993408473769,
    "sigmoid": 0.25,
    "silu": 1.0998393201288670,
    "softplus": 1.0,
    "softsign": 1.0,
    "sparse_plus": 1.0,
    "sparse_sigmoid": 0.5,
    "tanh": 1.0,
    "tanh_shrink": 1.0,
}

_REASONS = {
    "exponential": "exp has an unbounded derivative",
    "glu": "a·sigmoid(b) is a product of two unbounded inputs",
    "sparsemax": "sparsemax as Keras computes it jumps where its support changes",
}


# With parameters: each function has the parameters of its namesake in keras.activations -----------------


def _relu(negative_slope: float, max_value: float | None, threshold: float) -> Constant:
    if threshold != 0:
        return none("ReLU jumps at a threshold other than 0")
    return Constant(max(abs(negative_slope), 1.0 if max_value is None or max_value > 0 else 0.0))


def _celu(alpha: float) -> Constant:
    return Constant(1.0) if alpha > 0 else none("celu with α ≤ 0 has an unbounded derivative, or is NaN")


def _gelu(approximate: bool) -> Constant:
    return Constant(1.1289930686587720 if approximate else 1.1289041451851549)


def _squareplus(b: float) -> Constant:
    return Constant(1.0) if b >= 0 else none("squareplus with b < 0 is NaN around 0")


def _soft_shrink(threshold: float) -> Constant:
    return Constant(1.0) if threshold >= 0 else none("soft_shrink jumps at a threshold below 0")


def _hard_shrink(threshold: float) -> Constant:
    return Constant(1.0) if threshold <= 0 else none("hard_shrink jumps at its threshold")


def _threshold(threshold: float, default_value: float) -> Constant:
    continuous = threshold == default_value
    return Constant(1.0) if continuous else none("threshold jumps at its threshold")


_PARAMETRIC: dict[str, Callable[..., Constant]] = {
    "celu": _celu,
    "elu": lambda alpha: Constant(max(1.0, abs(alpha))),
    "gelu": _gelu,
    "hard_shrink": _hard_shrink,
    "leaky_relu": lambda negative_slope: Constant(max(1.0, abs(negative_slope))),
    "relu": _relu,
    "soft_shrink": _soft_shrink,
    "squareplus": _squareplus,
    "threshold": _threshold,
}


# Along an axis of n entries; n is None where it is unknown -----------------------------------------------


def _softmax(n: int | None) -> Constant:
    return Constant(0.0 if n == 1 else 0.5)


def _log_softmax(n: int | None) -> Constant:
    if n is None:
        return none("log_softmax over an axis of unknown length")
    return Constant(math.sqrt(n) if n > 1 else 0.0)


_ALONG = {"softmax": _softmax, "log_softmax": _log_softmax}


def _axis_length(axis: Any, shape: Shape) -> int | None:
    """Entries along ``axis`` (one or several, the batch being axis 0); 0 where they are of several samples."""
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if None in axes or any(a % (len(shape) + 1) == 0 for a in axes):
        return 0
    sizes = [shape[a % (len(shape) + 1) - 1] for a in axes]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


# What is asked -------------------------------------------------------------------------------------------


def activation_constant(activation: Any, size: int | None = None) -> Constant:
    """Constant of a function of ``keras.activations``, with its default parameters.

    Parameters
    ----------
    activation
        The function itself (``layer.activation``); None is linear.
    size
        Length n of the last axis, which log_softmax needs; 0 where the input is a number for each sample.

    Returns
    -------
    Constant
        Exact; without a constant (and with the reason) for exponential, glu, hard_shrink, sparsemax and
        threshold, and for a function that is not one of ``keras.activations``.
    """
    name = getattr(activation, "__name__", type(activation).__name__) if activation is not None else "linear"
    if activation is not None and getattr(keras.activations, name, None) is not activation:
        return none(f"unknown activation {name}: its derivative is not known to be bounded")
    if name == "threshold":
        return none("threshold jumps at its threshold")  # which has no default
    constant = _named(name, _parameters(name), size)
    return constant if constant.note or name == "linear" else dataclasses.replace(constant, note=name)


def operation_constant(operation: Any, name: str, shape: Shape) -> Constant:
    """Constant of activation ``name`` where ``operation``, or a layer, has its parameters as attributes.

    ``shape`` is the input's, without the batch.
    """
    given = {key: getattr(operation, key, default) for key, default in _parameters(name).items()}
    return _named(name, given, _axis_length(given["axis"], shape) if name in _ALONG else None)


def _named(name: str, parameters: dict[str, Any], size: int | None) -> Constant:
    if name in _REASONS:
        return none(_REASONS[name])
    if name in _ALONG:
        return none(f"{name} over the batch mixes samples") if size == 0 else _ALONG[name](size)
    if name in _PARAMETRIC:
        return _PARAMETRIC[name](**parameters)
    if name in _SUPREMA:
        return Constant(_SUPREMA[name])
    return none(f"no constant is known for the activation {name}")


def _parameters(name: str) -> dict[str, Any]:
    """The parameters of the function of ``keras.activations`` after its input, with their defaults."""
    signature = inspect.signature(getattr(keras.activations, name))
    return {key: parameter.default for key, parameter in list(signature.parameters.items())[1:]}


_NAMES = [*_SUPREMA, *_PARAMETRIC, *_ALONG, *_REASONS]
OPERATIONS = {  # what an activation becomes that is called on a symbolic tensor
    **{f"keras.src.ops.nn.{''.join(map(str.capitalize, name.split('_')))}": name for name in _NAMES},
    "keras.src.activations.activations.Mish": "mish",
    "keras.src.activations.activations.ReLU": "relu",
    "keras.src.ops.numpy.Exp": "exponential",
    "keras.src.ops.numpy.Tanh": "tanh",
}
