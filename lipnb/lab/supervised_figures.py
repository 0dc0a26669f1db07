"""The figures of the chapters on supervised training: each takes what the chapter computed and returns a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import circles, figures
from lipnb.lab.shrinkage import frobenius_flow, spectral_flow
from lipnb.lab.statistics import Interval
from lipnb.lab.supervised_results import METHODS, Group, Key, Setting, compare, lost_under_attack

__all__ = [
    "attack_against_certificate",
    "certificate",
    "decay_series",
    "duels",
    "flows",
    "robustness",
    "spectra",
    "tendency",
]

INK = circles.INK
COLORS = figures.COLORS


def certificate(constant: float, x: float) -> Figure:
    """Left: logits ±(constant/√2)·x of one input and both radii at ``x``; right: the plane of the two logits."""
    slope, margin = constant / np.sqrt(2), np.sqrt(2) * constant * x
    safe, wrong = margin / (np.sqrt(2) * constant), margin / constant
    figure, (left, right) = figures.new(2, width=8.4, height=3.6, width_ratios=[1.25, 1])
    line = np.array([-1.2, 2.8]) * x
    left.plot(line, slope * line, color=COLORS["estimate"], label="$f_1$")
    left.plot(line, -slope * line, color=COLORS["spectral_norm"], label="$f_2$")
    for radius, y, key, name in (
        (safe, -2.1, "exact", r"$m/(\sqrt{2}\,C)$: up to the tie"),
        (wrong, -2.6, "bound", "$m/C$: beyond it"),
    ):
        left.plot([x - radius, x + radius], [y * slope * x] * 2, color=COLORS[key], linewidth=4, label=name)
    left.plot([x, x], [-slope * x, slope * x], "o:", color=INK, linewidth=1.2)
    left.annotate("$m$", (x, 0), (6, 8), textcoords="offset points")
    left.plot([0, 0], [-3 * slope * x, 2.4 * slope * x], "--", color=INK, linewidth=1)
    left.set(xlabel="input", ylabel="logits", ylim=(-3.1 * slope * x, 4.2 * slope * x))
    left.legend(fontsize=8.5, loc="upper left", ncols=2)
    point, reach = np.array([slope * x, -slope * x]), 3.2 * slope * x
    right.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$f_1$", ylabel="$f_2$")
    right.plot([-reach, reach], [-reach, reach], "--", color=INK, linewidth=1)
    for radius, key in ((margin / np.sqrt(2), "exact"), (margin, "bound")):
        angle = np.linspace(0, 2 * np.pi, 181)
        right.plot(*(point[:, None] + radius * np.array([np.cos(angle), np.sin(angle)])), color=COLORS[key])
    right.plot(*point, "o", color=INK)
    right.annotate("$f(x)$", point, (6, -12), textcoords="offset points")
    right.text(-0.62 * reach, -0.55 * reach, "tie", rotation=45, fontsize=9, ha="center", va="bottom")
    return figure


def attack_against_certificate(
    points: Mapping[str, tuple[np.ndarray, np.ndarray]], keys: Mapping[str, str]
) -> Figure:
    """Certified radius and distance of the nearest label change found, image by image; right: shares broken.

    ``points`` maps a network's name to the two arrays, ``keys`` to the colour it has.
    """
    figure, (left, right) = figures.new(2, width=8.4, height=3.7)
    ends = [np.inf, 0.0]
    for (name, (certified, distance)), mark in zip(points.items(), "os^Dv", strict=False):
        shown = np.isfinite(distance) & (certified > 0)
        left.plot(
            certified[shown],
            distance[shown],
            mark,
            color=COLORS[keys[name]],
            markersize=3.5,
            alpha=0.6,
            label=name,
        )
        ends = [min(ends[0], *certified[shown]), max(ends[1], *certified[shown])]
        ratio = np.sort(np.where(certified > 0, distance / np.where(certified > 0, certified, 1), np.inf))
        share = np.arange(1, len(ratio) + 1) / len(ratio)
        right.step(
            ratio[np.isfinite(ratio)], share[np.isfinite(ratio)], where="post", color=COLORS[keys[name]]
        )
    left.plot(ends, ends, "--", color=INK, linewidth=1.2)
    left.set(xscale="log", yscale="log", xlabel="certified radius", ylabel="nearest label change found")
    left.legend(fontsize=8.5, loc="lower right")
    right.axvspan(0.5, 1, color=COLORS["exact"], alpha=0.15, linewidth=0)
    right.axvline(1, color=INK, linestyle="--", linewidth=1.2)
    figures.log_axis(right, "x")
    right.set(xlabel="radius of the attack / certified radius", ylabel="share of labels changed")
    right.set(ylim=(-0.02, 1.02), xlim=(0.5, None))
    return figure


def tendency(members: Sequence[Group]) -> Figure:
    """Both ends of each run's constant against the labels it loses under attack and its gap of accuracy.

    A method's stronger penalties have larger marks.
    """
    figure, axes = figures.new(2, 2, width=8.4, height=6.2, sharey="row", sharex="col")
    rows: tuple[tuple[Key, str], ...] = (
        (lost_under_attack, "labels lost under attack"),
        ("end_gap", "training − test accuracy"),
    )
    columns, shown = (("estimate", "lower bound found"), ("bound", "proven bound")), set[str]()
    strengths = {g.method: sorted({h.strength for h in members if h.method == g.method}) for g in members}
    for row, (key, y_label) in zip(axes, rows, strict=True):
        for axis, (constant, _) in zip(row, columns, strict=True):
            for g in sorted(members, key=lambda g: (METHODS.index(g.method), g.strength)):
                mark, label = figures.MARKERS[g.method], None if g.method in shown else g.label
                size = 4.5 + 2 * strengths[g.method].index(g.strength)
                axis.plot(
                    g.values(constant),
                    g.values(key),
                    mark,
                    color=COLORS[g.method],
                    alpha=0.75,
                    label=label,
                    markersize=size,
                )
                shown.add(g.method)
        row[0].set_ylabel(y_label)
    for axis, (_, x_label) in zip(axes[1], columns, strict=True):
        axis.set_xlabel(x_label)
    _legend(figure, axes[0, 0], columns=4)
    return figure


def flows(sigma: Sequence[float], strength: float, end: float) -> Figure:
    """Singular values under the two penalties alone: over time, and as paths in the plane of two of them."""
    figure, axes = figures.new(3, width=9, height=3.3)
    times = np.linspace(0, end, 400)
    for axis, flow, name in zip(
        axes, (frobenius_flow, spectral_flow), ("l2", "spectral_penalty"), strict=False
    ):
        axis.plot(times, flow(sigma, strength, times), color=COLORS[name], linewidth=1.6)
        axis.set(xlabel="time", title=figures.LABELS[name], ylim=(0, 1.05 * sigma[0]))
    axes[0].set_ylabel("singular values")
    for start in ((3.0, 1.0), (3.0, 2.2), (1.2, 3.0), (2.2, 0.4)):
        order = np.argsort(start)[::-1]
        for flow, name in ((frobenius_flow, "l2"), (spectral_flow, "spectral_penalty")):
            path = flow(np.array(start)[order], strength, np.linspace(0, 5 * end, 400))[:, np.argsort(order)]
            axes[2].plot(
                *path.T,
                color=COLORS[name],
                linewidth=1.5,
                label=figures.LABELS[name] if start[1] == 1 else None,
            )
        axes[2].plot(*start, "o", color=INK)
    axes[2].set(xlim=(0, 3.2), ylim=(0, 3.2), aspect="equal", xlabel="one singular value", ylabel="another")
    return figure


def spectra(
    by_method: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], layers: Sequence[str]
) -> Figure:
    """Singular values of each layer, at the start (dotted, grey) and at the end of training, by method (start, end)."""
    figure, axes = figures.new(max(len(layers), 1), width=9, height=3.4, squeeze=False)
    for axis, layer in zip(axes[0], layers, strict=False):
        axis.set(title=layer, xlabel="$k$", xscale="log")
    axes[0, 0].set_ylabel("$\\sigma_k$")
    for i, (method, layers_of) in enumerate(by_method.items()):
        for axis, (start, end) in zip(axes[0], layers_of, strict=True):
            ranks = np.arange(1, len(end) + 1)
            if i == 0:
                axis.plot(ranks, start, ":", color=INK, label="start")
            axis.plot(ranks, end, color=COLORS[method], label=figures.LABELS[method])
    if by_method:
        _legend(figure, axes[0, 0], columns=5)
    return figure


def decay_series(series: Sequence[Group], keys: Mapping[str, str]) -> Figure:
    """Each of ``keys`` (quantity → label) against the strength of the l2 penalty: every run, and the mean over seeds."""
    figure, axes = figures.new(len(keys), width=9, height=3.1)
    strengths = [g.strength for g in series]
    floor = (
        min((s for s in strengths if s), default=1.0) / 10
    )  # where no penalty stands on a logarithmic axis
    for axis, (key, label) in zip(axes, keys.items(), strict=True):
        for g in series:
            x = g.strength or floor
            axis.plot(
                [x] * len(g.values(key)), g.values(key), "|", color=COLORS[g.method], markersize=9, alpha=0.7
            )
        means = [np.mean(g.values(key)) for g in series]
        axis.plot([s or floor for s in strengths], means, "-s", color=COLORS["l2"], linewidth=1.4)
        axis.set(xscale="log", xlabel="strength λ", title=label)
        axis.set_xticks(
            [s or floor for s in strengths],
            [f"{s:.0e}".replace("e-0", "e−") if s else "0" for s in strengths],
        )
        axis.tick_params(axis="x", which="minor", bottom=False)
        axis.tick_params(axis="x", labelsize=8.5)
    return figure


def duels(measured: Mapping[Setting, Mapping[tuple[str, str], Interval]]) -> Figure:
    """Advantage of the spectral norm penalty over each rival in points, with its interval, setting by setting."""
    figure, axes = figures.new(2, width=9, height=1.6 + 0.75 * max(len(measured), 1), sharey=True)
    names = {
        "accuracy": "final test accuracy: advantage in points",
        "gap": "generalization gap: advantage in points",
    }
    for axis, (measure, label) in zip(axes, names.items(), strict=True):
        for y, row in enumerate(measured.values()):
            for i, ((rival, kind), interval) in enumerate(row.items()):
                if kind == measure and np.isfinite(interval.mean):
                    _bar(axis, y + 0.22 * (i % 3 - 1), interval, rival)
        axis.axvline(0, color=INK, linestyle=":")
        axis.set_xlabel(label)
        axis.locator_params(axis="x", nbins=6)
    axes[0].set_yticks(range(len(measured)), [s.label.replace(", batch", ",\nbatch") for s in measured])
    axes[0].set_ylim(max(len(measured), 1) - 0.6, -0.4)
    if measured:
        for rival in dict.fromkeys(rival for row in measured.values() for rival, _ in row):
            axes[0].plot(
                [], [], figures.MARKERS[rival], color=COLORS[rival], label=f"over {figures.LABELS[rival]}"
            )
        _legend(figure, axes[0], columns=3)
    return figure


def robustness(by_setting: Mapping[Setting, Mapping[str, Group]]) -> Figure:
    """What each method adds to test accuracy and to accuracy under attack, in points: paired with no penalty, by setting.

    At most three panels stand side by side.
    """
    shown = {
        setting: members for setting, members in by_setting.items() if "none" in members and len(members) > 1
    }
    columns, rows = min(max(len(shown), 1), 3), max(-(-len(shown) // 3), 1)
    figure, axes = figures.new(
        columns, rows, width=min(4.6 * columns, 9), height=0.8 + 3 * rows, squeeze=False
    )
    for axis in axes.flat[max(len(shown), 1) :]:
        axis.remove()
    for axis, (setting, members) in zip(axes.flat, shown.items(), strict=False):
        axis.axhline(0, color=INK, linestyle=":")
        axis.axvline(0, color=INK, linestyle=":")
        for method, group in members.items():
            if method != "none":
                right, up = (
                    compare(group, members["none"], key) for key in ("test_accuracy", "robust_accuracy")
                )
                _cross(axis, right, up, method)
        axis.set_xlabel("test accuracy, points added")
        axis.set_title(setting.label.replace(", batch", ",\nbatch"), fontsize=9)
    for row in axes:
        row[0].set_ylabel("accuracy under attack,\npoints added")
    if shown:
        _legend(figure, axes[0, 0], columns=3)
    return figure


def _cross(axis, x: Interval, y: Interval, key: str) -> None:
    """A mark with both its intervals, in points."""
    ends = [100 * np.nan_to_num([[i.mean - i.low], [i.high - i.mean]]) for i in (x, y)]
    axis.errorbar(
        100 * x.mean,
        100 * y.mean,
        xerr=ends[0],
        yerr=ends[1],
        color=COLORS[key],
        marker=figures.MARKERS[key],
        label=figures.LABELS[key],
        capsize=2,
        linewidth=1.2,
    )


def _bar(axis, y: float, interval: Interval, key: str) -> None:
    axis.plot([100 * interval.mean], [y], figures.MARKERS[key], color=COLORS[key], markersize=6)
    if interval.known:
        axis.plot([100 * interval.low, 100 * interval.high], [y, y], color=COLORS[key], linewidth=1.6)


def _legend(figure: Figure, axis, columns: int) -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=columns)
