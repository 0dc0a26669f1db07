"""The figures of the chapter on many classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import class_results, figures, waiting
from lipnb.lab.mixtures import centres
from lipnb.lab.statistics import mean_interval

__all__ = ["against_modes", "between_modes", "garments", "points"]

Found = Mapping[tuple[str, str], Mapping[int, dict[str, Any]]]
CENTRE = {"color": figures.COLORS["spectral_norm"], "markersize": 8, "markeredgewidth": 1.6, "zorder": 3}
POINT = {"color": figures.COLORS["estimate"], "markersize": 2, "alpha": 0.5, "zorder": 2, "rasterized": True}
TITLES = {"misplaced": "misplaced mass", "modes": "share of modes found", "quality": "share near a mode"}


def _curve(axis, found: Found, key: tuple[str, str], measure: str, scale) -> None:
    runs = found[key]
    modes = next(iter(runs.values()))["parameters"]["modes"]
    intervals = [mean_interval(np.divide(class_results.values(runs, k, measure), scale(k))) for k in modes]
    style = {"linestyle": "--"} if key[1] != "wasserstein" else {}
    means = [i.mean for i in intervals]
    color = figures.COLORS[key[0]]
    axis.plot(
        modes, means, color=color, marker=figures.MARKERS[key[0]], label=figures.game_label(*key), **style
    )
    ends = np.array([[i.low, i.high] if i.known else [i.mean] * 2 for i in intervals])
    axis.fill_between(modes, *ends.T, color=color, alpha=0.2, linewidth=0)


def _modes_axis(axis, modes: list[int]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(modes, [str(k) for k in modes])
    axis.minorticks_off()
    axis.set_xlabel("number of modes")


def against_modes(found: Found) -> Figure:
    """Each measure against the number of modes: mean over seeds and t-interval; dotted, real points."""
    if not found:
        return waiting.figure()
    figure, axes = figures.new(3, width=9, height=3.4)
    record = next(iter(next(iter(found.values())).values()))
    modes = record["parameters"]["modes"]
    for axis, (measure, title) in zip(axes, TITLES.items(), strict=True):
        scale = (lambda k: k) if measure == "modes" else (lambda k: 1)
        for key in found:
            _curve(axis, found, key, measure, scale)
        floor = [record["floor"][str(k)][measure] / scale(k) for k in modes]
        axis.plot(modes, floor, ":", color=figures.COLORS["none"], label="real points")
        _modes_axis(axis, modes)
        axis.set(title=title, ylim=(-0.03, 1.05))
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4)
    return figure


def points(arrays: Mapping[str, Mapping[str, np.ndarray]], modes: list[int]) -> Figure:
    """Generated points of one seed: a row a method (by its name), a column a number of modes; crosses are centres."""
    if not arrays:
        return waiting.figure()
    figure, axes = figures.new(
        len(modes), len(arrays), width=9, height=3.1 * len(arrays), squeeze=False, sharex="col", sharey="col"
    )
    for row, (name, made) in zip(axes, arrays.items(), strict=True):
        for axis, k in zip(row, modes, strict=True):
            where = centres(k)
            reach = 1.25 * np.abs(where).max() + 0.5
            axis.plot(*where.T, "+", **CENTRE)
            axis.plot(*made[f"modes{k}"].T, ".", **POINT)
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=f"{name}, {k} modes")
            axis.title.set_fontsize(9)
    return figure


def between_modes(found: Found) -> Figure:
    """Gradient norms of the critics against the number of modes: largest at real points, mean on the segments."""
    if not found:
        return waiting.figure()
    figure, axes = figures.new(2, width=8.4, height=3.2)
    titles = {
        "gradient_norm_max": "largest at real points",
        "gradient_norm_between": "mean between real and generated",
    }
    for axis, (measure, title) in zip(axes, titles.items(), strict=True):
        for key, runs in found.items():
            modes = next(iter(runs.values()))["parameters"]["modes"]
            rows = [class_results.values(runs, k, measure) for k in modes]
            style = {"linestyle": "--"} if key[1] != "wasserstein" else {}
            figures.band(axis, modes, np.transpose(rows), key[0], figures.game_label(*key), **style)
        axis.axhline(1, color=figures.COLORS["none"], linestyle=":")
        _modes_axis(axis, modes)
        axis.set_title(title)
    axes[0].set_ylabel("gradient norm of the critic")
    axes[0].legend(fontsize=8)
    return figure


def garments(samples: Mapping[str, np.ndarray]) -> Figure:
    """36 generated images of each method (by its name), a column a method."""
    if not samples:
        return waiting.figure()
    figure, axes = figures.new(len(samples), width=9, height=3.4, squeeze=False)
    for axis, (name, images) in zip(axes[0], samples.items(), strict=True):
        figures.image_grid(axis, images[:36], columns=6)
        axis.set_title(name, fontsize=9)
    return figure
