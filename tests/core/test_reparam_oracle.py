"""The reparametrisation against float64: finite differences of f(W/σ(W)) for every kind, a critic's steps in NumPy."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.lib.stride_tricks import sliding_window_view
from reparam_cases import (
    BATCH,
    KINDS,
    LEARNING_RATE,
    SEQUENCES,
    as_matrix,
    critic_and_step,
    fill,
    heads_last,
    numpy,
    set_top_vectors,
    tensor,
    top_slope,
    wrap,
)

from lipnb.autodiff import compile_step, value_and_grad
from lipnb.conv_matrices import conv_matrix
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization


@pytest.fixture
def float64():
    """Layers in float64. Keras computes them in it on TensorFlow alone: elsewhere its products are of float32."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip(
            "Keras has no float64 on this backend; test_reparam.py compares with closed forms at float32"
        )
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


def weighted(y):
    y = ops.tanh(y)
    return ops.sum(
        y * ops.convert_to_tensor(np.linspace(-1, 1, int(np.prod(y.shape))).reshape(y.shape), "float64")
    )


def check_gradient(layer, x, sizes, n_directions=3):
    """Along random directions D of all kernels: (f(W + hD) − f(W − hD))/2h, f a plain layer with W/size(W)."""
    plain = layer.to_plain()
    position = {id(v): i for i, v in enumerate(layer.layer.variables)}
    twins = [plain.variables[position[id(k)]] for k in layer.kernels]
    others = [v for v in layer.variables if all(v is not k for k in layer.kernels)]
    _, slopes = value_and_grad(lambda: weighted(layer(x, training=True)), layer.kernels, others)
    start, slopes = [numpy(k) for k in layer.kernels], [numpy(g) for g in slopes]

    def value(kernels):
        for twin, kernel, size in zip(twins, kernels, sizes, strict=True):
            twin.assign(kernel / size(kernel))
        return float(numpy(weighted(plain(x))))

    generator = np.random.default_rng(8)
    for _ in range(n_directions):
        directions = [generator.normal(size=w.shape) for w in start]
        moved = [[w + h * d for w, d in zip(start, directions, strict=True)] for h in (1e-6, -1e-6)]
        expected = (value(moved[0]) - value(moved[1])) / 2e-6
        actual = sum(np.sum(g * d) for g, d in zip(slopes, directions, strict=True))
        size = np.sqrt(sum(np.sum(g**2) for g in slopes))
        assert actual == pytest.approx(expected, abs=1e-5 * size)


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_finite_differences_of_the_normalised_layer(kind, float64):
    make, x, splits = KINDS[kind]
    x = x if kind == "embedding" else x.astype("float64")
    sizes = [lambda w, split=split: top_slope(w, split)[0] for split in splits]
    check_gradient(wrap(make, x, splits), x, sizes)


# layer, shape of a sample, and for each kernel how ``conv_matrix`` makes the operator; None: (−1, shape[-1])
OPERATORS = {
    "strided": (lambda: layers.Conv2D(3, 3, strides=2), (5, 4, 2), [{"strides": 2}]),
    "grouped": (
        lambda: layers.Conv2D(4, 3, padding="same", groups=2),
        (4, 4, 4),
        [{"padding": "same", "groups": 2}],
    ),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 4, 2), [{"kind": "depthwise"}]),
    "separable": (lambda: layers.SeparableConv2D(3, 3), (5, 4, 2), [{"kind": "depthwise"}, None]),
    "causal": (
        lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2),
        (6, 2),
        [{"padding": "causal", "dilation_rate": 2}],
    ),
    "3d": (lambda: layers.Conv3D(2, 2), (3, 3, 2, 2), [{}]),
    "transposed1d": (
        lambda: layers.Conv1DTranspose(2, 3, strides=2),
        (4, 3),
        [{"strides": 2, "kind": "transpose"}],
    ),
    "transposed2d": (
        lambda: layers.Conv2DTranspose(2, 3, strides=2, padding="same"),
        (3, 3, 2),
        [{"strides": 2, "padding": "same", "kind": "transpose"}],
    ),
    "transposed3d": (lambda: layers.Conv3DTranspose(2, 2), (2, 3, 2, 2), [{"kind": "transpose"}]),
}


def operator_matrix(kernel, shape, options):
    return as_matrix(kernel)[0] if options is None else conv_matrix(kernel, shape, **options).toarray()


def in_blocks(vector, shape):
    """A flattened feature map (*space, blocks · channels) as (blocks, *space, channels)."""
    blocks, *space, channels = shape
    return np.moveaxis(vector.reshape(*space, blocks, channels), -2, 0)


@pytest.mark.once
@pytest.mark.parametrize("name", OPERATORS)
def test_gradient_through_the_operator_norm_is_that_of_finite_differences(name, float64):
    make, shape, operators = OPERATORS[name]
    x = np.random.default_rng(12).normal(size=(2, *shape))
    layer = wrap(make, x, operator=True)
    vectors = iter(layer.non_trainable_variables)
    for kernel, options in zip(layer.kernels, operators, strict=True):
        u, _, vt = np.linalg.svd(operator_matrix(numpy(kernel), shape, options))
        for top in (u[:, 0], vt[0]):
            vector = next(vectors)
            vector.assign(in_blocks(top, vector.shape))
    sizes = [lambda w, o=o: np.linalg.norm(operator_matrix(w, shape, o), 2) for o in operators]
    check_gradient(layer, x, sizes, n_directions=1)


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"norm": 2.5}, lambda w: np.linalg.norm(as_matrix(w)[0], 2) / 2.5),
        ({"norm": 0.25, "shrink_only": True}, lambda w: np.linalg.norm(as_matrix(w)[0], 2) / 0.25),
        ({"norm": 2.5, "wrapper": FrobeniusNormalization}, lambda w: np.linalg.norm(w) / 2.5),
    ],
)
def test_gradient_of_a_convolution_with_another_norm(options, size, float64):
    make, x, splits = KINDS["conv2d"]
    splits = None if "wrapper" in options else splits
    check_gradient(wrap(make, x.astype("float64"), splits, **options), x.astype("float64"), [size])


@pytest.mark.once
def test_gradient_of_attention_is_that_of_finite_differences(float64):
    x, splits = SEQUENCES.astype("float64"), [heads_last, heads_last, heads_last, as_matrix]
    layer = SpectralNormalization(layers.MultiHeadAttention(2, 3))
    layer(x, x)
    fill(layer.layer.weights)
    set_top_vectors(layer, splits)
    others = [v for v in layer.variables if all(v is not k for k in layer.kernels)]
    _, slopes = value_and_grad(lambda: weighted(layer(x, x, training=True)), layer.kernels, others)
    for kernel, slope in zip(layer.kernels, slopes, strict=True):
        w, direction = numpy(kernel), np.random.default_rng(8).normal(size=kernel.shape)
        values = []
        for h in (1e-6, -1e-6):
            kernel.assign(w + h * direction)
            set_top_vectors(layer, splits)
            values.append(float(numpy(weighted(layer(x, x)))))
        kernel.assign(w)
        expected = (values[0] - values[1]) / 2e-6
        size = np.linalg.norm(numpy(slope))
        assert np.sum(numpy(slope) * direction) == pytest.approx(expected, abs=1e-5 * size)


# A critic in NumPy: strided convolution, leaky ReLU, dense, both spectrally normalised; Wasserstein loss + penalty.


def iterated(w, u, n):
    for _ in range(n):
        v = u @ w / np.linalg.norm(u @ w)
        u = v @ w.T / np.linalg.norm(v @ w.T)
    return u, v


def sigmas(parameters, vectors):
    matrices = parameters[0].reshape(36, 4), parameters[2]
    return [u @ w @ v.T for w, (u, v) in zip(matrices, vectors, strict=True)]


def numpy_loss(parameters, sizes):
    """The same loss with the kernels divided by the given sizes, in float64."""
    k, a, w, b = parameters
    k, w = k / sizes[0], w / sizes[1]

    def features(x):
        patches = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]  # batch, i, j, channel, ki, kj
        return np.einsum("bijckl,klco->bijo", patches, k) + a

    def score(x):
        y = features(x)
        return np.where(y > 0, y, 0.1 * y).reshape(len(x), -1) @ w + b

    real, fake, eps = (part.astype("float64") for part in BATCH)
    middle = eps[:, None, None, None] * real + (1 - eps[:, None, None, None]) * fake
    slopes = np.where(features(middle) > 0, 1, 0.1) * w.reshape(1, 3, 2, 4)
    gradient = np.zeros_like(middle)
    for i in range(3):
        for j in range(2):
            gradient[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum(
                "bo,klco->bklc", slopes[:, i, j], k
            )
    excess = np.linalg.norm(gradient.reshape(2, -1), axis=1) - 1
    return np.mean(score(fake)) - np.mean(score(real)) + np.mean(excess**2)


def numpy_training(n_steps, through_sigma=True):
    """Losses and final parameters of gradient descent, the gradients by central differences with u, v fixed."""
    initial = [0.3 * np.random.default_rng(6).normal(size=shape) for shape in ((3, 3, 4, 4), (24, 1))]
    parameters = [initial[0], np.zeros(4), initial[1], np.zeros(1)]
    starts = [np.random.default_rng((0, 0)).normal(size=(1, n)) for n in (36, 24)]
    matrices = lambda: (parameters[0].reshape(36, 4), parameters[2])  # noqa: E731
    vectors = [iterated(w, u, 15) for w, u in zip(matrices(), starts, strict=True)]
    losses = []
    for i in range(n_steps):
        if i:  # the kernels have moved: one iteration from u = Wv/‖Wv‖
            images = [
                v @ w.T / np.linalg.norm(v @ w.T) for w, (_, v) in zip(matrices(), vectors, strict=True)
            ]
            vectors = [iterated(w, u, 1) for w, u in zip(matrices(), images, strict=True)]
        losses.append(float(numpy_loss(parameters, sigmas(parameters, vectors))))
        gradients = [central_differences(parameters, vectors, j, through_sigma) for j in range(4)]
        parameters = [p - LEARNING_RATE * g for p, g in zip(parameters, gradients, strict=True)]
    return losses, parameters


def central_differences(parameters, vectors, j, through_sigma, h=1e-6):
    gradient = np.zeros_like(parameters[j])
    for index in np.ndindex(*gradient.shape):
        values = []
        for sign in (h, -h):
            moved = [p.copy() for p in parameters]
            moved[j][index] += sign
            values.append(float(numpy_loss(moved, sigmas(moved if through_sigma else parameters, vectors))))
        gradient[index] = (values[0] - values[1]) / (2 * h)
    return gradient


@pytest.fixture(scope="module")
def oracle():
    return numpy_training(5)


@pytest.mark.parametrize("mode", ["plain", "compiled", "jit"])
def test_critic_trains_as_in_float64_on_every_backend_compiled_or_not(oracle, mode):
    """Start, warm-up, two calls and a penalty in one loss, five updates: so all backends agree with each other."""
    critic, step, state = critic_and_step()
    if mode != "plain":
        step = compile_step(step, state, jit_compile=mode == "jit")
    losses = [float(numpy(step(*map(tensor, BATCH)))) for _ in range(5)]
    np.testing.assert_allclose(losses, oracle[0], atol=1e-5)
    for variable, expected in zip(critic.trainable_variables, oracle[1], strict=True):
        np.testing.assert_allclose(numpy(variable), expected, atol=1e-5)


@pytest.mark.once
def test_the_comparison_tells_a_gradient_without_sigma_apart(oracle):
    """With σ held constant in the gradient, as in Keras's wrapper, the kernel ends elsewhere."""
    wrong = numpy_training(5, through_sigma=False)
    assert np.max(np.abs(oracle[1][0] - wrong[1][0])) > 1e-3
    assert np.max(np.abs(np.subtract(oracle[0], wrong[0]))) > 1e-3
