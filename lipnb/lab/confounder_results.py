"""What the confounders' runs say: one question, one pair of cells, one paired interval; and what the critics are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from IPython.display import Markdown

from lipnb.lab import records, seeds, sources
from lipnb.lab.figures import LABELS
from lipnb.lab.statistics import Interval, mean_interval

__all__ = [
    "LAYERS",
    "MEASURES",
    "QUESTIONS",
    "Cell",
    "Question",
    "cell",
    "cells",
    "difference",
    "finals",
    "interval_of",
    "label",
    "late",
    "norms",
    "outcome",
    "summary",
    "survivors",
    "trained",
    "training",
]

Record = dict[str, Any]
Cells = Mapping["Cell", Mapping[int, Record]]
MEASURES = {"fid_test": 1, "precision": 2, "recall": 2, "density": 2, "coverage": 2, "gradient_norm_max": 2}
LAYERS = ("conv 4×4, stride 2", "conv 4×4, stride 2", "conv 3×3", "dense")


class Cell(NamedTuple):
    """What the runs of one setting share but the seed and the learning rate, which is the one tuned for it."""

    method: str
    loss: str
    batch_norm: bool = False
    restart: int = 0
    critic_steps: int = 1


@dataclass(frozen=True)
class Question:
    """Does ``other`` end elsewhere than ``base``? They differ in what ``text`` names; ``claim`` is the id it bears on."""

    text: str
    base: Cell
    other: Cell
    claim: str = ""


_SN = Cell("spectral_norm", "hinge")
_ARTICLE = Cell("spectral_norm", "hinge", restart=5)
_PENALTY = Cell("gradient_penalty", "wasserstein")
_THEIRS = Cell("spectral_norm", "wasserstein", batch_norm=True, restart=5)  # the article's own critic
QUESTIONS = (
    Question("the operator's norm in place of the reshaped kernel's", _SN, Cell("operator_norm", "hinge"), "I5"),
    Question("five iterations from all ones in place of a warm-started one", _SN, _ARTICLE, "E5"),
    Question("a constraint in place of a normalization with the same estimate, hinge loss", _ARTICLE, Cell("spectral_constraint", "hinge"), "I2"),
    Question(
        "a constraint in place of a normalization with the same estimate, Wasserstein loss",
        Cell("spectral_norm", "wasserstein", restart=5),
        Cell("spectral_constraint", "wasserstein"),
        "I2",
    ),
    Question("Keras's wrapper in place of the true normalization", _SN, Cell("keras_spectral_norm", "hinge"), "I4"),
    Question("batch normalization and its γ constraint in the normalised critic", _SN, _SN._replace(batch_norm=True), "I6"),
    Question("batch normalization in the penalised critic", _PENALTY, _PENALTY._replace(batch_norm=True)),
    Question("the Wasserstein loss in place of the hinge loss, normalization", _SN, Cell("spectral_norm", "wasserstein")),
    Question("the log loss in place of the hinge loss, normalization", _SN, Cell("spectral_norm", "log")),
    Question("the log loss in place of the Wasserstein loss, penalty", _PENALTY, Cell("gradient_penalty", "log")),
    Question("the article's pair, one critic step: its normalised critic in place of its penalised one", _PENALTY._replace(batch_norm=True), _THEIRS, "H6"),
    Question(
        "the article's pair, five critic steps: its normalised critic in place of its penalised one",
        _PENALTY._replace(batch_norm=True, critic_steps=5),
        _THEIRS._replace(critic_steps=5),
        "H6",
    ),
)  # fmt: skip


def label(cell: Cell) -> str:
    """The cell in words: method, how its norm is found, batch normalization, loss, critic steps if not one."""
    parts = [LABELS[cell.method]]
    if cell.restart:
        parts.append(f"{cell.restart} from ones")
    if cell.batch_norm:
        parts.append("batch norm")
    parts.append(cell.loss.replace("wasserstein", "Wasserstein"))
    if cell.critic_steps != 1:
        parts.append(f"{cell.critic_steps} critic steps")
    return ", ".join(parts)


def cell(parameters: Mapping[str, Any]) -> Cell:
    """The cell of a run with these parameters."""
    return Cell(*(parameters[key] for key in Cell._fields))


def cells(runs: Sequence[Record]) -> dict[Cell, dict[int, Record]]:
    """The runs by cell and then by seed, in the order of the losses and then as recorded."""
    found = seeds.grouped(runs, cell)
    return dict(sorted(found.items(), key=lambda item: (item[0].loss, item[0].method, item[0][2:])))


def finals(runs: Mapping[int, Record], key: str) -> list[float]:
    """``key`` at the last measurement of each run that did not diverge."""
    return [run["history"][-1][key] for run in seeds.finished(runs).values()]


def _final(run: Record) -> float:
    return run["history"][-1]["fid_test"]


def _changes(found: Cells, question: Question, value: Callable[[Record], float] = _final) -> list[float]:
    """``value`` of ``other`` − that of ``base``, one a seed that both have finished."""
    pairs = seeds.paired(found.get(question.other, {}), found.get(question.base, {}))
    return [value(other) - value(base) for other, base in pairs]


def difference(found: Cells, question: Question) -> Interval:
    """Final FID of ``other`` − ``base``, paired by seed: mean and 95% t-interval."""
    return mean_interval(_changes(found, question))


def late(found: Cells, question: Question) -> Interval:
    """By how much that difference grows from the first measurement to the last, paired by seed."""
    return mean_interval(_changes(found, question, lambda run: _final(run) - run["history"][0]["fid_test"]))


def outcome(found: Cells, question: Question) -> str:
    """The answer by the rule, in words."""
    for side in (question.other, question.base):
        diverged = sum(run["diverged_at"] is not None for run in found.get(side, {}).values())
        if diverged:
            return f"{diverged} of {len(found[side])} runs diverge ({label(side)})"
    interval = difference(found, question)
    if not interval.known:
        return "runs are missing"
    return {1: "worse", 0: "cannot be told", -1: "better"}[interval.side]


def survivors(found: Cells, level: float = 0.05) -> set[Question]:
    """The questions whose answer is told apart from 0 also where all are judged together (Holm's step-down)."""
    known = [question for question in QUESTIONS if difference(found, question).known]
    p = {question: scipy.stats.ttest_1samp(_changes(found, question), 0).pvalue for question in known}
    kept: set[Question] = set()
    for rank, question in enumerate(sorted(known, key=p.__getitem__)):
        if p[question] > level / (len(known) - rank):
            break
        kept.add(question)
    return kept


def trained(profile: str, *, fresh: bool) -> dict[Cell, dict[int, Record]]:
    """The cells of this build's runs or, where it has none, of the recorded ones."""
    source = sources.choose(profile, "confounders", fresh=fresh)
    return cells(records.read(source.folder, "confounders"))


def training(found: Cells, claim: str) -> str:
    """What the runs say of one claim's effect on training, a sentence; empty without runs."""
    told = [
        f"{q.text} changes the final FID by {difference(found, q).text()} ({outcome(found, q)})"
        for q in QUESTIONS
        if q.claim == claim and outcome(found, q) != "runs are missing"
    ]
    return f"In training, {'; '.join(told)}." if told else ""


def norms(runs: Mapping[int, Record], kind: str) -> np.ndarray:
    """Norms of the layers with a kernel, ``kind`` "reshaped" or "operator", shape (seeds, layers)."""
    critics = [run["critic"] for run in runs.values() if run["critic"] is not None]
    return np.array([[layer[kind] for layer in critic["layers"]] for critic in critics])


def interval_of(runs: Mapping[int, Record]) -> dict[str, list[float]]:
    """The critics' Lipschitz constants over seeds: largest at the data, found by search, proven bound."""
    critics = [run["critic"]["interval"] for run in runs.values() if run["critic"] is not None]
    return {key: [c[key] for c in critics] for key in ("at_points", "lower", "upper")}


def summary(found: Cells, scale: str) -> Markdown:
    """The chapter's last paragraph, from its numbers."""
    answers: dict[str, list[str]] = {}
    for question in QUESTIONS:
        answers.setdefault(outcome(found, question), []).append(question.text)
    told = "; ".join(f"**{answer}**: {', '.join(texts)}" for answer, texts in answers.items())
    single = Cell("spectral_norm", "hinge")
    products = norms(found.get(single, {}), "operator")
    if products.size:
        worst = mean_interval(products[:, :-1].max(axis=1))
        told += (
            f". In critics whose kernels are normalised as matrices, the largest norm of a convolution is "
            f"{worst.text(2)}, not 1"
        )
    return Markdown(f"Final FID, each change beside its base: {told}. Scale: {scale}.")
