"""Layers of every kind with what their kernels stand for, and helpers for the tests of the wrappers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from lipnb.autodiff import compile_step, value_and_grad
from lipnb.penalties import gradient_penalty
from lipnb.reparam import SpectralNormalization

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
# Kinds whose files, casts and states are code of their own; the others differ from one of these in a size or an axis.
DISTINCT = ["dense", "einsum", "embedding", "conv2d", "transposed2d", "depthwise2d", "separable2d"]
DISTINCT += ["lstm", "bidirectional", "time_distributed", "own"]
EVERYWHERE = ("dense", "depthwise2d", "lstm")


def every(names, *, on_jax):
    """pytest's parameters: all on TensorFlow and PyTorch, on JAX, which compiles each anew, those of ``on_jax``."""
    assert set(on_jax) < set(names)
    return [name if name in on_jax else pytest.param(name, marks=pytest.mark.shapes) for name in names]


def distinct(*options):
    """pytest's parameters (kind, option): on TensorFlow every distinct kind with each option, elsewhere a few."""
    pairs = [(kind, option) for option in options for kind in DISTINCT]
    once = pytest.mark.once
    return [pair if pair[0] in EVERYWHERE else pytest.param(*pair, marks=once) for pair in pairs]


def wrap(make, x, splits=None, wrapper=SpectralNormalization, **options):
    """The wrapped layer with fixed kernels; with ``splits``, u and v are the top singular vectors by SVD."""
    layer = make()
    layer.build(x.shape)
    fill(layer.weights)
    names = ["my_weight"] if isinstance(layer, Bilinear) else None
    wrapped = wrapper(layer, weight_names=names, **options)
    wrapped.build(x.shape)
    if splits:
        set_top_vectors(wrapped, splits)
    return wrapped


def set_top_vectors(layer, splits):
    vectors = iter(v for v in layer.non_trainable_variables if v.name[:2] in ("u_", "v_"))
    for kernel, split in zip(layer.kernels, splits, strict=True):
        factors = [np.linalg.svd(block) for block in split(numpy(kernel))]
        next(vectors).assign(np.stack([u[:, 0] for u, _, _ in factors]))
        next(vectors).assign(np.stack([vt[0] for _, _, vt in factors]))


def fill(weights):
    """The same normal numbers on every backend."""
    generator = np.random.default_rng(11)
    for weight in weights:
        if len(weight.shape) > 1:
            weight.assign(0.4 * generator.normal(size=tuple(weight.shape)))


def tensor(x):
    """On PyTorch an array times a tensor in a gradient is an error."""
    return ops.convert_to_tensor(x, "float32")


def numpy(x):
    return ops.convert_to_numpy(ops.copy(x)).astype("float64")


def gradients(layer, x, variables):
    """Of one loss of the layer's output, with respect to ``variables``, compiled as in training."""
    others = [v for v in layer.variables if all(v is not w for w in variables)]

    def loss():
        y = ops.tanh(layer(x, training=True))
        return ops.sum(y * tensor(np.linspace(-1, 1, int(np.prod(y.shape))).reshape(y.shape)))

    def step():
        return value_and_grad(loss, variables, others)[1]

    return [numpy(g) for g in compile_step(step, layer.variables)()]


def top_slope(w, split):
    """σ of the largest block, and its gradient u₁v₁ᵀ in the kernel's shape."""
    positions = split(np.arange(w.size).reshape(w.shape))
    u, s, vt = np.linalg.svd(max(split(w), key=lambda block: np.linalg.norm(block, 2)))
    largest = max(range(len(positions)), key=lambda i: np.linalg.norm(split(w)[i], 2))
    slope = np.zeros(w.size)
    slope[positions[largest].ravel()] = np.outer(u[:, 0], vt[0]).ravel()
    return s[0], slope.reshape(w.shape)


def stored(layer):
    return [numpy(v) for v in layer.non_trainable_variables]


def move(layer, scale=0.1):
    noise = np.random.default_rng(3).normal(size=tuple(layer.kernel.shape)) * scale
    layer.kernel.assign(layer.kernel + noise.astype("float32"))


def assert_same(old, new):
    for a, b in zip(old, new, strict=True):
        np.testing.assert_array_equal(a, b)


BATCH = (IMAGES, IMAGES[::-1] * 0.5, np.array([0.25, 0.75], "float32"))
LEARNING_RATE = 0.05


def numbers(shape, dtype="float32"):
    """An initializer that gives the same kernels on every backend."""
    return ops.convert_to_tensor(0.3 * np.random.default_rng(6).normal(size=shape), dtype)


def critic_and_step():
    """The critic with its training step, two calls and a penalty in one loss, and all state."""
    conv = layers.Conv2D(4, 3, strides=2, kernel_initializer=numbers)
    critic = keras.Sequential(
        [
            keras.Input(IMAGES.shape[1:]),
            SpectralNormalization(conv),
            layers.LeakyReLU(0.1),
            layers.Flatten(),
            SpectralNormalization(layers.Dense(1, kernel_initializer=numbers)),
        ]
    )
    optimizer = keras.optimizers.SGD(LEARNING_RATE)
    optimizer.build(critic.trainable_variables)

    def step(real, fake, eps):
        def loss():
            difference = ops.mean(critic(fake, training=True)) - ops.mean(critic(real, training=True))
            return difference + gradient_penalty(critic, real, fake, eps=eps)

        state = critic.non_trainable_variables + optimizer.variables
        value, gradients = value_and_grad(loss, critic.trainable_variables, state)
        optimizer.apply(gradients, critic.trainable_variables)
        return value

    return critic, step, critic.variables + optimizer.variables
