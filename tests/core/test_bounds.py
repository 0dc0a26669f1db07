"""The walk over the graph: how constants combine, what is folded, refused or named."""

import json
import math
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
import scipy.linalg
from keras import layers, ops
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from linear_models import matrix, randomized

from lipnb.bounds import lipschitz_bound
from lipnb.reparam import SpectralNormalization


def scaled(x, factor):
    return layers.Rescaling(factor)(x)


def norm_of_linear(model):
    return scipy.linalg.svdvals(matrix(model))[0]


def kinds(bound):
    return {row.layer: row.kind for row in bound.rows}


# Branches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (layers.Add, 5),
        (layers.Subtract, 5),
        (layers.Average, 2.5),
        (layers.Concatenate, math.hypot(2, 3)),
        (layers.Maximum, math.hypot(2, 3)),
        (layers.Minimum, math.hypot(2, 3)),
    ],
)
def test_branches_of_one_input(merge, expected):
    x = keras.Input((4,))
    model = keras.Model(x, merge()([scaled(x, 2), scaled(x, -3)]))
    assert float(lipschitz_bound(model)) == pytest.approx(expected)


def test_the_scaled_residual_of_inception_resnet():
    x = keras.Input((4,))
    model = keras.Model(x, CustomScaleLayer(-0.5)([scaled(x, 2), scaled(x, -3)]))
    assert float(lipschitz_bound(model)) == pytest.approx(2 + 0.5 * 3)


@pytest.mark.parametrize("merge", [layers.Add, layers.Subtract, layers.Concatenate, layers.Maximum])
def test_branches_of_two_inputs_join_in_quadrature(merge):
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], merge()([scaled(a, 2), scaled(b, 3)]))
    assert float(lipschitz_bound(model)) == pytest.approx(math.hypot(2, 3))


def test_two_outputs_are_one_vector():
    a, b = keras.Input((4,)), keras.Input((4,))
    assert float(lipschitz_bound(keras.Model([a, b], [scaled(a, 2), scaled(b, 3)]))) == pytest.approx(3)
    assert float(lipschitz_bound(keras.Model(a, [scaled(a, 2), scaled(a, 3)]))) == pytest.approx(
        math.hypot(2, 3)
    )
    x = layers.Add()([a, b])
    assert float(lipschitz_bound(keras.Model([a, b], {"sum": x, "first": a}))) == pytest.approx(
        np.linalg.norm([[1, 1], [1, 0]], 2)
    )


def test_a_tensor_added_to_itself_doubles():
    x = keras.Input((4,))
    assert float(lipschitz_bound(keras.Model(x, layers.Add()([x, x])))) == 2


@pytest.mark.parametrize("merge", [layers.Add(), layers.Maximum(), lambda pair: pair[0] + pair[1]])
def test_a_branch_that_is_repeated_counts_its_copies(merge):
    x = keras.Input((5, 3))
    row = layers.Cropping1D((0, 4))(x)
    model = keras.Model(x, merge([scaled(x, 2), row]))
    copies = math.sqrt(5)
    expected = math.hypot(2, copies) if isinstance(merge, layers.Maximum) else 2 + copies
    assert float(lipschitz_bound(model)) == pytest.approx(expected)


def test_a_residual_adds_one():
    x = keras.Input((4,))
    h = layers.Dense(4, activation="relu", name="inner")(x)
    model = keras.Model(x, layers.Add()([x, h]))
    norm = np.linalg.norm(model.get_layer("inner").get_weights()[0].astype(float), 2)
    assert float(lipschitz_bound(model)) == pytest.approx(1 + norm)


def test_an_unused_input_counts_nothing():
    a, b = keras.Input((4,)), keras.Input((4,))
    assert float(lipschitz_bound(keras.Model([a, b], scaled(a, 2)))) == 2


# Shared layers and nested models -------------------------------------------------------------------------


def test_a_shared_layer_counts_each_time():
    x, layer = keras.Input((4,)), layers.Dense(4, use_bias=False)
    model = keras.Model(x, layer(layer(x)))
    norm = np.linalg.norm(layer.get_weights()[0].astype(float), 2)
    bound = lipschitz_bound(model)
    assert float(bound) == pytest.approx(norm**2)
    assert [row.layer for row in bound.rows] == [layer.name] * 2


def test_nested_models_are_walked():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model([a, b], [layers.Add(name="sum")([scaled(a, 2), b]), scaled(b, 5)], name="inner")
    wrapped = keras.Sequential([keras.Input((4,)), layers.Rescaling(3.0, name="third")], name="wrapped")
    x, y = keras.Input((4,)), keras.Input((4,))
    first, second = inner([wrapped(x), y])
    bound = lipschitz_bound(keras.Model([x, y], [first, second]))
    assert float(bound) == pytest.approx(np.linalg.norm([[6, 1], [0, 5]], 2))
    assert {"inner/sum", "wrapped/third"} <= set(kinds(bound))


def test_a_nested_model_called_with_its_inputs_in_another_order_is_refused():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model([a, b], layers.Subtract()([scaled(a, 2), b]), name="inner")
    x, y = keras.Input((4,)), keras.Input((4,))
    bound = lipschitz_bound(keras.Model([x, y], inner({"b": x, "a": y})))
    assert math.isinf(float(bound))
    assert "inner" in bound.reasons[0]


@pytest.mark.once
def test_a_nested_model_called_at_another_size_is_refused():
    """Keras does not check the shapes of nested inputs; at 32×32 a convolution's norm is more than twice that at 2×2."""
    inner_input = keras.Input((2, 2, 1))
    conv = layers.Conv2D(1, 3, padding="same", kernel_initializer="ones", use_bias=False)
    inner = keras.Model({"a": {"b": inner_input}}, conv(inner_input), name="inner")
    x = keras.Input((32, 32, 1))
    model = keras.Model(x, inner({"a": {"b": x}}))
    bound = lipschitz_bound(model, exact=True)
    ones = np.ones((1, 32, 32, 1), "float32")
    assert (
        np.linalg.norm(ops.convert_to_numpy(model(ones))) / 32 > 8 > float(lipschitz_bound(inner, exact=True))
    )
    assert math.isinf(float(bound))
    assert "inner" in bound.reasons[0]
    assert "(None, 32, 32, 1)" in bound.reasons[0]


@pytest.mark.parametrize(("own", "given"), [((None, 3), (5, 3)), ((None, 3), (None, 3)), ((4,), (4, 1))])
def test_a_nested_model_called_at_a_size_that_it_knows_is_walked(own, given):
    inner_input, x = keras.Input(own), keras.Input(given)
    inner = keras.Model(inner_input, scaled(inner_input, 2))
    assert float(lipschitz_bound(keras.Model(x, inner(x)))) == 2


def test_a_wrapped_model_must_fit_what_it_is_called_with():
    inner = keras.Sequential([keras.Input((4,)), layers.Rescaling(2.0)])
    x = keras.Input((3, 4))
    assert float(lipschitz_bound(keras.Model(x, layers.TimeDistributed(inner)(x)))) == 2


# Integers ------------------------------------------------------------------------------------------------


def test_keras_wrapper_casts_to_integers_where_its_input_is_one():
    """Rows 1.9 and 1.1 come out as 1, and 0.9 as 0: a jump that no constant of the embedding bounds."""
    x = keras.Input((3,), dtype="int32")
    model = keras.Model(x, layers.SpectralNormalization(layers.Embedding(4, 2))(x))
    assert "casts" in lipschitz_bound(model).reasons[0]
    tokens = keras.Input((3,), dtype="int32")
    model = keras.Model(tokens, SpectralNormalization(layers.Embedding(4, 2))(tokens))  # ours does not
    assert float(lipschitz_bound(model)) == pytest.approx(norm_of_embedding(model), rel=1e-6)


def norm_of_embedding(model):
    return np.linalg.norm(ops.convert_to_numpy(model.layers[1].normalized_weights()[0]).astype(float), 2)


def test_a_layer_that_computes_in_integers_rounds_what_it_is_given():
    """0.99 and 1 become 0 and 1: Keras casts floats to the dtype of any layer's policy."""
    x = keras.Input((2, 1))
    model = keras.Model(x, layers.Identity(dtype="int32")(x))
    assert "computes in int32" in lipschitz_bound(model).reasons[0]
    low, high = (ops.convert_to_numpy(model(np.full((1, 2, 1), v, "float32"))).sum() for v in (0.99, 1.0))
    assert high - low == 2


@pytest.mark.parametrize(
    ("before", "finite"),
    [
        ([layers.Rescaling(1 / 255)], True),
        ([layers.Dense(3)], True),
        ([layers.Dropout(0.5)], False),  # said to be float32, and integers when the model runs
        ([layers.SpectralNormalization(layers.Dense(3))], False),
        ([], False),
    ],
)
def test_keras_wrapper_is_bounded_where_floats_reach_it(before, finite):
    wrapped = layers.SpectralNormalization(layers.Dense(3))
    model = keras.Sequential([keras.Input((3,), dtype="uint8"), *before, wrapped])
    assert math.isfinite(float(lipschitz_bound(model))) is finite


# Batch normalization -------------------------------------------------------------------------------------


FOLDED = [
    (layers.Dense(5), (6,)),
    (layers.Conv1D(4, 3, strides=2), (9, 3)),
    (layers.Conv2D(4, 3, padding="same", groups=2), (5, 5, 4)),
    (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 3)),
    (layers.Conv2DTranspose(3, 3, strides=2), (3, 4, 2)),
    (SpectralNormalization(layers.Conv2D(3, 2)), (4, 4, 2)),
]


@pytest.mark.once
@pytest.mark.parametrize(("layer", "shape"), FOLDED)
def test_batch_normalization_folds_into_the_linear_layer(layer, shape):
    x = keras.Input(shape)
    model = randomized(keras.Model(x, layers.BatchNormalization()(layer(x))))
    bound = lipschitz_bound(model)
    assert float(bound) == pytest.approx(norm_of_linear(model), rel=1e-5)
    assert [row.kind for row in bound.rows] == ["exact", "exact"]
    assert "folded" in bound.rows[1].note


@pytest.mark.once
def test_folding_a_separable_convolution_is_never_worse_than_not_folding():
    x = keras.Input((6, 6, 2))
    h = layers.SeparableConv2D(4, 3)(x)
    y = layers.BatchNormalization()(h)
    folded, both = randomized(keras.Model(x, y)), keras.Model(x, [y, layers.Rescaling(0.0)(h)])
    assert norm_of_linear(folded) <= float(lipschitz_bound(folded)) * (1 + 1e-5)
    assert float(lipschitz_bound(folded)) < float(lipschitz_bound(both))


@pytest.mark.parametrize("case", ["activation", "used twice", "an output", "other axis"])
def test_batch_normalization_is_not_folded_where_it_may_not_be(case):
    x = keras.Input((4, 6))
    h = layers.Dense(6, activation="relu" if case == "activation" else None, name="dense")(x)
    y = layers.BatchNormalization(axis=1 if case == "other axis" else -1, name="bn")(h)
    outputs = {"used twice": layers.Concatenate()([h, y]), "an output": [h, y]}.get(case, y)
    model = randomized(keras.Model(x, outputs))
    rows = {row.layer: row for row in lipschitz_bound(model).rows}
    kernel, bn = model.get_layer("dense").get_weights()[0], model.get_layer("bn")
    gamma, _, _, variance = bn.get_weights()
    assert rows["dense"].constant == pytest.approx(np.linalg.norm(kernel.astype(float), 2))
    assert rows["bn"].constant == pytest.approx(
        (np.abs(gamma) / np.sqrt(variance + bn.epsilon)).max(), rel=1e-5
    )


# Operators on symbolic tensors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: 3.0 - x * 2.0, 2),
        (lambda x: (x + 1.0) / 4.0, 0.25),
        (lambda x: -x, 1),
        (lambda x: x * np.array([1.0, -5.0, 2.0], "float32"), 5),
        (lambda x: x[:, :1] + np.zeros((7, 3), "float32"), math.sqrt(7)),
        (lambda x: x[:, 1:3], 1),
        (lambda x: x[:, 0], 1),
        (lambda x: x[()], 1),
        (lambda x: x[..., :1] * np.array([1.0, 2.0, 3.0], "float32"), 3 * math.sqrt(3)),
        (lambda x: x * np.ones((2, 1, 5, 3), "float32"), math.inf),
        (lambda x: x[..., :1, ::2], 1),
        (lambda x: x[..., 0, 0, 0], math.inf),
        (lambda x: x[0], math.inf),
        (lambda x: x - 2.0 * x, 3),
        (lambda x: ops.relu(x), 1),
        (lambda x: ops.sigmoid(x), 0.25),
        (lambda x: 1.0 / x, math.inf),
        (lambda x: x / 0.0, math.inf),
        (lambda x: x * x, math.inf),
        (lambda x: ops.sum(x, axis=1), math.inf),
        (lambda x: ops.abs(x), 1),
        (lambda x: ops.maximum(x, 0.5), 1),
        (lambda x: ops.minimum(x[:, :1], np.zeros((7, 3), "float32")), math.sqrt(7)),
        (lambda x: ops.maximum(2.0 * x, 3.0 * x), math.sqrt(13)),
        (lambda x: ops.minimum(x, -x), math.sqrt(2)),
        (lambda x: ops.clip(x, -1.0, 1.0), 1),
        (lambda x: ops.clip(x, np.zeros((7, 5, 3), "float32"), 1.0), math.inf),
        (lambda x: ops.concatenate([x, 2.0 * x], axis=-1), math.sqrt(5)),
        (lambda x: ops.concatenate([x, x], axis=0), math.inf),
        (lambda x: ops.reshape(x, (-1, 15)), 1),
        (lambda x: ops.reshape(x, (-1, 5)), math.inf),
    ],
)
def test_operators(function, expected):
    x = keras.Input((5, 3))
    bound = lipschitz_bound(keras.Model(x, function(x)))
    assert float(bound) == pytest.approx(expected)
    assert bool(bound.reasons) is math.isinf(expected)


def test_inputs_may_be_given_by_name():
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), layers.Rescaling(3.0)])
    y = layers.Add()(inputs=[layers.Rescaling(2.0)(inputs=x), inner(inputs=x)])
    assert float(lipschitz_bound(keras.Model(x, y))) == pytest.approx(5)


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="the others refuse such a layer when they call it"
)
def test_a_transposed_convolution_that_jax_alone_computes_has_a_named_reason():
    x = keras.Input((4, 3, 2))
    y = layers.Conv2DTranspose(2, 4, strides=2, padding="same", output_padding=0, name="up")(x)
    (reason,) = lipschitz_bound(keras.Model(x, y)).reasons
    assert "up (Conv2DTranspose): no rule for its output_padding" in reason


def test_operators_on_an_open_size():
    x = keras.Input((None, 1))
    bound = lipschitz_bound(keras.Model(x, x * np.array([1.0, 2.0, 3.0], "float32")))
    assert (float(bound), bound.rows[0].kind) == (pytest.approx(3 * math.sqrt(3)), "upper bound")
    bound = lipschitz_bound(keras.Model(x, x + np.zeros((7, 1), "float32")))
    assert "how often it repeats" in bound.reasons[0]


@pytest.mark.parametrize("function", [lambda x: x * math.nan, lambda x: x + np.inf, lambda x: x / np.nan])
def test_operators_with_numbers_that_are_not_finite_are_refused(function):
    x = keras.Input((5, 3))
    with pytest.raises(ValueError, match="finite numbers. Received:"):
        lipschitz_bound(keras.Model(x, function(x)))


# What has no constant ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda x: layers.Multiply()([x, layers.Dense(3)(x)]), "product of branches"),
        (lambda x: layers.Dot(axes=1)([x, x]), "product of branches"),
        (lambda x: layers.Attention()([x, x]), "attention"),
        (lambda x: layers.AdditiveAttention()([x, x]), "additive attention"),
        (lambda x: layers.MultiHeadAttention(1, 2)(x, x), "dot-product attention"),
        (lambda x: SpectralNormalization(layers.MultiHeadAttention(1, 2))(x, x), "dot-product attention"),
        (lambda x: ops.sum(x, axis=1), "rules={keras.src.ops.numpy.Sum: lambda"),
        (lambda x: layers.GroupQueryAttention(2, 2, 1)(x, x), "dot-product attention"),
        (lambda x: layers.Activation("exponential")(x), "exp"),
        (lambda x: layers.LSTM(2, return_state=True)(x)[0], "several tensors"),
        (lambda x: layers.LSTM(2)(x, initial_state=[layers.Flatten()(x)] * 2), "initial_state"),
        (lambda x: layers.LSTM(2)(x, [np.full((1, 2), 1e3, "float32")] * 2), "initial_state"),
        (lambda x: layers.Rescaling([1.0, 2.0])(layers.Reshape((6, 1))(x)), "repeat the entries"),
        (lambda x: layers.Rescaling(1.0, offset=[1.0, 2.0])(layers.Reshape((6, 1))(x)), "repeat the entries"),
        (lambda x: layers.Softmax()(x, mask=np.ones((1, 3), bool)), "mask"),
        (lambda x: layers.Resizing(4, 4)(layers.Reshape((2, 3, 1))(x)), "rules={Resizing"),
    ],
)
def test_the_layer_and_the_reason_are_named(build, reason):
    x = keras.Input((2, 3))
    bound = lipschitz_bound(keras.Model(x, build(x)))
    assert float(bound) == math.inf
    assert len(bound.reasons) == 1
    assert reason in bound.reasons[0]
    assert bound.reasons[0].split(" ")[0] in [row.layer for row in bound.rows]


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_a_quantized_layer_rounds_and_so_has_no_constant(mode):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
    model.layers[0].quantize(mode)
    assert f"quantized ({mode})" in lipschitz_bound(model).reasons[0]


def test_low_rank_adapters_count():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
    model.layers[0].enable_lora(2)
    assert float(lipschitz_bound(randomized(model))) == pytest.approx(norm_of_linear(model), rel=1e-5)


class Doubled(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


class Scaled(layers.Layer):
    def call(self, *inputs):
        return 3 * sum(inputs)


def test_a_subclass_is_not_taken_for_its_parent_and_a_rule_can_be_given():
    model = keras.Sequential([keras.Input((3,)), Doubled(2)])
    assert "Doubled" in lipschitz_bound(model).reasons[0]
    norm = np.linalg.norm(model.layers[0].get_weights()[0].astype(float), 2)
    rules = {Doubled: lambda layer, shape: 2 * norm if layer is model.layers[0] and shape == (3,) else 0.0}
    bound = lipschitz_bound(model, rules=rules)
    assert float(bound) == pytest.approx(2 * norm)
    assert bound.rows[0].kind == "upper bound"


def test_a_given_rule_goes_first_and_serves_wrapped_and_several_inputs():
    x = keras.Input((4, 3))
    model = keras.Model(x, layers.TimeDistributed(Doubled(2))(x))
    assert float(lipschitz_bound(model, rules={Doubled: lambda layer, shape: 7.0})) == 7
    assert (
        float(
            lipschitz_bound(keras.Model(x, layers.ReLU()(x)), rules={layers.ReLU: lambda layer, shape: 0.5})
        )
        == 0.5
    )
    y = keras.Input((4, 3))
    shapes = []
    bound = lipschitz_bound(
        keras.Model([x, y], Scaled()(scaled(x, 2), y)),
        rules={Scaled: lambda layer, shape: shapes.append(shape) or 3.0},
    )
    assert float(bound) == pytest.approx(3 * math.hypot(2, 1))
    assert shapes == [[(4, 3), (4, 3)]]


@pytest.mark.parametrize("linear", [layers.Dense(3), SpectralNormalization(layers.Dense(3))])
def test_a_given_rule_is_not_folded_away(linear):
    x = keras.Input((3,))
    model = randomized(keras.Model(x, layers.BatchNormalization(name="bn")(linear(x))))
    bn = {
        row.layer: row.constant
        for row in lipschitz_bound(model, rules={Doubled: lambda layer, shape: 0.0}).rows
    }
    assert bn["bn"] == 1  # folded, as no given rule concerns it
    for rules in (
        {layers.Dense: lambda layer, shape: 7.0},
        {layers.BatchNormalization: lambda layer, shape: 7.0},
    ):
        constants = [row.constant for row in lipschitz_bound(model, rules=rules).rows]
        gamma, _, _, variance = model.get_layer("bn").get_weights()
        if layers.Dense in rules:
            assert constants == [7, pytest.approx((np.abs(gamma) / np.sqrt(variance + 1e-3)).max(), rel=1e-5)]
        else:
            assert constants[1] == 7
            assert constants[0] == float(lipschitz_bound(keras.Model(x, model.layers[1].output)))


@pytest.mark.parametrize("value", [-1.0, math.nan, "2", None])
def test_a_rule_must_return_a_number(value):
    model = keras.Sequential([keras.Input((3,)), Doubled(2)])
    with pytest.raises(ValueError, match="Doubled must return a number >= 0. Received:"):
        lipschitz_bound(model, rules={Doubled: lambda layer, shape: value})


def test_overflow_is_named_and_zero_ends_what_is_infinite():
    x = keras.Input((2,))
    huge = scaled(scaled(x, 1e200), 1e200)
    bound = lipschitz_bound(keras.Model(x, huge))
    assert "overflow" in bound.reasons[0]
    assert float(lipschitz_bound(keras.Model(x, scaled(huge, 0.0)))) == 0
    close = scaled(x, 1.7e308)
    assert "overflow" in lipschitz_bound(keras.Model(x, layers.Add()([close, close]))).reasons[0]
    assert float(lipschitz_bound(keras.Model(x, layers.Average()([close, close])))) == pytest.approx(1.7e308)


# Embedding -----------------------------------------------------------------------------------------------


def test_embedding_is_bounded_for_one_hot_inputs():
    x = keras.Input((6,), dtype="int32")
    layer = layers.Embedding(5, 3)
    bound = lipschitz_bound(keras.Model(x, layers.Add()([layer(x), layers.Embedding(5, 3)(x)])))
    assert bound.rows[0].constant == pytest.approx(np.linalg.norm(layer.get_weights()[0].astype(float), 2))
    assert "one-hot" in bound.rows[0].note
    assert math.isfinite(float(bound))


@pytest.mark.parametrize("build", [lambda x, e: [e, x], lambda x, e: [e, layers.Rescaling(2.0)(x)]])
def test_an_input_is_either_indices_or_numbers(build):
    x = keras.Input((6,), name="tokens")
    bound = lipschitz_bound(keras.Model(x, build(x, layers.Embedding(5, 3)(x))))
    assert float(bound) == math.inf
    assert "tokens" in bound.reasons[-1]


def test_computed_indices_have_no_constant():
    x = keras.Input((6,))
    bound = lipschitz_bound(keras.Model(x, layers.Embedding(5, 3)(layers.Rescaling(2.0)(x))))
    assert "computed" in bound.reasons[0]
    inner = keras.Sequential([keras.Input((6,)), layers.Embedding(5, 3)])
    y = keras.Input((2, 6))
    assert math.isinf(float(lipschitz_bound(keras.Model(y, layers.TimeDistributed(inner)(y)))))


def test_embedding_bounds_every_pair_of_sequences():
    """All 3⁴ sequences against each other: the largest ratio to the distance of their one-hot codes."""
    tokens = np.stack(np.meshgrid(*[range(3)] * 4), -1).reshape(-1, 4)
    x = keras.Input((4,), dtype="int32")
    model = randomized(keras.Model(x, layers.Conv1D(2, 2)(layers.Embedding(3, 2)(x))))
    y = ops.convert_to_numpy(model(tokens)).reshape(81, -1).astype(float)
    change = np.linalg.norm(y[:, None] - y, axis=-1)
    distance = np.sqrt(2 * (tokens[:, None] != tokens).sum(-1))
    largest = (change / np.where(distance > 0, distance, np.inf)).max()
    assert 0.3 * float(lipschitz_bound(model)) <= largest <= float(lipschitz_bound(model)) * (1 + 1e-5)


# The model -----------------------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def call(self, inputs):
        return 2 * inputs


class Chain(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


class Called(keras.Model):
    def __call__(self, *args, **kwargs):
        return 2 * super().__call__(*args, **kwargs)


class Functional(keras.Model):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Dense(2), TypeError, "keras.Model. Received: Dense"),
        (lambda: keras.Sequential([layers.Dense(2)]), ValueError, "built.*Received:"),
        (Subclassed, ValueError, "not subclassed.*Received: Subclassed"),
        (lambda: Functional(*[keras.Input((2,))] * 2), ValueError, "not subclassed.*Received: Functional"),
        (lambda: Called(*[keras.Input((2,))] * 2), ValueError, "not subclassed.*Received: Called"),
        (lambda: Chain([keras.Input((2,)), layers.Dense(2)]), ValueError, "not subclassed.*Received: Chain"),
    ],
)
def test_only_built_graphs_are_accepted(make, error, message):
    with pytest.raises(error, match=message):
        lipschitz_bound(make())


@pytest.mark.parametrize(
    ("arguments", "error", "rule"),
    [
        ({"exact": "yes"}, ValueError, "exact must be"),
        ({"exact": np.ones(2)}, ValueError, "exact must be"),
        ({"rtol": 0.0}, ValueError, "rtol must be"),
        ({"rtol": math.nan}, ValueError, "rtol must be"),
        ({"rtol": 1.0}, ValueError, "rtol must be"),
        ({"rules": "Dense"}, TypeError, "rules must map"),
        ({"rules": {"Dense": lambda layer, shape: 1.0}}, TypeError, "rules must map"),
        ({"rules": {layers.Dense: 1.0}}, TypeError, "rules must map"),
    ],
)
def test_arguments_are_checked(arguments, error, rule):
    with pytest.raises(error, match=f"{rule}.*Received:"):
        lipschitz_bound(keras.Sequential([keras.Input((2,)), layers.Dense(2)]), **arguments)


def test_a_subclassed_model_inside_is_an_unknown_layer():
    x = keras.Input((3,))
    bound = lipschitz_bound(keras.Model(x, Subclassed()(x)))
    assert "Subclassed" in bound.reasons[0]


def test_training_flags_of_a_call_do_not_count_at_inference():
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dropout(0.5)(x, training=True))
    assert float(lipschitz_bound(model)) == 1
    ones = np.ones((1, 3), "float32")
    assert np.array_equal(ops.convert_to_numpy(model(ones, training=False)), ones)


def test_the_bound_does_not_change_the_model():
    model = randomized(keras.Sequential([keras.Input((4, 4, 2)), SpectralNormalization(layers.Conv2D(2, 3))]))
    before = model.get_weights()
    lipschitz_bound(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


# The table -----------------------------------------------------------------------------------------------


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(name="table")
def _table():
    x = keras.Input((3,))
    h = layers.Dense(3, activation="relu", name="a<b>&c")(x)
    return lipschitz_bound(keras.Model(x, layers.Add(name="sum")([x, h]), name="small"))


def test_the_text_has_a_line_for_each_layer(table):
    lines = str(table).splitlines()
    assert lines[0].split()[:2] == ["layer", "type"]
    assert [line.split()[0] for line in lines[2:4]] == ["a<b>&c", "sum"]
    assert lines[-1].endswith(f"at most {float(table):.6g}")
    assert repr(table) == f"LipschitzBound({float(table):.6g}, model='small', 2 layers)"


def test_the_html_is_escaped(table):
    parser = Cells()
    parser.feed(table._repr_html_())
    assert set(parser.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "p"}
    assert "a<b>&c" in parser.text
    assert parser.tags.count("tr") == 3


def test_the_json_is_strict(table):
    def refuse(name):
        raise AssertionError(name)

    data = json.loads(table.to_json(), parse_constant=refuse)
    assert data["bound"] == float(table)
    assert [row["constant"] for row in data["layers"]] == [table.rows[0].constant, None]
    x = keras.Input((3,))
    infinite = json.loads(
        lipschitz_bound(keras.Model(x, layers.Lambda(ops.square)(x))).to_json(), parse_constant=refuse
    )
    assert infinite["bound"] == "Infinity"
    assert float(infinite["layers"][0]["bound"]) == math.inf


# keras.applications --------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MobileNet", None),
        ("MobileNetV3Small", "Multiply"),
    ],
)
def test_small_applications(name, reason):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    bound = lipschitz_bound(model)
    assert math.isfinite(float(bound)) is (reason is None)
    assert all(f"({reason})" in r for r in bound.reasons)


APPLICATIONS = sorted(n for n, f in vars(keras.applications).items() if callable(f))


def test_there_are_forty_applications():
    assert len(APPLICATIONS) == 40


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application_has_a_bound_or_a_named_reason(name):
    model = getattr(keras.applications, name)(weights=None, classes=10)
    bound = lipschitz_bound(model)
    assert math.isfinite(float(bound)) is not bool(bound.reasons)
    keras.backend.clear_session()
