"""Operator norm of a convolution by Lanczos bidiagonalization, without its matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg
from scipy.ndimage import maximum_filter
from scipy.optimize import minimize

from lipnb.checks import check_count, check_positive
from lipnb.conv_bounds import Symbol, fold, fourier_symbol, group_bounds, spread, unit_scale
from lipnb.conv_matrices import Convolution, _matrix, read_convolution
from lipnb.norms import spectral_norm

__all__ = ["check_tolerance", "conv_norm", "svd_norm"]

MAX_DENSE = 2**16  # entries of a matrix whose SVD is cheaper than iterating
MAX_STEPS = 20_000
BLOCK = 1024  # positions for which all taps are applied in turn, so that they stay in cache
NEAR = 0.97  # peaks and singular values of the symbol, relative to the highest, that join the start
SMALL = 100_000  # entries of a map, below which a stricter residual costs nothing


def conv_norm(
    kernel: Any,
    input_shape: tuple[int, ...],
    strides: int | tuple[int, ...] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, ...] = 1,
    groups: int = 1,
    rtol: float = 1e-6,
    *,
    kind: str = "conv",
    output_padding: int | tuple[int, ...] | None = None,
    seed: int = 0,
) -> float:
    """Operator norm max ‖Ax‖/‖x‖ of a Keras convolution without its bias, to relative tolerance ``rtol``.

    Small cases, and kernels that touch each position once, are an SVD. Otherwise Golub–Kahan–Lanczos
    bidiagonalization of A, applied tap by tap as matrix products, starts from the waves of the symbol's peaks
    plus noise and keeps two vectors in each space: about six feature maps of float64 in all.

    Parameters
    ----------
    kernel, input_shape, strides, padding, dilation_rate, groups, kind, output_padding
        As :func:`lipnb.conv_matrix`.
    rtol
        Relative tolerance, from 1e-9 to below 1.
    seed
        Seed of the noise in the start.

    Returns
    -------
    float
        At least 0.

    Guarantee
    ---------
    Never above the norm, to rounding. At most rtol·norm below it where an SVD was used or
    :func:`lipnb.conv_norm_bound` certifies it; otherwise ‖AᵀAx − σ²x‖ ≤ τσ² for a unit vector x, τ = rtol/10, or
    rtol/1000 for maps of less than 100,000 entries, so σ is within τ/2 of a singular value of A. That is the
    largest one unless x holds less than a share τ/δ of every direction whose σ² is larger, by δσ². The noise
    makes that improbable on small maps; on large ones the waves do, since top singular vectors lie near them.
    No exception is known; :func:`lipnb.conv_norm_bound` limits what one could cost.

    Raises
    ------
    TypeError, ValueError
        As :func:`lipnb.conv_matrix`, and for rtol or seed.
    RuntimeError
        Where 20,000 iterations do not reach the tolerance.

    Source
    ------
    Golub & Van Loan, Matrix Computations, 4th ed., section 10.4 (bidiagonalization without reorthogonalization:
    copies of converged values appear, the largest stays right).

    Example
    -------
    >>> blur = np.full((3, 3, 1, 1), 1 / 9)  # the mean of nine pixels
    >>> round(lipnb.conv_norm(blur, (32, 32, 1), padding="same"), 4)
    0.994
    >>> round(lipnb.spectral_norm(blur.reshape(-1, 1)), 4)  # as a matrix
    0.3333
    """
    check_tolerance(rtol)
    check_count(seed, "seed", minimum=0)
    conv, _ = read_convolution(
        kernel, input_shape, strides, padding, dilation_rate, groups, kind, output_padding
    )
    return _norm(_decoupled(conv), rtol, seed)


def svd_norm(*arguments: Any, kind: str, output_padding: Any = None) -> float | None:
    """:func:`conv_norm` where it is an SVD, and so the norm to rounding; None where it would iterate from below.

    ``arguments`` are the first six of :func:`lipnb.conv_matrix`.
    """
    given: tuple[Any, ...] = (*arguments, kind, output_padding)
    conv = _decoupled(read_convolution(*given)[0])
    return _norm(conv, 1e-9, 0) if _takes_svd(conv) else None


def _norm(conv: Convolution, rtol: float, seed: int) -> float:
    """The largest norm of a group; groups that cannot have it, by their bounds, are left out."""
    conv, scale = unit_scale(conv)
    symbol = fourier_symbol(conv)
    bounds = group_bounds(conv, symbol)
    largest, seen = 0.0, set()
    for group in np.argsort(-bounds).tolist():
        part = _one_group(conv, group)
        if bounds[group] > largest and part.kernel.tobytes() not in seen:
            largest = max(largest, _group_norm(part, symbol, group, bounds[group], rtol, seed))
            seen.add(part.kernel.tobytes())
    return scale * largest


def check_tolerance(rtol: Any) -> float:
    """``rtol`` as a float, where it is one that :func:`conv_norm` can reach."""
    if not 1e-9 <= check_positive(rtol, "rtol") < 1:
        raise ValueError(f"rtol must be from 1e-9 to below 1. Received: {rtol!r}")
    return float(rtol)


def _decoupled(conv: Convolution) -> Convolution:
    """One position is enough on an axis whose outputs share no inputs, if one of them lies inside the input."""
    axes = []
    sizes = zip(conv.inputs, conv.outputs, conv.strides, conv.left, conv.reach, strict=True)
    for n, o, s, pad, reach in sizes:
        first = -(-pad // s)
        inside = reach <= s and first < o and s * first - pad + reach <= n
        axes.append((reach, 1, reach, 0) if inside else (n, o, s, pad))
    inputs, outputs, strides, left = zip(*axes, strict=True)
    return replace(conv, inputs=inputs, outputs=outputs, strides=strides, left=left)


def _one_group(conv: Convolution, group: int) -> Convolution:
    filters = conv.kernel.shape[-1] // conv.groups
    return replace(conv, kernel=conv.kernel[..., group * filters : (group + 1) * filters], groups=1)


def _takes_svd(conv: Convolution) -> bool:
    """Whether the matrices of the groups, all of one size, are small, or the kernel itself."""
    columns = math.prod(conv.inputs) * conv.kernel.shape[-2]
    rows = math.prod(conv.outputs) * (conv.kernel.shape[-1] // conv.groups)
    return rows * columns <= MAX_DENSE or math.prod(conv.outputs) == 1


def _group_norm(conv: Convolution, symbol: Symbol, group: int, bound: float, rtol: float, seed: int) -> float:
    if _takes_svd(conv):
        return spectral_norm(_matrix(conv).toarray())
    operator = FoldedOperator(conv)
    start = operator.noise(np.random.default_rng(seed))
    if math.prod(operator.shape) > sum(operator.channels):
        start = 0.1 * start + _waves(operator, symbol, group, conv)
    return min(largest_singular_value(operator, start, rtol, bound), bound)


class FoldedOperator:
    """The linear map of one group, between folded and padded maps laid out as (positions, channels).

    ``readable`` and ``written`` mask what is padding: on the rest the map is the convolution's, elsewhere zero.
    """

    def __init__(self, conv: Convolution):
        folded = fold(spread(conv.kernel, conv.dilation), conv.strides)
        *counts, per_position, filters = folded.shape
        self.channels = (per_position, filters)
        self.shape = tuple(o + a - 1 for o, a in zip(conv.outputs, counts, strict=True))
        places = np.indices(counts).reshape(len(counts), -1)
        offsets = np.atleast_1d(np.ravel_multi_index(tuple(places), self.shape)).tolist()
        matrices = folded.reshape(-1, per_position, filters)
        self.taps = [(o, m) for o, m in zip(offsets, matrices, strict=True) if m.any()]
        self.rows = math.prod(self.shape) - offsets[-1]
        self.readable = _readable(conv, self.shape)
        written = np.indices(self.shape).reshape(len(counts), -1) < np.array(conv.outputs)[:, None]
        self.written = np.all(written, axis=0)[: self.rows, None]

    def noise(self, generator: np.random.Generator) -> np.ndarray:
        """A random vector of the input space, of norm 1 on average before masking."""
        x = generator.standard_normal(self.readable.shape) / math.sqrt(self.readable.size)
        return x * self.readable

    def apply(self, x: np.ndarray) -> np.ndarray:
        """A x. The slices of x are contiguous, so that BLAS adds each tap in place, without a copy."""
        y = np.zeros((self.rows, self.channels[1]))
        for part, matrix, block in self._products(x, y):
            scipy.linalg.blas.dgemm(1.0, matrix.T, part.T, 1.0, block.T, overwrite_c=1)
        y *= self.written
        return y

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Aᵀ y."""
        x = np.zeros((math.prod(self.shape), self.channels[0]))
        for part, matrix, block in self._products(x, y):
            scipy.linalg.blas.dgemm(1.0, matrix.T, block.T, 1.0, part.T, trans_a=1, overwrite_c=1)
        x *= self.readable
        return x

    def _products(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for first in range(0, self.rows, BLOCK):
            block = y[first : first + BLOCK]
            for offset, matrix in self.taps:
                yield x[offset + first : offset + first + len(block)], matrix, block


def _readable(conv: Convolution, shape: tuple[int, ...]) -> np.ndarray:
    """Which entries (positions, folded channels) of the folded map belong to the input."""
    rank = len(shape)
    mask = np.ones((1,) * (2 * rank), dtype=bool)
    axes = zip(shape, conv.strides, conv.left, conv.inputs, strict=True)
    for axis, (size, stride, left, inputs) in enumerate(axes):
        position = np.arange(size * stride).reshape(size, stride) - left
        inside = np.expand_dims(
            (position >= 0) & (position < inputs),
            tuple(i for i in range(2 * rank) if i not in (axis, rank + axis)),
        )
        mask = mask & inside
    return np.repeat(mask.reshape(math.prod(shape), -1), conv.kernel.shape[-2], axis=1)


def largest_singular_value(operator: FoldedOperator, start: np.ndarray, rtol: float, bound: float) -> float:
    """Largest singular value by Golub–Kahan–Lanczos from ``start``; stops as :func:`conv_norm` says."""
    tolerance = rtol * (1e-3 if start.size < SMALL else 0.1)
    v = start / (np.linalg.norm(start) or 1.0)
    u = operator.apply(v)
    alphas: list[float] = []
    betas: list[float] = []
    check = 1
    while len(alphas) < MAX_STEPS:
        alphas.append(float(np.linalg.norm(u)))
        u /= alphas[-1] or 1.0
        v *= -alphas[-1]
        v += operator.adjoint(u)
        betas.append(float(np.linalg.norm(v)))
        if len(alphas) >= check or betas[-1] == 0:
            value, share = _top_ritz(np.array(alphas), np.array(betas[:-1]))
            converged = alphas[-1] * betas[-1] * share <= tolerance * value
            if converged or math.sqrt(value) * (1 + rtol) >= bound:
                return math.sqrt(value)
            check = len(alphas) + 1 + len(alphas) // 8
        v /= betas[-1]
        u *= -betas[-1]
        u += operator.apply(v)
    raise RuntimeError(f"conv_norm did not converge to rtol={rtol} in {MAX_STEPS} steps; see conv_norm_bound")


def _top_ritz(alphas: np.ndarray, betas: np.ndarray) -> tuple[float, float]:
    """Largest eigenvalue of BᵀB, B bidiagonal, and the last entry's magnitude in its unit eigenvector."""
    diagonal = alphas**2
    diagonal[1:] += betas**2
    last = len(alphas) - 1
    values, vectors = scipy.linalg.eigh_tridiagonal(
        diagonal, alphas[:-1] * betas, select="i", select_range=(last, last)
    )
    return max(float(values[0]), 0.0), abs(float(vectors[-1, 0]))


def _waves(operator: FoldedOperator, symbol: Symbol, group: int, conv: Convolution) -> np.ndarray:
    """Sum of the waves Re(e^{iω·m} v)·Π sin(π(m + 1)/(M + 1)) of the symbol's four highest peaks ω.

    v sums the right singular vectors of F(ω) near the top. On a large map the top singular vector is close to
    such a wave but for the boundary, so that few iterations are left.
    """
    norms, taps = symbol.norms[..., group], symbol.taps[..., group, :]
    spacing = [d if s == 1 else 1 for d, s in zip(conv.dilation, conv.strides, strict=True)]
    peaks = np.argwhere((norms == maximum_filter(norms, 3, mode="nearest")) & (norms > NEAR * norms.max()))
    total = np.zeros((*operator.shape, operator.channels[0]))
    for peak in sorted(peaks, key=lambda peak: -norms[tuple(peak)])[:4]:
        omega, v = _refined(2 * np.pi * peak / symbol.grid, taps)
        wave = v
        for size, frequency in reversed(list(zip(operator.shape, omega / spacing, strict=True))):
            m = np.arange(size)
            wave = np.multiply.outer(np.exp(1j * frequency * m) * np.sin(np.pi * (m + 1) / (size + 1)), wave)
        total += wave.real / np.linalg.norm(wave)
    return total.reshape(operator.readable.shape) * operator.readable


def _refined(omega: np.ndarray, taps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest local maximum of ‖F(ω)‖₂ to ``omega``, and the sum of its right singular vectors near the top."""
    *counts, channels, filters = taps.shape
    positions = np.indices(counts).reshape(len(counts), -1).T
    matrices = taps.reshape(-1, channels * filters)

    def top(omega):
        waves = np.exp(1j * positions @ omega)
        symbols = np.column_stack([waves, 1j * positions * waves[:, None]]).T @ matrices
        symbol, *slopes = symbols.reshape(-1, channels, filters)
        u, sigma, vh = np.linalg.svd(symbol, full_matrices=False)
        gradient = [np.real(u[:, 0].conj() @ slope @ vh[0].conj()) for slope in slopes]
        near = sigma > NEAR * sigma[0]
        return sigma[0], np.array(gradient), u[:, near].conj().sum(axis=1)

    omega = minimize(lambda w: tuple(-part for part in top(w)[:2]), omega, jac=True, tol=1e-8).x
    return omega, top(omega)[2]
