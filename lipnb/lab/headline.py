"""The headline's quantities from its records: by method, loss and critic steps, seed beside seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from IPython.display import Markdown

from lipnb.lab import cost_results, seeds, verdicts
from lipnb.lab.figures import game_label
from lipnb.lab.statistics import Interval, epochs_to_reach, mean_interval

__all__ = [
    "COLUMNS",
    "SHOWN",
    "Series",
    "compare",
    "scale",
    "series",
    "shortened",
    "shown",
    "summary",
    "verdict_h6",
    "verdict_h7",
]

Record = dict[str, Any]
# The core of the grid, in the order of the figures; the other combinations stand in the tables.
SHOWN = (
    ("none", "wasserstein"),
    ("weight_clip", "wasserstein"),
    ("gradient_penalty", "wasserstein"),
    ("spectral_norm", "wasserstein"),
    ("spectral_norm", "hinge"),
)
COLUMNS = {"fid_test": 1, "fid_train": 1, "score": 2}
RULE_H6 = (
    "At one and at five critic steps, paired by seed, the 95% t-intervals of the difference of final FIDs and of the "
    "log-ratio of epochs needed both lie on spectral normalization's side; a pair with a run that diverged is left out"
)
UPDATES = (1, 5)  # critic steps in the updates that H7 tells of
RULE_H7 = "At every width, the 95% bootstrap interval of the ratio of critic-step times, penalty over normalization, lies above 1"


@dataclass(frozen=True)
class Series:
    """The runs of one method, loss and number of critic steps, by seed."""

    method: str
    loss: str
    critic_steps: int
    runs: dict[int, Record]

    @property
    def label(self) -> str:
        """The method's name, and the loss where it is not the Wasserstein loss."""
        return game_label(self.method, self.loss)

    @property
    def finished(self) -> dict[int, Record]:
        """The runs that did not diverge."""
        return seeds.finished(self.runs)

    def curve(self, key: str) -> np.ndarray:
        """``key`` at every measurement of the finished runs, shape (seeds, measurements)."""
        return np.array([[entry[key] for entry in run["history"]] for run in self.finished.values()])

    def final(self, key: str) -> list[float]:
        """``key`` at the last measurement of each finished run."""
        return [run["history"][-1][key] for run in self.finished.values()]

    def outcome(self) -> str:
        """How many runs there are, and where those that diverged did."""
        steps = [run["diverged_at"] for run in self.runs.values() if run["diverged_at"] is not None]
        return f"{len(self.runs)}" + (f", diverged at update {', '.join(map(str, steps))}" if steps else "")


def series(records: Sequence[Record]) -> dict[tuple[str, str, int], Series]:
    """The records by (method, loss, critic steps); ValueError where two are of one seed, as after new settings."""
    grouped = seeds.grouped(records, lambda p: (p["method"], p["loss"], p["critic_steps"]))
    return {key: Series(*key, runs) for key, runs in grouped.items()}


def shown(all_series: dict[tuple[str, str, int], Series], critic_steps: int) -> list[Series]:
    """The series that the figures show for ``critic_steps``, where a run of theirs ended."""
    found = [all_series[(*key, critic_steps)] for key in SHOWN if (*key, critic_steps) in all_series]
    return [s for s in found if s.finished]


def shortened(of: Series, share: float) -> Series:
    """The same runs stopped at the measurement after ``share`` of them: the rate is constant, so nothing else changes."""
    runs = {
        seed: run | {"history": run["history"][: max(1, round(share * len(run["history"])))]}
        for seed, run in of.runs.items()
    }
    return replace(of, runs=runs)


def compare(a: Series, b: Series, key: str = "fid_test") -> dict[str, Interval | int]:
    """How ``a`` does beside ``b``, pair by pair.

    Returns
    -------
    ``end``: final distance of b − a (positive: a ends better); ``epochs``: logarithm (base 2) of the ratio of
    the epochs that b and a need to reach the worse of the two final distances (positive: a is faster, 1 means
    in half the epochs); ``pairs``: their number. 95% t-intervals over the pairs.
    """

    def end(run: Record) -> float:
        return run["history"][-1][key]

    pairs = seeds.paired(a.runs, b.runs)
    targets = [max(end(x), end(y)) for x, y in pairs]
    speed = [
        np.log2(_epochs(y, target, key) / _epochs(x, target, key))
        for (x, y), target in zip(pairs, targets, strict=True)
    ]
    difference = seeds.difference(b.runs, a.runs, end)
    return {"end": difference, "epochs": mean_interval(speed), "pairs": len(pairs)}


def scale(runs: Sequence[Record], shape: tuple[int, int]) -> str:
    """What the runs of games on images of ``shape`` were, in one line for verdicts and summaries."""
    if not runs:
        return "runs are missing"
    p, q = runs[0]["parameters"], runs[0]["provenance"]
    ends = {r["parameters"]["critic_steps"]: r["history"][-1] for r in runs if r["diverged_at"] is None}
    lengths = [
        f"{end['update']} generator updates in {end['epoch']:.2g} epochs with {_steps(steps)}"
        for steps, end in sorted(ends.items())
    ]
    seeds = {run["parameters"]["seed"] for run in runs}
    return (
        f"{p['dataset']}, {shape[0]}×{shape[1]}, DCGAN of width {p['width']}, {p['steps']} optimizer steps "
        f"({', '.join(lengths)}), batch 64, {len(seeds)} seed{'s' * (len(seeds) > 1)}, {q['backend']} on {q['device']}"
    )


def verdict_h6(
    comparison: dict[int, dict],
    all_series: dict,
    *,
    scale: str,
    profile: str,
    elsewhere: Mapping[str, Interval] | None = None,
) -> verdicts.Verdict:
    """H6 by its rule; "open" where fewer than two pairs leave no interval.

    What no rule counts stands beside in its numbers: the same difference of final FIDs with the hinge loss of
    normalization's authors and, from ``elsewhere``, with other networks.
    """
    beside = _differences(all_series, comparison) | dict(elsewhere or {})
    sides = {c: (v["end"].side, v["epochs"].side) for c, v in comparison.items()}
    known = all(v["end"].known for v in comparison.values())
    names = [
        run["run"]
        for c in comparison
        for method in ("spectral_norm", "gradient_penalty")
        for run in all_series[method, "wasserstein", c].runs.values()
    ]
    told = "; ".join(
        f"{_steps(c)}: ends {_WORDS_END[v['end'].side]} ({v['end'].text()}), {_WORDS_EPOCHS[v['epochs'].side]}"
        for c, v in comparison.items()
    )
    pairs = " and ".join(dict.fromkeys(str(v["pairs"]) for v in comparison.values()))
    return verdicts.experiment(
        "H6",
        all(side == (1, 1) for side in sides.values()) if known else None,
        rule=RULE_H6,
        summary=(
            f"Spectral normalization beside the gradient penalty, Wasserstein loss; in brackets the penalty's final FID minus "
            f"normalization's over {pairs} pairs. {told}.{_ends(all_series, comparison)}"
        ),
        scale=scale,
        profile=profile,
        runs=names,
        numbers={
            _steps(c): {
                "fid_difference": v["end"].numbers(),
                "log2_epochs_ratio": v["epochs"].numbers(),
                "pairs": v["pairs"],
            }
            for c, v in comparison.items()
        }
        | {"differences": {name: interval.numbers() for name, interval in beside.items()}},
    )


def _differences(all_series: dict, steps: Iterable[int]) -> dict[str, Interval]:
    """Final FID of the penalty minus normalization's with each loss, paired by seed, where there are two pairs."""
    found = {}
    for count in steps:
        penalty = all_series.get(("gradient_penalty", "wasserstein", count))
        for loss, name in (("wasserstein", "Wasserstein"), ("hinge", "hinge")):
            ours = all_series.get(("spectral_norm", loss, count))
            if ours is not None and penalty is not None:
                between = seeds.difference(
                    penalty.runs, ours.runs, lambda run: run["history"][-1]["fid_test"]
                )
                found[f"DCGAN, {_steps(count)}, {name} loss"] = between
    return {name: between for name, between in found.items() if between.known}


def _ends(all_series: dict, steps: Iterable[int]) -> str:
    """Where the two methods end, normalization with both losses; a sentence for H6, empty where a run is missing."""
    names = {
        ("gradient_penalty", "wasserstein"): "the penalty",
        ("spectral_norm", "wasserstein"): "normalization",
        ("spectral_norm", "hinge"): "normalization with its authors' hinge loss",
    }
    told = []
    for count in steps:
        reached = {name: all_series.get((*key, count)) for key, name in names.items()}
        found = {name: s for name, s in reached.items() if s is not None and s.finished}
        if len(found) < len(names):
            return ""
        ends = (f"{name} {mean_interval(s.final('fid_test')).text()}" for name, s in found.items())
        told.append(f"{_steps(count)}: {', '.join(ends)}")
    return f" Final FIDs, {'; '.join(told)}."


def verdict_h7(ratios: dict[str, Interval], cost: Record, *, profile: str) -> verdicts.Verdict:
    """H7 by its rule; "open" where too few rounds were timed for an interval. Whole updates are told beside it."""
    known = all(ratio.known for ratio in ratios.values())
    told = ", ".join(f"{ratio.text(2)} at width {width}" for width, ratio in ratios.items())
    updates = {c: {w: cost_results.update_ratio(cost["seconds"][w], c) for w in ratios} for c in UPDATES}
    whole = ", ".join(f"{_range(of)} with {_steps(c)}" for c, of in updates.items())
    p = cost["provenance"]
    return verdicts.experiment(
        "H7",
        all(ratio.low > 1 for ratio in ratios.values()) if known else None,
        rule=RULE_H7,
        summary=(
            f"A critic step with the penalty takes {told} times one with spectral normalization. A whole generator update, "
            f"its own step included, takes by width {whole} times as long."
        ),
        scale=f"28×28 critic, batch {cost['parameters']['batch']}, {p['backend']} on {p['device']}, {p['threads']} threads",
        profile=profile,
        runs=[cost["run"]],
        numbers={f"width {width}": ratio.numbers() for width, ratio in ratios.items()}
        | {
            f"generator update, {_steps(c)}": {f"width {w}": ratio.numbers() for w, ratio in of.items()}
            for c, of in updates.items()
        },
    )


def _range(ratios: dict[str, Interval]) -> str:
    """The smallest and the largest of the ratios, each with its interval."""
    ordered = sorted(ratios.values(), key=lambda ratio: ratio.mean)
    return " to ".join(dict.fromkeys(ratio.text(2) for ratio in (ordered[0], ordered[-1])))


def summary(comparison: dict[int, dict], ratios: dict[str, Interval], scale: str) -> Markdown:
    """The chapter's last paragraph, from its numbers."""
    ends = "; ".join(
        f"with {_steps(c)} its final FID is {_WORDS_END[v['end'].side]} (penalty minus normalization: {v['end'].text()})"
        for c, v in comparison.items()
    )
    times = ", ".join(f"{ratio.mean:.2f} (width {width})" for width, ratio in ratios.items())
    return Markdown(
        f"Under the Wasserstein loss, spectral normalization beside the gradient penalty: {ends}. A critic step with "
        f"the penalty costs {times} times as much. Scale: {scale}."
    )


_WORDS_END = {1: "better", 0: "no different within the interval", -1: "worse"}
_WORDS_EPOCHS = {1: "in fewer epochs", 0: "in no clearly different number of epochs", -1: "in more epochs"}


def _steps(count: int) -> str:
    return f"{count} critic step{'s' * (count > 1)}"


def _epochs(run: Record, target: float, key: str) -> float:
    history = run["history"]
    return epochs_to_reach([h["epoch"] for h in history], [h[key] for h in history], target)
