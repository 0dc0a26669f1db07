"""What the chapter on the gradient penalty rests on (claims G3, G4, G6)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb.lab import critic_results, critic_verdicts, line_critics, records
from lipnb.lab.distributions import PAIRS, Pair, draw, w1_estimate
from lipnb.lab.linear_algebra import agree, at_most
from lipnb.lab.transport import w1_1d, w1_samples

pytestmark = pytest.mark.lab
QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 999)


def samples(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, 7), rng.normal(rng.uniform(-1, 1), rng.uniform(0.3, 2), 9)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_the_distance_of_a_pair_is_the_one_that_linear_programming_finds(pair: Pair):
    sample = draw(pair, 80, seed=3)
    assert agree(w1_samples(sample.real, sample.fake).cost, sample.w1, 6400)
    assert agree(pair.potential(sample.real) - pair.potential(sample.fake), sample.costs, 100)
    mean, error = w1_estimate(pair, 4096)
    assert abs(mean - w1_estimate(pair, 4096, seed=1)[0]) <= 6 * (error + 1e-12)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_potentials_have_constant_at_most_one(pair: Pair):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-pair.extent, pair.extent, (2, 500, pair.dimension))
    assert at_most(np.abs(pair.potential(a) - pair.potential(b)), np.linalg.norm(a - b, axis=1) + 1e-14, 100)


def test_a_map_against_the_potential_is_not_optimal():
    ring = draw(PAIRS["ring"], 100, 0)
    inward = 2 * ring.fake - ring.real
    assert w1_samples(inward, ring.fake).cost < ring.w1 - 0.1


@QUICK
@given(SEEDS)
def test_cells_agree_with_their_definitions(seed):
    real, fake = samples(seed)
    cells = line_critics.cells(real, fake)
    middle = (cells.edges[1:] + cells.edges[:-1]) / 2
    between = [[(min(x, y) < t < max(x, y)) / abs(x - y) for x in real for y in fake] for t in middle]
    assert agree(cells.rho, np.mean(between, axis=1), 10_000)
    assert agree(cells.lengths @ cells.rho, 1, 10_000)
    assert agree(cells.lengths @ np.abs(cells.delta), w1_1d(real, fake), 100)


@QUICK
@given(SEEDS, st.floats(0.2, 20), st.sampled_from(line_critics.KINDS[:2]))
def test_no_slopes_beat_the_best_ones_and_the_value_is_the_theorem_s(seed, strength, kind):
    cells = line_critics.cells(*samples(seed))
    best = line_critics.best_slopes(cells, strength, kind)
    rng = np.random.default_rng(seed)
    tried = best * rng.uniform(-1.5, 2, (200, len(best))) + 0.1 * rng.standard_normal((200, len(best)))
    value = line_critics.objective(cells, best, strength, kind)
    assert np.all(line_critics.objective(cells, tried, strength, kind) <= value + 1e-12 * abs(value))
    expected = cells.lengths @ (np.abs(cells.delta) + cells.delta**2 / (4 * strength * cells.rho))
    assert agree(value, expected, 1000)
    reach = np.ptp(cells.edges)
    moving = cells.delta != 0
    assert np.all(np.abs(best[moving]) >= 1)
    assert np.all(np.abs(best[moving]) <= (1 + reach / (2 * strength)) * (1 + 1e-12))


def test_the_linear_penalty_gives_slope_one_or_no_maximum():
    cells = line_critics.cells(*samples(0))
    ratio = np.abs(cells.delta) / cells.rho
    held = line_critics.best_slopes(cells, 2 * ratio.max(), "one_sided_linear")
    assert np.all(np.abs(held[cells.delta != 0]) == 1)
    assert agree(
        line_critics.objective(cells, held, 2 * ratio.max(), "one_sided_linear"), w1_1d(*samples(0)), 99
    )
    free = line_critics.best_slopes(cells, 0.5 * ratio.max(), "one_sided_linear")
    assert not np.all(np.isfinite(free))
    steep = held * np.array([[10.0], [1000.0]])
    values = line_critics.objective(
        cells, np.where(np.isfinite(free), held, steep), 0.5 * ratio.max(), "one_sided_linear"
    )
    assert values[1] > 5 * values[0] > 0


def test_one_point_beside_one_point():
    cells = line_critics.cells(np.array([1.0]), np.array([0.0]))
    assert (cells.delta.tolist(), cells.rho.tolist()) == ([1.0], [1.0])
    assert line_critics.best_slopes(cells, 10, "two_sided") == pytest.approx(1.05)
    assert line_critics.objective(cells, np.array([1.05]), 10, "two_sided") == pytest.approx(1 + 1 / 40)


def test_a_wrong_sign_is_a_trap_of_the_two_sided_penalty_alone():
    cells = line_critics.cells(np.array([1.0]), np.array([0.0]))
    path = np.linspace(-1.5, 1.5, 3001)[:, None]
    tops = {}
    for kind in ("two_sided", "one_sided"):
        value = line_critics.objective(cells, path, 10, kind)
        inner = (value[1:-1] > value[:-2]) & (value[1:-1] > value[2:])
        tops[kind] = path[1:-1, 0][inner]
    assert tops["two_sided"] == pytest.approx([-0.95, 1.05])
    assert tops["one_sided"] == pytest.approx([1.05])


def test_an_unknown_kind_is_refused():
    cells = line_critics.cells(np.array([1.0]), np.array([0.0]))
    with pytest.raises(ValueError, match="Received: 'both'"):
        line_critics.best_slopes(cells, 10, "both")


def training(method: str, pair: str, seed: int, **changes) -> dict:
    places = {"segments": {"mean": 1.0, "max": 1.0}, "off": {"max": 1.0}}
    history = {"step": [10, 100, 1000], "gap": [0.2, 0.5, 1.0], "largest": [1.0] * 3, "w1": [1.0] * 3}
    plain = {"diverged_at": None, "gap": 1.0, "largest": 1.0, "w1": 1.0, "uphill": None, "norms": places}
    labels = {"run": method, "method": method, "pair": pair, "seed": seed, "history": history}
    return labels | plain | changes


def group(method: str, **changes) -> list[dict]:
    """Two pairs, three seeds; every number of ``changes`` is shifted a little from seed to seed."""
    found = []
    for seed in range(3):
        moved = {k: v + 0.001 * seed if isinstance(v, float) else v for k, v in changes.items()}
        found += [training(method, pair, seed, **moved) for pair in ("a", "b")]
    return found


def test_the_shortfall_does_not_depend_on_scale():
    assert critic_results.shortfall(training("none", "a", 0, gap=0.5)) == 0.5
    assert critic_results.shortfall(training("none", "a", 0, gap=50.0, largest=100.0)) == 0.5
    assert np.isnan(critic_results.shortfall(training("none", "a", 0, diverged_at=10)))


def test_two_runs_of_one_method_are_refused(tmp_path):
    parameters = {"method": "none", "strength": 0, "steps": 10, "width": 8}
    for name in ("old", "new"):
        found = {
            "parameters": parameters,
            "trainings": [{k: v for k, v in training("none", "a", 0).items() if k != "run"}],
        }
        records.write(tmp_path / "critic", name, found)
        records.write(tmp_path / "critic_tuning", name, found)
    with pytest.raises(ValueError, match="one run. Received: new, old"):
        critic_results.load(tmp_path)
    assert len(critic_results.load(tmp_path, "critic_tuning")) == 2


def test_comparisons_pair_seeds_and_leave_out_what_diverged():
    a, b = group("gradient_penalty", gap=0.5), group("one_sided", gap=0.9)
    difference = critic_results.compare([*a, *b], "gradient_penalty", "one_sided")
    assert difference.mean == pytest.approx(0.4)
    b[0]["diverged_at"] = 100
    assert set(critic_results.over_seeds(b, "one_sided", critic_results.shortfall)) == {1, 2}


@pytest.mark.parametrize(("two", "one", "expected"), [(0.5, 0.9, "supported"), (0.9, 0.5, "not supported")])
def test_g4_is_decided_by_its_rule(two, one, expected):
    runs = [*group("gradient_penalty", gap=two), *group("one_sided", gap=one)]
    assert critic_verdicts.verdict_g4(runs, "cpu", "s").verdict == expected
    assert critic_verdicts.verdict_g4(runs[:6], "cpu", "s").verdict == "open"


def test_g4_says_where_one_pair_decides():
    def runs(other: float):
        found = [*group("gradient_penalty", gap=0.5), *group("one_sided", gap=0.9)]
        same = {"gap": other}
        return [t | same if (t["method"], t["pair"]) == ("one_sided", "b") else t for t in found]

    assert "decided by" not in critic_verdicts.verdict_g4(runs(0.9), "cpu", "s").summary
    noise = [t | {"gap": t["gap"] + 0.01 * t["seed"]} if t["pair"] == "b" else t for t in runs(0.501)]
    assert (
        "It was decided by one pair, a: without it" in critic_verdicts.verdict_g4(noise, "cpu", "s").summary
    )


@pytest.mark.parametrize(("largest", "expected"), [(1.1, "supported"), (1.4, "not supported")])
def test_g3_needs_the_typical_and_the_largest_norm(largest, expected):
    free = {"largest": 9.0, "norms": {"segments": {"mean": 7.0, "max": 9.0}, "off": {"max": 9.0}}}
    runs = [*group("gradient_penalty", largest=largest), *group("none", **free)]
    assert critic_verdicts.verdict_g3(runs, "cpu", "s").verdict == expected
    assert critic_verdicts.verdict_g3([], "cpu", "s").verdict == "open"


@pytest.mark.parametrize(("off", "distance", "expected"), [(2.0, 0.1, -1), (1.0, 0.1, -2), (1.0, 0.3, 2)])
def test_a_steeper_place_found_uphill_counts_where_it_is(off, distance, expected):
    norms = {"segments": {"mean": 1.0, "max": 1.0}, "off": {"max": off}}
    found = training("gradient_penalty", "a", 0, norms=norms, uphill={"norm": 4.0, "distance": distance})
    assert critic_results.off_over_on(found) == expected


def test_g6_is_decided_by_its_rule():
    steep = {"segments": {"mean": 1.0, "max": 1.0}, "off": {"max": 2.0}}
    for norms, expected in ((steep, "supported"), (steep | {"off": {"max": 0.5}}, "not supported")):
        runs = [*group("gradient_penalty", norms=norms), *group("spectral_norm")]
        verdict = critic_verdicts.verdict_g6(runs, "cpu", "s")
        assert verdict.verdict == expected
        assert ("was seen" in verdict.summary) == (expected == "supported")
        assert "is a theorem" in verdict.summary
