"""The figures of the chapter on the Wasserstein critic: each takes what the chapter computed and returns a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from lipnb.lab import circles, figures
from lipnb.lab.transport import Transport

__all__ = ["coupled_batch", "norm_one", "on_the_line", "points_between", "pushes", "rays", "training"]

Array = np.ndarray
INK = circles.INK
REAL, FAKE = figures.COLORS["weight_clip"], "#5b6fc4"  # ochre and indigo: no method of this chapter
EXACT = figures.COLORS["exact"]


def on_the_line(
    real: Array, fake: Array, exact: Callable[[Array], Array], critics: Mapping[str, tuple[Array, Array]]
) -> Figure:
    """Left: distribution functions with the area between them; right: ``exact`` potential and trained ``critics`` (t, f).

    Critics are named by method; all functions are drawn with mean 0 over the samples.
    """
    figure, (left, right) = figures.new(2, height=3.3)
    low, high = min(real.min(), fake.min()), max(real.max(), fake.max())
    t = np.linspace(low - 0.6, high + 0.6, 1200)
    below = [np.searchsorted(np.sort(sample), t, side="right") / len(sample) for sample in (real, fake)]
    left.fill_between(t, *below, color=EXACT, alpha=0.3, linewidth=0, label="area: $W_1$")
    for values, color, name in zip(below, (REAL, FAKE), ("$F$, real", "$G$, generated"), strict=True):
        left.plot(t, values, color=color, label=name)
    left.set(xlabel="$x$", title="distribution functions")
    left.legend(fontsize=9, loc="upper left")
    samples = np.concatenate([real, fake])
    right.plot(t, exact(t) - exact(samples).mean(), color=EXACT, linewidth=2.6, label="optimal potential")
    for method, (grid, values) in critics.items():
        centred = values - np.interp(samples, grid, values).mean()
        color, name = figures.COLORS[method], figures.LABELS[method]
        right.plot(grid, centred, color=color, linewidth=1.4, label=name)
    right.set(xlabel="$x$", title="critics")
    right.legend(fontsize=8.5, loc="best")
    return figure


def training(histories: Mapping[str, Mapping[str, Sequence]], exact: Mapping[str, float]) -> Figure:
    """Mean f(real) − mean f(generated) over critic steps, on a logarithmic scale, beside ``exact`` W1.

    ``histories[pair][method]`` is (steps, values); ``exact[pair]`` the distance.
    """
    figure, axes = figures.new(len(histories), height=3.3, sharey=True)
    for axis, (title, by_method) in zip(axes, histories.items(), strict=True):
        for method, (steps, values) in by_method.items():
            axis.plot(
                steps,
                np.where(np.array(values) > 0, values, np.nan),  # at first some are negative
                figures.MARKERS[method] + "-",
                color=figures.COLORS[method],
                label=figures.LABELS[method],
            )
        axis.axhline(exact[title], color=EXACT, linestyle="--", label="exact $W_1$")
        axis.set(xlabel="critic steps", title=title, yscale="log")
    axes[0].set_ylim(bottom=3e-3)
    axes[0].set_ylabel("critic's value")
    axes[0].legend(fontsize=8.5, loc="upper left")
    return figure


def rays(
    found: Transport,
    samples: tuple[Array, Array],
    segments: Mapping[str, Array],
    norms: Mapping[str, Array],
    reach: float,
) -> Figure:
    """Segments (k, 2, 2) coloured by the gradient ``norms`` (k, points) along them; right: shares of the norms.

    ``samples`` are the real and the generated points to draw, the level lines those of ``found.middle``.
    """
    figure, axes = figures.new(len(segments) + 1, height=2.9, width_ratios=[1] * len(segments) + [1.05])
    grid = np.stack(np.meshgrid(*[np.linspace(-reach, reach, 90)] * 2), axis=-1)
    levels = found.middle(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    for axis, (title, ends) in zip(axes, segments.items(), strict=False):
        circles.plane(axis, reach)
        axis.contour(*np.moveaxis(grid, -1, 0), levels, levels=14, colors=INK, linewidths=0.5, alpha=0.45)
        axis.add_collection(_coloured(ends, norms[title]))
        for sample, color, size in zip(samples, (REAL, FAKE), (5.5, 3), strict=True):
            axis.plot(*sample.T, "o", color=color, markersize=size)
        axis.set_title(title)
    bins = np.linspace(0, 1, 21) + 1e-9
    for (title, values), color in zip(
        norms.items(), (EXACT, figures.COLORS["gradient_penalty"]), strict=True
    ):
        share = np.full(values.size, 1 / values.size)
        axes[-1].hist(np.ravel(values) - 1e-6, bins, weights=share, color=color, alpha=0.65, label=title)
    axes[-1].set(xlabel="$\\|\\nabla f\\|$", title="share of points", ylim=(0, 1.3), yticks=[0, 0.5, 1])
    axes[-1].legend(fontsize=8.5, loc="upper left")
    return figure


def _coloured(ends: Array, norms: Array) -> LineCollection:
    """Each segment cut into as many pieces as ``norms`` has columns, coloured from blue (0) to orange (1)."""
    shares = np.linspace(0, 1, norms.shape[1] + 1)[:, None]
    corners = ends[:, None, 0] * (1 - shares) + ends[:, None, 1] * shares
    pieces = np.stack([corners[:, :-1], corners[:, 1:]], axis=2).reshape(-1, 2, 2)
    lines = LineCollection(list(pieces), cmap="plasma", norm=Normalize(-0.1, 1.25), linewidths=1.3)
    lines.set_array(norms.ravel())
    return lines


def norm_one(functions: Mapping[str, tuple[Array, Array]], real: float, fake: float) -> Figure:
    """Graphs (t, f) of functions on the line, the segment between one ``real`` and one ``fake`` point shaded."""
    figure, axes = figures.new(len(functions), height=2.6, sharey=True)
    for axis, (title, (t, values)) in zip(axes, functions.items(), strict=True):
        axis.axvspan(fake, real, color=figures.COLORS["gradient_penalty"], alpha=0.15, linewidth=0)
        axis.plot(t, values, color=INK)
        for point, color in ((real, REAL), (fake, FAKE)):
            axis.plot(point, np.interp(point, t, values), "o", color=color, markersize=8, zorder=5)
        axis.set(title=title, xlabel="$x$", ylim=(-1.6, 2.6))
    axes[0].set_ylabel("$f(x)$")
    return figure


def pushes(found: Transport, directions: Array, reach: float) -> Figure:
    """Left: generated points with an arrow along ``directions`` (m, 2); right: the optimal coupling."""
    figure, axes = figures.new(2, height=3.5)
    for axis, title in zip(axes, ("generator's push: $\\nabla f$", "optimal coupling"), strict=True):
        circles.plane(axis, reach)
        axis.plot(*found.real.T, "o", color=REAL, markersize=4, label="real")
        axis.plot(*found.fake.T, "o", color=FAKE, markersize=4, label="generated")
        axis.set_title(title)
    axes[0].quiver(
        *found.fake.T, *directions.T, color=EXACT, angles="xy", scale_units="xy", scale=1.8, width=0.006
    )
    i, j = found.pairs
    ends = np.stack([found.fake[j], found.real[i]], axis=1)
    axes[1].add_collection(LineCollection(list(ends), colors=EXACT, linewidths=1.1, zorder=0))
    axes[0].legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(-0.12, 1.02))
    return figure


def points_between(real: Array, fake: Array, choices: Mapping[str, Array], reach: float) -> Figure:
    """Samples in the plane and, panel by panel, the points ``choices`` (k, 2) at which a penalty would be taken."""
    figure, axes = figures.new(len(choices), height=2.5)
    for axis, (title, points) in zip(axes, choices.items(), strict=True):
        circles.plane(axis, reach)
        axis.plot(*points.T, ".", color=figures.COLORS["gradient_penalty"], markersize=1.6, alpha=0.55)
        axis.plot(*real[:150].T, ".", color=REAL, markersize=3)
        axis.plot(*fake[:150].T, ".", color=FAKE, markersize=3)
        axis.set_title(title, fontsize=10)
    return figure


def coupled_batch(sizes: Mapping[str, Array]) -> Figure:
    """Matrices of ‖∂D(xᵢ)/∂xⱼ‖ (n, n), each in shares of its largest entry, on a logarithmic scale; zeros are left out."""
    figure, axes = figures.new(len(sizes), height=3.0)
    for axis, (title, matrix) in zip(axes, sizes.items(), strict=True):
        shares = np.ma.masked_equal(matrix / matrix.max(), 0)
        picture = axis.imshow(shares, cmap="viridis", norm=LogNorm(1e-3, 1))
        axis.set(title=title, xlabel="derivative by sample $j$", xticks=[], yticks=[])
        axis.grid(False)
    axes[0].set_ylabel("output of sample $i$")
    figure.colorbar(picture, ax=axes, shrink=0.85, label="share of the largest")
    return figure
