"""Mixtures of many Gaussians in the plane, and how well samples meet them.

The modes lie on a sunflower spiral, scaled so that the closest two are 1 apart for every number of modes: what
grows with it is how many there are and how far apart the farthest, while the surroundings of a mode stay alike.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist, pdist

from lipnb.lab.diversity import missing_entropy

__all__ = ["SPREAD", "centres", "measures", "sample"]

SPREAD = 0.1  # standard deviation of a mode along each axis
REACH = 3 * SPREAD  # a sample within this distance of a centre belongs to its mode: 98.9% of the true ones


def centres(n_modes: int) -> np.ndarray:
    """Centres of ``n_modes`` ≥ 2 modes, (n_modes, 2): mean 0, smallest distance 1 (Vogel 1979's spiral)."""
    if n_modes < 2:
        raise ValueError(f"n_modes must be at least 2. Received: {n_modes!r}")
    k = np.arange(n_modes)
    angle = k * np.pi * (3 - np.sqrt(5))
    points = np.sqrt(k + 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = points / pdist(points).min()
    return points - points.mean(axis=0)


def sample(n_modes: int, n: int, seed: int) -> np.ndarray:
    """``n`` points of the mixture with equal weights, float32 (n, 2)."""
    rng = np.random.default_rng(seed)
    chosen = centres(n_modes)[rng.integers(n_modes, size=n)]
    return (chosen + SPREAD * rng.normal(size=(n, 2))).astype(np.float32)


def measures(points: np.ndarray, n_modes: int) -> dict[str, float]:
    """How ``points`` (n, 2) meet the mixture of ``n_modes``.

    Returns
    -------
    ``quality``: share of points within three spreads of a centre; ``modes``: modes that get at least a tenth of
    their fair share in such points; ``misplaced``: the total variation distance ½(Σ|q_k − 1/K| + q_0) of the
    shares q_k of such points in each mode, and q_0 of all others, from the fair ones: 0 at best, 1 at worst;
    ``missing_entropy`` of all points by their nearest mode. NaN each where a point is not finite.
    """
    if not np.isfinite(points).all():
        return dict.fromkeys(("quality", "modes", "misplaced", "missing_entropy"), float("nan"))
    distances = cdist(np.asarray(points, np.float64), centres(n_modes))
    nearest, inside = distances.argmin(axis=1), distances.min(axis=1) <= REACH
    shares = np.bincount(nearest[inside], minlength=n_modes) / len(points)
    return {
        "quality": float(inside.mean()),
        "modes": float(np.sum(shares >= 0.1 / n_modes)),
        "misplaced": float((np.abs(shares - 1 / n_modes).sum() + 1 - inside.mean()) / 2),
        "missing_entropy": missing_entropy(np.bincount(nearest, minlength=n_modes)),
    }
