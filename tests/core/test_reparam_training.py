"""Training: fit, compiled steps, an optimizer alone moving the kernel, two devices on TensorFlow and on JAX."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from reparam_cases import (
    BATCH,
    IMAGES,
    LEARNING_RATE,
    assert_same,
    critic_and_step,
    numbers,
    numpy,
    stored,
    tensor,
)

from lipnb.autodiff import value_and_grad
from lipnb.conv_norms import conv_norm
from lipnb.penalties import gradient_penalty
from lipnb.reparam import SpectralNormalization

X = np.random.default_rng(4).normal(size=(32, 6)).astype("float32")
Y = X @ np.random.default_rng(5).normal(size=(6, 1)).astype("float32")


def regression(n_iter=1):
    return keras.Sequential(
        [
            keras.Input((6,)),
            SpectralNormalization(layers.Dense(8, activation="relu", kernel_initializer=numbers), n_iter),
            layers.BatchNormalization(),
            SpectralNormalization(layers.Dense(1, kernel_initializer=numbers), n_iter, norm=3.0),
        ]
    )


# PyTorch's compiler looks at the gradient of every tensor, and warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_learns_within_the_bound(jit_compile):
    if jit_compile and keras.backend.backend() == "torch" and " " in sys.prefix:
        pytest.skip(
            "PyTorch's compiler passes its folder to the C++ compiler unquoted: a space in the path breaks it"
        )
    model = regression()
    before = stored(model)
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile)
    losses = model.fit(X, Y, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    names = [v.name for v in model.non_trainable_variables]
    changed = [n for n, a, b in zip(names, before, stored(model), strict=True) if np.any(a != b)]
    assert changed.count("u_0") == 2
    for layer, norm in ((model.layers[0], 1), (model.layers[2], 3)):
        assert np.linalg.norm(numpy(layer.normalized_weights()[0]), 2) == pytest.approx(norm, rel=0.05)
    frozen = stored(model)
    prediction = model.predict(X, verbose=0)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(np.mean((prediction - Y) ** 2), rel=1e-3)
    assert_same(frozen, stored(model))


def test_fit_with_as_many_iterations_as_make_a_loop():
    """Above four, the iterations are a loop in the compiled step."""
    layer = SpectralNormalization(layers.Conv2D(3, 3, kernel_initializer=numbers), n_iter=6, operator=True)
    model = keras.Sequential([keras.Input(IMAGES.shape[1:]), layer, layers.Flatten(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=keras.backend.backend() == "jax")
    before = [numpy(layer.kernel), *stored(layer)]
    losses = model.fit(IMAGES, np.ones((2, 1)), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for old, new in zip(before, [numpy(layer.kernel), *stored(layer)], strict=True):
        assert np.max(np.abs(new - old)) > 1e-4
    assert conv_norm(layer.normalized_weights()[0], IMAGES.shape[1:]) == pytest.approx(1, rel=0.02)


def test_unbuilt_model_is_built_and_warmed_up_by_fit():
    layer = SpectralNormalization(layers.Conv2D(3, 3), operator=True)
    model = keras.Sequential([layer, layers.Flatten(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(IMAGES, np.zeros((2, 1)), verbose=0)
    sigma = np.max(np.abs(numpy(layer.kernel) / numpy(layer.normalized_weights()[0])))
    layer.update_vectors(50)
    assert sigma >= 0.9 * np.max(np.abs(numpy(layer.kernel) / numpy(layer.normalized_weights()[0])))


def test_only_the_optimizer_moves_the_kernel():
    """Three calls leave the kernel as it is; gradient descent moves it by −rate × gradient, and nothing else does."""
    critic, step, _ = critic_and_step()
    layer = critic.layers[0]
    before = numpy(layer.kernel)
    for _ in range(3):
        critic(IMAGES, training=True)
    np.testing.assert_array_equal(numpy(layer.kernel), before)
    real, fake, eps = map(tensor, BATCH)

    def loss():
        difference = ops.mean(critic(fake, training=True)) - ops.mean(critic(real, training=True))
        return difference + gradient_penalty(critic, real, fake, eps=eps)

    _, (slope, *_) = value_and_grad(loss, critic.trainable_variables, critic.non_trainable_variables)
    np.testing.assert_array_equal(numpy(layer.kernel), before)
    step(real, fake, eps)
    np.testing.assert_allclose(numpy(layer.kernel), before - LEARNING_RATE * numpy(slope), atol=1e-7)
    assert np.max(np.abs(numpy(slope))) > 1e-2


MIRRORED = """
import keras, numpy as np, tensorflow as tf
from lipnb.reparam import SpectralNormalization
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")

def train(strategy):
    with strategy.scope():
        kernel = keras.initializers.RandomNormal(seed=1)
        layer = SpectralNormalization(keras.layers.Dense(4, kernel_initializer=kernel))
        model = keras.Sequential([keras.Input((6,)), layer, keras.layers.Dense(1, kernel_initializer=kernel)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, x[:, :1], batch_size=8, epochs=3, verbose=0, shuffle=False)
    return [w.numpy() for w in model.weights]

one = train(tf.distribute.get_strategy())
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
two = train(strategy)
for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
"""

DISTRIBUTED = """
import keras, numpy as np
from lipnb.reparam import SpectralNormalization
devices = keras.distribution.list_devices()
assert len(devices) == 2
x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")

def train():
    kernel = keras.initializers.RandomNormal(seed=1)
    layer = SpectralNormalization(keras.layers.Dense(4, kernel_initializer=kernel))
    model = keras.Sequential([keras.Input((6,)), layer, keras.layers.Dense(1, kernel_initializer=kernel)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, x[:, :1], batch_size=8, epochs=3, verbose=0, shuffle=False)
    return [np.array(w.value) for w in model.weights]

one = train()
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
for a, b in zip(one, train(), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
"""


@pytest.mark.parametrize(("backend", "script"), [("tensorflow", MIRRORED), ("jax", DISTRIBUTED)])
def test_two_devices_train_as_one(backend, script):
    """In a process of its own: devices are set up before the backend starts."""
    if keras.backend.backend() != backend:
        pytest.skip(f"tested in the run on {backend}")
    settings = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **settings},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
