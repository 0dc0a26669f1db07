"""What the chapter on the Lipschitz constraint of layers and networks rests on (claims A1, B1, B2)."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb import lipschitz_bound, lipschitz_estimate
from lipnb.activations import activation_constant
from lipnb.lab import network_figures
from lipnb.lab.activation_slopes import EXACT, chords, evaluated, steepest, without_constant
from lipnb.lab.data import Dataset
from lipnb.lab.linear_algebra import agree, at_most, lengths, random_svd
from lipnb.lab.network_maths import (
    Gap,
    gaps,
    max_row_sum,
    mlp,
    pattern_constant,
    positive_constant,
    product_bound,
    relu_network,
    train_together,
    two_layers,
)
from lipnb.norms import spectral_norm

pytestmark = pytest.mark.lab
EPS = np.finfo(np.float64).eps
QUICK = settings(max_examples=30, deadline=None, derandomize=True)
SEEDS = st.integers(0, 999)


def _numpy(name):
    """The activation by its own formula, without Keras."""
    return {
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "silu": lambda x: x / (1 + np.exp(-np.clip(x, -700, 700))),
        "selu": lambda x: (
            1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
        ),
    }[name]


# A1 ------------------------------------------------------------------------------------------------------


@QUICK
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9, unique=True), SEEDS)
def test_neighbours_hold_the_steepest_chord_of_a_grid(points, seed):
    x = np.sort(points)
    x = x[np.concatenate([[True], np.diff(x) > 1e-3])]
    y = np.random.default_rng(seed).standard_normal(len(x))
    pairs = [abs(y[j] - y[i]) / (x[j] - x[i]) for i in range(len(x)) for j in range(i + 1, len(x))]
    if pairs:
        assert np.max(chords(lambda _: y, x)) == pytest.approx(max(pairs), rel=1e-9)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (np.abs, ""),
        (np.sin, ""),
        (np.square, "grows with the range"),
        (lambda x: np.heaviside(x, 0.0), "jumps"),
        (lambda x: np.where(x > 3.7, x, 0.0), "jumps"),
    ],
)
def test_functions_without_a_constant_are_told_apart(function, reason):
    assert without_constant(function) == reason


def test_overflow_counts_as_infinitely_steep():
    with np.errstate(over="ignore"):
        assert steepest(np.exp)[0] == np.inf
        assert without_constant(np.exp) == "grows with the range"


@QUICK
@given(st.integers(1, 6), st.integers(1, 6), SEEDS)
def test_largest_entry_constant_is_attained_and_within_its_bounds(m, n, seed):
    w = np.random.default_rng(seed).standard_normal((m, n))
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * n)).reshape(n, -1)  # the corners of the cube
    assert np.max(np.abs(w @ signs)) == pytest.approx(max_row_sum(w), rel=8 * EPS)
    assert at_most(spectral_norm(w) / np.sqrt(m), max_row_sum(w), 100)
    assert at_most(max_row_sum(w), np.sqrt(n) * spectral_norm(w), 100)


def test_cones_colour_what_enters_them():
    figure = network_figures.cones({"abs": (np.abs, 0.5), "double": (lambda x: 2 * x, 0.0)})
    inside = [np.isfinite(axis.lines[1].get_ydata()) for axis in figure.axes]
    assert not inside[0].any()
    assert inside[1].sum() == 2000  # all of the graph but the cone's tip


# B1 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXACT)
def test_b1_exact_slopes_are_those_that_a_search_finds(name):
    approximate = {"gelu (tanh form)": lambda x: keras.activations.gelu(x, approximate=True)}
    activation = approximate.get(name) or getattr(keras.activations, name)
    found, _ = steepest(evaluated(activation))
    assert EXACT[name].value * (1 - 2e-5) <= found <= EXACT[name].value * (1 + 1e-8)
    library = activation_constant(activation).value
    assert library == pytest.approx(EXACT[name].value, rel=16 * EPS) or name in approximate


@pytest.mark.parametrize("name", ["relu", "tanh", "silu", "selu"])
def test_evaluated_is_keras_in_float64(name):
    x = np.linspace(-8, 8, 1001)
    y = evaluated(getattr(keras.activations, name))(x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, _numpy(name)(x), rtol=1e-12, atol=1e-14)


def test_b1_every_elementwise_activation_of_keras_is_in_the_table():
    mixing = {"softmax", "log_softmax", "sparsemax", "glu"}
    no_constant = {"exponential", "hard_shrink", "threshold"}
    aliases = {"swish", "hard_swish", "get", "serialize", "deserialize"}
    names = {name for name in dir(keras.activations) if not name.startswith("_")}
    assert names - mixing - no_constant - aliases == set(EXACT) - {"gelu (tanh form)"}


@QUICK
@given(st.sampled_from(["relu", "tanh", "silu", "selu"]), st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_b1_no_pair_exceeds_the_layers_constant(name, m, n, seed):
    rng = np.random.default_rng(seed)
    w, b, (x, y) = (
        rng.standard_normal((m, n)),
        rng.standard_normal((m, 1)),
        3 * rng.standard_normal((2, n, 200)),
    )
    f = _numpy(name)
    moved = lengths(f(w @ x + b) - f(w @ y + b))
    assert at_most(moved, EXACT[name].value * lengths(w @ (x - y)) + 100 * EPS, 100)


@QUICK
@given(st.integers(1, 4), st.integers(0, 3), SEEDS)
def test_b1_constant_is_attained_for_full_row_rank(m, more, seed):
    rng = np.random.default_rng(seed)
    w, b = rng.standard_normal((m, m + more)), rng.standard_normal((m, 1))
    start, top = (
        np.linalg.pinv(w) @ (5.0 - b),
        np.linalg.svd(w)[2][0][:, None],
    )  # all units of ReLU are active
    f, h = _numpy("relu"), 1e-2 / spectral_norm(w)
    slope = lengths(f(w @ (start + h * top) + b) - f(w @ (start - h * top) + b))[0] / (2 * h)
    assert slope == pytest.approx(spectral_norm(w), rel=1e-9 * np.linalg.cond(w))


# B2 ------------------------------------------------------------------------------------------------------


def _weights(seed, positive):
    rng = np.random.default_rng(seed)
    sizes = ((5, 4), (6, 5), (3, 6))
    draw = rng.uniform if positive else rng.standard_normal
    return [draw(size=s) for s in sizes], [rng.standard_normal(s[0]) for s in sizes]


@QUICK
@given(SEEDS, st.booleans())
def test_b2_no_chord_exceeds_the_product_nor_the_positive_constant(seed, positive):
    weights, biases = _weights(seed, positive)
    f, (x, y) = relu_network(weights, biases), np.random.default_rng(seed).standard_normal((2, 4, 500))
    bound = positive_constant(weights) if positive else product_bound(weights)
    assert at_most(lengths(f(x) - f(y)), bound * lengths(x - y), 1000)
    assert at_most(bound, product_bound(weights), 1000)


@QUICK
@given(SEEDS)
def test_b2_positive_constant_is_attained(seed):
    weights, biases = _weights(seed, positive=True)
    f, top = relu_network(weights, biases), np.linalg.svd(weights[2] @ weights[1] @ weights[0])[2][0][:, None]
    far = np.full((4, 1), 1e5)
    reached = lengths(f(far + top) - f(far - top))[0] / 2
    assert reached == pytest.approx(positive_constant(weights), rel=1e-9)


def test_b2_positive_constant_refuses_a_negative_entry():
    with pytest.raises(ValueError, match="no negative entry. Received"):
        positive_constant([np.array([[1.0], [-1.0]]), np.ones((1, 2))])


def test_b2_product_is_attained_by_aligned_singular_vectors_only():
    first, left, _ = random_svd([3.0, 1.0], 5, 4, seed=0)
    other, outer, _ = random_svd([2.0, 1.0], 6, 5, seed=1)
    assert spectral_norm(outer * [2.0, 1.0] @ left.T @ first) == pytest.approx(6, rel=1e-12)
    assert spectral_norm(other @ first) < 5.9
    assert product_bound([first, other], slope=2.0) == pytest.approx(12, rel=1e-12)


@QUICK
@given(st.integers(1, 6), st.integers(1, 3), SEEDS)
def test_b2_pattern_constant_is_the_largest_of_all_patterns(units, outputs, seed):
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((units, 7)), rng.standard_normal((outputs, units))
    every = [[k >> i & 1 for i in range(units)] for k in range(2**units)]
    largest = max(spectral_norm(second @ np.diag(d) @ first) for d in every)
    assert pattern_constant(first, second) == pytest.approx(largest, rel=1e-9)


def test_b2_pattern_constant_refuses_what_would_take_for_ever():
    with pytest.raises(ValueError, match="at most 16 rows. Received: 17"):
        pattern_constant(np.eye(17), np.eye(17))


def test_b2_bound_exact_and_found_are_in_order():
    model, first, second = two_layers(8, 5, 3, seed=0)
    exact = pattern_constant(first, second)
    assert float(lipschitz_bound(model)) == pytest.approx(product_bound([first, second]), rel=1e-12)
    found = float(lipschitz_estimate(model, n_steps=60, n_starts=16))
    assert 0.8 * exact < found <= exact * (1 + 1e-6)  # the search computes in float32


def _toy_images(n):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    x = (rng.integers(0, 100, (n, 2, 2, 1)) + 150 * y[:, None, None, None]).astype(np.uint8)
    return Dataset(x, y, x, y)


def test_gaps_hold_both_states_of_every_network_and_training_learns():
    found = gaps([(3, 1), (4, 2)], seeds=[0], images=_toy_images(64 * 6), epochs=8, n_steps=20)
    assert [(g.width, g.depth, g.trained) for g in found] == [
        (3, 1, False),
        (4, 2, False),
        (3, 1, True),
        (4, 2, True),
    ]
    assert all(g.ratio >= 1 - 1e-6 for g in found)
    assert found[0].bound != found[2].bound


def test_networks_trained_together_train_as_alone():
    images, models = _toy_images(128), [mlp(4, 1, seed=s, shape=(2, 2, 1), classes=2) for s in (0, 1)]
    alone = mlp(4, 1, seed=1, shape=(2, 2, 1), classes=2)
    options = {"epochs": 3, "batch": 64, "learning_rate": 0.01, "seed": 0}
    together = train_together(models, images, **options)
    single = train_together([alone], images, **options)
    for a, b in zip(models[1].get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert len(together) == len(single) == 6
    assert single[-1] < single[0]


def test_looseness_is_drawn_by_depth_and_by_width():
    measured = [Gap(w, d, 0, t, 2.0**d, 1.0, 0.5) for w, d in ((8, 1), (8, 2), (4, 2)) for t in (False, True)]
    figure = network_figures.looseness(measured, [(1.4, 0.9)], depth=2, width=8)
    by_depth = figure.axes[0].lines[1].get_xydata()
    np.testing.assert_allclose(by_depth, [[1, 2], [2, 4]])
    assert agree(figure.axes[1].lines[1].get_xydata()[:, 1], [4.0, 4.0], 16)
