"""Matrices with chosen singular values, and power iteration written as on paper: W maps columns, u ← WᵀWu."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "agree",
    "at_most",
    "iterates",
    "lengths",
    "norm_ratio",
    "random_svd",
    "spectral_radius",
    "tangents",
]

EPS = np.finfo(np.float64).eps


def random_svd(
    sigma: Sequence[float], rows: int, columns: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random factors of W = left·diag(sigma)·rightᵀ: a matrix with just these non-zero singular values.

    Parameters
    ----------
    sigma
        Singular values, at most min(rows, columns) of them.

    Returns
    -------
    w, left, right
        float64 of shape (rows, columns), (rows, k) and (columns, k); the factors' columns are orthonormal to
        rounding and stand in sigma's order.

    Raises
    ------
    ValueError
        Where sigma has more values than the matrix can have, or none.
    """
    k = len(sigma)
    if not 1 <= k <= min(rows, columns):
        raise ValueError(f"sigma must have 1 to {min(rows, columns)} values. Received: {k}")
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, k)))[0] for size in (rows, columns))
    return left * np.asarray(sigma, np.float64) @ right.T, left, right


def iterates(w: np.ndarray, u: np.ndarray, n_iter: int) -> np.ndarray:
    """Iterates u₀, …, u_r of u ← WᵀWu/‖WᵀWu‖, by the two half steps v ← Wu/‖Wu‖, u ← Wᵀv/‖Wᵀv‖.

    Parameters
    ----------
    w, u
        Matrix (m, n) and start (n,), neither u nor any Wu zero; computed in the dtype of w.

    Returns
    -------
    Array (n_iter + 1, n) of unit rows, the normalised start first.
    """
    rows = [u / np.linalg.norm(u)]
    for _ in range(n_iter):
        v = w @ rows[-1]
        following = w.T @ (v / np.linalg.norm(v))
        rows.append(following / np.linalg.norm(following))
    return np.array(rows, w.dtype)


def tangents(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """tan of the angle between each row of ``vectors`` (k, n) and the span of ``basis`` (n, p), orthonormal columns.

    Infinite where a vector is orthogonal to the span; exact to rounding, that is to about eps in absolute terms.
    """
    inside = vectors @ basis
    outside = np.linalg.norm(vectors - inside @ basis.T, axis=1)
    with np.errstate(divide="ignore"):
        return outside / np.linalg.norm(inside, axis=1)


def norm_ratio(w: np.ndarray) -> float:
    """‖W‖_F/‖W‖₂ of w as the matrix (-1, shape[-1]): between 1 (rank 1) and √rank (equal singular values).

    Its square is known as the stable rank. Raises ValueError for a zero w, which has no ratio.
    """
    sigma = np.linalg.svd(np.reshape(w, (-1, w.shape[-1])).astype(np.float64), compute_uv=False)
    if sigma[0] == 0:
        raise ValueError("w must not be zero. Received: all entries 0")
    return float(np.linalg.norm(sigma) / sigma[0])


def spectral_radius(w: np.ndarray) -> float:
    """ρ(w) = max |eigenvalue| of a square w: at most ‖w‖₂, equal for normal matrices, and not a norm."""
    return float(np.max(np.abs(np.linalg.eigvals(w))))


def lengths(columns: np.ndarray) -> np.ndarray:
    """Euclidean length of each column (of a single vector: its length)."""
    return np.linalg.norm(columns, axis=0)


def agree(a: ArrayLike, b: ArrayLike, terms: int) -> bool:
    """Whether float64 ``a`` and ``b`` are equal but for the rounding of sums of ``terms`` terms.

    That is |a − b| ≤ terms·eps·max|b|, everywhere.
    """
    a, b = np.asarray(a), np.asarray(b)
    return bool(np.all(np.abs(a - b) <= terms * EPS * np.max(np.abs(b))))


def at_most(a: ArrayLike, b: ArrayLike, terms: int) -> bool:
    """Whether a ≤ b everywhere but for the rounding of sums of ``terms`` terms: a ≤ b + terms·eps·|b|."""
    b = np.asarray(b)
    return bool(np.all(np.asarray(a) <= b + terms * EPS * np.abs(b)))
