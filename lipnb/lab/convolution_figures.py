"""The figures of the chapter on convolutions: each takes what the chapter computed and returns a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lipnb.lab import circles, figures
from lipnb.lab.convolution_maths import LayerNorms

__all__ = ["critic_norms", "directions", "growth", "matrices", "ratios"]

INK = circles.INK
MATRIX = figures.COLORS["spectral_norm"]
OPERATOR = figures.COLORS["operator_norm"]


def matrices(
    taps: int, panels: Mapping[str, np.ndarray], wide: Mapping[str, np.ndarray], side: int
) -> Figure:
    """Matrices of convolutions, their entries coloured by tap (1, 2, …; 0 is empty).

    Above: ``panels`` of a kernel of ``taps`` taps, which is drawn first; below: ``wide`` ones of side × side taps.
    """
    figure = figures.new(1, 1, height=4.1)[0]
    figure.clear()
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=[1, 0.95]), dtype=object)
    ratios = [1.8, *(matrix.shape[1] for matrix in panels.values())]
    axes = above.subplots(1, len(panels) + 1, width_ratios=ratios)
    _entries(axes[0], np.arange(1, taps + 1)[:, None], taps, "kernel")
    for axis, (name, matrix) in zip(axes[1:], panels.items(), strict=True):
        _entries(axis, matrix, taps, name)
    ratios = [side + 2, *(matrix.shape[1] for matrix in wide.values())]
    axes = below.subplots(1, len(wide) + 1, width_ratios=ratios)
    _entries(axes[0], np.arange(1, side**2 + 1).reshape(side, side), side**2, "kernel")
    for axis, (name, matrix) in zip(axes[1:], wide.items(), strict=True):
        _entries(axis, matrix, side**2, name)
    return figure


def _entries(axis: Axes, matrix: np.ndarray, taps: int, name: str) -> None:
    colors = mpl.colormaps["turbo"](np.linspace(0.08, 0.92, taps))
    picture = np.zeros((*matrix.shape, 4))
    picture[matrix > 0] = colors[matrix[matrix > 0].astype(int) - 1]
    axis.imshow(picture, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.set_title(name, fontsize=9.5)
    axis.grid(False)
    axis.spines[:].set(visible=True, color=INK, linewidth=0.6)


def growth(steps: np.ndarray, panels: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Constants of a recurrence over its number of ``steps``, a panel for each strength of its memory."""
    figure, axes = figures.new(len(panels), height=3.0, sharey=True)
    styles = {
        "product": (INK, ":", "product $C^T$"),
        "last": (figures.COLORS["bound"], "-", "theorem"),
        "orthogonal": (figures.COLORS["exact"], "--", "found, $U$ orthogonal"),
        "gaussian": (figures.COLORS["estimate"], "-.", "found, $U$ Gaussian"),
    }
    for axis, (name, curves) in zip(axes, panels.items(), strict=True):
        for key, (color, dash, label) in styles.items():
            axis.semilogy(steps, curves[key], dash, color=color, label=label)
        axis.set(title=name, xlabel="time steps $T$", ylim=(0.5, 1e4))
    axes[0].legend(fontsize=8, loc="upper left")
    return figure


def ratios(
    shares: np.ndarray,
    by_size: Mapping[str, tuple[np.ndarray, float]],
    by_stride: Mapping[str, tuple[np.ndarray, float]],
) -> Figure:
    """‖conv‖/‖reshaped‖ over the share of randomness: (ratios, upper end) by size on the left, by stride on the right."""
    figure, axes = figures.new(2, height=3.4, sharey=True)
    titles = ("stride 1, by kernel size", "5×5 kernels, by stride")
    for axis, curves, title in zip(axes, (by_size, by_stride), titles, strict=True):
        for k, ((name, (values, end)), mark) in enumerate(zip(curves.items(), "os^D", strict=False)):
            axis.plot(shares, values, mark + "-", color=f"C{k}", markersize=4, label=name)
            axis.axhline(end, color=f"C{k}", linewidth=1, linestyle=":")
        axis.axhline(1, color=INK, linewidth=1.2, linestyle="--")
        axis.set(title=title, xlabel="from smooth (0) to random (1)", ylim=(0.8, 7.4))
        axis.legend(fontsize=9, loc="upper right")
    axes[0].set_ylabel("‖convolution‖ / ‖reshaped kernel‖")
    return figure


def directions(rows: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """For each kernel (a column): its taps, |F(ω)| over frequencies −π … π, and the input that it magnifies most."""
    figure, axes = figures.new(len(rows), 3, width=7.2, height=5.6)
    for column, (name, (kernel, symbol, pattern)) in zip(axes.T, rows.items(), strict=True):
        _signed(column[0], kernel)
        column[0].set_title(name)
        picture = column[1].imshow(symbol, extent=(-np.pi, np.pi, -np.pi, np.pi), vmin=0)
        column[1].set(xticks=[-np.pi, 0, np.pi], xticklabels=["−π", "0", "π"], yticks=[])
        column[1].grid(False)
        figure.colorbar(picture, ax=column[1], shrink=0.8)
        _signed(column[2], pattern)
    for axis, label in zip(axes[:, 0], ("kernel", "$|F(\\omega)|$", "worst input"), strict=True):
        axis.set_ylabel(label)
    return figure


def _signed(axis: Axes, values: np.ndarray) -> None:
    """Values as an image: orange positive, blue negative, transparent 0."""
    share = np.abs(values) / np.abs(values).max()
    axis.imshow(np.where(values[..., None] > 0, [0.835, 0.369, 0], [0.169, 0.514, 0.729]), alpha=share)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set(visible=True, color=INK, linewidth=0.6)


def critic_norms(groups: Mapping[str, Sequence[tuple[LayerNorms, float]]]) -> Figure:
    """Constants of convolutions after division by the reshaped norm and by the operator's, layer by layer.

    ``groups[name]`` holds (norms, what is left after operator normalization) of each layer.
    """
    figure, axes = figures.new(len(groups), height=2.9, sharey=True)
    for axis, (name, layers) in zip(axes, groups.items(), strict=True):
        x = np.arange(len(layers)) + 1
        axis.axhline(1, color=INK, linewidth=1.2, linestyle="--")
        left = [norms.ratio for norms, _ in layers]
        axis.vlines(x, 1, left, color=MATRIX, linewidth=3, alpha=0.5)
        axis.plot(x, left, "D", color=MATRIX, label="÷ reshaped kernel's norm")
        axis.plot(x, [rest for _, rest in layers], "o", color=OPERATOR, label="÷ operator's norm")
        axis.set(title=name, xlabel="convolution", xticks=x, ylim=(0.8, 3.2), xlim=(0.5, len(layers) + 0.5))
    axes[0].set_ylabel("constant of the layer")
    axes[-1].legend(fontsize=8.5, loc="upper right")
    return figure
