"""The wrappers around what a user brings: layers without build, weights in lists, state in loops, LoRA, files."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reparam_cases import IMAGES, SEQUENCES, TOKENS, as_matrix, assert_same, numpy, wrap

from lipnb.autodiff import compile_step
from lipnb.conv_norms import conv_norm
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
X = SEQUENCES[0]


def largest_norms(layer):
    return [np.linalg.norm(as_matrix(numpy(w))[0], 2) for w in layer.normalized_weights()]


@keras.saving.register_keras_serializable(package="tests")
class Composed(layers.Layer):
    """Layers of ``__init__`` and no ``build``: Keras builds them by a call."""

    def __init__(self, tokens=False, **kwargs):
        super().__init__(**kwargs)
        self.tokens = tokens
        self.first = layers.Embedding(9, 4) if tokens else layers.Dense(4)
        self.second = layers.Dense(3)

    def call(self, inputs):
        return self.second(self.first(inputs))

    def get_config(self):
        return {**super().get_config(), "tokens": self.tokens}


@pytest.mark.parametrize(("tokens", "x"), [(False, X), (True, TOKENS)])
def test_a_layer_without_build_is_built_by_a_symbolic_call(tokens, x):
    called, built = (SpectralNormalization(Composed(tokens)) for _ in range(2))
    called(x)
    built.build(x.shape)
    for layer in (called, built):
        assert [k.path.split("/")[-1] for k in layer.kernels] == [
            "embeddings" if tokens else "kernel",
            "kernel",
        ]
        layer.update_vectors(50)
        assert largest_norms(layer) == pytest.approx([1, 1], rel=1e-3)
        np.testing.assert_allclose(numpy(layer.to_plain()(x)), numpy(layer(x)), atol=1e-6)


# Keras calls ``build`` of such a layer when it loads it, wrapped or not, and warns that it builds nothing.
@pytest.mark.once
@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer:UserWarning")
def test_a_layer_without_build_comes_back_from_a_file_and_a_clone(tmp_path):
    model = keras.Sequential([keras.Input((4,)), SpectralNormalization(Composed())])
    check_copies(model, [X], tmp_path)


def check_copies(model, inputs, folder):
    """A file and a clone with the weights give the same function and the same u, v."""
    model(inputs if len(inputs) > 1 else inputs[0], training=True)
    model.save(folder / "model.keras")
    loaded, clone = keras.models.load_model(folder / "model.keras"), keras.models.clone_model(model)
    clone.set_weights([numpy(w) for w in model.weights])
    for other in (loaded, clone):
        assert_same([numpy(w) for w in model.weights], [numpy(w) for w in other.weights])
        arguments = inputs if len(inputs) > 1 else inputs[0]
        np.testing.assert_allclose(numpy(other(arguments)), numpy(model(arguments)), atol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    "make", [lambda: layers.MultiHeadAttention(2, 3), lambda: layers.GroupQueryAttention(3, 4, 2)]
)
def test_attention_comes_back_from_a_file_and_a_clone(make, tmp_path):
    query, value = keras.Input((5, 4)), keras.Input((3, 4))
    layer = SpectralNormalization(make())
    model = keras.Model([query, value], layer(query, value))
    assert len(layer.kernels) == 4
    check_copies(model, [SEQUENCES, SEQUENCES[:, :3]], tmp_path)


class Listed(layers.Layer):
    """Weights in a list and in a dictionary, with names."""

    def build(self, input_shape):
        self.steps = [self.add_weight(shape=(input_shape[-1], 3), name="w0")]
        self.steps.append(self.add_weight(shape=(3, 3), name="w1"))
        self.more = {"last": self.add_weight(shape=(3, 2), name="w2")}

    def call(self, inputs):
        for w in (*self.steps, self.more["last"]):
            inputs = ops.matmul(inputs, w)
        return inputs


def test_weights_in_lists_and_dictionaries_are_found_by_their_names():
    layer = SpectralNormalization(Listed(), weight_names=["w0", "w2"])
    product = numpy(layer(np.eye(4, dtype="float32")))
    assert [k.name for k in layer.kernels] == ["w0", "w2"]
    first, last = map(numpy, layer.normalized_weights())
    np.testing.assert_allclose(product, first @ numpy(layer.layer.steps[1]) @ last, atol=1e-6)
    with pytest.raises(ValueError, match=r"names 'w3'.* Received: Listed with \['w0', 'w1', 'w2'\]"):
        SpectralNormalization(Listed(), weight_names=["w0", "w3"]).build((None, 4))


class Loop(layers.Layer):
    """A loop whose steps advance the state of a random generator."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(0.5, seed=1)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], input_shape[-1]), name="kernel")

    def call(self, inputs, training=None):
        once = lambda _, x: self.dropout(ops.matmul(x, self.kernel), training=training)  # noqa: E731
        return ops.fori_loop(0, 3, once, inputs)


def test_a_loop_that_updates_state_runs_as_in_the_plain_layer():
    if keras.backend.backend() == "jax":
        pytest.skip("on JAX Keras's variables cannot be assigned in a loop, wrapped or not")
    layer = wrap(Loop, X)
    plain = layer.to_plain()
    for _ in range(2):
        outputs = [
            numpy(
                compile_step(lambda x, one=one: one(x, training=True), one.variables)(
                    ops.convert_to_tensor(X)
                )
            )
            for one in (layer, plain)
        ]
        np.testing.assert_allclose(*outputs, atol=1e-6)
        assert np.any(outputs[0])
    assert_same(*([numpy(v) for v in one.dropout.variables] for one in (layer.layer, plain)))


def change(layer, what):
    if what == "LoRA":
        layer.enable_lora(2)
    else:
        layer.quantize(what)


@pytest.mark.once
@pytest.mark.parametrize("what", ["int8", "float8", "LoRA"])
def test_quantization_and_adapters_are_refused_after_the_build_too(what):
    model = keras.Sequential([keras.Input((4,)), SpectralNormalization(layers.Dense(3))])
    layer = model.layers[0]
    plain = layer.to_plain()
    change(layer.layer, what)
    for use in (lambda: model(X), layer.normalized_weights, layer.to_plain, layer.update_vectors):
        with pytest.raises(
            ValueError, match=rf"cannot be normalised: .*to_plain\(\).* Received: .* with {what}"
        ):
            use()
    change(plain, what)
    assert np.all(np.isfinite(numpy(plain(X))))


@pytest.mark.parametrize("wrapper", [SpectralNormalization, FrobeniusNormalization])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_kernel_that_is_not_finite_at_the_start_raises(wrapper, value):
    dense = layers.Dense(3, kernel_initializer=keras.initializers.Constant(value))
    with pytest.raises(ValueError, match="A kernel must be finite. Received: .*kernel.* NaN or infinite"):
        wrapper(dense).build((None, 4))


@pytest.mark.parametrize("kind", ["conv", "depthwise"])
def test_operator_of_a_convolution_with_channels_first(kind):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow's convolutions on a CPU are channels last")
    options = {"padding": "same", "data_format": "channels_first"}
    make = {
        "conv": lambda: layers.Conv2D(3, 3, **options),
        "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, **options),
    }[kind]
    first = np.moveaxis(IMAGES, -1, 1)
    layer = wrap(make, first, operator=True)
    layer.update_vectors(50)
    norm = conv_norm(layer.normalized_weights()[0], IMAGES.shape[1:], padding="same", kind=kind)
    assert norm == pytest.approx(1, rel=5e-3)
    assert layer(first).shape == make().compute_output_shape(first.shape)
