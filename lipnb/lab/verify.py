"""Compare this machine's fresh results with the recorded ones, claim by claim: what `make verify` calls.

A verdict must be the same. Where it is not, but some of the runs behind the recorded one were not made here, or where
recorded runs stand in for all of them, the claim is "not made" and nothing is said of it. Two means with 95%
intervals of half-widths h and h' agree where they differ by at most ``WIDTHS``·sqrt(h² + h'²). The final values of
runs agree where the means over seeds differ by at most t·s·sqrt(1/n + 1/n'), with s the recorded standard deviation
over n seeds and t Student's quantile at ``LEVEL``: the spread comes from the records, never from a typed tolerance.
Where one run holds many trainings, those that differ in nothing but the seed are compared together. Numbers without a
recorded spread are compared for equality only.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from rich.console import Console

from lipnb.lab import grid, paths, records, sources
from lipnb.lab.tables import Table

__all__ = ["Comparison", "compare_runs", "compare_verdicts", "main"]

WIDTHS = 2.0
LEVEL = 0.9995  # one-sided: hundreds of numbers are compared, so chance alone must rarely reach it
TIMES = ("seconds", "memory", "rounds")  # the machine's, not the experiment's
NO_RESULTS = (
    "parameters",
    "provenance",
    "trainings",
    "learning_rate",
)  # of a record, or of one of its trainings


@dataclass(frozen=True)
class Comparison:
    """One row: what was compared, both values as text, and how it ended.

    ``outcome`` is ``same`` (equal), ``agrees`` (within the recorded spread), ``outside`` it, ``changed`` (a verdict),
    ``not made`` (here), or ``no spread`` (different, and the records cannot tell by how much they may differ).
    """

    name: str
    recorded: str
    fresh: str
    outcome: str


def compare_verdicts(
    recorded: Mapping[str, Any], fresh: Mapping[str, Any], made: Collection[str]
) -> list[Comparison]:
    """One row a claim, from two files as :func:`lipnb.lab.verdicts.merge` writes them and the names of the runs made here."""
    return [_claim(claim, old, fresh.get(claim, {}), made) for claim, old in recorded.items()]


def compare_runs(
    recorded: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]]
) -> list[Comparison]:
    """One row for each final number of each setting (parameters but the seed) that both sides have."""
    old, new = _by_setting(recorded), _by_setting(fresh)
    return [
        _numbers(f"{setting}: {key}", values, new[setting][key])
        for setting, keys in old.items()
        for key, values in keys.items()
        if key in new.get(setting, {})
    ]


def main() -> int:
    """Print the comparison, write ``build/<profile>/verify.html``; 1 where a verdict changed, 2 where one side lacks."""
    profile, console = os.environ.get("PROFILE", "cpu"), Console(width=None if sys.stdout.isatty() else 140)
    old, new = paths.RECORDED / "verdicts.json", paths.build(profile) / "verdicts.json"
    if not (paths.runs(profile).is_dir() and old.exists() and new.exists()):
        console.print(
            f"nothing to compare: PROFILE={profile} needs recorded results and a `make reproduce` here."
        )
        return 2
    made = {path.stem for path in paths.runs(profile, fresh=True).rglob("*.json")}
    claims = compare_verdicts(json.loads(old.read_text()), json.loads(new.read_text()), made)
    runs = [row for experiment in _experiments(profile) for row in _experiment(profile, experiment)]
    tables = [_table("Claims", claims), _table("Final numbers of the runs, means over seeds", runs)]
    page = _page(profile, claims, runs, tables)
    console.print(repr(tables[0]), highlight=False, markup=False)
    for row in (row for row in runs if row.outcome == "outside"):
        console.print(
            f"outside the recorded spread: {row.name}: {row.recorded} → {row.fresh}", highlight=False
        )
    console.print(
        f"{_counted(claims)} of {len(claims)} claims; {_counted(runs)} of {len(runs)} numbers",
        highlight=False,
    )
    console.print(f"all of them: {page.relative_to(paths.ROOT)}", highlight=False)
    return int(any(row.outcome == "changed" for row in claims))


# Claims --------------------------------------------------------------------------------------------------


def _claim(claim: str, old: Mapping[str, Any], new: Mapping[str, Any], made: Collection[str]) -> Comparison:
    before, after = old["verdict"], new.get("verdict", "open")
    if sources.stands_in(new):
        return Comparison(claim, before, after, "not made")
    if before != after:  # no rule: the chapter has not said anything
        whole = "rule" in new and set(old.get("runs", ())) <= set(made)
        return Comparison(claim, before, after, "changed" if whole else "not made")
    pairs = list(_pairs(old.get("numbers", {}), new.get("numbers", {})))
    if all(a == b for a, b in pairs):
        return Comparison(claim, before, after, "same")
    known = [_apart(a, b) for a, b in pairs if a != b and _is_interval(a) and _is_interval(b)]
    if any(apart > WIDTHS for apart in known):
        return Comparison(claim, before, after, "outside")
    return Comparison(claim, before, after, "agrees" if known else "no spread")


def _pairs(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """The leaves that both sides have; a triple of an estimate and its interval is one leaf."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old.keys() & new.keys():
            yield from _pairs(old[key], new[key])
    elif _is_nested(old) and _is_nested(new) and len(old) == len(new):
        for a, b in zip(old, new, strict=True):
            yield from _pairs(a, b)
    else:
        yield old, new


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, list) for item in value)


def _is_interval(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, (int, float)) for v in value)):
        return False
    mean, low, high = value
    return low <= mean <= high and low < high


def _apart(a: Sequence[float], b: Sequence[float]) -> float:
    """Difference of two means in units of its own 95% half-width."""
    return abs(a[0] - b[0]) / math.hypot((a[2] - a[1]) / 2, (b[2] - b[1]) / 2)


# Runs ----------------------------------------------------------------------------------------------------


def _experiments(profile: str) -> list[str]:
    return list(dict.fromkeys(run.experiment for run in grid.runs(profile)))


def _experiment(profile: str, experiment: str) -> list[Comparison]:
    return compare_runs(
        *(records.read(paths.runs(profile, fresh=side), experiment) for side in (False, True))
    )


def _by_setting(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    grouped: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        setting = "-".join(part for part in run["run"].split("-") if not part.startswith("seed"))
        for part, numbers in _parts(run):
            for key, value in numbers:
                grouped[setting + part][key].append(value)
    return grouped


def _parts(run: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[tuple[str, float]]]]:
    """A record's own numbers and those of each of its trainings, each with what tells it from others but for the seed."""
    yield "", _final(run)
    for t in run.get("trainings", ()):
        yield f", {t['pair']}, depth {t['depth']}, rate {t['learning_rate']:g}", _final(t)


def _final(run: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The named numbers of a record or training, of a history the last entry's; without what was given, and times."""
    for key, value in run.items():
        if key not in NO_RESULTS:
            yield from _leaves(key, value)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, float]]:
    if any(word in key for word in TIMES):
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    elif isinstance(value, list) and value and isinstance(value[-1], Mapping):
        yield from _leaves(key, value[-1])
    elif isinstance(value, float):
        yield key, value


def _numbers(name: str, old: Sequence[float], new: Sequence[float]) -> Comparison:
    texts = f"{np.mean(old):.4g}", f"{np.mean(new):.4g}"
    if sorted(old) == sorted(new):
        return Comparison(name, *texts, "same")
    if len(old) < 2 or np.ptp(old) == 0:
        return Comparison(name, *texts, "no spread")
    allowed = (
        scipy.stats.t.ppf(LEVEL, len(old) - 1) * np.std(old, ddof=1) * math.sqrt(1 / len(old) + 1 / len(new))
    )
    return Comparison(name, *texts, "agrees" if abs(np.mean(old) - np.mean(new)) <= allowed else "outside")


# What is shown -------------------------------------------------------------------------------------------


def _table(caption: str, rows: Sequence[Comparison]) -> Table:
    cells = [[row.name, row.recorded, row.fresh, row.outcome] for row in rows]
    return Table(["", "recorded", "fresh", "outcome"], cells, caption)


def _counted(rows: Sequence[Comparison]) -> str:
    counts = {
        outcome: sum(row.outcome == outcome for row in rows) for outcome in sorted({r.outcome for r in rows})
    }
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "none"


def _page(
    profile: str, claims: Sequence[Comparison], runs: Sequence[Comparison], tables: Sequence[Table]
) -> Path:
    style = (
        "body{font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #8a8a8a55}"
        "caption{text-align:left;font-weight:600;padding:1rem 0 .4rem}.lipnb-scroll{overflow-x:auto}"
    )
    note = (__doc__ or "").split("\n\n", 1)[1]
    body = "".join(table._repr_html_() for table in tables)
    path = paths.build(profile) / "verify.html"
    beside = path.with_suffix(".partial")
    beside.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Fresh and recorded results</title><style>{style}</style><h1>Fresh and recorded results, profile {profile}</h1>"
        f"<p>{_counted(claims)} of {len(claims)} claims; {_counted(runs)} of {len(runs)} numbers.</p><p>{note}</p>{body}</html>\n"
    )
    os.replace(beside, path)
    return path


if __name__ == "__main__":
    sys.exit(main())
