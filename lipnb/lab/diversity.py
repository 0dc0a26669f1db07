"""How varied samples are: beside real ones by their neighbours, and by the classes that they fall to."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["missing_entropy", "neighbour_measures"]


def neighbour_measures(real: np.ndarray, fake: np.ndarray, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of ``fake`` (m, d) beside ``real`` (n, d), by balls of k-th neighbours.

    With B(x) the ball around x that reaches to its k-th nearest neighbour in its own set, in float64:

    - ``precision``: share of fake points in some real ball; ``recall``: share of real points in some fake ball;
    - ``density``: number of real balls around a fake point, on average, divided by k (1 where both sets are alike);
    - ``coverage``: share of real balls that hold a fake point.

    NaN each where an entry is not finite. Memory: two matrices of n·m and max(n, m)² numbers.

    Raises ValueError where a set has no more than k points.

    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991) for the first two, Naeem et al. 2020 (arXiv 2002.09797).
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"both sets must have more than k = {k} points. Received: {len(real)}, {len(fake)}")
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        return dict.fromkeys(("precision", "recall", "density", "coverage"), float("nan"))
    distances = cdist(real, fake)
    in_real = distances <= _radii(real, k)[:, None]
    return {
        "precision": float(in_real.any(axis=0).mean()),
        "recall": float((distances <= _radii(fake, k)).any(axis=1).mean()),
        "density": float(in_real.sum(axis=0).mean() / k),
        "coverage": float(in_real.any(axis=1).mean()),
    }


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    return np.partition(cdist(points, points), k, axis=1)[:, k]  # the 0-th is the point itself


def missing_entropy(counts: np.ndarray) -> float:
    """1 − H(q)/ln K = KL(q ‖ uniform)/ln K of the shares q of K ≥ 2 classes: 0 where all are as frequent, 1 for one.

    Even a fair sample of n from K classes has about (K − 1)/(2n ln K).
    """
    share = np.asarray(counts, np.float64) / np.sum(counts)
    seen = share[share > 0]
    return float(np.sum(seen * np.log(seen * len(share))) / np.log(len(share)))
