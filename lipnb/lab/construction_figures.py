"""The figures of the chapter on constructions: each takes what the chapter computed and returns a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import circles, figures

__all__ = ["blocks_on_the_line", "clipping", "depths", "residual_depths", "scales", "slips"]

Array = np.ndarray
INK = circles.INK
BOUND, FOUND = figures.COLORS["bound"], figures.COLORS["estimate"]


def clipping(
    sizes: Sequence[int], shares: Mapping[str, Sequence[float]], clips: Array, values: Mapping[str, Array]
) -> Figure:
    """Left: ‖W‖₂/(c√(mn)) over the ``sizes`` of square matrices; right: best critic values in units of c³ over c."""
    figure, (left, right) = figures.new(2, height=3.2)
    for (name, share), mark in zip(shares.items(), ("s", "o", "^"), strict=True):
        left.plot(sizes, share, mark + "-", label=name)
    left.axhline(1, color=BOUND, linestyle="--")
    left.set(
        xlabel="size $n$", title="$\\|W\\|_2$ as a share of the bound $c\\,n$", xscale="log", yscale="log"
    )
    left.set(xticks=sizes, xticklabels=list(map(str, sizes)))
    left.minorticks_off()
    left.legend(fontsize=8.5, loc="lower left")
    for (name, value), dash in zip(values.items(), ("o-", "s--"), strict=True):
        right.plot(clips, value, dash, color=figures.COLORS["weight_clip"], label=name)
    right.set(xlabel="clipping bound $c$", title="best critic's value $/\\,c^3$", ylim=(0, 0.95))
    right.legend(fontsize=8.5, loc="upper right")
    return figure


def slips(constants: Mapping[str, float]) -> Figure:
    """One row for each "normalized" layer: its true constant on a logarithmic scale, 1 marked."""
    figure, axes = figures.new(1, height=0.36 * len(constants) + 0.7, squeeze=False)
    axis = axes[0, 0]
    for y, value in enumerate(constants.values()):
        color = figures.COLORS["spectral_norm" if value > 1 + 1e-3 else "exact"]
        axis.plot([1, value], [y, y], color=color, linewidth=3, alpha=0.5)
        axis.plot(value, y, "D", color=color)
        axis.annotate(f"{value:.2f}", (value, y), (7, -4), textcoords="offset points", fontsize=9)
    axis.axvline(1, color=INK, linestyle="--", linewidth=1)
    figures.log_axis(axis, "x")
    axis.set(xlabel="true constant of the layer", xlim=(0.9, 1.4 * max(constants.values())))
    axis.set(yticks=range(len(constants)), yticklabels=list(constants), ylim=(len(constants) - 0.5, -0.6))
    axis.grid(visible=False, axis="y")
    return figure


def depths(gains: Mapping[str, tuple[Array, Array]]) -> Figure:
    """Largest Jacobian norm found (solid) and median gain (dotted) over depth, by kind of chain; the bound is 1."""
    figure, axes = figures.new(1, height=3.2, squeeze=False)
    axis = axes[0, 0]
    _over_depth(axis, gains, ("C1", "C0"))
    axis.axhline(1, color=BOUND, linestyle="--", label="proven bound")
    axis.set(ylim=(1e-4, 2), ylabel="gain", xlabel="layers")
    axis.legend(fontsize=8.5, loc="lower left")
    return figure


def residual_depths(
    plain: tuple[Array, Array], bound: Array, variants: Mapping[str, tuple[Array, Array]]
) -> Figure:
    """Left: x + relu(Wx + b), the ``bound`` and what was found; right: variants whose bound is 1."""
    figure, (left, right) = figures.new(2, height=3.4)
    _over_depth(left, {"random $W$": plain}, ("C0",))
    left.plot(np.arange(len(bound)) + 1, bound, "--", color=BOUND, label="bound, attained by $W = KI$")
    left.set(ylabel="gain", title="$x + \\mathrm{relu}(Wx + b)$")
    _over_depth(right, variants, ("C4", "C2", "C5"))
    right.axhline(1, color=BOUND, linestyle="--")
    right.set(ylim=(1e-7, 3), title="bound 1")
    for axis, place in ((left, "upper left"), (right, "lower left")):
        axis.legend(fontsize=8.5, loc=place)
    return figure


def _over_depth(axis, gains: Mapping[str, tuple[Array, Array]], colors: Sequence[str]) -> None:
    for (name, (largest, median)), color in zip(gains.items(), colors, strict=True):
        depth = np.arange(len(largest)) + 1
        axis.plot(depth, largest, color=color, label=name)
        axis.plot(depth, median, ":", color=color)
    axis.set(xlabel="blocks", yscale="log")


def blocks_on_the_line(functions: Mapping[str, Array], x: Array) -> Figure:
    """Graphs of blocks of one input, with their steepest slope in the title, over the cone of constant 1 at 0."""
    figure, axes = figures.new(len(functions), height=2.4, sharey=True)
    for axis, (name, values) in zip(axes, functions.items(), strict=True):
        middle = np.interp(0, x, values)
        axis.fill_between(x, middle - np.abs(x), middle + np.abs(x), color=INK, alpha=0.2, linewidth=0)
        steepest = np.max(np.abs(np.diff(values) / np.diff(x)))
        axis.plot(x, values, color=figures.COLORS["spectral_norm"] if steepest > 1 + 1e-9 else FOUND)
        axis.set(title=f"{name}\nslope ≤ {steepest:.2g}", xlabel="$x$", ylim=(-2.1, 2.1))
        axis.title.set_fontsize(10)
    return figure


def scales(
    grid: Array, critics: Mapping[str, Mapping[float, Array]], reach: Array, losses: Mapping[str, Array]
) -> Figure:
    """Optimal critics by constant K, one panel a loss; right: least loss of two points over K·distance."""
    figure, axes = figures.new(len(critics) + 1, height=3.0)
    for axis, (title, by_constant) in zip(axes, critics.items(), strict=False):
        for (constant, values), color, width in zip(
            by_constant.items(), ("C0", "C4", "C3"), (4.5, 2.6, 1.2), strict=True
        ):
            axis.plot(grid, values, color=color, linewidth=width, label=f"$K$ = {constant:g}")
        axis.set(title=title, xlabel="$x$")
    axes[0].legend(fontsize=8.5, loc="upper center")
    for (name, values), dash in zip(losses.items(), ("-", "--", "-."), strict=True):
        axes[-1].plot(reach, values, dash, color=INK, label=name)
    axes[-1].set(title="least loss, two points", xlabel="$K$ · distance", ylim=(-4.2, 2.6))
    axes[-1].legend(fontsize=8.5, loc="lower left")
    return figure
