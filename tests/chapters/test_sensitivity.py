"""What the chapter on certificates and their tendency rests on (claim A2)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb.estimates import certified_radius
from lipnb.lab import supervised_results, supervised_verdicts
from lipnb.norms import spectral_norm

pytestmark = pytest.mark.lab
QUICK = settings(max_examples=30, deadline=None, derandomize=True)


@QUICK
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 99))
def test_no_perturbation_inside_the_radius_turns_the_label_of_a_linear_map(classes, inputs, seed):
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal((classes, inputs)), rng.standard_normal((inputs, 1))
    radius = certified_radius((w @ x).T, spectral_norm(w))[0]
    label = np.argmax(w @ x)
    # The nearest point at which another logit wins, for every other class: the exact distance of a linear map.
    gaps = np.delete(w[label] - w, label, axis=0)
    assert np.all(gaps @ x / np.linalg.norm(gaps, axis=1, keepdims=True) >= radius * (1 - 1e-12))


@QUICK
@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_radius_is_attained_and_the_one_without_the_root_is_too_large(constant, t):
    def f(x):
        return np.array([[x, -x]]) * constant / np.sqrt(2)

    assert spectral_norm(f(1.0)) == pytest.approx(constant)
    radius = certified_radius(f(t), constant)[0]
    assert radius == pytest.approx(t)
    assert np.argmax(f(t - 1.01 * radius)) == 1
    assert np.argmax(f(t - 0.99 * radius)) == 0
    assert np.sqrt(2) * radius > 1.4 * t


def run(seed, constant, *, lost, gap, broken=0):
    history = [
        {"epoch": 1, "test_accuracy": 0.8, "train_accuracy": 0.8 + gap, "test_loss": 1, "train_loss": 1}
    ]
    final = {"bound": 2 * constant, "estimate": constant, "accuracy": 1.0, "robust_accuracy": 1 - lost}
    parameters = {
        "network": "mlp",
        "train": 100,
        "noise": 0.0,
        "batch": 64,
        "method": "none",
        "strength": 0.0,
    }
    return {
        "run": f"run{seed}", "history": history, "diverged_at": None, "final": final | {"broken_certificates": broken},
        "parameters": parameters | {"seed": seed, "attacked": 10, "dataset": "fashion_mnist"},
        "provenance": {"backend": "tensorflow", "device": "cpu"},
    }  # fmt: skip


def verdict(runs, checks):
    found = supervised_results.groups(runs)
    measured = supervised_verdicts.tendencies({s: list(found.values()) for s, _, _ in found})
    return supervised_verdicts.verdict_a2(found, measured, checks, profile="cpu")


def test_a2_needs_both_tendencies():
    rising = [run(s, 1.0 + s, lost=s / 20, gap=s / 100) for s in range(12)]
    assert verdict(rising, {"proof": True}).verdict == "supported"
    falling = [run(s, 1.0 + s, lost=s / 20, gap=-s / 100) for s in range(12)]
    outcome = verdict(falling, {"proof": True})
    assert outcome.verdict == "not supported"
    assert "run from -1.00 to 1.00; of 4 intervals 2 lie above 0 and 2 below" in outcome.summary


def test_a2_is_open_where_something_is_measured_wrongly():
    rising = [run(s, 1.0 + s, lost=s / 20, gap=s / 100) for s in range(12)]
    assert verdict(rising, {"proof": False}).verdict == "open"
    broken = [*rising[:-1], run(11, 12.0, lost=0.55, gap=0.11, broken=1)]
    assert verdict(broken, {"proof": True}).verdict == "open"


@pytest.mark.parametrize("odd", [[], [11]])
def test_a2_is_open_where_a_correlation_is_undefined(odd):
    # Nothing is ever lost, or only once: then many a resample has nothing lost either.
    same = [run(s, 1.0 + s, lost=0.1 * (s in odd), gap=s / 100) for s in range(12)]
    outcome = verdict(same, {"proof": True})
    assert outcome.verdict == "open"
    assert "of 4 intervals 2 lie above 0 and 0 below" in outcome.summary


def test_a2_is_open_without_enough_runs():
    few = [run(s, 1.0 + s, lost=s / 20, gap=s / 100) for s in range(5)]
    assert verdict(few, {"proof": True}).verdict == "open"
    assert verdict([], {"proof": True}).verdict == "open"
