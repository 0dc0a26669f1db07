"""Intervals and comparisons over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

__all__ = ["Interval", "epochs_to_reach", "log_slope", "mean_interval", "median_ratio"]


class Interval(NamedTuple):
    """An estimate with its 95% confidence interval; the ends are NaN where there are too few values for one."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def side(self) -> int:
        """1 where the interval lies above 0, −1 where below, 0 where it holds 0 or is unknown."""
        return int(self.known and self.low > 0) - int(self.known and self.high < 0)

    def numbers(self) -> list[float | None]:
        """[mean, low, high] for a record, with None for what is unknown or infinite."""
        return [float(value) if np.isfinite(value) else None for value in self]

    def text(self, digits: int = 1) -> str:
        """``mean [low, high]``, or the mean alone where there is no interval."""
        ends = f" [{self.low:.{digits}f}, {self.high:.{digits}f}]" if self.known else ""
        return f"{self.mean:.{digits}f}{ends}"


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t-interval of the mean of independent ``values`` (n ≥ 2 for an interval)."""
    array = np.asarray(values, float)
    mean = float(array.mean()) if array.size else np.nan
    if array.size < 2:
        return Interval(mean, np.nan, np.nan)
    half = scipy.stats.t.ppf((1 + level) / 2, array.size - 1) * array.std(ddof=1) / np.sqrt(array.size)
    return Interval(mean, mean - float(half), mean + float(half))


def median_ratio(a: ArrayLike, b: ArrayLike, *, seed: int = 0, level: float = 0.95) -> Interval:
    """Median over rounds of a/b, with its bootstrap (percentile) interval; a and b are timed side by side."""
    ratios = np.divide(a, b)
    if ratios.size < 2:
        return Interval(float(np.median(ratios)), np.nan, np.nan)
    result = scipy.stats.bootstrap(
        (ratios,), np.median, confidence_level=level, method="percentile", rng=np.random.default_rng(seed)
    )
    return Interval(float(np.median(ratios)), *map(float, result.confidence_interval))


def log_slope(samples: Mapping[float, ArrayLike], *, seed: int = 0, level: float = 0.95) -> Interval:
    """Least-squares slope of the logarithm of the samples' medians on that of their keys, a power law's exponent.

    With the bootstrap (percentile) interval of samples drawn anew, each by itself. All keys and values are positive;
    there are two keys at least.
    """
    x = np.log(list(samples))
    x = (x - x.mean()) / np.sum((x - x.mean()) ** 2)

    def slope(*columns, axis=-1):
        return sum(weight * np.log(np.median(c, axis=axis)) for weight, c in zip(x, columns, strict=True))

    arrays = [np.asarray(values, float) for values in samples.values()]
    if min(array.size for array in arrays) < 2:
        return Interval(float(slope(*arrays)), np.nan, np.nan)
    result = scipy.stats.bootstrap(
        arrays,
        slope,
        confidence_level=level,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return Interval(float(slope(*arrays)), *map(float, result.confidence_interval))


def epochs_to_reach(epochs: ArrayLike, values: ArrayLike, target: float) -> float:
    """First epoch at which ``values`` falls to ``target``, linear between measurements; infinity where it never does.

    A target met at the first measurement already counts as reached there.
    """
    x, y = np.asarray(epochs, float), np.asarray(values, float)
    below = np.flatnonzero(y <= target)
    if below.size == 0:
        return float("inf")
    i = below[0]
    if i == 0:
        return float(x[0])
    share = (y[i - 1] - target) / (y[i - 1] - y[i])
    return float(x[i - 1] + share * (x[i] - x[i - 1]))
