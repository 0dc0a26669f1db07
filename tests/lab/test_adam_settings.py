"""The six settings of Adam: which runs belong to which, and what their ends tell."""

from __future__ import annotations

import pytest

from lipnb.lab import adam_settings, grid
from lipnb.lab.adam_settings import SETTINGS

pytestmark = pytest.mark.lab

ENDS = {"A": 80, "B": 40, "C": 20, "D": 10, "E": 20, "F": 40}


def record(method: str, loss: str, letter: str, seed: int, end: float | None) -> dict:
    rate, beta_1, beta_2, critic_steps = SETTINGS[letter]
    p = {"method": method, "loss": loss, "seed": seed, "learning_rate": rate}
    p |= {"beta_1": beta_1, "beta_2": beta_2, "critic_steps": critic_steps}
    history = [] if end is None else [{"fid_test": end, "fid_train": end + 1}]
    name, diverged = f"{method}-{loss}-{letter}-{seed}", None if history else 1
    return {"run": name, "parameters": p, "history": history, "diverged_at": diverged}


def records(method: str, loss: str, **changes: float | None) -> list[dict]:
    """Three seeds at every setting, a little apart; a change of None diverges for the last seed."""
    found = []
    for letter, end in (ENDS | changes).items():
        for seed in range(3):
            lost = end is None and seed == 2
            value = None if lost else (ENDS[letter] if end is None else end) + 0.01 * seed
            found.append(record(method, loss, letter, seed, value))
    return found


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_grid_has_every_method_at_every_setting_alike(profile):
    runs = [run.parameters for run in grid.runs(profile) if run.experiment == "settings"]
    played = {(p["method"], p["loss"]) for p in runs}
    assert played == {
        ("gradient_penalty", "wasserstein"),
        ("spectral_norm", "wasserstein"),
        ("spectral_norm", "hinge"),
    }
    seeds = {p["seed"] for p in runs}
    found = [
        (
            p["method"],
            p["loss"],
            *(p[key] for key in ("learning_rate", "beta_1", "beta_2", "critic_steps")),
            p["seed"],
        )
        for p in runs
    ]
    assert sorted(found) == sorted((*pair, *values, seed) for pair in played for values in SETTINGS.values() for seed in seeds)  # fmt: skip


def test_the_settings_are_told_apart_and_the_best_is_chosen_on_training_images():
    (one,) = adam_settings.series(records("spectral_norm", "hinge")).values()
    assert list(one.runs) == list(SETTINGS)
    assert one.chosen() == "D"
    assert one.finals("B", "fid_test") == {0: 40, 1: 40.01, 2: 40.02}
    assert one.spread()[0] == pytest.approx(3)


def test_answers_have_the_signs_of_the_rule():
    steep = records("gradient_penalty", "wasserstein", D=5)
    told = adam_settings.answers(adam_settings.series(steep + records("spectral_norm", "hinge")))
    assert list(told) == ["hinge"]
    assert told["hinge"]["spread"].mean == pytest.approx(1, abs=0.01)
    assert told["hinge"]["best"].mean == pytest.approx(-5)
    assert [row[-1] for row in adam_settings.comparison(told).rows] == [
        "normalization is less sensitive",
        "the penalty ends better",
    ]


def test_a_run_that_diverged_is_shown_and_neither_paired_nor_chosen():
    found = adam_settings.series(
        records("gradient_penalty", "wasserstein", D=None) + records("spectral_norm", "wasserstein")
    )
    penalty = found["gradient_penalty", "wasserstein"]
    assert penalty.complete() == [0, 1]
    assert penalty.chosen() in "CE"
    assert "(1 of 3 diverged)" in adam_settings.ends(found).rows[0][4]
    assert adam_settings.answers(found)["wasserstein"]["spread"].known


def test_nothing_is_told_of_no_runs():
    assert adam_settings.series([]) == {}
    assert adam_settings.answers({}) == {}
    assert adam_settings.ends({}).rows == []
    assert adam_settings.figure({}).axes


def test_other_settings_are_refused():
    bad = record("spectral_norm", "hinge", "A", 0, 1.0)
    bad["parameters"]["beta_2"] = 0.99
    with pytest.raises(ValueError, match="must be a setting"):
        adam_settings.series([bad])
