"""What the supervised runs say: groups of runs by setting, method and strength, seed beside seed, and verdicts by rule."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from lipnb.lab import grid, seeds
from lipnb.lab.figures import LABELS
from lipnb.lab.statistics import Interval, mean_interval

__all__ = [
    "METHODS",
    "RIVALS",
    "SENSITIVITIES",
    "Group",
    "Key",
    "Setting",
    "chosen",
    "compare",
    "correlation",
    "decay_effects",
    "extremes",
    "gap_at",
    "groups",
    "groups_of",
    "log_ratio",
    "lost_under_attack",
    "main_groups",
    "reached",
    "run_names",
    "scale",
    "settings",
    "tuned",
    "value",
]

Record = dict[str, Any]
Key = str | Callable[[Record], float]
"""A quantity of a run: see :func:`value`."""
RIVALS = ("none", "l2", "adversarial")  # what spectral norm regularization is held against in F2
METHODS = ("none", "l2", "adamw", "spectral_penalty", "adversarial", "gradient_penalty", "one_sided")
SENSITIVITIES: Mapping[str, str] = {
    "bound": "proven bound",
    "estimate": "lower bound found",
    "margin_gradient": "mean input gradient",
}
COUNTED = 10  # runs of a setting below which no correlation is computed


class Setting(NamedTuple):
    """A task: the network, the number of training images, the share of wrong labels among them, the batch."""

    network: str
    train: int
    noise: float
    batch: int

    @property
    def label(self) -> str:
        """In words."""
        wrong = f", {self.noise:.0%} wrong labels" if self.noise else ""
        return f"{self.network.upper()}, {self.train:,} images{wrong}, batch {self.batch:,}"


@dataclass(frozen=True)
class Group:
    """The runs of one method and strength in one setting, by seed."""

    setting: Setting
    method: str
    strength: float
    runs: dict[int, Record]

    @property
    def label(self) -> str:
        """The method's name."""
        return LABELS[self.method]

    @property
    def finished(self) -> dict[int, Record]:
        """The runs that did not diverge."""
        return seeds.finished(self.runs)

    def values(self, key: Key) -> np.ndarray:
        """``key`` of each finished run, see :func:`value`."""
        return np.array([value(run, key) for run in self.finished.values()])

    def interval(self, key: Key) -> Interval:
        """Mean of :meth:`values` with its 95% t-interval."""
        return mean_interval(self.values(key))


def groups(records: Sequence[Record]) -> dict[tuple[Setting, str, float], Group]:
    """The records by setting, method and strength; ValueError where two are of one seed, as after new settings."""

    def key(p: dict[str, Any]) -> tuple[Setting, str, float]:
        return Setting(p["network"], p["train"], p["noise"], p["batch"]), p["method"], p["strength"]

    return {of: Group(*of, runs) for of, runs in seeds.grouped(records, key).items()}


def settings(found: Mapping[tuple[Setting, str, float], Group]) -> list[Setting]:
    """The settings in which a run ended: more images first, clean labels first, small batches first."""
    return sorted({setting for (setting, _, _), group in found.items() if group.finished}, key=_place)


def _place(setting: Setting) -> tuple:
    return setting.network, -setting.train, setting.noise, setting.batch


def chosen(profile: str) -> dict[str, float]:
    """The strength of each method in the comparisons: the first that the grid names for it."""
    strengths: dict[str, float] = {}
    for run in grid.runs(profile):
        if run.experiment == "classify":
            strengths.setdefault(run.parameters["method"], run.parameters["strength"])
    return strengths


def main_groups(
    found: dict[tuple[Setting, str, float], Group], strengths: dict[str, float]
) -> dict[Setting, dict[str, Group]]:
    """The groups by setting and method, each at its strength among ``strengths``, where a run of theirs ended."""
    by_setting: dict[Setting, dict[str, Group]] = {setting: {} for setting in settings(found)}
    for (setting, method, strength), group in found.items():
        if strengths.get(method) == strength and group.finished:
            by_setting[setting][method] = group
    return {setting: dict(sorted(row.items(), key=_order)) for setting, row in by_setting.items() if row}


def _order(item: tuple[str, Group]) -> int:
    return METHODS.index(item[0])


def tuned(records: Sequence[Record], batch: int = 64) -> dict[str, float]:
    """The strength of each method by the one-standard-error rule, from the tuning runs at ``batch``.

    The strongest whose final accuracy on the n validation images is within √(p(1 − p)/n) of the method's best one, p.
    """
    tried: dict[str, list[tuple[float, float, int]]] = {}
    for record in records:
        p = record["parameters"]
        if p["batch"] == batch and record["diverged_at"] is None:
            accuracy = record["history"][-1]["test_accuracy"]
            tried.setdefault(p["method"], []).append((accuracy, p["strength"], record["test_images"]))
    strengths = {}
    for method, runs in tried.items():
        best, _, n = max(runs)
        floor = best - math.sqrt(best * (1 - best) / n)
        strengths[method] = max(strength for accuracy, strength, _ in runs if accuracy >= floor)
    return strengths


def groups_of(
    by_setting: Mapping[Setting, Mapping[str, Group]],
    measured: Mapping[Setting, Mapping],
    methods: Sequence[str],
) -> list[Group]:
    """The groups of ``methods`` in the settings that were ``measured``."""
    rows = [row for setting, row in by_setting.items() if measured.get(setting)]
    return [row[method] for row in rows for method in methods if method in row]


def run_names(groups: Iterable[Group]) -> list[str]:
    """The names of the groups' runs."""
    return [run["run"] for group in groups for run in group.runs.values()]


def extremes(measured: Mapping[Setting, Mapping[tuple[str, str], Interval]]) -> str:
    """The smallest and the largest advantage of the comparisons, in percentage points, and where."""
    found = [
        (100 * np.array(i), f"{measure} against {LABELS[rival]}, {setting.label}")
        for setting, row in measured.items()
        for (rival, measure), i in row.items()
        if np.isfinite(i.mean)
    ]
    if not found:
        return "No runs yet."
    ends = [choose(found, key=lambda entry: entry[0][0]) for choose in (min, max)]
    least, most = (f"{Interval(*points).text(2)} ({place})" for points, place in ends)
    return f"Its advantage in percentage points, by pairs, runs from {least} to {most}."


def scale(groups: Iterable[Group], profile: str) -> str:
    """What the groups' runs cover, in one line."""
    runs = [run for group in groups for run in group.runs.values()]
    if not runs:
        return f"no runs of profile {profile} yet"
    p, q = runs[0]["parameters"], runs[0]["provenance"]
    count = len({run["parameters"]["seed"] for run in runs})
    networks = sorted({run["parameters"]["network"].upper() for run in runs})
    return (
        f"{p['dataset']}, 28×28, {' and '.join(networks)}, {len(runs)} runs, up to {count} "
        f"seed{'s' * (count > 1)}, {q['backend']} on {q['device']}"
    )


# One run --------------------------------------------------------------------------------------------------


def value(run: Record, key: Key) -> float:
    """A number of a finished run: a function of it, an entry of its last measurement, or of ``final``.

    Besides those: ``loss_gap`` (cross-entropy on test less on training images) and ``end_gap`` (accuracy on training
    less on test images), both at the end. What was recorded as unknown is infinite.
    """
    if callable(key):
        return key(run)
    last = run["history"][-1]
    derived = {
        "loss_gap": last["test_loss"] - last["train_loss"],
        "end_gap": last["train_accuracy"] - last["test_accuracy"],
    }
    number = (run["final"] | last | derived)[key]
    return math.inf if number is None else number


def reached(run: Record) -> float:
    """The highest test accuracy that a run showed at any measurement after its start."""
    return max(entry["test_accuracy"] for entry in run["history"] if entry["epoch"] > 0)


def gap_at(alpha: float) -> Callable[[Record], float]:
    """Yoshida & Miyato's generalization gap: smallest train − test accuracy among epochs of test accuracy ≥ alpha.

    NaN for a run that never gets there.
    """

    def gap(run: Record) -> float:
        entries = [h for h in run["history"] if h["epoch"] > 0 and h["test_accuracy"] >= alpha]
        return min((h["train_accuracy"] - h["test_accuracy"] for h in entries), default=math.nan)

    return gap


def lost_under_attack(run: Record) -> float:
    """Share of the rightly classified attacked images that the attack takes: 0 is the least sensitive."""
    final = run["final"]
    return 1 - final["robust_accuracy"] / final["accuracy"] if final["accuracy"] else math.nan


# Several runs ---------------------------------------------------------------------------------------------


def compare(a: Group, b: Group, key: Key) -> Interval:
    """Mean of a − b over the seeds that both have, with the 95% t-interval of the pairs' differences."""
    return seeds.difference(a.runs, b.runs, lambda run: value(run, key))


def log_ratio(a: Group, b: Group, key: Key) -> Interval:
    """As :func:`compare`, of the logarithms to base 2: −1 means that a has half of b's value."""
    return compare(a, b, lambda run: math.log2(value(run, key)))


def decay_effects(
    found: Mapping[tuple[Setting, str, float], Group],
) -> dict[tuple[Setting, float], dict[str, Interval]]:
    """log₂ of l2 over no penalty for each of ``SENSITIVITIES``, by setting and strength, weakest first."""
    pairs = {
        (setting, strength): (group, found[setting, "none", 0.0])
        for (setting, method, strength), group in found.items()
        if method == "l2" and (setting, "none", 0.0) in found
    }
    ordered = sorted(pairs, key=lambda key: (_place(key[0]), key[1]))
    return {key: {name: log_ratio(*pairs[key], name) for name in SENSITIVITIES} for key in ordered}


def correlation(x: ArrayLike, y: ArrayLike, *, seed: int = 0) -> Interval:
    """Spearman's rank correlation of two quantities over runs, with its 95% percentile bootstrap interval.

    Unknown below ``COUNTED`` runs, and where one of the two is the same in all of them; the ends are unknown where
    that happens in a resample.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < COUNTED or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Interval(math.nan, math.nan, math.nan)

    def rank_correlation(a, b, axis=-1):
        a, b = (scipy.stats.rankdata(z, axis=axis) for z in (a, b))
        a, b = (z - z.mean(axis=axis, keepdims=True) for z in (a, b))
        return (a * b).sum(axis=axis) / np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))

    rng = np.random.default_rng(seed)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # 0/0 in a resample of equal values
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        result = scipy.stats.bootstrap(
            (x, y), rank_correlation, paired=True, vectorized=True, method="percentile", rng=rng
        )
    return Interval(float(rank_correlation(x, y)), *map(float, result.confidence_interval))
