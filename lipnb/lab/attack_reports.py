"""Two attacks on the same images compared, and the recorded comparison with ART shown (claim A2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lipnb.lab import paths
from lipnb.lab.figures import LABELS
from lipnb.lab.tables import Table

__all__ = [
    "FOLDER",
    "RULE",
    "by_distance",
    "by_radius",
    "conclusion",
    "confirmed",
    "gain",
    "recorded",
    "table",
]

FOLDER = paths.RECORDED / "attacks"
TOLERANCE = 0.01  # of the attacked images, and of a distance
NAMES = {
    "same": "PGD, our loss",
    "usual": "PGD, cross-entropy",
    "strong": "Auto-PGD, 5 starts of 100 steps",
    "deepfool": "DeepFool",
}
RULE = (
    "Our attack is confirmed if, for every classifier and radius, the library's projected gradient descent with our loss "
    "leaves an accuracy within 0.01 of ours and differs on at most 1% of the images, with its usual loss leaves none more than "
    "0.01 below ours, if the median ratio of its distances with our loss to ours is within 1% of 1, and if none of the "
    "library's attacks breaks a certificate. What the stronger attack finds is told and not judged"
)


def by_radius(ours: np.ndarray, theirs: np.ndarray, radii: Sequence[float]) -> list[dict[str, Any]]:
    """For each radius, of images whose label was right: how many each attack broke, and how many only one of them.

    ``ours`` and ``theirs`` (radii, images) are the lengths of the perturbations found, infinite where none was.
    """
    return [
        {
            "radius": float(radius),
            "broken": [int(a.sum()), int(b.sum())],
            "only_ours": int(np.sum(a & ~b)),
            "only_theirs": int(np.sum(b & ~a)),
        }
        for radius, a, b in zip(radii, np.isfinite(ours), np.isfinite(theirs), strict=True)
    ]


def by_distance(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """The distances (images,) that two attacks reached: medians, and quantiles of theirs/ours where both are finite.

    ``shorter`` and ``longer`` count images at which theirs is off ours by more than ``TOLERANCE``.
    """
    both = np.isfinite(ours) & np.isfinite(theirs) & (ours > 0)
    if not both.any():
        return {"both": 0, "median": None, "ratio": None, "shorter": 0, "longer": 0}
    ratio = theirs[both] / ours[both]
    return {
        "both": int(both.sum()),
        "median": [float(np.median(ours[both])), float(np.median(theirs[both]))],
        "ratio": [float(q) for q in np.quantile(ratio, [0.05, 0.5, 0.95])],
        "shorter": int(np.sum(ratio < 1 - TOLERANCE)),
        "longer": int(np.sum(ratio > 1 + TOLERANCE)),
    }


def recorded() -> dict[str, Any]:
    """The committed comparison. Raises OSError where there is none."""
    return json.loads((FOLDER / "art.json").read_text())


def confirmed(report: dict[str, Any]) -> bool:
    """Whether ``RULE`` holds in ``report``."""
    return all(map(_confirmed, report["classifiers"]))


def _confirmed(found: dict[str, Any]) -> bool:
    most, attacks = TOLERANCE * found["images"], found["attacks"]
    same, usual = attacks["same"], attacks["usual"]
    return (
        all(row["only_ours"] + row["only_theirs"] <= most for row in same["radii"])
        and all(row["broken"][1] - row["broken"][0] <= most for row in usual["radii"])
        and same["distance"]["ratio"] is not None
        and abs(same["distance"]["ratio"][1] - 1) <= TOLERANCE
        and not any(attack["broken_certificates"] for attack in attacks.values())
    )


def table(report: dict[str, Any]) -> Table:
    """One row a classifier and attack: accuracy left at each radius, images that only one breaks, distances."""
    radii = report["protocol"]["radii"]
    rows = [row for found in report["classifiers"] for row in _rows(found)]
    version = report["versions"]["adversarial-robustness-toolbox"]
    caption = f"Accuracy left by our attack and by those of ART {version}; images that only one of the two breaks, over all radii"
    header = [
        "classifier",
        "attack",
        *(f"radius {r:g}" for r in radii),
        "only ours",
        "only ART's",
        "distance, ART's over ours",
    ]
    return Table(header, rows, caption)


def _rows(found: dict[str, Any]) -> list[list[str]]:
    name = LABELS[found["run"].split("-")[0]]
    ours = [_left(found, row["broken"][0]) for row in found["attacks"]["same"]["radii"]]
    rows = [[name, "ours", *ours, "–", "–", "1"]]
    for key, attack in found["attacks"].items():
        left = [_left(found, row["broken"][1]) for row in attack["radii"]] or ["–"] * len(ours)
        only = [
            str(sum(row[k] for row in attack["radii"])) if attack["radii"] else "–"
            for k in ("only_ours", "only_theirs")
        ]
        ratio = attack["distance"]["ratio"]
        told = f"{ratio[1]:.3f} [{ratio[0]:.3f}, {ratio[2]:.3f}]" if ratio else "–"
        rows.append([name, NAMES[key], *left, *only, told])
    return rows


def _left(found: dict[str, Any], broken: int) -> str:
    return f"{(found['right'] - broken) / found['images']:.3f}"


def conclusion(report: dict[str, Any]) -> str:
    """What the comparison says, in words, from its numbers."""
    found, pairs = report["classifiers"], _pairs(report)
    same, usual = (
        [
            sum(row[k] for f in found for row in f["attacks"][key]["radii"])
            for k in ("only_ours", "only_theirs")
        ]
        for key in ("same", "usual")
    )
    return (
        f"The comparison {'confirms' if confirmed(report) else 'does not confirm'} our attack by its rule. Of {pairs:,} pairs of "
        f"an image and a radius, ART's descent on our loss and ours differ in {sum(same)}; on cross-entropy ART breaks {usual[1]} "
        f"that ours does not, and ours {usual[0]} that ART's does not"
    )


def gain(report: dict[str, Any]) -> str:
    """How much further the library's stronger attack and DeepFool get than ours, in words."""
    found = report["classifiers"]
    most = max(
        (row["broken"][1] - row["broken"][0]) / f["images"]
        for f in found
        for row in f["attacks"]["strong"]["radii"]
    )
    fool = [f["attacks"]["deepfool"]["distance"] for f in found]
    return (
        f"five random starts of Auto-PGD with 100 steps each lower the accuracy at a radius by at most {max(most, 0):.3f} more, "
        f"and DeepFool finds a way that is more than 1% shorter at {sum(d['shorter'] for d in fool)} of "
        f"{sum(d['both'] for d in fool)} images"
    )


def _pairs(report: dict[str, Any]) -> int:
    return sum(f["right"] * len(f["attacks"]["same"]["radii"]) for f in report["classifiers"])
