"""Exact Wasserstein-1 distances of finite samples, with a certificate: a plan and a potential of equal value.

A plan P (weights ≥ 0 with the samples' weights as sums of rows and columns) costs Σ Pᵢⱼ‖xᵢ − yⱼ‖ ≥ W1; a 1-Lipschitz
function f gives mean f(x) − mean f(y) ≤ W1. Where the two numbers agree, both are W1, whoever computed them.

The network simplex of POT returns a plan and dual numbers αᵢ + βⱼ ≤ ‖xᵢ − yⱼ‖. The latter become a function of the
whole space, f(z) = minⱼ (‖z − yⱼ‖ − βⱼ), which is 1-Lipschitz as a minimum of such functions, with
f(xᵢ) ≥ αᵢ and f(yⱼ) ≤ −βⱼ: no worse than the numbers that it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from lipnb.checks import float_array

__all__ = ["Transport", "potential_1d", "w1_1d", "w1_samples"]

Array = np.ndarray
RTOL = 1e-9  # of the duality gap, relative to the largest distance


@dataclass(frozen=True)
class Transport:
    """An optimal plan between two samples, every point of one sample of the same weight, and an optimal potential.

    ``plan`` (n, m) has rows for ``real`` (n, d) and columns for ``fake`` (m, d); ``at_real`` (n,) and ``at_fake`` (m,)
    are the potential there. ``cost`` is W1, at most ``gap`` = cost − (mean at_real − mean at_fake) too large.

    Many 1-Lipschitz functions of the whole space agree with the potential on the samples, and all are optimal.
    They lie between ``lower`` and ``upper`` (McShane's extensions), which are such functions themselves and have a
    gradient of norm 1 almost everywhere; ``middle``, their mean, has it only where it must.
    """

    real: Array
    fake: Array
    plan: Array
    at_real: Array
    at_fake: Array
    cost: float

    @property
    def gap(self) -> float:
        """Value of the plan less that of the potential: at least 0 but for rounding."""
        return float(self.cost - (self.at_real.mean() - self.at_fake.mean()))

    @property
    def support(self) -> tuple[Array, Array]:
        """All points (n + m, d), real before fake, and the potential there."""
        return np.concatenate([self.real, self.fake]), np.concatenate([self.at_real, self.at_fake])

    @property
    def pairs(self) -> tuple[Array, Array]:
        """Indices of the real and of the fake points that the plan couples."""
        rows, columns = np.nonzero(self.plan > 0)
        return rows, columns

    def upper(self, z: Any) -> Array:
        """Largest 1-Lipschitz extension at rows ``z`` (k, d): minₖ (f(pₖ) + ‖z − pₖ‖), shape (k,)."""
        points, values = self.support
        return np.min(cdist(_rows(z, "z"), points) + values, axis=1)

    def lower(self, z: Any) -> Array:
        """Smallest 1-Lipschitz extension at rows ``z`` (k, d): maxₖ (f(pₖ) − ‖z − pₖ‖), shape (k,)."""
        points, values = self.support
        return np.max(values - cdist(_rows(z, "z"), points), axis=1)

    def middle(self, z: Any) -> Array:
        """(upper + lower)/2 at rows ``z`` (k, d), shape (k,)."""
        return (self.upper(z) + self.lower(z)) / 2

    def gradient(self, z: Any, which: str = "middle") -> Array:
        """Gradient (k, d) of "upper", "lower" or "middle" at rows ``z``, of each by the one point that decides there.

        The function is differentiable at almost every z, and there this is exact to rounding; elsewhere (at a
        support point, or where two points decide) it is one of the limits of gradients, or 0.
        """
        z = _rows(z, "z")
        points, values = self.support
        apart = cdist(z, points)
        above = _units(z - points[np.argmin(apart + values, axis=1)])
        below = _units(points[np.argmax(values - apart, axis=1)] - z)
        return {"upper": above, "lower": below, "middle": (above + below) / 2}[which]


def w1_samples(real: Any, fake: Any) -> Transport:
    """Exact W1 of two samples in Euclidean distance, by linear programming.

    Parameters
    ----------
    real, fake
        Finite floating-point arrays (n, d) and (m, d): n and m points of weight 1/n and 1/m.

    Returns
    -------
    Transport
        Its ``cost`` is W1; the duality ``gap`` was checked to be at most 1e-9 of the largest distance. Takes about
        n·m doubles of memory several times over; 1,000 points a side take less than a second.

    Raises
    ------
    TypeError, ValueError
        For arrays that are not finite, of rank 2 and of one d.
    RuntimeError
        Where plan and potential do not certify each other (the solver gave up).

    Source: Peyré & Cuturi 2019, Computational Optimal Transport, chapters 2, 3 and 6; the solver is POT's ``ot.lp.emd``.
    """
    real, fake = _rows(real, "real"), _rows(fake, "fake")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real and fake must be points of one space. Received: {real.shape} and {fake.shape}"
        )
    import ot  # here, since it loads every backend that is installed

    n, m, costs = len(real), len(fake), cdist(real, fake)
    plan, log = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), costs, numItermax=10**8, log=True)
    at_real = np.min(costs - log["v"], axis=1)
    at_fake = np.min(cdist(fake, fake) - log["v"], axis=1)
    found = Transport(real, fake, plan, at_real, at_fake, float(np.sum(plan * costs)))
    if not abs(found.gap) <= RTOL * costs.max():
        raise RuntimeError(
            f"plan and potential must agree to {RTOL} of {costs.max()}. Received: gap {found.gap}"
        )
    return found


def w1_1d(x: Any, y: Any) -> float:
    """Exact W1 of two samples on the line: ∫|F(t) − G(t)| dt = ∫|F⁻¹(q) − G⁻¹(q)| dq.

    Parameters
    ----------
    x, y
        Finite floating-point arrays of n and m numbers, shape (n,) or (n, 1), of weight 1/n and 1/m each.

    Returns
    -------
    Float, exact to rounding. For n = m it is the mean of |x₍ᵢ₎ − y₍ᵢ₎|, the sorted samples side by side.

    Raises TypeError, ValueError where the samples are not such arrays.

    Source: Villani 2003, Topics in Optimal Transportation, remark 2.19.
    """
    grid, ahead = _distribution_functions(x, y)
    return float(np.sum(np.abs(ahead) * np.diff(grid)))


def potential_1d(x: Any, y: Any) -> Callable[[Any], Array]:
    """An optimal potential f of two samples on the line: f′ = sign(G − F), F and G the distribution functions.

    E_x f − E_y f = ∫ f′·(G − F) dt = ∫ |F − G| dt = W1. It is 0 at the leftmost sample, constant outside of the
    samples and wherever F = G, and piecewise linear: a function of numbers of any shape, exact to rounding.

    Raises TypeError, ValueError where the samples are not as for :func:`w1_1d`.
    """
    grid, ahead = _distribution_functions(x, y)
    values = np.concatenate([[0.0], np.cumsum(-np.sign(ahead) * np.diff(grid))])
    return lambda t: np.interp(t, grid, values)


def _distribution_functions(x: Any, y: Any) -> tuple[Array, Array]:
    """The sorted samples, and F − G between each and the next; exactly 0 where the counts say so."""
    x, y = _line(x, "x"), _line(y, "y")
    grid = np.sort(np.concatenate([x, y]))
    below_x, below_y = (np.searchsorted(np.sort(a), grid[:-1], side="right") for a in (x, y))
    return grid, (below_x * len(y) - below_y * len(x)) / (len(x) * len(y))


def _line(value: Any, name: str) -> Array:
    array = float_array(value, name, ndim=(1, 2))
    if array.ndim == 2 and array.shape[1] != 1:
        raise ValueError(f"{name} must be numbers, (n,) or (n, 1). Received: shape {array.shape}")
    return array.ravel()


def _rows(value: Any, name: str) -> Array:
    return float_array(value, name, ndim=2)


def _units(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(norms > 0, rows / np.where(norms > 0, norms, 1.0), 0.0)
