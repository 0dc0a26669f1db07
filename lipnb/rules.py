"""One small function per layer type: its Lipschitz constant, at inference, for the Euclidean norm.

``RULES`` holds layers of one input. ``MERGES`` holds what joins branches: given the branches' constants (a row
for each branch, a column for each input of the model) it answers the joint ones. ``OPERATORS`` are operations
of a tensor and a number. ``REASONS`` names what has no global constant.

Layer normalization: with z = x − mean(x) and s² = ‖z‖²/n + ε the Jacobian is diag(γ)(I − zzᵀ/(n s²))P/s, where P
removes the mean; its middle factor has eigenvalues 1 and ε/s², so the norm is at most max|γ|/s ≤ max|γ|/√ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from lipnb.activations import OPERATIONS, activation_constant, operation_constant
from lipnb.rules_linear import LINEAR_RULES
from lipnb.rules_recurrent import RECURRENT_RULES
from lipnb.rules_shape import SHAPE_RULES
from lipnb.sites import Constant, Rule, Shape, Site, known, layer_key, none, weight_array

__all__ = ["MERGES", "OPERATORS", "REASONS", "RULES", "batch_normalization_scale", "operator_constant"]

Merge = Callable[[Any, Sequence[Any], np.ndarray], np.ndarray]


# Elementwise ---------------------------------------------------------------------------------------------


def activation(site: Site) -> Constant:
    """Exact sup |φ'| of a Keras activation."""
    return activation_constant(site.layer.activation, site.shape[-1] if site.shape else 0)


def activation_operation(site: Site) -> Constant:
    """Exact sup |φ'| of an activation called on a symbolic tensor, with the parameters that it was given."""
    return operation_constant(site.layer, OPERATIONS[layer_key(site.layer)], site.shape)


def activation_layer(name: str) -> Rule:
    """Exact sup |φ'| of the layer of an activation, with its parameters: of ReLU, LeakyReLU, ELU, Softmax."""
    return lambda site: operation_constant(site.layer, name, site.shape)


def prelu(site: Site) -> Constant:
    """Exact max(1, |α|)."""
    return _largest(weight_array(site.layer, "alpha"), 1.0)


def rescaling(site: Site) -> Constant:
    """Exact max |scale|."""
    scale = np.asarray(site.layer.scale, np.float64)
    return _elementwise(site, scale, np.broadcast_shapes(scale.shape, np.shape(site.layer.offset)))


def normalization(site: Site) -> Constant:
    """Exact max 1/max(√variance, ε), or max(√variance, ε) where it inverts."""
    variance = weight_array(site.layer, "variance")
    if np.any(variance < 0):
        raise ValueError(f"{site.layer.name} must have variance of at least 0. Received: {variance.min()}")
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return _largest(deviation if site.layer.invert else 1 / deviation)


def layer_scale(site: Site) -> Constant:
    """Exact max |γ|."""
    gamma = weight_array(site.layer, "gamma")
    return _elementwise(site, gamma, gamma.shape)


def _elementwise(site: Site, factors: np.ndarray, shape: tuple[int, ...]) -> Constant:
    """Exact max |factor|; none where factors of this shape would repeat the input."""
    trailing = site.shape[len(site.shape) - len(shape) :]
    if len(shape) > len(site.shape) or any(a not in (1, b) for a, b in zip(shape, trailing, strict=True)):
        return none(f"its factors, of shape {shape}, repeat the entries of an input of shape {site.shape}")
    return _largest(factors)


def _largest(values: Any, floor: float = 0.0) -> Constant:
    return Constant(float(np.maximum(floor, np.max(np.abs(values)))))  # which keeps a NaN, unlike max


# Normalisation -------------------------------------------------------------------------------------------


def batch_normalization_scale(layer: Any) -> np.ndarray:
    """|γ|/√(moving variance + ε) per channel, what batch normalization multiplies with at inference."""
    variance = weight_array(layer, "moving_variance", half=False) + layer.epsilon
    if np.any(variance <= 0):
        raise ValueError(f"{layer.name} must have moving variance + ε above 0. Received: {variance.min()}")
    return _gamma(layer) / np.sqrt(variance)


def batch_normalization(site: Site) -> Constant:
    """Exact max |γ|/√(moving variance + ε)."""
    return _largest(batch_normalization_scale(site.layer))


def layer_normalization(site: Site) -> Constant:
    """max |γ|/√ε (layer, group and RMS normalization); none without ε."""
    layer = site.layer
    if getattr(layer, "rms_scaling", False):
        return none("rms_scaling divides by the deviation what still has its mean")
    if layer.epsilon <= 0:
        return none("without ε the derivative is unbounded where the variance vanishes")
    return Constant(float(np.max(_gamma(layer))) / math.sqrt(layer.epsilon), "upper bound", "max|γ|/√ε")


def unit_normalization(site: Site) -> Constant:
    """Exact 1e12, the largest factor: x · min(1/‖x‖, 1e12) is that times the projection onto a ball."""
    return Constant(1e12, note="1/ε with Keras's ε = 1e-12")


def _gamma(layer: Any) -> np.ndarray:
    names = [name for name in ("gamma", "scale") if isinstance(getattr(layer, name, None), keras.Variable)]
    return np.abs(weight_array(layer, names[0], half=False)) if names else np.ones(1)


# Branches ------------------------------------------------------------------------------------------------


def add(operation: Any, tensors: Sequence[Any], constants: np.ndarray) -> np.ndarray:
    """‖Σ Δ_b‖ ≤ Σ ‖Δ_b‖: branches add."""
    return _broadcast(tensors, constants).sum(axis=0)


def average(operation: Any, tensors: Sequence[Any], constants: np.ndarray) -> np.ndarray:
    """The mean of the branches' constants."""
    return add(operation, tensors, constants / len(tensors))


def quadrature(operation: Any, tensors: Sequence[Any], constants: np.ndarray) -> np.ndarray:
    """√(Σ c_b²): concatenation, and maximum or minimum, as |max a − max a'|² ≤ max |a − a'|² ≤ Σ |a − a'|²."""
    return np.hypot.reduce(_broadcast(tensors, constants), axis=0)


def concatenate(operation: Any, tensors: Sequence[Any], constants: np.ndarray) -> np.ndarray:
    """√(Σ c_b²), by Minkowski's inequality for each input of the model."""
    return np.hypot.reduce(constants, axis=0)


def concatenated(operation: Any, tensors: Sequence[Any], constants: np.ndarray) -> np.ndarray:
    """The same for keras.ops.concatenate, which may join along the batch: then without bound."""
    along_batch = operation.axis % len(tensors[0].shape) == 0
    return np.full(constants.shape[1], np.inf) if along_batch else concatenate(operation, tensors, constants)


def scaled_add(operation: Any, tensors: Sequence[Any], constants: np.ndarray) -> np.ndarray:
    """a + |scale| b: the residual of keras.applications' InceptionResNetV2."""
    return add(operation, tensors, constants * np.array([[1.0], [abs(operation.scale)]]))


def _broadcast(tensors: Sequence[Any], constants: np.ndarray) -> np.ndarray:
    """Constants times √(copies) where a branch is repeated to the shape of the others."""
    shapes = [tuple(t.shape)[1:] for t in tensors]
    if len(set(shapes)) == 1:
        return constants
    if any(None in shape for shape in shapes):
        return np.full_like(constants, np.inf)
    total = math.prod(np.broadcast_shapes(*shapes))
    return constants * np.sqrt([[total / math.prod(shape)] for shape in shapes])


# Operators on symbolic tensors ---------------------------------------------------------------------------


def operator_constant(operation: Any, arguments: Sequence[Any], before: Shape, after: Shape) -> Constant:
    """Constant of x ± c, x · c, x / c, max(x, c), min(x, c), −x, |x|, and of x clipped, reshaped or sliced.

    c is an array or a number.

    ``before`` and ``after`` are the shapes of x and of the output, larger where c's shape repeats x.
    """
    name = type(operation).__name__
    others = [a for a in arguments if not isinstance(a, keras.KerasTensor)]
    if name == "GetItem":
        return _slice_constant(others[0], len(arguments[0].shape))
    if name == "Clip" and np.ndim(operation.x_min) + np.ndim(operation.x_max) > 0:
        return none("clipping between arrays may repeat entries")
    if name == "Reshape":
        kept = None not in (*before, *after) and math.prod(known(before)) == math.prod(known(after))
        if kept:
            return Constant(1.0)
        return none(f"whether a shape of {before} made {after} keeps samples apart is not known")
    if not all(np.isfinite(keras.ops.convert_to_numpy(a)).all() for a in others):
        raise ValueError(f"{operation.name} must be given finite numbers. Received: {others}")
    copies = _copies(before, after)
    if math.isinf(copies):
        return none(f"how often it repeats an input of shape {before} is not known")
    if name not in ("Multiply", "TrueDivide", "Divide"):
        return Constant(math.sqrt(copies))
    factors = np.abs(np.asarray(keras.ops.convert_to_numpy(others[0]), np.float64))
    if name != "Multiply":
        if others[0] is arguments[0] or factors.min() == 0:
            return none("a reciprocal has no global constant")
        with np.errstate(over="ignore"):
            factors = 1 / factors
    even = copies == 1 or factors.min() == factors.max()
    return Constant(math.sqrt(copies) * float(factors.max()), "exact" if even else "upper bound")


def _copies(before: Shape, after: Shape) -> float:
    """How often each entry is repeated; infinite where an open size decides, or other samples' entries join."""
    if len(before) != len(after):
        return math.inf
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    return math.prod(math.inf if a is None or b is None else b / a for a, b in changed)


def _slice_constant(key: Any, rank: int) -> Constant:
    """1 for a slice of each sample; none where entries may be repeated or samples are mixed."""
    key = key if isinstance(key, tuple) else (key,)
    if not key:
        return Constant(1.0)
    if not all(k is None or k is Ellipsis or isinstance(k, (int, slice)) for k in key):
        return none("indexing by an array may repeat entries")
    to_the_right = key[0] is Ellipsis and sum(k is not None for k in key[1:]) < rank
    if not (to_the_right or (isinstance(key[0], slice) and key[0] == slice(None))):
        return none("indexing the batch mixes samples")
    return Constant(1.0)


_CONVNEXT, _INCEPTION = "keras.src.applications.convnext.", "keras.src.applications.inception_resnet_v2."

RULES: dict[str, Rule] = {
    **LINEAR_RULES,
    **SHAPE_RULES,
    **RECURRENT_RULES,
    "Activation": activation,
    **dict.fromkeys(OPERATIONS, activation_operation),
    "ReLU": activation_layer("relu"),
    "LeakyReLU": activation_layer("leaky_relu"),
    "ELU": activation_layer("elu"),
    "PReLU": prelu,
    "Softmax": activation_layer("softmax"),
    "Rescaling": rescaling,
    "Normalization": normalization,
    f"{_CONVNEXT}LayerScale": layer_scale,
    "BatchNormalization": batch_normalization,
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "RMSNormalization"), layer_normalization),
    "UnitNormalization": unit_normalization,
}

MERGES: dict[str, Merge] = {
    "Add": add,
    "Subtract": add,
    "Average": average,
    "Maximum": quadrature,
    "Minimum": quadrature,
    "Concatenate": concatenate,
    f"{_INCEPTION}CustomScaleLayer": scaled_add,
    "keras.src.ops.numpy.Add": add,
    "keras.src.ops.numpy.Subtract": add,
    "keras.src.ops.numpy.Maximum": quadrature,
    "keras.src.ops.numpy.Minimum": quadrature,
    "keras.src.ops.numpy.Concatenate": concatenated,
}

_ARITHMETIC = ("Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Negative", "Absolute")
_SELECTION = ("Maximum", "Minimum", "Clip", "Reshape", "GetItem")
OPERATORS = tuple(f"keras.src.ops.numpy.{name}" for name in (*_ARITHMETIC, *_SELECTION))

_PRODUCT = "a product of branches has no global constant"
_ATTENTION = "dot-product attention has no global constant (Kim, Papamakarios & Mnih 2021, theorem 3.1)"

REASONS = {
    **dict.fromkeys(("Multiply", "Dot", "keras.src.ops.numpy.Multiply"), _PRODUCT),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "GroupQueryAttention"), _ATTENTION),
    "AdditiveAttention": "additive attention has no global constant: its weights multiply unbounded values",
    "Lambda": "the function of a Lambda layer is unknown",
    "Masking": "masking jumps where the input equals the mask value",
}
