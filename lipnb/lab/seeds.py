"""Records of runs grouped by what they share but the seed, so that settings can be compared seed beside seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from lipnb.lab.statistics import Interval, mean_interval

__all__ = ["difference", "finished", "grouped", "paired"]

Record = dict[str, Any]
K = TypeVar("K")


def grouped(records: Iterable[Record], key: Callable[[dict[str, Any]], K]) -> dict[K, dict[int, Record]]:
    """The records by ``key`` of their parameters, then by seed, both in the order of the seeds.

    Raises ValueError where two runs of one key have the same seed, as after new settings.
    """
    found: dict[K, dict[int, Record]] = {}
    for record in sorted(records, key=lambda r: (r["parameters"]["seed"], r["run"])):
        runs, seed = found.setdefault(key(record["parameters"]), {}), record["parameters"]["seed"]
        if seed in runs:
            raise ValueError(f"a seed must have one run. Received: {runs[seed]['run']}, {record['run']}")
        runs[seed] = record
    return found


def finished(runs: Mapping[int, Record]) -> dict[int, Record]:
    """The runs, by seed, that did not diverge."""
    return {seed: run for seed, run in runs.items() if run["diverged_at"] is None}


def paired(a: Mapping[int, Record], b: Mapping[int, Record]) -> list[tuple[Record, Record]]:
    """The finished runs of ``a`` and ``b`` that share a seed."""
    first, second = finished(a), finished(b)
    return [(first[seed], second[seed]) for seed in first if seed in second]


def difference(
    a: Mapping[int, Record], b: Mapping[int, Record], value: Callable[[Record], float]
) -> Interval:
    """Mean of ``value`` in a − b over the pairs, with the 95% t-interval of the pairs' differences."""
    return mean_interval([value(first) - value(second) for first, second in paired(a, b)])
