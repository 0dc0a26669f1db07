"""The figures of the chapters on matrix norms: each takes what the chapter computed and returns a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import circles, figures
from lipnb.lab.linear_algebra import norm_ratio, spectral_radius

__all__ = [
    "boxes",
    "convergence",
    "decay_paths",
    "filters",
    "frames",
    "images_and_samples",
    "ratios_and_spectra",
    "rounds_and_training",
    "starts",
]

INK = circles.INK
LONG_AXIS = figures.COLORS["spectral_norm"]
ROUNDING = 3e-16  # errors of numbers near 1 mean nothing below this


def boxes(cases: Mapping[str, tuple[float, float]]) -> Figure:
    """Images of the unit circle with half axes ``cases[name]``, each in its box: σ₁ beside ‖W‖_F."""
    figure, axes = figures.new(len(cases), height=2.8)
    left, right = circles.rotation(0.3), circles.rotation(0.7)
    for axis, (name, sigma) in zip(axes, cases.items(), strict=True):
        matrix = left @ np.diag(sigma) @ right
        circles.plane(axis, 2.2)
        circles.image(axis, np.eye(2), color=INK, linewidth=1, linestyle=":")
        circles.image(axis, matrix, color=figures.COLORS["estimate"])
        corner = circles.box(axis, left, sigma, color=figures.COLORS["frobenius_norm"], linewidth=1)
        circles.arrow(axis, corner, figures.COLORS["frobenius_norm"])
        circles.arrow(axis, left[:, 0] * sigma[0], LONG_AXIS)
        axis.set_title(f"{name}: $\\|W\\|_F = {norm_ratio(matrix):.2f}\\,\\|W\\|_2$")
    axes[1].annotate("$\\|W\\|_F$", (1.15, 1.5), color=figures.COLORS["frobenius_norm"])
    axes[1].annotate("$\\sigma_1$", (1.75, 0.12), color=LONG_AXIS)
    return figure


def ratios_and_spectra(
    curves: Mapping[str, Sequence[float]],
    points: Mapping[str, tuple[int, float]],
    spectra: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Left: ``curves`` of ‖W‖_F/‖W‖₂ over rank 1, 2, … and ``points`` (rank, ratio); right: ``spectra`` (after, before).

    A point has the colour of the spectrum of the same name.
    """
    figure, (left, right) = figures.new(2, height=3.5)
    color = {name: f"C{i}" for i, name in enumerate(spectra)}
    for (name, curve), dash in zip(curves.items(), ("-", "--", "-.", ":"), strict=True):
        left.plot(np.arange(len(curve)) + 1, curve, dash, color=INK, linewidth=1.4, label=name)
    ranks = np.arange(len(next(iter(curves.values())))) + 1
    left.fill_between(ranks, 1, np.sqrt(ranks), color=INK, alpha=0.15, linewidth=0)
    for name, point in points.items():
        left.plot(*point, "D" if name in color else "o", color=color.get(name, "C4"), zorder=5)
    left.plot([], [], "o", color="C4", label="the book's classifier")
    left.set(xscale="log", yscale="log", xlabel="rank", ylabel="$\\|W\\|_F\\,/\\,\\|W\\|_2$", ylim=(0.95, 16))
    left.set(yticks=[1, 2, 5, 10], yticklabels=["1", "2", "5", "10"])
    left.legend(fontsize=8.5, loc="upper left")
    for name, (after, before) in spectra.items():
        for sigma, dash, label in ((after, "-", name), (before, ":", None)):
            right.plot(np.arange(len(sigma)) + 1, sigma / sigma[0], dash, color=color[name], label=label)
    right.set(xscale="log", xlabel="$k$", ylabel="$\\sigma_k\\,/\\,\\sigma_1$", ylim=(0, 1.02))
    right.legend(fontsize=8.5, loc="lower left", title="trained; dotted: at the start", title_fontsize=8.5)
    for axis in (left, right):
        axis.set(xticks=[1, 10, 100], xticklabels=["1", "10", "100"])
    return figure


def decay_paths(
    paths: Mapping[str, tuple[np.ndarray, np.ndarray]],
    curvature: np.ndarray,
    centre: np.ndarray,
    strength: float,
) -> Figure:
    """Paths (l2, weight decay) of two weights by optimizer, over ½Σ curvature·(w − centre)² + strength·Σw²."""
    figure, axes = figures.new(len(paths), height=3.1, sharey=True)
    grid = np.stack(np.meshgrid(np.linspace(-2, 2.6, 80), np.linspace(0.3, 2.3, 60)), axis=-1)
    loss = np.sum(curvature / 2 * (grid - centre) ** 2 + strength * grid**2, axis=-1)
    lowest = curvature * centre / (curvature + 2 * strength)
    for axis, (name, (l2, decay)) in zip(axes, paths.items(), strict=True):
        axis.contour(
            grid[..., 0],
            grid[..., 1],
            loss,
            levels=np.geomspace(1.5, 40, 12),
            colors=INK,
            linewidths=0.6,
            alpha=0.5,
        )
        axis.plot(
            *l2.T, color=figures.COLORS["frobenius_norm"], linewidth=3.5, alpha=0.6, label="l2 penalty λ"
        )
        axis.plot(*decay.T, "--", color=LONG_AXIS, label="weight decay 2λ")
        axis.plot(*l2[0], "o", color=INK)
        axis.plot(*lowest, "x", color=INK, markersize=9, markeredgewidth=2)
        axis.set(title=f"{name}: at most {np.max(np.abs(l2 - decay)):.2g} apart", xlabel="$w_1$")
        axis.grid(False)
    axes[0].set_ylabel("$w_2$")
    axes[0].legend(loc="lower left")
    return figure


def images_and_samples(matrices: Sequence[np.ndarray], best: Mapping[int, np.ndarray]) -> Figure:
    """Images of the unit circle under 2×2 ``matrices``; right: best share of the norm found, by dimension, over samples."""
    figure, axes = figures.new(len(matrices) + 1, height=2.9, width_ratios=[1] * len(matrices) + [1.25])
    for axis, matrix in zip(axes[:-1], matrices, strict=True):
        left, sigma, _ = np.linalg.svd(matrix)
        circles.plane(axis, 1.75)
        circles.image(axis, np.eye(2), color=INK, linewidth=1.2, linestyle=":")
        circles.image(axis, matrix, color=figures.COLORS["estimate"])
        circles.arrow(axis, np.copysign(sigma[0], left[0, 0]) * left[:, 0], LONG_AXIS)
        axis.set_title(f"$\\rho = {spectral_radius(matrix):.2f}$, $\\|W\\|_2 = {sigma[0]:.2f}$")
    for size, shares in best.items():
        axes[-1].plot(np.arange(len(shares)) + 1, shares, label=f"$n$ = {size}")
    axes[-1].axhline(1, color=INK, linewidth=1, linestyle="--")
    axes[-1].set(
        xscale="log", xlabel="random inputs tried", title="best ratio found / $\\|W\\|_2$", ylim=(0.05, 1.04)
    )
    axes[-1].legend(fontsize=8.5, loc="lower right")
    return figure


def frames(matrix: np.ndarray, iterates: np.ndarray, rounds: Sequence[int]) -> Figure:
    """Still frames of power iteration with a 2×2 ``matrix``: ``iterates`` u up to each of ``rounds``, and their images."""
    left, sigma, right = np.linalg.svd(matrix)
    figure, axes = figures.new(len(rounds), 2, height=3.4)
    for (above, below), r in zip(axes.T, rounds, strict=True):
        for axis, map_, long_axis in ((above, np.eye(2), right[0]), (below, matrix, left[:, 0])):
            circles.plane(axis, 1.2 * max(1, sigma[0]))
            circles.image(axis, map_, color=INK, linewidth=1.2)
            axis.plot(*np.outer(long_axis, [-1.15, 1.15]), "--", color=LONG_AXIS, linewidth=1.2)
            for u in iterates[:r]:
                circles.arrow(
                    axis, map_ @ u, figures.COLORS["estimate"], linewidth=1, alpha=0.35, arrowstyle="-"
                )
            circles.arrow(axis, map_ @ iterates[r], figures.COLORS["estimate"], linewidth=2.2)
        above.set_title(f"$r$ = {r}: {np.linalg.norm(matrix @ iterates[r]) / sigma[0]:.4f}")
    axes[0, 0].set_ylabel("$u$")
    axes[1, 0].set_ylabel("$Wu$")
    return figure


def convergence(
    measured: Mapping[float, Sequence[np.ndarray]], predicted: Mapping[float, Sequence[np.ndarray]]
) -> Figure:
    """Errors of (vector, value) over rounds by σ₂/σ₁, cut off at rounding, and the predicted ones, dashed."""
    figure, axes = figures.new(2, height=3.5, sharey=True)
    for k, ratio in enumerate(measured):
        for axis, error, asymptote in zip(axes, measured[ratio], predicted[ratio], strict=True):
            axis.semilogy(_above_rounding(error), color=f"C{k}", label=f"σ₂/σ₁ = {ratio}")
            axis.semilogy(asymptote, "--", color=f"C{k}", linewidth=1)
    axes[0].set(ylim=(1e-17, 30), xlabel="rounds $r$", title="vector: $\\tan\\theta_r$")
    axes[1].set(xlabel="rounds $r$", title="value: $1 - \\|Wu_r\\|^2/\\|W\\|_2^2$")
    axes[1].legend(fontsize=9, loc="upper right")
    return figure


def starts(estimates: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray]) -> Figure:
    """Left: ``estimates`` as shares of the norm over rounds, by start; right: ``errors`` for a repeated root."""
    figure, axes = figures.new(2, height=3.5)
    for (name, shares), dash in zip(estimates.items(), ("-", "-", "--", "-."), strict=True):
        axes[0].plot(shares, dash, label=name)
    axes[0].set(xlabel="rounds $r$", title="estimate / $\\|W\\|_2$", ylim=(0, 1.05))
    axes[0].legend(fontsize=8.5, loc="center right", bbox_to_anchor=(1, 0.42))
    for (name, error), color in zip(errors.items(), ("C3", "C0", "C2"), strict=True):
        axes[1].semilogy(_above_rounding(error), color=color, label=name)
    axes[1].set(xlabel="rounds $r$", title="errors, repeated root", ylim=(1e-17, 1e5))
    axes[1].legend(fontsize=8.5, loc="upper right")
    return figure


def filters(
    kernels: Mapping[str, np.ndarray], exact: Mapping[str, float], estimates: Mapping[str, float]
) -> Figure:
    """Entries of small square ``kernels``, orange positive, blue negative, with their norms and estimates."""
    figure, axes = figures.new(len(kernels), height=2.5)
    for axis, (name, kernel) in zip(axes, kernels.items(), strict=True):
        share = np.abs(kernel) / np.abs(kernel).max()
        axis.imshow(
            np.where(kernel[..., None] > 0, [0.835, 0.369, 0], [0.169, 0.514, 0.729]), alpha=0.8 * share
        )
        for (i, j), entry in np.ndenumerate(kernel):
            axis.text(j, i, f"{entry:g}".replace("-", "−"), ha="center", va="center")
        axis.set(
            xticks=[], yticks=[], title=f"{name}: norm {exact[name]:.2f}\narticle: {estimates[name]:.2f}"
        )
        axis.grid(False)
        axis.spines[:].set_visible(False)
    return figure


def rounds_and_training(
    by_rounds: Mapping[str, np.ndarray], steps: Sequence[int], cold: Sequence[float], warm: Sequence[float]
) -> Figure:
    """Shares of the norm: left over rounds, by kernel; right over training steps, from all ones and from the last u."""
    figure, axes = figures.new(2, height=3.3, sharey=True)
    for (name, shares), dash in zip(by_rounds.items(), ("-", "--", "-.", ":"), strict=True):
        axes[0].plot(np.arange(len(shares)) + 1, shares, dash, label=name)
    axes[0].axvline(5, color=INK, linewidth=1, linestyle=":")
    axes[0].set(
        xscale="log", xlabel="rounds $r$ from all ones", title="estimate / $\\|W\\|_2$", ylim=(0.6, 1.02)
    )
    axes[0].set(xticks=[1, 5, 10, 100], xticklabels=["1", "5", "10", "100"])
    axes[1].plot(steps, cold, color=figures.COLORS["none"], label="5 rounds from all ones")
    axes[1].plot(steps, warm, color=LONG_AXIS, label="1 round from the last $u$")
    axes[1].set(xlabel="training step", title="estimate / $\\|W\\|_2$ while training")
    for axis in axes:
        axis.legend(loc="lower right", fontsize=9)
    return figure


def _above_rounding(error: np.ndarray) -> np.ndarray:
    """``error`` up to where it first reaches rounding, NaN after that."""
    return np.where(np.minimum.accumulate(error) > ROUNDING, error, np.nan)
