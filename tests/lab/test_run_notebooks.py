"""The run notebooks that the smoke profile's core leaves out, each with the parameters of its first smoke run."""

from __future__ import annotations

import json

import jupytext
import pytest

from lipnb.lab import grid, machine, paths, records

pytestmark = pytest.mark.lab

FIRST = {run.notebook: run for run in reversed(grid.runs("smoke"))}
EXECUTED = {run.notebook for run in grid.runs("smoke", tier=0)}  # by make test, on the way to the book


def test_every_run_notebook_has_a_smoke_run():
    assert set(FIRST) == {path.name for path in (paths.ROOT / "notebooks" / "runs").glob("*.md")}


@pytest.mark.parametrize("notebook", sorted(set(FIRST) - EXECUTED))
def test_a_run_ends_in_a_record(tmp_path, monkeypatch, notebook):
    monkeypatch.setattr(machine, "_PHASES", [])
    run = FIRST[notebook]
    given = run.parameters | {"folder": str(tmp_path), "experiment": run.experiment, "name": run.name}
    space: dict = {}
    for cell in jupytext.read(paths.ROOT / "notebooks" / "runs" / notebook).cells:
        if cell.cell_type == "code":
            source = cell.source.replace("machine.make_deterministic()", "")  # it would last for the process
            exec(compile(source, notebook, "exec"), space)
            space |= given if "parameters" in cell.metadata.get("tags", []) else {}
    (record,) = records.read(tmp_path, run.experiment)
    assert record["run"] == run.name
    told = record["parameters"]
    assert {"seed"} <= told.keys() & run.parameters.keys()
    assert all(told[key] == value for key, value in run.parameters.items() if key in told)
    assert record.get("diverged_at") is None
    assert len(record["provenance"]["seconds"]) >= 2  # by phase
    assert all(seconds >= 0 for seconds in record["provenance"]["seconds"].values())
    assert (record["provenance"]["inputs"]["arrays"] is None) is ("dataset" not in run.parameters)
    assert records.damaged(tmp_path) == []
    json.dumps(record, allow_nan=False)
