"""Verdicts follow their rules, numbers their definitions, and imports one direction."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from lipnb.lab import grid, headline, paths, pipeline, statistics, verdicts
from lipnb.lab.claims import load_claims
from lipnb.lab.tables import Table

pytestmark = pytest.mark.lab


def run(method: str, seed: int, fids: list[float]) -> dict:
    history = [{"update": i, "epoch": float(i + 1), "fid_test": f} for i, f in enumerate(fids)]
    parameters = {"method": method, "loss": "wasserstein", "critic_steps": 1, "seed": seed}
    return {"run": f"{method}-{seed}", "parameters": parameters, "history": history, "diverged_at": None}


def two_series(a: list[list[float]], b: list[list[float]]) -> dict:
    runs = [run("spectral_norm", i, fids) for i, fids in enumerate(a)]
    return headline.series(runs + [run("gradient_penalty", i, fids) for i, fids in enumerate(b)])


@pytest.mark.parametrize(
    ("checks", "slips", "expected"),
    [
        ({"a": True}, {}, "proved"),
        ({"a": True}, {"b": True}, "corrected"),
        ({"a": False}, {}, "open"),
        ({"a": True}, {"b": False}, "open"),
        ({}, {}, "open"),
    ],
)
def test_a_derivation_is_as_good_as_its_checks(checks, slips, expected):
    assert verdicts.derivation("C3", checks, counterexamples=slips, summary="s").verdict == expected


def test_an_experiment_without_runs_stays_open():
    def of(supported, runs):
        return verdicts.experiment(
            "H6", supported, rule="r", summary="s", scale="x", profile="cpu", runs=runs
        ).verdict

    assert [of(True, ["a"]), of(False, ["a"]), of(None, ["a"]), of(True, [])] == [
        "supported",
        "not supported",
        "open",
        "open",
    ]
    with pytest.raises(ValueError, match="Received: 'Z9'"):
        verdicts.derivation("Z9", {"a": True}, summary="s")


def test_merged_verdicts_name_every_claim(tmp_path):
    verdicts.derivation("C3", {"a": np.True_}, summary="s", numbers={"x": np.float32(1)}).write(
        tmp_path / "v"
    )
    merged = verdicts.merge(tmp_path / "v", tmp_path / "verdicts.json")
    assert list(merged) == [claim.id for claim in load_claims()]
    assert (merged["C3"]["verdict"], merged["A1"]["verdict"]) == ("proved", "open")
    assert json.loads((tmp_path / "verdicts.json").read_text()) == merged


def test_h6_is_decided_by_its_rule():
    fast, slow = [100, 50, 40], [120, 90, 80]
    jitter = np.random.default_rng(0).normal(size=(3, 3))
    a, b = ((np.array(fids) + jitter).tolist() for fids in (fast, slow))
    for first, second, expected in [(a, b, "supported"), (b, a, "not supported"), (a[:1], b[:1], "open")]:
        found = two_series(first, second)
        compared = headline.compare(
            found["spectral_norm", "wasserstein", 1], found["gradient_penalty", "wasserstein", 1]
        )
        verdict = headline.verdict_h6({1: compared}, found, scale="s", profile="cpu")
        assert verdict.verdict == expected
    assert compared["pairs"] == 1


def test_h6_tells_where_the_methods_end_once_the_hinge_loss_ran_too():
    found = two_series([[9, 8], [7, 6]], [[5, 4], [3, 2]])
    compared = headline.compare(
        found["spectral_norm", "wasserstein", 1], found["gradient_penalty", "wasserstein", 1]
    )
    assert "Final FIDs" not in headline.verdict_h6({1: compared}, found, scale="s", profile="cpu").summary
    hinge = headline.Series("spectral_norm", "hinge", 1, found["spectral_norm", "wasserstein", 1].runs)
    verdict = headline.verdict_h6(
        {1: compared}, found | {("spectral_norm", "hinge", 1): hinge}, scale="s", profile="cpu"
    )
    assert "1 critic step: the penalty 3.0 [" in verdict.summary
    assert "hinge loss 7.0 [" in verdict.summary
    elsewhere = {"dense, 1 critic step, hinge loss": statistics.Interval(1.0, 0.5, 1.5)}
    beside = headline.verdict_h6(
        {1: compared},
        found | {("spectral_norm", "hinge", 1): hinge},
        scale="s",
        profile="cpu",
        elsewhere=elsewhere,
    ).numbers["differences"]
    assert list(beside) == [
        "DCGAN, 1 critic step, Wasserstein loss", "DCGAN, 1 critic step, hinge loss", "dense, 1 critic step, hinge loss",
    ]  # fmt: skip
    assert beside["DCGAN, 1 critic step, hinge loss"][0] == pytest.approx(-4)
    assert beside["dense, 1 critic step, hinge loss"] == [1.0, 0.5, 1.5]


def test_the_scale_of_games_counts_updates_epochs_and_seeds():
    runs = []
    for steps, update, epoch in ((1, 1200, 1.28), (5, 400, 2.1333)):
        for seed in (0, 1):
            p = {"critic_steps": steps, "seed": seed, "dataset": "toys", "width": 16, "steps": 2400}
            where = {"backend": "tensorflow", "device": "a chip"}
            last = {"update": update, "epoch": epoch}
            runs.append({"parameters": p, "provenance": where, "history": [last], "diverged_at": None})
    runs[0]["diverged_at"] = 1
    said = headline.scale(runs, (28, 28))
    assert said == (
        "toys, 28×28, DCGAN of width 16, 2400 optimizer steps (1200 generator updates in 1.3 epochs with 1 critic step, "
        "400 generator updates in 2.1 epochs with 5 critic steps), batch 64, 2 seeds, tensorflow on a chip"
    )
    assert headline.scale([], (28, 28)) == "runs are missing"


def test_h6_drops_a_pair_where_one_run_diverged():
    found = two_series([[9, 8], [7, 6]], [[9, 8], [7, 6]])
    found["gradient_penalty", "wasserstein", 1].runs[0]["diverged_at"] = 3
    a, b = found["spectral_norm", "wasserstein", 1], found["gradient_penalty", "wasserstein", 1]
    assert headline.compare(a, b)["pairs"] == 1
    assert b.outcome() == "2, diverged at update 3"


def test_h6_refuses_two_runs_of_one_seed():
    with pytest.raises(ValueError, match="one run. Received: spectral_norm-0, spectral_norm-0"):
        headline.series([run("spectral_norm", 0, [9.0]), run("spectral_norm", 0, [8.0])])


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({8: 2.0, 16: 1.5}, "supported"),
        ({8: 2.0, 16: 1.0}, "not supported"),
        ({8: 2.0, 16: 0.5}, "not supported"),
    ],
)
def test_h7_needs_every_width(times, expected):
    rng = np.random.default_rng(0)
    provenance = {"backend": "tensorflow", "device": "cpu", "threads": 2}
    cost = {"run": "cost", "parameters": {"batch": 64}, "provenance": provenance}
    timed = {str(width): time * rng.normal(1, 0.05, size=40) for width, time in times.items()}
    steps = {"spectral_norm": np.ones(40), "generator": np.ones(40)}
    cost["seconds"] = {width: steps | {"gradient_penalty": t} for width, t in timed.items()}
    ratios = {width: statistics.median_ratio(t, np.ones(40)) for width, t in timed.items()}
    assert headline.verdict_h7(ratios, cost, profile="cpu").verdict == expected
    once = {width: statistics.median_ratio(t[:1], [1.0]) for width, t in timed.items()}
    assert headline.verdict_h7(once, cost, profile="cpu").verdict == "open"


def test_t_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    intervals = [statistics.mean_interval(rng.normal(size=4)) for _ in range(2000)]
    covered = np.mean([low <= 0 <= high for _, low, high in intervals])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)
    assert not statistics.mean_interval([1.0]).known


def test_epochs_until_a_target_is_met():
    reach = statistics.epochs_to_reach
    assert reach([1, 2, 3], [9, 5, 1], 3) == 2.5
    assert reach([1, 2, 3], [9, 5, 1], 9) == 1
    assert reach([1, 2, 3], [9, 5, 1], 0.5) == float("inf")


def test_median_ratio_of_steps_timed_side_by_side():
    rng = np.random.default_rng(0)
    load = rng.uniform(1, 3, size=200)
    ratio = statistics.median_ratio(2 * load * rng.normal(1, 0.01, 200), load)
    assert ratio.low < 2 < ratio.high
    assert ratio.high - ratio.low < 0.02


def test_a_table_shows_text_as_text():
    table = Table(["a", "b"], [["<b>", 1.5]], caption="c & d")
    assert "&lt;b&gt;" in table._repr_html_()
    assert "c &amp; d" in table._repr_html_()
    assert repr(table).splitlines() == ["c & d", "a    b  ", "<b>  1.5"]


def test_progress_is_read_from_what_snakemake_prints(tmp_path):
    log = tmp_path / "log"
    log.write_text("job count\\n----- -----\\nrun 3\\ntotal    4\\n".replace("\\n", "\n"))
    assert pipeline._state(tmp_path, log) == (0, 4, [])
    log.write_text("1 of 4 steps (25%) done\n")
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress" / "e.a.json").write_text('{"run": "e/a", "done": 1, "total": 2}')
    assert pipeline._state(tmp_path, log)[2] == [{"run": "e/a", "done": 1, "total": 2}]


def imported(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_library_imports_only_keras_numpy_scipy_and_backends_in_one_file():
    allowed = {"keras", "numpy", "scipy", "lipnb", *sys.stdlib_module_names}
    for path in sorted((paths.ROOT / "lipnb").glob("*.py")):
        names = imported(path)
        backends = {"tensorflow", "jax", "torch"} if path.name == "autodiff.py" else set()
        assert {name.split(".")[0] for name in names} <= allowed | backends, path
        assert not any(name.startswith("lipnb.lab") for name in names), path


def test_every_grid_notebook_exists():
    for profile in grid.profiles():
        assert all((paths.ROOT / "notebooks/runs" / r.notebook).exists() for r in grid.runs(profile))


def test_make_alone_lists_every_documented_target():
    text = (paths.ROOT / "Makefile").read_text()
    documented = re.findall(r"^(\w+):.*## ", text, re.M)
    printed = subprocess.run(
        ["make", "-C", str(paths.ROOT)], capture_output=True, text=True, check=True
    ).stdout
    assert {"reproduce", "test", "smoke", "book", "serve", "record", "clean", "lint"} <= set(documented)
    assert all(re.search(rf"^  {name} ", printed, re.M) for name in documented)


def test_no_file_names_a_place_on_somebodys_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=paths.ROOT, capture_output=True, text=True, check=True
    ).stdout
    texts = [
        p for p in listed.split("\0") if p.endswith((".py", ".md", ".yml", ".yaml", ".toml", ".json", ".cff"))
    ]
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
    found = [p for p in texts if (paths.ROOT / p).exists() and pattern.search((paths.ROOT / p).read_text())]
    assert found == []


def test_the_plan_of_the_runs_stays_short():
    assert len((paths.ROOT / "notebooks" / "Snakefile").read_text().splitlines()) <= 80
