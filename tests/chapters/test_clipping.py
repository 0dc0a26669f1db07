"""What the chapter on clipping rests on (claims H1, H2, H3)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb.lab import clip_maths, critic_figures, critic_results, critic_tables, critic_verdicts
from lipnb.lab.linear_algebra import agree, at_most
from lipnb.lab.statistics import Interval

pytestmark = pytest.mark.lab
QUICK = settings(max_examples=20, deadline=None, derandomize=True)
SIZES = [2, 6, 5, 4, 1]


def points(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((20, 2)), rng.normal(1, 1, (30, 2))


@QUICK
@given(st.integers(0, 999), st.booleans())
def test_gradients_are_those_of_finite_differences(seed, biases):
    network = clip_maths.random_network(SIZES, seed, biases=biases)
    layer = seed % 4
    step = np.zeros_like(network[0][layer])
    step.flat[seed % step.size] = 1e-7
    values = []
    for sign in (1, -1):
        kernels = [w + sign * step if k == layer else w for k, w in enumerate(network[0])]
        values.append(clip_maths.gap((kernels, network[1]), *points(seed)))
    exact = clip_maths.gap_gradients(network, *points(seed))[layer].flat[seed % step.size]
    assert (values[0] - values[1]) / 2e-7 == pytest.approx(exact, rel=1e-4, abs=1e-5)


@QUICK
@given(st.integers(0, 999))
def test_every_layer_has_one_product_with_its_gradient_without_biases(seed):
    network = clip_maths.random_network(SIZES, seed, biases=False)
    gap = clip_maths.gap(network, *points(seed))
    products = [
        np.sum(w * g)
        for w, g in zip(network[0], clip_maths.gap_gradients(network, *points(seed)), strict=True)
    ]
    np.testing.assert_allclose(products, gap, rtol=0, atol=1e-11)


@QUICK
@given(st.integers(0, 999), st.floats(0.01, 10))
def test_scaling_needs_biases_that_scale_with_their_depth(seed, c):
    plain = clip_maths.random_network(SIZES, seed, biases=False)
    biased = clip_maths.random_network(SIZES, seed, biases=True)
    x = points(seed)[0]
    for network, power in ((plain, 1), (biased, 0)):
        f = clip_maths.forward(network, x)
        assert agree(clip_maths.forward(clip_maths.scaled(network, c, power), x), c**4 * f, 10_000)


def test_scaling_fails_with_biases_of_one_size():
    biased = clip_maths.random_network(SIZES, 0, biases=True)
    x = points(0)[0]
    ratio = clip_maths.forward(clip_maths.scaled(biased, 0.1, 1), x) / clip_maths.forward(biased, x)
    assert np.ptp(ratio) > 0.1 * np.abs(ratio).max()


@QUICK
@given(st.lists(st.sampled_from([0.0, 0.5, -1.0, 3.0, -0.1]), min_size=2, max_size=8), st.floats(0.01, 2))
def test_the_ball_of_the_same_guarantee_beats_the_box(entries, c):
    g = np.array(entries)
    box, ball = c * np.abs(g).sum(), c * np.sqrt(g.size) * np.linalg.norm(g)
    assert at_most(box, ball, 99)
    inside = c * np.random.default_rng(0).uniform(-1, 1, (200, g.size))
    assert np.all(inside @ g <= box + 1e-12)
    assert np.all(np.linalg.norm(inside, axis=1) <= c * np.sqrt(g.size) * (1 + 1e-12))


def training(method: str, seed: int, gaps: list[float], pair: str = "a") -> dict:
    history = {"step": [10, 100, 1000], "gap": gaps, "largest": [1.0] * 3, "w1": [1.0] * 3}
    plain = {"diverged_at": None, "gap": gaps[-1], "largest": 1.0, "w1": 1.0}
    return {"run": method, "method": method, "pair": pair, "seed": seed, "history": history} | plain


def group(method: str, gaps: list[float]) -> list[dict]:
    return [training(method, seed, [gap + 0.001 * seed**2 for gap in gaps]) for seed in range(4)]


def test_speed_counts_the_steps_to_the_worse_of_two_ends():
    slow, fast = group("frobenius_penalty", [0.0, 0.1, 0.8]), group("frobenius_clip", [0.8, 0.8, 0.8])
    ratio = critic_results.speed([*slow, *fast], "frobenius_penalty", "frobenius_clip")
    assert ratio.mean == pytest.approx(np.log2(100), abs=0.01)
    assert critic_results.speed([*slow, *fast], "frobenius_clip", "frobenius_penalty").mean == pytest.approx(
        -ratio.mean
    )


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [([0.0, 0.1, 0.8], "supported"), ([0.0, 0.1, 0.5], "not supported"), ([0.8, 0.8, 0.8], "not supported")],
)
def test_h3_needs_an_end_as_good_and_a_slower_way(penalty, expected):
    runs = [*group("frobenius_penalty", penalty), *group("frobenius_clip", [0.8, 0.8, 0.801])]
    assert critic_verdicts.verdict_h3(runs, "cpu", "s").verdict == expected


@pytest.mark.parametrize(("clip", "norm", "expected"), [(0.5, 0.8, "supported"), (0.8, 0.5, "not supported")])
def test_h2_is_decided_by_its_rule(clip, norm, expected):
    runs = [*group("weight_clip", [clip] * 3), *group("frobenius_clip", [norm] * 3)]
    assert critic_verdicts.verdict_h2(runs, "cpu", "s").verdict == expected


@pytest.mark.parametrize(
    ("holds", "slope", "penalty", "expected"),
    [
        (True, -3.0, 0.9, "supported"),
        (False, -3.0, 0.9, "not supported"),
        (True, -0.5, 0.9, "not supported"),
        (True, -3.0, 0.4, "not supported"),
    ],
)
def test_h1_needs_all_three_parts(holds, slope, penalty, expected):
    runs = [*group("weight_clip", [0.5] * 3), *group("gradient_penalty", [penalty] * 3)]
    interval = Interval(slope, slope - 0.1, slope + 0.1)
    assert critic_verdicts.verdict_h1(runs, holds, interval, "cpu", "s").verdict == expected
    assert critic_verdicts.verdict_h1([], holds, interval, "cpu", "s").verdict == "open"


NAMES = {0.5: "weight_clip", 0.8: "frobenius_clip"}  # by the gap of their critics


def test_duels_have_a_column_for_each_pair_and_a_row_for_methods_that_ran():
    runs = [
        t | {"pair": pair}
        for pair in ("a", "b")
        for m in (0.5, 0.8)
        for t in group(NAMES[m], [m + 0.1 * (pair == "b")] * 3)
    ]
    opponents = [("weight_clip", "frobenius_clip"), ("weight_clip", "none")]
    table = critic_tables.duels(runs, opponents, "c")
    assert table.header == ["shortfall of", "a", "b", "mean"]
    assert [[cell.split()[0] for cell in row[1:]] for row in table.rows] == [["0.300"] * 3]
    assert "runs are missing" in repr(critic_tables.duels([], opponents, "c"))


def test_a_row_for_each_pair_leaves_out_what_diverged():
    norms = {"norms": {"segments": {"mean": 0.5, "max": 1.0}, "off": {"max": 2.0}}, "uphill": None}
    runs = [t | norms | {"pair": pair} for pair in ("a", "b") for t in group("weight_clip", [0.75] * 3)]
    runs[0]["diverged_at"] = 10
    table = critic_tables.by_pair(runs, "c")
    assert [row[:3] for row in table.rows] == [
        ["weight clipping", "a", "3 of 4"],
        ["weight clipping", "b", "4 of 4"],
    ]
    assert table.rows[0][4] == "2.00 [2.00, 2.00]"
    assert "runs are missing" in repr(critic_tables.by_pair([], "c"))


def test_every_training_has_a_row_even_where_it_diverged():
    lost = training("weight_clip", 1, [0.5] * 3) | {"diverged_at": 10}
    whole = training("weight_clip", 0, [0.5] * 3) | {"rms": 1.0, "correlation": 1.0, "cosine": 1.0}
    whole |= {"norms": {"segments": {"mean": 1.0}}, "bound": 2.0}
    table = critic_tables.each([t | {"strength": 0.01, "depth": 3} for t in (lost, whole)])
    assert all(len(row) == len(table.header) for row in table.rows)
    assert [row[4] for row in table.rows] == [0, 1]
    assert [row[-1] for row in table.rows] == ["–", 10]


def test_gradients_by_kernel_have_a_panel_for_each_moment():
    seeds = [[1e-3, 1e-4, 1e-3], [2e-3, 1e-4, 1e-3]]
    styles = {"clipping at 0.01": ("weight_clip", "-")}
    for moments in (
        {"before": {"clipping at 0.01": seeds}},
        {moment: {"clipping at 0.01": seeds} for moment in ("before", "after")},
    ):
        figure = critic_figures.by_kernel(moments, styles)
        assert [axis.get_title() for axis in figure.axes] == list(moments)
        assert figure.axes[0].get_yscale() == "log"


def test_the_legend_names_a_series_that_stands_in_the_second_panel_alone():
    styles = {"clipping": ("weight_clip", "-"), "penalty": ("gradient_penalty", "-")}
    moments = {
        "before": {"clipping": [[1.0, 2.0]]},
        "after": {"clipping": [[1.0, 2.0]], "penalty": [[1.0, 2.0]]},
    }
    (legend,) = critic_figures.by_kernel(moments, styles).legends
    assert [text.get_text() for text in legend.get_texts()] == ["clipping", "penalty"]
