"""What keras.layers.SpectralNormalization promises its users, asked of ours; differences are marked by words.

Each test answers one behaviour of Keras 3.15's own tests of that layer, as the page on using lipnb lists them.
"""

import keras
import numpy as np
import pytest
from keras import layers
from reparam_cases import numpy

from lipnb.reparam import SpectralNormalization

RNG = np.random.default_rng(9)
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.mark.parametrize(
    ("make", "x", "output_shape", "n_trainable"),
    [
        (lambda: layers.Dense(2), RNG.uniform(size=(10, 3, 4)), (10, 3, 2), 2),
        (lambda: layers.Dense(2), RNG.uniform(size=(10, 3, 4, 5)), (10, 3, 4, 2), 2),
        (lambda: layers.Embedding(10, 4), RNG.integers(10, size=(10,)).astype("float32"), (10, 4), 1),
    ],
)
def test_basic_use(make, x, output_shape, n_trainable, tmp_path):
    """Shapes, weights, losses; config, symbolic call and file. Ours stores v beside u: one more weight."""
    layer = SpectralNormalization(make())
    output = layer(x)
    assert tuple(output.shape) == output_shape
    assert layer.compute_output_shape(x.shape) == output_shape
    assert len(layer.trainable_weights) == n_trainable
    assert len(layer.non_trainable_weights) == 2
    assert layer.losses == []
    assert layer.supports_masking == make().supports_masking  # theirs: never
    again = SpectralNormalization.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    inputs = keras.Input(batch_shape=x.shape)
    model = keras.Model(inputs, layer(inputs))
    assert model.output.shape == output_shape
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(x)), numpy(model(x)), atol=1e-6)


def test_number_of_iterations_must_be_positive():
    with pytest.raises(ValueError, match="n_iter must be an integer of at least 1. Received: 0"):
        SpectralNormalization(layers.Dense(2), power_iterations=0)
    assert SpectralNormalization(layers.Dense(2), power_iterations=3).n_iter == 3


def test_layer_without_a_kernel_is_refused():
    with pytest.raises(ValueError, match="must have a weight of the names .*'embeddings', 'kernel'"):
        SpectralNormalization(layers.ReLU())(np.ones((4, 2)))


def test_all_ones_kernel_is_divided_by_its_norm():
    """Theirs gives 4 at inference and 2 in training; ours 2 in both, and leaves the kernel as it was."""
    conv = layers.Conv2D(
        1, (2, 2), kernel_initializer=keras.initializers.Constant(1), data_format="channels_last"
    )
    layer = SpectralNormalization(conv, power_iterations=8)
    images = np.ones((1, 2, 2, 1))
    np.testing.assert_allclose(numpy(layer(images, training=False)), [[[[2.0]]]], rtol=1e-6)
    np.testing.assert_allclose(numpy(layer(images, training=True)), [[[[2.0]]]], rtol=1e-6)
    np.testing.assert_array_equal(numpy(layer.kernel), 1)


def test_end_to_end():
    conv = layers.Conv2D(3, (2, 2), padding="same", data_format="channels_last")
    model = keras.Sequential([SpectralNormalization(conv, power_iterations=2)])
    model.compile("rmsprop", loss="mse")
    history = model.fit(RNG.random((4, 8, 8, 3)), RNG.random((4, 8, 8, 3)), epochs=2, verbose=0)
    assert np.all(np.isfinite(history.history["loss"]))


def test_weights_of_a_model_with_their_wrapper_can_be_taken_over():
    """Their weights are kernel, bias, vector_u; the kernel and bias move over, and u, v are iterated anew."""
    theirs = keras.layers.SpectralNormalization(layers.Dense(3), power_iterations=30)
    ours = SpectralNormalization(layers.Dense(3))
    x = RNG.normal(size=(5, 4)).astype("float32")
    theirs(x, training=True)
    ours.build((None, 4))
    ours.layer.set_weights(theirs.layer.get_weights())
    ours.update_vectors(50)
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-2)
