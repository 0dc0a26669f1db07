"""A convolution layer as numbers, and as the sparse matrix of its linear map.

Every layer treated here, of one to three spatial axes, is one formula or the transpose of it. With output
position o, tap t and input position s·o + d·t − left on each axis (nothing outside the input),

    y[o] = Σ_t K[t]ᵀ x[s·o + d·t − left],

one such sum for each group of channels. Data are channels-last; biases play no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from lipnb.checks import check_choice, check_count, float_array

__all__ = ["Convolution", "conv_matrix", "read_convolution"]

KINDS = ("conv", "depthwise", "transpose")


class OutputPaddingError(ValueError):
    """An output size at which no convolution of the strides and padding has the input's size; JAX alone computes it."""


@dataclass(frozen=True)
class Convolution:
    """The formula's constants, one entry per spatial axis; sizes are empty where no input shape is known."""

    kernel: np.ndarray  # float64, (k…, in/groups, out)
    groups: int
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    left: tuple[int, ...] = ()

    @property
    def reach(self) -> tuple[int, ...]:
        """Extent of the dilated kernel, (k − 1)·d + 1."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel.shape, self.dilation, strict=False))


def conv_matrix(
    kernel: Any,
    input_shape: tuple[int, ...],
    strides: int | tuple[int, ...] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    kind: str = "conv",
    output_padding: int | tuple[int, ...] | None = None,
) -> scipy.sparse.csr_array:
    """Matrix A of a Keras convolution without its bias: ``layer(x)[0].ravel() == A @ x[0].ravel()``.

    Parameters
    ----------
    kernel
        The layer's kernel, finite and floating point, with 1 to 3 spatial axes k…:

        - ``kind="conv"`` (Conv1D/2D/3D): (k…, in/groups, out);
        - ``kind="depthwise"`` (DepthwiseConv1D/2D): (k…, in, multiplier);
        - ``kind="transpose"`` (Conv1D/2D/3DTranspose): (k…, out, in).
    input_shape
        Shape of the layer's input without the batch, channels last: (n…, in).
    strides, dilation_rate
        One integer, or one for each axis; not both above 1, except for depthwise, as in Keras.
    padding
        ``"valid"``, ``"same"``, or ``"causal"`` (Conv1D only).
    groups
        Number of groups of ``kind="conv"``.
    output_padding
        As in Keras, for ``kind="transpose"`` only.

    Returns
    -------
    scipy.sparse.csr_array
        The matrix, float64, of shape (flattened output, flattened input).

    Guarantee
    ---------
    Exact: the entries are the kernel's, placed as Keras does on its TensorFlow backend.

    Raises
    ------
    TypeError, ValueError
        Where the kernel is not floating point, empty, not finite or of a wrong rank, or the shapes, strides,
        dilation, groups or padding do not make a layer.

    Source
    ------
    Sedghi, Gupta & Long 2019 (arXiv 1805.10408), section 2, for the doubly block-structured matrix; this book,
    chapter "Convolutions and recurrences are dense layers, with another matrix".

    Example
    -------
    >>> kernel = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)  # of a Conv1D
    >>> lipnb.conv_matrix(kernel, (5, 1)).toarray()
    array([[1., 2., 3., 0., 0.],
           [0., 1., 2., 3., 0.],
           [0., 0., 1., 2., 3.]])
    """
    conv, transposed = read_convolution(
        kernel, input_shape, strides, padding, dilation_rate, groups, kind, output_padding
    )
    matrix = _matrix(conv)
    return scipy.sparse.csr_array(matrix.T) if transposed else matrix


def _matrix(conv: Convolution) -> scipy.sparse.csr_array:
    *taps, per_group, filters = conv.kernel.shape
    rank, channels = len(taps), per_group * conv.groups
    grid = np.indices((*conv.outputs, *taps)).reshape(2 * rank, -1)
    outputs, tap = grid[:rank], grid[rank:]
    inputs = _column(conv.strides) * outputs + _column(conv.dilation) * tap - _column(conv.left)
    inside = np.all((inputs >= 0) & (inputs < _column(conv.inputs)), axis=0)
    row = np.ravel_multi_index(tuple(outputs[:, inside]), conv.outputs)[:, None, None]
    column = np.ravel_multi_index(tuple(inputs[:, inside]), conv.inputs)[:, None, None]
    values = conv.kernel[tuple(tap[:, inside])]
    out = np.arange(filters)
    of_group = out // (filters // conv.groups) * per_group + np.arange(per_group)[:, None]
    rows = np.broadcast_to(row * filters + out, values.shape)
    columns = column * channels + of_group
    shape = (math.prod(conv.outputs) * filters, math.prod(conv.inputs) * channels)
    return scipy.sparse.csr_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


def _column(values: tuple[int, ...]) -> np.ndarray:
    return np.array(values)[:, None]


def read_convolution(
    kernel: Any,
    input_shape: tuple[int, ...] | None,
    strides: int | tuple[int, ...],
    padding: str,
    dilation_rate: int | tuple[int, ...],
    groups: int,
    kind: str,
    output_padding: int | tuple[int, ...] | None,
    *,
    open_size: bool = False,
) -> tuple[Convolution, bool]:
    """The checked convolution of the arguments of :func:`conv_matrix`, and whether the layer is its transpose.

    With ``open_size`` the input shape may be None, and then the convolution has no sizes.
    """
    array = float_array(kernel, "kernel", ndim=(3, 4, 5))
    rank = array.ndim - 2
    check_choice(kind, "kind", KINDS)
    paddings = ("valid", "same", "causal") if (kind, rank) == ("conv", 1) else ("valid", "same")
    check_choice(padding, "padding", paddings)
    groups = check_count(groups, "groups")
    if kind != "conv" and groups != 1:
        raise ValueError(f"groups must be 1 unless kind is 'conv'. Received: groups={groups}, kind={kind!r}")
    if kind == "depthwise":
        groups, array = array.shape[-2], array.reshape(*array.shape[:-2], 1, -1)
    if array.shape[-1] % groups:
        raise ValueError(f"groups must divide the number of filters. Received: {groups}, {array.shape[-1]}")
    conv = Convolution(
        array, groups, _per_axis(strides, rank, "strides"), _per_axis(dilation_rate, rank, "dilation_rate")
    )
    if kind != "depthwise" and max(conv.strides) > 1 and max(conv.dilation) > 1:
        raise ValueError(
            f"strides and dilation_rate must not both be above 1. Received: {strides}, {dilation_rate}"
        )
    if output_padding is not None:
        if kind != "transpose":
            raise ValueError(f"output_padding needs kind='transpose'. Received: kind={kind!r}")
        output_padding = _per_axis(output_padding, rank, "output_padding", minimum=0)
    if input_shape is not None or not open_size:
        conv = _with_sizes(conv, input_shape, padding, kind == "transpose", output_padding)
    return conv, kind == "transpose"


def _with_sizes(
    conv: Convolution,
    input_shape: Any,
    padding: str,
    transposed: bool,
    output_padding: tuple[int, ...] | None,
) -> Convolution:
    rank = len(conv.strides)
    channels = conv.kernel.shape[-1] if transposed else conv.kernel.shape[-2] * conv.groups
    if not hasattr(input_shape, "__iter__"):
        raise ValueError(f"input_shape must hold {rank + 1} sizes, (n…, channels). Received: {input_shape!r}")
    sizes = _per_axis(tuple(input_shape), rank + 1, "input_shape")
    if sizes[-1] != channels:
        raise ValueError(
            f"input_shape must end with the kernel's {channels} channels. Received: {input_shape}"
        )
    inputs = sizes[:-1]
    if transposed:
        extra = output_padding or (None,) * rank
        axes = zip(inputs, conv.reach, conv.strides, extra, strict=True)
        inputs = tuple(_transposed_size(n, reach, s, padding, e) for n, reach, s, e in axes)
    placed = [_place(*axis, padding) for axis in zip(inputs, conv.reach, conv.strides, strict=True)]
    outputs, left = zip(*placed, strict=True)
    if min(outputs) < 1:
        rule = f"input_shape must give a non-empty output: the dilated kernel, {conv.reach}, must fit a 'valid' input"
        raise ValueError(f"{rule}. Received: {input_shape}")
    if transposed and outputs != sizes[:-1]:
        raise OutputPaddingError(
            f"output_padding must suit the strides and padding. Received: {output_padding}"
        )
    return Convolution(conv.kernel, conv.groups, conv.strides, conv.dilation, inputs, outputs, left)


def _place(size: int, reach: int, stride: int, padding: str) -> tuple[int, int]:
    """Output size and left padding on one axis."""
    if padding == "same":
        outputs = -(-size // stride)
        return outputs, max((outputs - 1) * stride + reach - size, 0) // 2
    left = reach - 1 if padding == "causal" else 0
    return (size + left - reach) // stride + 1, left


def _transposed_size(size: int, reach: int, stride: int, padding: str, extra: int | None) -> int:
    """Output size of a transposed convolution on one axis, the input size of the convolution it transposes."""
    if padding == "valid":
        return (size - 1) * stride + reach + (max(stride - reach, 0) if extra is None else extra)
    return size * stride if extra is None else (size - 1) * stride + reach % 2 + extra


def _per_axis(value: Any, length: int, name: str, *, minimum: int = 1) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * length
    if len(values) != length:
        raise ValueError(f"{name} must be an integer or {length} of them. Received: {value!r}")
    return tuple(check_count(v, name, minimum=minimum) for v in values)
