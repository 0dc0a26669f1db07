"""The rules of the chapters on many classes (claim G7) and on confounders, on records whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lipnb.lab import class_results, confounder_results, cost_results

pytestmark = pytest.mark.lab
MODES = [2, 4, 8, 16]


def mixture(method: str, seed: int, misplaced, *, loss: str = "wasserstein", diverged=()) -> dict:
    outcomes = {
        str(k): {
            "history": []
            if k in diverged
            else [{"misplaced": m, "modes": k / 2, "quality": 0.5, "missing_entropy": 0.1}],
            "diverged_at": 3 if k in diverged else None,
        }
        for k, m in zip(MODES, misplaced, strict=True)
    }
    parameters = {"method": method, "loss": loss, "seed": seed, "modes": MODES}
    return {"run": f"{method}-{seed}", "parameters": parameters, "outcomes": outcomes}


def garments(stacked: bool, method: str, seed: int, missing: float) -> dict:
    parameters = {
        "stacked": stacked,
        "conditional": True,
        "method": method,
        "loss": "wasserstein",
        "seed": seed,
    }
    last = {"missing_entropy": missing, "fid_test": 9.0, "modes": 5.0, "coverage": 0.1}
    return {
        "run": f"{stacked}-{method}-{seed}",
        "parameters": parameters,
        "history": [last],
        "diverged_at": None,
    }


def played(slope: float, growth: float, seeds: int = 4) -> tuple[list[dict], list[dict]]:
    """Records in which the penalty falls behind by ``slope`` a doubling, and by ``growth`` from few to many classes."""
    rng = np.random.default_rng(0)
    mixtures, images = [], []
    for seed in range(seeds):
        noise = 0.001 * rng.normal(size=4)
        mixtures.append(mixture("gradient_penalty", seed, 0.2 + slope * np.log2(MODES) + noise))
        mixtures.append(mixture("spectral_norm", seed, [0.2] * 4))
        for stacked in (False, True):
            images.append(
                garments(stacked, "gradient_penalty", seed, 0.1 + growth * stacked + 0.001 * rng.normal())
            )
            images.append(garments(stacked, "spectral_norm", seed, 0.1))
    return mixtures, images


def judged(mixtures, images):
    gaps = class_results.misplaced_gaps(class_results.by_method(mixtures))
    slope = class_results.per_doubling(gaps)
    grown = class_results.growth(class_results.images_by(images), conditional=True)
    verdict = class_results.verdict_g7(slope, grown, mixtures, images, scale="here", profile="cpu")
    return slope, grown, verdict.verdict


@pytest.mark.parametrize(
    ("slope", "growth", "expected"),
    [
        (0.05, 0.2, "supported"),
        (0.05, -0.2, "not supported"),
        (-0.05, 0.2, "not supported"),
        (0, 0, "not supported"),
    ],
)
def test_g7_is_judged_by_both_halves_of_its_rule(slope, growth, expected):
    found_slope, found_growth, verdict = judged(*played(slope, growth))
    assert verdict == expected
    assert found_slope.mean == pytest.approx(slope, abs=0.003)
    assert found_growth.mean == pytest.approx(growth, abs=0.003)


def test_g7_stays_open_without_pairs():
    mixtures, images = played(0.05, 0.2)
    assert judged([], [])[2] == "open"
    assert judged(mixtures, [])[2] == "open"
    assert judged(mixtures[:2], images)[2] == "open"
    assert "runs are missing" in class_results.summary(*judged(mixtures, [])[:2], "here").data


def test_g7_a_training_that_diverged_counts_as_the_worst():
    record = mixture("gradient_penalty", 0, [0.1] * 4, diverged=(8,))
    assert class_results.values({0: record}, 8, "misplaced") == [1.0]
    assert class_results.values({0: record}, 8, "modes") == [0.0]
    assert class_results.values({0: record}, 4, "misplaced") == [0.1]
    rows = class_results.mixture_rows(class_results.by_method([record]))
    assert [row[-1] for row in rows] == ["0 of 1", "0 of 1", "1 of 1", "0 of 1"]


def run(fid: float | None, seed: int, method: str = "spectral_norm", **changes) -> dict:
    parameters = {
        "method": method,
        "loss": "hinge",
        "batch_norm": False,
        "restart": 0,
        "critic_steps": 1,
        "learning_rate": 0.01,
        "seed": seed,
    } | changes
    history = [] if fid is None else [{"fid_test": fid}]
    layers = [{"type": "Conv2D", "reshaped": 1.0, "operator": 1.5}] * 3 + [
        {"type": "Dense", "reshaped": 1.0, "operator": 1.0}
    ]
    critic = (
        None
        if fid is None
        else {"layers": layers, "interval": {"at_points": 0.1, "lower": 0.2, "upper": 3.0}}
    )
    return {
        "run": f"{method}{seed}",
        "parameters": parameters,
        "history": history,
        "diverged_at": None if fid else 7,
        "critic": critic,
    }


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        ([60, 61, 63], "worse"),
        ([40, 41, 43], "better"),
        ([40, 70, 50], "cannot be told"),
        ([60, None, 61], "1 of 3 runs diverge (operator normalization, hinge)"),
        ([], "runs are missing"),
    ],
)
def test_a_change_is_judged_by_its_paired_interval(after, answer):
    base = [run(fid, seed) for seed, fid in enumerate([50, 51, 52])]
    changed = [run(fid, seed, "operator_norm") for seed, fid in enumerate(after)]
    found = confounder_results.cells(base + changed)
    assert confounder_results.outcome(found, confounder_results.QUESTIONS[0]) == answer


def test_a_base_that_diverges_is_told():
    base = [run(fid, seed) for seed, fid in enumerate([50, None, 52])]
    changed = [run(fid, seed, "operator_norm") for seed, fid in enumerate([60, 61, 62])]
    found = confounder_results.cells(base + changed)
    told = confounder_results.outcome(found, confounder_results.QUESTIONS[0])
    assert told.startswith("1 of 3 runs diverge")


def test_late_is_what_the_difference_gains_after_the_first_measurement():
    base, changed = (
        [run(50 + seed / 10, seed, method) for seed in range(3)]
        for method in ("spectral_norm", "operator_norm")
    )
    for record in base + changed:
        record["history"].insert(0, {"fid_test": 60.0})
    changed[0]["history"][-1]["fid_test"] += 3
    late = confounder_results.late(confounder_results.cells(base + changed), confounder_results.QUESTIONS[0])
    assert late.mean == pytest.approx(1)
    assert late.known


def test_holm_keeps_the_answers_that_hold_among_all():
    """p of 0.04 holds as the last of two (limit 0.05), not as the second of three (limit 0.025)."""
    q = confounder_results.QUESTIONS
    base = [run(50, seed) for seed in range(4)]
    sure = [run(60 + 0.1 * seed, seed, "operator_norm") for seed in range(4)]
    near = [run(50 + change, seed, restart=5) for seed, change in enumerate([1.0, 2.0, 3.0, 0.9])]
    vague = [run(50 + change, seed, "keras_spectral_norm") for seed, change in enumerate([1, -1, 2, -1.5])]
    assert confounder_results.survivors(confounder_results.cells(base + sure + near)) == {q[0], q[1]}
    assert confounder_results.survivors(confounder_results.cells(base + sure + near + vague)) == {q[0]}


def test_what_is_said_of_a_claim_comes_from_its_questions():
    base = [run(50 + seed, seed) for seed in range(3)]
    changed = [run(60 + 1.1 * seed, seed, "operator_norm") for seed in range(3)]
    told = confounder_results.training(confounder_results.cells(base + changed), "I5")
    assert "the operator's norm" in told
    assert "10.1" in told
    assert "(worse)" in told
    assert confounder_results.training({}, "I5") == ""


def test_questions_change_one_thing_each_but_those_that_say_so():
    for question in confounder_results.QUESTIONS:
        changed = sum(a != b for a, b in zip(question.base, question.other, strict=True))
        same_estimate = question.base.restart and question.other.method == "spectral_constraint"
        assert changed == (2 if same_estimate or "the article's pair" in question.text else 1)


def test_every_question_has_its_runs_in_the_grid():
    from lipnb.lab import grid

    runs = [r.parameters for r in grid.runs("cpu") if r.experiment == "confounders"]
    without = {"batch_norm": False, "restart": 0}
    cells = {
        confounder_results.Cell(*((without | p)[key] for key in confounder_results.Cell._fields))
        for p in runs
    }
    assert {cell for q in confounder_results.QUESTIONS for cell in (q.base, q.other)} == cells


def test_the_summary_tells_the_norms_that_the_critics_have():
    found = confounder_results.cells([run(50, seed) for seed in range(3)])
    assert "1.50" in confounder_results.summary(found, "here").data
    assert confounder_results.norms(
        found[confounder_results.Cell("spectral_norm", "hinge")], "operator"
    ).shape == (3, 4)


def test_memory_is_read_from_the_difference_of_two_batches():
    def peak(variant, batch, peak_bytes):
        return {"parameters": {"variant": variant, "batch": batch}, "peak_bytes": peak_bytes}

    records = [
        peak("none", 64, 10**9),
        peak("none", 512, 10**9 + 448 * 2048),
        peak("gradient_penalty", 64, 2 * 10**9),
    ]
    assert cost_results.memory_rows(records) == [["no constraint", "2", "1.00"]]
    records.append(peak("gradient_penalty", 512, 2 * 10**9 + 448 * 6144))
    assert cost_results.memory_rows(records)[1] == ["gradient penalty", "6", "3.00"]
    assert cost_results.memory_rows([]) == []


def test_mixtures_run_at_the_rate_that_the_recorded_tuning_chose():
    from lipnb.lab import grid, paths, records

    tried: dict[tuple, list] = {}
    for record in records.read(paths.RECORDED / "cpu", "mixtures_tuning"):
        p, (outcome,) = record["parameters"], record["outcomes"].values()
        end = class_results.end(outcome, "misplaced")
        tried.setdefault((p["method"], p["loss"], p["critic_steps"]), []).append((end, p["learning_rate"]))
    chosen = {key: min(ends)[1] for key, ends in tried.items()}
    main = [run.parameters for run in grid.runs("cpu") if run.experiment == "mixtures"]
    keys = {(p["method"], p["loss"], p["critic_steps"]): p["learning_rate"] for p in main}
    assert not chosen or keys == chosen
