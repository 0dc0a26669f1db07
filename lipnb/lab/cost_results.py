"""What the timings say beyond the headline's ratio: other shapes, parts of a step, operations, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import figures, waiting
from lipnb.lab.statistics import median_ratio

__all__ = ["LABELS", "memory_rows", "operation_rows", "other_rows", "parts_figure"]

Record = dict[str, Any]
LABELS: Mapping[str, str] = {
    **figures.LABELS,
    "article_norm": "five iterations from ones",
    "forward": "forward",
    "weight_gradient": "forward, back to the weights",
    "input_gradient": "forward, back to the input",
    "penalty_gradient": "forward, back to the input, and through both to the weights",
}


def other_rows(cost: Record) -> list[list[Any]]:
    """One row a shape: what varies, and the time of a step as a multiple of the unconstrained one."""
    rows = []
    for other in sorted(cost.get("others", []), key=lambda other: (other["axis"], other["value"])):
        times = other["seconds"]
        pairs = (
            ("spectral_norm", "none"),
            ("gradient_penalty", "none"),
            ("gradient_penalty", "spectral_norm"),
        )
        shape = f"{other['size']}×{other['size']}, batch {other['batch']}, {other['depth']} × conv 3×3"
        rows.append(
            [
                f"{other['axis']} {other['value']}",
                shape,
                *(median_ratio(times[a], times[b]).text(2) for a, b in pairs),
            ]
        )
    return rows


def parts_figure(cost: Record) -> Figure:
    """The parts of a step as multiples of a forward pass, with intervals."""
    if "parts" not in cost:
        return waiting.figure()
    times = cost["parts"]["seconds"]
    order = ["penalty_gradient", "input_gradient", "weight_gradient", "forward"]
    figure, axis = figures.new(width=8, height=2.2)
    for y, key in enumerate(order):
        ratio = median_ratio(times[key], times["forward"])
        color = figures.COLORS["gradient_penalty" if key == "penalty_gradient" else "none"]
        axis.barh(y, ratio.mean, height=0.55, color=color)
        if ratio.known:
            axis.plot([ratio.low, ratio.high], [y, y], color="black", linewidth=1.4)
        axis.text(ratio.mean, y, f"  {ratio.mean:.1f}", va="center")
    axis.set_yticks(range(len(order)), [LABELS[key] for key in order])
    axis.set(xlabel="time / forward pass")
    axis.margins(x=0.12)
    return figure


def operation_rows(cost: Record) -> list[list[Any]]:
    """One row a width: operations of the unconstrained step and each method's multiple of them."""
    rows = []
    for width, counts in sorted(cost.get("operations", {}).items(), key=lambda item: int(item[0])):
        if counts["none"]:
            ratios = [f"{counts[key] / counts['none']:.3f}" for key in _methods(counts)]
            rows.append([width, f"{counts['none'] / 1e6:.0f}", *ratios])
    return rows


def _methods(counts: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key in ("weight_clip", "spectral_norm", "article_norm", "operator_norm", "gradient_penalty")
        if key in counts
    ]


def memory_rows(records: Sequence[Record]) -> list[list[str]]:
    """One row a variant: bytes that one more image in the batch needs, and their multiple of the unconstrained step's."""
    peaks: dict[str, dict[int, int]] = {}
    for record in records:
        p = record["parameters"]
        peaks.setdefault(p["variant"], {})[p["batch"]] = record["peak_bytes"]
    needs = {
        variant: (sizes[max(sizes)] - sizes[min(sizes)]) / (max(sizes) - min(sizes))
        for variant, sizes in peaks.items()
        if len(sizes) > 1
    }
    plain = needs.get("none", np.nan)
    return [
        [LABELS[key], f"{need / 1024:.0f}", f"{need / plain:.2f}"]
        for key, need in sorted(needs.items(), key=lambda x: x[1])
    ]
