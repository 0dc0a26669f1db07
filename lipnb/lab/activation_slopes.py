"""How steep an activation gets: its largest slope in closed form, and the steepest chord that a search finds.

For continuous, piecewise smooth φ the best Lipschitz constant is sup |φ'|, and every chord is at most that
steep. A chord that keeps growing as its ends move together shows a jump, one that keeps growing as its ends move
out shows a slope without bound; in both cases there is no constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

__all__ = ["EXACT", "Exact", "chords", "evaluated", "steepest", "without_constant"]

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exact:
    """sup |φ'| with the formula that gives it and where it is attained or approached."""

    value: float
    formula: str
    where: str


def evaluated(activation: Callable[[Any], Any]) -> Function:
    """A Keras function of tensors as a function of float64 arrays."""

    def function(x: np.ndarray) -> np.ndarray:
        tensor = keras.ops.convert_to_tensor(np.asarray(x, np.float64), "float64")
        return np.asarray(keras.ops.convert_to_numpy(activation(tensor)), np.float64)

    return function


def chords(function: Function, x: np.ndarray) -> np.ndarray:
    """Slopes |f(x_{i+1}) − f(x_i)|/(x_{i+1} − x_i) of neighbours on the grid ``x`` (n,), increasing; shape (n − 1,).

    No chord between any two points of the grid is steeper than the steepest of these, since it is a weighted mean of
    them. Infinite where f overflows.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        slopes = np.abs(np.diff(function(x)) / np.diff(x))
    return np.where(np.isnan(slopes), np.inf, slopes)


def steepest(function: Function, reach: float = 1e4, zooms: int = 4) -> tuple[float, float]:
    """The steepest chord found on [−reach, reach] and its place: a lower bound of the best constant.

    A grid of 40,000 points, dense at 0, then ``zooms`` grids of 200 points around the steepest chord, down to a
    spacing of 1e-5 (relative, beyond 1), where float64 still leaves about ten digits of a slope.
    """
    magnitudes = np.geomspace(1e-4, reach, 20_000)
    grid = np.concatenate([-magnitudes[::-1], magnitudes])
    best, place = 0.0, 0.0
    for _ in range(zooms + 1):
        slopes = chords(function, grid)
        top = int(np.argmax(slopes))
        if slopes[top] > best:
            best, place = float(slopes[top]), float(grid[top] + grid[top + 1]) / 2
        width = max(2 * (grid[top + 1] - grid[top]), 1e-3 * max(1.0, abs(place)))
        grid = np.unique(np.clip(place + np.linspace(-width, width, 201), -reach, reach))
    return best, place


def without_constant(function: Function) -> str:
    """Why no constant exists, as far as chords show: "grows with the range", "jumps", or "" where neither is seen."""
    near, far = steepest(function, 100.0, 0)[0], steepest(function, 1e4, 0)[0]
    if far > 10 * max(near, 1.0):
        return "grows with the range"
    place = steepest(function, 100.0)[1]
    coarse, fine = (np.max(chords(function, place + h * np.arange(-50, 51))) for h in (1e-3, 1e-5))
    return "jumps" if fine > 10 * max(coarse, 1.0) else ""


def _peak(slope: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Largest value of ``slope`` between ``low`` and ``high``, where it has a single peak, and its place."""
    found = minimize_scalar(
        lambda x: -slope(x), bounds=(low, high), method="bounded", options={"xatol": 1e-9}
    )
    return -float(found.fun), float(found.x)


def _silu_slope(x: float) -> float:
    return float(expit(x) * (1 + x * (1 - expit(x))))


def _mish_slope(x: float) -> float:
    t = math.tanh(math.log1p(math.exp(x)))
    return float(t + x * (1 - t * t) * expit(x))


def _tanh_gelu_slope(x: float) -> float:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    t = math.tanh(inner)
    return (1 + t) / 2 + x * (1 - t * t) / 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


def _searched(slope: Callable[[float], float], formula: str) -> Exact:
    value, place = _peak(slope, 0.5, 4.0)
    return Exact(value, formula, f"x = {place:.4f}")


_SELU = 1.0507009873554805 * 1.6732632423543772

EXACT: Mapping[str, Exact] = {
    "linear": Exact(1.0, "1", "everywhere"),
    "relu": Exact(1.0, "1", "x > 0"),
    "relu6": Exact(1.0, "1", "0 < x < 6"),
    "leaky_relu": Exact(1.0, "max(1, α)", "x > 0"),
    "elu": Exact(1.0, "max(1, α)", "x > 0"),
    "celu": Exact(1.0, "1", "x > 0"),
    "selu": Exact(_SELU, "λα = 1.0507… · 1.6732…", "x → 0 from below"),
    "sigmoid": Exact(0.25, "σ(1 − σ) at ½", "x = 0"),
    "hard_sigmoid": Exact(1 / 6, "1/6", "−3 < x < 3"),
    "sparse_sigmoid": Exact(0.5, "1/2", "−1 < x < 1"),
    "tanh": Exact(1.0, "1 − tanh² at 0", "x = 0"),
    "hard_tanh": Exact(1.0, "1", "−1 < x < 1"),
    "softsign": Exact(1.0, "1/(1 + |x|)²", "x = 0"),
    "softplus": Exact(1.0, "sup σ", "x → ∞"),
    "log_sigmoid": Exact(1.0, "sup 1 − σ", "x → −∞"),
    "squareplus": Exact(1.0, "sup (1 + x/√(x² + 4))/2", "x → ∞"),
    "sparse_plus": Exact(1.0, "1", "x > 1"),
    "soft_shrink": Exact(1.0, "1", "|x| > λ"),
    "tanh_shrink": Exact(1.0, "sup tanh²", "x → ±∞"),
    "hard_silu": Exact(1.5, "(2x + 3)/6 at 3", "x → 3 from below"),
    "silu": _searched(_silu_slope, "σ(1 + x(1 − σ)) where x tanh(x/2) = 2"),
    "mish": _searched(_mish_slope, "peak of its derivative"),
    "gelu": Exact(
        (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi), "(1 + erf 1)/2 + 1/(e√π)", "x = √2"
    ),
    "gelu (tanh form)": _searched(_tanh_gelu_slope, "peak of its derivative"),
}
"""The elementwise activations of Keras that have a constant, in order of family."""
