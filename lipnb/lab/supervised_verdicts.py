"""Verdicts on the claims about supervised training, each by the rule that its chapter states before the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lipnb.lab import verdicts
from lipnb.lab.statistics import Interval
from lipnb.lab.supervised_results import (
    COUNTED,
    RIVALS,
    SENSITIVITIES,
    Group,
    Key,
    Setting,
    compare,
    correlation,
    extremes,
    gap_at,
    groups_of,
    lost_under_attack,
    reached,
    run_names,
    scale,
    value,
)

__all__ = [
    "TENDENCIES",
    "alpha",
    "answer_g8",
    "duels",
    "penalty_effects",
    "tendencies",
    "verdict_a2",
    "verdict_d2",
    "verdict_f2",
]

RULE_A2 = (
    "In every setting with at least 10 runs the 95% bootstrap intervals of Spearman's correlation of the constant, by its "
    "proven bound and by the lower bound found, with the share of labels lost under attack and with the final gap of "
    "training and test accuracy all lie above 0; open where one of them is undefined, a check of the theorem fails or an "
    "attack broke a certificate, since then something is measured wrongly"
)
RULE_D2 = (
    "At the strongest l2 penalty tried, wherever it ran, the 95% t-intervals, paired by seed, of the log-ratios (l2 penalty "
    "over no penalty) of the proven bound, of the lower bound found and of the mean input gradient all lie below 0; open "
    "where a check of what l2 is fails"
)
RULE_F2 = (
    "With the largest training set, at a small and at a large batch, the 95% t-intervals, paired by seed, of final test "
    "accuracy and of the generalization gap lie on the spectral norm penalty's side against each of no penalty, the l2 "
    "penalty and adversarial training"
)
RULE_G8 = (
    "An effect counts where the 95% t-interval of the difference to no penalty, paired by seed, leaves out 0; told for "
    "test accuracy, generalization gap and accuracy under attack, setting by setting"
)
TENDENCIES: Mapping[str, str] = {"lost": "labels lost under attack", "end_gap": "gap of accuracy at the end"}
ByMethod = Mapping[str, Group]


# A2 -------------------------------------------------------------------------------------------------------


def tendencies(
    groups_by_setting: Mapping[Setting, Sequence[Group]], constants: Sequence[str] = ("bound", "estimate")
) -> dict[Setting, dict[tuple[str, str], Interval]]:
    """Spearman's correlation of each of ``constants`` with each of ``TENDENCIES``, in settings with enough runs.

    A correlation that is undefined there stays, unknown: the rule cannot be judged then.
    """
    outcome: dict[str, Key] = {"lost": lost_under_attack, "end_gap": "end_gap"}
    found: dict[Setting, dict[tuple[str, str], Interval]] = {}
    for setting, members in groups_by_setting.items():
        runs = [run for group in members for run in group.finished.values()]
        if len(runs) >= COUNTED:
            found[setting] = {
                (constant, kind): correlation(
                    [value(run, constant) for run in runs], [value(run, outcome[kind]) for run in runs]
                )
                for constant in constants
                for kind in TENDENCIES
            }
    return found


def verdict_a2(
    found: Mapping[Any, Group],
    measured: Mapping[Setting, Mapping],
    checks: Mapping[str, bool],
    *,
    profile: str,
) -> verdicts.Verdict:
    """A2 by ``RULE_A2``, from the certificate's ``checks``, the attacks of the runs and the ``measured`` tendencies."""
    runs = [run for group in found.values() for run in group.finished.values()]
    broken = sum(run["final"]["broken_certificates"] for run in runs)
    attacks = sum(run["parameters"]["attacked"] for run in runs)
    intervals = [i for row in measured.values() for i in row.values()]
    valid = all(checks.values()) and not broken and bool(intervals) and all(i.known for i in intervals)
    return verdicts.experiment(
        "A2",
        all(i.side == 1 for i in intervals) if valid else None,
        rule=RULE_A2,
        summary=(
            f"As a theorem it holds: a label with margin m stands for all perturbations below m/(√2·C), and {broken} of {attacks} "
            f"attacked certificates were broken. {_tendency_words(measured)}"
        ),
        scale=scale(found.values(), profile),
        profile=profile,
        runs=[run["run"] for run in runs],
        numbers={
            "attacked": attacks,
            "broken": broken,
            "correlations": {
                s.label: {f"{c}, {k}": i.numbers() for (c, k), i in row.items()}
                for s, row in measured.items()
            },
        },
    )


def _tendency_words(measured: Mapping[Setting, Mapping[tuple[str, str], Interval]]) -> str:
    intervals = [i for row in measured.values() for i in row.values()]
    means = [i.mean for i in intervals if np.isfinite(i.mean)]
    if not means:
        return "As a tendency: no setting has enough runs."
    above, below = ([i.side for i in intervals].count(side) for side in (1, -1))
    return (
        f"As a tendency: over {len(measured)} setting{'s' * (len(measured) > 1)}, the rank correlations of the constant (proven "
        f"bound and lower bound found) with {' and with the '.join(TENDENCIES.values())} run from {min(means):.2f} to "
        f"{max(means):.2f}; of {len(intervals)} intervals {above} lie above 0 and {below} below."
    )


# D2 -------------------------------------------------------------------------------------------------------


def verdict_d2(
    effects: Mapping[tuple[Setting, float], Mapping[str, Interval]],
    found: Mapping[Any, Group],
    checks: Mapping[str, bool],
    *,
    profile: str,
) -> verdicts.Verdict:
    """D2 by ``RULE_D2`` and the ``checks`` of its traps; "open" too where fewer than two pairs leave no interval."""
    strongest = max((strength for _, strength in effects), default=0.0)
    judged = {key: row for key, row in effects.items() if key[1] == strongest}
    intervals = [i for row in judged.values() for i in row.values()]
    valid = all(checks.values()) and bool(intervals) and all(i.known for i in intervals)
    factors = (
        {key: [2 ** row[key].mean for row in judged.values()] for key in SENSITIVITIES} if judged else {}
    )
    told = ", ".join(f"{SENSITIVITIES[k]} {min(v):.2f} to {max(v):.2f}" for k, v in factors.items())
    used = [group for group in found.values() if group.method in ("none", "l2")]
    return verdicts.experiment(
        "D2",
        all(i.side == -1 for i in intervals) if valid else None,
        rule=RULE_D2,
        summary=(
            "l2 is weight decay under plain gradient descent only. At the strongest strength tried, "
            f"{strongest:g}, the l2 penalty multiplies, over {len(judged)} settings (geometric means over seeds): {told or 'no runs yet'}."
        ),
        scale=scale(used, profile),
        profile=profile,
        runs=run_names(used),
        numbers={
            f"{s.label}, strength {strength:g}": {k: i.numbers() for k, i in row.items()}
            for (s, strength), row in effects.items()
        },
    )


# F2 -------------------------------------------------------------------------------------------------------


def alpha(members: ByMethod) -> float:
    """α of a setting: the largest multiple of 0.01 that every run of F2's four methods reached on test images."""
    runs = [
        run for m in (*RIVALS, "spectral_penalty") if m in members for run in members[m].finished.values()
    ]
    return float(np.floor(100 * min(map(reached, runs)) + 1e-9) / 100) if runs else 0.0


def duels(members: ByMethod) -> dict[tuple[str, str], Interval]:
    """Advantage of the spectral norm penalty over each rival, (rival, measure): positive where it is better."""
    if "spectral_penalty" not in members:
        return {}
    spectral, gap = members["spectral_penalty"], gap_at(alpha(members))
    rivals = [members[name] for name in RIVALS if name in members]
    accuracy = {(r.method, "accuracy"): compare(spectral, r, "test_accuracy") for r in rivals}
    return accuracy | {(r.method, "gap"): compare(r, spectral, gap) for r in rivals}


def verdict_f2(
    measured: Mapping[Setting, Mapping[tuple[str, str], Interval]],
    by_setting: Mapping[Setting, ByMethod],
    *,
    profile: str,
) -> verdicts.Verdict:
    """F2 by ``RULE_F2``; "open" unless a small and a large batch have intervals against every rival."""
    largest = max((setting.train for setting in measured), default=0)
    measured = {s: row for s, row in measured.items() if row and s.train == largest and not s.noise}
    intervals = [i for row in measured.values() for i in row.values()]
    complete = len({s.batch for s in measured}) > 1 and all(
        len(row) == 2 * len(RIVALS) for row in measured.values()
    )
    known = complete and all(i.known for i in intervals)
    sides = [i.side for i in intervals]
    used = groups_of(by_setting, measured, (*RIVALS, "spectral_penalty"))
    return verdicts.experiment(
        "F2",
        all(s == 1 for s in sides) if known else None,
        rule=RULE_F2,
        summary=(
            f"The spectral norm penalty is clearly better in {sides.count(1)} of {len(sides)} comparisons and clearly "
            f"worse in {sides.count(-1)}. {extremes(measured)}"
        ),
        scale=scale(used, profile),
        profile=profile,
        runs=run_names(used),
        numbers={
            s.label: {f"{r}, {m}": i.numbers() for (r, m), i in row.items()} for s, row in measured.items()
        },
    )


# G8 -------------------------------------------------------------------------------------------------------


def penalty_effects(members: ByMethod) -> dict[tuple[str, str], Interval]:
    """Effect of each gradient penalty beside no penalty, (method, measure): positive where it helps."""
    kinds = [m for m in ("gradient_penalty", "one_sided") if m in members and "none" in members]
    if not kinds:
        return {}
    plain, gap = members["none"], gap_at(alpha(members))
    return {
        (kind, measure): effect
        for kind in kinds
        for measure, effect in {
            "test accuracy": compare(members[kind], plain, "test_accuracy"),
            "generalization gap": compare(plain, members[kind], gap),
            "accuracy under attack": compare(members[kind], plain, "robust_accuracy"),
        }.items()
    }


def answer_g8(
    measured: Mapping[Setting, Mapping[tuple[str, str], Interval]],
    by_setting: Mapping[Setting, ByMethod],
    *,
    profile: str,
) -> verdicts.Verdict:
    """The answer to G8: how often each penalty helped or hurt each measure, and by how much, by ``RULE_G8``."""
    tally: dict[tuple[str, str], list[Interval]] = {}
    for row in measured.values():
        for key, effect in row.items():
            tally.setdefault(key, []).append(effect)
    told = "; ".join(
        f"{_short(kind)}, {measure}: {_tally(effects)}" for (kind, measure), effects in tally.items()
    )
    used = groups_of(by_setting, measured, ("none", "gradient_penalty", "one_sided"))
    known = any(i.known for row in measured.values() for i in row.values())
    return verdicts.answer(
        "G8",
        rule=RULE_G8,
        summary=(
            "A gradient penalty on the margin at the training images, beside no penalty; in brackets its mean advantage, "
            f"in percentage points, from the least to the most over the settings. {told or 'No runs yet'}."
        ),
        scale=scale(used, profile),
        profile=profile,
        runs=run_names(used) if known else (),
        numbers={
            s.label: {f"{k}, {m}": i.numbers() for (k, m), i in row.items()} for s, row in measured.items()
        },
    )


def _short(method: str) -> str:
    return {"gradient_penalty": "two-sided", "one_sided": "one-sided"}.get(method, method)


def _tally(effects: Sequence[Interval]) -> str:
    sides = [effect.side for effect in effects]
    means = [100 * effect.mean for effect in effects if np.isfinite(effect.mean)]
    counts = f"better in {sides.count(1)}, worse in {sides.count(-1)} of {len(sides)} settings"
    return counts + (f" ({min(means):.2f} to {max(means):.2f})" if means else "")
