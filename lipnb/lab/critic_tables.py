"""The tables of the chapters on critics with a known answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lipnb.lab.critic_results import chosen, compare, off_over_on, over_seeds, shortfall, shortfalls
from lipnb.lab.critic_training import METHODS
from lipnb.lab.figures import LABELS
from lipnb.lab.statistics import mean_interval
from lipnb.lab.tables import Table

__all__ = ["by_pair", "duels", "each", "estimates", "present", "tuning"]

Training = Mapping[str, Any]
COLUMNS: dict[str, tuple[Callable[[Training], float], int]] = {
    "gap / W1": (lambda t: t["gap"] / t["w1"], 2),
    "shortfall": (shortfall, 3),
    "certified": (lambda t: t["gap"] / t["bound"] / t["w1"], 2),
    "correlation": (lambda t: t["correlation"], 3),
    "cosine": (lambda t: t["cosine"], 2),
    "largest ‖∇f‖": (lambda t: t["largest"], 2),
    "bound": (lambda t: t["bound"], 2),
}


def present(trainings: Sequence[Training]) -> list[str]:
    """The methods that have trainings, in the book's order."""
    found = {training["method"] for training in trainings}
    return [method for method in METHODS if method in found]


def estimates(trainings: Sequence[Training], caption: str) -> Table:
    """One row a method: what its critics say of the distance and of the potential, means over pairs and seeds.

    certified: gap/bound, a proven lower bound of the distance of the points, in units of it.
    """
    rows = []
    for method in present(trainings):
        of = [t for t in trainings if t["method"] == method]
        ended = [t for t in of if t["diverged_at"] is None]
        numbers = [
            _text(over_seeds(ended, method, score).values(), digits) for score, digits in COLUMNS.values()
        ]
        rows.append([LABELS[method], f"{len(of)}, {len(of) - len(ended)} diverged", *numbers])
    return Table(["method", "trainings", *COLUMNS], rows, caption)


def by_pair(trainings: Sequence[Training], caption: str) -> Table:
    """One row a method and pair: shortfall, largest norm off the segments over that on them, and norms."""
    rows = []
    for method, pair in dict.fromkeys((m, t["pair"]) for m in present(trainings) for t in trainings):
        of = [t for t in trainings if (t["method"], t["pair"]) == (method, pair)]
        ended = [t for t in of if t["diverged_at"] is None]
        scores = (shortfall, off_over_on, lambda t: t["norms"]["segments"]["mean"], lambda t: t["largest"])
        short, off, typical, largest = ([score(t) for t in ended] for score in scores)
        numbers = [_text(short, 3), _text(np.exp2(off), 2), _text(typical, 2), _text(largest, 2)]
        rows.append([LABELS[method], pair, f"{len(ended)} of {len(of)}", *numbers])
    header = ["method", "pair", "ended", "shortfall", "off / on", "mean on segments", "largest"]
    return Table(header, rows, caption)


def tuning(tuned: Sequence[Training], used: Sequence[Training]) -> Table:
    """The tuning's shortfall for everything tried; ← marks what the runs ``used``."""
    scores = chosen(tuned)
    rates = sorted({rate for *_, rate in scores})
    taken = {(t["method"], t["strength"], t["learning_rate"]) for t in used}
    rows = []
    for method, strength in sorted({key[:2] for key in scores}, key=lambda k: (METHODS.index(k[0]), k[1])):
        cells = [(scores.get((method, strength, rate)), (method, strength, rate) in taken) for rate in rates]
        shown = ["–" if score is None else f"{score:.3f}{' ←' * mark}" for score, mark in cells]
        rows.append([LABELS[method], f"{strength:g}" if strength else "–", *shown])
    header = ["method", "strength", *(f"rate {rate:g}" for rate in rates)]
    steps = tuned[0]["steps"] if tuned else 0
    caption = f"Tuning: mean shortfall over the pairs after {steps} steps, for everything tried; ← was used"
    return Table(header, rows, caption, folded=True)


def duels(trainings: Sequence[Training], opponents: Sequence[tuple[str, str]], caption: str) -> Table:
    """How much the first of two methods falls short of the second, paired by seed: a column a pair, and their mean."""
    pairs = list(dict.fromkeys(t["pair"] for t in trainings))
    groups = {pair: [t for t in trainings if t["pair"] == pair] for pair in pairs} | {"mean": trainings}
    rows = [
        [f"{LABELS[a]} − {LABELS[b]}", *(compare(of, a, b).text(3) for of in groups.values())]
        for a, b in opponents
        if {a, b} <= set(present(trainings))
    ]
    return Table(["shortfall of", *groups], rows, caption)


def each(trainings: Sequence[Training], caption: str = "Every training") -> Table:
    """Every training in a row, folded."""
    header = [
        "method",
        "strength",
        "hidden layers",
        "pair",
        "seed",
        "gap",
        "W1",
        "shortfall",
        "rms",
        "correlation",
        "cosine",
    ]
    header += ["on segments", "largest", "bound", "shortfall while training", "diverged at"]
    rows = []
    for t in sorted(trainings, key=_place):
        row = [
            LABELS[t["method"]],
            f"{t['strength']:g}" if t["strength"] else "–",
            t["depth"],
            t["pair"],
            t["seed"],
        ]
        if t["diverged_at"] is None:
            keys = ("gap", "w1", None, "rms", "correlation", "cosine")
            row += [f"{shortfall(t) if key is None else t[key]:.3g}" for key in keys]
            row += [f"{t['norms']['segments']['mean']:.3g}", f"{t['largest']:.3g}", f"{t['bound']:.3g}"]
        else:
            row += ["–"] * 9
        course = ", ".join(f"{value:.2f}" for value in shortfalls(t)) if t["history"]["step"] else "–"
        rows.append([*row, course, t["diverged_at"] or "–"])
    return Table(header, rows, caption, folded=True)


def _place(t: Training) -> tuple:
    return METHODS.index(t["method"]), t["strength"], t["depth"], t["pair"], t["seed"]


def _text(values: Any, digits: int) -> str:
    interval = mean_interval(list(values))
    if not np.isfinite(interval.mean):
        return "–"
    plain = 0.01 <= abs(interval.mean) < 1000
    return interval.text(digits) if plain else f"{interval.mean:.2g}"
