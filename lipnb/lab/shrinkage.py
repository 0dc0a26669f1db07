"""How penalties on norms shrink a matrix: slopes, flows and nearest matrices, in terms of singular values.

P₂(W) = λ‖W‖₂² is the spectral norm penalty, P_F(W) = λ‖W‖_F² the l2 penalty; λ is ``strength``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "coupled_minimum",
    "frobenius_flow",
    "nearest_in_ball",
    "spectral_flow",
    "spectral_slope",
    "top_gradient",
]

TIED = 1e-9  # singular values that differ by this share of σ₁ or less count as equal


def top_gradient(w: np.ndarray, strength: float) -> np.ndarray:
    """2λσ₁u₁v₁ᵀ, the gradient of λ‖W‖₂² where σ₁ is simple; of one of its pairs of singular vectors elsewhere."""
    left, sigma, right = np.linalg.svd(w, full_matrices=False)
    return 2 * strength * sigma[0] * np.outer(left[:, 0], right[0])


def spectral_slope(w: np.ndarray, direction: np.ndarray, strength: float) -> float:
    """One-sided directional derivative of λ‖W‖₂² at w: 2λσ₁·λ_max of the symmetric part of U₁ᵀ·direction·V₁.

    U₁, V₁ hold the singular vectors of all singular values equal to σ₁ > 0.
    """
    left, sigma, right = np.linalg.svd(w, full_matrices=False)
    top = sigma >= sigma[0] * (1 - TIED)
    inner = left[:, top].T @ direction @ right[top].T
    return float(2 * strength * sigma[0] * np.linalg.eigvalsh((inner + inner.T) / 2)[-1])


def frobenius_flow(sigma: ArrayLike, strength: float, times: ArrayLike) -> np.ndarray:
    """Singular values along dW/dt = −∇P_F: σᵢ(t) = e^{−2λt}σᵢ, shape (times, values)."""
    return np.exp(-2 * strength * np.asarray(times, float))[:, None] * np.asarray(sigma, float)


def spectral_flow(sigma: ArrayLike, strength: float, times: ArrayLike) -> np.ndarray:
    """Singular values along the steepest descent of P₂: min(σᵢ, ℓ(t)), shape (times, values).

    The level ℓ(t) solves Σ max(ln(σᵢ/ℓ), 0) = 2λt. ``sigma`` is positive, in descending order.
    """
    sigma = np.asarray(sigma, float)
    spent = 2 * strength * np.asarray(times, float)
    # Σ max(ln(σᵢ/ℓ), 0) is the largest of the partial sums Σ_{i≤k} ln(σᵢ/ℓ), so ℓ is the largest of the levels at which
    # one of them is spent.
    levels = (np.cumsum(np.log(sigma))[None, :] - spent[:, None]) / np.arange(1, len(sigma) + 1)
    level = np.exp(levels.max(axis=1))
    return np.minimum(sigma[None, :], level[:, None])


def nearest_in_ball(w: np.ndarray, radius: float, norm: str) -> np.ndarray:
    """The matrix of ``norm`` ("spectral" or "frobenius") at most ``radius`` that is nearest to w in Frobenius distance.

    Spectral: every singular value above the radius is cut to it. Frobenius: w is scaled down to it.
    """
    if norm == "frobenius":
        return w * min(1.0, radius / np.linalg.norm(w))
    left, sigma, right = np.linalg.svd(w, full_matrices=False)
    return left * np.minimum(sigma, radius) @ right


def coupled_minimum(strength: float, coupling: float, norm: str) -> tuple[np.ndarray, float]:
    """Minimiser diag(a, b) of the coupled quadratic L(W) + λ‖W‖², and its loss L.

    L = ½[(a − 2)² + (b − 1)² + 2·coupling·(a − 2)(b − 1)] + w₁₂² + w₂₁², with −1 < coupling < 1. For the spectral norm
    the formula holds where its solution has a ≥ |b|.
    """
    hessian = np.array([[1.0, coupling], [coupling, 1.0]])
    pull = 2 * strength * np.diag([1.0, 1.0 if norm == "frobenius" else 0.0])
    a, b = np.linalg.solve(hessian + pull, hessian @ [2.0, 1.0])
    away = np.array([a - 2, b - 1])
    return np.diag([a, b]), float(away @ hessian @ away / 2)
