"""Rank correlations over runs that come in methods, and what is drawn for their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from lipnb.lab import resampling
from lipnb.lab.resampling import rank_interval
from lipnb.lab.statistics import Interval
from lipnb.lab.supervised_results import Group, Setting

pytestmark = pytest.mark.lab
SETTING = Setting("mlp", 100, 0.0, 64)


@pytest.mark.parametrize("drawn", resampling.DRAWN)
def test_estimate_is_spearmans_with_ties(drawn):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 30), rng.integers(0, 6, 30)
    found = rank_interval(x, y, np.arange(30) // 5, drawn=drawn)
    assert found.mean == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found.low < found.mean < found.high


@pytest.mark.parametrize("drawn", resampling.DRAWN)
def test_a_resample_with_repeats_has_the_correlation_of_its_repeated_runs(drawn):
    rng = np.random.default_rng(1)
    x, y, which = rng.integers(0, 5, 12), rng.standard_normal(12), np.repeat([0, 1, 2], [5, 4, 3])
    times = {"seeds": resampling._seeds, "methods": resampling._methods}[drawn](which, rng)[:20]
    found = resampling._spearman(x, y, times)
    for row, value in zip(times.astype(int), found, strict=True):
        expected = scipy.stats.spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic
        assert value == pytest.approx(expected, abs=1e-12)


def test_what_is_drawn():
    which, rng = np.repeat([0, 1, 2], [5, 4, 3]), np.random.default_rng(0)
    seeds, methods = resampling._seeds(which, rng), resampling._methods(which, rng)
    for index, count in enumerate((5, 4, 3)):
        assert np.all(seeds[:, which == index].sum(axis=1) == count)
        assert np.all(np.ptp(methods[:, which == index], axis=1) == 0)
    np.testing.assert_array_equal(methods[:, [0, 5, 9]].sum(axis=1), np.full(resampling.RESAMPLES, 3))
    assert np.mean(seeds) == pytest.approx(1)
    assert np.mean(methods) == pytest.approx(1, abs=0.05)


def test_runs_alike_within_methods_leave_the_seeds_nothing_and_the_methods_much():
    x = np.repeat(np.arange(6.0), 5)
    y = np.repeat([2.0, 0, 1, 5, 3, 4], 5)
    method = [f"method{i}" for i in x.astype(int)]
    seeds, methods = (rank_interval(x, y, method, drawn=drawn) for drawn in ("seeds", "methods"))
    assert (seeds.low, seeds.high) == pytest.approx((seeds.mean, seeds.mean))
    assert seeds.side == 1
    assert methods.side == 0
    assert methods.high - methods.low > 0.5


def test_unknown_where_a_resample_has_no_correlation_or_there_is_one_method():
    x, y = np.arange(12.0), np.r_[np.zeros(11), 1.0]
    assert not rank_interval(
        x, y, [0] * 12, drawn="seeds"
    ).known  # the one run that differs is often left out
    assert not rank_interval(x, x, [0] * 12, drawn="methods").known
    with pytest.raises(ValueError, match="drawn must be one of"):
        rank_interval(x, x, [0] * 12, drawn="runs")


def group(method, strength, constants):
    history = [{"epoch": 1, "train_accuracy": 0.9, "test_accuracy": 0.8, "train_loss": 0.0, "test_loss": 0.0}]
    runs = {
        seed: {
            "history": history,
            "diverged_at": None,
            "final": {"bound": c, "accuracy": 1.0, "robust_accuracy": 1 - c / 100},
        }
        for seed, c in enumerate(constants)
    }
    return Group(SETTING, method, strength, runs)


def test_tendencies_draw_seeds_within_a_strength_and_methods_over_all_of_theirs():
    members = {SETTING: [group("l2", 0.1, [1, 1]), group("l2", 0.2, [2, 2]), group("none", 0.0, [3, 3])]}
    measured = {SETTING: {("bound", "lost"): Interval(1.0, 0.5, 1.0)}}
    (found,) = resampling.tendencies(measured, members, drawn="seeds")[SETTING].values()
    assert found == pytest.approx((1, 1, 1))  # with two strengths in one stratum a draw might be all of one
    assert [resampling._kind(g, "methods") for g in members[SETTING]] == ["l2", "l2", "none"]


def test_table_and_conclusion_follow_the_numbers():
    key = ("bound", "lost")
    rule, same, other = ({SETTING: {key: i}} for i in [(0.5, 0.1, 0.9), (0.5, 0.2, 0.8), (0.5, -0.2, 0.9)])
    rule, same, other = ({SETTING: {key: Interval(*row[SETTING][key])}} for row in (rule, same, other))
    table = resampling.table(rule, {"seeds": same, "methods": other})
    assert table.rows[0][2:] == ["0.50 [0.10, 0.90]", "0.50 [0.20, 0.80]", "0.50 [-0.20, 0.90]"]
    assert resampling.conclusion(rule, {"seeds": same}).endswith("is the same each time")
    told = resampling.conclusion(rule, {"seeds": same, "methods": other})
    assert (
        "drawing whole methods, 0 of 1 are clearly positive and 0 clearly negative (median width 1.10)"
        in told
    )
    assert told.endswith("depends on what is drawn")
    assert "0 of 0" in resampling.conclusion({}, {"seeds": {}})
