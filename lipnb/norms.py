"""Norms of a weight matrix: exact, and by power iteration.

Orientation, here and wherever u and v are stored: a matrix ``w`` of shape (rows, columns) has a left vector
``u`` of shape (1, rows) and a right vector ``v`` of shape (1, columns), both rows of a matrix, so that the
singular value is ``u @ w @ v.T``. A kernel of a higher rank stands for the matrix ``(-1, shape[-1])``.

Nothing here under- or overflows where the result itself is a normal number of its dtype with a few bits to
spare: vectors are divided by their largest entry before they are squared, and the partial sums of
``u @ w`` with ‖u‖ = 1 never exceed ‖w‖₂.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import scipy.linalg
from keras import ops

from lipnb.checks import check_count, float_array, float_tensor

__all__ = ["frobenius_norm", "l2_normalize", "power_iteration", "spectral_norm", "spectral_norm_estimate"]

Tensor = Any


def frobenius_norm(w: Any) -> float:
    """Frobenius norm ‖w‖_F = sqrt(Σ w_ij²), exact to float64 rounding.

    Parameters
    ----------
    w
        Finite floating-point array, tensor or variable of any rank above 0.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    TypeError, ValueError
        Where w is not floating point, empty, a scalar, or has NaN or infinite entries.

    Source
    ------
    Golub & Van Loan, Matrix Computations, 4th ed., section 2.3; this book, chapter "The Frobenius norm and l2
    regularization".

    Example
    -------
    >>> w = np.float32([[3, 0], [4, 5]])
    >>> round(lipnb.frobenius_norm(w), 4)  # sqrt(9 + 16 + 25)
    7.0711
    """
    scaled, scale = _scaled(_at_least_1d(float_array(w, "w")))
    return scale * math.sqrt(float(np.sum(scaled**2)))


def spectral_norm(w: Any) -> float:
    """Spectral norm ‖w‖₂ = max ‖wx‖/‖x‖ = σ₁(w) of a matrix, exact to float64 rounding (an SVD).

    Parameters
    ----------
    w
        Finite floating-point array, tensor or variable of shape (rows, columns).

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    TypeError, ValueError
        Where w is not floating point, not of rank 2, empty, or has NaN or infinite entries.

    Source
    ------
    Golub & Van Loan, Matrix Computations, 4th ed., section 2.4; this book, chapter "The spectral norm and power
    iteration".

    Example
    -------
    >>> w = np.float32([[3, 0], [4, 5]])
    >>> round(lipnb.spectral_norm(w), 4)  # sqrt(45)
    6.7082
    """
    scaled, scale = _scaled(float_array(w, "w", ndim=2))
    return scale * float(scipy.linalg.svdvals(scaled)[0])


def spectral_norm_estimate(w: Any, n_iter: int = 5, u: Any = None, seed: int | None = None) -> Tensor:
    """Power-iteration estimate of the spectral norm of ``w`` reshaped to (-1, shape[-1]).

    n_iter times v = uw/‖uw‖, u = vwᵀ/‖vwᵀ‖; the estimate is u w vᵀ. It is differentiable through the
    iterations, and 0 where w is zero or the start is orthogonal to w's columns.

    Parameters
    ----------
    w
        Floating-point tensor, array or variable of rank ≥ 1 and static shape; half precision is computed in
        float32. A tensor's entries are not checked (they may be traced): NaN or infinite ones give NaN.
    n_iter
        Number of iterations, at least 1.
    u
        Start with as many entries as w has rows, ``prod(shape[:-1])``; all ones where neither u nor seed is given.
    seed
        Seed of a Gaussian start, the same on every backend.

    Returns
    -------
    Scalar tensor
        Of float32 or, for a float64 w, float64 (on TensorFlow; elsewhere Keras multiplies in float32).

    Guarantee
    ---------
    Lower bound: the result is at most ‖w‖₂, to rounding. It can be far below, or 0, for an unlucky start.

    Raises
    ------
    TypeError, ValueError
        Where w or u is not floating point, w is a scalar or empty, an array has NaN or infinite entries, n_iter
        < 1, u has the wrong size, or both u and seed are given.

    Source
    ------
    Golub & Van Loan, Matrix Computations, 4th ed., section 7.3.1, applied to w wᵀ; Miyato et al. 2018 (arXiv
    1802.05957), Algorithm 1, with n_iter rounds and the gradient kept; Su 2018 (https://kexue.fm/archives/6051),
    for the start of all ones; this book, chapter "The spectral norm and power iteration".

    Example
    -------
    >>> w = np.float32([[3, 0], [4, 5]])  # of norm 6.7082
    >>> estimates = [lipnb.spectral_norm_estimate(w, n) for n in (1, 2, 10)]
    >>> [round(float(estimate), 4) for estimate in estimates]
    [6.6271, 6.7072, 6.7082]
    """
    matrix, n_iter = _as_matrix(w), check_count(n_iter, "n_iter")
    u = l2_normalize(_start(u, seed, matrix))
    for _ in range(n_iter):
        v = l2_normalize(ops.matmul(u, matrix))
        u = l2_normalize(ops.matmul(v, ops.transpose(matrix)))
    return ops.sum(ops.matmul(u, matrix) * v)


def power_iteration(w: Any, u: Any, n_iter: int) -> tuple[Tensor, Tensor, Tensor]:
    """σ = u w vᵀ with u, v after ``n_iter`` power iterations from ``u``, for warm starts.

    The gradient of σ with respect to w is uᵀv, with u and v held fixed. That is the gradient of ‖w‖₂ once
    the iteration has converged to a simple top singular value.

    Parameters
    ----------
    w
        Floating-point tensor, array or variable of rank ≥ 1, seen as (-1, shape[-1]) = (rows, columns).
    u
        Start with ``rows`` entries, of any length but 0 (None: all ones).
    n_iter
        Number of iterations, at least 1.

    Returns
    -------
    sigma, u, v
        Tensors of shape (), (1, rows) and (1, columns), in float32 or, for a float64 w, float64. Where v wᵀ is zero, as
        for a zero w, σ is 0 and u is the normalised start: a stored u recovers as soon as w leaves zero.

    Guarantee
    ---------
    σ is a lower bound of ‖w‖₂, to rounding.

    Raises
    ------
    TypeError, ValueError
        As :func:`lipnb.spectral_norm_estimate`.

    Source
    ------
    Miyato et al. 2018 (arXiv 1802.05957), Algorithm 1.

    Example
    -------
    >>> w = np.float32([[3, 0], [4, 5]])
    >>> sigma, u, v = lipnb.power_iteration(w, None, n_iter=1)
    >>> sigma, u, v = lipnb.power_iteration(w, u, n_iter=10)  # goes on
    >>> round(float(sigma), 4)
    6.7082
    """
    matrix, n_iter = _as_matrix(w), check_count(n_iter, "n_iter")
    fixed = ops.stop_gradient(matrix)
    u = l2_normalize(ops.stop_gradient(_start(u, None, matrix)))
    for _ in range(n_iter):
        v = l2_normalize(ops.matmul(u, fixed))
        following = l2_normalize(ops.matmul(v, ops.transpose(fixed)))
        u = ops.where(ops.any(following != 0), following, u)
    u, v = ops.stop_gradient(u), ops.stop_gradient(v)
    return ops.sum(ops.matmul(u, matrix) * v), u, v


def l2_normalize(x: Tensor) -> Tensor:
    """x / ‖x‖ over all entries; zero stays zero.

    Parameters
    ----------
    x
        Floating-point tensor of any shape.

    Returns
    -------
    Tensor shaped like x. Its gradient is that of x/‖x‖, and the identity at zero (finite, never NaN).

    Guarantee
    ---------
    Neither the squares nor their sum under- or overflow: x is divided by its largest magnitude first, which
    is held constant in the gradient because x/‖x‖ does not depend on it.
    """
    largest = ops.stop_gradient(ops.max(ops.abs(x)))
    x = x / ops.where(largest > 0, largest, ops.ones_like(largest))
    square = ops.sum(x * x)
    return x / ops.sqrt(ops.where(square > 0, square, ops.ones_like(square)))


def _as_matrix(w: Any) -> Tensor:
    w = float_tensor(w, "w", rank=1)
    matrix = ops.reshape(w, (-1, w.shape[-1]))
    wide = keras.backend.standardize_dtype(w.dtype) == "float64"
    return matrix if wide else ops.cast(matrix, "float32")


def _start(u: Any, seed: int | None, matrix: Tensor) -> Tensor:
    rows = matrix.shape[0]
    if u is not None and seed is not None:
        raise ValueError(f"Give u or seed, not both. Received: seed={seed!r} and u={type(u).__name__}")
    if seed is not None:
        u = np.random.default_rng(check_count(seed, "seed", minimum=0)).standard_normal((1, rows))
    u = ops.cast(np.ones((1, rows)) if u is None else float_tensor(u, "u"), matrix.dtype)
    if math.prod(u.shape) != rows:
        raise ValueError(
            f"u must have one entry for each of the {rows} rows. Received: shape {tuple(u.shape)}"
        )
    return ops.reshape(u, (1, rows))


def _at_least_1d(array: np.ndarray) -> np.ndarray:
    if array.ndim == 0:
        raise ValueError(f"w must have rank 1 or more. Received: shape {array.shape}")
    return array


def _scaled(array: np.ndarray) -> tuple[np.ndarray, float]:
    """``array / scale`` with entries of at most 1, and the scale (1 for a zero array)."""
    scale = float(np.max(np.abs(array))) or 1.0
    return array / scale, scale
