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
    "parts",
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


def parts(report: dict[str, Any]) -> dict[str, bool]:
    """The parts of ``RULE``, each with whether it holds for every classifier in ``report``."""
    found = report["classifiers"]
    same = [(f, f["attacks"]["same"]) for f in found]
    ratios = [attack["distance"]["ratio"] for _, attack in same]
    return {
        "the same images, on our loss": all(
            row["only_ours"] + row["only_theirs"] <= TOLERANCE * f["images"]
            for f, attack in same
            for row in attack["radii"]
        ),
        "no weaker than ART on cross-entropy": all(
            lead <= TOLERANCE for lead in _leads(report, "usual").values()
        ),
        "the same distances, on our loss": all(r is not None and abs(r[1] - 1) <= TOLERANCE for r in ratios),
        "no certificate broken": not any(
            a["broken_certificates"] for f in found for a in f["attacks"].values()
        ),
    }


def confirmed(report: dict[str, Any]) -> bool:
    """Whether ``RULE`` holds in ``report``."""
    return all(parts(report).values())


def _leads(report: dict[str, Any], attack: str) -> dict[float, float]:
    """By how much accuracy the library's ``attack`` leaves less than ours: the most over classifiers, by radius."""
    leads: dict[float, float] = {}
    for found in report["classifiers"]:
        for row in found["attacks"][attack]["radii"]:
            lead = (row["broken"][1] - row["broken"][0]) / found["images"]
            leads[row["radius"]] = max(lead, leads.get(row["radius"], 0.0))
    return leads


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
    for key in NAMES:
        attack = found["attacks"][key]
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
    found = report["classifiers"]
    pairs = sum(f["right"] * len(f["attacks"]["same"]["radii"]) for f in found)
    same, usual = (
        [
            sum(row[k] for f in found for row in f["attacks"][key]["radii"])
            for k in ("only_ours", "only_theirs")
        ]
        for key in ("same", "usual")
    )
    held = parts(report)
    verdict = "confirms" if all(held.values()) else "does not confirm"
    told = ". ".join(
        f"What {word}: {'; '.join(names)}"
        for word, names in (
            ("fails", [n for n in held if not held[n]]),
            ("holds", [n for n in held if held[n]]),
        )
        if names
    )
    return (
        f"By its rule the comparison {verdict} our attack. {told}. Of {pairs:,} pairs of an image and a radius, ART's descent on our loss and ours "
        f"differ in {sum(same)}; on cross-entropy ART breaks {usual[1]} that ours does not, and ours {usual[0]} that ART's does "
        f"not. The accuracy that cross-entropy leaves is lower by at most {_lead_words(report, 'usual')}"
    )


def gain(report: dict[str, Any]) -> str:
    """How much further the library's other attacks get than ours, in words."""
    found = report["classifiers"]
    shorter = {
        name: sum(f["attacks"][key]["distance"]["shorter"] for f in found)
        for key, name in (("usual", "descent on cross-entropy"), ("deepfool", "DeepFool"))
    }
    total = sum(f["right"] for f in found)
    return (
        f"five random starts of Auto-PGD with 100 steps each lower the accuracy by at most {_lead_words(report, 'strong')}; a way "
        f"more than 1% shorter than ours is found by {' and by '.join(f'{k} at {n}' for k, n in shorter.items())} of {total} images"
    )


def _lead_words(report: dict[str, Any], attack: str) -> str:
    return ", ".join(f"{lead:.3f} at radius {radius:g}" for radius, lead in _leads(report, attack).items())
