"""The wrappers look like the layer they wrap: attention, masks, state, losses, dtypes, configs, files, errors."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reparam_cases import IMAGES, SEQUENCES, TOKENS, assert_same, numpy, stored, wrap

from lipnb.autodiff import value_and_grad
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization

# Keras 3.15 on TensorFlow with NumPy 2 warns whenever it saves a variable.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def norms(layer):
    """Spectral norms of the normalised weights as matrices (−1, shape[-1])."""
    weights = [numpy(w) for w in layer.normalized_weights()]
    return [np.linalg.norm(w.reshape(-1, w.shape[-1]), 2) for w in weights]


def test_attention_projections():
    layer = SpectralNormalization(layers.MultiHeadAttention(2, 3), n_iter=3)
    query, value = SEQUENCES, SEQUENCES[:, :3]
    assert layer(query, value, training=True).shape == (2, 5, 4)
    layer.update_vectors(60)
    *projections, output = [numpy(w) for w in layer.normalized_weights()]
    assert len(projections) == 3
    for w in projections:  # (features, heads, key size): features are contracted
        assert np.linalg.norm(w.reshape(4, -1), 2) == pytest.approx(1, rel=1e-2)
    assert np.linalg.norm(output.reshape(-1, 4), 2) == pytest.approx(1, rel=1e-2)
    loaded = SpectralNormalization.from_config(layer.get_config())
    loaded.build((2, 5, 4))
    loaded.set_weights([numpy(w) for w in layer.weights])
    np.testing.assert_allclose(numpy(loaded(query, value)), numpy(layer(query, value)), atol=1e-6)


def test_attention_passes_its_own_arguments_on():
    layer = SpectralNormalization(layers.MultiHeadAttention(2, 3))
    output, scores = layer(SEQUENCES, SEQUENCES, return_attention_scores=True, use_causal_mask=True)
    assert output.shape == (2, 5, 4)
    assert np.all(numpy(scores)[:, :, 0, 1:] == 0)


def test_masks_reach_the_layer_and_pass_through():
    embedding = layers.Embedding(9, 4, mask_zero=True)
    model = keras.Sequential([embedding, SpectralNormalization(layers.LSTM(3, return_sequences=True))])
    assert model.layers[1].supports_masking
    output = model(TOKENS)
    padded = model(np.concatenate([TOKENS, np.zeros((2, 2), "int32")], axis=1))
    np.testing.assert_allclose(numpy(padded)[:, -1], numpy(output)[:, -1], atol=1e-6)
    inputs = keras.Input((3,), dtype="int32")
    masked = SpectralNormalization(layers.Embedding(9, 4, mask_zero=True))(inputs)
    assert model.layers[1](masked)._keras_mask is not None


def test_initial_and_returned_states_of_an_rnn():
    layer = SpectralNormalization(layers.LSTM(3, return_state=True))
    _, h, c = layer(SEQUENCES)
    again = layer(SEQUENCES, initial_state=[h, c])
    plain = layer.to_plain()
    for actual, expected in zip(again, plain(SEQUENCES, initial_state=[h, c]), strict=True):
        np.testing.assert_allclose(numpy(actual), numpy(expected), atol=1e-5)


def test_states_of_a_stateful_rnn_are_kept():
    layer = SpectralNormalization(layers.SimpleRNN(3, stateful=True))
    first, second = numpy(layer(SEQUENCES)), numpy(layer(SEQUENCES))
    assert np.any(first != second)
    np.testing.assert_array_equal(numpy(layer.layer.states[0]), second.astype("float32"))


class Block(layers.Layer):
    """Everything that a layer may do besides computing: batch norm, dropout, a loss, a metric, regularizers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5))
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.5, seed=1)
        self.mean = keras.metrics.Mean()

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.norm.build((*input_shape[:-1], 3))

    def call(self, inputs, training=None):
        y = self.dropout(self.norm(self.dense(inputs), training=training), training=training)
        self.add_loss(ops.mean(y**2))
        self.mean.update_state(ops.mean(y))
        return y


def test_updates_losses_and_metrics_inside_the_layer_are_those_of_the_plain_layer():
    layer = SpectralNormalization(Block())
    layer.build((None, 4))
    weight = numpy(layer.kernel)
    plain = Block()
    plain.build((None, 4))
    for new, old in zip(plain.variables, layer.layer.variables, strict=True):
        new.assign(ops.copy(old))
    plain.dense.kernel.assign(ops.copy(layer.normalized_weights()[0]))
    x = SEQUENCES[0]
    for _ in range(2):
        np.testing.assert_allclose(numpy(layer(x, training=True)), numpy(plain(x, training=True)), atol=1e-5)
        (added, penalty), (plain_added, _) = layer.losses, plain.losses
        assert float(numpy(added)) == pytest.approx(float(numpy(plain_added)), rel=1e-4)
        assert float(numpy(penalty)) == pytest.approx(0.5 * np.sum(weight**2), rel=1e-5)  # of W, not of W/σ
    for actual, expected in zip(layer.layer.variables, plain.variables, strict=True):
        if expected is not plain.dense.kernel:
            np.testing.assert_allclose(numpy(actual), numpy(expected), atol=1e-5)


def test_updates_inside_reach_the_gradient_scope():
    layer = SpectralNormalization(Block())
    layer.build((None, 4))
    before = stored(layer)
    value_and_grad(
        lambda: ops.sum(layer(SEQUENCES[0], training=True)), layer.trainable_variables, layer.variables
    )
    changed = [np.any(a != b) for a, b in zip(before, stored(layer), strict=True)]
    names = [v.name for v in layer.non_trainable_variables]
    assert {n for n, c in zip(names, changed, strict=True) if c} >= {"moving_mean", "moving_variance"}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_sigma_in_float32(policy):
    dense = layers.Dense(3, use_bias=False, dtype=policy)
    layer = SpectralNormalization(dense, n_iter=5)
    model = keras.Sequential([keras.Input((4,)), layers.Activation("linear", dtype=policy), layer])
    assert model.outputs[0].dtype == policy.removeprefix("mixed_")
    layer.kernel.assign(60_000 * np.eye(4, 3) + 20_000)  # its squares overflow in float16
    layer.update_vectors(30)
    output = model(np.eye(4, dtype="float32"), training=True)
    assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")
    assert {v.dtype for v in layer.variables} == {"float32"}
    (weight,) = layer.normalized_weights()
    assert np.linalg.norm(numpy(weight), 2) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(numpy(ops.cast(output, "float32")), numpy(weight), atol=2e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_variables(dtype):
    layer = wrap(lambda: layers.Dense(3, dtype=dtype), SEQUENCES)
    assert {v.dtype for v in layer.non_trainable_variables} == {"float32"}
    layer(SEQUENCES, training=True)
    layer.update_vectors(60)
    (weight,) = layer.normalized_weights()
    assert np.linalg.norm(numpy(ops.cast(weight, "float32")), 2) == pytest.approx(1, rel=2e-2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpectralNormalization(
            layers.Conv2D(3, 3), 2, True, 0.5, True, u_initializer="ones", seed=3, name="sn", trainable=False
        ),
        lambda: SpectralNormalization(layers.Conv2D(3, 3), weight_names=["kernel"]),
        lambda: FrobeniusNormalization(layers.Conv2D(3, 3), 0.5, shrink_only=True),
    ],
)
def test_config_clone_and_file_give_the_same_layer(make, tmp_path):
    model = keras.Sequential([keras.Input(IMAGES.shape[1:]), make()])
    model(IMAGES, training=True)
    config = model.layers[0].get_config()
    again = type(model.layers[0]).from_config(config)
    assert again.get_config() == model.layers[0].get_config()
    clone = keras.models.clone_model(model)
    clone.set_weights([numpy(w) for w in model.weights])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for other in (clone, loaded):
        assert_same(stored(model), stored(other))
        np.testing.assert_allclose(numpy(other(IMAGES)), numpy(model(IMAGES)), atol=1e-6)


def test_weights_alone_are_saved_with_u_and_v(tmp_path):
    first, second = (
        keras.Sequential([keras.Input((4,)), SpectralNormalization(layers.Dense(3), seed=i)]) for i in (0, 1)
    )
    first(SEQUENCES[0], training=True)
    first.save_weights(tmp_path / "model.weights.h5")
    second.load_weights(tmp_path / "model.weights.h5")
    assert_same(stored(first), stored(second))


def test_shapes_specs_and_counts_are_the_layers():
    inputs = keras.Input((7, 6, 4))
    layer = SpectralNormalization(layers.Conv2D(3, 3, strides=2))
    assert layer(inputs).shape == (None, 3, 2, 3)
    assert layer.compute_output_shape((None, 7, 6, 4)) == (None, 3, 2, 3)
    assert [v.name for v in layer.trainable_variables] == ["kernel", "bias"]
    assert [v.name for v in layer.non_trainable_variables] == ["u_0", "v_0"]
    assert len(layer.weights) == 4
    assert layer.kernel is layer.layer.kernel


def test_wrapping_a_built_layer_keeps_its_weights():
    dense = layers.Dense(3)
    dense.build((None, 4))
    before = numpy(dense.kernel)
    layer = SpectralNormalization(dense)
    layer(SEQUENCES[0], training=True)
    np.testing.assert_array_equal(numpy(layer.kernel), before)


def test_shared_layer_in_a_functional_model():
    layer = SpectralNormalization(layers.Dense(4))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(layer(inputs)))
    plain = layer.to_plain()
    np.testing.assert_allclose(numpy(model(SEQUENCES[0])), numpy(plain(plain(SEQUENCES[0]))), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SpectralNormalization("dense"), ValueError, "dense"),
        (lambda: SpectralNormalization(layers.Dense(2), 0), ValueError, "n_iter must be .* Received: 0"),
        (
            lambda: SpectralNormalization(layers.Dense(2), norm=0.0),
            ValueError,
            "norm must be .* Received: 0.0",
        ),
        (lambda: SpectralNormalization(layers.Dense(2), seed=-1), ValueError, "seed must be .* Received: -1"),
        (
            lambda: SpectralNormalization(layers.Dense(2), u_initializer="zeros"),
            ValueError,
            "u_initializer must be one of .* Received: 'zeros'",
        ),
        (
            lambda: SpectralNormalization(layers.Dense(2), weight_names="kernel"),
            TypeError,
            "weight_names must be a sequence of names. Received: 'kernel'",
        ),
        (lambda: FrobeniusNormalization(layers.Dense(2), -1.0), ValueError, "norm must be .* Received: -1.0"),
        (
            lambda: SpectralNormalization(layers.LSTMCell(2)),
            ValueError,
            "cell cannot be wrapped.* Received: LSTMCell",
        ),
    ],
)
def test_bad_arguments_raise_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()


def lora():
    layer = layers.Dense(2)
    layer.build((None, 4))
    layer.enable_lora(1)
    return layer


@pytest.mark.parametrize(
    ("layer", "options", "error", "message"),
    [
        (layers.ReLU, {}, ValueError, "must have a weight .* Received: ReLU with"),
        (
            lambda: layers.Dense(2),
            {"weight_names": ["filter"]},
            ValueError,
            "'filter'.* Received: Dense with",
        ),
        (
            lambda: layers.Dense(2),
            {"weight_names": ["bias"]},
            ValueError,
            r"rank 2 or more. Received: shape \(2,\)",
        ),
        (
            lambda: layers.ConvLSTM1D(2, 2),
            {"operator": True},
            ValueError,
            "operator=True needs .* Received: ConvLSTMCell",
        ),
        (lora, {}, ValueError, "LoRA cannot be normalised: .* Received: .* with LoRA"),
    ],
)
def test_layers_without_a_matrix_raise_at_build(layer, options, error, message):
    wrapper = SpectralNormalization(layer(), **options)
    with pytest.raises(error, match=message):
        wrapper.build((None, 5, 4, 3) if "LSTM" in type(wrapper.layer).__name__ else (None, 4))


def test_operator_needs_a_static_input_shape():
    layer = SpectralNormalization(layers.Conv2D(2, 3), operator=True)
    with pytest.raises(ValueError, match=r"static input shape. Received: \(None, None, 6, 4\)"):
        layer.build((None, None, 6, 4))
