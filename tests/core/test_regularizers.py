"""SpectralNormPenalty and FrobeniusPenalty: values, gradients, and the identity with Keras's L2."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from lipnb.autodiff import value_and_grad
from lipnb.regularizers import FrobeniusPenalty, SpectralNormPenalty

RNG = np.random.default_rng(3)
SHAPES = [(6, 4), (4, 6), (1, 5), (5, 1), (3, 3, 2, 4)]


def numpy(x):
    return ops.convert_to_numpy(ops.copy(x)).astype("float64")


def slope(penalty, w):
    """Value and gradient of a penalty at w."""
    variable = keras.Variable(w, dtype="float32")
    value, (gradient,) = value_and_grad(lambda: penalty(variable.value), [variable])
    return float(numpy(value)), numpy(gradient)


@pytest.mark.parametrize("shape", SHAPES)
def test_spectral_penalty_and_its_gradient(shape):
    w = 1 + RNG.normal(size=shape)  # a clear top singular value
    u, s, vt = np.linalg.svd(w.reshape(-1, shape[-1]))
    value, gradient = slope(SpectralNormPenalty(0.3, n_iter=30), w)
    assert value == pytest.approx(0.3 * s[0] ** 2, rel=1e-5)
    expected = 0.6 * s[0] * np.outer(u[:, 0], vt[0]).reshape(shape)
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * s[0])


@pytest.mark.parametrize("start", ["random", "ones"])
@pytest.mark.parametrize("n_iter", [1, 3, 10])
def test_spectral_penalty_is_a_lower_bound_that_rises(n_iter, start):
    w = RNG.normal(size=(20, 15)).astype("float32")
    few, many = (float(numpy(SpectralNormPenalty(1.0, n, start)(w))) for n in (n_iter, 5 * n_iter))
    assert few <= many * (1 + 1e-6) <= np.linalg.norm(w, 2) ** 2 * (1 + 1e-5)


def test_all_ones_start_can_miss_the_norm():
    w = np.array([[1.0, 0.1], [-1.0, 0.1]], "float32")
    assert float(numpy(SpectralNormPenalty(1.0, 5, "ones")(w))) == pytest.approx(0.02, rel=1e-5)
    assert float(numpy(SpectralNormPenalty(1.0, 5)(w))) == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_frobenius_penalty_without_threshold_is_l2(shape):
    w = RNG.normal(size=shape)
    value, gradient = slope(FrobeniusPenalty(0.3), w)
    value_l2, gradient_l2 = slope(keras.regularizers.L2(0.3), w)
    assert value == pytest.approx(value_l2, rel=1e-6)
    np.testing.assert_allclose(gradient, gradient_l2, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.5, 2.0, 100.0])
def test_frobenius_penalty_above_a_threshold(threshold):
    w = RNG.normal(size=(6, 4))
    norm = np.linalg.norm(w)
    excess = max(norm - threshold, 0)
    value, gradient = slope(FrobeniusPenalty(0.3, threshold), w)
    assert value == pytest.approx(0.3 * excess**2, rel=1e-4, abs=1e-12)
    np.testing.assert_allclose(gradient, 0.6 * excess * w / norm, atol=1e-5)


@pytest.mark.parametrize(
    "penalty",
    [SpectralNormPenalty(1.0), FrobeniusPenalty(1.0), FrobeniusPenalty(1.0, 0.5)],
    ids=lambda p: type(p).__name__,
)
def test_zero_weight_has_a_finite_zero_gradient(penalty):
    value, gradient = slope(penalty, np.zeros((4, 3)))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    "penalty", [SpectralNormPenalty(1.0), FrobeniusPenalty(1.0)], ids=lambda p: type(p).__name__
)
def test_half_precision_is_computed_in_float32(penalty):
    value = penalty(ops.convert_to_tensor(300 * np.eye(2), "float16"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert float(numpy(value)) >= 89_000


# Keras 3.15 on TensorFlow with NumPy 2 warns whenever it saves a variable.
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
@pytest.mark.parametrize(
    "penalty",
    [SpectralNormPenalty(2.0, 4, "ones", 3), FrobeniusPenalty(2.0, 0.5)],
    ids=lambda p: type(p).__name__,
)
def test_trains_with_a_model_and_survives_saving(penalty, tmp_path):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, kernel_regularizer=penalty)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = np.zeros((8, 6), "float32")
    before = np.linalg.norm(numpy(model.layers[0].kernel), 2)
    model.fit(x, x[:, :5], epochs=5, verbose=0)
    assert np.linalg.norm(numpy(model.layers[0].kernel), 2) < before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").layers[0].kernel_regularizer
    assert type(loaded) is type(penalty)
    assert loaded.get_config() == penalty.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpectralNormPenalty(-1.0), "strength must be .* Received: -1.0"),
        (lambda: SpectralNormPenalty(1.0, 0), "n_iter must be .* Received: 0"),
        (lambda: SpectralNormPenalty(1.0, 5, "zeros"), "start must be one of .* Received: 'zeros'"),
        (lambda: SpectralNormPenalty(1.0, 5, seed=-1), "seed must be .* Received: -1"),
        (lambda: FrobeniusPenalty(float("nan")), "strength must be .* Received: nan"),
        (lambda: FrobeniusPenalty(1.0, -0.1), "threshold must be .* Received: -0.1"),
    ],
)
def test_bad_arguments_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((3, 2), int), TypeError, "x must have a floating-point dtype. Received: int64"),
        ("kernel", TypeError, "x must have a floating-point dtype. Received: str"),
        (np.ones((0, 2)), ValueError, r"x must not be empty. Received: shape \(0, 2\)"),
        (np.array([[1.0, np.nan], [np.inf, 0.0]]), ValueError, "x must be finite. Received: 2 NaN"),
    ],
)
@pytest.mark.parametrize(
    "penalty", [SpectralNormPenalty(), FrobeniusPenalty()], ids=lambda p: type(p).__name__
)
def test_weights_that_make_no_sense_raise(penalty, x, error, message):
    with pytest.raises(error, match=message):
        penalty(x)


def test_a_scalar_has_no_spectral_norm():
    with pytest.raises(ValueError, match=r"x must have rank 1 or more. Received: shape \(\)"):
        SpectralNormPenalty()(np.float32(1))
