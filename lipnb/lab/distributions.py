"""Pairs of distributions whose Wasserstein-1 distance and optimal potential are known by construction.

A pair is a way to draw x ~ P_g, a map T and a function f such that

    |f(a) − f(b)| ≤ ‖a − b‖ everywhere,   f(T(x)) − f(x) = ‖T(x) − x‖ for every x.

With P_r the law of T(x), W1(P_r, P_g) = E‖T(x) − x‖ and f is an optimal potential: by the first line no
coupling is cheaper than E_{P_r} f − E_{P_g} f, and by the second T costs just that. The same two lines hold for a
finite sample x₁, …, xₙ and T(x₁), …, T(xₙ): its exact distance is the mean of ‖T(xᵢ) − xᵢ‖.

The idea, with funnels, is that of Korotin, Kolesov & Burnaev 2022 (arXiv 2206.07767).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["PAIRS", "Pair", "Sample", "draw", "w1_estimate"]

Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """A pair P_g → P_r: ``points(rng, n)`` draws x (n, d), ``carry`` is T, ``potential`` is f on rows.

    ``extent`` is half the width of the box [−extent, extent]^d that holds practically all of both.
    """

    name: str
    title: str
    dimension: int
    extent: float
    points: Callable[[np.random.Generator, int], Array]
    carry: Callable[[Array], Array]
    potential: Callable[[Array], Array]


@dataclass(frozen=True)
class Sample:
    """Coupled points: ``real[i]`` = T(``fake[i]``), both float64 (n, d)."""

    fake: Array
    real: Array

    @property
    def costs(self) -> Array:
        """‖T(xᵢ) − xᵢ‖, shape (n,). Their mean is the exact W1 of the two finite samples."""
        return np.linalg.norm(self.real - self.fake, axis=1)

    @property
    def w1(self) -> float:
        """Exact Wasserstein-1 distance of the two finite samples."""
        return float(self.costs.mean())


def draw(pair: Pair, n: int, seed: int) -> Sample:
    """``n`` coupled points of ``pair``."""
    fake = pair.points(np.random.default_rng(seed), n)
    return Sample(fake, pair.carry(fake))


def w1_estimate(pair: Pair, n: int = 2**18, seed: int = 0) -> tuple[float, float]:
    """W1(P_r, P_g) = E‖T(x) − x‖ as the mean of ``n`` draws, and its standard error."""
    costs = draw(pair, n, seed).costs
    return float(costs.mean()), float(costs.std(ddof=1) / np.sqrt(n))


# Shifts: T moves along e₁, f(x) = x₁ ---------------------------------------------------------------------


def _shifted(name: str, title: str, centre: Array, distance: float, spread: float) -> Pair:
    step = np.array([distance, *[0.0] * (len(centre) - 1)])

    def points(rng: np.random.Generator, n: int) -> Array:
        return centre + spread * rng.standard_normal((n, len(centre)))

    return Pair(name, title, len(centre), 4.0, points, lambda x: x + step, lambda x: x[:, 0])


def _shared(name: str, title: str, distance: float, spread: float) -> Pair:
    """Two clusters of which T moves the upper one, the points above a line, and leaves the other where it is."""
    centres, line = np.array([[-distance / 2, 0.75], [0.0, -1.5]]), -0.375

    def points(rng: np.random.Generator, n: int) -> Array:
        return centres[rng.integers(2, size=n)] + spread * rng.standard_normal((n, 2))

    def carry(x: Array) -> Array:
        return x + np.where(x[:, 1:] > line, [[distance, 0.0]], 0.0)

    return Pair(name, title, 2, 4.0, points, carry, lambda x: x[:, 0])


# Outward moves: f(x) = ‖x‖ -------------------------------------------------------------------------------


def _outward(name: str, title: str, distance: float, points: Callable) -> Pair:
    def carry(x: Array) -> Array:
        return x * (1 + distance / _norms(x))

    return Pair(name, title, 2, 4.0, points, carry, lambda x: _norms(x)[:, 0])


def _gaussian(spread: float, dimension: int) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, n: spread * rng.standard_normal((n, dimension))


# Funnels: T moves towards the nearest centre, f(x) = −min_j ‖x − y_j‖ ------------------------------------


def _funnels(
    name: str, title: str, centres: Array, points: Callable, keep: float, extent: float = 4.0
) -> Pair:
    """Each point keeps the share ``keep`` of its way to the nearest centre."""

    def distances(x: Array) -> Array:
        return np.linalg.norm(x[:, None] - centres, axis=2)

    def carry(x: Array) -> Array:
        return keep * x + (1 - keep) * centres[distances(x).argmin(axis=1)]

    return Pair(name, title, centres.shape[1], extent, points, carry, lambda x: -distances(x).min(axis=1))


def _two_bumps(rng: np.random.Generator, n: int) -> Array:
    return rng.choice([-1.2, 1.2], size=(n, 1)) + 0.4 * rng.standard_normal((n, 1))


def _around_circle(count: int, radius: float) -> Array:
    angles = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _along_axes(dimension: int, radius: float) -> Array:
    """±radius on each of the first four axes."""
    half = radius * np.eye(4, dimension)
    return np.concatenate([half, -half])


def _norms(x: Array) -> Array:
    return np.linalg.norm(x, axis=1, keepdims=True)


_ALL = (
    _funnels(
        "line", "three peaks on a line", np.array([[-2.4], [0.0], [2.4]]), _two_bumps, keep=0.2, extent=6.0
    ),
    _shifted("shift", "a shifted Gaussian", np.array([-1.0, 0.0]), distance=2.0, spread=0.5),
    _outward("ring", "a ring around a Gaussian", 1.5, _gaussian(0.5, 2)),
    _funnels("modes", "eight modes around a Gaussian", _around_circle(8, 2.0), _gaussian(0.5, 2), keep=0.2),
    _shared("shared", "two clusters, one of them shared", distance=3.0, spread=0.3),
    _funnels("modes_16", "eight modes in 16 dimensions", _along_axes(16, 3.0), _gaussian(0.5, 16), keep=0.2),
)
PAIRS: Mapping[str, Pair] = {pair.name: pair for pair in _ALL}
"""The pairs by name, all float64: one on the line, four in the plane, one in 16 dimensions."""
