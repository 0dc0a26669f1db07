"""Constants of pooling, padding, cropping, repeating and upsampling layers.

Max pooling: |max_N x − max_N x'| ≤ max_N |x − x'|, so ‖Δy‖² ≤ Σ_i c_i |Δx_i|² where c_i counts the windows over
position i; a spike at the position with the largest count attains √(max c_i). Average pooling is linear and a
Kronecker product over the axes, so its norm is the product of the norms of one matrix per axis. Both are
exact. Padding does not count in an average, but on PyTorch, where Keras repeats the edge if it must pad unevenly.

Where an axis is open, the constant is the largest over its sizes n, by the largest overlap. For windows of size k
moved by s that is found at n ≤ 2(k + s): the padding depends on n modulo s only, no position is near both ends from
n = 2k on, and between them the windows repeat after s positions. For m adaptive windows it is m, all over one
position, at n = 1. Averages have ‖A‖_∞ = 1, hence ‖A‖ ≤ √‖A‖₁, and ‖A‖₁ is an overlap with weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from lipnb.norms import spectral_norm
from lipnb.sites import Constant, Rule, Shape, Site, known, none

__all__ = ["SHAPE_RULES"]

_LARGEST_SVD = 512
_EVERY_SIZE = "for every input size"

Windows = list[tuple[int, int]]


def spatial_axes(layer: Any, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """``shape`` without the channels axis."""
    return shape[1:] if getattr(layer, "data_format", "channels_last") == "channels_first" else shape[:-1]


def pooling_windows(n: int, size: int, stride: int, padding: str, clip: bool = True) -> Windows:
    """Half-open intervals of the n positions that each output averages or maximises over, or of the padded ones."""
    if padding == "valid":
        starts = np.arange(0, n - size + 1, stride)
    else:
        outputs = -(-n // stride)
        before = max((outputs - 1) * stride + size - n, 0) // 2
        starts = np.arange(outputs) * stride - before
    windows = [(int(s), int(s) + size) for s in starts]
    return [(max(start, 0), min(stop, n)) for start, stop in windows] if clip else windows


def adaptive_windows(n: int, outputs: int) -> Windows:
    """Intervals of adaptive pooling: output i covers ⌊in/m⌋ … ⌈(i+1)n/m⌉."""
    return [(i * n // outputs, -(-(i + 1) * n // outputs)) for i in range(outputs)]


def _windows(layer: Any, axis: int, n: int, clip: bool = True) -> Windows:
    if hasattr(layer, "output_size"):
        return adaptive_windows(n, layer.output_size[axis])
    return pooling_windows(n, layer.pool_size[axis], layer.strides[axis], layer.padding, clip)


def _sizes(layer: Any, axis: int, n: int | None) -> Iterable[int]:
    """The size n; where it is open, sizes among which is one of the largest overlap of all."""
    if n is not None:
        return [n]
    if hasattr(layer, "output_size"):
        return [1]
    return range(1, 2 * (layer.pool_size[axis] + layer.strides[axis]) + 1)


def max_pooling(site: Site) -> Constant:
    """Exact √(largest number of windows that share a position)."""
    axes = spatial_axes(site.layer, site.shape)
    overlaps = [_largest_overlap(site.layer, axis, n) for axis, n in enumerate(axes)]
    return _pooled(math.sqrt(math.prod(overlaps)), axes)


def _largest_overlap(layer: Any, axis: int, n: int | None) -> int:
    return max(int(_coverage(m, _windows(layer, axis, m)).max()) for m in _sizes(layer, axis, n))


def _pooled(value: float, axes: Shape) -> Constant:
    return Constant(value, "upper bound", _EVERY_SIZE) if None in axes else Constant(value)


def average_pooling(site: Site) -> Constant:
    """Product over the axes of the norm of the averaging matrix; beyond 512 positions √(‖A‖₁‖A‖_∞)."""
    layer, axes = site.layer, spatial_axes(site.layer, site.shape)
    norms = [
        math.prod(_averaging_norm(layer, axis, n, clip) for axis, n in enumerate(axes))
        for clip in _clippings(layer, axes)
    ]
    constant = _pooled(max(norms), axes)
    long = any(n is not None and n > _LARGEST_SVD for n in axes)
    return dataclasses.replace(constant, kind="upper bound") if long else constant


def _clippings(layer: Any, axes: Shape) -> list[bool]:
    """Whether windows are cut off at the ends: always, but where the ends are repeated instead."""
    if getattr(layer, "padding", "valid") == "valid" or not _edges_are_repeated():
        return [True]
    if None in axes:
        return [True, False]
    padded = [(n, _windows(layer, axis, n, clip=False)) for axis, n in enumerate(known(axes))]
    return [all(max(-windows[0][0], 0) == max(windows[-1][1] - n, 0) for n, windows in padded)]


def _edges_are_repeated() -> bool:
    """Whether this backend's average over (x₀, x₁, pad, pad) counts the padding as x₁."""
    pair = np.array([[[0.0], [1.0]]], "float32")
    averages = keras.ops.average_pool(pair, 4, 1, "same", data_format="channels_last")
    return float(averages[0, 1, 0]) > 0.6


def _coverage(n: int, windows: Windows, *, average: bool = False) -> np.ndarray:
    counts = np.zeros(n)
    for start, stop in windows:
        np.add.at(counts, _positions(n, start, stop), 1 / (stop - start) if average else 1)
    return counts


def _positions(n: int, start: int, stop: int) -> np.ndarray:
    return np.clip(np.arange(start, stop), 0, n - 1)


def _averaging_norm(layer: Any, axis: int, n: int | None, clip: bool) -> float:
    if n is None or n > _LARGEST_SVD:
        overlaps = (
            _coverage(m, _windows(layer, axis, m, clip), average=True) for m in _sizes(layer, axis, n)
        )
        return math.sqrt(max(overlap.max() for overlap in overlaps))
    windows = _windows(layer, axis, n, clip)
    matrix = np.zeros((len(windows), n))
    for row, (start, stop) in zip(matrix, windows, strict=True):
        np.add.at(row, _positions(n, start, stop), 1 / (stop - start))
    return spectral_norm(matrix)


def global_average_pooling(site: Site) -> Constant:
    """Exact 1/√n for the mean of n positions; 1 for an axis of any size."""
    axes = spatial_axes(site.layer, site.shape)
    return _pooled(1 / math.sqrt(math.prod(n for n in axes if n is not None)), axes)


def upsampling(site: Site) -> Constant:
    """Exact √(factor), for repetition and for bilinear interpolation by an integer factor.

    Each row of the interpolation matrix sums to 1 and each column to the factor s (half-pixel centres, and
    clamping at the border mirrors what it cuts off), so ‖A‖² ≤ ‖A‖₁‖A‖_∞ = s; the ones vector attains it.
    """
    if getattr(site.layer, "interpolation", "nearest") not in ("nearest", "bilinear"):
        return none(f"no constant is known for {site.layer.interpolation} interpolation")
    size = site.layer.size
    return Constant(math.sqrt(size if isinstance(size, int) else math.prod(size)))


def repeat_vector(site: Site) -> Constant:
    """Exact √n for n copies."""
    return Constant(math.sqrt(site.layer.n))


def identity(site: Site) -> Constant:
    """Exact 1: the layer moves, pads or drops entries, or does nothing at inference."""
    return Constant(1.0)


_AT_REST = [
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "RandomBrightness",
    "RandomContrast",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "keras.src.applications.convnext.StochasticDepth",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Flatten",
    "Permute",
    "Reshape",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
]

SHAPE_RULES: dict[str, Rule] = {
    **dict.fromkeys(_AT_REST, identity),
    **{f"{kind}MaxPooling{d}D": max_pooling for d in (1, 2, 3) for kind in ("", "Adaptive")},
    **{f"{kind}AveragePooling{d}D": average_pooling for d in (1, 2, 3) for kind in ("", "Adaptive")},
    **{f"GlobalAveragePooling{d}D": global_average_pooling for d in (1, 2, 3)},
    **{f"UpSampling{d}D": upsampling for d in (1, 2, 3)},
    "RepeatVector": repeat_vector,
}
