"""What the runs with many classes say: penalty beside normalization against the number of classes, and G7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import Markdown

from lipnb.lab import seeds, verdicts
from lipnb.lab.figures import game_label
from lipnb.lab.statistics import Interval, mean_interval

__all__ = [
    "METHODS",
    "RULE_G7",
    "by_method",
    "end",
    "growth",
    "image_rows",
    "images_by",
    "misplaced_gaps",
    "mixture_rows",
    "per_doubling",
    "summary",
    "values",
    "verdict_g7",
]

Record = dict[str, Any]
Key = tuple[str, str]
METHODS: tuple[Key, ...] = (
    ("gradient_penalty", "wasserstein"),
    ("spectral_norm", "wasserstein"),
    ("spectral_norm", "hinge"),
)
PENALTY, NORMALIZATION = METHODS[:2]
WORST = {"misplaced": 1.0, "missing_entropy": 1.0, "quality": 0.0, "modes": 0.0}  # of a run that diverged
RULE_G7 = (
    "Mixtures: the slope of misplaced mass, penalty minus normalization, on the doublings of the number of modes has a "
    "95% t-interval over seeds above 0; and garments with labels: that difference of missing entropy grows from 10 to "
    "1,000 classes, with a 95% t-interval over seeds above 0. Both with the Wasserstein loss"
)


def by_method(records: Sequence[Record]) -> dict[Key, dict[int, Record]]:
    """Records by (method, loss) and then by seed."""
    return dict(sorted(seeds.grouped(records, lambda p: (p["method"], p["loss"])).items()))


def end(outcome: Record, key: str) -> float:
    """``key`` at the last measurement of a training, or the worst value where it diverged."""
    if outcome["diverged_at"] is not None and key in WORST:
        return WORST[key]
    return outcome["history"][-1][key] if outcome["history"] else float("nan")


def values(runs: Mapping[int, Record], n_modes: int, key: str) -> list[float]:
    """``key`` at the end of every seed's training on ``n_modes`` modes."""
    return [end(run["outcomes"][str(n_modes)], key) for run in runs.values()]


def misplaced_gaps(found: Mapping[Key, Mapping[int, Record]]) -> dict[int, dict[int, float]]:
    """Misplaced mass of the penalty minus that of normalization, Wasserstein loss: by seed, then by number of modes."""
    first, second = found.get(PENALTY, {}), found.get(NORMALIZATION, {})
    return {
        seed: {
            k: end(first[seed]["outcomes"][str(k)], "misplaced")
            - end(second[seed]["outcomes"][str(k)], "misplaced")
            for k in first[seed]["parameters"]["modes"]
        }
        for seed in first
        if seed in second
    }


def per_doubling(gaps: Mapping[int, Mapping[int, float]]) -> Interval:
    """Least-squares slope of the gap on log₂ of the number of modes: one a seed, their mean and t-interval."""
    slopes = [np.polyfit(np.log2(list(gap)), list(gap.values()), 1)[0] for gap in gaps.values()]
    return mean_interval(slopes)


def images_by(records: Sequence[Record]) -> dict[tuple[bool, bool, str, str], dict[int, Record]]:
    """Records by (stacked, conditional, method, loss) and then by seed."""
    grouped = seeds.grouped(records, lambda p: (p["stacked"], p["conditional"], p["method"], p["loss"]))
    return dict(sorted(grouped.items()))


def growth(
    images: Mapping[Any, Mapping[int, Record]], conditional: bool, key: str = "missing_entropy"
) -> Interval:
    """By how much the penalty's ``key`` minus normalization's grows from single to stacked images, over seeds."""
    single, stacked = ([images.get((s, conditional, *m), {}) for m in METHODS[:2]] for s in (False, True))
    shared = set.intersection(*(set(runs) for runs in [*single, *stacked]))
    changes = []
    for seed in sorted(shared):
        few, many = (end(a[seed], key) - end(b[seed], key) for a, b in (single, stacked))
        changes.append(many - few)
    return mean_interval(changes)


def mixture_rows(found: Mapping[Key, Mapping[int, Record]]) -> list[list[Any]]:
    """One row a method and number of modes, for a table: mean and interval of each measure."""
    rows = []
    for key, runs in found.items():
        for k in next(iter(runs.values()))["parameters"]["modes"]:
            cells = [
                mean_interval(values(runs, k, m))
                for m in ("misplaced", "modes", "quality", "missing_entropy")
            ]
            diverged = sum(run["outcomes"][str(k)]["diverged_at"] is not None for run in runs.values())
            texts = [cells[0].text(3), cells[1].text(1), cells[2].text(3), cells[3].text(3)]
            rows.append([game_label(*key), k, *texts, f"{diverged} of {len(runs)}"])
    return rows


def image_rows(images: Mapping[Any, Mapping[int, Record]]) -> list[list[Any]]:
    """One row a method, data set and kind of game, for a table."""
    digits = {"fid_test": 1, "modes": 1, "missing_entropy": 3, "coverage": 3, "label_accuracy": 3}
    rows = []
    for (stacked, conditional, *key), runs in images.items():
        ended = [run for run in runs.values() if run["diverged_at"] is None and run["history"]]
        texts = []
        for name, places in digits.items():
            known = [run["history"][-1][name] for run in ended if name in run["history"][-1]]
            texts.append(mean_interval(known).text(places) if known else "–")
        kind = "with labels" if conditional else "without"
        rows.append([game_label(*key), 1000 if stacked else 10, kind, *texts, f"{len(ended)} of {len(runs)}"])
    return rows


def verdict_g7(
    slope: Interval,
    grown: Interval,
    mixtures: Sequence[Record],
    images: Sequence[Record],
    *,
    scale: str,
    profile: str,
) -> verdicts.Verdict:
    """G7 by its rule; "open" where either experiment has fewer than two pairs of seeds."""
    known = slope.known and grown.known
    return verdicts.experiment(
        "G7",
        (slope.low > 0 and grown.low > 0) if known else None,
        rule=RULE_G7,
        summary=_told(slope, grown),
        scale=scale,
        profile=profile,
        runs=[record["run"] for record in (*mixtures, *images)],
        numbers={
            "misplaced_per_doubling": slope.numbers(),
            "missing_entropy_growth": grown.numbers(),
        },
    )


def summary(slope: Interval, grown: Interval, scale: str) -> Markdown:
    """The chapter's last paragraph, from its numbers."""
    return Markdown(f"{_told(slope, grown)} Scale: {scale}.")


def _told(slope: Interval, grown: Interval) -> str:
    return (
        f"Beside spectral normalization, each doubling of the modes of a mixture changes the penalty's misplaced mass by "
        f"{_signed(slope)}: {_trend(slope)}. From 10 to 1,000 classes of garments with labels, its missing entropy "
        f"changes by {_signed(grown)}: {_trend(grown)}."
    )


def _signed(interval: Interval) -> str:
    return interval.text(3) if np.isfinite(interval.mean) else "an unknown amount"


def _trend(interval: Interval) -> str:
    if not interval.known:
        return "runs are missing"
    return {1: "it falls behind", 0: "no trend can be told", -1: "it gains"}[interval.side]
