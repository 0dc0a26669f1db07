"""From the critics' records to scores, comparisons and verdicts (G3, G4, G6, H1, H2, H3).

The one score that decides: the *shortfall* 1 − gap/(L·W1), where L is the largest gradient norm found anywhere, a
lower bound of the critic's constant. It is 0 for an optimal critic, whatever its constant, and 1 for one that sees no
difference. A comparison takes the mean over the pairs for each seed, then Student's interval over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lipnb.lab import records, verdicts
from lipnb.lab.critic_measures import NEAR
from lipnb.lab.statistics import Interval, epochs_to_reach, mean_interval

__all__ = [
    "RULES",
    "chosen",
    "compare",
    "load",
    "off_over_on",
    "over_seeds",
    "scale",
    "shortfall",
    "shortfalls",
    "speed",
    "verdict_g3",
    "verdict_g4",
    "verdict_g6",
    "verdict_h1",
    "verdict_h2",
    "verdict_h3",
]

Training = Mapping[str, Any]
Score = Callable[[Training], float]
ABOUT_ONE = (0.8, 1.25)
AS_WELL = 0.05
RULES = {
    "G3": (
        "On every pair, the 95% t-intervals over seeds of the mean gradient norm on held-out segments and of the largest "
        "gradient norm found anywhere both lie in 0.8 … 1.25 under the two-sided penalty, and neither does without a "
        "constraint"
    ),
    "G4": (
        "Paired by seed, the 95% t-interval of the two-sided penalty's shortfall minus the one-sided (squared) one's, "
        "each the mean over the pairs, lies above 0"
    ),
    "G6": (
        "Under the two-sided penalty, the 95% t-interval over seeds of log₂ of the largest gradient norm found off the "
        "segments over the largest on them, the mean over the pairs, lies above 0"
    ),
    "H1": (
        "The bound from c and the layers' sizes holds in every training; paired by seed, the 95% t-interval of weight "
        "clipping's shortfall minus the gradient penalty's, each the mean over the pairs, lies above 0; and at the "
        "paper's c the loss's gradient at the start at least halves with each further hidden layer (95% t-interval of "
        "the slope of its log₂ below −1)"
    ),
    "H2": (
        "Paired by seed, the 95% t-interval of weight clipping's shortfall minus Frobenius clipping's, each the mean over "
        "the pairs, lies above 0"
    ),
    "H3": (
        "Paired by seed and each the mean over the pairs: the 95% t-interval of the Frobenius penalty's shortfall minus "
        "Frobenius clipping's lies below 0.05 (works as well), and that of log₂ of the ratio of the steps that they need "
        "to reach the worse of their two final shortfalls lies above 0 (slower)"
    ),
}


def load(folder: Path, experiment: str = "critic") -> list[dict[str, Any]]:
    """Every training of ``experiment`` below ``folder``, with its run's name, method, strength and seconds."""
    found = []
    for record in records.read(folder, experiment):
        p = record["parameters"]
        common = {"run": record["run"], "method": p["method"], "strength": p["strength"], "steps": p["steps"]}
        found += [common | training for training in record["trainings"]]
    return found


def shortfall(training: Training) -> float:
    """1 − gap/(largest·w1) after training; NaN where it diverged or its gradient is 0 everywhere."""
    if training["diverged_at"] is not None or training["largest"] == 0:
        return float("nan")
    return 1 - training["gap"] / (training["largest"] * training["w1"])


def shortfalls(training: Training) -> np.ndarray:
    """The shortfall at every measurement while training, by the largest norm found until then on fewer points."""
    gap, largest, w1 = (np.array(training["history"][key]) for key in ("gap", "largest", "w1"))
    return 1 - gap / (np.where(largest > 0, largest, np.inf) * w1)


def off_over_on(training: Training) -> float:
    """log₂ of the largest gradient norm found off the segments over the largest on them; NaN where it diverged."""
    if training["diverged_at"] is not None:
        return float("nan")
    off, uphill = training["norms"]["off"]["max"], training["uphill"]
    if uphill is not None and uphill["distance"] > NEAR:
        off = max(off, uphill["norm"])
    return float(np.log2(off / training["norms"]["segments"]["max"]))


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


# Verdicts ------------------------------------------------------------------------------------------------


def verdict_g3(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """G3 by its rule."""
    found: dict[str, dict[str, list[Interval]]] = {}
    for method in ("gradient_penalty", "none"):
        pairs = sorted({t["pair"] for t in trainings if t["method"] == method})
        found[method] = {pair: _typical_and_largest(trainings, method, pair) for pair in pairs}
    both = [interval for of in found.values() for pair in of.values() for interval in pair]
    held = [_about_one(i) for pair in found["gradient_penalty"].values() for i in pair]
    free = [_about_one(i) for pair in found["none"].values() for i in pair]
    known = bool(held and free) and all(interval.known for interval in both)
    numbers = {m: {p: [i.numbers() for i in pair] for p, pair in of.items()} for m, of in found.items()}
    typical, largest = (_span([pair[k] for pair in found["gradient_penalty"].values()]) for k in (0, 1))
    return _experiment(
        "G3",
        all(held) and not any(free) if known else None,
        f"Under the two-sided penalty the mean gradient norm on segments is {typical}, the largest found anywhere {largest}, "
        "by pair: the first is what the penalty holds, the second is a lower bound of the constant.",
        numbers,
        (trainings, ("gradient_penalty", "none")),
        profile,
        scale,
    )


def verdict_g4(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """G4 by its rule."""
    difference = compare(trainings, "gradient_penalty", "one_sided")
    numbers = {"two_sided_minus_one_sided": difference.numbers()}
    told = f"Shortfall of the two-sided minus the one-sided penalty: {difference.text(3)}."
    methods = ("gradient_penalty", "one_sided")
    return _above_zero("G4", [difference], told, numbers, (trainings, methods), profile, scale)


def verdict_g6(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """G6 by its rule."""
    ratio = mean_interval(list(over_seeds(trainings, "gradient_penalty", off_over_on).values()))
    normal = mean_interval(list(over_seeds(trainings, "spectral_norm", lambda t: t["largest"]).values()))
    factor = Interval(*(float(2**value) for value in ratio))
    told = (
        f"Largest gradient norm off the segments over the largest on them, two-sided penalty: {factor.text(2)}. "
        f"Spectral normalization's largest norm anywhere: {normal.text(2)}."
    )
    numbers = {"log2_off_over_on": ratio.numbers(), "largest_under_normalization": normal.numbers()}
    methods = ("gradient_penalty", "spectral_norm")
    return _above_zero("G6", [ratio], told, numbers, (trainings, methods), profile, scale)


def verdict_h1(
    trainings: Sequence[Training], bounds_hold: bool, slope: Interval, profile: str, scale: str
) -> verdicts.Verdict:
    """H1 by its rule; ``slope`` is that of log₂ of the loss's gradient at the start over hidden layers."""
    difference = compare(trainings, "weight_clip", "gradient_penalty")
    known = difference.known and slope.known
    unkind = difference.low > 0 and slope.high < -1
    told = (
        f"The bound {'holds' if bounds_hold else 'fails'}. Weight clipping's shortfall minus the gradient penalty's: "
        f"{difference.text(3)}; a further hidden layer multiplies the gradient at the start by {2**slope.mean:.2f}."
    )
    numbers = {"clip_minus_penalty": difference.numbers(), "log2_gradient_per_layer": slope.numbers()}
    methods = ("weight_clip", "gradient_penalty")
    supported = bounds_hold and unkind if known else None
    return _experiment("H1", supported, told, numbers, (trainings, methods), profile, scale)


def verdict_h2(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """H2 by its rule."""
    difference = compare(trainings, "weight_clip", "frobenius_clip")
    numbers = {"weight_clip_minus_frobenius_clip": difference.numbers()}
    told = f"Shortfall of weight clipping minus that of Frobenius clipping: {difference.text(3)}."
    methods = ("weight_clip", "frobenius_clip")
    return _above_zero("H2", [difference], told, numbers, (trainings, methods), profile, scale)


def verdict_h3(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """H3 by its rule."""
    difference = compare(trainings, "frobenius_penalty", "frobenius_clip")
    slower = speed(trainings, "frobenius_penalty", "frobenius_clip")
    known = difference.known and slower.known
    told = (
        f"Shortfall of the Frobenius penalty minus that of clipping: {difference.text(3)}; it needs {2**slower.mean:.2f} times "
        f"the steps (log₂: {slower.text(2)}) to the worse of the two."
    )
    numbers = {"penalty_minus_clip": difference.numbers(), "log2_steps": slower.numbers()}
    methods = ("frobenius_penalty", "frobenius_clip")
    supported = difference.high < AS_WELL and slower.low > 0 if known else None
    return _experiment("H3", supported, told, numbers, (trainings, methods), profile, scale)


def _typical_and_largest(trainings: Sequence[Training], method: str, pair: str) -> list[Interval]:
    of = [t for t in trainings if (t["method"], t["pair"]) == (method, pair)]
    scores: list[Score] = [lambda t: t["norms"]["segments"]["mean"], lambda t: t["largest"]]
    ended = [t for t in of if t["diverged_at"] is None]
    return [mean_interval(list(over_seeds(ended, method, score).values())) for score in scores]


def _about_one(interval: Interval) -> bool:
    return ABOUT_ONE[0] <= interval.low and interval.high <= ABOUT_ONE[1]


def _span(intervals: Sequence[Interval]) -> str:
    means = [interval.mean for interval in intervals]
    return f"{min(means):.2f} to {max(means):.2f}" if means else "unknown"


def _above_zero(claim, intervals, told, numbers, source, profile, scale) -> verdicts.Verdict:
    known = all(interval.known for interval in intervals)
    supported = all(interval.low > 0 for interval in intervals) if known else None
    return _experiment(claim, supported, told, numbers, source, profile, scale)


def _experiment(claim, supported, told, numbers, source, profile, scale) -> verdicts.Verdict:
    trainings, methods = source
    runs = sorted({t["run"] for t in trainings if t["method"] in methods})
    return verdicts.experiment(
        claim,
        supported,
        rule=RULES[claim],
        summary=told if runs else "No runs yet.",
        scale=scale,
        profile=profile,
        runs=runs,
        numbers=numbers if runs else {},
    )
