"""The headline's tables and the reading of the timings, on records whose answer is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lipnb.lab import (
    cost_counts,
    cost_results,
    headline,
    headline_tables,
    paths,
    records,
    statistics,
    verdicts,
)

pytestmark = pytest.mark.lab
ROUNDS = 12


def times(generator: float = 2.0, **steps: float) -> dict:
    """Seconds of each step, the same load on all steps of a round."""
    load = np.random.default_rng(0).uniform(1, 3, ROUNDS)
    return {name: (value * load).tolist() for name, value in (steps | {"generator": generator}).items()}


def cost(**changes) -> dict:
    plain = {"none": 1.0, "weight_clip": 1.0, "article_norm": 1.4, "operator_norm": 1.3}
    seconds = {str(w): times(**plain, spectral_norm=1.2, gradient_penalty=2.4) for w in (8, 16)}
    other = {"axis": "batch", "value": 256, "batch": 256, "size": 28, "depth": 1, "width": 16}
    other["seconds"] = times(none=4.0, spectral_norm=4.4, gradient_penalty=8.8)
    provenance = {"backend": "tensorflow", "device": "cpu", "threads": 2}
    common = {"run": "cost", "parameters": {"batch": 64}, "provenance": provenance}
    return common | {"seconds": seconds, "others": [other]} | changes


# Times ----------------------------------------------------------------------------------------------------


def test_an_update_is_critic_steps_and_a_generator_s_step():
    found = cost()["seconds"]["8"]
    assert cost_results.step_ratio(found).mean == pytest.approx(2.0)
    assert cost_results.update_ratio(found, 1).mean == pytest.approx(4.4 / 3.2)
    assert cost_results.update_ratio(found, 5).mean == pytest.approx(14 / 8)


def test_h7_tells_of_updates_and_is_judged_by_critic_steps():
    slow = cost(seconds={"8": times(generator=1e6, none=1.0, spectral_norm=1.2, gradient_penalty=2.4)})
    for found in (cost(), slow):
        ratios = {w: cost_results.step_ratio(t) for w, t in found["seconds"].items()}
        verdict = headline.verdict_h7(ratios, found, profile="cpu")
        assert verdict.verdict == "supported"
    assert "by width 1.00 [1.00, 1.00] with 1 critic step" in verdict.summary
    assert verdict.numbers["generator update, 5 critic steps"]["width 8"][0] == pytest.approx(1, abs=1e-4)


def test_every_variant_has_a_column_at_every_shape():
    rows = cost_results.variant_rows(cost())
    assert [row[0] for row in rows] == ["width 8", "width 16", "batch 256"]
    assert all(len(row) == 3 + len(cost_results.VARIANTS) for row in rows)
    assert rows[0][3 + cost_results.VARIANTS.index("article_norm")].startswith("1.40 [")
    assert rows[-1][3 + cost_results.VARIANTS.index("article_norm")] == "–"


def test_a_backend_without_runs_says_so():
    rows = cost_results.backend_rows({"tensorflow": [cost()], "jax": []})
    assert [row[0] for row in rows] == ["tensorflow", "tensorflow", "jax"]
    assert rows[-1][1] == "runs are missing"
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("exponent", [0.0, 1.0, -2.0])
def test_a_power_law_has_its_exponent_as_slope(exponent):
    rng = np.random.default_rng(0)
    samples = {x: 3 * x**exponent * rng.lognormal(0, 0.05, 40) for x in (8, 16, 32)}
    slope = statistics.log_slope(samples)
    assert slope.low < exponent < slope.high
    assert slope.high - slope.low < 0.15
    assert statistics.log_slope({x: [3 * x**exponent] for x in (1, 2, 4)}).mean == pytest.approx(exponent)


def test_slopes_are_told_for_every_axis_that_varies():
    rows = cost_results.slope_rows(cost())
    assert dict.fromkeys(row[0] for row in rows) == {"width (8, 16)": None, "batch (64, 256)": None}
    found = {tuple(row[:2]): row[2:] for row in rows}
    assert float(found["width (8, 16)", "penalty / none"][0].split()[0]) == pytest.approx(0, abs=0.01)
    assert found["batch (64, 256)", "time, no constraint"][0].startswith("1.00 [")
    assert found["batch (64, 256)", "time, no constraint"][1] == "1.00"


# Operations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "size", "depth"), [(4, 28, 1), (8, 56, 1), (6, 28, 4)])
def test_operations_are_those_of_the_networks_layers(width, size, depth):
    from lipnb.lab import models

    def operations(model):
        """Two for each weight of a kernel at each place: of a transposed convolution those of its input."""
        found = []
        for layer in model.layers:
            if hasattr(layer, "kernel"):
                transposed = type(layer).__name__ == "Conv2DTranspose"
                places = (layer.input if transposed else layer.output).shape[1:-1]
                found.append(2.0 * math.prod(layer.kernel.shape) * math.prod(places))
        return found

    assert cost_counts._critic(width, size, depth) == operations(
        models.critic((size, size, 1), width, seed=0, depth=depth)
    )
    assert cost_counts._generator(width, size) == operations(
        models.generator(64, (size, size, 1), width, seed=0)
    )


def test_the_graph_holds_what_is_needed_and_what_the_chapter_says_besides():
    traced = cost_counts.shares(cost_counts.traced(16, batch=2))
    needed = cost_counts.shares(cost_counts.parts(16))
    assert traced["weight_gradient"] == pytest.approx(needed["weight_gradient"], rel=0.03)
    assert traced["input_gradient"] == pytest.approx(needed["input_gradient"] + 1, rel=0.03)
    assert traced["penalty_gradient"] == pytest.approx(needed["penalty_gradient"] + 1 + 2, rel=0.03)


def test_the_recorded_counts_are_the_arithmetic_s_but_for_small_operations():
    for record in records.read(paths.RECORDED / "cpu", "cost"):
        for width, counts in record["operations"].items():
            expected = cost_counts.step("none", int(width), batch=record["parameters"]["batch"])
            assert 0.9 < expected / counts["none"] <= 1


# Tables ---------------------------------------------------------------------------------------------------


def tuned(rate: float, fid: float | None, method: str = "none") -> dict:
    parameters = {"method": method, "loss": "hinge", "critic_steps": 1, "learning_rate": rate, "steps": 9}
    history = [] if fid is None else [{"fid_train": fid, "fid_test": fid + 1}]
    return {
        "run": f"{rate}",
        "parameters": parameters | {"seed": 0},
        "history": history,
        "diverged_at": 3 if fid is None else None,
    }


def test_the_tuning_shows_everything_tried_and_marks_what_was_used():
    found = headline.series([tuned(0.003, 7.0)])
    table = headline_tables.tuning([tuned(0.03, None), tuned(0.003, 7.0), tuned(0.0001, 20.0)], found)
    assert table.header[3:] == ["rate 0.0001", "rate 0.003", "rate 0.03"]
    assert [row[3:] for row in table.rows] == [["20.0", "7.0 ←", "diverged"]]


def test_every_run_has_its_row_and_its_measurements():
    table = headline_tables.each(headline.series([tuned(0.1, 7.0), tuned(0.1, None, "spectral_norm")]))
    assert [row[3:] for row in table.rows] == [["8.0", "–"], ["–", 3]]


def test_the_ends_are_means_and_the_steepest_gradient_a_range():
    last = {"fid_test": 8.0, "fid_train": 7.0, "score": 2.0}
    runs = [
        tuned(0.1, 7.0)
        | {"history": [last | {"gradient_norm_max": norm}], "parameters": p, "run": f"{p['seed']}"}
        for norm, p in (
            (3.0, tuned(0.1, 7.0)["parameters"]),
            (4e6, tuned(0.1, 7.0)["parameters"] | {"seed": 1}),
        )
    ]
    ruler = {"floor": {"between_train_and_test": 0.1, "between_halves_of_test": 0.3}}
    table = headline_tables.ends(headline.series(runs), [ruler])
    assert [row[4] for row in table.rows] == ["0.10", "0.30", "8.0 [8.0, 8.0]"]
    assert table.rows[-1][-1] == "3 – 4e+06"
    assert all(len(row) == len(table.header) for row in table.rows)


def test_a_run_stopped_halfway_is_its_first_half():
    history = [{"fid_test": float(i), "epoch": i} for i in range(6)]
    (series,) = headline.series([tuned(0.1, 7.0) | {"history": history}]).values()
    assert headline.shortened(series, 0.5).final("fid_test") == [2.0]
    assert series.final("fid_test") == [5.0]


def h6(difference: list[float | None], scale: str = "s, on A") -> verdicts.Verdict:
    numbers = {"1 critic step": {"fid_difference": difference}, "differences": {"dense": difference}}
    return verdicts.Verdict("H6", "not supported", "r", "s", numbers, scale, "cpu", ("a",))


def test_earlier_rounds_stand_above_the_present_one(tmp_path):
    file = tmp_path / "earlier.json"
    entries = [
        {"recorded": day, "rates_tried": [0.1] * n, "scale": "s, on A", "verdict": "not supported"}
        | {"numbers": h6([-1.0, -2.0, -0.5]).numbers}
        for day, n in (("monday", 3), ("tuesday", 5))
    ]
    file.write_text(json.dumps(entries))
    table = headline_tables.rounds(h6([-4.0, None, None]), [0.1] * 5, file)
    assert [row[0] for row in table.rows] == ["monday", "now"]
    assert [row[3] for row in table.rows] == ["-1.0 [-2.0, -0.5]", "-4.0"]
    assert len(headline_tables.rounds(h6([-4.0, -5.0, -3.0], "s, on B"), [0.1] * 5, file).rows) == 3
    assert (
        len(headline_tables.rounds(h6([-4.0, -5.0, -3.0], "in other words, on A"), [0.1] * 5, file).rows) == 2
    )


def test_the_earlier_rounds_are_the_ones_in_the_repository_s_history():
    entries = json.loads(headline_tables.EARLIER.read_text())
    assert [len(entry["rates_tried"]) for entry in entries] == sorted(len(e["rates_tried"]) for e in entries)
    for entry in entries:
        for of in entry["numbers"].values():
            mean, low, high = of["fid_difference"]
            assert low <= mean <= high
        assert set(entry["rates_chosen"]["spectral_norm"].values()) <= set(entry["rates_tried"])
