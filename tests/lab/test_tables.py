"""Tables of results: text stays text, every run has its row, and a table without runs says so."""

from __future__ import annotations

import pytest

from lipnb.lab.tables import MISSING, Table, each_run

pytestmark = pytest.mark.lab


def record(name: str, seed: int, **changes) -> dict:
    history = [{"fid": 9.0, "epoch": 1}, {"fid": 3.25001, "epoch": 2}]
    return {
        "run": name,
        "parameters": {"seed": seed, "loss": "hinge"},
        "history": history,
        "diverged_at": None,
    } | changes


def test_every_run_has_a_row_in_the_order_of_names():
    columns = {"run": "run", "seed": "seed", "FID": "fid", "first": lambda r: r["history"][0]["epoch"]}
    table = each_run([record("b", 1), record("a", 0)], columns)
    assert table.folded
    assert table.header == ["run", "seed", "FID", "first"]
    assert table.rows == [["a", "0", "3.25", "1"], ["b", "1", "3.25", "1"]]


def test_a_run_that_diverged_keeps_its_row():
    columns = {"loss": "loss", "FID": "fid", "diverged at": "diverged_at"}
    table = each_run([record("a", 0, history=[], diverged_at=7), record("b", 0)], columns)
    assert table.rows == [["hinge", "–", "7"], ["hinge", "3.25", "–"]]


def test_a_table_without_rows_says_that_runs_are_missing():
    for table in (each_run([], {"seed": "seed"}, "Every run"), Table(["a"], [], "Every run")):
        assert repr(table) == f"Every run: {MISSING}."
        assert "<table" not in table._repr_html_()
        assert MISSING in table._repr_html_()
    assert repr(Table(["a"], [])) == f"Here {MISSING}."
