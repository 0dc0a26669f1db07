"""The comparison of the book's attack with those of ART: its counting, its rule, and ART itself where it is installed."""

from __future__ import annotations

import copy
from importlib import util

import keras
import numpy as np
import pytest

from lipnb.lab import (
    attack_checks,
    attack_reports,
    classifiers,
    data,
    machine,
    paths,
    records,
    sensitivity,
    supervised,
)
from lipnb.lab import supervised_results as results
from lipnb.lab.attacks import attacker

pytestmark = pytest.mark.lab
needs_art = pytest.mark.skipif(
    util.find_spec("art") is None,
    reason="adversarial-robustness-toolbox is no part of the environment: see lipnb/lab/attack_checks.py",
)
TINY = attack_checks.PROTOCOL | {"radii": [0.25, 1.0, 4.0], "steps": 10}


def linear(classes=3, seed=0):
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)])
    rng = np.random.default_rng(seed)
    network.set_weights([rng.standard_normal((16, classes)), rng.standard_normal(classes)])
    x = rng.standard_normal((20, 4, 4, 1)).astype(np.float32)
    return network, x, np.asarray(network(x)).argmax(axis=1)


def exact_distances(network, x, labels):
    w, b = (v.astype(np.float64) for v in network.get_weights())
    logits, flat = x.reshape(len(x), -1).astype(np.float64) @ w + b, np.arange(len(x))
    gaps = logits[flat, labels][:, None] - logits
    lengths = np.linalg.norm(w[:, labels].T[:, :, None] - w[None], axis=1)
    return np.min(np.where(lengths > 0, gaps / np.where(lengths > 0, lengths, 1), np.inf), axis=1)


class Stub:
    """Attacks of ours in the place of ART's."""

    def __init__(self, network, weak=()):
        self.own, self.weak = attacker(network, steps=10), weak

    def __getattr__(self, name):
        return lambda loss, **options: self._still if name in self.weak else self.own

    def _still(self, x, labels, radius):
        return x


def outcome(weak=()):
    network, x, labels = linear()
    return attack_checks.outcome(network, Stub(network, weak), x, labels, TINY) | {"images": 25, "right": 20}


def of(found):
    versions = {"adversarial-robustness-toolbox": "0.0"}
    return {"protocol": TINY, "versions": versions, "classifiers": [found | {"run": "none-strength0"}]}


# Counting -------------------------------------------------------------------------------------------------


def test_counts_at_each_radius_tell_who_broke_what():
    inf = np.inf
    ours = np.array([[inf, inf, 0.1, inf], [0.9, inf, 0.1, inf]])
    theirs = np.array([[0.2, inf, 0.1, inf], [0.2, 0.8, inf, inf]])
    assert attack_reports.by_radius(ours, theirs, [0.25, 1.0]) == [
        {"radius": 0.25, "broken": [1, 2], "only_ours": 0, "only_theirs": 1},
        {"radius": 1.0, "broken": [2, 2], "only_ours": 1, "only_theirs": 1},
    ]


def test_distances_are_compared_where_both_found_one():
    found = attack_reports.by_distance(np.array([1.0, 1, 1, np.inf, 0]), np.array([0.5, 1, 1.2, 1, np.inf]))
    assert (found["both"], found["shorter"], found["longer"]) == (3, 1, 1)
    assert found["ratio"][1] == 1
    assert found["median"] == [1, 1]
    assert attack_reports.by_distance(np.array([np.inf]), np.array([1.0]))["ratio"] is None


def test_one_attack_a_radius_finds_the_exact_distance_of_a_linear_network_or_nothing():
    network, x, labels = linear(classes=2)
    exact, radii = exact_distances(network, x, labels), [0.25, 1.0, 4.0]
    found = attack_checks.nearest(network, attacker(network), x, labels, radii)
    for radius, row in zip(radii, found, strict=True):
        np.testing.assert_array_equal(np.isfinite(row), exact < radius)
        # A perturbation is shortened to a thousandth of its length.
        np.testing.assert_allclose(row[exact < radius], exact[exact < radius], rtol=1e-5, atol=radius / 1000)


# The rule -------------------------------------------------------------------------------------------------


def test_the_same_attack_twice_is_confirmed():
    found = outcome()
    same = found["attacks"]["same"]
    assert [row["only_ours"] + row["only_theirs"] for row in same["radii"]] == [0, 0, 0]
    assert same["distance"]["ratio"] == [1, 1, 1]
    assert 0 < same["radii"][0]["broken"][0] < same["radii"][-1]["broken"][0]
    assert found["attacks"]["deepfool"]["radii"] == []
    assert attack_reports.confirmed(of(found))


def test_an_attack_that_finds_nothing_confirms_nothing():
    found = outcome(weak=("gradient_descent",))
    assert not attack_reports.confirmed(of(found))
    assert (
        found["attacks"]["same"]["radii"][-1]["only_ours"]
        == found["attacks"]["same"]["radii"][-1]["broken"][0]
    )


@pytest.mark.parametrize(
    ("part", "attack", "change"),
    [
        ("the same images", "same", lambda a: a["radii"][0].update(only_theirs=1)),
        (
            "no weaker",
            "usual",
            lambda a: a["radii"][0]["broken"].__setitem__(1, a["radii"][0]["broken"][0] + 1),
        ),
        ("the same distances", "same", lambda a: a["distance"].update(ratio=[1, 1.02, 1.1])),
        ("the same distances", "same", lambda a: a["distance"].update(ratio=None)),
        ("no certificate", "deepfool", lambda a: a.update(broken_certificates=1)),
    ],
)
def test_each_part_of_the_rule_can_fail_and_is_named(part, attack, change):
    found = copy.deepcopy(outcome())
    change(found["attacks"][attack])
    missed = [name for name, holds in attack_reports.parts(of(found)).items() if not holds]
    assert [name.startswith(part) for name in missed] == [True]
    assert not attack_reports.confirmed(of(found))
    assert f"does not confirm our attack. What fails: {part}" in attack_reports.conclusion(of(found))


def test_a_stronger_attack_of_the_library_is_told_and_not_judged():
    found = copy.deepcopy(outcome())
    for row in found["attacks"]["strong"]["radii"]:
        row["broken"][1] += 2
    assert attack_reports.confirmed(of(found))
    assert "by at most 0.080 at radius 0.25, 0.080 at radius 1" in attack_reports.gain(of(found))


def test_table_has_a_row_for_ours_and_for_each_of_the_librarys():
    table = attack_reports.table(of(outcome()))
    assert [row[1] for row in table.rows] == ["ours", *attack_reports.NAMES.values()]
    broken = outcome()["attacks"]["same"]["radii"][0]["broken"][0]
    assert table.rows[0][2] == table.rows[1][2] == f"{(20 - broken) / 25:.3f}"
    assert table.rows[-1][2:7] == ["–"] * 5
    assert all(len(row) == len(table.header) for row in table.rows)


# The classifiers and the command --------------------------------------------------------------------------


def test_a_run_is_trained_again_as_its_notebook_trains_it():
    machine.make_deterministic()
    p = {
        "dataset": "fashion_mnist_mini", "network": "mlp", "width": 8, "train": 128, "noise": 0.0, "method": "l2",
        "strength": 0.01, "batch": 64, "epochs": 2, "learning_rate": 0.01, "seed": 3,
    }  # fmt: skip
    network, images = attack_checks.retrained(p)
    other, _ = attack_checks.retrained(p | {"epochs": 1})
    again = classifiers.build(
        "mlp", (28, 28, 1), 10, 8, seed=3, kernel_regularizer=supervised.kernel_penalty("l2", 0.01)
    )
    part = supervised.split(data.load("fashion_mnist_mini"), 128, seed=3)
    supervised.train(again, part, supervised.Settings("l2", 0.01, 64, 2, 0.01, 3), watch=sensitivity.spectra)
    np.testing.assert_array_equal(images.x_train, part.x_train)
    for a, b in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(network.get_weights()[0], other.get_weights()[0])


def test_the_protocols_runs_are_among_the_recorded_ones():
    recorded = records.read(paths.runs("cpu"), "classify")
    if not recorded:
        pytest.skip("no runs recorded yet")
    runs = attack_checks.chosen(recorded, results.chosen("cpu"))
    assert [run["parameters"]["method"] for run in runs] == attack_checks.PROTOCOL["methods"]
    assert {run["parameters"]["seed"] for run in runs} == {0}


def test_without_the_library_the_command_says_what_is_missing_before_it_trains(monkeypatch):
    monkeypatch.setattr(attack_checks.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="no part of the environment"):
        attack_checks.LibraryAttacks(linear()[0], 3)
    with pytest.raises(SystemExit, match="pip install adversarial-robustness-toolbox"):
        attack_checks.main([], make=lambda: pytest.fail("it must not get that far"))


def test_the_command_keeps_the_report_only_when_asked(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(attack_checks.util, "find_spec", lambda name: True)
    monkeypatch.setattr(attack_reports, "FOLDER", tmp_path)
    attack_checks.main([], make=lambda: {"a": 1})
    assert capsys.readouterr().out == '{\n "a": 1\n}\n'
    assert not list(tmp_path.iterdir())
    attack_checks.main(["--record"], make=lambda: {"a": 1})
    assert attack_reports.recorded()["a"] == 1


# ART ------------------------------------------------------------------------------------------------------


@needs_art
@pytest.mark.filterwarnings("ignore")  # of ART and of what it imports
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gradient_descent", {"steps": 20}),
        ("auto_gradient_descent", {"steps": 40, "starts": 1}),
        ("deepfool", {}),
    ],
)
def test_arts_attacks_reach_the_exact_distance_of_a_linear_network(name, options):
    network, x, labels = linear(classes=2)
    attack = getattr(attack_checks.LibraryAttacks(network, 2), name)(attack_checks.Margin(), **options)
    (found,) = attack_checks.nearest(network, attack, x, labels, [4.0])
    np.testing.assert_allclose(found, exact_distances(network, x, labels), rtol=1e-3, atol=0.004)


@needs_art
@pytest.mark.filterwarnings("ignore")
def test_arts_descent_keeps_to_each_images_radius_and_is_ours_on_a_smooth_margin():
    network, x, labels = linear(classes=2)
    radii = np.linspace(0, 3, len(x))
    theirs = attack_checks.LibraryAttacks(network, 2).gradient_descent(attack_checks.Margin(), steps=10)
    moved = theirs(x, labels, radii)
    assert np.all(np.linalg.norm((moved - x).reshape(len(x), -1), axis=1) <= radii * (1 + 1e-5))
    np.testing.assert_allclose(moved, attacker(network, steps=10)(x, labels, radii), atol=1e-4)


def test_the_recorded_comparison_is_of_this_protocol():
    report = attack_reports.recorded()
    assert report["protocol"] == attack_checks.PROTOCOL
    assert len(report["classifiers"]) == len(attack_checks.PROTOCOL["methods"])
    for found in report["classifiers"]:
        assert (paths.runs("cpu") / "classify" / f"{found['run']}.json").is_file()
        assert all(attack["broken_certificates"] == 0 for attack in found["attacks"].values())
