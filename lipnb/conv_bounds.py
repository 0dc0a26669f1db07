"""Proven upper bounds of a convolution's operator norm, from three short arguments.

**Folding.** With stride s, tap t = s·a + b and padded position s·m + b, phase b of the input becomes a channel
of a map of size ⌈n/s⌉: the convolution is one of stride 1 with ⌈k/s⌉ taps P[a] and s times the channels. With
dilation d and stride 1, the positions of each residue modulo d form an undilated convolution of their own, and
the whole is their direct sum: its norm is the largest of theirs, with at most ⌈out/d⌉ outputs each.

**Patches.** Each folded position is read by at most min(⌈k/s⌉, outputs) outputs on an axis, so collecting the
patches multiplies norms by at most sqrt(Π min(⌈k/s⌉, outputs)); the kernel as a matrix does the rest.

**Taps.** The convolution is a sum of maps x ↦ P[a]ᵀ x[· + a], each of norm at most ‖P[a]‖₂.

**Fourier.** A folded convolution with o outputs reads o + ⌈k/s⌉ − 1 positions and so is a compression of the
circular convolution of any size N ≥ o + ⌈k/s⌉ − 1, whose norm is the largest ‖F(ω)‖₂ over the N-point grid,
F(ω) = Σ_a e^{−iω·a} P[a]. It is a compression of the one on all integers too, with the largest over all ω. A
coarser grid of m points still proves a bound: g(ω) = ‖F(ω)v‖² is a trigonometric polynomial of degree
r = ⌈k/s⌉ − 1 with 0 ≤ g ≤ G, so g − G/2 stays above (G/2)·cos(r·δ) within δ ≤ π/r of its maximum (M. Riesz);
a grid point lies within π/m of it, hence G ≤ max over the grid / cos²(πr/2m) for m > r, axis by axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lipnb.conv_matrices import Convolution, read_convolution

__all__ = ["Symbol", "conv_norm_bound", "fold", "fourier_symbol", "group_bounds", "spread", "unit_scale"]

MAX_ENTRIES = 12_000_000  # complex numbers of the symbol kept at once (192 MB)
MAX_WORK = 8e9  # rows · columns · min(rows, columns) of its matrices, some seconds of SVD


def conv_norm_bound(
    kernel: Any,
    input_shape: tuple[int, ...] | None = None,
    strides: int | tuple[int, ...] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    kind: str = "conv",
    output_padding: int | tuple[int, ...] | None = None,
) -> float:
    """Proven upper bound of the norm of a Keras convolution's linear map, cheap.

    The least of sqrt(Π min(⌈k/s⌉, outputs))·‖kernel as a matrix‖₂, Σ_a ‖P[a]‖₂ and max_ω ‖F(ω)‖₂, of each group
    of channels; the largest over the groups. P[a] are the kernel's taps, folded by the stride, and F(ω) is their
    Fourier transform: the note at the top of ``lipnb/conv_bounds.py`` defines both and has the proofs.

    Parameters
    ----------
    kernel, strides, padding, dilation_rate, groups, kind, output_padding
        As :func:`lipnb.conv_matrix`. A transposed convolution has the norm of the one that it transposes.
    input_shape
        Shape of the layer's input without the batch, channels last; None bounds every input size at once.

    Returns
    -------
    float
        At least 0.

    Guarantee
    ---------
    Upper bound: at least the operator norm, enlarged by the rounding of its own computation. For stride 1 and
    large inputs it is within some percent of the norm, and exact for pointwise kernels.

    Raises
    ------
    TypeError, ValueError
        As :func:`lipnb.conv_matrix`.

    Source
    ------
    Sedghi, Gupta & Long 2019 (arXiv 1805.10408) for circular convolutions; Tsuzuku, Sato & Sugiyama 2018 (arXiv
    1802.04034) for the patch bound; Pfister & Bresler 2019 (IEEE TSP 67(3)) for grids in several variables.

    Example
    -------
    >>> blur = np.full((3, 3, 1, 1), 1 / 9)  # the mean of nine pixels
    >>> round(lipnb.conv_norm_bound(blur), 4)  # for images of every size
    1.0
    """
    options = (strides, padding, dilation_rate, groups, kind, output_padding)
    conv, _ = read_convolution(kernel, input_shape, *options, open_size=True)
    conv, scale = unit_scale(conv)
    return scale * float(np.max(group_bounds(conv, fourier_symbol(conv))))


def unit_scale(conv: Convolution) -> tuple[Convolution, float]:
    """The convolution with entries below 1, so that squares neither under- nor overflow, and the power of 2."""
    scale = 2.0 ** math.frexp(float(np.max(np.abs(conv.kernel))))[1]
    return replace(conv, kernel=conv.kernel / scale), scale


@dataclass(frozen=True)
class Symbol:
    """The folded kernel and its symbol's norms on a grid."""

    taps: np.ndarray  # (⌈k/s⌉…, folded channels, groups, filters/groups)
    outputs: tuple[float, ...]  # per axis and residue class
    grid: tuple[int, ...]  # frequencies 2πj/m, j < m, on each axis
    norms: np.ndarray  # (grid…, groups), on the last axis only for frequencies up to π: the rest mirrors them
    factor: float  # from the largest norm on the grid to a bound


def fourier_symbol(conv: Convolution) -> Symbol:
    """Norms of the symbol F(ω) on a grid as fine as is cheap."""
    plain = [d if s > 1 else 1 for d, s in zip(conv.dilation, conv.strides, strict=True)]
    folded = fold(spread(conv.kernel, plain), conv.strides)
    *counts, channels, filters = folded.shape
    outputs: tuple[float, ...] = (math.inf,) * len(counts)
    if conv.outputs:
        outputs = tuple(-(-o * p // d) for o, p, d in zip(conv.outputs, plain, conv.dilation, strict=True))
    taps = folded.reshape(*counts, channels, conv.groups, filters // conv.groups)
    sizes = [o + a - 1 for o, a in zip(outputs, counts, strict=True)]
    grid = _grid(counts, sizes, channels, filters, conv.groups)
    symbol = taps if math.prod(counts) == 1 else np.fft.rfftn(taps, s=grid, axes=tuple(range(len(grid))))
    norms = _spectral_norms(np.moveaxis(symbol, -2, len(grid)))
    axes = zip(counts, grid, sizes, strict=True)
    factor = math.prod(1 / math.cos(math.pi * (a - 1) / (2 * m)) for a, m, size in axes if m < size)
    return Symbol(taps, outputs, grid, norms, factor)


def group_bounds(conv: Convolution, symbol: Symbol) -> np.ndarray:
    """The least upper bound of each group's norm."""
    *counts, channels, groups, filters = symbol.taps.shape
    overlap = math.prod(min(a, o) for a, o in zip(counts, symbol.outputs, strict=True))
    bounds = symbol.factor * symbol.norms.reshape(-1, groups).max(axis=0)
    if math.prod(counts) > 1:
        taps = np.moveaxis(symbol.taps.reshape(-1, channels, groups, filters), 2, 0)
        patches = math.sqrt(overlap) * _spectral_norms(taps.reshape(groups, -1, filters))
        bounds = np.minimum(np.minimum(bounds, patches), _spectral_norms(taps).sum(axis=1))
    # Rounding: an SVD is exact for a matrix within a few (rows + columns)·ε of its own, and an entry of F sums
    # at most `taps` products; both relative to a norm of at least ‖F‖_F / sqrt(min(rows, columns)).
    rounding = 8 * (channels + filters) * math.prod(counts) * np.finfo(np.float64).eps
    return bounds * (1 + rounding)


def spread(kernel: np.ndarray, dilation: Any) -> np.ndarray:
    """The kernel with d − 1 zeros between its taps."""
    *sizes, channels, filters = kernel.shape
    reach = [(k - 1) * d + 1 for k, d in zip(sizes, dilation, strict=True)]
    result = np.zeros((*reach, channels, filters))
    result[tuple(slice(None, None, d) for d in dilation)] = kernel
    return result


def fold(kernel: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """The kernel of the equivalent convolution of stride 1, (⌈k/s⌉…, Πs · channels, filters)."""
    rank, (*sizes, channels, filters) = len(strides), kernel.shape
    counts = [-(-k // s) for k, s in zip(sizes, strides, strict=True)]
    excess = [(0, a * s - k) for a, s, k in zip(counts, strides, sizes, strict=True)]
    pairs = [size for pair in zip(counts, strides, strict=True) for size in pair]
    split = np.pad(kernel, [*excess, (0, 0), (0, 0)]).reshape(*pairs, channels, filters)
    order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank, 2 * rank + 1]
    return split.transpose(order).reshape(*counts, -1, filters)


def _grid(counts: list[int], sizes: list[float], channels: int, filters: int, groups: int) -> tuple[int, ...]:
    """Points per axis: the exact size where that is cheap, else up to eight for each tap; one where F is constant."""
    least = min(channels, filters // groups)
    for density in (8, 6, 4, 3, 2):
        grid = tuple(
            int(min(size, density * a if a > 1 else 1)) for size, a in zip(sizes, counts, strict=True)
        )
        entries = math.prod(grid) / 2 * channels * filters
        if entries <= MAX_ENTRIES and entries * least <= MAX_WORK:
            break
    return grid


def _spectral_norms(matrices: np.ndarray) -> np.ndarray:
    if 1 in matrices.shape[-2:]:
        return np.sqrt(np.sum(np.abs(matrices) ** 2, axis=(-2, -1)))
    return np.linalg.svd(matrices, compute_uv=False)[..., 0]
