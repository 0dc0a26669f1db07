"""Exact norms and the power iteration of claims C2, C3, E2, E4 and E5."""

import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from lipnb.autodiff import input_gradient
from lipnb.norms import frobenius_norm, l2_normalize, power_iteration, spectral_norm, spectral_norm_estimate

# TensorFlow's __array__ lacks NumPy 2's copy argument; Keras's convert_to_numpy calls it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

EPS32 = float(np.finfo(np.float32).eps)


def gaussian(shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def numpy(x):
    return ops.convert_to_numpy(x)


def article_estimate(w, n_iter, u):
    """The article's function in plain float64 NumPy."""
    for _ in range(n_iter):
        v = u @ w
        v = v / np.linalg.norm(v)
        u = v @ w.T
        u = u / np.linalg.norm(u)
    return (u @ w @ v.T).item()


def check_lower_bound(value, w):
    """``value`` is at most ‖w‖₂; a sum of n products in float32 is off by n·ε at most."""
    w = w.reshape(-1, w.shape[-1]).astype("float64")
    assert 0 <= float(value) <= np.linalg.norm(w, 2) * (1 + 2 * sum(w.shape) * EPS32)


MATRICES = {
    "zero": (np.zeros((3, 4)), 0.0, 0.0),
    "row": (np.array([[3.0, 4.0]]), 5.0, 5.0),
    "column": (np.array([[3.0], [4.0]]), 5.0, 5.0),
    "not normal": (np.array([[0.0, 1.0], [0.0, 0.0]]), 1.0, 1.0),
    "repeated": (2 * np.eye(5), 2.0, 2 * math.sqrt(5)),
    "rank 1": (np.outer([1.0, 2, 2], [2.0, 3, 6]), 21.0, 21.0),
    "tiny": (np.diag([3e-300, 4e-300]), 4e-300, 5e-300),
    "huge": (np.diag([3e300, 4e300]), 4e300, 5e300),
    "wide": (np.ones((2, 50)), 10.0, 10.0),
    "tall": (np.ones((50, 2)), 10.0, 10.0),
}


@pytest.mark.once
@pytest.mark.parametrize("name", MATRICES)
def test_exact_norms_match_closed_forms(name):
    w, spectral, frobenius = MATRICES[name]
    assert spectral_norm(w) == pytest.approx(spectral, rel=1e-14)
    assert frobenius_norm(w) == pytest.approx(frobenius, rel=1e-14)


@pytest.mark.once
@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_norms_order_and_three_forms_of_frobenius(rows, columns, seed):
    w = gaussian((rows, columns), seed, "float64")
    spectral, frobenius = spectral_norm(w), frobenius_norm(w)
    assert spectral <= frobenius * (1 + 1e-14)
    assert frobenius <= math.sqrt(min(rows, columns)) * spectral * (1 + 1e-14)
    assert frobenius == pytest.approx(math.sqrt(np.trace(w.T @ w)), rel=1e-13)
    assert frobenius == pytest.approx(math.sqrt(np.sum(np.linalg.svd(w)[1] ** 2)), rel=1e-13)
    x = gaussian((columns, 20), seed + 1, "float64")
    assert np.max(np.linalg.norm(w @ x, axis=0) / np.linalg.norm(x, axis=0)) <= spectral * (1 + 1e-14)


def test_norms_take_tensors_and_variables():
    w = gaussian((4, 3))
    for given_as in (ops.convert_to_tensor(w), keras.Variable(w)):
        assert spectral_norm(given_as) == spectral_norm(w)
        assert frobenius_norm(given_as) == frobenius_norm(w)
        np.testing.assert_array_equal(
            numpy(spectral_norm_estimate(given_as)), numpy(spectral_norm_estimate(w))
        )


@settings(max_examples=40, deadline=None, derandomize=True)
# Few shapes: JAX compiles every operation anew for each.
@given(
    st.sampled_from([(1, 1), (1, 7), (7, 1), (3, 10), (10, 4), (5, 5)]),
    st.integers(1, 8),
    st.integers(0, 10_000),
)
def test_estimate_is_the_articles_and_a_lower_bound(shape, n_iter, seed):
    w, (rows, columns) = gaussian(shape, seed), shape
    value = spectral_norm_estimate(w, n_iter)
    check_lower_bound(value, w)
    exact = w.astype("float64")
    expected = article_estimate(exact, n_iter, np.ones((1, rows)))
    # Rounding counts by what the start has along the top direction, and by the size of ones @ w.
    u, sigma, _ = np.linalg.svd(exact)
    along = min(abs(np.sum(u[:, 0])), np.linalg.norm(np.sum(exact, axis=0)) / sigma[0]) / math.sqrt(rows)
    assert float(value) == pytest.approx(expected, rel=100 * (rows + columns) * EPS32 / float(along))


def test_lower_bound_checker_can_fail():
    w = gaussian((6, 4))
    with pytest.raises(AssertionError):
        check_lower_bound(np.linalg.norm(w, 2) * 1.0001, w)


def test_estimate_rises_to_the_norm():
    w = gaussian((30, 20))
    values = [float(spectral_norm_estimate(w, n)) for n in (1, 2, 5, 20, 300)]
    assert all(b >= a * (1 - 100 * EPS32) for a, b in itertools.pairwise(values))
    assert values[-1] == pytest.approx(spectral_norm(w), rel=100 * EPS32)


@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (2, 5, 3), (7,)])
def test_kernels_stand_for_their_reshaped_matrix(shape):
    w = gaussian(shape)
    expected = np.linalg.norm(w.reshape(-1, shape[-1]), 2)
    assert float(spectral_norm_estimate(w, 500)) == pytest.approx(expected, rel=100 * EPS32)
    sigma, u, v = power_iteration(w, np.ones(w.size // shape[-1]), 500)
    assert float(sigma) == pytest.approx(expected, rel=100 * EPS32)
    assert (u.shape, v.shape) == ((1, w.size // shape[-1]), (1, shape[-1]))


def test_all_ones_misses_the_top_direction_and_a_seed_does_not():
    """Claim E4: the top left vector is (1, −1)/√2, orthogonal to the start."""
    w = np.array([[1, 0.1], [-1, 0.1]], dtype="float32")
    assert float(spectral_norm_estimate(w, 5)) == pytest.approx(0.1 * math.sqrt(2), rel=1e-6)
    assert float(spectral_norm_estimate(w, 5, seed=0)) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_sobel_kernel_gives_zero_not_nan():
    sobel = np.outer([1, 2, 1], [1, 0, -1]).reshape(3, 3, 1, 1).astype("float32")
    assert float(spectral_norm_estimate(sobel)) == 0
    assert np.all(np.isfinite(numpy(input_gradient(spectral_norm_estimate, sobel))))


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1.0, 1e18, 1e30, 2.0**120])
def test_float32_extremes_neither_underflow_nor_overflow(scale):
    w = gaussian((40, 30)) * np.float32(scale)
    expected = np.linalg.norm(w.astype("float64"), 2)
    assert float(spectral_norm_estimate(w, 300)) == pytest.approx(expected, rel=200 * EPS32)
    assert float(power_iteration(w, np.ones(40), 300)[0]) == pytest.approx(expected, rel=200 * EPS32)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    w = ops.cast(gaussian((20, 10)), dtype)
    sigma, u, v = power_iteration(w, ops.cast(np.ones(20), dtype), 200)
    for result in (spectral_norm_estimate(w, 200), sigma, u, v):
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
    assert float(sigma) == pytest.approx(spectral_norm(w), rel=100 * EPS32)


def test_gradient_goes_through_the_iterations():
    w = gaussian((4, 3), 3)
    actual = numpy(input_gradient(lambda w: spectral_norm_estimate(w, 2), w))
    h, expected = 1e-6, np.zeros(w.shape)
    for index in np.ndindex(w.shape):
        step = np.zeros(w.shape)
        step[index] = h
        ends = [article_estimate(w.astype("float64") + s, 2, np.ones((1, 4))) for s in (step, -step)]
        expected[index] = (ends[0] - ends[1]) / (2 * h)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_converged_gradient_is_the_outer_product():
    u, _, vt = np.linalg.svd(gaussian((6, 5), dtype="float64"))
    w = ((u[:, :5] * [3.0, 1.0, 0.8, 0.5, 0.1]) @ vt).astype("float32")
    for f in (lambda w: spectral_norm_estimate(w, 12), lambda w: power_iteration(w, np.ones(6), 12)[0]):
        np.testing.assert_allclose(numpy(input_gradient(f, w)), np.outer(u[:, 0], vt[0]), atol=1e-5)


def test_warm_starts_continue_one_iteration():
    w = gaussian((8, 5))
    sigma, u, v = power_iteration(w, np.ones(8), 1)
    for _ in range(5):
        sigma, u, v = power_iteration(w, u, 1)
    once = power_iteration(w, np.ones(8), 6)
    for stepped, together in zip((sigma, u, v), once, strict=True):
        np.testing.assert_allclose(numpy(stepped), numpy(together), atol=20 * EPS32)
    np.testing.assert_allclose(np.linalg.norm(numpy(u)), 1, rtol=10 * EPS32)
    np.testing.assert_allclose(numpy(u) @ w @ numpy(v).T, numpy(sigma), rtol=20 * EPS32)


def test_vectors_carry_no_gradient():
    """Unconverged, the gradient of σ is still uᵀv exactly: u and v are constants."""
    w = gaussian((6, 5))
    _, u, v = power_iteration(w, np.ones(6), 1)
    actual = numpy(input_gradient(lambda w: power_iteration(w, np.ones(6), 1)[0], w))
    np.testing.assert_allclose(actual, numpy(u).T @ numpy(v), atol=10 * EPS32)
    blind = numpy(input_gradient(lambda w: ops.sum(power_iteration(w, np.ones(6), 1)[1]) + 0 * ops.sum(w), w))
    np.testing.assert_array_equal(blind, 0)


def test_zero_weight_keeps_the_start_and_recovers():
    zero = np.zeros((4, 3), "float32")
    sigma, u, v = power_iteration(zero, np.array([3.0, 0, 0, 4]), 3)
    assert float(sigma) == 0
    np.testing.assert_allclose(numpy(u), [[0.6, 0, 0, 0.8]], rtol=4 * EPS32)
    np.testing.assert_array_equal(numpy(v), 0)
    w = gaussian((4, 3))
    assert float(power_iteration(w, u, 200)[0]) == pytest.approx(spectral_norm(w), rel=100 * EPS32)
    gradient = numpy(input_gradient(lambda w: spectral_norm_estimate(w, 3), zero))
    assert float(spectral_norm_estimate(zero)) == 0
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1.0, 1e30, 8e37])  # beyond 8.5e37, XLA flushes 1/x to zero
def test_normalized_vectors_have_length_one(scale):
    x = np.array([[1.0, -0.5, 0.25, 0.0]], "float32") * np.float32(scale)
    expected = np.array([[4, -2, 1, 0]]) / math.sqrt(21)
    np.testing.assert_allclose(numpy(l2_normalize(ops.convert_to_tensor(x))), expected, rtol=1e-6)


def test_normalization_of_zero_and_its_gradient():
    zero = np.zeros((1, 3), "float32")
    np.testing.assert_array_equal(numpy(l2_normalize(ops.convert_to_tensor(zero))), zero)
    weights = np.array([[1.0, 2, 3]], "float32")
    assert np.all(
        np.isfinite(numpy(input_gradient(lambda x: l2_normalize(x) * ops.convert_to_tensor(weights), zero)))
    )
    x = np.array([[3.0, 0, 4]], "float32")  # gradient of w·x/‖x‖ is (w − (w·x̂)x̂)/‖x‖
    expected = (weights - 3.0 * x / 5) / 5
    actual = numpy(input_gradient(lambda x: l2_normalize(x) * ops.convert_to_tensor(weights), x))
    np.testing.assert_allclose(actual, expected, atol=10 * EPS32)


def test_nan_is_not_swallowed():
    w = gaussian((3, 3))
    w[1, 1] = np.nan
    assert np.isnan(float(spectral_norm_estimate(ops.convert_to_tensor(w))))  # an array raises, see below


MATRIX = np.ones((3, 2), "float32")


@pytest.mark.parametrize(
    ("call", "error", "rule"),
    [
        (lambda: spectral_norm(np.ones((2, 2), int)), TypeError, "floating-point"),
        (lambda: spectral_norm(np.ones(3)), ValueError, "rank 2"),
        (lambda: spectral_norm(np.ones((0, 3))), ValueError, "empty"),
        (lambda: spectral_norm(np.array([[np.inf]])), ValueError, "finite"),
        (lambda: frobenius_norm(np.array([np.nan])), ValueError, "finite"),
        (lambda: frobenius_norm(np.float64(1)), ValueError, "rank 1"),
        (lambda: spectral_norm_estimate(np.ones((2, 2), "int32")), TypeError, "floating-point"),
        (lambda: spectral_norm_estimate(np.float32(1)), ValueError, "rank 1"),
        (lambda: spectral_norm_estimate(np.ones((0, 3), "float32")), ValueError, "empty"),
        (lambda: spectral_norm_estimate(MATRIX, 0), ValueError, "n_iter"),
        (lambda: spectral_norm_estimate(MATRIX, 2.5), ValueError, "n_iter"),
        (lambda: spectral_norm_estimate(MATRIX, u=np.ones(2)), ValueError, "3 rows"),
        (lambda: spectral_norm_estimate(MATRIX, u=np.ones(3), seed=1), ValueError, "not both"),
        (lambda: spectral_norm_estimate(MATRIX, seed=-1), ValueError, "seed"),
        (lambda: power_iteration(MATRIX, np.ones(4), 1), ValueError, "3 rows"),
        (lambda: power_iteration(MATRIX, np.ones(3), 0), ValueError, "n_iter"),
    ],
)
def test_bad_input_says_the_rule(call, error, rule):
    with pytest.raises(error, match=f"{rule}.*Received: "):
        call()
