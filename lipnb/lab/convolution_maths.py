"""Convolutions and recurrences as matrices, and kernels to try the two norms of a convolution on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import scipy.linalg
import scipy.sparse

from lipnb.convolutions import conv_matrix
from lipnb.lab import critics
from lipnb.norms import spectral_norm
from lipnb.reparam import SpectralNormalization

__all__ = [
    "LayerNorms",
    "article_critic",
    "blended",
    "layer_matrix",
    "layer_norms",
    "operator_factor",
    "overlap",
    "reads",
    "reshaped",
    "rnn_bounds",
    "rnn_jacobian",
    "top_pattern",
]


def layer_matrix(layer: keras.layers.Layer) -> scipy.sparse.csr_array:
    """The matrix of a built Keras convolution, at the input size that it was built for."""
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float64)
    options = {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
    name = type(layer).__name__
    kind = (
        "depthwise" if name.startswith("Depthwise") else "transpose" if name.endswith("Transpose") else "conv"
    )
    if kind == "conv":
        options["groups"] = layer.groups
    if kind == "transpose":
        options["output_padding"] = layer.output_padding
    shape = tuple(layer.get_build_config()["input_shape"])[1:]
    return conv_matrix(kernel, shape, kind=kind, **options)


def reshaped(kernel: np.ndarray) -> np.ndarray:
    """The kernel as the matrix K of the article: (product of all axes but the last, last axis)."""
    return np.reshape(kernel, (-1, np.shape(kernel)[-1]))


def overlap(size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> int:
    """κ = Π ⌈k/(s/gcd(s, d))⌉ over the axes: how many outputs can read one input position at most."""
    axes = zip(size, strides, dilation, strict=True)
    return math.prod(math.ceil(k * math.gcd(s, d) / s) for k, s, d in axes)


def reads(matrix: scipy.sparse.csr_array, per_output: int) -> np.ndarray:
    """How many output positions read each input, from the pattern of A; ``per_output`` filters share a position."""
    pattern = scipy.sparse.csr_array((np.ones_like(matrix.data), matrix.indices, matrix.indptr), matrix.shape)
    return np.asarray(pattern.sum(axis=0)) / per_output


def blended(size: int, channels: int, filters: int, share: float, seed: int) -> np.ndarray:
    """Kernel (size, size, channels, filters) between smooth (share 0) and random (share 1).

    Both ends have reshaped norm 1: the smooth one is the same random (channels, filters) matrix at every tap, the
    random one is Gaussian.
    """
    rng = np.random.default_rng(seed)
    smooth = np.broadcast_to(rng.standard_normal((channels, filters)), (size, size, channels, filters))
    rough = rng.standard_normal((size, size, channels, filters))
    ends = [kernel / spectral_norm(reshaped(kernel)) for kernel in (smooth, rough)]
    return (1 - share) * ends[0] + share * ends[1]


def top_pattern(matrix: scipy.sparse.csr_array, shape: tuple[int, ...]) -> np.ndarray:
    """The top right singular vector of a matrix, as an input of ``shape``, its largest entry positive."""
    vector = np.linalg.svd(matrix.toarray())[2][0]
    return np.reshape(vector * np.sign(vector[np.argmax(np.abs(vector))]), shape)


# Critics -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerNorms:
    """A convolution's two norms: of the reshaped kernel and of the operator at its input size."""

    layer: str
    matrix: float
    operator: float

    @property
    def ratio(self) -> float:
        """The layer's constant after its kernel was divided by the norm of its matrix."""
        return self.operator / self.matrix


def article_critic(shape: tuple[int, int, int] = (64, 64, 3), *, width: int = 64, seed: int) -> keras.Model:
    """The article's critic without its batch normalization: four convolutions 5×5 stride 2, leaky ReLU 0.3, dense.

    Glorot uniform kernels, Keras's default, that follow from ``seed``.
    """
    start = [keras.initializers.GlorotUniform(seed=1000 * seed + i) for i in range(5)]
    model = keras.Sequential([keras.Input(shape)], name="article_critic")
    for i in range(4):
        options = {"strides": 2, "padding": "same", "kernel_initializer": start[i]}
        model.add(keras.layers.Conv2D(width * 2**i, 5, **options))
        model.add(keras.layers.LeakyReLU(negative_slope=0.3))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(1, use_bias=False, kernel_initializer=start[4]))
    return model


def layer_norms(model: keras.Model, rtol: float = 1e-3) -> list[LayerNorms]:
    """Both norms of every Conv2D of a sequential model, in order; the operator's to ``rtol``."""
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    rows = [row for row in critics.layer_norms(model, rtol=rtol) if row["type"] == "Conv2D"]
    return [LayerNorms(name, row["reshaped"], row["operator"]) for name, row in zip(names, rows, strict=True)]


def operator_factor(layer: keras.layers.Layer, n_iter: int = 40) -> float:
    """What ``SpectralNormalization(operator=True)`` multiplies the layer's kernel with, after ``n_iter`` more iterations."""
    copy = type(layer).from_config(layer.get_config())
    wrapper = SpectralNormalization(copy, operator=True)
    wrapper.build(layer.get_build_config()["input_shape"])
    copy.kernel.assign(layer.kernel)
    wrapper.update_vectors(n_iter)
    before, after = (keras.ops.convert_to_numpy(k) for k in (copy.kernel, wrapper.normalized_weights()[0]))
    return float(np.linalg.norm(after) / np.linalg.norm(before))


# Recurrences ---------------------------------------------------------------------------------------------


def rnn_bounds(w: np.ndarray, u: np.ndarray, steps: int, slope: float = 1.0) -> dict[str, float]:
    """Constants of h_t = φ(Wx_t + Uh_{t−1} + b) over ``steps`` steps from the whole input sequence.

    Parameters
    ----------
    w, u
        W (units, inputs) and U (units, units).
    slope
        sup |φ'|.

    Returns
    -------
    ``last`` bounds h_T, ``sequence`` all of h_1, …, h_T, ``product`` (a bound of h_T too) is that of T dense
    layers, max(1, slope·‖[U W]‖₂)^T.
    """
    a, input_norm = slope * spectral_norm(u), slope * spectral_norm(w)
    powers = a ** np.arange(steps)
    lower = scipy.linalg.toeplitz(powers, np.zeros(steps))
    joint = max(1.0, slope * spectral_norm(np.hstack([u, w])))
    return {
        "last": float(input_norm * np.linalg.norm(powers)),
        "sequence": input_norm * spectral_norm(lower),
        "product": joint**steps,
    }


def rnn_jacobian(w: np.ndarray, u: np.ndarray, states: np.ndarray | None, steps: int) -> np.ndarray:
    """∂h_T/∂(x_1, …, x_T) of a tanh recurrence, shape (units, steps·inputs).

    ``states`` (steps, units) are h_1, …, h_T, with tanh' = 1 − h²; None stands for the linear recurrence, and for
    tanh without a bias at the input 0.
    """
    slopes = np.ones((steps, len(u))) if states is None else 1 - states**2
    back, blocks = np.eye(len(u)), []
    for slope in slopes[::-1]:
        back = back * slope
        blocks.append(back @ w)
        back = back @ u
    return np.hstack(blocks[::-1])
