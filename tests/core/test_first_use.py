"""A first hour with lipnb: every public name is used once, in or beside ``fit``, on whichever backend Keras runs."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import lipnb as package

# Keras 3.15 on TensorFlow with NumPy 2 warns whenever it saves a variable.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 6, 6, 1)).astype("float32")
TARGETS = RNG.normal(size=(12, 3)).astype("float32")


class Recorder:
    """The package, and the names that were taken from it."""

    def __init__(self):
        self.used = set()

    def __getattr__(self, name):
        self.used.add(name)
        return getattr(package, name)


def numpy(x):
    return ops.convert_to_numpy(x).astype("float64")


def constrained(lipnb):
    """A model with a wrapper, a constraint or a penalty on each of its kernels."""
    return keras.Sequential(
        [
            keras.Input(IMAGES.shape[1:]),
            lipnb.SpectralNormalization(layers.Conv2D(2, 3, strides=2), operator=True),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            lipnb.FrobeniusNormalization(layers.Dense(5, activation="relu")),
            layers.Dense(
                5,
                kernel_constraint=lipnb.SpectralClip(0.9),
                kernel_regularizer=lipnb.SpectralNormPenalty(0.1),
            ),
            layers.Dense(
                4,
                kernel_constraint=lipnb.FrobeniusClip(0.8),
                kernel_regularizer=lipnb.FrobeniusPenalty(0.1, 0.5),
            ),
            layers.Dense(3, kernel_constraint=lipnb.WeightClip(0.1)),
        ]
    )


def check_kernels(lipnb, model):
    """Each kernel has the norm that was asked for, by the exact norms of the library."""
    conv, frobenius, spectral, small, clipped = (layer for layer in model.layers if layer.weights)
    conv.update_vectors(100)
    kernel, shape = conv.normalized_weights()[0], IMAGES.shape[1:]
    norm = lipnb.conv_norm(kernel, shape, strides=2)
    assert norm == pytest.approx(1, rel=1e-3)
    assert norm == pytest.approx(lipnb.spectral_norm(lipnb.conv_matrix(kernel, shape, 2).toarray()), rel=1e-6)
    assert norm <= lipnb.conv_norm_bound(kernel, shape, strides=2)
    assert lipnb.frobenius_norm(frobenius.normalized_weights()[0]) == pytest.approx(1, rel=1e-5)
    assert lipnb.spectral_norm(spectral.kernel) <= 0.9 * (1 + 1e-5)
    assert lipnb.frobenius_norm(small.kernel) <= 0.8 * (1 + 1e-5)
    assert np.max(np.abs(numpy(clipped.kernel))) <= np.float32(0.1)


def check_model(lipnb, model):
    """The bound's table, the search from below, and the radii that the bound certifies."""
    bound = lipnb.lipschitz_bound(model, exact=True)
    assert isinstance(bound, lipnb.LipschitzBound)
    assert all(isinstance(row, lipnb.LayerBound) for row in bound.rows)
    assert str(bound).endswith(f"at most {float(bound):.6g}")
    estimate = lipnb.lipschitz_estimate(model, IMAGES, n_steps=20)
    assert 0 < float(estimate) <= float(bound) * (1 + 1e-5)
    radius = lipnb.certified_radius(model(IMAGES, training=False), bound)
    assert radius.shape == (len(IMAGES),)
    assert np.all(radius >= 0)


def check_estimates(lipnb, kernel):
    exact = lipnb.spectral_norm(kernel)
    few, many = (float(numpy(lipnb.spectral_norm_estimate(kernel, n, seed=0))) for n in (1, 200))
    assert few <= many * (1 + 1e-6) <= exact * (1 + 1e-5)
    sigma, u, _ = lipnb.power_iteration(kernel, None, 200)
    assert (float(numpy(sigma)), many) == (pytest.approx(exact, rel=1e-4),) * 2
    assert np.linalg.norm(numpy(u)) == pytest.approx(1, rel=1e-5)


class PenalisedCritic(keras.Sequential):
    """A critic whose loss under ``fit`` is its target's and a gradient penalty between the batch and noise."""

    penalty = None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        fitted = super().compute_loss(x, y, y_pred, sample_weight, training)
        return fitted + 10.0 * self.penalty(self, x, 0.5 * x, seed=1)


def check_critic(lipnb):
    """A penalty inside of ``fit`` brings the gradient's norm to 1, which the target alone, 0, does not."""
    critic = PenalisedCritic([keras.Input((4,)), layers.Dense(8, activation="tanh"), layers.Dense(1)])
    critic.penalty = lipnb.gradient_penalty
    critic.compile(keras.optimizers.Adam(0.05), "mse")
    x = RNG.normal(size=(32, 4)).astype("float32")
    critic.fit(x, np.zeros((32, 1)), batch_size=32, epochs=60, verbose=0)
    norms = numpy(lipnb.input_gradient_norm(critic, 0.75 * x))
    assert 0.5 < np.mean(norms) < 1.5
    assert np.max(norms) <= float(lipnb.lipschitz_bound(critic)) * (1 + 1e-5)


def test_every_public_name_is_used_in_or_beside_fit(tmp_path):
    lipnb = Recorder()
    keras.utils.set_random_seed(0)
    model = constrained(lipnb)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(IMAGES, TARGETS, batch_size=4, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    check_kernels(lipnb, model)
    check_model(lipnb, model)
    check_estimates(lipnb, model.layers[4].kernel)
    check_critic(lipnb)
    assert lipnb.used == set(package.__all__)
