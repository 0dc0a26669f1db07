"""Drawings of what a 2×2 matrix does to the unit circle: the image ellipse, its axes, its box, arrows in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

__all__ = ["INK", "arrow", "box", "image", "plane", "rotation"]

INK = "#8a8a8a"  # between black and white: legible on both


def plane(axis: Axes, reach: float) -> None:
    """Turn ``axis`` into a plain plane of ±``reach`` in both directions, equal units, no frame."""
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
    axis.axvline(0, color=INK, linewidth=0.6, alpha=0.5)


def image(axis: Axes, w: np.ndarray, **options: Any) -> None:
    """Draw the image of the unit circle under ``w``, an ellipse; the circle itself for the identity."""
    angle = np.linspace(0, 2 * np.pi, 361)
    axis.plot(*(w @ [np.cos(angle), np.sin(angle)]), **options)


def arrow(axis: Axes, tip: np.ndarray, color: str, **options: Any) -> None:
    """Arrow from the origin to ``tip``."""
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "shrinkA": 0,
        "shrinkB": 0,
        "linewidth": 1.8,
        "mutation_scale": 11,
    }
    axis.annotate("", xy=(tip[0], tip[1]), xytext=(0, 0), arrowprops=style | options)


def box(axis: Axes, left: np.ndarray, sigma: Sequence[float], **options: Any) -> np.ndarray:
    """Draw the rectangle around the ellipse with half axes ``sigma`` along the columns of ``left``; return a corner.

    The corner is ‖W‖_F = sqrt(σ₁² + σ₂²) from the origin.
    """
    corners = left @ (np.array([[1, -1, -1, 1, 1], [1, 1, -1, -1, 1]]) * np.reshape(sigma, (2, 1)))
    axis.plot(*corners, **options)
    return corners[:, 0]


def rotation(angle: float) -> np.ndarray:
    """Matrix (2, 2) that turns the plane by ``angle`` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
