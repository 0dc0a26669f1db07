"""Run records are whole or absent, the grid is what its file says, and the headline uses what the tuning chose."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from functools import cache

import jupytext
import numpy as np
import pytest

from lipnb.lab import execute, grid, machine, paths, pipeline, records
from lipnb.lab.imports import fingerprint, run_code

pytestmark = pytest.mark.lab


def test_a_record_comes_back_as_written(tmp_path):
    records.write(tmp_path / "e", "b", {"x": 1.5}, {"a": np.arange(3)})
    records.write(tmp_path / "e", "a", {"x": 2})
    assert [r["run"] for r in records.read(tmp_path, "e")] == ["a", "b"]
    np.testing.assert_array_equal(records.read_arrays(tmp_path, "e", "b")["a"], [0, 1, 2])
    assert records.damaged(tmp_path) == []


def test_a_record_that_json_cannot_hold_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write(tmp_path, "a", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["alter", "remove", "break"])
def test_damage_is_found(tmp_path, harm):
    path = records.write(tmp_path / "e", "a", {}, {"a": np.zeros(4)})
    if harm == "alter":
        np.savez(path.with_suffix(".npz"), a=np.ones(4))
    elif harm == "remove":
        path.with_suffix(".npz").unlink()
    else:
        path.write_text("{")
    assert records.damaged(tmp_path) == [path]
    if harm != "break":
        with pytest.raises(OSError, match="must match the hash"):
            records.read_arrays(tmp_path, "e", "a")


def test_damaged_and_stray_records_are_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    known = grid.runs("smoke")[0]
    folder = paths.runs("smoke", fresh=True)
    kept = records.write(folder / known.experiment, known.name, {})
    stray = records.write(folder / known.experiment, "of-no-grid", {})
    assert pipeline.set_aside("smoke", None) == [stray]
    assert kept.exists()
    assert not stray.exists()
    assert (paths.build("smoke") / "set-aside" / known.experiment / stray.name).exists()


@cache
def parameters_of(notebook: str) -> set[str]:
    """The names that the parameters cell of a run's notebook assigns."""
    cells = jupytext.read(paths.ROOT / "notebooks" / "runs" / notebook).cells
    (cell,) = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    return set(re.findall(r"^(\w+) =", cell.source, re.M))


@pytest.mark.parametrize("profile", grid.profiles())
def test_every_run_gives_its_notebook_parameters_that_it_has(profile):
    for run in grid.runs(profile):
        assert set(run.parameters) | {"experiment", "name", "folder"} <= parameters_of(run.notebook)


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_every_parameter_arrives_in_its_notebook_as_the_grid_has_it(profile):
    for run in grid.runs(profile):
        flags = run.flags()[: 3 * (len(run.parameters) + 2)]  # what follows is the backend
        arrived = dict(zip(flags[1::3], map(execute.literal, flags[2::3]), strict=True))
        assert {name: arrived[name] for name in run.parameters} == run.parameters


def test_an_experiment_may_name_its_backend(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(
        "seeds: {smoke: [0]}\n"
        "experiments: {e: {notebook: n, set: {}, profiles: {smoke: {}}, core: [{x: 1}], backend: jax},"
        " f: {notebook: n, set: {}, profiles: {smoke: {}}, core: [{x: 1}]}}"
    )
    named, other = grid.runs("smoke", grid=path)
    assert named.flags()[-2:] == ["--backend", "jax"]
    assert named.flags()[:6] == other.flags()[:6]
    assert "--backend" not in other.flags()
    assert "backend" not in named.parameters


def test_a_notebook_runs_on_the_backend_that_was_asked_for(monkeypatch):
    found = []
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(execute, "execute", lambda *_: found.append(os.environ["KERAS_BACKEND"]))
    assert execute.main(["a.md", "a.ipynb"]) == 0
    assert execute.main(["a.md", "a.ipynb", "--backend", "jax"]) == 0
    assert found == ["tensorflow", "jax"]


def test_an_unknown_profile_says_which_there_are():
    with pytest.raises(ValueError, match="PROFILE must be one of smoke, cpu, gpu. Received: 'tpu'"):
        grid.runs("tpu")


def test_two_runs_of_one_name_are_refused(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(
        "seeds: {smoke: [0, 0]}\nexperiments: {e: {notebook: n, set: {}, profiles: {smoke: {}}, core: [{}]}}"
    )
    with pytest.raises(ValueError, match="unique"):
        grid.runs("smoke", grid=path)


def test_a_profile_may_have_cells_and_seeds_of_its_own(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(
        "seeds: {smoke: [0], cpu: [0, 1]}\n"
        "experiments: {e: {notebook: n, set: {}, core: [{x: [1, 2]}], full: [{x: 3}],"
        " profiles: {smoke: {core: [{x: 1}], full: []}, cpu: {seeds: [7]}}}}"
    )

    def names(profile, **options):
        return [run.name for run in grid.runs(profile, grid=path, **options)]

    assert names("smoke") == ["x1-seed0"]
    assert names("cpu") == ["x1-seed7", "x2-seed7", "x3-seed7"]
    assert names("cpu", seeds=[5]) == ["x1-seed5", "x2-seed5", "x3-seed5"]
    assert set(grid.runs("cpu", grid=path)[0].parameters) == {"x", "seed"}


@pytest.mark.parametrize(
    ("tuning", "played"), [("tuning", "headline"), ("architectures_tuning", "architectures")]
)
def test_games_run_at_the_rates_that_their_recorded_tuning_chose(tuning, played):
    def key(p):
        return p.get("architecture", "dcgan"), p["method"], p["loss"], p["critic_steps"]

    tried = defaultdict(list)
    for record in records.read(paths.RECORDED / "cpu", tuning):
        if record["diverged_at"] is None:
            p = record["parameters"]
            tried[key(p)].append((record["history"][-1]["fid_train"], p["learning_rate"]))
    chosen = {of: min(ends)[1] for of, ends in tried.items()}
    runs = [run.parameters for run in grid.runs("cpu") if run.experiment == played]
    assert {key(p) for p in runs} == set(chosen)
    for p in runs:
        assert p["learning_rate"] == chosen[key(p)]


def test_layout_and_words_do_not_change_a_fingerprint_but_code_does(tmp_path):
    def of(text: str) -> str:
        path = tmp_path / "a.py"
        path.write_text(text)
        return fingerprint([path])

    assert of('def f(x: int) -> int:\n    """Doc."""\n    return x + 1\n') == of(
        "def f(x):\n    # why\n    return (x + 1)\n"
    )
    assert of("def f(x):\n    return x + 1\n") != of("def f(x):\n    return x + 2\n")


def test_a_run_depends_on_what_it_imports_and_not_on_how_it_is_drawn():
    names = {path.name for path in run_code(paths.ROOT / "notebooks" / "runs" / "gan.md")}
    assert {"gan.py", "reparam.py", "autodiff.py", "data.py"} <= names
    assert not {"figures.py", "bounds.py", "verdicts.py"} & names


def test_recorded_verdicts_cover_every_claim():
    verdicts = json.loads((paths.RECORDED / "verdicts.json").read_text())
    text = paths.CLAIMS.read_text()
    assert list(verdicts) == re.findall(r"^([A-I]\d):", text, re.M)


def test_full_asks_for_a_tier_and_each_has_those_before_it():
    assert [
        grid.tier_from(environment) for environment in ({}, {"FULL": ""}, {"FULL": "1"}, {"FULL": "2"})
    ] == [0, 0, 1, 2]
    with pytest.raises(ValueError, match="FULL must be 0, 1 or 2. Received: 'yes'"):
        grid.tier_from({"FULL": "yes"})
    core, full, everything = ({run.name for run in grid.runs("cpu", tier=tier)} for tier in range(3))
    assert core < full < everything


def test_arrays_are_known_by_kind_shape_and_entries():
    a = np.arange(6, dtype=np.uint8)
    others = [[a], [a.reshape(2, 3)], [a.astype(np.int64)], [a[::-1]], [a, a], [a[:3], a[3:]], []]
    assert len({records.hash_arrays(arrays) for arrays in others}) == len(others)
    assert records.hash_arrays([a]) == records.hash_arrays([np.arange(6, dtype=np.uint8)])
    assert records.hash_arrays([]) is None


def test_phases_are_timed_in_turn_and_add_up(monkeypatch):
    now = iter([1.0, 3.0, 4.0, 10.0])
    monkeypatch.setattr(machine, "_PHASES", [])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(now))
    for name in ("preparation", "training", "preparation"):
        machine.phase(name)
    assert machine._seconds() == {"preparation": 8.0, "training": 1.0}
