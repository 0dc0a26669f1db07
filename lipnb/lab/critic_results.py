"""From the critics' records to scores and comparisons over seeds.

The one score that decides: the *shortfall* 1 − gap/(L·W1), where L is the largest gradient norm found anywhere, a
lower bound of the critic's constant. It is 0 for an optimal critic, whatever its constant, and 1 for one that sees no
difference. A comparison takes the mean over the pairs for each seed, then Student's interval over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lipnb.lab import records
from lipnb.lab.critic_measures import NEAR
from lipnb.lab.statistics import Interval, epochs_to_reach, mean_interval

__all__ = [
    "Training",
    "chosen",
    "compare",
    "load",
    "off_over_on",
    "over_seeds",
    "planes",
    "scale",
    "shortfall",
    "shortfalls",
    "speed",
]

Training = Mapping[str, Any]
Score = Callable[[Training], float]


def load(folder: Path, experiment: str = "critic") -> list[dict[str, Any]]:
    """Every training of ``experiment`` below ``folder``, with its run's name, method, strength, steps and width.

    Raises ValueError where two runs trained one method on the same pair and seed, as after new settings; the tuning and
    the sweep over depths are meant to.
    """
    found: list[dict[str, Any]] = []
    for record in records.read(folder, experiment):
        p = record["parameters"]
        common = {"run": record["run"], **{key: p[key] for key in ("method", "strength", "steps", "width")}}
        found += [common | training for training in record["trainings"]]
    if experiment in ("critic", "critic_more"):
        runs: dict[tuple[str, str, int], str] = {}
        for t in found:
            other = runs.setdefault((t["method"], t["pair"], t["seed"]), t["run"])
            if other != t["run"]:
                raise ValueError(f"a method must have one run. Received: {other}, {t['run']}")
    return found


def planes(folder: Path, pair: str) -> dict[str, np.ndarray]:
    """By method f and ‖∇f‖ on the grid of ``pair``'s box (2, points), of the first seed of ``critic``."""
    found = {}
    for record in records.read(folder, "critic"):
        arrays = records.read_arrays(folder, "critic", record["run"])
        if f"plane_{pair}" in arrays:
            found[record["parameters"]["method"]] = arrays[f"plane_{pair}"]
    return found


def shortfall(training: Training) -> float:
    """1 − gap/(largest·w1) after training; NaN where it diverged or its gradient is 0 everywhere."""
    if training["diverged_at"] is not None or training["largest"] == 0:
        return float("nan")
    return 1 - training["gap"] / (training["largest"] * training["w1"])


def shortfalls(training: Training) -> np.ndarray:
    """The shortfall at every measurement while training, by the largest norm found at that time on fewer points."""
    gap, largest, w1 = (np.array(training["history"][key]) for key in ("gap", "largest", "w1"))
    return 1 - gap / (np.where(largest > 0, largest, np.inf) * w1)


def off_over_on(training: Training) -> float:
    """log₂ of the largest gradient norm found off the segments over the largest on them; NaN where it diverged.

    What the uphill search found counts off them where it is farther than NEAR from them all, and else on them.
    """
    if training["diverged_at"] is not None:
        return float("nan")
    largest = {place: training["norms"][place]["max"] for place in ("off", "segments")}
    if uphill := training["uphill"]:
        place = "off" if uphill["distance"] > NEAR else "segments"
        largest[place] = max(largest[place], uphill["norm"])
    return float(np.log2(largest["off"] / largest["segments"]))


def over_seeds(trainings: Iterable[Training], method: str, score: Score) -> dict[int, float]:
    """``score`` of ``method`` by seed, the mean over its pairs; seeds with an undefined score are left out."""
    found: dict[int, list[float]] = {}
    for training in trainings:
        if training["method"] == method:
            found.setdefault(training["seed"], []).append(score(training))
    return {seed: float(np.mean(s)) for seed, s in sorted(found.items()) if np.all(np.isfinite(s))}


def compare(trainings: Sequence[Training], a: str, b: str, score: Score = shortfall) -> Interval:
    """Score of ``a`` minus that of ``b``, paired by seed, with its 95% t-interval."""
    first, second = (over_seeds(trainings, method, score) for method in (a, b))
    return mean_interval([first[seed] - second[seed] for seed in first if seed in second])


def speed(trainings: Sequence[Training], a: str, b: str) -> Interval:
    """log₂ of the ratio of the steps that ``a`` and ``b`` need to reach the worse of their two final shortfalls.

    The mean over the pairs for each seed, with its 95% t-interval: 1 means that ``a`` needs twice as many steps.
    """
    partner = {(t["pair"], t["seed"]): t for t in trainings if t["method"] == b}

    def ratio(training: Training) -> float:
        both = [training, partner[training["pair"], training["seed"]]]
        if any(t["diverged_at"] is not None for t in both):
            return float("nan")
        curves = [shortfalls(t) for t in both]
        target = max(curve[-1] for curve in curves)
        steps = [epochs_to_reach(t["history"]["step"], c, target) for t, c in zip(both, curves, strict=True)]
        return float(np.log2(steps[0] / steps[1]))

    known = [t for t in trainings if t["method"] == a and (t["pair"], t["seed"]) in partner]
    return mean_interval(list(over_seeds(known, a, ratio).values()))


def chosen(tuned: Iterable[Training]) -> dict[tuple[str, float, float], float]:
    """Mean shortfall over pairs for each (method, strength, learning rate) of the tuning; NaN where one diverged."""
    found: dict[tuple[str, float, float], list[float]] = {}
    for t in tuned:
        found.setdefault((t["method"], t["strength"], t["learning_rate"]), []).append(shortfall(t))
    return {key: float(np.mean(values)) for key, values in sorted(found.items())}


def scale(folder: Path) -> str:
    """What the runs of ``critic`` were, in a line for verdicts; empty where there are none."""
    for record in records.read(folder, "critic"):
        p, q = record["parameters"], record["provenance"]
        return (
            f"{len(p['pairs'])} pairs of known distance in one and two dimensions, critics of {p['depths'][0]} hidden "
            f"layers of {p['width']}, {p['steps']} steps, batch {p['batch']}, {p['repeats']} seeds, {q['backend']} on {q['device']}"
        )
    return ""
