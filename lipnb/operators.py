"""The linear map that a kernel stands for, and its largest singular value by warm-started power iteration.

A map is block-diagonal with b blocks: b = 1 for a dense kernel, one block per group of a grouped convolution,
one per channel of a depthwise one. Its norm is the largest norm of a block. Each block has its own pair of
vectors, so that blocks of nearly equal norm do not slow each other down.

Orientation: u is on the left (for a matrix: rows), v on the right, σ = ⟨u, Wv⟩ block by block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from lipnb.autodiff import input_gradient, is_concrete

__all__ = ["KernelMap", "advance", "iterate", "kernel_map", "singular_value", "start_vectors"]

Tensor = Any
Convolution = Callable[[Tensor, Tensor], Tensor]
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)


@dataclass(frozen=True)
class KernelMap:
    """``forward(kernel, v)`` = Wv and ``adjoint(kernel, u)`` = Wᵀu; shapes start with the number of blocks."""

    forward: Callable[[Tensor, Tensor], Tensor]
    adjoint: Callable[[Tensor, Tensor], Tensor]
    u_shape: tuple[int, ...]
    v_shape: tuple[int, ...]


def kernel_map(owner: keras.Layer, kernel: keras.Variable, operator: bool) -> KernelMap:
    """The map whose norm stands for ``kernel``, a weight of the built layer ``owner``.

    As a matrix (rows, columns), the default:

    - EinsumDense: contracted axes × new axes; axes shared by input, kernel and output are blocks;
    - convolution: (k·k·in, out), one block per group; depthwise: (k·k, multiplier), one block per channel;
    - transposed convolution: (k·k·out, in). It is the adjoint of the convolution with the same kernel array,
      and has its norm, so this matrix bounds it as the reshaped kernel bounds a convolution;
    - anything else: (−1, shape[-1]).

    With ``operator``, a convolution's own linear map at the input size that it was built for.

    Raises ValueError where there is no such matrix, or no static input size for ``operator``.
    """
    if operator and isinstance(owner, CONVOLUTIONS + TRANSPOSED + DEPTHWISE + SEPARABLE):
        if not kernel.name.startswith("pointwise"):  # 1×1 with stride 1: its matrix has the operator's norm
            return _convolution_map(owner, kernel)
    elif operator and kernel.ndim > 2 and not isinstance(owner, layers.EinsumDense):
        raise ValueError(
            f"operator=True needs a Dense, EinsumDense or convolution layer for the kernel {kernel.path!r}. "
            f"Received: {type(owner).__name__}"
        )
    if isinstance(owner, layers.EinsumDense):
        return _einsum_map(owner.equation, tuple(kernel.shape))
    if kernel.ndim < 2:
        raise ValueError(
            f"The weight {kernel.path!r} must have rank 2 or more. Received: shape {kernel.shape}"
        )
    return _grouped_map(kernel, *_groups(owner, kernel))


def singular_value(mapping: KernelMap, kernel: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """max over blocks of |⟨u, Wv⟩|, a scalar; its gradient with respect to W is ±uvᵀ of the largest block.

    Iteration leaves ⟨u, Wv⟩ ≥ 0; a kernel that has changed since, its sign for one, may not.
    """
    return _largest(u * mapping.forward(kernel, v))


def iterate(mapping: KernelMap, kernel: Tensor, u: Tensor, v: Tensor, n_iter: int) -> tuple[Tensor, Tensor]:
    """u, v after ``n_iter`` power iterations from u; a vector whose image is zero or not finite stays."""
    kernel = ops.stop_gradient(kernel)

    def once(_: Any, vectors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        u, v = vectors
        v = _normalized(mapping.adjoint(kernel, u), v)
        return _normalized(mapping.forward(kernel, v), u), v

    if n_iter > 4:  # one small program to compile, not n_iter copies of it
        u, v = ops.fori_loop(0, n_iter, once, (u, v))
    else:
        for i in range(n_iter):
            u, v = once(i, (u, v))
    return ops.stop_gradient(u), ops.stop_gradient(v)


def advance(
    mapping: KernelMap, kernel: Tensor, u: Tensor, v: Tensor, n_iter: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(σ, u, v) after ``n_iter`` power iterations where the kernel has moved since u, v were stored, else as stored.

    Stored vectors obey u = Wv/‖Wv‖. Where the kernel at hand still does so to rounding, nothing has moved, and
    every call until the next optimizer step sees the same u, v: one kernel per loss. σ is ``singular_value`` of
    the new pair, from the product that gives u. A training step pays for each small operation: hence their order.
    """
    fixed = ops.stop_gradient(kernel)
    image = mapping.forward(fixed, v)
    moved = _moved(image, u)
    if is_concrete(moved) and not ops.any(moved):  # every operation counts where each is called from Python
        return singular_value(mapping, kernel, u, v), u, v
    start = ops.divide_no_nan(image, _largest_entry(image))
    if n_iter > 1:
        start, _ = iterate(mapping, fixed, start, v, n_iter - 1)
    v = ops.stop_gradient(ops.where(moved, _normalized(mapping.adjoint(fixed, start), v), v))
    image = mapping.forward(kernel, v)
    u = ops.stop_gradient(ops.where(moved, _normalized(image, u), u))
    return _largest(u * image), u, v


def start_vectors(mapping: KernelMap, start: str, seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Unit u, v in every block: ``ones``, or ``random`` from NumPy's generator, the same on every backend."""
    generator = np.random.default_rng(seed)
    vectors = []
    for shape in (mapping.u_shape, mapping.v_shape):
        x = np.ones(shape) if start == "ones" else generator.standard_normal(shape)
        vectors.append(x / np.sqrt(np.sum(x**2, axis=tuple(range(1, x.ndim)), keepdims=True)))
    return vectors[0], vectors[1]


def _matrix_map(to_blocks: Callable[[Tensor], Tensor], blocks: int, rows: int, columns: int) -> KernelMap:
    """``to_blocks(kernel)`` has the entries of shape (blocks, rows, columns), in this order."""
    # One block: products of two matrices, which take fewer operations, their gradient too.
    shape = (rows, columns) if blocks == 1 else (blocks, rows, columns)
    batch = shape[:-2]

    def matrices(kernel: Tensor) -> Tensor:
        return ops.reshape(to_blocks(kernel), shape)

    def forward(kernel: Tensor, v: Tensor) -> Tensor:
        return ops.reshape(ops.matmul(matrices(kernel), ops.reshape(v, (*batch, columns, 1))), (blocks, rows))

    def adjoint(kernel: Tensor, u: Tensor) -> Tensor:
        return ops.reshape(ops.matmul(ops.reshape(u, (*batch, 1, rows)), matrices(kernel)), (blocks, columns))

    return KernelMap(forward, adjoint, u_shape=(blocks, rows), v_shape=(blocks, columns))


def _grouped_map(kernel: keras.Variable, groups: int, columns: int) -> KernelMap:
    rows = math.prod(kernel.shape) // (groups * columns)

    def to_blocks(kernel: Tensor) -> Tensor:
        if groups == 1:
            return kernel
        return ops.transpose(ops.reshape(kernel, (rows, groups, columns)), (1, 0, 2))

    return _matrix_map(to_blocks, groups, rows, columns)


def _einsum_map(equation: str, shape: tuple[int, ...]) -> KernelMap:
    """The kernel's axes sorted into shared (blocks), contracted (rows) and new (columns)."""
    inputs, weight, outputs = equation.replace(" ", "").replace("->", ",").split(",")
    kinds = [(axis in inputs, axis in outputs) for axis in weight]
    shared, contracted, new = (True, True), (True, False), (False, True)
    axes = [[i for i, k in enumerate(kinds) if k == kind] for kind in (shared, contracted, new)]
    sizes = [math.prod(shape[i] for i in group) for group in axes]
    order = [i for group in axes for i in group]
    return _matrix_map(lambda kernel: ops.reshape(ops.transpose(kernel, order), sizes), *sizes)


def _groups(owner: keras.Layer, kernel: keras.Variable) -> tuple[int, int]:
    """Number of blocks of a kernel and the columns of each."""
    if isinstance(owner, DEPTHWISE) or kernel.name == "depthwise_kernel":
        return kernel.shape[-2], kernel.shape[-1]
    groups = owner.groups if isinstance(owner, CONVOLUTIONS) else 1
    return groups, kernel.shape[-1] // groups


def _convolution_map(owner: keras.Layer, kernel: keras.Variable) -> KernelMap:
    """Feature maps, one per block: (blocks, *space, channels), or (blocks, channels, *space)."""
    shape = tuple(owner.get_build_config()["input_shape"])[1:]
    if None in shape:
        raise ValueError(f"operator=True needs a static input shape. Received: {(None, *shape)}")
    linear, channel = _convolution(owner), 0 if owner.data_format == "channels_first" else -1
    groups = _groups(owner, kernel)[0]
    if isinstance(owner, CONVOLUTIONS) and groups > 1:
        linear = _block_by_block(linear, groups)
    elif groups > 1:
        linear = _channel_by_channel(linear, groups, channel == 0)
    v_shape = [groups, *shape]
    v_shape[channel if channel else 1] //= groups
    return KernelMap(
        forward=lambda kernel, v: linear(v, kernel),
        adjoint=lambda kernel, u: input_gradient(
            lambda v: linear(v, kernel) * u, ops.zeros(v_shape, u.dtype)
        ),
        u_shape=tuple(linear(ops.zeros(v_shape), ops.zeros(kernel.shape)).shape),
        v_shape=tuple(v_shape),
    )


def _convolution(owner: keras.Layer) -> Convolution:
    """The layer's map x, kernel → output, without bias and activation."""
    options = {
        "dilation_rate": owner.dilation_rate,
        "data_format": owner.data_format,
        "strides": owner.strides,
    }
    if isinstance(owner, TRANSPOSED):
        padding = {"padding": owner.padding, "output_padding": owner.output_padding}
        return lambda x, kernel: ops.conv_transpose(x, kernel, **padding, **options)
    if not isinstance(owner, CONVOLUTIONS):
        return lambda x, kernel: ops.depthwise_conv(x, kernel, padding=owner.padding, **options)
    if owner.padding != "causal":
        return lambda x, kernel: ops.conv(x, kernel, padding=owner.padding, **options)
    before = [owner.dilation_rate[0] * (owner.kernel_size[0] - 1), 0]
    pads = [[0, 0], before, [0, 0]] if owner.data_format == "channels_last" else [[0, 0], [0, 0], before]
    return lambda x, kernel: ops.conv(ops.pad(x, pads), kernel, padding="valid", **options)


def _block_by_block(linear: Convolution, groups: int) -> Convolution:
    """One convolution per group: TensorFlow compiles a grouped one anew at every eager call on a CPU."""

    def apply(v: Tensor, kernel: Tensor) -> Tensor:
        kernels = ops.split(kernel, groups, axis=-1)
        return ops.concatenate([linear(v[i : i + 1], k) for i, k in enumerate(kernels)])

    return apply


def _channel_by_channel(linear: Convolution, channels: int, first: bool) -> Convolution:
    """A depthwise convolution with each channel as a batch entry, in and out."""

    def apply(v: Tensor, kernel: Tensor) -> Tensor:
        y = linear(ops.swapaxes(v, 0, 1 if first else -1), kernel)
        if first:
            return ops.reshape(y, (channels, -1, *y.shape[2:]))
        return ops.moveaxis(ops.reshape(y, (*y.shape[1:-1], channels, -1)), -2, 0)

    return apply


def _per_block(x: Tensor) -> tuple[int, ...]:
    return tuple(range(1, len(x.shape)))


def _largest(products: Tensor) -> Tensor:
    """max over blocks of |Σ products|."""
    return ops.max(ops.abs(ops.sum(products, axis=_per_block(products))))


def _largest_entry(x: Tensor) -> Tensor:
    return ops.max(ops.abs(x), axis=_per_block(x), keepdims=True)


def _sum_of_squares(x: Tensor) -> Tensor:
    return ops.sum(x * x, axis=_per_block(x), keepdims=True)


def _moved(image: Tensor, u: Tensor) -> Tensor:
    """Whether Wv is off the line of u by more than rounding, block by block; False where it is not finite."""
    tolerance = 64 * np.finfo(keras.backend.standardize_dtype(u.dtype)).eps
    along = ops.sum(u * image, axis=_per_block(u), keepdims=True)
    return _sum_of_squares(ops.divide_no_nan(image, along) - u) > tolerance**2


def _normalized(x: Tensor, fallback: Tensor) -> Tensor:
    """x/‖x‖ block by block, and ``fallback`` where x is zero or has an entry that is NaN or infinite."""
    # Divided first: the squares of tiny or huge entries would leave the range.
    scaled = ops.divide_no_nan(x, _largest_entry(x))
    size = ops.sqrt(_sum_of_squares(scaled))  # at least 1 but for zero, and NaN for what is not finite
    return ops.where(size > 0, ops.divide_no_nan(scaled, size), fallback)
