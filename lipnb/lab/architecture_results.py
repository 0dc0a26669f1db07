"""Does the architecture decide? Penalty beside normalization in other pairs of networks, seed beside seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lipnb.lab import headline, seeds
from lipnb.lab.headline import Series
from lipnb.lab.statistics import Interval, mean_interval
from lipnb.lab.tables import Table

__all__ = ["comparison", "differences", "ends", "others"]

Record = dict[str, Any]
NAMES = {"dcgan": "DCGAN", "mlp": "dense", "cnn": "SN-GAN's CNN", "resnet": "SN-GAN's ResNet"}
LOSSES = {"wasserstein": "Wasserstein", "hinge": "hinge"}
PENALTY = ("gradient_penalty", "wasserstein", 1)


def _pairs(records: Sequence[Record]) -> dict[str, dict[tuple[str, str, int], Series]]:
    """The series of each architecture, in the order of ``NAMES``."""
    named = {name: [r for r in records if _architecture(r) == name] for name in NAMES}
    return {name: headline.series(of) for name, of in named.items() if of}


def _architecture(record: Record) -> str:
    return record["parameters"].get(
        "architecture", "dcgan"
    )  # records from before there were others name none


def ends(records: Sequence[Record]) -> Table:
    """Where every method ends with each pair of networks: mean over seeds and 95% t-interval."""
    rows = [
        [
            NAMES[name],
            s.label,
            f"{next(iter(s.runs.values()))['parameters']['learning_rate']:g}",
            s.outcome(),
            *(mean_interval(s.final(key)).text(digits) for key, digits in headline.COLUMNS.items()),
        ]
        for name, found in _pairs(records).items()
        for s in found.values()
        if s.finished
    ]
    header = ["networks", "method", "rate", "runs", "FID, test", "FID, train", "score"]
    return Table(header, rows, "One critic step; after the whole budget, mean over seeds and 95% t-interval")


def differences(records: Sequence[Record]) -> dict[tuple[str, str], Interval]:
    """Final FID of the penalty minus that of normalization, paired by seed, by architecture and normalization's loss."""
    found = {}
    for name, pairs in _pairs(records).items():
        for loss in LOSSES:
            if PENALTY in pairs and ("spectral_norm", loss, 1) in pairs:
                ours, theirs = pairs["spectral_norm", loss, 1].runs, pairs[PENALTY].runs
                found[name, loss] = seeds.difference(theirs, ours, lambda run: run["history"][-1]["fid_test"])
    return found


def others(found: Mapping[tuple[str, str], Interval]) -> dict[str, Interval]:
    """The known differences of the networks beside the DCGAN pair, by a name for a row."""
    return {
        f"{NAMES[name]}, 1 critic step, {LOSSES[loss]} loss": interval
        for (name, loss), interval in found.items()
        if name != "dcgan" and interval.known
    }


def comparison(found: Mapping[tuple[str, str], Interval]) -> Table:
    """The differences, with what each tells."""
    words = {1: "normalization ends better", 0: "cannot be told", -1: "the penalty ends better"}
    rows = [
        [
            NAMES[name],
            LOSSES[loss],
            interval.text(),
            words[interval.side] if interval.known else "too few pairs",
        ]
        for (name, loss), interval in found.items()
    ]
    header = ["networks", "normalization's loss", "FID, penalty − normalization", "answer"]
    return Table(
        header,
        rows,
        "One critic step, paired by seed, 95% t-intervals; the penalty with the Wasserstein loss",
    )
