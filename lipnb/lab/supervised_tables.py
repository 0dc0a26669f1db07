"""The tables of the chapters on supervised training, from their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lipnb.lab.figures import LABELS
from lipnb.lab.statistics import Interval
from lipnb.lab.supervised_results import METHODS, SENSITIVITIES, Group, Setting, gap_at, tuned, value
from lipnb.lab.supervised_verdicts import TENDENCIES, alpha
from lipnb.lab.tables import Table

__all__ = ["correlations", "decay", "methods", "runs", "tuning"]

Record = dict[str, Any]
COLUMNS = {
    "test_accuracy": ("test accuracy", 3),
    "gap": ("gap at α", 3),
    "end_gap": ("gap at the end", 3),
    "loss_gap": ("gap of loss", 3),
    "robust_accuracy": ("under attack", 3),
    "certified_accuracy": ("certified", 3),
    "margin_gradient": ("input gradient", 2),
    "estimate": ("constant ≥", 1),
    "bound": ("constant ≤", 1),
}
EACH = {
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "robust_accuracy": "under attack",
    "certified_accuracy": "certified",
    "margin_gradient": "input gradient",
    "estimate": "constant ≥",
    "bound": "constant ≤",
    "broken_certificates": "certificates broken",
}


def tuning(records: Sequence[Record]) -> Table:
    """Everything that was tried, and what the rule keeps."""
    kept = tuned(records)
    rows = []
    for record in sorted(records, key=_order):
        p, diverged = record["parameters"], record["diverged_at"] is not None
        chosen = p["strength"] and p["batch"] == 64 and kept.get(p["method"]) == p["strength"]
        last = record["history"][-1]
        accuracies = [f"{last[k]:.4f}" for k in ("train_accuracy", "test_accuracy")]
        accuracies = ["–", "diverged"] if diverged else accuracies
        rate, strength = f"{p['learning_rate']:g}", f"{p['strength']:g}"
        rows.append([LABELS[p["method"]], p["batch"], rate, strength, *accuracies, "kept" if chosen else ""])
    header = [
        "method",
        "batch",
        "rate",
        "strength",
        "training accuracy",
        "validation accuracy",
        "by the rule",
    ]
    return Table(header, rows, "Everything tried in tuning, on one seed used nowhere else", folded=True)


def _order(record: Record) -> tuple[int, int, float, float]:
    p = record["parameters"]
    return p["batch"], METHODS.index(p["method"]), p["strength"], p["learning_rate"]


def decay(effects: Mapping[tuple[Setting, float], Mapping[str, Interval]]) -> Table:
    """What each strength of the l2 penalty multiplies the measures of sensitivity by; ``effects`` are log₂-ratios."""
    rows = [
        [
            _heading(s),
            f"{strength:g}",
            *(f"{2**i.mean:.2f} [{2**i.low:.2f}, {2**i.high:.2f}]" for i in row.values()),
        ]
        for (s, strength), row in effects.items()
    ]
    caption = "l2 penalty over no penalty: ratio, geometric mean over seeds and paired 95% interval"
    return Table(["setting", "strength", *SENSITIVITIES.values()], rows, caption)


def methods(by_setting: Mapping[Setting, Mapping[str, Group]]) -> Table:
    """Every measure of every method at its strength, mean over seeds and interval."""
    rows = []
    for setting, members in by_setting.items():
        a = alpha(members)
        for group in members.values():
            cells = [
                group.interval(gap_at(a) if key == "gap" else key).text(digits)
                for key, (_, digits) in COLUMNS.items()
            ]
            ended = f"{len(group.finished)} of {len(group.runs)}"
            rows.append([_heading(setting), f"{a:.2f}", group.label, f"{group.strength:g}", ended, *cells])
    header = ["setting", "α", "method", "strength", "runs ended", *(name for name, _ in COLUMNS.values())]
    return Table(header, rows, "Mean over seeds and 95% t-interval")


def correlations(
    measured: Mapping[Setting, Mapping[tuple[str, str], Interval]],
    members: Mapping[Setting, Sequence[Group]],
    caption: str,
) -> Table:
    """Spearman's correlations of measures of sensitivity with the tendencies: a column for each setting."""
    kinds = next(iter(measured.values()), {})
    rows = [
        [
            f"{TENDENCIES[kind]} against {SENSITIVITIES[key]}",
            *(row[key, kind].text(2) for row in measured.values()),
        ]
        for key, kind in kinds
    ]
    runs = (sum(len(g.finished) for g in members[s]) for s in measured)
    header = (f"{_heading(s)}: {count}\u00a0runs" for s, count in zip(measured, runs, strict=True))
    return Table(["correlation of", *header], rows, caption)


def runs(found: Mapping[Any, Group]) -> Table:
    """Every run at its end."""
    rows = []
    for group in found.values():
        for seed, run in group.runs.items():
            diverged = run["diverged_at"]
            numbers = ["–" if diverged is not None else f"{value(run, key):.4g}" for key in EACH]
            rows.append(
                [_heading(group.setting), group.label, f"{group.strength:g}", seed, *numbers, diverged or "–"]
            )
    header = ["setting", "method", "strength", "seed", *EACH.values(), "diverged in epoch"]
    return Table(header, rows, "Every run, at its end", folded=True)


def _heading(setting: Setting) -> str:
    """The setting's label, broken in a narrow column only at its commas."""
    return ", ".join(part.replace(" ", "\u00a0") for part in setting.label.split(", "))
