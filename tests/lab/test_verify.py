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


def test_a_number_that_never_varied_has_no_spread_to_judge_by():
    assert verify.compare_runs(runs([0.0] * 3), runs([0.0, 0.0, 0.1]))[0].outcome == "no spread"


def critic(gaps: dict[str, list[float]]) -> dict:
    """A record of one run that holds a training for every pair and seed."""
    trainings = [
        {
            "pair": pair,
            "depth": 3,
            "learning_rate": 0.003,
            "seed": seed,
            "gap": gap,
            "norms": {"off": {"max": 1.0}},
        }
        for pair, values in gaps.items()
        for seed, gap in enumerate(values)
    ]
    return {"run": "none-strength0", "seconds": 9.5, "trainings": trainings}


def test_every_training_of_a_run_is_compared_with_those_of_its_pair():
    recorded = critic({"line": [1.0, 1.1, 1.2], "ring": [50.0, 51.0, 52.0]})
    fresh = critic({"line": [9.0, 9.1, 9.2], "ring": [50.5, 51.0, 52.5]})
    rows = {row.name: (row.recorded, row.outcome) for row in verify.compare_runs([recorded], [fresh])}
    assert rows == {
        "none-strength0, line, depth 3, rate 0.003: gap": ("1.1", "outside"),
        "none-strength0, line, depth 3, rate 0.003: norms.off.max": ("1", "same"),
        "none-strength0, ring, depth 3, rate 0.003: gap": ("51", "agrees"),
        "none-strength0, ring, depth 3, rate 0.003: norms.off.max": ("1", "same"),
    }


def test_the_recorded_critics_are_compared_training_by_training():
    recorded = records.read(paths.RECORDED / "cpu", "critic")
    rows = [row for row in verify.compare_runs(recorded, recorded) if row.name.endswith(": gap")]
    assert {row.outcome for row in rows} == {"same"}
    pairs = {(r["run"], t["pair"]) for r in recorded for t in r["trainings"]}
    assert len(rows) == len(pairs) > len(recorded)


def claim(verdict: str, numbers: dict | None = None, rule: str = "a rule", **more) -> dict:
    return {"A1": {"verdict": verdict, "numbers": numbers or {}, "rule": rule, **more}}


RUNS = {"runs": ["a-seed0", "b-seed0"]}


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        (claim("proved", {"norm": 1.0}), claim("proved", {"norm": 1.0}), "same"),
        (claim("supported", {"x": [1.0, 0.5, 1.5]}), claim("supported", {"x": [1.2, 0.7, 1.7]}), "agrees"),
        (claim("supported", {"x": [1.0, 0.9, 1.1]}), claim("supported", {"x": [2.0, 1.9, 2.1]}), "outside"),
        (
            claim("supported", {"x": [[1, 0, 2], [3, 2, 4]]}),
            claim("supported", {"x": [[1, 0, 2], [3.5, 2, 5]]}),
            "agrees",
        ),
        (
            claim("supported", {"x": [[1, 0, 2], [3, 2, 4]]}),
            claim("supported", {"x": [[1, 0, 2], [9, 8, 10]]}),
            "outside",
        ),
        (claim("proved", {"norm": 1.0}), claim("proved", {"norm": 1.1}), "no spread"),
        (claim("supported"), claim("not supported"), "changed"),
        (claim("proved"), claim("open", rule="failed: step 1"), "changed"),
        (claim("proved"), {}, "not made"),
        (claim("proved"), {"A1": {"claim": "A1", "verdict": "open"}}, "not made"),
        (claim("supported", **RUNS), claim("not supported", **RUNS), "changed"),
        (claim("supported", **RUNS), claim("open", **RUNS), "changed"),
    ],
)
def test_claims(old, new, outcome):
    assert [row.outcome for row in verify.compare_verdicts(old, new, RUNS["runs"])] == [outcome]


@pytest.mark.parametrize("made", [[], ["a-seed0"]])
def test_a_verdict_is_not_changed_while_runs_behind_it_were_not_made(made):
    old = claim("supported", {"x": [1.0, 0.5, 1.5]}, **RUNS)
    for other in ("not supported", "open"):
        (row,) = verify.compare_verdicts(old, claim(other, runs=made), made)
        assert (row.recorded, row.fresh, row.outcome) == ("supported", other, "not made")
    (row,) = verify.compare_verdicts(old, claim("supported", {"x": [1.2, 0.7, 1.7]}, runs=made), made)
    assert row.outcome == "agrees"  # what both sides have is compared


def test_a_verdict_on_recorded_runs_is_not_taken_for_a_reproduction():
    old, new = claim("supported", {"x": 1.0}), claim("supported", {"x": 1.0}, profile="cpu (recorded)")
    assert verify.compare_verdicts(old, new, [])[0].outcome == "not made"
    assert (
        verify.compare_verdicts(old, claim("supported", {"x": 1.0}, profile="cpu"), [])[0].outcome == "same"
    )


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


def test_a_changed_verdict_whose_runs_were_not_made_does_not_fail(results, capsys):
    for runs_behind, status in (["a-rate1-seed0"], 1), (["a-rate1-seed0", "a-rate1-seed9"], 0):
        results["H6"] |= {"verdict": "supported", "runs": runs_behind}
        (paths.RECORDED / "verdicts.json").write_text(json.dumps(results))
        results["H6"] |= {"verdict": "open"}
        (paths.build("cpu") / "verdicts.json").write_text(json.dumps(results))
        assert verify.main() == status
    assert "1 not made, 37 same of 38 claims" in capsys.readouterr().out


def test_without_fresh_results_there_is_nothing_to_compare(results, capsys):
    (paths.build("cpu") / "verdicts.json").unlink()
    assert verify.main() == 2
    assert "nothing to compare" in capsys.readouterr().out
