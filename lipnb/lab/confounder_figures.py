"""The figures of the chapter on confounders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lipnb.lab import confounder_results as results
from lipnb.lab import figures, waiting
from lipnb.lab.statistics import mean_interval

__all__ = ["constants", "differences", "ends", "layers"]

Cells = Mapping[results.Cell, Mapping[int, dict[str, Any]]]


def ends(found: Cells) -> Figure:
    """Final distance of every cell, the best at the top: one mark a seed, mean and t-interval."""
    ended = [cell for cell in found if results.finals(found[cell], "fid_test")]
    order = sorted(ended, key=lambda cell: -np.mean(results.finals(found[cell], "fid_test")))
    if not order:
        return waiting.figure()
    figure, axis = figures.new(width=9, height=0.34 * len(order) + 0.9)
    for y, cell in enumerate(order):
        values = results.finals(found[cell], "fid_test")
        figures.interval(axis, y, values, mean_interval(values), cell.method)
    figures.log_axis(axis, "x")
    axis.set(xlabel="FID to the test images")
    axis.set_yticks(range(len(order)), [results.label(cell) for cell in order])
    return figure


def differences(found: Cells) -> Figure:
    """One row a question: the paired difference of final distances and its t-interval."""
    asked = [q for q in results.QUESTIONS if np.isfinite(results.difference(found, q).mean)]
    if not asked:
        return waiting.figure()
    figure, axis = figures.new(width=9, height=0.42 * len(asked) + 0.9)
    for y, question in enumerate(reversed(asked)):
        interval = results.difference(found, question)
        color = figures.COLORS[question.other.method]
        axis.plot([interval.mean], [y], figures.MARKERS[question.other.method], color=color)
        if interval.known:
            axis.plot([interval.low, interval.high], [y, y], color=color)
    axis.axvline(0, color=figures.COLORS["none"], linestyle=":")
    axis.set_xscale("symlog", linthresh=10)
    axis.set_xticks([-100, -30, -10, -5, 0, 5, 10, 30, 100])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set(xlabel="change of the final FID (left: better)")
    axis.set_yticks(range(len(asked)), [q.text for q in reversed(asked)], fontsize=9)
    return figure


def layers(found: Cells, shown: list[results.Cell]) -> Figure:
    """Norm of each layer of the trained critics: open marks as a matrix, full ones as the operator that it is."""
    trained = [cell for cell in shown if results.norms(found.get(cell, {}), "operator").size]
    if not trained:
        return waiting.figure()
    figure, axis = figures.new(width=8, height=3.6)
    for i, cell in enumerate(trained):
        x = np.arange(len(results.LAYERS)) + 0.14 * (i - (len(trained) - 1) / 2)
        color = figures.COLORS[cell.method]
        marker = "*" if cell.restart else figures.MARKERS[cell.method]
        matrix, operator = (
            results.norms(found[cell], kind).mean(axis=0) for kind in ("reshaped", "operator")
        )
        axis.plot(x, matrix, marker, color=color, fillstyle="none")
        axis.plot(x, operator, marker, color=color, label=results.label(cell))
        axis.vlines(x, np.minimum(matrix, operator), np.maximum(matrix, operator), color=color, linewidth=1)
    axis.axhline(1, color=figures.COLORS["none"], linestyle=":")
    axis.set_xticks(range(len(results.LAYERS)), results.LAYERS)
    axis.set(ylabel="norm", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure


def constants(found: Cells) -> Figure:
    """The Lipschitz constant of each critic lies on its line: from the largest slope found to the proven bound."""
    trained = [cell for cell in found if results.interval_of(found[cell])["upper"]]
    order = sorted(trained, key=lambda cell: -np.mean(results.interval_of(found[cell])["upper"]))
    if not order:
        return waiting.figure()
    figure, axis = figures.new(width=9, height=0.36 * len(order) + 1.0)
    for y, cell in enumerate(order):
        found_of = results.interval_of(found[cell])
        low, high = (np.exp(np.mean(np.log(found_of[key]))) for key in ("lower", "upper"))
        color = figures.COLORS[cell.method]
        axis.plot([low, high], [y, y], color=color, linewidth=3, alpha=0.6, solid_capstyle="butt")
        axis.plot([np.mean(found_of["at_points"])], [y], figures.MARKERS[cell.method], color=color)
    axis.axvline(1, color=figures.COLORS["none"], linestyle=":")
    figures.log_axis(axis, "x")
    ticks = [0.1, 1, 10, 100, 1000]  # few: long labels leave little room
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set(xlabel="Lipschitz constant\n(mark: largest gradient at images)")
    axis.set_yticks(range(len(order)), [results.label(cell) for cell in order])
    return figure
