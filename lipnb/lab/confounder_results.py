"""What the confounders' runs say: one question, one pair of cells, one paired interval; and what the critics are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from IPython.display import Markdown

from lipnb.lab import seeds
from lipnb.lab.figures import LABELS
from lipnb.lab.statistics import Interval, mean_interval

__all__ = [
    "LAYERS",
    "MEASURES",
    "QUESTIONS",
    "Cell",
    "Question",
    "cells",
    "difference",
    "finals",
    "interval_of",
    "label",
    "norms",
    "outcome",
    "summary",
]

Record = dict[str, Any]
Cells = Mapping["Cell", Mapping[int, Record]]
MEASURES = {"fid_test": 1, "precision": 2, "recall": 2, "density": 2, "coverage": 2, "gradient_norm_max": 2}
LAYERS = ("conv 4×4, stride 2", "conv 4×4, stride 2", "conv 3×3", "dense")


class Cell(NamedTuple):
    """What the runs of one setting share but the seed."""

    method: str
    loss: str
    batch_norm: bool = False
    restart: int = 0


@dataclass(frozen=True)
class Question:
    """Does ``other`` end elsewhere than ``base``? They differ in what ``text`` names, and in nothing else."""

    text: str
    base: Cell
    other: Cell


_SN = Cell("spectral_norm", "hinge")
_ARTICLE = Cell("spectral_norm", "hinge", restart=5)
_PENALTY = Cell("gradient_penalty", "wasserstein")
QUESTIONS = (
    Question("the operator's norm in place of the reshaped kernel's (I5)", _SN, Cell("operator_norm", "hinge")),
    Question("five iterations from all ones in place of a warm-started one (E5)", _SN, _ARTICLE),
    Question("a constraint in place of a normalization with the same estimate (I2)", _ARTICLE, Cell("spectral_constraint", "hinge")),
    Question(
        "the article's constraint in place of a normalization, Wasserstein loss (I2)",
        Cell("spectral_norm", "wasserstein"),
        Cell("spectral_constraint", "wasserstein"),
    ),
    Question("Keras's wrapper in place of the true normalization (I4)", _SN, Cell("keras_spectral_norm", "hinge")),
    Question("batch normalization in the normalised critic (I6)", _SN, _SN._replace(batch_norm=True)),
    Question("batch normalization in the penalised critic", _PENALTY, _PENALTY._replace(batch_norm=True)),
    Question("the Wasserstein loss in place of the hinge loss, normalization", _SN, Cell("spectral_norm", "wasserstein")),
    Question("the log loss in place of the hinge loss, normalization", _SN, Cell("spectral_norm", "log")),
    Question("the log loss in place of the Wasserstein loss, penalty", _PENALTY, Cell("gradient_penalty", "log")),
)  # fmt: skip


def label(cell: Cell) -> str:
    """The cell in words: method, how its norm is found, batch normalization, loss."""
    parts = [LABELS[cell.method]]
    if cell.restart:
        parts.append(f"{cell.restart} from ones")
    if cell.batch_norm:
        parts.append("batch norm")
    return ", ".join([*parts, cell.loss.replace("wasserstein", "Wasserstein")])


def cells(records: Sequence[Record]) -> dict[Cell, dict[int, Record]]:
    """Records by cell and then by seed, in the order of the losses and then as recorded."""
    found = seeds.grouped(records, lambda p: Cell(p["method"], p["loss"], p["batch_norm"], p["restart"]))
    return dict(sorted(found.items(), key=lambda item: (item[0].loss, item[0].method, item[0][2:])))


def finals(runs: Mapping[int, Record], key: str) -> list[float]:
    """``key`` at the last measurement of each run that did not diverge."""
    return [run["history"][-1][key] for run in seeds.finished(runs).values()]


def difference(found: Cells, question: Question, key: str = "fid_test") -> Interval:
    """``other`` − ``base`` at the end, paired by seed: mean and 95% t-interval."""
    base, other = found.get(question.base, {}), found.get(question.other, {})
    return seeds.difference(other, base, lambda run: run["history"][-1][key])


def outcome(found: Cells, question: Question) -> str:
    """The answer by the rule, in words."""
    interval = difference(found, question)
    diverged = sum(run["diverged_at"] is not None for run in found.get(question.other, {}).values())
    if diverged:
        return f"{diverged} of {len(found[question.other])} runs diverge"
    if not interval.known:
        return "runs are missing"
    return {1: "worse", 0: "cannot be told", -1: "better"}[interval.side]


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
