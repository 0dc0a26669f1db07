"""Figures of the Keras chapter: where constraints lead, gradients by backend, one layer's trainings, batch norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import figures
from lipnb.lab.circles import INK

__all__ = ["batch_norm", "gradients", "paths_and_training", "two_behaviours"]

# A method of the chapter → the book's key for its colour and mark, its name, and how its line is drawn.
LOOK: Mapping[str, tuple[str, str, str]] = {
    "divide": ("spectral_constraint", "constraint: divide by σ", "-"),
    "clip": ("exact", "constraint: clip all σᵢ", "--"),
    "keras": ("keras_spectral_norm", "Keras's wrapper", ":"),
    "reparametrise": ("spectral_norm", "reparametrisation", "-"),
    "lipnb": ("spectral_norm", "lipnb's wrapper", "-"),
}
BACKENDS = {"tensorflow": "TensorFlow", "torch": "PyTorch", "jax": "JAX"}


def paths_and_training(
    paths: Mapping[str, np.ndarray], goal: np.ndarray, curves: Mapping[str, Sequence[float]]
) -> Figure:
    """Left: ``paths`` (steps, 2) of two singular values to the point nearest to ``goal``; right: losses by method."""
    figure, axes = figures.new(2, height=3.5, width_ratios=[1, 1.15])
    axes[0].fill_between([-1, 1], -1, 1, color=INK, alpha=0.15, linewidth=0)
    for radius in np.arange(0.3, 3.1, 0.3):
        angle = np.linspace(0, 2 * np.pi, 200)
        ring = goal[:, None] + radius * np.array([np.cos(angle), np.sin(angle)])
        axes[0].plot(*ring, color=INK, linewidth=0.5, alpha=0.5)
    axes[0].plot([0, goal[0]], [0, goal[1]], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes[0].plot(*goal, "x", color=INK, markersize=9, markeredgewidth=2)
    axes[0].annotate("$V$", goal, xytext=(6, 2), textcoords="offset points")
    for name, path in paths.items():
        _draw(axes[0], name, *path.T)
        axes[0].plot(*path[-1], figures.MARKERS.get(LOOK[name][0], "o"), color=_color(name), markersize=8)
    axes[0].plot(*next(iter(paths.values()))[0], "o", color=INK)
    axes[0].set(xlim=(-0.35, 2.2), ylim=(-1.05, 1.5), aspect="equal", xlabel="$s_1$", ylabel="$s_2$")
    axes[0].set_title("weights diag($s_1$, $s_2$)")
    axes[0].grid(False)
    for name, curve in curves.items():
        _draw(axes[1], name, np.arange(len(curve)), curve)
    axes[1].set(xlabel="step", title="loss / least loss with $\\|W\\|_2 \\leq 1$", ylim=(0.9, 3))
    axes[1].legend(loc="upper right", fontsize=9)
    return figure


def gradients(reports: Mapping[str, dict[str, Any]], exact: np.ndarray) -> Figure:
    """Each backend's gradients, entry by entry, against finite differences ``exact`` of the reparametrisation."""
    figure, axes = figures.new(len(reports), height=3.3, sharey=True)
    entries = np.concatenate([exact.ravel(), *(r["gradients"]["divide"] for r in reports.values())])
    margin = 0.08 * np.ptp(entries)
    low, high = np.min(entries) - margin, np.max(entries) + margin
    for axis, (backend, report) in zip(axes, reports.items(), strict=True):
        axis.plot([low, high], [low, high], color=INK, linewidth=1)
        for name, size, filled in (("divide", 9, False), ("keras", 6, True), ("lipnb", 4.5, True)):
            face = _color(name) if filled else "none"
            axis.plot(
                exact.ravel(),
                report["gradients"][name],
                figures.MARKERS.get(LOOK[name][0], "o") if filled else "o",
                color=_color(name),
                markerfacecolor=face,
                markersize=size,
                linestyle="none",
                label=LOOK[name][1] if name != "divide" else "constraint",
            )
        axis.set(title=BACKENDS[backend], xlim=(low, high), ylim=(low, high), aspect="equal")
        axis.set_xlabel("finite difference")
    axes[0].set_ylabel("backend's gradient")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def two_behaviours(reports: Mapping[str, dict[str, Any]]) -> Figure:
    """Left: training losses with Keras's wrapper by backend; right: norms of the kernel that inference uses."""
    figure, axes = figures.new(2, height=3.1, width_ratios=[1.2, 1])
    lines = {"tensorflow": ("-", 4.5, 0.45), "torch": ((0, (3, 2)), 1.8, 1.0), "jax": ("-", 1.8, 1.0)}
    for backend, report in reports.items():
        dash, width, alpha = lines[backend]
        options = {"linestyle": dash, "linewidth": width, "alpha": alpha, "label": BACKENDS[backend]}
        color = INK if backend == "jax" else _color("keras")
        axes[0].plot(report["curves"]["keras"], color=color, **options)
    axes[0].set(xlabel="step", title="Keras's wrapper: loss / least loss", ylim=(0.9, 3))
    axes[0].legend(fontsize=9)
    for row, backend in enumerate(reports):
        for name, shift in (("keras", -0.15), ("lipnb", 0.15)):
            found = {(c["check"], c["wrapper"]): c["number"] for c in reports[backend]["checks"]}
            axes[1].plot(
                found["inference", name],
                row + shift,
                figures.MARKERS[LOOK[name][0]],
                color=_color(name),
                markersize=8,
                label=LOOK[name][1] if row == 0 else None,
            )
    axes[1].axvline(1, color=INK, linewidth=1, linestyle="--")
    axes[1].set(yticks=range(len(reports)), yticklabels=[BACKENDS[b] for b in reports], ylim=(2.6, -0.6))
    axes[1].set(xlabel="spectral norm", title="kernel used at inference", xlim=(0.7, 3.1))
    axes[1].legend(fontsize=9, loc="center right")
    return figure


def batch_norm(
    variances: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    samples: np.ndarray,
    gains: Mapping[str, Sequence[float]],
) -> Figure:
    """Left: constants of layers with ‖γ‖₂ = 1 over a common variance; right: a critic's slope behind each layer."""
    figure, axes = figures.new(2, height=3.3)
    axes[0].fill_between(variances, low, high, color=figures.COLORS["bound"], alpha=0.25, linewidth=0)
    axes[0].plot(variances, samples, ".", color=figures.COLORS["bound"], markersize=3)
    axes[0].axhline(1, color=_color("divide"), linestyle="--", label="$\\|\\gamma\\|$, what is set to 1")
    axes[0].set(xscale="log", yscale="log", xlabel="variance of every channel")
    axes[0].set_title("constant of the layer")
    axes[0].legend(fontsize=9, loc="upper right")
    for (name, gain), (color, mark) in zip(
        gains.items(), ((figures.COLORS["none"], "o"), (_color("divide"), "X")), strict=True
    ):
        axes[1].semilogy(range(len(gain)), gain, color=color, marker=mark, label=name)
    axes[1].set(xlabel="batch normalizations passed", title="spread of the signal", xticks=range(len(gain)))
    axes[1].legend(fontsize=9, loc="lower left")
    return figure


def _color(name: str) -> str:
    return figures.COLORS[LOOK[name][0]]


def _draw(axis: Any, name: str, x: Any, y: Any) -> None:
    axis.plot(
        x,
        y,
        LOOK[name][2],
        color=_color(name),
        label=LOOK[name][1],
        linewidth={"divide": 3.2, "keras": 2.6}.get(name, 1.8),
    )
