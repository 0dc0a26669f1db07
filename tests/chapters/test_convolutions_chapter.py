"""What the chapter on convolutions and recurrences rests on (claims B3, I5)."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb import conv_matrix, conv_norm, lipschitz_bound
from lipnb.lab import convolution_figures
from lipnb.lab.convolution_maths import (
    LayerNorms,
    article_critic,
    blended,
    layer_matrix,
    layer_norms,
    operator_factor,
    overlap,
    reads,
    reshaped,
    rnn_bounds,
    rnn_jacobian,
    top_pattern,
)
from lipnb.lab.linear_algebra import at_most
from lipnb.norms import spectral_norm

pytestmark = pytest.mark.lab
EPS = np.finfo(np.float64).eps
QUICK = settings(max_examples=40, deadline=None, derandomize=True)
SEEDS = st.integers(0, 999)
Conv2D = keras.layers.Conv2D
OPTIONS = {"dtype": "float64", "use_bias": False}


# B3 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2D(3, (2, 3), (2, 1), padding="same", **OPTIONS), (5, 6, 2)),
        (Conv2D(4, 3, groups=2, **OPTIONS), (5, 5, 4)),
        (keras.layers.Conv1D(2, 3, dilation_rate=2, padding="causal", **OPTIONS), (8, 3)),
        (keras.layers.DepthwiseConv2D(3, 2, depth_multiplier=2, **OPTIONS), (7, 7, 3)),
        (keras.layers.Conv2DTranspose(3, 3, 2, padding="same", output_padding=1, **OPTIONS), (4, 4, 2)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_b3_matrix_is_the_layer(layer, shape):
    x = np.random.default_rng(0).standard_normal((1, *shape))
    y = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x, "float64")))
    matrix = layer_matrix(layer)
    np.testing.assert_allclose(matrix @ x.ravel(), y.ravel(), rtol=0, atol=1e-13 * np.abs(y).max())
    assert matrix.shape == (y.size, x.size)


def _rnn(seed, units, inputs):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((units, inputs)), rng.standard_normal((units, units)) / math.sqrt(units)


def _states(w, u, x):
    states = [np.zeros(len(u))]
    for row in x:
        states.append(np.tanh(w @ row + u @ states[-1]))
    return np.array(states[1:])


@QUICK
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 7), SEEDS)
def test_b3_no_pair_of_sequences_exceeds_the_recurrences_bounds(units, inputs, steps, seed):
    w, u = _rnn(seed, units, inputs)
    x, y = np.random.default_rng(seed).standard_normal((2, steps, inputs))
    moved, bounds = _states(w, u, x) - _states(w, u, y), rnn_bounds(w, u, steps)
    assert at_most(np.linalg.norm(moved[-1]), bounds["last"] * np.linalg.norm(x - y), 1000)
    assert at_most(np.linalg.norm(moved), bounds["sequence"] * np.linalg.norm(x - y), 1000)
    assert at_most(bounds["last"], bounds["sequence"], 1000)
    assert at_most(np.linalg.norm(moved[-1]), bounds["product"] * np.linalg.norm(x - y), 1000)


@QUICK
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), SEEDS)
def test_b3_jacobian_through_time_is_a_limit_of_chords(units, inputs, steps, seed):
    w, u = _rnn(seed, units, inputs)
    x, v = np.random.default_rng(seed).standard_normal((2, steps, inputs))
    h = 1e-5
    slope = (_states(w, u, x + h * v)[-1] - _states(w, u, x - h * v)[-1]) / (2 * h)
    jacobian = rnn_jacobian(w, u, _states(w, u, x), steps)
    np.testing.assert_allclose(jacobian @ v.ravel(), slope, rtol=0, atol=1e-8 * (1 + np.abs(v).sum()))


@pytest.mark.parametrize("a", [0.5, 1.0, 1.3])
def test_b3_bound_of_the_last_state_is_attained(a):
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    found = spectral_norm(rnn_jacobian(2 * np.eye(4), a * q, None, 6))
    assert found == pytest.approx(rnn_bounds(2 * np.eye(4), a * q, 6)["last"], rel=1e-12)
    assert found == pytest.approx(2 * math.sqrt(sum(a ** (2 * k) for k in range(6))), rel=1e-12)


@pytest.mark.parametrize(("every", "name"), [(False, "last"), (True, "sequence")])
def test_b3_lipschitz_bound_is_the_theorems(every, name):
    w, u = _rnn(3, 5, 2)
    layer = keras.layers.SimpleRNN(5, return_sequences=every, dtype="float64")
    model = keras.Sequential([keras.Input((6, 2), dtype="float64"), layer])
    layer.set_weights([w.T, u.T, np.ones(5)])
    assert float(lipschitz_bound(model)) == pytest.approx(rnn_bounds(w, u, 6)[name], rel=1e-12)


# I5 ------------------------------------------------------------------------------------------------------

CASES = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from(["valid", "same"]))


@QUICK
@given(CASES, st.integers(1, 3), st.integers(1, 3), SEEDS)
def test_i5_both_inequalities(case, channels, filters, seed):
    size, stride, dilation, padding = case
    dilation = 1 if stride > 1 else dilation
    kernel = np.random.default_rng(seed).standard_normal((size, size, channels, filters))
    matrix = conv_matrix(kernel, (10, 10, channels), stride, padding, dilation)
    kappa = overlap((size,) * 2, (stride,) * 2, (dilation,) * 2)
    exact, of_matrix = spectral_norm(matrix.toarray()), spectral_norm(reshaped(kernel))
    assert reads(matrix, filters).max() <= kappa
    assert at_most(exact, math.sqrt(kappa) * of_matrix, 10**4)
    assert at_most(of_matrix, exact, 10**4)
    if kappa == 1:
        assert exact == pytest.approx(of_matrix, rel=1e-10)


def test_i5_overlap_counts_stride_with_dilation_too():
    kernel = np.random.default_rng(0).standard_normal((5, 5, 1, 1))
    for stride, dilation in ((2, 2), (2, 3), (4, 2), (6, 4)):  # Keras has these for depthwise layers only
        matrix = conv_matrix(kernel, (40, 40, 1), stride, "valid", dilation, kind="depthwise")
        assert reads(matrix, 1).max() == overlap((5, 5), (stride,) * 2, (dilation,) * 2)


def test_i5_right_end_is_attained_by_the_kernel_that_copies_patches():
    copies = np.eye(16).reshape(4, 4, 1, 16)
    assert conv_norm(copies, (7, 7, 1)) == pytest.approx(4, rel=1e-9)
    assert conv_norm(copies, (8, 8, 1), 2) == pytest.approx(2, rel=1e-9)
    assert conv_norm(copies, (4, 4, 1)) == pytest.approx(1, rel=1e-9)  # no position is read twice


@pytest.mark.parametrize("size", [2, 3, 5])
def test_i5_right_end_is_not_attained_by_one_filter_but_approached(size):
    ones = np.ones((size, 1, 1))
    shares = [conv_norm(ones, (n, 1), padding="same") / size for n in (size, 8 * size, 64 * size)]
    assert shares[0] < shares[1] < shares[2] < 1
    assert shares[2] > 0.999


def test_i5_published_number_of_the_kernel_of_ones():
    assert conv_norm(np.ones((3, 3, 1, 1)), (16, 16, 1), padding="same") / 3 == pytest.approx(2.93, abs=0.005)


@QUICK
@given(st.integers(1, 4), SEEDS)
def test_i5_groups_and_the_articles_matrix(groups, seed):
    kernel = np.random.default_rng(seed).standard_normal((2, 2, 2, 3 * groups))
    parts = [spectral_norm(reshaped(part)) for part in np.split(kernel, groups, axis=-1)]
    article, exact = spectral_norm(reshaped(kernel)), conv_norm(kernel, (4, 4, 2 * groups), groups=groups)
    assert at_most(max(parts), exact, 10**4)
    assert at_most(article, math.sqrt(groups) * max(parts), 10**4)


@QUICK
@given(st.integers(1, 3), st.integers(1, 3), SEEDS)
def test_i5_norm_of_large_inputs_is_near_the_fourier_peak(channels, filters, seed):
    kernel, n, points = np.random.default_rng(seed).standard_normal((3, channels, filters)), 40, 4096
    peak = np.linalg.svd(np.fft.fft(kernel, points, axis=0), compute_uv=False).max()
    exact = spectral_norm(conv_matrix(kernel, (n, channels)).toarray())
    assert math.sqrt(1 - 2 / n) * peak <= exact <= peak / math.cos(math.pi / points)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_blended_ends_have_norm_one(share):
    kernel = blended(3, 4, 5, share, seed=0)
    assert kernel.shape == (3, 3, 4, 5)
    norm = spectral_norm(reshaped(kernel))
    assert norm == pytest.approx(1, rel=1e-12) if share in (0, 1) else norm < 1
    assert np.allclose(kernel, kernel[:1, :1]) is (share == 0)


def test_top_pattern_is_the_worst_input():
    matrix = conv_matrix(np.array([1.0, 2.0, 1.0])[:, None, None], (12, 1))
    pattern = top_pattern(matrix, (12,))
    assert np.linalg.norm(matrix @ pattern) == pytest.approx(spectral_norm(matrix.toarray()), rel=1e-12)
    assert pattern.max() == np.abs(pattern).max()


def test_i5_layer_norms_of_the_articles_critic():
    critic = article_critic((32, 32, 3), width=4, seed=0)
    norms = layer_norms(critic)
    convs = [layer for layer in critic.layers if isinstance(layer, Conv2D)]
    assert [layer.filters for layer in convs] == [4, 8, 16, 32]
    for layer, found in zip(convs, norms, strict=True):
        exact = spectral_norm(layer_matrix(layer).toarray())
        assert found.operator == pytest.approx(exact, rel=1e-3)
        assert found.matrix == pytest.approx(spectral_norm(reshaped(layer.kernel.numpy())), rel=1e-9)
        assert found.ratio <= 3
    assert min(found.ratio for found in norms[:3]) >= 1
    assert norms[3].ratio < 1  # 5×5 taps do not fit into the last 4×4 map


def test_i5_operator_normalization_leaves_one():
    critic = article_critic((16, 16, 1), width=4, seed=1)
    layer = next(layer for layer in critic.layers if isinstance(layer, Conv2D))
    left = operator_factor(layer, 200) * spectral_norm(layer_matrix(layer).toarray())
    assert left == pytest.approx(1, abs=1e-3)


def test_matrices_are_drawn_by_tap():
    figure = convolution_figures.matrices(2, {"a": np.array([[1.0, 2, 0], [0, 1, 2]])}, {"b": np.eye(2)}, 2)
    picture = figure.axes[1].images[0].get_array()
    assert np.array_equal(picture[0, 0], picture[1, 1])
    assert not np.array_equal(picture[0, 0], picture[0, 1])
    assert picture[0, 2, 3] == picture[1, 0, 3] == 0


def test_critic_norms_are_drawn_layer_by_layer():
    layers = [(LayerNorms("a", 2.0, 5.0), 1.01), (LayerNorms("b", 1.0, 1.5), 1.0)]
    figure = convolution_figures.critic_norms({"one": layers, "two": layers[:1]})
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), [2.5, 1.5])
    np.testing.assert_allclose(figure.axes[0].lines[2].get_ydata(), [1.01, 1.0])
