"""The headline's tables: the tuning, the settings that were held fixed, earlier rounds, where each method ends, every run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lipnb.lab.figures import LABELS
from lipnb.lab.headline import COLUMNS, Series
from lipnb.lab.paths import RECORDED
from lipnb.lab.statistics import Interval, mean_interval
from lipnb.lab.tables import Table

__all__ = ["EARLIER", "each", "ends", "rates", "rounds", "tuning"]

Record = Mapping[str, Any]
AllSeries = Mapping[tuple[str, str, int], Series]
STEEPEST = "gradient_norm_max"
EARLIER = RECORDED / "earlier_headline.json"


def rates(tuned: Sequence[Record]) -> list[float]:
    """The learning rates that the tuning tried, ascending."""
    return sorted({record["parameters"]["learning_rate"] for record in tuned})


def tuning(tuned: Sequence[Record], found: AllSeries) -> Table:
    """Distance to the training images for everything tried; ← marks the rate at which the headline's runs were made."""
    tried: dict[tuple[str, str, int], dict[float, str]] = {}
    for record in tuned:
        p = record["parameters"]
        key, rate = (p["method"], p["loss"], p["critic_steps"]), p["learning_rate"]
        lost = record["diverged_at"] is not None
        end = "diverged" if lost else f"{record['history'][-1]['fid_train']:.1f}"
        tried.setdefault(key, {})[rate] = end + " ←" * (key in found and rate == _rate(found[key]))
    rows = [
        [LABELS[key[0]], key[1], key[2], *(row.get(rate, "–") for rate in rates(tuned))]
        for key, row in sorted(tried.items())
    ]
    header = ["method", "loss", "critic steps", *(f"rate {rate:g}" for rate in rates(tuned))]
    steps = tuned[0]["parameters"]["steps"] if tuned else 0
    caption = f"Tuning: FID to training images after {steps} optimizer steps, for every learning rate tried; ← was used"
    return Table(header, rows, caption, folded=True)


def rounds(verdict: Any, tried: Sequence[float], file: Path = EARLIER) -> Table:
    """H6's differences each time that the headline was recorded, by the rates that had been tried before.

    ``verdict`` is the one of now, ``tried`` its rates; an earlier round at as many rates on the same machine is this one.
    """
    now = {"recorded": "now", "rates_tried": list(tried), "scale": verdict.scale}
    now |= {"numbers": verdict.numbers, "verdict": verdict.verdict}
    earlier = json.loads(file.read_text())
    machines = [entry["scale"].rpartition(" on ")[2] for entry in [*earlier, now]]
    same = [
        (e["rates_tried"], m) == (now["rates_tried"], machines[-1])
        for e, m in zip(earlier, machines, strict=False)
    ]
    known = [entry for entry, is_now in zip(earlier, same, strict=True) if not is_now]
    counts = [name for name, numbers in verdict.numbers.items() if "fid_difference" in numbers]
    rows = []
    for entry in [*known, now]:
        differences = [_interval(entry["numbers"][count]["fid_difference"]).text() for count in counts]
        machine = entry["scale"].rpartition(" on ")[2]
        tried_text = f"{len(entry['rates_tried'])}, up to {max(entry['rates_tried'], default=0):g}"
        rows.append([entry["recorded"], tried_text, machine, *differences, entry["verdict"]])
    header = ["recorded", "rates tried", "machine", *counts, "H6"]
    caption = "Final FID of the penalty minus that of normalization, each time that the headline was recorded"
    return Table(header, rows, caption)


def ends(found: AllSeries, rulers: Sequence[Record]) -> Table:
    """Where each method ends, mean over seeds and t-interval, under what real images reach by each of ``rulers``."""
    rows: list[list[Any]] = []
    for ruler in rulers:
        floor, halves = (ruler["floor"][f"between_{pair}"] for pair in ("train_and_test", "halves_of_test"))
        for name, distance in (
            ("training images", floor),
            ("one half of the test images, to the other", halves),
        ):
            rows.append([f"real: {name}", "", "", "", f"{distance:.2f}", *[""] * len(COLUMNS)])
    for s in _ordered(found):
        if s.finished:
            numbers = [mean_interval(s.final(key)).text(digits) for key, digits in COLUMNS.items()]
            rows.append(
                [s.label, s.critic_steps, f"{_rate(s):g}", s.outcome(), *numbers, _span(s.final(STEEPEST))]
            )
    header = ["method", "critic steps", "rate", "runs", "FID, test", "FID, train", "score"]
    caption = "After the whole budget: mean over seeds and 95% t-interval; of the gradient norm the smallest and the largest"
    return Table([*header, "largest gradient norm"], rows, caption)


def each(found: AllSeries) -> Table:
    """Every run: its distance to the test images at every measurement, and where it diverged."""
    most = max((len(run["history"]) for s in found.values() for run in s.runs.values()), default=0)
    rows = []
    for s in _ordered(found):
        for seed, run in s.runs.items():
            distances = [f"{entry['fid_test']:.1f}" for entry in run["history"]]
            absent = ["–"] * (most - len(distances))
            rows.append([s.label, s.critic_steps, seed, *distances, *absent, run["diverged_at"] or "–"])
    header = ["method", "critic steps", "seed", *(f"FID {i + 1}" for i in range(most)), "diverged at"]
    caption = "Every run: FID to the test images at each of the equally spaced measurements"
    return Table(header, rows, caption, folded=True)


def _interval(numbers: Sequence[float | None]) -> Interval:
    return Interval(*(math.nan if number is None else number for number in numbers))


def _ordered(found: AllSeries) -> list[Series]:
    return sorted(found.values(), key=lambda s: (s.critic_steps, s.label))


def _span(values: Sequence[float]) -> str:
    return " – ".join(f"{end:.3g}" for end in (min(values), max(values)))


def _rate(s: Series) -> float:
    return next(iter(s.runs.values()))["parameters"]["learning_rate"]
