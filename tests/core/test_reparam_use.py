"""The wrappers as their users meet them: each backend's own training loop, half precision, files, odd starts."""

import importlib

import keras
import numpy as np
import pytest
from keras import layers, ops
from reparam_cases import (
    IMAGES,
    KINDS,
    SEQUENCES,
    Bilinear,
    as_matrix,
    assert_same,
    distinct,
    numpy,
    per_channel,
    per_group,
    stored,
    wrap,
)

from lipnb.autodiff import value_and_grad
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
X = IMAGES[:, 0, 0]


def dense(**options):
    """A normalised dense layer whose gradient of Σy is known: (G − ⟨G, W⟩uᵀv/σ)/σ, G = Xᵀ1."""
    layer = wrap(lambda: layers.Dense(3, use_bias=False), X, [as_matrix], **options)
    w, u, v = numpy(layer.kernel), *stored(layer)
    sigma, g = (u @ w @ v.T).item(), np.repeat(X.astype("float64").sum(0)[:, None], 3, axis=1)
    return layer, (g - np.sum(g * w) / sigma * (u.T @ v)) / sigma


def step_tensorflow(layer):
    tf = importlib.import_module("tensorflow")

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(layer(X, training=True))
        return tape.gradient(value, layer.trainable_variables)[0]

    return step()


def step_jax(layer):
    jax = importlib.import_module("jax")

    def loss(trainable, fixed):
        y, fixed = layer.stateless_call(trainable, fixed, X, training=True)
        return ops.sum(y), fixed

    trainable = [v.value for v in layer.trainable_variables]
    fixed = [v.value for v in layer.non_trainable_variables]
    (_, after), (gradient,) = jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable, fixed)
    for variable, value in zip(layer.non_trainable_variables, after, strict=True):
        variable.assign(value)
    return gradient


def step_torch(layer):
    ops.sum(layer(X, training=True)).backward()
    return layer.kernel.value.grad


def test_the_backends_own_training_step_has_the_gradient_through_sigma():
    """tf.function and GradientTape, jax.jit of stateless_call, PyTorch's backward."""
    layer, expected = dense()
    step = {"tensorflow": step_tensorflow, "jax": step_jax, "torch": step_torch}[keras.backend.backend()]
    before = stored(layer)
    np.testing.assert_allclose(numpy(step(layer)), expected, atol=1e-5 * np.max(np.abs(expected)))
    for old, new in zip(before, stored(layer), strict=True):  # the kernel has not moved: neither have u, v
        np.testing.assert_allclose(new, old, atol=1e-6)
    layer.kernel.assign(layer.kernel * np.float32([[1], [2], [3], [4]]))
    step(layer)
    assert np.max(np.abs(stored(layer)[0] - before[0])) > 1e-2


# float16 differs from bfloat16 in the wrapped layer's casts alone.
@pytest.mark.parametrize(("kind", "policy"), [*distinct("mixed_bfloat16"), ("dense", "mixed_float16")])
def test_mixed_precision_has_the_kernels_of_full_precision(kind, policy):
    make, x, splits = KINDS[kind]
    full = wrap(make, x, splits)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        half = wrap(make, x, splits)
        output = half(x, training=True)
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")
    assert {v.dtype for v in half.variables if "float" in v.dtype} == {"float32"}
    for actual, expected in zip(half.normalized_weights(), full.normalized_weights(), strict=True):
        np.testing.assert_array_equal(numpy(actual), numpy(expected))
    output, expected = numpy(ops.cast(output, "float32")), numpy(full(x, training=True))
    np.testing.assert_allclose(output, expected, atol=0.05 * np.max(np.abs(expected)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_fit_under_mixed_precision_learns_with_a_scaled_loss(policy):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            SpectralNormalization(layers.Dense(8, activation="relu", dtype=policy)),
            SpectralNormalization(layers.Dense(1, dtype=policy), norm=4.0),
            layers.Activation("linear", dtype="float32"),
        ]
    )
    x = np.random.default_rng(4).normal(size=(64, 4)).astype("float32")
    model.compile(keras.optimizers.Adam(0.05), "mse", auto_scale_loss=True)
    losses = model.fit(x, x[:, :1], batch_size=16, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert np.linalg.norm(numpy(model.layers[0].normalized_weights()[0]), 2) == pytest.approx(1, rel=0.05)


# FrobeniusNormalization adds no state of its own to a file.
@pytest.mark.parametrize(
    ("kind", "wrapper"), [*distinct(SpectralNormalization), ("dense", FrobeniusNormalization)]
)
def test_a_layer_comes_back_from_a_file_and_a_clone(kind, wrapper, tmp_path):
    make, x, _ = KINDS[kind]
    layer = wrapper(make(), weight_names=["my_weight"] if kind == "own" else None)
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), layer])
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    with keras.saving.custom_object_scope({"Bilinear": Bilinear}):
        loaded = keras.models.load_model(tmp_path / "model.keras")
        clone = keras.models.clone_model(model)
    clone.set_weights([numpy(w) for w in model.weights])
    for other in (loaded, clone):
        assert_same(vectors(model), vectors(other))
        assert options(other.layers[-1]) == options(model.layers[-1])
        np.testing.assert_allclose(numpy(other(x)), numpy(model(x)), atol=1e-6)


def vectors(model):
    return [numpy(v) for v in model.non_trainable_variables if v.name[:2] in ("u_", "v_")]


def options(layer):
    return {name: value for name, value in layer.get_config().items() if name != "layer"}


def test_only_the_optimizer_moves_the_kernel_under_fit():
    """With rate 0 nothing moves, to the last bit; Keras's wrapper would have divided the kernel."""
    model = keras.Sequential([keras.Input((4,)), SpectralNormalization(layers.Dense(3))])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    before = [numpy(model.layers[0].kernel), *stored(model)]
    model.fit(X, np.ones((2, 3)), epochs=3, verbose=0)
    assert_same(before, [numpy(model.layers[0].kernel), *stored(model)])


def test_a_frozen_critic_stays_as_it_is_while_what_feeds_it_trains():
    """The generator's step of a GAN: the critic's kernels, u and v do not change, and the gradient reaches through."""
    critic = keras.Sequential([keras.Input((3,)), SpectralNormalization(layers.Dense(2))])
    generator = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    kernel, (u, v) = critic.layers[0].kernel, critic.non_trainable_variables
    kernel.assign(kernel + 0.5)  # u, v are behind: a training call would move them
    critic.trainable = False
    model = keras.Sequential([keras.Input((4,)), generator, critic])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before, start = [numpy(x) for x in (kernel, u, v)], numpy(generator.layers[0].kernel)
    model.fit(X, np.ones((2, 2)), epochs=2, verbose=0)
    assert_same(before, [numpy(x) for x in (kernel, u, v)])
    assert np.max(np.abs(numpy(generator.layers[0].kernel) - start)) > 0
    critic.trainable = True
    critic(numpy(generator(X)).astype("float32"), training=True)
    np.testing.assert_array_equal(numpy(kernel), before[0])
    assert np.any(numpy(v) != before[2])


def test_a_start_orthogonal_to_the_kernel_is_finite_and_recovers():
    """All ones meets a kernel whose columns sum to zero: uW = 0, so v stays at its start, and u = Wv leaves ones."""
    w = np.float32([[3, 1], [-3, -1], [1, 2], [-1, -2]])
    make = lambda: layers.Dense(2, use_bias=False, kernel_initializer=lambda shape, dtype: ops.cast(w, dtype))  # noqa: E731
    layer = SpectralNormalization(make(), u_initializer="ones")
    layer.build((None, 4))
    for _ in range(40):
        output = numpy(layer(X, training=True))
        assert np.all(np.isfinite(output))
        layer.update_vectors(1)
    assert np.linalg.norm(numpy(layer.normalized_weights()[0]), 2) == pytest.approx(1, rel=1e-5)


def test_a_loss_with_zero_gradient_moves_nothing():
    layer, _ = dense()
    before = [numpy(layer.kernel), *stored(layer)]
    for _ in range(3):
        _, (slope,) = value_and_grad(
            lambda: ops.sum(0.0 * layer(X, training=True)), [layer.kernel], layer.non_trainable_variables
        )
        np.testing.assert_array_equal(numpy(slope), 0)
    assert_same(before[:1], [numpy(layer.kernel)])
    np.testing.assert_allclose(
        np.concatenate(stored(layer), axis=1), np.concatenate(before[1:], axis=1), atol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "split", "block"),
    [
        (lambda: layers.Conv2D(6, 3, groups=2), per_group, np.s_[..., :3]),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), per_channel, np.s_[:, :, 0]),
    ],
)
def test_a_zero_group_or_channel_is_finite_and_recovers(make, split, block):
    layer = SpectralNormalization(make())
    layer.layer.build(IMAGES.shape)
    w = np.random.default_rng(2).normal(size=layer.layer.weights[0].shape)
    w[block] *= 2  # the largest block is the one that is zero at first
    zeroed = w.copy()
    zeroed[block] = 0
    layer.layer.weights[0].assign(zeroed)
    layer.build(IMAGES.shape)
    assert np.all(np.isfinite(numpy(layer(IMAGES, training=True))))
    layer.kernel.assign(w)
    layer.update_vectors(200)
    (weight,) = layer.normalized_weights()
    assert max(np.linalg.norm(m, 2) for m in split(numpy(weight))) == pytest.approx(1, rel=1e-4)


def test_a_kernel_that_is_not_finite_leaves_u_and_v_alone():
    layer, _ = dense()
    before, w = stored(layer), numpy(layer.kernel)
    for value in (np.nan, np.inf):
        layer.kernel.assign(np.full_like(w, value))
        layer(X, training=True)
        layer.update_vectors(3)
        assert_same(before, stored(layer))
    layer.kernel.assign(w)
    assert np.linalg.norm(numpy(layer.normalized_weights()[0]), 2) == pytest.approx(1, rel=1e-5)


UNBUILT = {
    "kernels": lambda layer: layer.kernels,
    "kernel": lambda layer: layer.kernel,
    "normalized_weights": lambda layer: layer.normalized_weights(),
    "to_plain": lambda layer: layer.to_plain(),
    "update_vectors": lambda layer: layer.update_vectors(),
}


@pytest.mark.parametrize("name", UNBUILT)
def test_reading_the_kernels_of_an_unbuilt_layer_raises(name):
    with pytest.raises(ValueError, match="must be built or called first. Received: 'sn', not built"):
        UNBUILT[name](SpectralNormalization(layers.Dense(2), name="sn"))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: SpectralNormalization(layers.Dense(2), operator="no"),
            TypeError,
            "operator must be .* Received: 'no'",
        ),
        (
            lambda: FrobeniusNormalization(layers.Dense(2), 1.0, 1),
            TypeError,
            "shrink_only must be .* Received: 1",
        ),
        (
            lambda: SpectralNormalization(layers.Dense(2), weight_names=[]),
            ValueError,
            r"hold a name.* Received: \[\]",
        ),
        (
            lambda: SpectralNormalization(layers.Dense(2), weight_names=[3]),
            TypeError,
            r"of names. Received: \[3\]",
        ),
        (
            lambda: SpectralNormalization(layers.Dense(2), norm=np.nan),
            ValueError,
            "norm must be .* Received: nan",
        ),
        (
            lambda: SpectralNormalization(layers.Dense(2)).build((None, 0)),
            ValueError,
            "not be empty. Received",
        ),
        (lambda: dense()[0].update_vectors(0), ValueError, "n_iter must be .* Received: 0"),
    ],
)
def test_arguments_that_make_no_sense_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_sequences_of_unknown_length_train():
    """A static size is needed by ``operator`` alone."""
    model = keras.Sequential(
        [keras.Input((None, 4)), SpectralNormalization(layers.Conv1D(3, 3)), layers.GlobalMaxPooling1D()]
    )
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(SEQUENCES, np.ones((2, 3)), verbose=0).history["loss"][0])
