"""Verdicts on the claims that the critics settle (G3, G4, G6, H1, H2, H3), each by a rule written before its runs."""

from __future__ import annotations

from collections.abc import Sequence

from IPython.display import Markdown

from lipnb.lab import verdicts
from lipnb.lab.critic_results import Training, compare, off_over_on, over_seeds, shortfall, speed
from lipnb.lab.figures import LABELS
from lipnb.lab.statistics import Interval, mean_interval

__all__ = [
    "RULES",
    "summary_clipping",
    "summary_penalty",
    "verdict_g3",
    "verdict_g4",
    "verdict_g6",
    "verdict_h1",
    "verdict_h2",
    "verdict_h3",
]

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
        "segments (farther than 0.25 from them all) over the largest on them, by points and by the search uphill, the mean "
        "over the pairs, lies above 0"
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


def verdict_g3(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """G3 by its rule."""
    found: dict[str, dict[str, list[Interval]]] = {}
    for method in ("gradient_penalty", "none"):
        pairs = sorted({t["pair"] for t in trainings if t["method"] == method})
        found[method] = {pair: _typical_and_largest(trainings, method, pair) for pair in pairs}
    every = [interval for of in found.values() for pair in of.values() for interval in pair]
    held = [_about_one(i) for pair in found["gradient_penalty"].values() for i in pair]
    free = [_about_one(i) for pair in found["none"].values() for i in pair]
    known = bool(held and free) and all(interval.known for interval in every)
    numbers = {m: {p: [i.numbers() for i in pair] for p, pair in of.items()} for m, of in found.items()}
    typical, largest = (_span([pair[k] for pair in found["gradient_penalty"].values()]) for k in (0, 1))
    outside = [
        f"{kind} on {pair} {interval.text(2)}"
        for pair, both in found["gradient_penalty"].items()
        for kind, interval in zip(("mean", "largest"), both, strict=True)
        if not _about_one(interval)
    ]
    return _experiment(
        "G3",
        all(held) and not any(free) if known else None,
        f"Under the two-sided penalty the mean gradient norm on segments is {typical}, the largest found anywhere {largest}, "
        "by pair: the first is what the penalty holds, the second is a lower bound of the constant. "
        f"Intervals that leave the range: {'; '.join(outside) or 'none'}.",
        numbers,
        (trainings, ("gradient_penalty", "none")),
        profile,
        scale,
    )


def verdict_g4(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """G4 by its rule."""
    methods = ("gradient_penalty", "one_sided")
    difference = compare(trainings, "gradient_penalty", "one_sided")
    numbers = {"two_sided_minus_one_sided": difference.numbers()}
    told = (
        f"Shortfall of the two-sided minus the one-sided penalty: {difference.text(3)}. {_sides(trainings, *methods)}"
        f"{_decided_by(trainings, *methods)}"
    )
    return _above_zero("G4", [difference], told, numbers, (trainings, methods), profile, scale)


def verdict_g6(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """G6 by its rule."""
    ratio = mean_interval(list(over_seeds(trainings, "gradient_penalty", off_over_on).values()))
    normal = mean_interval(list(over_seeds(trainings, "spectral_norm", lambda t: t["largest"]).values()))
    factor = Interval(*(float(2**value) for value in ratio))
    seen = {1: "was seen", 0: "was not seen", -1: "was not seen: they are less steep"}[ratio.side]
    told = (
        "That the two-sided penalty enforces nothing off the segments is a theorem of the chapter. That critics trained with it are "
        f"steeper there, which the rule asks, {seen}: the largest gradient norm off the segments over the largest on "
        f"them is {factor.text(2)}; spectral normalization's largest norm anywhere is {normal.text(2)}."
    )
    numbers = {"log2_off_over_on": ratio.numbers(), "largest_under_normalization": normal.numbers()}
    methods = ("gradient_penalty", "spectral_norm")
    return _above_zero("G6", [ratio], told, numbers, (trainings, methods), profile, scale)


def verdict_h1(
    trainings: Sequence[Training], bounds_hold: bool, slope: Interval, profile: str, scale: str
) -> verdicts.Verdict:
    """H1 by its rule; ``slope`` is that of log₂ of the loss's gradient at the start over hidden layers."""
    methods = ("weight_clip", "gradient_penalty")
    difference = compare(trainings, "weight_clip", "gradient_penalty")
    known = difference.known and slope.known
    unkind = difference.low > 0 and slope.high < -1
    told = (
        f"The bound {'holds' if bounds_hold else 'fails'}. Weight clipping's shortfall minus the gradient penalty's: "
        f"{difference.text(3)}. {_sides(trainings, *methods)} At c = 0.01 a further hidden layer multiplies the gradient at the start by {2**slope.mean:.3f}."
    )
    numbers = {"clip_minus_penalty": difference.numbers(), "log2_gradient_per_layer": slope.numbers()}
    other = compare(trainings, "weight_clip", "one_sided")
    if other.known:
        numbers["clip_minus_one_sided"] = other.numbers()
        told += f" Beside the one-sided penalty, for which the rule does not ask: {other.text(3)}."
    supported = bounds_hold and unkind if known else None
    return _experiment("H1", supported, told, numbers, (trainings, methods), profile, scale)


def verdict_h2(trainings: Sequence[Training], profile: str, scale: str) -> verdicts.Verdict:
    """H2 by its rule."""
    difference = compare(trainings, "weight_clip", "frobenius_clip")
    numbers = {"weight_clip_minus_frobenius_clip": difference.numbers()}
    methods = ("weight_clip", "frobenius_clip")
    sides = _sides(trainings, *methods)
    told = f"Shortfall of weight clipping minus that of Frobenius clipping: {difference.text(3)}. {sides}"
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


def _sides(trainings: Sequence[Training], a: str, b: str) -> str:
    """On which pairs the interval of a's shortfall minus b's lies above 0, and on which below."""
    pairs = dict.fromkeys(t["pair"] for t in trainings)
    found = {pair: compare([t for t in trainings if t["pair"] == pair], a, b) for pair in pairs}
    above, below = ([pair for pair, interval in found.items() if interval.side == side] for side in (1, -1))
    return f"Pair by pair: above 0 on {', '.join(above) or 'none'}; below on {', '.join(below) or 'none'}."


def _decided_by(trainings: Sequence[Training], a: str, b: str) -> str:
    """The pairs without each of which the comparison of shortfalls would not be clear; a sentence, empty where none is."""
    if not compare(trainings, a, b).side:
        return ""
    pairs = list(dict.fromkeys(t["pair"] for t in trainings))
    without = {pair: compare([t for t in trainings if t["pair"] != pair], a, b) for pair in pairs}
    alone = [f"{pair}: without it {i.text(3)}" for pair, i in without.items() if i.known and not i.side]
    return (
        f" It was decided by {'one pair' if len(alone) == 1 else 'single pairs'}, {'; '.join(alone)}."
        if alone
        else ""
    )


def _typical_and_largest(trainings: Sequence[Training], method: str, pair: str) -> list[Interval]:
    of = [t for t in trainings if (t["method"], t["pair"]) == (method, pair)]
    scores: list = [lambda t: t["norms"]["segments"]["mean"], lambda t: t["largest"]]
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


def summary_penalty(trainings: Sequence[Training]) -> Markdown:
    """The last paragraph of the chapter on the penalty, from its numbers."""
    if not any(t["method"] == "gradient_penalty" for t in trainings):
        return Markdown("There are no runs yet.")
    ratio = mean_interval(list(over_seeds(trainings, "gradient_penalty", off_over_on).values()))
    difference = compare(trainings, "gradient_penalty", "one_sided")
    ended = [t for t in trainings if t["method"] == "gradient_penalty" and t["diverged_at"] is None]
    typical, largest = (
        _span([mean_interval([f(t) for t in ended if t["pair"] == p]) for p in {t["pair"] for t in ended}])
        for f in (lambda t: t["norms"]["segments"]["mean"], lambda t: t["largest"])
    )
    return Markdown(
        f"The two-sided penalty holds the mean gradient norm on its own points at {typical} (by pair); on the line the best "
        "critic has 1 plus an excess, in closed form. The largest norm found anywhere, a lower bound of the constant, is "
        f"{largest}; off the segments it is {2**ratio.mean:.2f} times what it is on them. A norm of at most 1 on the segments is "
        "enough for a valid estimate of the distance, and bounds the constant nowhere else. The one-sided penalty is concave "
        f"and the two-sided one has traps of wrong sign: its shortfall is larger by {difference.text(3)}. "
        + _sides(trainings, "gradient_penalty", "one_sided")
    )


def summary_clipping(trainings: Sequence[Training]) -> Markdown:
    """The last paragraph of the chapter on clipping, from its numbers."""
    methods = ("weight_clip", "frobenius_clip", "frobenius_penalty", "gradient_penalty", "spectral_norm")
    found = {m: mean_interval(list(over_seeds(trainings, m, shortfall).values())).mean for m in methods}
    if not trainings:
        return Markdown("There are no runs yet.")
    told = ", ".join(f"{LABELS[m]} {value:.2f}" for m, value in found.items() if value == value)
    return Markdown(
        "Clipping bounds the constant, by a theorem, and says nothing of how near to an optimal critic one comes within the "
        "bound. With three hidden layers single weights sit at the corners of their box, and hidden kernels end at rank 1, as under any bound on "
        "the Frobenius norm and without one. A penalty on Frobenius norms is no constraint at all with three layers or "
        f"more. Shortfall of the distance, the mean over pairs and seeds: {told}."
    )
