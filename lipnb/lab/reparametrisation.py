"""Spectral normalization on paper, in float64: the gradient of W ↦ f(W/σ(W)), and three ways to stay at norm 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["METHODS", "chain_rule", "clip", "close", "descend", "divide", "normalise_batch", "top_triple"]

Gradient = Callable[[np.ndarray], np.ndarray]


def top_triple(w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """σ₁ and its singular vectors u (rows,) and v (columns,), wv = σ₁u, by an SVD."""
    left, sigma, right = np.linalg.svd(w)
    return float(sigma[0]), left[:, 0], right[0]


def chain_rule(g: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(G − ⟨G, Ŵ⟩uvᵀ)/σ, the gradient of W ↦ f(W/σ(W)) from f's own gradient G at Ŵ = W/σ.

    Exact where σ₁(w) > 0 is simple; elsewhere that function has no gradient.
    """
    sigma, u, v = top_triple(w)
    return (g - np.sum(g * w) / sigma * np.outer(u, v)) / sigma


def divide(w: np.ndarray) -> np.ndarray:
    """W/σ₁(W): the point of norm 1 on the ray through W, not the nearest one."""
    return w / np.linalg.norm(w, 2)


def clip(w: np.ndarray) -> np.ndarray:
    """The matrix nearest to W (Frobenius norm) among those of spectral norm at most 1: σᵢ ← min(σᵢ, 1)."""
    left, sigma, right = np.linalg.svd(w, full_matrices=False)
    return left * np.minimum(sigma, 1) @ right


# One step of gradient descent with rate η: W and f's gradient → the next W; what is computed with is divide(W).
METHODS: dict[str, Callable[[np.ndarray, Gradient, float], np.ndarray]] = {
    "divide": lambda w, gradient, rate: divide(w - rate * gradient(w)),
    "clip": lambda w, gradient, rate: clip(w - rate * gradient(w)),
    "reparametrise": lambda w, gradient, rate: w - rate * chain_rule(gradient(divide(w)), w),
}


def descend(method: str, gradient: Gradient, start: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """The weights that a loss with this ``gradient`` is computed with, start first: (steps + 1, rows, columns)."""
    ws = [start]
    for _ in range(steps):
        ws.append(METHODS[method](ws[-1], gradient, rate))
    return np.array([divide(w) if method == "reparametrise" else w for w in ws])


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether ‖a − b‖ ≤ 1e-8·‖b‖: central differences in float64 are good to eps^(2/3), about 4e-11, for slopes near 1."""
    return bool(np.linalg.norm(a - b) <= 1e-8 * np.linalg.norm(b))


def normalise_batch(x: np.ndarray, gamma: float, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalization of one channel in training: its output γ(x − m)/√(v + ε) for x (N,), and its Jacobian.

    With z = (x − m)/√(v + ε) the Jacobian is γ/√(v + ε)·(I − 11ᵀ/N − zzᵀ/N).
    """
    scale, centred = np.sqrt(x.var() + epsilon), x - x.mean()
    z = centred / scale
    return gamma * z, gamma / scale * (np.eye(len(x)) - 1 / len(x) - np.outer(z, z) / len(x))
