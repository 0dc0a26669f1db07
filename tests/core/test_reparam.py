"""SpectralNormalization and FrobeniusNormalization: the kernels they compute with, and the gradients."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.lib.stride_tricks import sliding_window_view
from reparam_cases import (
    IMAGES,
    KINDS,
    SEQUENCES,
    as_matrix,
    every,
    gradients,
    numpy,
    tensor,
    top_slope,
    wrap,
)

from lipnb.autodiff import value_and_grad
from lipnb.conv_matrices import conv_matrix
from lipnb.conv_norms import conv_norm
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization


@pytest.mark.parametrize(
    "kind", every(KINDS, on_jax=("dense", "embedding", "grouped", "depthwise2d", "lstm"))
)
def test_every_kind_gets_the_norm_and_the_gradient_of_the_reparametrisation(kind):
    """dL/dW = (G − ⟨G, W⟩u₁v₁ᵀ/σ)/σ: G the plain layer's gradient at W/σ, u₁ and v₁ by SVD in float64."""
    make, x, splits = KINDS[kind]
    layer = wrap(make, x, splits)
    plain = layer.to_plain()
    before = [numpy(k) for k in layer.kernels]
    position = {id(v): i for i, v in enumerate(layer.layer.variables)}
    twins = [plain.variables[position[id(k)]] for k in layer.kernels]
    slopes = zip(gradients(layer, x, layer.kernels), gradients(plain, x, twins), strict=True)
    for old, kernel, twin, split, (actual, g) in zip(
        before, layer.kernels, twins, splits, slopes, strict=True
    ):
        np.testing.assert_array_equal(numpy(kernel), old)
        np.testing.assert_allclose(max(np.linalg.norm(m, 2) for m in split(numpy(twin))), 1, rtol=1e-5)
        sigma, slope = top_slope(old, split)
        expected = (g - np.sum(g * old) / sigma * slope) / sigma
        np.testing.assert_allclose(actual, expected, atol=1e-5 * max(1.0, np.max(np.abs(expected))))


@pytest.mark.parametrize("kind", ["dense", "grouped", "depthwise2d", "lstm"])
def test_plain_copy_is_the_same_function(kind):
    make, x, splits = KINDS[kind]
    layer = wrap(make, x, splits, norm=2.0)
    np.testing.assert_allclose(numpy(layer(x)), numpy(layer.to_plain()(x)), atol=1e-5)


def dense_value(w, x):
    return np.sum(np.tanh(x @ (w / np.linalg.norm(w, 2))))


def conv_value(w, x):
    patches = sliding_window_view(x, w.shape[:2], axis=(1, 2))  # (batch, i, j, channel, ki, kj)
    w = w / np.linalg.norm(w.reshape(-1, w.shape[-1]), 2)
    return np.sum(np.tanh(np.einsum("bijckl,klco->bijo", patches, w)))


@pytest.mark.parametrize(
    ("make", "x", "value"),
    [
        (lambda: layers.Dense(3, use_bias=False), IMAGES[:, 0, 0], dense_value),
        (lambda: layers.Conv2D(3, 2, use_bias=False), IMAGES, conv_value),
    ],
)
def test_gradient_agrees_with_float64_finite_differences(make, x, value):
    layer = wrap(make, x, [as_matrix])
    _, (actual,) = value_and_grad(
        lambda: ops.sum(ops.tanh(layer(x, training=True))),
        layer.trainable_variables,
        layer.non_trainable_variables,
    )
    w, h, expected = numpy(layer.kernel), 1e-5, np.zeros(layer.kernel.shape)
    for index in np.ndindex(*w.shape):
        step = np.zeros_like(w)
        step[index] = h
        expected[index] = (value(w + step, x.astype("float64")) - value(w - step, x.astype("float64"))) / (
            2 * h
        )
    np.testing.assert_allclose(numpy(actual), expected, atol=1e-5 * np.max(np.abs(expected)))


OPERATORS = {
    "same": (lambda: layers.Conv2D(3, 3, padding="same"), {"padding": "same"}),
    "strided": (lambda: layers.Conv2D(3, 3, strides=2), {"strides": 2}),
    "dilated": (lambda: layers.Conv2D(3, 3, dilation_rate=2), {"dilation_rate": 2}),
    "grouped": (lambda: layers.Conv2D(6, 3, groups=2), {"groups": 2}),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
        {"padding": "same", "kind": "depthwise"},
    ),
    "transposed": (
        lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same"),
        {"strides": 2, "padding": "same", "kind": "transpose"},
    ),
}


@pytest.mark.parametrize("name", every(OPERATORS, on_jax=("same", "grouped")))
def test_operator_gets_the_norm_of_the_convolution(name):
    make, options = OPERATORS[name]
    layer = wrap(make, IMAGES, operator=True)
    layer.update_vectors(100)
    (normalized,) = layer.normalized_weights()
    assert 1 - 1e-5 <= conv_norm(normalized, IMAGES.shape[1:], **options) < 1.005


def test_operator_of_a_causal_convolution():
    layer = wrap(lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2), SEQUENCES, operator=True)
    layer.update_vectors(50)
    norm = conv_norm(layer.normalized_weights()[0], SEQUENCES.shape[1:], padding="causal", dilation_rate=2)
    assert norm == pytest.approx(1, rel=5e-3)


def test_operator_of_a_separable_convolution_normalises_both_stages():
    layer = wrap(lambda: layers.SeparableConv2D(3, 3, padding="same"), IMAGES, operator=True)
    layer.update_vectors(50)
    depthwise, pointwise = layer.normalized_weights()
    norm = conv_norm(depthwise, IMAGES.shape[1:], padding="same", kind="depthwise")
    assert norm == pytest.approx(1, rel=5e-3)
    assert np.linalg.norm(numpy(pointwise)[0, 0], 2) == pytest.approx(1, rel=5e-3)


def test_gradient_through_the_operator_norm():
    """⟨G, ∂(K/σ)⟩ by finite differences of the exact norm of the sparse matrix, in float64."""
    layer = wrap(lambda: layers.Conv2D(2, 3, padding="same", use_bias=False), IMAGES, operator=True)
    w = numpy(layer.kernel)
    u, _, vt = np.linalg.svd(conv_matrix(w, IMAGES.shape[1:], padding="same").toarray())
    for vector, value in zip(layer.non_trainable_variables, (u[:, 0], vt[0]), strict=True):
        vector.assign(value.reshape(vector.shape))
    (value,) = gradient_of_sum(layer, IMAGES)

    def total(kernel):
        matrix = conv_matrix(kernel, IMAGES.shape[1:], padding="same").toarray()
        return np.sum(matrix @ IMAGES.reshape(2, -1).T.astype("float64")) / np.linalg.norm(matrix, 2)

    for index in [(0, 0, 0, 0), (1, 1, 2, 1), (2, 1, 3, 0), (2, 2, 0, 1)]:
        step = np.zeros_like(w)
        step[index] = 1e-5
        expected = (total(w + step) - total(w - step)) / 2e-5
        assert value[index] == pytest.approx(expected, abs=1e-5 * np.max(np.abs(value)))


def gradient_of_sum(layer, x):
    _, gradients = value_and_grad(
        lambda: ops.sum(layer(x, training=True)), layer.trainable_variables, layer.non_trainable_variables
    )
    return [numpy(g) for g in gradients]


def test_dense_numbers_are_those_of_a_float64_oracle_on_every_backend():
    """Start, warm-up and ten steps of gradient descent, written again in NumPy: all backends give its numbers."""
    x, c = IMAGES[:, 0, 0], np.linspace(-1, 1, 3)
    start = np.random.default_rng(2).normal(size=(4, 3))
    layer = SpectralNormalization(
        layers.Dense(3, use_bias=False, kernel_initializer=lambda shape, dtype: ops.cast(start, dtype)),
        seed=5,
    )
    layer.build((None, 4))
    w, u = start.copy(), np.random.default_rng((5, 0)).normal(size=(1, 4))
    u, v = iterated(w, u, 15)
    for _ in range(10):
        _, (actual,) = value_and_grad(
            lambda: ops.sum(layer(x, training=True) * tensor(c)),
            layer.trainable_variables,
            layer.non_trainable_variables,
        )
        image = v @ w.T / np.linalg.norm(v @ w.T)
        if np.linalg.norm(image - u) > 1e-5:  # the kernel has moved
            u, v = iterated(w, image, 1)
        sigma, g = (u @ w @ v.T).item(), x.astype("float64").T @ np.broadcast_to(c, (2, 3))
        expected = g / sigma - np.sum(g * w) / sigma**2 * (u.T @ v)
        np.testing.assert_allclose(numpy(actual), expected, atol=1e-5)
        w = w - 0.1 * expected
        layer.kernel.assign(layer.kernel - 0.1 * actual)
    np.testing.assert_allclose(numpy(layer.normalized_weights()[0]), w / (u @ w @ v.T), atol=1e-5)


def iterated(w, u, n):
    for _ in range(n):
        v = u @ w / np.linalg.norm(u @ w)
        u = v @ w.T / np.linalg.norm(v @ w.T)
    return u, v


def test_estimate_is_a_lower_bound_so_the_norm_is_never_below_the_target():
    for seed in range(4):
        initializer = keras.initializers.RandomNormal(seed=seed)
        layer = SpectralNormalization(layers.Dense(20, kernel_initializer=initializer))
        layer.build((None, 30))
        assert np.linalg.norm(numpy(layer.normalized_weights()[0]), 2) >= 1 - 1e-6


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("wrapper", [SpectralNormalization, FrobeniusNormalization])
def test_tiny_and_huge_kernels_are_normalised(wrapper, scale):
    layer = wrap(lambda: layers.Dense(3), IMAGES, wrapper=wrapper)
    expected = numpy(layer.normalized_weights()[0])
    layer.kernel.assign(layer.kernel * scale)
    layer(IMAGES, training=True)
    np.testing.assert_allclose(numpy(layer.normalized_weights()[0]), expected, atol=1e-5)


def test_all_ones_start_can_be_stuck_where_a_random_one_is_not():
    """The article's start on [[1, .1], [−1, .1]]: ones meets only the second singular vector."""
    w = np.array([[1.0, 0.1], [-1.0, 0.1]])
    sigmas = []
    for start in ("ones", "random"):
        dense = layers.Dense(2, kernel_initializer=lambda shape, dtype: ops.cast(w, dtype))
        layer = SpectralNormalization(dense, u_initializer=start)
        layer.build((None, 2))
        sigmas.append((w / numpy(layer.normalized_weights()[0]))[0, 0])
    assert sigmas[0] == pytest.approx(0.1 * np.sqrt(2), rel=1e-5)
    assert sigmas[1] == pytest.approx(np.sqrt(2), rel=1e-5)


@pytest.mark.parametrize("wrapper", [SpectralNormalization, FrobeniusNormalization])
def test_shrink_only_leaves_small_kernels_and_their_gradients_alone(wrapper):
    layer = wrap(lambda: layers.Dense(3), IMAGES, wrapper=wrapper, norm=100.0, shrink_only=True)
    plain = layer.to_plain()
    np.testing.assert_array_equal(numpy(plain.kernel), numpy(layer.kernel))
    actual, expected = gradients(layer, IMAGES, layer.kernels), gradients(plain, IMAGES, [plain.kernel])
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("wrapper", [SpectralNormalization, FrobeniusNormalization])
def test_shrink_only_shrinks_large_kernels(wrapper):
    options = [as_matrix] if wrapper is SpectralNormalization else None
    layer = wrap(lambda: layers.Dense(3), IMAGES, options, wrapper, norm=0.25, shrink_only=True)
    order = 2 if wrapper is SpectralNormalization else "fro"
    assert np.linalg.norm(numpy(layer.normalized_weights()[0]), order) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("kind", every(KINDS, on_jax=("dense", "depthwise2d")))
def test_frobenius_normalization_of_every_kind(kind):
    make, x, splits = KINDS[kind]
    layer = wrap(make, x, wrapper=FrobeniusNormalization, norm=0.5)
    assert len(layer.kernels) == len(splits)
    for weight in layer.normalized_weights():
        assert np.linalg.norm(numpy(weight)) == pytest.approx(0.5, rel=1e-5)


def test_frobenius_gradient_and_zero_kernel():
    layer = wrap(lambda: layers.Dense(3, use_bias=False), IMAGES, wrapper=FrobeniusNormalization)
    w = numpy(layer.kernel)
    (actual,) = gradient_of_sum(layer, IMAGES)
    g = np.repeat(IMAGES.reshape(-1, 4).sum(0, dtype="float64")[:, None], 3, axis=1)
    size = np.linalg.norm(w)
    np.testing.assert_allclose(actual, g / size - np.sum(g * w) / size**3 * w, atol=2e-5)
    layer.kernel.assign(np.zeros(w.shape, "float32"))
    np.testing.assert_allclose(gradient_of_sum(layer, IMAGES)[0], g, atol=2e-5)
