"""How sensitive is each method to Adam's settings? The six of the SN-GAN paper, seed beside seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lipnb.lab import figures, seeds, waiting
from lipnb.lab.figures import game_label
from lipnb.lab.statistics import Interval, mean_interval
from lipnb.lab.tables import Table

__all__ = ["SETTINGS", "Series", "answers", "comparison", "ends", "figure", "letter", "series"]

Record = dict[str, Any]
KEYS = ("learning_rate", "beta_1", "beta_2", "critic_steps")
# Miyato et al. 2018, Table 1: α, β₁, β₂, n_dis
SETTINGS: Mapping[str, tuple[float, float, float, int]] = {
    "A": (0.0001, 0.5, 0.9, 5),
    "B": (0.0001, 0.5, 0.999, 1),
    "C": (0.0002, 0.5, 0.999, 1),
    "D": (0.001, 0.5, 0.9, 5),
    "E": (0.001, 0.5, 0.999, 5),
    "F": (0.001, 0.9, 0.999, 5),
}
PENALTY = ("gradient_penalty", "wasserstein")
ANSWERS = {  # what is compared, how many digits, and what each sign tells
    "spread": (
        "log₂ of worst over best FID",
        2,
        "normalization is less sensitive",
        "the penalty is less sensitive",
    ),
    "best": ("FID at the chosen setting", 1, "normalization ends better", "the penalty ends better"),
}


@dataclass(frozen=True)
class Series:
    """The runs of one method and loss: by setting, then by seed."""

    method: str
    loss: str
    runs: dict[str, dict[int, Record]]

    @property
    def label(self) -> str:
        """The method's name, and the loss where it is not the Wasserstein loss."""
        return game_label(self.method, self.loss)

    def finals(self, letter: str, key: str) -> dict[int, float]:
        """``key`` at the end of each run that did not diverge, by seed."""
        return {
            seed: run["history"][-1][key] for seed, run in seeds.finished(self.runs.get(letter, {})).items()
        }

    def complete(self) -> list[int]:
        """The seeds with a run at every setting that ended."""
        ended = [set(self.finals(letter, "fid_test")) for letter in SETTINGS]
        return sorted(set.intersection(*ended))

    def spread(self) -> dict[int, float]:
        """log₂ of the worst final FID over the best one of the six settings, by seed."""
        return {
            seed: float(np.log2(max(values) / min(values)))
            for seed in self.complete()
            for values in [[self.finals(letter, "fid_test")[seed] for letter in SETTINGS]]
        }

    def chosen(self) -> str | None:
        """The setting with the least mean distance to the training images, of those whose runs all ended."""
        ended = {letter: list(self.finals(letter, "fid_train").values()) for letter in self.runs}
        means = {
            letter: np.mean(values)
            for letter, values in ended.items()
            if len(values) == len(self.runs[letter])
        }
        return min(means, key=lambda letter: means[letter]) if means else None


def series(records: Sequence[Record]) -> dict[tuple[str, str], Series]:
    """The records by (method, loss).

    Raises ValueError for a record at none of the six settings, and where a seed has two runs.
    """
    found: dict[tuple[str, str], Series] = {}
    grouped = seeds.grouped(records, lambda p: (p["method"], p["loss"], _letter(p)))
    for (method, loss, letter), runs in sorted(grouped.items()):
        found.setdefault((method, loss), Series(method, loss, {})).runs[letter] = runs
    return found


def letter(run: Record) -> str:
    """The letter of a run's setting."""
    return _letter(run["parameters"])


def _letter(p: Mapping[str, Any]) -> str:
    values = tuple(p[name] for name in KEYS)
    for name, setting in SETTINGS.items():
        if values == setting:
            return name
    raise ValueError(f"(learning rate, β₁, β₂, critic steps) must be a setting. Received: {values}")


def ends(found: Mapping[tuple[str, str], Series]) -> Table:
    """Final FID at each setting: mean over seeds, 95% t-interval, how many runs diverged, and the setting chosen."""
    rows = [[s.label, *(_cell(s, letter) for letter in SETTINGS), s.chosen() or "-"] for s in found.values()]
    return Table(
        ["method", *SETTINGS, "chosen"],
        rows,
        "FID to the test images at the end: mean over seeds and 95% t-interval; chosen on the training images",
    )


def _cell(of: Series, letter: str) -> str:
    values, runs = list(of.finals(letter, "fid_test").values()), of.runs.get(letter, {})
    if not runs:
        return "-"
    lost = len(runs) - len(values)
    text = mean_interval(values).text() if values else ""
    return text + (f" ({lost} of {len(runs)} diverged)" if lost else "")


def answers(found: Mapping[tuple[str, str], Series]) -> dict[str, dict[str, Interval]]:
    """Penalty minus normalization, by normalization's loss, paired by seed.

    ``spread``: of log₂(worst/best FID) over the settings (above 0: normalization is less sensitive). ``best``: of the
    final FID at each method's chosen setting (above 0: normalization ends better).
    """
    told = {}
    for loss in ("wasserstein", "hinge"):
        ours, theirs = found.get(("spectral_norm", loss)), found.get(PENALTY)
        if ours is None or theirs is None:
            continue
        ends = [s.finals(letter, "fid_test") for s in (theirs, ours) if (letter := s.chosen())]
        if len(ends) < 2:
            continue
        a, b, (c, d) = theirs.spread(), ours.spread(), ends
        told[loss] = {
            "spread": mean_interval([a[seed] - b[seed] for seed in a if seed in b]),
            "best": mean_interval([c[seed] - d[seed] for seed in c if seed in d]),
        }
    return told


def comparison(told: Mapping[str, Mapping[str, Interval]]) -> Table:
    """The answers, in words."""
    rows = [
        [loss, ANSWERS[kind][0], interval.text(ANSWERS[kind][1]), _said(interval, *ANSWERS[kind][2:])]
        for loss, kinds in told.items()
        for kind, interval in kinds.items()
    ]
    return Table(
        ["normalization's loss", "compared", "penalty − normalization", "answer"],
        rows,
        "Paired by seed, 95% t-intervals; the penalty with the Wasserstein loss",
    )


def _said(interval: Interval, above: str, below: str) -> str:
    return {1: above, 0: "cannot be told", -1: below}[interval.side] if interval.known else "too few pairs"


def figure(found: Mapping[tuple[str, str], Series]) -> Figure:
    """Final FID of every run at every setting, one column a setting; a line joins the means."""
    shown = [s for s in found.values() if any(s.finals(letter, "fid_test") for letter in SETTINGS)]
    if not shown:
        return waiting.figure()
    drawing, axis = figures.new(width=8, height=3.8)
    for i, s in enumerate(shown):
        style = {"color": figures.COLORS[s.method], "linestyle": "--" if s.loss == "hinge" else "-"}
        points = [(x, s.finals(letter, "fid_test")) for x, letter in enumerate(SETTINGS)]
        places = [(x + 0.08 * (i - (len(shown) - 1) / 2), list(values.values())) for x, values in points]
        for x, values in places:
            axis.plot([x] * len(values), values, "_", color=style["color"], markersize=8)
        means = [float(np.mean(values)) if values else np.nan for _, values in places]
        axis.plot([x for x, _ in places], means, figures.MARKERS[s.method], label=s.label, **style)
    figures.log_axis(axis, "y")
    axis.set(ylabel="FID to the test images")
    names = [f"{k}\n{v[0]:g}\n{v[1]:g}, {v[2]:g}\n{v[3]}" for k, v in SETTINGS.items()]
    axis.set_xticks(range(len(SETTINGS)), names)
    axis.legend()
    return drawing
