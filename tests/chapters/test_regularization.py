"""What the chapter on weight decay and the spectral norm penalty rests on (claims D2, F1, F2, G8)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb.lab import (
    shrinkage,
    supervised_figures,
    supervised_results,
    supervised_tables,
    supervised_verdicts,
)
from lipnb.lab.linear_algebra import random_svd

pytestmark = pytest.mark.lab
QUICK = settings(max_examples=30, deadline=None, derandomize=True)
SPECTRA = st.lists(st.floats(0.1, 10), min_size=2, max_size=5).map(
    lambda values: sorted(values, reverse=True)
)


def penalty(w, strength):
    return strength * np.linalg.norm(w, 2) ** 2


@pytest.mark.parametrize("sigma", [[3.0, 1.0, 0.5], [2.0, 2.0, 1.0], [1.5, 1.5, 1.5]])
def test_f1_slope_is_the_limit_of_difference_quotients(sigma):
    w, *_ = random_svd(sigma, 5, 4, seed=0)
    for seed in range(5):
        h = np.random.default_rng(seed).standard_normal(w.shape)
        quotients = [(penalty(w + t * h, 0.4) - penalty(w, 0.4)) / t for t in (1e-5, 1e-6)]
        slope = shrinkage.spectral_slope(w, h, 0.4)
        assert quotients[1] == pytest.approx(slope, abs=1e-4)
        assert abs(quotients[1] - slope) < abs(quotients[0] - slope) + 1e-8


@QUICK
@given(SPECTRA, st.integers(0, 99))
def test_f1_top_gradient_is_a_subgradient(sigma, seed):
    w, *_ = random_svd(sigma, 6, 5, seed)
    other = np.random.default_rng(seed).standard_normal(w.shape)
    linear = penalty(w, 0.3) + np.sum(shrinkage.top_gradient(w, 0.3) * (other - w))
    assert penalty(other, 0.3) >= linear - 1e-9 * (1 + abs(linear))


@QUICK
@given(SPECTRA, st.floats(0, 20))
def test_f1_level_of_the_spectral_flow_solves_its_equation(sigma, time):
    (values,) = shrinkage.spectral_flow(sigma, 0.25, [time])
    assert np.sum(np.maximum(np.log(np.array(sigma) / values[0]), 0)) == pytest.approx(0.5 * time, abs=1e-9)
    untouched = np.array(sigma) < values[0] * (1 - 1e-9)
    np.testing.assert_array_equal(values[untouched], np.array(sigma)[untouched])


def test_f1_l2_flow_is_exponential():
    np.testing.assert_allclose(
        shrinkage.frobenius_flow([2.0, 1.0], 0.5, [0.0, 1.0]), [[2, 1], [2 / np.e, 1 / np.e]], rtol=1e-14
    )


@QUICK
@given(SPECTRA, st.floats(0.2, 5), st.integers(0, 99))
def test_f1_nearest_matrices_beat_every_other_of_their_ball(sigma, radius, seed):
    w, *_ = random_svd(sigma, 6, 5, seed)
    rng = np.random.default_rng(seed)
    for norm, size in (("spectral", lambda m: np.linalg.norm(m, 2)), ("frobenius", np.linalg.norm)):
        nearest = shrinkage.nearest_in_ball(w, radius, norm)
        assert size(nearest) <= radius * (1 + 1e-12)
        for _ in range(10):
            other = nearest + 0.1 * radius * rng.standard_normal(w.shape)
            other *= min(1, radius / size(other))
            assert np.linalg.norm(w - other) >= np.linalg.norm(w - nearest) * (1 - 1e-12)


@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
def test_f1_coupled_minimum_is_a_minimum_and_l2_wins_at_the_same_strength(norm):
    def objective(m):
        a, b = m[0, 0] - 2, m[1, 1] - 1
        loss = (a**2 + b**2 + 2 * 0.5 * a * b) / 2 + m[0, 1] ** 2 + m[1, 0] ** 2
        return loss + 0.05 * np.linalg.norm(m, 2 if norm == "spectral" else "fro") ** 2

    best, loss = shrinkage.coupled_minimum(0.05, 0.5, norm)
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.1, 1.0):
        others = best + size * rng.standard_normal((200, 2, 2))
        assert min(map(objective, others)) > objective(best)
    assert loss == pytest.approx({"spectral": 0.0207612, "frobenius": 0.0166558}[norm], rel=1e-5)


def group_of(method, strength, batch, accuracies, *, seeds=range(5), **final):
    runs = []
    for seed, accuracy in zip(seeds, accuracies, strict=True):
        last = {
            "epoch": 1,
            "test_accuracy": accuracy,
            "train_accuracy": 0.95,
            "test_loss": 1.0,
            "train_loss": 0.5,
        }
        known = {
            "accuracy": 0.9,
            "robust_accuracy": 0.5,
            "bound": 8.0,
            "estimate": 2.0,
            "margin_gradient": 1.0,
        }
        known |= {"certified_accuracy": 0.1, "broken_certificates": 0}
        scaled = {k: v * (1 + 0.01 * seed * (strength > 0)) for k, v in (known | final).items()}
        parameters = {
            "network": "mlp",
            "train": 100,
            "noise": 0.0,
            "batch": batch,
            "method": method,
            "strength": strength,
        }
        runs.append(
            {
                "run": f"{method}{strength}{batch}{seed}", "history": [last], "diverged_at": None, "final": scaled,
                "parameters": parameters | {"seed": seed, "dataset": "fashion_mnist", "learning_rate": 0.1},
                "provenance": {"backend": "tensorflow", "device": "cpu"},
            }
        )  # fmt: skip
    return runs


BASE = np.array([0.80, 0.81, 0.82, 0.80, 0.81])
SHIFT = np.array([0, 0.001, -0.001, 0.0005, 0])


def everything(spectral_gain, l2_bound=4.0):
    runs = []
    for batch in (64, 4096):
        runs += group_of("none", 0.0, batch, BASE)
        runs += group_of("l2", 0.1, batch, BASE + SHIFT, bound=l2_bound, estimate=1.0, margin_gradient=0.5)
        runs += group_of("adversarial", 0.3, batch, BASE - SHIFT)
        runs += group_of("spectral_penalty", 0.01, batch, BASE + spectral_gain - SHIFT / 2)
        runs += group_of("one_sided", 0.01, batch, BASE - 0.02 + SHIFT, robust_accuracy=0.7)
    found = supervised_results.groups(runs)
    strengths = {"none": 0.0, "l2": 0.1, "adversarial": 0.3, "spectral_penalty": 0.01, "one_sided": 0.01}
    return found, supervised_results.main_groups(found, strengths)


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.02, "supported"), (0.0, "not supported"), (-0.02, "not supported")]
)
def test_f2_needs_every_interval_on_its_side(gain, verdict):
    _, by_setting = everything(gain)
    measured = {s: supervised_verdicts.duels(row) for s, row in by_setting.items()}
    assert len(measured) == 2
    judged = supervised_verdicts.verdict_f2(measured, by_setting, profile="cpu")
    assert judged.verdict == verdict
    assert (
        len(judged.runs) == 2 * 4 * 5
    )  # two batches, four methods, five seeds: the fifth method has no part
    assert "40 runs" in judged.scale
    least = min(100 * i.mean for row in measured.values() for i in row.values())
    assert f"in percentage points, by pairs, runs from {least:.2f} [" in judged.summary
    one_batch = dict(list(measured.items())[:1])
    assert supervised_verdicts.verdict_f2(one_batch, by_setting, profile="cpu").verdict == "open"
    assert supervised_verdicts.verdict_f2({}, {}, profile="cpu").verdict == "open"


def test_f2_alpha_is_the_hundredth_that_all_four_methods_reach():
    _, by_setting = everything(0.0)
    assert all(supervised_verdicts.alpha(row) == pytest.approx(0.79) for row in by_setting.values())


@pytest.mark.parametrize(
    ("bound", "verdict"), [(4.0, "supported"), (8.0, "not supported"), (16.0, "not supported")]
)
def test_d2_needs_all_three_sensitivities_below(bound, verdict):
    found, _ = everything(0.0, l2_bound=bound)
    effects = supervised_results.decay_effects(found)
    assert [strength for _, strength in effects] == [0.1, 0.1]
    assert supervised_verdicts.verdict_d2(effects, found, {"trap": True}, profile="cpu").verdict == verdict
    if verdict == "supported":
        failed = supervised_verdicts.verdict_d2(effects, found, {"trap": False}, profile="cpu")
        assert failed.verdict == "open"
    assert supervised_verdicts.verdict_d2({}, {}, {"trap": True}, profile="cpu").verdict == "open"


def test_g8_counts_what_helps_and_what_hurts():
    _, by_setting = everything(0.0)
    measured = {s: supervised_verdicts.penalty_effects(row) for s, row in by_setting.items()}
    outcome = supervised_verdicts.answer_g8(measured, by_setting, profile="cpu")
    assert outcome.verdict == "answered"
    assert (
        "one-sided, test accuracy: better in 0, worse in 2 of 2 settings (-1.99 to -1.99)" in outcome.summary
    )
    assert "one-sided, accuracy under attack: better in 2, worse in 0 of 2 settings" in outcome.summary
    assert supervised_verdicts.answer_g8({}, {}, profile="cpu").verdict == "open"


def test_tables_have_a_row_for_each_method_run_and_strength():
    found, by_setting = everything(0.0)
    diverged = next(iter(next(iter(found.values())).runs.values()))
    table = supervised_tables.methods(by_setting)
    assert [row[2] for row in table.rows[:2]] == ["no constraint", "l2 penalty"]
    assert len(table.rows) == 10
    assert all(len(row) == len(table.header) for row in table.rows)
    diverged["diverged_at"] = 3
    table = supervised_tables.runs(found)
    assert len(table.rows) == 50
    assert [row[-1] for row in table.rows].count(3) == 1
    assert all(len(row) == len(table.header) for row in table.rows)
    effects = supervised_results.decay_effects(found)
    assert supervised_tables.decay(effects).rows[0][1] == "0.1"


def test_correlations_have_a_row_for_each_pair_and_a_column_for_each_setting():
    _, by_setting = everything(0.0)
    members = {setting: list(row.values()) for setting, row in by_setting.items()}
    table = supervised_tables.correlations(supervised_verdicts.tendencies(members), members, "")
    assert len(table.rows) == 4
    assert all(len(row) == len(table.header) == 1 + len(members) for row in table.rows)
    assert all("25\u00a0runs" in title and "  " not in title for title in table.header[1:])


def test_tuning_table_marks_what_the_rule_keeps():
    runs = [
        run | {"test_images": 100} for s in (0.1, 1.0) for run in group_of("l2", s, 64, [0.8], seeds=[100])
    ]
    runs += [run | {"test_images": 100} for run in group_of("none", 0.0, 64, [0.8], seeds=[100])]
    assert [row[-1] for row in supervised_tables.tuning(runs).rows] == ["", "", "kept"]


def test_figures_show_every_run_and_stand_empty_without_any():
    found, by_setting = everything(0.0)
    (setting, *_), members = next(iter(found)), next(iter(by_setting.values()))
    figure = supervised_figures.tendency(list(members.values()))
    assert [len(axis.lines) for axis in figure.axes] == [5] * 4
    assert all(len(line.get_xdata()) == 5 for line in figure.axes[0].lines)
    duels = {s: supervised_verdicts.duels(row) for s, row in by_setting.items()}
    assert len(supervised_figures.duels(duels).axes[0].get_yticks()) == 2
    assert len(supervised_figures.robustness(by_setting).axes[1].containers) == 4
    series = [found[setting, "none", 0.0], found[setting, "l2", 0.1]]
    drawn = supervised_figures.decay_series(series, {"bound": "C", "estimate": "c"}).axes[0]
    assert [label.get_text() for label in drawn.get_xticklabels()] == ["0", "1e−1"]
    for draw in (supervised_figures.tendency, supervised_figures.duels, supervised_figures.robustness):
        assert draw({} if draw is not supervised_figures.tendency else []).axes
