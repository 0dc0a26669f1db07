"""On the line, exactly: which critic maximises gap − penalty between two samples.

Between two neighbouring points of the samples everything is constant: δ = G − F (the distribution functions of
generated and real samples), the density ρ of the penalty's points x̂, and the best slope s. The objective is

    Σ over cells of length·(s·δ − λ·ρ·p(|s|)),

with p(a) = (a − 1)², relu(a − 1)² or relu(a − 1), so each cell has its own best slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipnb.checks import check_choice, float_array

__all__ = ["KINDS", "Cells", "best_slopes", "cells", "objective"]

Array = np.ndarray
KINDS = ("two_sided", "one_sided", "one_sided_linear")


@dataclass(frozen=True)
class Cells:
    """The cells between neighbouring points of two samples.

    ``edges`` (k + 1,) are the sorted points; ``delta`` (k,) is G − F and ``rho`` (k,) the density of x̂ in each cell.
    """

    edges: Array
    delta: Array
    rho: Array

    @property
    def lengths(self) -> Array:
        """Length of each cell, shape (k,)."""
        return np.diff(self.edges)


def cells(real: Array, fake: Array) -> Cells:
    """The cells of ``real`` (n,) and ``fake`` (m,), all points different.

    ρ(t) = mean over all pairs of 1/|x − y| where t lies between x and y: x̂ is uniform between them.
    """
    real, fake = float_array(real, "real", ndim=1), float_array(fake, "fake", ndim=1)
    edges = np.sort(np.concatenate([real, fake]))
    middle = (edges[1:] + edges[:-1]) / 2
    below = [np.searchsorted(np.sort(x), middle) / len(x) for x in (real, fake)]
    low, high = np.minimum.outer(real, fake).ravel(), np.maximum.outer(real, fake).ravel()
    share = 1 / (high - low) / low.size
    # Each pair adds its share from `low` on and takes it away from `high` on.
    steps = np.zeros(len(edges))
    np.add.at(steps, np.searchsorted(edges, low), share)
    np.add.at(steps, np.searchsorted(edges, high), -share)
    return Cells(edges, below[1] - below[0], np.maximum(np.cumsum(steps)[:-1], 0))


def best_slopes(cells: Cells, strength: float, kind: str) -> Array:
    """The slopes (k,) that maximise the objective; infinite where there is no maximum.

    Where δ = 0 any slope of length 1 (two-sided) or at most 1 (one-sided) is as good: 1 and 0 are returned.
    """
    check_choice(kind, "kind", KINDS)
    ratio = np.divide(
        np.abs(cells.delta), strength * cells.rho, out=np.zeros_like(cells.delta), where=cells.delta != 0
    )
    sign = np.sign(cells.delta)
    if kind == "one_sided_linear":
        return sign * np.where(ratio > 1, np.inf, 1.0)
    return np.where(sign == 0, float(kind == "two_sided"), sign * (1 + ratio / 2))


def objective(cells: Cells, slopes: Array, strength: float, kind: str) -> Array:
    """The objective of piecewise linear critics with ``slopes`` (..., k), shape (...)."""
    check_choice(kind, "kind", KINDS)
    excess = np.abs(slopes) - 1
    excess = excess if kind == "two_sided" else np.maximum(excess, 0)
    penalty = excess if kind == "one_sided_linear" else excess**2
    return np.sum(cells.lengths * (slopes * cells.delta - strength * cells.rho * penalty), axis=-1)
