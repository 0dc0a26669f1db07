"""What the timings say: ratios by shape, slopes, whole updates, parts of a step, operations, memory, other backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import cost_counts, figures, waiting
from lipnb.lab.statistics import Interval, log_slope, median_ratio

__all__ = [
    "LABELS",
    "VARIANTS",
    "backend_rows",
    "memory_rows",
    "operation_rows",
    "other_rows",
    "part_rows",
    "parts_figure",
    "slope_rows",
    "step_ratio",
    "update_ratio",
    "variant_rows",
]

Record = dict[str, Any]
Times = Mapping[str, Sequence[float]]
SLOPES = (
    ("time, no constraint", "none", None),
    ("time, normalization", "spectral_norm", None),
    ("time, penalty", "gradient_penalty", None),
    ("normalization / none", "spectral_norm", "none"),
    ("penalty / none", "gradient_penalty", "none"),
    ("penalty / normalization", "gradient_penalty", "spectral_norm"),
)
VARIANTS = ("weight_clip", "spectral_norm", "article_norm", "operator_norm", "gradient_penalty")
LABELS: Mapping[str, str] = {
    **figures.LABELS,
    "article_norm": "five iterations from ones",
    "forward": "forward",
    "weight_gradient": "forward, back to the weights",
    "input_gradient": "forward, back to the input",
    "penalty_gradient": "forward, back to the input, and back again to the weights",
}


def step_ratio(times: Times) -> Interval:
    """Time of a critic step, penalty over normalization: median over rounds, 95% bootstrap interval."""
    return median_ratio(times["gradient_penalty"], times["spectral_norm"])


def update_ratio(times: Times, critic_steps: int) -> Interval:
    """Time of a whole generator update, penalty over normalization: ``critic_steps`` critic steps and a generator step.

    Summed round by round. The generator's step was timed once, against the unconstrained critic: against a normalized
    one it divides each kernel by its norm, without an iteration, which is left out.
    """
    penalty, normalization = (
        critic_steps * np.asarray(times[key]) + times["generator"]
        for key in ("gradient_penalty", "spectral_norm")
    )
    return median_ratio(penalty, normalization)


def variant_rows(cost: Record) -> list[list[str]]:
    """One row a shape, widths first: time of the unconstrained step in ms, and each variant's multiple of it."""
    rows = []
    for shape in _shapes(cost):
        times = shape["seconds"]
        plain = f"{np.median(times['none']) * 1e3:.1f}"
        ratios = [
            median_ratio(times[key], times["none"]).text(2) if key in times else "–" for key in VARIANTS
        ]
        rows.append([f"{shape['axis']} {shape['value']}", _shape_text(shape), plain, *ratios])
    return rows


def slope_rows(cost: Record) -> list[list[str]]:
    """One row an axis and quantity: slope of its logarithm on that of the axis, measured and by arithmetic."""
    rows = []
    for axis, points in _axes(cost).items():
        for name, top, below in SLOPES:
            measured = log_slope({x: _quotient(shape["seconds"], top, below) for x, shape in points.items()})
            counted: dict[float, list[float]] = {
                x: [_count(shape, top) / (_count(shape, below) if below else 1)]
                for x, shape in points.items()
            }
            values = ", ".join(f"{x:g}" for x in points)
            predicted = round(log_slope(counted).mean, 2) + 0.0  # no negative zero
            rows.append([f"{axis} ({values})", name, measured.text(2), f"{predicted:.2f}"])
    return rows


def _quotient(times: Times, top: str, below: str | None) -> np.ndarray:
    return np.divide(times[top], times[below]) if below else np.asarray(times[top])


def _count(shape: Record, method: str) -> float:
    return cost_counts.step(
        method, shape["width"], batch=shape["batch"], size=shape["size"], depth=shape["depth"]
    )


def _shapes(cost: Record) -> list[Record]:
    """Every shape that was timed: its axis and value, width, batch, size, depth and seconds; the widths first."""
    common = {"axis": "width", "batch": cost["parameters"]["batch"], "size": 28, "depth": 1}
    widths = [
        common | {"value": int(w), "width": int(w), "seconds": times}
        for w, times in sorted(cost["seconds"].items(), key=lambda item: int(item[0]))
    ]
    return widths + sorted(cost.get("others", []), key=lambda other: (other["axis"], other["value"]))


def _axes(cost: Record) -> dict[str, dict[int, Record]]:
    """Axis → value → shape, for each axis with two values at least; the middle width's shape belongs to all."""
    shapes = _shapes(cost)
    found = {"width": {s["value"]: s for s in shapes if s["axis"] == "width"}}
    for axis in ("batch", "size", "depth"):
        varied = [s for s in shapes if s["axis"] == axis]
        middle = [s for s in shapes if s["axis"] == "width" and varied and s["width"] == varied[0]["width"]]
        found[axis] = {s[axis]: s for s in sorted([*middle, *varied], key=lambda s: s[axis])}
    return {axis: points for axis, points in found.items() if len(points) > 1}


def _shape_text(shape: Record) -> str:
    return f"width {shape['width']}, {shape['size']}×{shape['size']}, batch {shape['batch']}, {shape['depth']} × conv 3×3"


def backend_rows(costs: Mapping[str, Sequence[Record]]) -> list[list[str]]:
    """One row a backend and width: the unconstrained step in ms, ratios of steps and of whole updates, as medians.

    ``costs`` maps a backend's name to its records; where there is none, the row says so.
    """
    rows = []
    for name, found in costs.items():
        for cost in found:
            for width, times in sorted(cost["seconds"].items(), key=lambda item: int(item[0])):
                pairs = (("spectral_norm", "none"), ("gradient_penalty", "none"))
                ratios = [median_ratio(times[a], times[b]) for a, b in pairs]
                ratios += [step_ratio(times), update_ratio(times, 1), update_ratio(times, 5)]
                plain = f"{np.median(times['none']) * 1e3:.1f}"
                rows.append(
                    [cost["provenance"]["backend"], width, plain, *(ratio.text(2) for ratio in ratios)]
                )
        if not found:
            rows.append([name, "runs are missing", *["–"] * 6])
    return rows


def part_rows(cost: Record, traced: Mapping[str, float]) -> list[list[str]]:
    """One row a part of a step, in forward passes: what must be computed, what TensorFlow traces, and the time."""
    if "parts" not in cost:
        return []
    times, width = cost["parts"]["seconds"], cost["parts"]["width"]
    needed = cost_counts.shares(cost_counts.parts(width))
    graph = cost_counts.shares(traced)
    return [
        [
            LABELS[key],
            f"{needed[key]:.2f}",
            f"{graph[key]:.2f}" if np.isfinite(graph[key]) else "–",
            median_ratio(times[key], times["forward"]).text(2),
        ]
        for key in cost_counts.PARTS
    ]


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
        axis.text(ratio.high if ratio.known else ratio.mean, y, f"  {ratio.mean:.1f}", va="center")
    axis.set_yticks(range(len(order)), [LABELS[key] for key in order])
    axis.set(xlabel="time / forward pass")
    axis.margins(x=0.12)
    return figure


def operation_rows(cost: Record) -> list[list[Any]]:
    """One row a width: operations of the unconstrained step and each method's multiple of them, as traced.

    The last entry is the penalty's multiple by the operations that are needed.
    """
    rows = []
    for width, counts in sorted(cost.get("operations", {}).items(), key=lambda item: int(item[0])):
        if counts["none"]:
            ratios = [f"{counts[key] / counts['none']:.3f}" for key in _methods(counts)]
            needed = cost_counts.step("gradient_penalty", int(width)) / cost_counts.step("none", int(width))
            rows.append([width, f"{counts['none'] / 1e6:.0f}", *ratios, f"{needed:.3f}"])
    return rows


def _methods(counts: Mapping[str, Any]) -> list[str]:
    return [key for key in VARIANTS if key in counts]


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
