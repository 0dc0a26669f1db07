"""The figures of the chapter on networks: each takes what the chapter computed and returns a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lipnb.lab import circles, figures
from lipnb.lab.network_maths import Gap

__all__ = ["cones", "images_of_balls", "looseness", "slopes", "two_failures"]

INK = circles.INK
BAD = figures.COLORS["spectral_norm"]
GOOD = figures.COLORS["estimate"]
Function = Callable[[np.ndarray], np.ndarray]


def cones(functions: Mapping[str, tuple[Function, float]], slope: float = 1.0) -> Figure:
    """Graphs of ``functions[name] = (f, at)`` with the double cone of ``slope`` at ``at``; what enters it is orange."""
    figure, axes = figures.new(len(functions), height=2.3, sharey=True)
    x = np.linspace(-2, 2, 2001)
    for axis, (name, (f, at)) in zip(axes, functions.items(), strict=True):
        y, here = f(x), f(np.array([at]))[0]
        steep = np.abs(y - here) > slope * np.abs(x - at) + 1e-12
        for sign in (-1, 1):
            edge = here + sign * slope * np.abs(x - at)
            axis.fill_between(x, edge, sign * 9, color=INK, alpha=0.28, linewidth=0)
        axis.plot(x, np.where(steep, np.nan, y), color=GOOD, linewidth=2.2)
        axis.plot(x, np.where(steep, y, np.nan), color=BAD, linewidth=2.2)
        axis.plot(at, here, "o", color="black", markersize=5)
        axis.set(title=name, xlim=(-2, 2), ylim=(-1.6, 2.4), xticks=[-2, 0, 2])
        axis.grid(False)
    return figure


def two_failures(
    by_range: Mapping[str, tuple[np.ndarray, np.ndarray]],
    by_distance: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Steepest chords, log-log: left over the range looked at, right over the distance of the chord's ends."""
    figure, axes = figures.new(2, height=3.2)
    for axis, curves in zip(axes, (by_range, by_distance), strict=True):
        for (name, (x, slope)), style in zip(curves.items(), ("-", "--", "-.", ":", "-"), strict=False):
            axis.loglog(x, slope, style, label=name)
        axis.set(ylim=(0.3, 3e3))
    axes[0].set(xlabel="inputs from $-R$ to $R$: $R$", ylabel="steepest chord")
    axes[1].set(xlabel="distance of the chord's ends")
    axes[1].invert_xaxis()
    for axis, place in zip(axes, ("upper left", "upper left"), strict=True):
        axis.legend(fontsize=8.5, loc=place)
    return figure


def images_of_balls(matrices: Mapping[str, np.ndarray]) -> Figure:
    """Unit ball of ‖·‖₂ (disc) and of ‖·‖_∞ (square), and their images under each 2×2 matrix."""
    figure, axes = figures.new(len(matrices) + 1, height=2.7)
    square = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]]).T
    for axis, (name, w) in zip(axes, {"unit balls": np.eye(2), **matrices}.items(), strict=True):
        circles.plane(axis, 2.3)
        circles.image(axis, w, color=GOOD, linewidth=2.2)
        axis.plot(*(w @ square), color=BAD, linewidth=2.2)
        two, infinity = np.linalg.norm(w, 2), np.max(np.sum(np.abs(w), axis=1))
        circles.image(axis, two * np.eye(2), color=GOOD, linewidth=1, linestyle=":")
        axis.plot(*(infinity * square), color=BAD, linewidth=1, linestyle=":")
        axis.set_title(f"{name}\n$\\|\\cdot\\|_2$: {two:.2f}, $\\|\\cdot\\|_\\infty$: {infinity:.2f}")
    return figure


def slopes(panels: Sequence[Mapping[str, tuple[np.ndarray, np.ndarray]]], titles: Sequence[str]) -> Figure:
    """Derivatives φ'(x) of activations, a panel for each group; 1 is drawn as a line."""
    figure, axes = figures.new(len(panels), height=3.1)
    for axis, curves, title in zip(axes, panels, titles, strict=True):
        axis.axhline(1, color=INK, linewidth=1.2, linestyle="--")
        for (name, (x, slope)), style in zip(curves.items(), ("-", "--", "-.", ":", "-"), strict=False):
            axis.plot(x, slope, style, label=name)
        axis.set(title=title, xlabel="$x$", xlim=(-5, 5), ylim=(-0.6, 2.3))
        axis.legend(fontsize=8.5, loc="lower right" if axis is axes[-1] else "upper left")
    axes[0].set_ylabel("$\\varphi'(x)$")
    return figure


def looseness(gaps: Sequence[Gap], exact: Sequence[tuple[float, float]], depth: int, width: int) -> Figure:
    """Product bound over the largest slope found: by depth (at ``width``), by width (at ``depth``); right: exact cases.

    ``exact`` holds (bound, found) as multiples of the exact constant.
    """
    figure, axes = figures.new(3, height=3.2, width_ratios=[1, 1, 0.8])
    for trained, color, name in ((False, INK, "random"), (True, figures.COLORS["bound"], "trained")):
        chosen = [g for g in gaps if g.trained is trained]
        by_depth = [(g.depth, g.ratio) for g in chosen if g.width == width]
        by_width = [(g.width, g.ratio) for g in chosen if g.depth == depth]
        for axis, points in zip(axes, (by_depth, by_width), strict=False):
            _means(axis, points, color, name, "o" if trained else "s")
    axes[0].set(xscale="log", yscale="log", xlabel=f"hidden layers, width {width}")
    axes[0].set(ylabel="product bound / largest slope found", ylim=(0.9, 2e3))
    axes[1].set(xscale="log", yscale="log", xlabel=f"width, {depth} hidden layers", ylim=(0.9, 2e3))
    for axis, places in zip(axes, ({g.depth for g in gaps}, {g.width for g in gaps}), strict=False):
        axis.axhline(1, color=figures.COLORS["exact"], linewidth=1.2, linestyle="--")
        axis.set(xticks=sorted(places), xticklabels=map(str, sorted(places)))
        axis.minorticks_off()
    axes[0].legend(fontsize=9, loc="upper left")
    _exact(axes[2], exact)
    return figure


def _means(axis: Axes, points: Sequence[tuple[int, float]], color: str, name: str, marker: str) -> None:
    """Every point, and a line through the geometric means."""
    places = sorted({x for x, _ in points})
    means = [np.exp(np.mean([np.log(y) for x, y in points if x == place])) for place in places]
    axis.plot(*zip(*points, strict=True), marker, color=color, alpha=0.5, linestyle="none")
    axis.plot(places, means, "-", color=color, label=name)


def _exact(axis: Axes, exact: Sequence[tuple[float, float]]) -> None:
    rows = np.arange(len(exact))
    bounds, found = zip(*exact, strict=True)
    axis.axvline(1, color=figures.COLORS["exact"], linewidth=1.6, label="exact")
    axis.plot(bounds, rows, "<", color=figures.COLORS["bound"], label="product bound")
    axis.plot(found, rows, ">", color=figures.COLORS["estimate"], label="found")
    axis.set(yticks=[], xlabel="share of the exact one", xlim=(0.8, 1.75), ylim=(-0.7, len(exact) + 2.4))
    axis.legend(fontsize=8.5, loc="upper right")
