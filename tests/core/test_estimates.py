"""The search from below: exact on linear models, near an exhaustive search on tiny nets, never above; radii."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from lipnb import estimates, rows
from lipnb.bounds import lipschitz_bound
from lipnb.estimates import LipschitzEstimate, certified_radius, lipschitz_estimate


def numpy(tensor):
    return ops.convert_to_numpy(tensor).astype(float)


def sequential(shape, *stack):
    """A chain of layers with Gaussian weights."""
    model, generator = keras.Sequential([keras.Input(shape), *stack]), np.random.default_rng(0)
    kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
    for v in kernels:
        v.assign(generator.standard_normal(v.shape) / np.sqrt(np.prod(v.shape[:-1])))
    return model


def quotient(model, estimate, h=1e-2):
    """‖f(p + hd) − f(p − hd)‖/2h at the estimate's point and direction: two values of the model, no gradient."""
    ends = [
        [
            (p + s * h * d)[None].astype("float32")
            for p, d in zip(estimate.point, estimate.direction, strict=True)
        ]
        for s in (1, -1)
    ]
    first, second = (keras.tree.flatten(model(x if len(x) > 1 else x[0], training=False)) for x in ends)
    change = np.concatenate([(numpy(a) - numpy(b)).ravel() for a, b in zip(first, second, strict=True)])
    return np.linalg.norm(change) / (2 * h)


# How good it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        sequential((30,), layers.Dense(40), layers.Dense(20)),
        sequential((6, 6, 2), layers.Conv2D(3, 3, padding="same"), layers.Flatten(), layers.Dense(4)),
    ],
    ids=["dense", "convolution"],
)
def test_linear_models_reach_their_norm(model):
    shape = tuple(model.inputs[0].shape)[1:]
    n = math.prod(shape)
    points = np.concatenate([np.eye(n), np.zeros((1, n))]).reshape(-1, *shape).astype("float32")
    y = numpy(model(points)).reshape(n + 1, -1)
    norm = np.linalg.norm(y[:-1] - y[-1], 2)
    assert float(lipschitz_estimate(model)) == pytest.approx(norm, rel=1e-3)
    assert float(lipschitz_estimate(model, n_starts=2, compiled=False)) == pytest.approx(norm, rel=1e-3)


@pytest.mark.once
@pytest.mark.parametrize("seed", range(3))
def test_tiny_relu_nets_are_searched_as_well_as_exhaustively(seed):
    """Two inputs, six hidden units: every linear piece that fills a hundredth of a square is as good as found."""
    model = sequential((2,), layers.Dense(6, activation="relu"), layers.Dense(3))
    generator = np.random.default_rng(seed)
    w, b, v = (generator.standard_normal(shape) for shape in ((2, 6), 6, (6, 3)))
    model.set_weights([w, b, v, np.zeros(3)])
    grid = np.stack(np.meshgrid(*[np.linspace(-3, 3, 300)] * 2), -1).reshape(-1, 2)
    patterns, counts = np.unique(grid @ w + b > 0, axis=0, return_counts=True)
    largest = max(np.linalg.norm((w * pattern) @ v, 2) for pattern in patterns[counts >= 900])
    estimate = float(lipschitz_estimate(model, n_steps=60, n_starts=64, seed=seed))
    every = max(np.linalg.norm((w * [bool(i >> k & 1) for k in range(6)]) @ v, 2) for i in range(64))
    assert 0.999 * largest <= estimate <= every * (1 + 1e-5)


def test_the_estimate_is_a_difference_quotient_at_its_point():
    model = sequential((8,), layers.Dense(16, activation="tanh"), layers.Dense(4))
    estimate = lipschitz_estimate(model, compiled=False)
    assert quotient(model, estimate) == pytest.approx(float(estimate), rel=0.05)
    assert np.linalg.norm(np.concatenate(estimate.direction)) == pytest.approx(1)
    assert float(estimate) <= float(lipschitz_bound(model)) * (1 + 1e-5)
    assert repr(estimate) == f"LipschitzEstimate({float(estimate):.6g})"


# Inputs and outputs --------------------------------------------------------------------------------------


def two_inputs(structure):
    a, b = keras.Input((3,), name="a"), keras.Input((2, 2), name="b")
    y = layers.Dense(4, use_bias=False)(layers.Concatenate()([a, layers.Flatten()(b)]))
    return keras.Model({"a": a, "b": b} if structure is dict else [a, b], [y, layers.Rescaling(0.5)(y)])


@pytest.mark.parametrize("structure", [list, dict])
def test_several_inputs_and_outputs_are_one_vector(structure):
    model = two_inputs(structure)
    kernel = model.layers[-2].get_weights()[0].astype(float)
    estimate = lipschitz_estimate(model, compiled=False)
    assert float(estimate) == pytest.approx(np.linalg.norm(kernel, 2) * math.hypot(1, 0.5), rel=1e-3)
    assert [p.shape for p in estimate.point] == [d.shape for d in estimate.direction] == [(3,), (2, 2)]
    assert sum(np.sum(d**2) for d in estimate.direction) == pytest.approx(1)


@pytest.mark.once
def test_given_points_are_where_the_search_starts():
    """A steep bump far from the origin, which Gaussian starts do not see."""
    model = sequential((1,), layers.Dense(1, activation="tanh"), layers.Dense(1, use_bias=False))
    model.set_weights([np.array([[5.0]]), np.array([-500.0]), np.array([[1.0]])])
    assert float(lipschitz_estimate(model, compiled=False)) < 1e-3
    assert float(lipschitz_estimate(model, np.array([[99.0]]), compiled=False)) == pytest.approx(5, rel=1e-2)


@pytest.mark.once
def test_an_open_shape_takes_the_shape_of_the_points():
    model = sequential((None, 3), layers.Conv1D(2, 1, use_bias=False))
    kernel = model.get_weights()[0][0].astype(float)
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    assert float(lipschitz_estimate(model, x, compiled=False)) == pytest.approx(
        np.linalg.norm(kernel, 2), rel=1e-3
    )


def test_the_model_is_seen_at_inference_and_is_not_changed():
    model = sequential((4,), layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5))
    model.layers[1].moving_variance.assign([1.0, 4.0, 9.0, 16.0])
    before = model.get_weights()
    estimate = float(lipschitz_estimate(model, compiled=False))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert 0.99 * float(lipschitz_bound(model)) <= estimate <= float(lipschitz_bound(model)) * (1 + 1e-5)


class Subclassed(keras.Model):
    def call(self, inputs):
        return 3 * inputs


def test_a_subclassed_model_is_searched_from_given_points():
    model = Subclassed()
    model.build((None, 2))
    assert float(lipschitz_estimate(model, np.ones((1, 2)), compiled=False)) == pytest.approx(3, rel=1e-5)
    with pytest.raises(ValueError, match="x must be given.*Received:"):
        lipschitz_estimate(model)


@pytest.mark.once
def test_the_same_seed_finds_the_same_and_zero_stays_zero():
    model = sequential((4,), layers.Dense(5, activation="relu"), layers.Dense(2))
    first, again = (float(lipschitz_estimate(model, n_steps=10, seed=3, compiled=False)) for _ in range(2))
    assert first == again
    assert float(lipschitz_estimate(sequential((4,), layers.Rescaling(0.0)), n_steps=3, compiled=False)) == 0


@pytest.mark.parametrize(
    ("make", "arguments", "error", "rule"),
    [
        (lambda: layers.Dense(2), {}, TypeError, "keras.Model"),
        (lambda: keras.Sequential([layers.Dense(2)]), {}, ValueError, "must be built"),
        (lambda: sequential((3,), layers.ReLU()), {"n_steps": 0}, ValueError, "n_steps"),
        (lambda: sequential((3,), layers.ReLU()), {"n_starts": 0}, ValueError, "n_starts"),
        (lambda: sequential((3,), layers.ReLU()), {"x": np.ones((2, 4))}, ValueError, "points of shape"),
        (
            lambda: sequential((3,), layers.ReLU()),
            {"x": [np.ones((2, 3))] * 2},
            ValueError,
            "points of shape",
        ),
        (lambda: sequential((3,), layers.ReLU()), {"x": np.ones((2, 3), int)}, TypeError, "floating-point"),
        (lambda: sequential((3,), layers.ReLU()), {"x": np.full((2, 3), np.nan)}, ValueError, "finite"),
        (lambda: sequential((3,), layers.ReLU()), {"x": np.ones((0, 3))}, ValueError, "empty"),
        (lambda: sequential((None, 3), layers.ReLU()), {}, ValueError, "x must be given"),
        (lambda: sequential((3,), layers.ReLU()), {"seed": -1}, ValueError, "seed must be"),
        (lambda: sequential((3,), layers.ReLU()), {"seed": "a"}, ValueError, "seed must be"),
        (lambda: sequential((3,), layers.ReLU()), {"compiled": "no"}, TypeError, "compiled must be"),
    ],
)
def test_bad_input_says_the_rule(make, arguments, error, rule):
    with pytest.raises(error, match=f"{rule}.*Received:"):
        lipschitz_estimate(make(), **arguments)


def test_wrong_gradients_are_contradicted_by_the_values(monkeypatch):
    """As where TensorFlow leaves memory unwritten: no gradient counts that is 100 times what the model does."""
    model = sequential((4,), layers.Dense(5, activation="relu"), layers.Dense(2))
    right = rows.input_gradient
    monkeypatch.setattr(rows, "input_gradient", lambda f, x: 100.0 * right(f, x))
    with pytest.raises(RuntimeError, match="needs right gradients.*Received: norms"):
        lipschitz_estimate(model, n_steps=5, compiled=False)


def test_huge_gradients_do_not_overflow():
    """Squares beyond 1e154 would, and the estimate of a float64 model be infinite."""
    gradients = np.array([[3e200, 4e200], [3e-200, 4e-200], [0.0, 0.0]])
    np.testing.assert_allclose(estimates._norms(gradients)[:, 0], [5e200, 5e-200, 0])
    np.testing.assert_allclose(estimates._unit(gradients), [[0.6, 0.8], [0.6, 0.8], [0, 0]])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_searched(policy):
    model = sequential((4,), layers.Dense(5, dtype=policy), layers.Dense(2, dtype=policy))
    first, _, second, _ = (w.astype(float) for w in model.get_weights())
    estimate = float(lipschitz_estimate(model, n_steps=30, compiled=False))
    assert estimate == pytest.approx(np.linalg.norm(first @ second, 2), rel=0.05)


def test_weights_that_are_not_finite_are_refused():
    model = sequential((3,), layers.Dense(2, name="broken"))
    model.set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    with pytest.raises(ValueError, match="broken/kernel must be finite. Received: 6 NaN"):
        lipschitz_estimate(model)


def test_an_integer_input_has_no_gradient():
    x = keras.Input((3,), dtype="int32")
    with pytest.raises(ValueError, match="floating-point inputs. Received:"):
        lipschitz_estimate(keras.Model(x, layers.Embedding(4, 2)(x)))


# Radii ---------------------------------------------------------------------------------------------------


def test_the_radius_is_the_margin_over_root_two_times_the_bound():
    radius = certified_radius(np.array([[0.0, 3.0, 1.0], [2.0, 2.0, 2.0]]), 2)
    np.testing.assert_allclose(radius, [2 / (2 * math.sqrt(2)), 0.0])
    assert certified_radius(np.array([[0.0, 1.0]]), math.inf) == [0.0]
    assert certified_radius(np.array([[0.0, 1.0]]), 5e-324) == [math.inf]
    constant = lipschitz_bound(sequential((3,), layers.Rescaling(0.0), layers.Dense(2)))
    np.testing.assert_array_equal(
        certified_radius(np.array([[0.0, 1.0], [2.0, 2.0]]), constant), [math.inf, 0.0]
    )


def test_the_radius_of_opposite_rows_is_the_distance_to_the_boundary():
    """Logits ±w·x have constant √2‖w‖ and a boundary at distance |w·x|/‖w‖: the radius, exactly."""
    generator = np.random.default_rng(0)
    w, x = generator.standard_normal(7), generator.standard_normal((20, 7))
    logits = np.stack([x @ w, -x @ w], axis=1)
    radius = certified_radius(logits, math.sqrt(2) * np.linalg.norm(w))
    np.testing.assert_allclose(radius, np.abs(x @ w) / np.linalg.norm(w))


def test_no_perturbation_within_the_radius_changes_the_class():
    """The shortest way out of a linear classifier's class, which the radius never reaches."""
    generator = np.random.default_rng(1)
    w, x = generator.standard_normal((5, 8)), generator.standard_normal((50, 8))
    model = sequential((8,), layers.Dense(5, use_bias=False))
    model.set_weights([w.T])
    logits = x @ w.T
    radius = certified_radius(logits, lipschitz_bound(model))
    top = logits.argmax(1)
    others = np.array(
        [
            [(row[t] - row[j]) / np.linalg.norm(w[t] - w[j]) if j != t else np.inf for j in range(5)]
            for row, t in zip(logits, top, strict=True)
        ]
    )
    assert np.all(radius <= others.min(1) * (1 + 1e-6))
    assert np.all(radius > 0)


@pytest.mark.parametrize(
    ("logits", "bound", "error", "rule"),
    [
        (np.ones((2, 1)), 1.0, ValueError, "at least 2 classes"),
        (np.ones(3), 1.0, ValueError, "rank 2"),
        (np.ones((2, 3), int), 1.0, TypeError, "floating-point"),
        (np.full((2, 3), np.nan), 1.0, ValueError, "finite"),
        (np.ones((2, 3)), -1.0, ValueError, "bound"),
        (np.ones((2, 3)), math.nan, ValueError, "bound"),
        (np.ones((2, 3)), "2", ValueError, "bound must be"),
        (np.ones((2, 3)), None, ValueError, "bound must be"),
        (np.ones((2, 3)), np.ones(2), ValueError, "bound must be"),
        (np.ones((0, 3)), 1.0, ValueError, "logits must not be empty"),
        (np.ones((2, 3)), LipschitzEstimate(1.0, [], []), TypeError, "bound must be an upper bound"),
    ],
)
def test_bad_radii_say_the_rule(logits, bound, error, rule):
    with pytest.raises(error, match=f"{rule}.*Received:"):
        certified_radius(logits, bound)
