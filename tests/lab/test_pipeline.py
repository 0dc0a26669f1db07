"""A run cannot meet another one, a failure is shown and leaves no result, and only whole results are recorded."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from rich.console import Console

from lipnb.lab import execute, grid, paths, pipeline, records

pytestmark = pytest.mark.lab

GRID = """
seeds: {smoke: [0], cpu: [0, 1]}
experiments:
  headline: {notebook: gan.md, set: {}, profiles: {smoke: {}, cpu: {}}, core: [{rate: [1, 2]}], full: [{rate: 3}]}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with a small grid; what the pipeline would say is in ``.said``."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RECORDED", tmp_path / "book" / "results")
    monkeypatch.delenv("SEEDS", raising=False)
    (tmp_path / "grid.yaml").write_text(GRID)
    expanded = grid.runs
    monkeypatch.setattr(
        grid, "runs", lambda profile, **options: expanded(profile, grid=tmp_path / "grid.yaml", **options)
    )
    return tmp_path


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def make_runs(project, names) -> None:
    """Fresh records of ``names`` and what the chapters make of them."""
    for name in names:
        records.write(paths.runs("cpu", fresh=True) / "headline", name, {"x": 1}, {"a": np.ones(2)})
    (paths.build("cpu") / "verdicts.json").write_text("{}")
    (paths.build("cpu") / "headline.png").write_bytes(b"picture")


WHOLE = ["rate1-seed0", "rate1-seed1", "rate2-seed0", "rate2-seed1"]


# run -----------------------------------------------------------------------------------------------------


def test_a_second_run_of_a_profile_is_refused(project, console, monkeypatch):
    started = []
    monkeypatch.setattr(pipeline, "_snakemake", lambda *arguments: started.append(arguments) or 0)
    paths.build("cpu").mkdir(parents=True)
    with (paths.build("cpu") / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert pipeline.run("cpu", recorded=False, jobs=1, console=console) == 2
    assert "build/cpu is in use by another make" in console.file.getvalue()
    assert started == []
    assert pipeline.run("cpu", recorded=False, jobs=1, console=console) == 0
    assert len(started) == 1


def test_damaged_and_stray_records_go_aside_with_their_arrays(project):
    make_runs(project, [*WHOLE, "rate3-seed0", "rate9-seed0"])
    folder = paths.runs("cpu", fresh=True) / "headline"
    (folder / "rate1-seed0.npz").write_bytes(b"other")
    (folder / "rate2-seed0.json").write_text("[]")
    moved = {path.name for path in pipeline.set_aside("cpu", None)}
    assert moved == {"rate1-seed0.json", "rate2-seed0.json", "rate9-seed0.json"}
    away = {path.name for path in (paths.build("cpu") / "set-aside" / "headline").iterdir()}
    assert away == {name.replace("json", end) for name in moved for end in ("json", "npz")}
    assert {path.stem for path in folder.iterdir()} == {"rate1-seed1", "rate2-seed1", "rate3-seed0"}


def test_records_of_seeds_that_were_asked_for_stay(project):
    make_runs(project, ["rate1-seed7"])
    assert pipeline.set_aside("cpu", [7]) == []
    assert [path.stem for path in pipeline.set_aside("cpu", None)] == ["rate1-seed7"]


@pytest.mark.parametrize(
    ("profile", "answer", "warned"),
    [
        ("gpu", "jax gpu:0 gpu:1\n", False),
        ("gpu", "tensorflow cpu:0\n", True),
        ("gpu", "", True),  # Keras could not be asked
        ("cpu", "tensorflow cpu:0\n", False),
    ],
)
def test_the_gpu_profile_without_an_accelerator_is_warned_of(
    project, console, monkeypatch, profile, answer, warned
):
    (project / "grid.yaml").write_text(
        GRID.replace("cpu: {}", "cpu: {}, gpu: {}").replace("cpu: [0, 1]", "cpu: [0], gpu: [0]")
    )
    monkeypatch.setattr(pipeline, "_snakemake", lambda *arguments: 0)
    monkeypatch.setattr(
        pipeline.subprocess,
        "run",
        lambda *a, **k: subprocess.CompletedProcess(a, int(not answer), answer, ""),
    )
    assert pipeline.run(profile, recorded=False, jobs=1, console=console) == 0
    assert console.file.getvalue().count("finds no accelerator") == warned


def test_keras_is_asked_for_its_devices_on_this_machine(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pipeline._no_accelerator().startswith(
        "WARNING: PROFILE=gpu, but tensorflow finds no accelerator here"
    )


# What it shows -------------------------------------------------------------------------------------------

LOG = """Building DAG of jobs...
Job stats:
job        count
-------  -------
run           11
chapter        1
total         12

[Mon Nov 23 06:23:48 2026]
Finished jobid: 4 (Rule: run)
1 of 12 steps (8%) done
[Mon Nov 23 06:24:48 2026]
Error in rule run:
    message: None
    jobid: 11
    log: build/cpu/notebooks/headline/a.log (check log file(s) for error details)
    shell:
        false
        (command exited with non-zero exit code)
[Mon Nov 23 06:25:48 2026]
Finished jobid: 5 (Rule: run)
2 of 12 steps (17%) done
Error in rule run:
    log: build/cpu/notebooks/headline/a.log (check log file(s) for error details)
"""


def test_progress_is_that_of_snakemake_s_log_and_of_the_runs(project):
    out = paths.build("cpu")
    (out / "progress").mkdir(parents=True)
    log = out / "snakemake.log"
    log.write_text("Building DAG of jobs...\n")
    assert pipeline._state(out, log) == (0, None, [])
    log.write_text(LOG.split("[Mon")[0])
    assert pipeline._state(out, log) == (0, 12, [])
    log.write_text(LOG)
    for name in ("live", "ended"):
        progress = {"run": f"headline/{name}", "done": 3, "total": 4}
        (out / "progress" / f"headline.{name}.json").write_text(json.dumps(progress))
    records.write(out / "runs" / "headline", "ended", {})
    done, total, live = pipeline._state(out, log)
    assert (done, total, [item["run"] for item in live]) == (2, 12, ["headline/live"])


def test_a_failure_shows_the_notebook_s_own_error_once(project, console):
    out = paths.build("cpu")
    (out / "notebooks" / "headline").mkdir(parents=True)
    (out / "notebooks" / "headline" / "a.log").write_text("noise\n" * 100 + "ZeroDivisionError: [by] zero\n")
    (out / "snakemake.log").write_text(LOG)
    pipeline._explain(out / "snakemake.log", console)
    said = console.file.getvalue()
    assert said.count("ZeroDivisionError: [by] zero") == 1
    assert said.count("--- build/cpu/notebooks/headline/a.log") == 1
    assert said.count("noise") == 59


def test_a_failure_of_snakemake_itself_shows_the_end_of_its_log(project, console):
    log = project / "snakemake.log"
    log.write_text("x" * 9000 + "\nLockException\n")
    pipeline._explain(log, console)
    assert "LockException" in console.file.getvalue()
    assert len(console.file.getvalue()) < 4000


# record --------------------------------------------------------------------------------------------------


def test_whole_results_take_the_place_of_the_recorded_ones(project, console):
    old = paths.runs("cpu")
    records.write(old / "headline", "rate0-seed0", {"of": "an earlier grid"})
    records.write(old / "tuning", "kept", {})
    make_runs(project, WHOLE)
    (paths.runs("cpu", fresh=True) / "headline" / ".rate1-seed0.json.partial").touch()
    assert pipeline.record("cpu", console) == 0
    assert [r["run"] for r in records.read(old, "headline")] == WHOLE
    assert [r["run"] for r in records.read(old, "tuning")] == ["kept"]
    assert records.damaged(old) == []
    assert list(paths.RECORDED.rglob(".*")) == []
    assert json.loads((paths.RECORDED / "verdicts.json").read_text()) == {}
    assert (paths.RECORDED / "headline.png").read_bytes() == b"picture"


@pytest.mark.parametrize(
    "lacking", ["headline/rate2-seed1.json", "headline/rate1-seed1.npz", "verdicts.json", "headline.png"]
)
def test_results_that_are_not_whole_are_not_recorded(project, console, lacking):
    old = records.write(paths.runs("cpu") / "headline", "rate1-seed0", {"of": "before"})
    make_runs(project, WHOLE)
    (removed,) = paths.build("cpu").rglob(lacking)
    removed.unlink()
    assert pipeline.record("cpu", console) == 1
    assert "nothing whole to record" in console.file.getvalue()
    assert [path.name for path in paths.RECORDED.rglob("*.json")] == [old.name]
    assert json.loads(old.read_text())["of"] == "before"


def test_without_any_result_nothing_is_recorded(project, console):
    assert pipeline.record("cpu", console) == 1
    assert not paths.RECORDED.exists()


def snapshot(folder) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_recorded_runs_that_were_not_made_again_are_not_lost(project, console):
    records.write(paths.runs("cpu") / "headline", "rate3-seed0", {"of": "the full grid"})
    make_runs(project, WHOLE)
    before = snapshot(paths.RECORDED)
    assert pipeline.record("cpu", console) == 1
    said = console.file.getvalue()
    assert "1 recorded result would be lost: headline/rate3-seed0." in said
    assert "make reproduce PROFILE=cpu FULL=2" in said
    assert snapshot(paths.RECORDED) == before
    make_runs(project, [*WHOLE, "rate3-seed0"])
    assert pipeline.record("cpu", console) == 0
    assert [r["run"] for r in records.read(paths.runs("cpu"), "headline")] == [*WHOLE, "rate3-seed0"]


def test_a_settled_verdict_is_not_lost(project, console):
    paths.RECORDED.mkdir(parents=True)
    settled = {"G7": {"verdict": "supported"}, "H6": {"verdict": "open"}}
    (paths.RECORDED / "verdicts.json").write_text(json.dumps(settled))
    make_runs(project, WHOLE)
    fresh = paths.build("cpu") / "verdicts.json"
    for verdicts in ({}, settled | {"G7": {"verdict": "open"}}):
        fresh.write_text(json.dumps(verdicts))
        before = snapshot(paths.RECORDED)
        assert pipeline.record("cpu", console) == 1
        assert snapshot(paths.RECORDED) == before
    assert console.file.getvalue().count("1 recorded result would be lost: the verdict on G7.") == 2
    fresh.write_text(json.dumps(settled | {"G7": {"verdict": "not supported"}}))
    assert pipeline.record("cpu", console) == 0
    assert json.loads((paths.RECORDED / "verdicts.json").read_text())["G7"]["verdict"] == "not supported"


def test_a_verdict_that_rests_on_recorded_runs_leaves_the_recorded_one(project, console):
    paths.RECORDED.mkdir(parents=True)
    old = {"G7": {"verdict": "supported", "profile": "cpu"}, "H6": {"verdict": "open"}}
    (paths.RECORDED / "verdicts.json").write_text(json.dumps(old))
    make_runs(project, WHOLE)
    new = {"G7": {"verdict": "supported", "profile": "cpu (recorded)"}, "H6": {"verdict": "supported"}}
    (paths.build("cpu") / "verdicts.json").write_text(json.dumps(new))
    assert pipeline.record("cpu", console) == 0
    assert json.loads((paths.RECORDED / "verdicts.json").read_text()) == {"G7": old["G7"], "H6": new["H6"]}


def test_another_profile_s_verdicts_are_not_the_book_s(project, console):
    records.write(paths.runs("smoke", fresh=True) / "headline", "rate1-seed0", {})
    records.write(paths.runs("smoke", fresh=True) / "headline", "rate2-seed0", {})
    for name in ("verdicts.json", "headline.png"):
        (paths.build("smoke") / name).write_text("{}")
    assert pipeline.record("smoke", console) == 0
    assert sorted(path.name for path in paths.RECORDED.iterdir()) == ["smoke"]


# A notebook ----------------------------------------------------------------------------------------------

NOTEBOOK = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell}
:tags: [parameters]

denominator = 1
```

```{code-cell}
print("quotient", 1 / denominator)
```
"""


@pytest.fixture
def notebook(tmp_path):
    path = tmp_path / "a folder" / "divide.md"
    path.parent.mkdir()
    path.write_text(NOTEBOOK)
    return path


def test_a_failing_cell_is_named_and_leaves_no_result(notebook, capsys, monkeypatch):
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    output = notebook.parent / "out" / "divide.ipynb"
    assert execute.main([str(notebook), str(output), "-p", "denominator", "0"]) == 1
    said = capsys.readouterr().err
    assert f"{notebook} failed in cell" in said
    assert "ZeroDivisionError: division by zero" in said
    assert [path.name for path in output.parent.iterdir()] == ["divide.failed.ipynb"]
    assert execute.main([str(notebook), str(output), "-p", "denominator", "4"]) == 0
    assert [path.name for path in output.parent.iterdir()] == ["divide.ipynb"]
    assert "quotient 0.25" in output.read_text()


# make ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["reproduce", "smoke", "book", "test", "lint", "record"])
def test_make_plans_each_target_in_a_path_with_spaces(tmp_path, target):
    folder = tmp_path / "a b" / "c"
    folder.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, folder / name)
    result = subprocess.run(
        ["make", "--no-print-directory", "-n", target], cwd=folder, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert ".venv/bin/python" in result.stdout
    assert str(tmp_path) not in result.stdout


@pytest.mark.parametrize(
    ("profile", "given", "jobs"), [("gpu", None, "1"), ("cpu", None, None), ("gpu", "3", "3")]
)
def test_runs_share_a_processor_but_not_a_gpu_unless_asked(profile, given, jobs):
    words = [
        "make",
        "--no-print-directory",
        "help",
        f"PROFILE={profile}",
        *([f"JOBS={given}"] if given else []),
    ]
    said = subprocess.run(
        words, cwd=paths.ROOT, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    assert f"[JOBS={jobs or len(os.sched_getaffinity(0))}]" in said.stdout
