"""Intervals of a rank correlation over runs that come in methods: what is drawn anew, the seeds or the methods?

The bootstrap over single runs treats the runs of one method as unrelated. Here each method keeps its runs together, in
one of two ways, which answer two questions:

| drawn with replacement | question |
|---|---|
| ``seeds``: within each method its runs | would other seeds of these same methods say the same? |
| ``methods``: whole methods, each with all its runs | would other methods say the same? |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lipnb.checks import check_choice
from lipnb.lab.statistics import Interval
from lipnb.lab.supervised_results import SENSITIVITIES, Group, Key, Setting, lost_under_attack, value
from lipnb.lab.supervised_verdicts import TENDENCIES
from lipnb.lab.tables import Table

__all__ = ["DRAWN", "conclusion", "rank_interval", "table", "tendencies"]

DRAWN: Mapping[str, str] = {"seeds": "seeds of each method", "methods": "whole methods"}
RESAMPLES = 2000
OUTCOMES: Mapping[str, Key] = {"lost": lost_under_attack, "end_gap": "end_gap"}
Correlations = Mapping[Setting, Mapping[tuple[str, str], Interval]]


def rank_interval(
    x: ArrayLike, y: ArrayLike, method: Sequence[Any], *, drawn: str, seed: int = 0
) -> Interval:
    """Spearman's correlation of ``x`` and ``y`` (n,), with the 95% percentile interval of a bootstrap of ``drawn``.

    Parameters
    ----------
    method
        The method of each of the n runs.
    drawn
        ``"seeds"``: every resample has n runs, from each method as many as it has. ``"methods"``: every resample has as
        many methods as there are, some of them several times; at least two methods are needed.

    Returns
    -------
    The ends are NaN where a resample has no correlation, because one of the two quantities is the same throughout.
    """
    check_choice(drawn, "drawn", tuple(DRAWN))
    x, y = np.asarray(x, float), np.asarray(y, float)
    which = np.unique(np.asarray(method), return_inverse=True)[1]
    estimate = float(_spearman(x, y, np.ones((1, len(x))))[0])
    if drawn == "methods" and np.ptp(which) == 0:
        return Interval(estimate, math.nan, math.nan)
    times = {"seeds": _seeds, "methods": _methods}[drawn](which, np.random.default_rng(seed))
    return Interval(estimate, *map(float, np.percentile(_spearman(x, y, times), [2.5, 97.5])))


def _seeds(which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each run is drawn, (resamples, n): as many runs of each method as it has."""
    times = np.empty((RESAMPLES, len(which)))
    for index, count in enumerate(np.bincount(which)):
        times[:, which == index] = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return times


def _methods(which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each run is drawn, (resamples, n): as often as its method is."""
    count = which.max() + 1
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, which].astype(float)


def _spearman(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each resample, in which run i is there ``times[:, i]`` times."""
    a, b = _centred_ranks(x, times), _centred_ranks(y, times)
    covariance, first, second = (np.sum(times * z, axis=1) for z in (a * b, a**2, b**2))
    with np.errstate(invalid="ignore"):  # 0/0 where a quantity is the same throughout a resample
        return covariance / np.sqrt(first * second)


def _centred_ranks(z: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Ranks of ``z`` in each resample less their mean there; equal values share their mean rank."""
    ranks = times @ ((z[:, None] < z) + (z[:, None] == z) / 2)
    return ranks - np.sum(times * ranks, axis=1, keepdims=True) / np.sum(times, axis=1, keepdims=True)


# The chapter's tendencies ---------------------------------------------------------------------------------


def tendencies(
    measured: Correlations, members: Mapping[Setting, Sequence[Group]], *, drawn: str, seed: int = 0
) -> dict[Setting, dict[tuple[str, str], Interval]]:
    """The correlations of ``measured``, from its settings' ``members``, with the intervals of a bootstrap of ``drawn``."""
    return {
        setting: {
            (constant, kind): rank_interval(
                _values(members[setting], constant),
                _values(members[setting], OUTCOMES[kind]),
                [_kind(group, drawn) for group in members[setting] for _ in group.finished],
                drawn=drawn,
                seed=seed,
            )
            for constant, kind in row
        }
        for setting, row in measured.items()
    }


def _kind(group: Group, drawn: str) -> str:
    """What a run's resample keeps together: its method, and for ``seeds`` at one strength."""
    return f"{group.method} {group.strength:g}" if drawn == "seeds" else group.method


def _values(groups: Sequence[Group], key: Key) -> list[float]:
    return [value(run, key) for group in groups for run in group.finished.values()]


def table(measured: Correlations, others: Mapping[str, Correlations]) -> Table:
    """Each correlation of the rule with its interval over runs, and those of ``others`` (by what is drawn) beside it."""
    rows = [
        [
            f"{TENDENCIES[kind]} against {SENSITIVITIES[constant]}",
            setting.label,
            *(found[setting][constant, kind].text(2) for found in (measured, *others.values())),
        ]
        for setting, row in measured.items()
        for constant, kind in row
    ]
    header = ["correlation of", "setting", "runs (the rule)", *(DRAWN[name] for name in others)]
    return Table(header, rows, "Spearman's correlation, 95% bootstrap interval by what is drawn")


def conclusion(measured: Correlations, others: Mapping[str, Correlations]) -> str:
    """Whether the rule's question, are all correlations clearly positive, gets the same answer from each bootstrap."""
    everywhere = {"single runs": measured} | {DRAWN[name]: found for name, found in others.items()}
    intervals = {
        name: [i for row in found.values() for i in row.values()] for name, found in everywhere.items()
    }
    told = "; ".join(f"drawing {name}, {_counted(found)}" for name, found in intervals.items())
    answers = {bool(found) and all(i.side == 1 for i in found) for found in intervals.values()}
    same = "is the same each time" if len(answers) == 1 else "depends on what is drawn"
    return f"{told[:1].upper()}{told[1:]}. The answer to the rule's question {same}"


def _counted(found: Sequence[Interval]) -> str:
    sides = [i.side for i in found]
    width = np.median([i.high - i.low for i in found]) if found else math.nan
    return (
        f"{sides.count(1)} of {len(sides)} are clearly positive and {sides.count(-1)} clearly negative "
        f"(median width {width:.2f})"
    )
