"""SpectralNormalization and FrobeniusNormalization: their numbers, gradients, and when u and v advance."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.lib.stride_tricks import sliding_window_view

from lipnb.autodiff import value_and_grad
from lipnb.conv_matrix import conv_matrix
from lipnb.conv_norms import conv_norm
from lipnb.penalties import input_gradient_norm
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization

RNG = np.random.default_rng(7)
IMAGES = RNG.normal(size=(2, 7, 6, 4)).astype("float32")
SEQUENCES = RNG.normal(size=(2, 5, 4)).astype("float32")
VOLUMES = RNG.normal(size=(2, 4, 4, 4, 2)).astype("float32")
TOKENS = np.array([[0, 3, 3], [8, 1, 2]], dtype="int32")


def as_matrix(kernel):
    return [kernel.reshape(-1, kernel.shape[-1])]


def per_group(kernel, groups=2):
    return [w.reshape(-1, w.shape[-1]) for w in np.split(kernel, groups, axis=-1)]


def per_channel(kernel):
    return [kernel[..., c, :].reshape(-1, kernel.shape[-1]) for c in range(kernel.shape[-2])]


def heads_last(kernel):  # "abc,cde->abde": c is contracted, d and e are new
    return [kernel.reshape(kernel.shape[0], -1)]


def own_rows(kernel):  # "abc,bcd->abd": b is shared
    return list(kernel)


class Bilinear(layers.Layer):
    """A user's own layer, with a weight of an unusual name and one that is left alone."""

    def build(self, input_shape):
        self.mixing = self.add_weight(shape=(input_shape[-1], 3), name="my_weight")
        self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")

    def call(self, inputs):
        return ops.matmul(inputs, self.mixing) * self.scale


# layer, input, and for each kernel, in the order of ``kernels``, how it splits into matrices.
KINDS = {
    "dense": (lambda: layers.Dense(3), IMAGES, [as_matrix]),
    "einsum": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)), SEQUENCES, [heads_last]),
    "einsum_shared": (lambda: layers.EinsumDense("abc,bcd->abd", (5, 3)), SEQUENCES, [own_rows]),
    "embedding": (lambda: layers.Embedding(9, 4), TOKENS, [as_matrix]),
    "conv1d": (lambda: layers.Conv1D(3, 3, padding="causal"), SEQUENCES, [as_matrix]),
    "conv2d": (lambda: layers.Conv2D(3, 3, strides=2), IMAGES, [as_matrix]),
    "conv3d": (lambda: layers.Conv3D(3, 2), VOLUMES, [as_matrix]),
    "grouped": (lambda: layers.Conv2D(6, 3, groups=2), IMAGES, [per_group]),
    "transposed1d": (lambda: layers.Conv1DTranspose(3, 3), SEQUENCES, [as_matrix]),
    "transposed2d": (lambda: layers.Conv2DTranspose(3, 3, strides=2), IMAGES, [as_matrix]),
    "transposed3d": (lambda: layers.Conv3DTranspose(3, 2), VOLUMES, [as_matrix]),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3), SEQUENCES, [per_channel]),
    "depthwise2d": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGES, [per_channel]),
    "separable1d": (lambda: layers.SeparableConv1D(3, 3), SEQUENCES, [per_channel, as_matrix]),
    "separable2d": (lambda: layers.SeparableConv2D(3, 3), IMAGES, [per_channel, as_matrix]),
    "simple_rnn": (lambda: layers.SimpleRNN(3), SEQUENCES, [as_matrix] * 2),
    "gru": (lambda: layers.GRU(3), SEQUENCES, [as_matrix] * 2),
    "lstm": (lambda: layers.LSTM(3), SEQUENCES, [as_matrix] * 2),
    "bidirectional": (lambda: layers.Bidirectional(layers.LSTM(3)), SEQUENCES, [as_matrix] * 4),
    "time_distributed": (lambda: layers.TimeDistributed(layers.Dense(3)), SEQUENCES, [as_matrix]),
    "own": (Bilinear, SEQUENCES, [as_matrix]),
}


def wrap(make, x, splits=None, wrapper=SpectralNormalization, **options):
    """The wrapped layer, built; with ``splits``, u and v are set to the top singular vectors by SVD."""
    layer = make()
    names = ["my_weight"] if isinstance(layer, Bilinear) else None
    wrapped = wrapper(layer, weight_names=names, **options)
    wrapped(x)
    vectors = iter(v for v in wrapped.non_trainable_variables if v.name[:2] in ("u_", "v_"))
    for kernel, split in zip(wrapped.kernels, splits or (), strict=bool(splits)):
        factors = [np.linalg.svd(block) for block in split(numpy(kernel))]
        next(vectors).assign(np.stack([u[:, 0] for u, _, _ in factors]))
        next(vectors).assign(np.stack([vt[0] for _, _, vt in factors]))
    return wrapped


def numpy(x):
    return ops.convert_to_numpy(ops.copy(x)).astype("float64")


def gradient(layer, x, variable):
    weights = numpy(ops.ones_like(layer(x))) * np.linspace(-1, 1, layer(x).shape[-1])
    others = [v for v in layer.variables if v is not variable]
    _, (result,) = value_and_grad(
        lambda: ops.sum(ops.tanh(layer(x, training=True)) * weights.astype("float32")), [variable], others
    )
    return numpy(result)


@pytest.mark.parametrize("kind", KINDS)
def test_largest_block_of_every_kind_gets_the_norm(kind):
    make, x, splits = KINDS[kind]
    layer = wrap(make, x, splits, norm=2.0)
    before = [numpy(k) for k in layer.kernels]
    layer(x, training=True)
    assert len(splits) == len(layer.kernels)
    for kernel, old, normalized, split in zip(
        layer.kernels, before, layer.normalized_weights(), splits, strict=True
    ):
        np.testing.assert_array_equal(numpy(kernel), old)
        norms = [np.linalg.norm(block, 2) for block in split(numpy(normalized))]
        np.testing.assert_allclose(max(norms), 2.0, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_reparametrisation(kind):
    """dL/dW = (G − ⟨G, W/σ⟩ u₁v₁ᵀ)/σ, with G the plain layer's gradient at W/σ and an SVD in float64."""
    make, x, splits = KINDS[kind]
    layer = wrap(make, x, splits)
    plain = layer.to_plain()
    np.testing.assert_allclose(numpy(layer(x)), numpy(plain(x)), atol=1e-5)
    twins = {id(old): new for old, new in zip(layer.layer.variables, plain.variables, strict=True)}
    for kernel, split in zip(layer.kernels, splits, strict=True):
        w, g = numpy(kernel), gradient(plain, x, twins[id(kernel)])
        sigma, slope = top_slope(w, split)
        expected = (g - np.sum(g * w) / sigma * slope) / sigma
        actual = gradient(layer, x, kernel)
        np.testing.assert_allclose(actual, expected, atol=2e-5 * max(1.0, np.max(np.abs(expected))))


def top_slope(w, split):
    """σ of the largest block, and its gradient u₁v₁ᵀ in the kernel's shape."""
    positions = split(np.arange(w.size).reshape(w.shape))
    u, s, vt = np.linalg.svd(max(split(w), key=lambda block: np.linalg.norm(block, 2)))
    largest = max(range(len(positions)), key=lambda i: np.linalg.norm(split(w)[i], 2))
    slope = np.zeros(w.size)
    slope[positions[largest].ravel()] = np.outer(u[:, 0], vt[0]).ravel()
    return s[0], slope.reshape(w.shape)


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


@pytest.mark.parametrize("name", OPERATORS)
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
    start = RNG.normal(size=(4, 3))
    layer = SpectralNormalization(
        layers.Dense(3, use_bias=False, kernel_initializer=lambda shape, dtype: ops.cast(start, dtype)),
        seed=5,
    )
    layer.build((None, 4))
    w, u = start.copy(), np.random.default_rng((5, 0)).normal(size=(1, 4))
    u, v = iterated(w, u, 15)
    for _ in range(10):
        _, (actual,) = value_and_grad(
            lambda: ops.sum(layer(x, training=True) * c.astype("float32")),
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


def stored(layer):
    return [numpy(v) for v in layer.non_trainable_variables]


def moved(layer, scale=0.1):
    noise = np.random.default_rng(3).normal(size=layer.kernel.shape) * scale
    layer.kernel.assign(layer.kernel + noise.astype("float32"))


@pytest.mark.parametrize("operator", [False, True])
def test_two_calls_in_one_loss_see_one_kernel(operator):
    layer = wrap(lambda: layers.Conv2D(3, 3), IMAGES, operator=operator)
    moved(layer)
    first = numpy(layer(IMAGES, training=True))
    after = stored(layer)
    for training in (True, False, True):
        np.testing.assert_allclose(numpy(layer(IMAGES, training=training)), first, atol=1e-6)
        for old, new in zip(after, stored(layer), strict=True):
            np.testing.assert_array_equal(new, old)


def test_two_calls_in_one_loss_have_the_gradient_of_one_kernel():
    layer = wrap(lambda: layers.Dense(3, use_bias=False), IMAGES[:, 0, 0])
    a, b = IMAGES[:, 0, 0], IMAGES[:, 1, 1]
    moved(layer)
    together = gradient_of_loss(
        layer, lambda: ops.sum(layer(a, training=True)) - ops.sum(layer(b, training=True))
    )
    apart = [gradient_of_loss(layer, lambda x=x: ops.sum(layer(x, training=True))) for x in (a, b)]
    np.testing.assert_allclose(together, apart[0] - apart[1], atol=1e-5)


def gradient_of_loss(layer, loss):
    return numpy(value_and_grad(loss, layer.trainable_variables, layer.non_trainable_variables)[1][0])


def test_u_advances_once_after_each_change_of_the_kernel_and_follows_it():
    x = np.zeros((1, 40), "float32")
    layer = wrap(lambda: layers.Dense(30, use_bias=False), x, [as_matrix])
    for _ in range(30):
        before = stored(layer)
        moved(layer, 1e-3)
        layer(x, training=True)
        assert np.any(stored(layer)[0] != before[0])
    sigma = np.linalg.norm(numpy(layer.normalized_weights()[0]), 2)
    assert 1 - 1e-6 <= sigma < 1.001


def test_perturbed_kernel_is_not_normalised_until_the_iteration_has_caught_up():
    layer = wrap(lambda: layers.Dense(20), RNG.normal(size=(2, 30)).astype("float32"), [as_matrix])
    sigma = lambda: np.linalg.norm(numpy(layer.normalized_weights()[0]), 2)  # noqa: E731
    assert sigma() == pytest.approx(1, abs=1e-5)
    layer.kernel.assign(RNG.normal(size=(30, 20)).astype("float32"))
    assert sigma() > 1.5
    layer.update_vectors(100)
    assert sigma() == pytest.approx(1, abs=1e-3)


def test_estimate_is_a_lower_bound_so_the_norm_is_never_below_the_target():
    for seed in range(4):
        initializer = keras.initializers.RandomNormal(seed=seed)
        layer = SpectralNormalization(layers.Dense(20, kernel_initializer=initializer))
        layer.build((None, 30))
        assert np.linalg.norm(numpy(layer.normalized_weights()[0]), 2) >= 1 - 1e-6


def test_inference_changes_nothing_and_uses_the_current_kernel():
    layer = wrap(lambda: layers.Dense(3, use_bias=False), IMAGES)
    moved(layer)
    before, u, v = stored(layer), *stored(layer)
    output = numpy(layer(IMAGES))
    w = numpy(layer.kernel)
    np.testing.assert_allclose(output, IMAGES @ (w / (u @ w @ v.T)), atol=1e-5)
    for old, new in zip(before, stored(layer), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("part", ["wrapper", "layer"])
def test_trainable_false_freezes_kernel_and_vectors(part):
    layer = wrap(lambda: layers.Dense(3), IMAGES)
    (layer if part == "wrapper" else layer.layer).trainable = False
    assert layer.trainable_variables == []
    moved(layer)
    before = stored(layer)
    layer(IMAGES, training=True)
    for old, new in zip(before, stored(layer), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("operator", [False, True])
def test_zero_kernel_is_finite_and_recovers(operator):
    layer = wrap(lambda: layers.Conv2D(3, 3, kernel_initializer="zeros"), IMAGES, operator=operator)
    np.testing.assert_array_equal(numpy(layer(IMAGES, training=True)), 0)
    assert np.all(np.isfinite(gradient(layer, IMAGES, layer.kernel)))
    assert np.any(gradient(layer, IMAGES, layer.kernel) != 0)
    layer.kernel.assign(RNG.normal(size=layer.kernel.shape).astype("float32"))
    layer(IMAGES, training=True)
    layer.update_vectors(50)
    (weight,) = layer.normalized_weights()
    norm = conv_norm(weight, IMAGES.shape[1:]) if operator else np.linalg.norm(as_matrix(numpy(weight))[0], 2)
    assert norm == pytest.approx(1, rel=1e-2)


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
def test_shrink_only_leaves_small_kernels_alone(wrapper):
    layer = wrap(lambda: layers.Dense(3), IMAGES, wrapper=wrapper, norm=100.0, shrink_only=True)
    np.testing.assert_array_equal(numpy(layer.normalized_weights()[0]), numpy(layer.kernel))
    np.testing.assert_allclose(
        gradient(layer, IMAGES, layer.kernel), gradient(layer.layer, IMAGES, layer.kernel), atol=1e-6
    )
    layer.norm = 0.25
    if wrapper is SpectralNormalization:
        layer.update_vectors(100)
    ord = 2 if wrapper is SpectralNormalization else "fro"
    assert np.linalg.norm(numpy(layer.normalized_weights()[0]), ord) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
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


def test_input_gradient_of_a_normalised_critic_is_differentiable_and_stores_nothing():
    critic = keras.Sequential(
        [keras.Input((7, 6, 4)), SpectralNormalization(layers.Conv2D(3, 3)), layers.Flatten()]
        + [layers.Activation("tanh"), SpectralNormalization(layers.Dense(1))]
    )
    before = [numpy(v) for v in critic.non_trainable_variables]
    _, gradients = value_and_grad(
        lambda: ops.sum(input_gradient_norm(critic, IMAGES)),
        critic.trainable_variables,
        critic.non_trainable_variables,
    )
    assert all(np.all(np.isfinite(numpy(g))) for g in gradients)
    assert np.any(numpy(gradients[0]) != 0)
    for old, new in zip(before, critic.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(numpy(new), old)
