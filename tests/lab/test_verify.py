"""`make verify` tells the same, the near, the far and the changed apart, with the records' own spread."""

from __future__ import annotations

import json

import pytest

from lipnb.lab import paths, records, verify
from lipnb.lab.claims import load_claims

pytestmark = pytest.mark.lab


def runs(values: list[float], name: str = "a-rate1") -> list[dict]:
    return [
        {
            "run": f"{name}-seed{i}",
            "history": [{"fid": 0.0}, {"fid": v, "seconds": i}],
            "parameters": {"seed": i},
        }
        for i, v in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("fresh", "outcome"),
    [
        ([10.0, 11.0, 12.0], "same"),
        ([10.5, 11.0, 12.5], "agrees"),
        ([60.0, 61.0, 62.0], "outside"),
    ],
)
def test_runs_are_judged_by_the_recorded_spread(fresh, outcome):
    (row,) = verify.compare_runs(runs([10.0, 11.0, 12.0]), runs(fresh))
    assert (row.name, row.outcome) == ("a-rate1: history.fid", outcome)


def test_one_seed_has_no_spread_and_other_settings_are_left_out():
    assert verify.compare_runs(runs([1.0]), runs([2.0]))[0].outcome == "no spread"
    assert verify.compare_runs(runs([1.0, 2.0]), runs([1.0, 2.0], name="b")) == []


def claim(verdict: str, numbers: dict | None = None, rule: str = "a rule") -> dict:
    return {"A1": {"verdict": verdict, "numbers": numbers or {}, "rule": rule}}


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        (claim("proved", {"norm": 1.0}), claim("proved", {"norm": 1.0}), "same"),
        (claim("supported", {"x": [1.0, 0.5, 1.5]}), claim("supported", {"x": [1.2, 0.7, 1.7]}), "agrees"),
        (claim("supported", {"x": [1.0, 0.9, 1.1]}), claim("supported", {"x": [2.0, 1.9, 2.1]}), "outside"),
        (claim("proved", {"norm": 1.0}), claim("proved", {"norm": 1.1}), "no spread"),
        (claim("supported"), claim("not supported"), "changed"),
        (claim("proved"), claim("open", rule="failed: step 1"), "changed"),
        (claim("supported"), claim("open"), "not run"),
        (claim("supported"), {}, "not run"),
    ],
)
def test_claims(old, new, outcome):
    assert [row.outcome for row in verify.compare_verdicts(old, new)] == [outcome]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Recorded and fresh results of one core run of the real grid; the fresh verdicts can be replaced."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RECORDED", tmp_path / "book" / "results")
    monkeypatch.setenv("PROFILE", "cpu")
    for fresh in (False, True):
        for record in runs([1.0, 2.0]):
            records.write(paths.runs("cpu", fresh=fresh) / "headline", record["run"], record)
    everywhere = {
        c.id: {"claim": c.id, "verdict": "proved", "numbers": {}, "rule": ""} for c in load_claims()
    }
    for folder in (paths.RECORDED, paths.build("cpu")):
        (folder / "verdicts.json").write_text(json.dumps(everywhere))
    return everywhere


def test_equal_results_pass_and_leave_a_page(results, capsys):
    assert verify.main() == 0
    page = (paths.build("cpu") / "verify.html").read_text()
    assert "38 same of 38 claims; 1 same of 1 numbers" in page
    assert "38 same of 38 claims" in capsys.readouterr().out


def test_a_changed_verdict_fails(results, capsys):
    results["H6"]["verdict"] = "not supported"
    (paths.build("cpu") / "verdicts.json").write_text(json.dumps(results))
    assert verify.main() == 1
    assert "1 changed, 37 same of 38 claims" in capsys.readouterr().out


def test_without_fresh_results_there_is_nothing_to_compare(results, capsys):
    (paths.build("cpu") / "verdicts.json").unlink()
    assert verify.main() == 2
    assert "nothing to compare" in capsys.readouterr().out
