"""gradient_penalty and input_gradient_norm against closed forms, and their gradients against finite differences."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from lipnb.autodiff import compile_step, value_and_grad
from lipnb.penalties import gradient_penalty, input_gradient_norm

RNG = np.random.default_rng(1)
REAL = RNG.normal(size=(4, 3)).astype("float32")
FAKE = RNG.normal(size=(4, 3)).astype("float32")
EPS = np.array([0.0, 0.25, 0.5, 1.0], dtype="float32")
A = np.array([[1.5], [-2.0], [0.5]], dtype="float32")


def numpy(x):
    return ops.convert_to_numpy(ops.copy(x)).astype("float64")


def quadratic(x):
    """f(x) = ‖x‖²/2, whose gradient is x."""
    return ops.sum(ops.square(x), axis=-1, keepdims=True) / 2


def formula(norms, kind):
    excess = norms - 1
    return np.mean({"two_sided": excess, "one_sided": np.maximum(excess, 0)}[kind] ** 2)


@pytest.mark.parametrize("kind", ["two_sided", "one_sided"])
def test_squared_penalties_at_points_between(kind):
    points = EPS[:, None] * REAL + (1 - EPS[:, None]) * FAKE
    expected = formula(np.linalg.norm(points.astype("float64"), axis=1), kind)
    actual = gradient_penalty(quadratic, REAL, FAKE, kind=kind, eps=EPS)
    assert float(numpy(actual)) == pytest.approx(expected, rel=1e-5)


def test_linear_penalty_and_points_at_fake():
    norms = np.linalg.norm(FAKE.astype("float64"), axis=1)
    actual = gradient_penalty(quadratic, REAL, FAKE, kind="one_sided_linear", at="fake")
    assert float(numpy(actual)) == pytest.approx(np.mean(np.maximum(norms - 1, 0)), rel=1e-5)


def test_points_around_real_are_perturbed_by_the_standard_deviation():
    noise = RNG.normal(size=REAL.shape)
    points = REAL.astype("float64") + 0.3 * np.std(REAL.astype("float64")) * noise
    actual = gradient_penalty(quadratic, REAL, FAKE, at="real", eps=noise, perturbation=0.3)
    assert float(numpy(actual)) == pytest.approx(
        formula(np.linalg.norm(points, axis=1), "two_sided"), rel=1e-5
    )


def test_no_perturbation_needs_no_draw():
    actual = gradient_penalty(quadratic, REAL, FAKE, at="real", perturbation=0)
    norms = np.linalg.norm(REAL.astype("float64"), axis=1)
    assert float(numpy(actual)) == pytest.approx(formula(norms, "two_sided"), rel=1e-5)


@pytest.mark.parametrize("at", ["between", "real"])
def test_seeds_repeat_and_generators_advance(at):
    draw = lambda seed: float(numpy(gradient_penalty(quadratic, REAL, FAKE, at=at, seed=seed)))  # noqa: E731
    assert draw(3) == draw(3) != draw(4)
    generator = keras.random.SeedGenerator(3)
    assert draw(generator) != draw(generator)


def test_draws_between_stay_on_the_segments():
    seen = []

    def critic(x):
        seen.append(x)
        return ops.sum(x, axis=-1)

    def points(seed):
        seen.clear()
        gradient_penalty(lambda x: critic(ops.stop_gradient(x)) + ops.sum(x), REAL, FAKE, seed=seed)
        return numpy(seen[-1]) if keras.backend.backend() != "jax" else None

    x = points(0)
    if x is not None:
        share = (x - FAKE) / (REAL - FAKE)
        np.testing.assert_allclose(share, np.broadcast_to(share[:, :1], share.shape), atol=1e-4)
        assert np.all((share >= -1e-4) & (share <= 1 + 1e-4))


def test_norm_of_every_rank_and_of_a_linear_critic():
    np.testing.assert_allclose(
        numpy(input_gradient_norm(lambda x: ops.matmul(x, A), REAL)), np.linalg.norm(A), rtol=1e-6
    )
    x = RNG.normal(size=(2, 3, 4, 2)).astype("float32")
    norms = np.linalg.norm(x.reshape(2, -1).astype("float64"), axis=1)
    np.testing.assert_allclose(numpy(input_gradient_norm(lambda x: ops.sum(x**2) / 2, x)), norms, rtol=1e-5)


def test_gradient_with_respect_to_the_critic_is_finite_where_the_norm_is_zero():
    critic = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    critic.build((None, 3))
    value, (gradient,) = value_and_grad(
        lambda: gradient_penalty(critic, REAL, FAKE, eps=EPS), critic.trainable_variables
    )
    assert float(numpy(value)) == 1
    np.testing.assert_array_equal(numpy(gradient), 0)


def test_gradient_with_respect_to_the_critic_agrees_with_finite_differences():
    """f(x) = Σ tanh(xW): the penalty by its closed form in float64."""
    critic = keras.Sequential([keras.Input((3,)), layers.Dense(5, activation="tanh", use_bias=False)])
    w = RNG.normal(size=(3, 5))
    critic.set_weights([w.astype("float32")])
    x = EPS[:, None] * REAL.astype("float64") + (1 - EPS[:, None]) * FAKE

    def value(w):
        slopes = (1 - np.tanh(x @ w) ** 2) @ w.T
        return formula(np.linalg.norm(slopes, axis=1), "two_sided")

    def step(real, fake, eps):
        return value_and_grad(
            lambda: gradient_penalty(critic, real, fake, eps=eps), critic.trainable_variables
        )

    actual, (gradient,) = compile_step(step, critic.variables)(*map(ops.convert_to_tensor, (REAL, FAKE, EPS)))
    assert float(numpy(actual)) == pytest.approx(value(w), rel=1e-5)
    expected = np.zeros_like(w)
    for index in np.ndindex(*w.shape):
        h = np.zeros_like(w)
        h[index] = 1e-6
        expected[index] = (value(w + h) - value(w - h)) / 2e-6
    np.testing.assert_allclose(numpy(gradient), expected, atol=1e-5 * np.max(np.abs(expected)))


def test_batch_norm_statistics_stay_and_samples_stay_apart():
    critic = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(1)]
    )
    before = [numpy(v) for v in critic.variables]
    together = numpy(input_gradient_norm(critic, REAL))
    apart = [numpy(input_gradient_norm(critic, REAL[i : i + 1]))[0] for i in range(4)]
    np.testing.assert_allclose(together, apart, rtol=1e-5)
    for old, new in zip(before, critic.variables, strict=True):
        np.testing.assert_array_equal(numpy(new), old)


def test_half_precision_norms_do_not_overflow():
    norms = input_gradient_norm(lambda x: 300 * ops.sum(x), ops.convert_to_tensor(REAL, "float16"))
    assert keras.backend.standardize_dtype(norms.dtype) == "float32"
    np.testing.assert_allclose(numpy(norms), 300 * np.sqrt(3), rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "both", "eps": EPS}, "kind must be one of .* Received: 'both'"),
        ({"at": "nowhere", "eps": EPS}, "at must be one of .* Received: 'nowhere'"),
        ({}, "exactly one of seed and eps. Received: seed=None"),
        ({"seed": 1, "eps": EPS}, "exactly one of seed and eps. Received: seed=1"),
        ({"at": "real", "seed": 1, "perturbation": -1.0}, "perturbation must be .* Received: -1.0"),
    ],
)
def test_bad_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        gradient_penalty(quadratic, REAL, FAKE, **options)


@pytest.mark.parametrize(
    ("real", "fake", "error", "message"),
    [
        (REAL, FAKE[:, :2], ValueError, r"one shape .* Received: \(4, 3\) and \(4, 2\)"),
        (REAL, FAKE[:3], ValueError, r"one shape .* Received: \(4, 3\) and \(3, 3\)"),
        (REAL[0], FAKE[0], ValueError, r"one shape .* Received: \(3,\) and \(3,\)"),
        (REAL.astype(int), FAKE, TypeError, "real must have a floating-point dtype. Received: int64"),
        (REAL, None, TypeError, "fake must have a floating-point dtype. Received: object"),
        (REAL[:0], FAKE[:0], ValueError, r"real must not be empty. Received: shape \(0, 3\)"),
        (REAL, np.full_like(FAKE, np.nan), ValueError, "fake must be finite. Received: 12 NaN"),
    ],
)
def test_batches_that_make_no_sense_raise(real, fake, error, message):
    with pytest.raises(error, match=message):
        gradient_penalty(quadratic, real, fake, seed=0)


@pytest.mark.parametrize(
    ("eps", "error", "message"),
    [
        (EPS[:3], ValueError, r"eps must fit the shape \(4, 3\). Received: shape \(3, 1\)"),
        (EPS.astype(int), TypeError, "eps must have a floating-point dtype. Received: int64"),
        (np.full(4, np.inf), ValueError, "eps must be finite. Received: 4 NaN or infinite"),
    ],
)
def test_draws_that_make_no_sense_raise(eps, error, message):
    with pytest.raises(error, match=message):
        gradient_penalty(quadratic, REAL, FAKE, eps=eps)


@pytest.mark.parametrize("options", [{"at": "fake"}, {"at": "real", "perturbation": 0.0}])
def test_a_draw_is_refused_where_nothing_is_drawn(options):
    with pytest.raises(ValueError, match="here nothing is drawn. Received: at="):
        gradient_penalty(quadratic, REAL, FAKE, eps=EPS, **options)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (layers.Dense(1, name="late"), ValueError, "must be built: .* Received: 'late', not built"),
        (keras.Sequential([layers.Dense(1)], name="late"), ValueError, "must be built.* Received: 'late'"),
        ("critic", TypeError, "must be a Keras model or a function. Received: 'critic'"),
        (None, TypeError, "must be a Keras model or a function. Received: None"),
    ],
)
def test_models_that_are_not_built_or_no_functions_raise(model, error, message):
    with pytest.raises(error, match=f"critic {message}"):
        gradient_penalty(model, REAL, FAKE, eps=EPS)
    with pytest.raises(error, match=f"model {message}"):
        input_gradient_norm(model, REAL)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (REAL.astype(int), TypeError, "x must have a floating-point dtype. Received: int64"),
        (np.float32(1), ValueError, r"x must have rank 1 or more. Received: shape \(\)"),
        (REAL[:0], ValueError, r"x must not be empty. Received: shape \(0, 3\)"),
        (np.full_like(REAL, np.inf), ValueError, "x must be finite. Received: 12 NaN or infinite"),
    ],
)
def test_points_that_make_no_sense_raise(x, error, message):
    with pytest.raises(error, match=message):
        input_gradient_norm(quadratic, x)
