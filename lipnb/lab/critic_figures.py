"""The figures of the chapters on critics with a known answer (G3, G4, G6, H1, H2, H3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from lipnb.lab import figures
from lipnb.lab.distributions import Pair
from lipnb.lab.line_critics import Cells
from lipnb.lab.statistics import Interval

__all__ = [
    "bounded_scores",
    "by_kernel",
    "depths",
    "gradient_maps",
    "line_slopes",
    "norms_by_place",
    "ratios_by_pair",
    "runaway",
    "shortfall_curves",
    "weights_and_ranks",
]

Array = np.ndarray
INK = "#8a8a8a"
DARK = "#262626"  # on the maps, which are pale on every page
REAL, FAKE = "#1f9e5a", DARK
STEEPEST = 1.5  # norms above it have the map's last colour


def line_slopes(
    cells: Cells, predicted: Mapping[str, Array], grid: Array, measured: Mapping[str, Array]
) -> Figure:
    """Left: δ = G − F and ρ; then, method by method, the best f′ over the cells (pale) and critics' f′ on ``grid``."""
    figure, axes = figures.new(1 + len(predicted), width=8.2, height=2.9, sharex=True)
    t = (cells.edges[1:] + cells.edges[:-1]) / 2
    axes[0].plot(t, cells.delta, color="C0", label="$\\delta = G - F$")
    axes[0].plot(t, cells.rho, color="C1", label="$\\rho$, density of $\\hat x$")
    axes[0].set(title="what the samples fix", xlim=(-3, 3), ylim=(-0.45, 0.75))
    axes[0].legend(fontsize=8.5, loc="upper center")
    for axis, (method, slopes) in zip(axes[1:], predicted.items(), strict=True):
        color = figures.COLORS[method]
        axis.plot(t, slopes, color=color, linewidth=5, alpha=0.3, label="best")
        for k, values in enumerate(measured.get(method, ())):
            axis.plot(grid, values, color=color, linewidth=1.2, label="trained" if k == 0 else None)
        axis.set(title=f"$f'$: {figures.LABELS[method]}", ylim=(-1.7, 1.7))
        axis.legend(fontsize=8.5, loc="upper center", ncols=2)
    for axis in axes:
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set_xlabel("$t$")
    return figure


def gradient_maps(
    planes: Mapping[str, Array], divisors: Mapping[str, float], pair: Pair, real: Array, fake: Array
) -> Figure:
    """One panel a method: ‖∇f‖/divisor over the pair's box, pale at 1, with samples and segments between some."""
    columns = 3
    rows = -(-len(planes) // columns)
    figure, axes = figures.new(
        columns, rows, width=7.4, height=2.3 * rows + 0.2, sharex=True, sharey=True, squeeze=False
    )
    side = int(np.sqrt(next(iter(planes.values())).shape[-1]))
    shades = TwoSlopeNorm(1.0, vmin=0.0, vmax=STEEPEST)
    for axis, (method, plane) in zip(axes.flat, planes.items(), strict=False):
        norms = plane[1].reshape(side, side) / divisors[method]
        box = [-pair.extent, pair.extent] * 2
        image = axis.imshow(
            norms, origin="lower", extent=box, cmap="PuOr_r", norm=shades, interpolation="nearest"
        )
        axis.plot(*np.stack([real[:25], fake[:25]]).transpose(2, 0, 1), color=DARK, linewidth=0.5, alpha=0.6)
        axis.plot(*real[:80].T, ".", color=REAL, markersize=3)
        axis.plot(*fake[:80].T, ".", color=FAKE, markersize=3)
        divided = "" if divisors[method] == 1 else f"\n(divided by {divisors[method]:.2g})"
        axis.set_title(figures.LABELS[method] + divided, fontsize=9.5)
        axis.grid(False)
        axis.set(xticks=[-3, 0, 3], yticks=[-3, 0, 3])
    for axis in axes.flat[len(planes) :]:
        axis.set_axis_off()
    ticks = [0, 0.5, 1, 1.25, STEEPEST]
    figure.colorbar(image, ax=axes, shrink=0.5, extend="max", label="gradient norm", ticks=ticks)
    return figure


def norms_by_place(summaries: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> Figure:
    """By place, then method: mean gradient norm, 1% to 99% (thick) and the largest (cross), each the mean over trainings."""
    figure, axes = figures.new(len(summaries), width=7.6, height=0.3 * _most(summaries) + 1.1, sharey=True)
    for axis, (place, methods) in zip(np.atleast_1d(axes), summaries.items(), strict=True):
        for y, (method, found) in enumerate(methods.items()):
            number = {key: np.mean([f[key] for f in found]) for key in ("mean", "p01", "p99", "max")}
            color = figures.COLORS[method]
            axis.plot([number["p01"], number["p99"]], [y, y], color=color, linewidth=5, alpha=0.45)
            axis.plot(number["mean"], y, figures.MARKERS.get(method, "o"), color=color)
            axis.plot(number["max"], y, "x", color=color)
        axis.axvline(1, color=INK, linestyle=":")
        axis.set(title=place, xlabel="gradient norm", xlim=(0, None))
        axis.set_yticks(range(len(methods)), [figures.LABELS[method] for method in methods])
    return figure


def ratios_by_pair(ratios: Mapping[str, Mapping[str, tuple[Sequence[float], Interval]]]) -> Figure:
    """By pair (rows) and method (marks): every seed's ratio and the mean with its interval."""
    figure, axis = figures.new(width=6.6, height=0.55 * len(ratios) + 1.2)
    methods = list(next(iter(ratios.values())))
    for row, of in enumerate(ratios.values()):
        for k, (method, (values, interval)) in enumerate(of.items()):
            figures.interval(axis, row + 0.16 * (k - len(methods) / 2), values, interval, method)
    for method in methods:
        axis.plot([], [], figures.MARKERS[method], color=figures.COLORS[method], label=figures.LABELS[method])
    axis.axvline(1, color=INK, linestyle=":")
    axis.set_yticks(range(len(ratios)), list(ratios))
    axis.set(xlabel="largest gradient norm off the segments / largest on them")
    axis.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def bounded_scores(scores: Mapping[str, tuple[Sequence[float], Interval]], label: str) -> Figure:
    """One row a method: a score in 0 … 1 for every seed, the mean and its interval."""
    figure, axis = figures.new(width=6.4, height=0.32 * len(scores) + 0.9)
    for y, (method, (values, interval)) in enumerate(reversed(list(scores.items()))):
        figures.interval(axis, y, values, interval, method)
    axis.set_yticks(range(len(scores)), [figures.LABELS[method] for method in reversed(list(scores))])
    axis.set(xlabel=label, xlim=(0, None))
    return figure


def shortfall_curves(
    steps: Array, curves: Mapping[str, Mapping[str, Array]], titles: Mapping[str, str]
) -> Figure:
    """One panel a pair: shortfall against the step, the mean and range over seeds, by method."""
    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = figures.new(
        columns, rows, width=7.4, height=2.4 * rows + 0.6, sharex=True, sharey=True, squeeze=False
    )
    for axis, (pair, methods) in zip(axes.flat, curves.items(), strict=False):
        for method, values in methods.items():
            figures.band(axis, steps, values, method)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set(xscale="log", title=titles[pair], ylim=(-0.05, 1.05))
    for axis in axes[-1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("shortfall")
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, fontsize=9)
    return figure


def weights_and_ranks(kernels: Mapping[str, Array], ranks: Mapping[str, Mapping[int, float]]) -> Figure:
    """Left: histogram of w/max|w| of a hidden kernel by method; right: its stable rank over training steps."""
    figure, (left, right) = figures.new(2, height=3.1)
    for method, kernel in kernels.items():
        share = np.ravel(kernel) / np.max(np.abs(kernel))
        style = {"color": figures.COLORS[method], "alpha": 0.55, "label": figures.LABELS[method]}
        left.hist(
            share, bins=np.linspace(-1.025, 1.025, 42), weights=np.full(share.size, 1 / share.size), **style
        )
    for method, course in ranks.items():
        style = {"color": figures.COLORS[method], "marker": figures.MARKERS[method]}
        right.plot(list(course), list(course.values()), label=figures.LABELS[method], **style)
    left.set(xlabel="weight / largest weight", ylabel="share of the weights")
    right.set(xlabel="step", ylabel="$\\|W\\|_F^2\\,/\\,\\|W\\|_2^2$", xscale="symlog", yscale="log")
    figures.log_axis(right, "y")
    left.legend(fontsize=8.5, loc="upper center")
    right.legend(fontsize=8.5)
    return figure


def runaway(scales: Array, gains: Array, prices: Mapping[float, Array]) -> Figure:
    """The gap and the Frobenius penalty for each strength, while all kernels grow together."""
    figure, axis = figures.new(width=5.8, height=3.0)
    axis.plot(scales, gains, color=figures.COLORS["spectral_norm"], label="gap")
    for (strength, price), dash in zip(prices.items(), ("--", "-.", ":"), strict=True):
        color = figures.COLORS["frobenius_penalty"]
        axis.plot(scales, price, dash, color=color, label=f"penalty, λ = {strength:g}")
    axis.set(xscale="log", yscale="log", xlabel="Frobenius norm of each kernel", ylim=(gains[0], None))
    axis.legend(fontsize=9)
    return figure


def depths(
    start: Mapping[str, Mapping[int, Sequence[float]]],
    end: Mapping[str, Mapping[int, Sequence[float]]],
    score: Mapping[str, Mapping[int, Sequence[float]]],
    styles: Mapping[str, tuple[str, str]],
) -> Figure:
    """Against hidden layers: norm of the gradient over all kernels at the start and after training, and the shortfall.

    ``styles`` gives each series (method, line style).
    """
    panels: list[tuple[str, Any]] = [
        ("gradient, at the start", start),
        ("after training", end),
        ("shortfall", score),
    ]
    panels = [(title, of) for title, of in panels if of]
    figure, axes = figures.new(len(panels), width=7.8, height=3.2)
    for axis, (title, of) in zip(np.atleast_1d(axes), panels, strict=True):
        for name, series in of.items():
            method, dash = styles[name]
            values = np.array([series[depth] for depth in sorted(series)]).T
            figures.band(axis, sorted(series), values, method, name=name, linestyle=dash)
        axis.set(xlabel="hidden layers", title=title)
        axis.set_xticks(sorted(series))
        if title != "shortfall":
            axis.set_yscale("log")
    _shared_legend(figure)
    return figure


def by_kernel(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], styles: Mapping[str, tuple[str, str]]
) -> Figure:
    """One panel a moment: norm of the loss's gradient with respect to each kernel, input first, by series and seed."""
    figure, axes = figures.new(len(panels), width=3.9 * len(panels) + 0.4, height=3.2, sharey=True)
    for axis, (title, of) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for name, seeds in of.items():
            method, dash = styles[name]
            values = np.array(seeds)
            kernels = np.arange(1, values.shape[1] + 1)
            figures.band(axis, kernels, values, method, name=name, linestyle=dash)
        axis.set(xlabel="kernel, from the input", title=title, yscale="log")
        axis.set_xticks(kernels)
    np.atleast_1d(axes)[0].set_ylabel("norm of the loss's gradient")
    _shared_legend(figure)
    return figure


def _shared_legend(figure: Figure) -> None:
    """One legend above all panels, with every series that stands in any of them."""
    found = {
        name: handle
        for axis in figure.axes
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(found.values()), list(found), loc="outside upper center", ncols=3, fontsize=9, handlelength=3
    )


def _most(summaries: Mapping[str, Mapping[str, Any]]) -> int:
    return max((len(of) for of in summaries.values()), default=1)
