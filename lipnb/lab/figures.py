"""The one look of all figures: colours by method, legible on a light and on a dark page.

A figure leaves a notebook as an inline SVG whose black is the page's own text colour, with a description
for those who cannot see it, and as a PNG for programs that show no SVG.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lipnb.lab.statistics import Interval

__all__ = [
    "COLORS",
    "LABELS",
    "MARKERS",
    "band",
    "game_label",
    "image_grid",
    "interval",
    "interval_line",
    "log_axis",
    "new",
    "show",
    "use_style",
]

# Okabe & Ito's colour-blind-safe set, yellow left out and the extremes shifted towards the middle, so that
# every colour keeps a contrast of about 3:1 on white and on near-black.
COLORS: Mapping[str, str] = {
    "none": "#8a8a8a",
    "weight_clip": "#c98600",
    "gradient_penalty": "#2b83ba",
    "spectral_norm": "#d55e00",
    "frobenius_norm": "#009e73",
    "frobenius_clip": "#7f9f00",
    "frobenius_penalty": "#009e73",
    "one_sided": "#4f6fd0",
    "one_sided_linear": "#8a78e0",
    "penalty_at_real": "#2a9fa8",
    "operator_norm": "#b2589a",
    "spectral_constraint": "#e0708f",
    "keras_spectral_norm": "#a5714a",
    "l2": "#009e73",
    "adamw": "#9a8600",
    "spectral_penalty": "#d55e00",
    "adversarial": "#9b5de5",
    "exact": "#00916a",
    "bound": "#b2589a",
    "estimate": "#2b83ba",
}
LABELS: Mapping[str, str] = {
    "none": "no constraint",
    "weight_clip": "weight clipping",
    "gradient_penalty": "gradient penalty",
    "spectral_norm": "spectral normalization",
    "frobenius_norm": "Frobenius normalization",
    "frobenius_clip": "Frobenius clipping",
    "frobenius_penalty": "Frobenius penalty",
    "one_sided": "one-sided penalty",
    "one_sided_linear": "one-sided linear penalty",
    "penalty_at_real": "penalty around real data",
    "operator_norm": "operator normalization",
    "spectral_constraint": "spectral constraint",
    "keras_spectral_norm": "Keras's wrapper",
    "l2": "l2 penalty",
    "adamw": "decoupled weight decay",
    "spectral_penalty": "spectral norm penalty",
    "adversarial": "adversarial training",
    "wasserstein": "Wasserstein loss",
    "hinge": "hinge loss",
}
MARKERS: Mapping[str, str] = {
    "none": "o",
    "weight_clip": "s",
    "frobenius_clip": "p",
    "frobenius_penalty": "h",
    "gradient_penalty": "^",
    "one_sided": "v",
    "one_sided_linear": "<",
    "penalty_at_real": ">",
    "spectral_norm": "D",
    "operator_norm": "d",
    "spectral_constraint": "X",
    "keras_spectral_norm": "P",
    "l2": "s",
    "adamw": "p",
    "spectral_penalty": "D",
    "adversarial": "*",
}

STYLE: dict[str, Any] = {
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "lipnb",
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#8a8a8a",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "image.cmap": "viridis",
    "axes.prop_cycle": cycler(color=["#2b83ba", "#d55e00", "#00916a", "#b2589a", "#c98600", "#8a8a8a"]),
}


def game_label(method: str, loss: str) -> str:
    """The method's name, and the loss where it is not the Wasserstein loss."""
    return LABELS[method] + (f", {loss}" if loss != "wasserstein" else "")


def use_style() -> None:
    """Give all later figures of this process the book's look."""
    mpl.rcParams.update(STYLE)  # type: ignore[arg-type]


def new(
    columns: int = 1, rows: int = 1, *, width: float = 7.2, height: float | None = None, **options
) -> tuple[Figure, Any]:
    """Figure of ``width`` inches (7.2 is the page's column) and its axes, squeezed as by ``plt.subplots``."""
    size = (width, height if height is not None else 0.62 * width * rows / columns + 0.3)
    return plt.subplots(rows, columns, figsize=size, **options)


def show(figure: Figure, alt: str, save: Path | None = None) -> None:
    """Display ``figure`` with ``alt``, a description of what it shows, and close it; ``save`` keeps a PNG too."""
    if not alt.strip():
        raise ValueError(f"alt must describe the figure. Received: {alt!r}")
    display({"text/html": _inline_svg(figure, alt), "image/png": _png(figure), "text/plain": alt}, raw=True)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_bytes(_png(figure))
    plt.close(figure)


def band(axis, x, values, key: str, name: str | None = None, **options) -> None:
    """Mean over the first axis (seeds) of ``values`` (seeds, points) with the range that the seeds span."""
    values = np.atleast_2d(values)
    label = name or LABELS.get(key, key)
    axis.plot(x, values.mean(axis=0), color=COLORS[key], marker=MARKERS.get(key), label=label, **options)
    axis.fill_between(x, values.min(axis=0), values.max(axis=0), color=COLORS[key], alpha=0.2, linewidth=0)


def interval(axis, y: float, values, interval: Interval, key: str) -> None:
    """One row of a dot plot: every value, their mean and its interval."""
    axis.plot(values, [y] * len(values), "|", color=COLORS[key], markersize=9, alpha=0.7)
    axis.plot([interval.mean], [y], MARKERS.get(key, "o"), color=COLORS[key], markersize=6)
    if interval.known:
        axis.plot([max(interval.low, 0), interval.high], [y, y], color=COLORS[key], linewidth=1.6)


def interval_line(axis, x, intervals: Sequence[Interval], key: str) -> None:
    """Estimates along ``x`` joined by a line, each with its interval as a bar."""
    means = np.array([i.mean for i in intervals])
    ends = np.nan_to_num([[i.mean - i.low for i in intervals], [i.high - i.mean for i in intervals]])
    axis.errorbar(
        x, means, yerr=ends, color=COLORS[key], marker=MARKERS.get(key), capsize=3, label=LABELS.get(key, key)
    )


def log_axis(axis, which: str) -> None:
    """Make ``axis`` logarithmic along ``which`` ("x" or "y"), labelled in plain numbers: at 1, 2 and 5, along x at 1 and 3."""
    axis.set(**{f"{which}scale": "log"})
    line = {"x": axis.xaxis, "y": axis.yaxis}[which]
    # Labels side by side need more room than labels one above the other.
    line.set_major_locator(LogLocator(subs=(1, 3) if which == "x" else (1, 2, 5)))
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    line.set_minor_formatter(NullFormatter())


def image_grid(axis, images: np.ndarray, columns: int) -> None:
    """uint8 ``images`` (n, h, w, c) as one picture of ``columns`` columns; n is a multiple of it."""
    n, height, width, channels = images.shape
    tiles = images.reshape(n // columns, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    picture = tiles.reshape(n // columns * height, columns * width, channels)
    axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()


def _inline_svg(figure: Figure, alt: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    svg = re.sub(r"#000000|\bblack\b", "currentColor", svg)
    # matplotlib leaves text and other black shapes without a fill: they inherit this one.
    opening = f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" fill="currentColor" style="max-width:100%;height:auto" '
    return f'<div class="lipnb-figure">{svg.replace("<svg ", opening, 1)}</div>'


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, transparent=False, facecolor="white")
    return buffer.getvalue()
