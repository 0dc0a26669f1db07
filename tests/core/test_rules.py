"""Each layer's constant against the matrix of the layer, a witness that attains it, or a search from below."""

import math

import keras
import numpy as np
import pytest
import scipy.linalg
from keras import layers
from keras.src.applications.convnext import LayerScale, StochasticDepth
from linear_models import matrix, randomized

from lipnb.activations import activation_constant
from lipnb.bounds import lipschitz_bound
from lipnb.conv_matrices import conv_matrix
from lipnb.estimates import lipschitz_estimate
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization

pytestmark = pytest.mark.shapes
EPS = float(np.finfo(np.float32).eps)


def one_layer(layer, shape, *, dtype="float32"):
    """A model of one layer with every weight random (variances positive)."""
    inputs = keras.Input(shape, dtype=dtype)
    return randomized(keras.Model(inputs, layer(inputs)))


def row(model):
    """The last row of the model's table."""
    return lipschitz_bound(model, exact=True).rows[-1]


def check_norm(value, matrix):
    """``value`` is the norm of a matrix whose entries went through float32."""
    norm = scipy.linalg.svdvals(matrix)[0]
    assert value == pytest.approx(norm, rel=16 * math.sqrt(max(matrix.shape)) * EPS + 1e-6)


def largest_secant(model):
    """Largest ‖f(x) − f(x')‖/‖x − x'‖ over random pairs at many distances, one forward pass."""
    generator = np.random.default_rng(0)
    shape = (400, *model.inputs[0].shape[1:])
    x = generator.standard_normal(shape) * 10 ** generator.uniform(-2, 1, (400, *[1] * (len(shape) - 1)))
    moved = x + generator.standard_normal(shape) * 10 ** generator.uniform(
        -2, 1, (400, *[1] * (len(shape) - 1))
    )
    pair = np.concatenate([x, moved]).astype("float32")
    change = np.subtract(*np.split(keras.ops.convert_to_numpy(model(pair, training=False)).astype(float), 2))
    return (
        np.linalg.norm(change.reshape(400, -1), axis=1) / np.linalg.norm((x - moved).reshape(400, -1), axis=1)
    ).max()


MATRICES = {
    "Dense": (layers.Dense(5), (7,)),
    "Dense on a sequence": (layers.Dense(5), (3, 7)),
    "EinsumDense": (layers.EinsumDense("abc,cd->abd", (None, 4)), (3, 5)),
    "EinsumDense, ellipsis": (layers.EinsumDense("...x,xy->...y", 4), (3, 5)),
    "EinsumDense, heads": (layers.EinsumDense("abc,cde->abde", (None, 2, 4)), (3, 5)),
    "EinsumDense, blocks": (layers.EinsumDense("abc,bcd->abd", (3, 4)), (3, 5)),
    "EinsumDense, two axes summed": (layers.EinsumDense("abc,bcd->ad", 4), (3, 5)),
    "Conv1D": (layers.Conv1D(3, 4, padding="causal", dilation_rate=2), (9, 2)),
    "Conv2D": (layers.Conv2D(3, 3, strides=2, padding="same"), (7, 6, 2)),
    "Conv2D, groups": (layers.Conv2D(4, (3, 2), groups=2), (7, 6, 4)),
    "Conv2D, dilation": (layers.Conv2D(2, 3, dilation_rate=2, padding="same"), (7, 6, 2)),
    "Conv2D, larger than an SVD": (layers.Conv2D(3, 3, padding="same"), (14, 14, 3)),
    "Conv3D": (layers.Conv3D(2, 2), (4, 3, 4, 2)),
    "DepthwiseConv1D": (layers.DepthwiseConv1D(3, depth_multiplier=2), (8, 3)),
    "DepthwiseConv2D": (layers.DepthwiseConv2D(3, padding="same", strides=2), (7, 7, 3)),
    "Conv1DTranspose": (layers.Conv1DTranspose(3, 4, strides=3), (5, 2)),
    "Conv2DTranspose": (layers.Conv2DTranspose(3, 4, strides=2, padding="same"), (4, 5, 2)),
    "Conv3DTranspose": (layers.Conv3DTranspose(2, 2, strides=2), (2, 3, 2, 2)),
    "SpectralNormalization": (SpectralNormalization(layers.Conv2D(3, 3)), (6, 6, 2)),
    "FrobeniusNormalization": (FrobeniusNormalization(layers.Dense(4), norm=3.0), (6,)),
    "keras SpectralNormalization": (layers.SpectralNormalization(layers.Dense(4)), (6,)),
    "AveragePooling1D": (layers.AveragePooling1D(3, 1, padding="same"), (8, 2)),
    "AveragePooling2D": (layers.AveragePooling2D((3, 2), (2, 1)), (8, 7, 2)),
    "AveragePooling2D, same": (layers.AveragePooling2D(3, 2, padding="same"), (8, 7, 2)),
    "AveragePooling3D": (layers.AveragePooling3D(2, 1), (4, 3, 4, 1)),
    "AdaptiveAveragePooling1D": (layers.AdaptiveAveragePooling1D(3), (8, 2)),
    "AdaptiveAveragePooling2D": (layers.AdaptiveAveragePooling2D((3, 5)), (8, 7, 2)),
    "AdaptiveAveragePooling3D": (layers.AdaptiveAveragePooling3D((2, 3, 2)), (5, 4, 3, 1)),
    "GlobalAveragePooling1D": (layers.GlobalAveragePooling1D(), (5, 3)),
    "GlobalAveragePooling2D": (layers.GlobalAveragePooling2D(keepdims=True), (5, 3, 2)),
    "GlobalAveragePooling3D": (layers.GlobalAveragePooling3D(), (3, 2, 3, 2)),
    "UpSampling1D": (layers.UpSampling1D(3), (5, 3)),
    "UpSampling2D": (layers.UpSampling2D((2, 3)), (4, 3, 2)),
    "UpSampling2D, bilinear": (layers.UpSampling2D((2, 3), interpolation="bilinear"), (4, 5, 2)),
    "UpSampling3D": (layers.UpSampling3D(2), (2, 3, 2, 1)),
    "ZeroPadding2D": (layers.ZeroPadding2D(2), (3, 3, 2)),
    "Cropping2D": (layers.Cropping2D(((1, 0), (2, 1))), (5, 6, 2)),
    "Reshape": (layers.Reshape((6, 2)), (4, 3)),
    "Permute": (layers.Permute((2, 1)), (4, 3)),
    "Flatten": (layers.Flatten(), (4, 3)),
    "RepeatVector": (layers.RepeatVector(5), (3,)),
    "BatchNormalization": (layers.BatchNormalization(), (4, 3)),
    "BatchNormalization, no scale": (layers.BatchNormalization(axis=1, scale=False), (4, 3)),
    "Rescaling": (layers.Rescaling([0.5, -3.0, 2.0], offset=1.0), (4, 3)),
    "Normalization": (layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 0.25]), (3, 2)),
    "Normalization, inverse": (
        layers.Normalization(mean=[1.0, 2.0], variance=[9.0, 1.0], invert=True),
        (3, 2),
    ),
    "LayerScale of ConvNeXt": (LayerScale(0.1, 3), (4, 3)),
    "Dropout": (layers.Dropout(0.5), (3, 2)),
    "GaussianNoise": (layers.GaussianNoise(0.5), (3, 2)),
    "SpatialDropout1D": (layers.SpatialDropout1D(0.5), (4, 2)),
    "SpatialDropout2D": (layers.SpatialDropout2D(0.5), (3, 3, 2)),
    "SpatialDropout3D": (layers.SpatialDropout3D(0.5), (2, 3, 2, 2)),
    "StochasticDepth of ConvNeXt": (StochasticDepth(0.5), (4, 3)),
    "ActivityRegularization": (layers.ActivityRegularization(0.1, 0.1), (4, 3)),
    "RandomBrightness": (layers.RandomBrightness(0.5), (4, 4, 3)),
    "RandomContrast": (layers.RandomContrast(0.5), (4, 4, 3)),
    "RandomFlip": (layers.RandomFlip(), (4, 4, 3)),
    "RandomRotation": (layers.RandomRotation(0.5), (4, 4, 3)),
    "RandomZoom": (layers.RandomZoom(0.5), (4, 4, 3)),
    "RandomTranslation": (layers.RandomTranslation(0.5, 0.5), (4, 4, 3)),
    "TimeDistributed": (layers.TimeDistributed(layers.Conv1D(2, 2)), (3, 4, 2)),
    "TimeDistributed model": (
        layers.TimeDistributed(keras.Sequential([keras.Input((4,)), layers.Dense(3)])),
        (3, 4),
    ),
    "SimpleRNN of one step": (layers.SimpleRNN(3, activation="linear"), (1, 4)),
    "SimpleRNN of one unit": (layers.SimpleRNN(1, activation="linear", return_sequences=True), (6, 1)),
    "SimpleRNN of one unit, last": (layers.SimpleRNN(1, activation="linear"), (6, 1)),
    "Bidirectional": (
        layers.Bidirectional(layers.SimpleRNN(1, activation="linear"), merge_mode="sum"),
        (1, 1),
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_linear_layers_have_the_norm_of_their_matrix(name):
    layer, shape = MATRICES[name]
    model = one_layer(type(layer).from_config(layer.get_config()), shape)
    if name == "Bidirectional":  # two maps of one number that do not cancel
        model.layers[1].set_weights([np.abs(w) for w in model.layers[1].get_weights()])
    check_norm(row(model).constant, matrix(model))


def test_the_matrix_check_can_fail():
    model = one_layer(layers.Dense(5), (7,))
    with pytest.raises(AssertionError):
        check_norm(row(model).constant * (1 + 1e-4), matrix(model))


@pytest.mark.parametrize("layer", [layers.SeparableConv1D(3, 3, strides=2), layers.SeparableConv2D(3, 3)])
def test_separable_convolution_is_bounded_by_its_two_factors(layer):
    model = one_layer(layer, (7, 2) if layer.rank == 1 else (6, 5, 2))
    norm = scipy.linalg.svdvals(matrix(model))[0]
    assert row(model).kind == "upper bound"
    assert norm <= row(model).constant * (1 + 64 * EPS)
    assert row(model).constant <= 4 * norm


@pytest.mark.parametrize("exact", [True, "auto"])
def test_a_separable_convolution_of_few_filters_is_bounded_from_above_at_a_coarse_tolerance(exact):
    """16 channels that sum into one: the norm is 4 times that of the largest channel, whose matrix is no small one."""
    layer = layers.SeparableConv2D(1, 3, padding="same", use_bias=False)
    x = keras.Input((20, 20, 16))
    model = keras.Model(x, layer(x))
    kernel = np.random.default_rng(1).standard_normal((3, 3, 16, 1)).astype("float32")
    layer.set_weights([kernel, np.ones((1, 1, 16, 1))])
    channels = (conv_matrix(kernel[:, :, c : c + 1], (20, 20, 1), padding="same") for c in range(16))
    norm = 4 * max(scipy.linalg.svdvals(channel.toarray())[0] for channel in channels)
    assert float(lipschitz_bound(model, exact=exact, rtol=0.9)) >= norm * (1 - 1e-12)


@pytest.mark.parametrize("exact", [False, "auto"])
def test_cheap_convolution_bounds_are_from_above_and_near(exact):
    model = one_layer(layers.Conv2D(6, 3, padding="same"), (12, 12, 5))
    bound = lipschitz_bound(model, exact=exact).rows[-1]
    norm = row(model).constant
    assert bound.kind == "upper bound"
    assert norm * (1 - 1e-5) <= bound.constant <= 1.3 * norm


def test_convolution_of_open_size_is_bounded_for_every_size():
    layer = layers.Conv2D(3, 3, padding="same")
    bound = row(one_layer(layer, (None, None, 2))).constant
    sizes = [
        scipy.linalg.svdvals(matrix(keras.Sequential([keras.Input((n, n, 2)), layer])))[0] for n in (3, 6, 10)
    ]
    assert max(sizes) <= bound * (1 + 64 * EPS)
    assert bound <= 1.2 * max(sizes)


# Activations ---------------------------------------------------------------------------------------------

NAMES = sorted(
    {
        f.__name__
        for n, f in vars(keras.activations).items()
        if callable(f) and n not in ("get", "serialize", "deserialize")
    }
)
VECTOR = {"softmax", "log_softmax"}
WITHOUT = {"exponential", "glu", "hard_shrink", "sparsemax", "threshold"}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in VECTOR | WITHOUT])
def test_elementwise_activations_have_the_largest_slope(name):
    x = np.linspace(-60, 60, 120_001).astype("float32").astype(float)
    y = keras.ops.convert_to_numpy(getattr(keras.activations, name)(x.astype("float32"))).astype(float)
    step = 20  # slopes over 0.02: wide enough that float32 rounding of y stays below 1e-3
    slopes = np.abs(y[step:] - y[:-step]) / (x[step:] - x[:-step])
    constant = activation_constant(getattr(keras.activations, name))
    assert constant.kind == "exact"
    assert slopes.max() <= constant.value * (1 + 1e-3)
    assert slopes.max() >= constant.value * (1 - 1.2e-2)


def test_keras_sparsemax_jumps():
    low, high = (
        keras.ops.convert_to_numpy(keras.activations.sparsemax(np.float32([[6.0, 5.0 + d]])))
        for d in (-1e-5, 1e-5)
    )
    assert np.abs(high - low).max() > 0.5


def test_constants_without_closed_form_are_suprema_in_float64():
    x = np.linspace(-6, 6, 1_200_001)
    cdf = (1 + np.vectorize(math.erf)(x[::10] / math.sqrt(2))) / 2
    gelu = cdf + x[::10] * np.exp(-(x[::10] ** 2) / 2) / math.sqrt(2 * math.pi)
    s = 1 / (1 + np.exp(-x))
    silu = s * (1 + x * (1 - s))
    t = np.tanh(np.log1p(np.exp(x)))
    mish = t + x * s * (1 - t**2)
    for name, slope in (("gelu", gelu), ("silu", silu), ("mish", mish)):
        constant = activation_constant(getattr(keras.activations, name)).value
        assert slope.max() <= constant <= slope.max() * (1 + 1e-8)


@pytest.mark.parametrize(("name", "n"), [("softmax", 4), ("log_softmax", 4), ("log_softmax", 1)])
def test_vector_activations_are_bounded_and_nearly_attained(name, n):
    function = getattr(keras.activations, name)
    constant = activation_constant(function, n).value
    generator = np.random.default_rng(0)
    x = generator.standard_normal((20_000, n)) * generator.exponential(3, (20_000, 1))
    x[0], x[1] = 0, [*[6.0] * min(n, 2), *[-6.0] * (n - 2)]
    x[2] = [12.0, *[0.0] * (n - 1)]
    moved = x + 0.05 * generator.standard_normal(x.shape)
    moved[1] = x[1] + 0.05 * np.array([1.0, *[-1.0] * (n > 1), *[0.0] * (n - 2)])
    moved[2] = x[2] + 0.05 * np.eye(n)[0]
    images = [
        keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(a.astype("float32"))))
        for a in (x, moved)
    ]
    ratios = np.linalg.norm(images[0].astype(float) - images[1], axis=1) / np.linalg.norm(x - moved, axis=1)
    assert ratios.max() <= constant * (1 + 1e-3) + 1e-4
    assert ratios.max() >= 0.95 * constant


def test_every_keras_activation_has_a_constant_or_a_reason():
    constants = {name: activation_constant(getattr(keras.activations, name), 3) for name in NAMES}
    assert {name for name, c in constants.items() if math.isinf(c.value)} == WITHOUT
    assert all(c.note for c in constants.values() if math.isinf(c.value))
    assert all(("no constant is known" in c.note) is False for c in constants.values())


def test_unknown_activation_is_named():
    assert "my_function" in activation_constant(type("", (), {"__name__": "my_function"})()).note
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation=lambda x: x * x)])
    assert math.isinf(float(lipschitz_bound(model)))


ELEMENTWISE = [
    (layers.Activation("gelu"), 1.1289041451851549),
    (layers.ReLU(max_value=6.0, negative_slope=0.5), 1.0),
    (layers.ReLU(negative_slope=3.0), 3.0),
    (layers.ReLU(threshold=1.0), math.inf),
    (layers.ReLU(max_value=0.0, negative_slope=0.5), 0.5),
    (layers.LeakyReLU(negative_slope=0.3), 1.0),
    (layers.ELU(alpha=2.5), 2.5),
    (layers.Softmax(), 0.5),
    (layers.Softmax(axis=[1, 2]), 0.5),
    (layers.Softmax(axis=0), math.inf),
    (layers.UnitNormalization(), 1e12),
    (layers.Identity(), 1.0),
]


@pytest.mark.parametrize(("layer", "constant"), ELEMENTWISE)
def test_activation_layers(layer, constant):
    assert row(one_layer(layer, (3, 4))).constant == constant


def test_prelu_has_the_largest_slope():
    model = one_layer(layers.PReLU(), (4, 5))
    assert row(model).constant == max(1, np.abs(model.layers[1].get_weights()[0]).max())


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(4, activation="silu"),
        layers.Dense(4, activation=layers.LeakyReLU(negative_slope=2.0)),
        layers.Conv1D(4, 2, activation="log_softmax"),
        layers.EinsumDense("abc,cd->abd", (None, 4), activation="tanh"),
        layers.SeparableConv1D(4, 2, activation="relu"),
    ],
)
def test_activation_of_a_linear_layer_multiplies(layer):
    model = one_layer(layer, (4, 3))
    plain = one_layer(type(layer).from_config({**layer.get_config(), "activation": "linear"}), (4, 3))
    factor = {"silu": 1.099839320128867, "LeakyReLU": 2.0, "log_softmax": 2.0}
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    assert row(model).constant == pytest.approx(factor.get(name, 1.0) * row(plain).constant)
    assert row(model).kind == "upper bound"


# Pooling, normalization, recurrence ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.MaxPooling1D(3, 1), (8, 1)),
        (layers.MaxPooling2D(3, 2, padding="same"), (7, 6, 1)),
        (layers.MaxPooling2D((2, 5), (2, 3)), (7, 9, 1)),
        (layers.MaxPooling2D(2, 3), (7, 9, 1)),
        (layers.MaxPooling3D(3, 1), (4, 4, 3, 1)),
        (layers.AdaptiveMaxPooling1D(3), (8, 1)),
        (layers.AdaptiveMaxPooling2D((3, 5)), (7, 8, 1)),
        (layers.AdaptiveMaxPooling3D((2, 3, 2)), (5, 4, 3, 1)),
        (layers.GlobalMaxPooling1D(), (4, 1)),
        (layers.GlobalMaxPooling2D(), (4, 5, 1)),
        (layers.GlobalMaxPooling3D(), (3, 2, 3, 1)),
    ],
)
def test_max_pooling_is_attained_by_a_spike(layer, shape):
    model, n = one_layer(layer, shape), math.prod(shape)
    low, high = (
        keras.ops.convert_to_numpy(model((a * np.eye(n)).reshape(n, *shape).astype("float32")))
        for a in (1, 2)
    )
    norms = np.linalg.norm((high - low).reshape(n, -1), axis=1)
    assert row(model).constant == pytest.approx(norms.max(), rel=1e-6)


# Keras 3.15 on PyTorch normalises the last axes only, whatever `axis` says.
INNER = pytest.param(1, marks=pytest.mark.skipif(keras.backend.backend() == "torch", reason="a gap in Keras"))


@pytest.mark.parametrize("axis", [-1, INNER, (1, 2)])
def test_layer_normalization_is_attained_at_a_constant_input(axis):
    model = one_layer(layers.LayerNormalization(axis=axis, epsilon=0.01), (3, 4))
    gamma = model.layers[1]
    gamma.set_weights([np.ones_like(gamma.get_weights()[0]), gamma.get_weights()[1]])
    assert row(model).constant == pytest.approx(10)
    assert float(lipschitz_estimate(model, np.zeros((1, 3, 4)), n_steps=60)) == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerNormalization(epsilon=0.1),
        layers.GroupNormalization(2, epsilon=0.1),
        layers.RMSNormalization(epsilon=0.1),
    ],
)
def test_normalization_bounds_hold(layer):
    model = one_layer(layer, (3, 4))
    estimate = float(
        lipschitz_estimate(model, 0.1 * np.random.default_rng(0).standard_normal((8, 3, 4)), n_steps=30)
    )
    assert 0.3 * row(model).constant <= estimate <= row(model).constant * (1 + 1e-5)


def test_normalization_without_epsilon_has_no_constant():
    assert "ε" in row(one_layer(layers.LayerNormalization(epsilon=0.0), (4,))).note


RECURRENT = [
    layers.SimpleRNN(4),
    layers.SimpleRNN(4, return_sequences=True, activation="relu"),
    layers.LSTM(3),
    layers.LSTM(3, return_sequences=True, activation="softsign", recurrent_activation="hard_sigmoid"),
    layers.GRU(3),
    layers.GRU(3, reset_after=False, return_sequences=True, go_backwards=True),
    layers.Bidirectional(layers.GRU(2), merge_mode="concat"),
    layers.Bidirectional(layers.LSTM(2, return_sequences=True), merge_mode="ave"),
    layers.RNN(layers.SimpleRNNCell(3)),
]


@pytest.mark.parametrize("layer", RECURRENT)
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_recurrent_bounds_hold(layer, scale):
    model = one_layer(type(layer).from_config(layer.get_config()), (4, 3))
    model.set_weights([scale * w for w in model.get_weights()])
    assert row(model).kind == "upper bound"
    assert 0 < largest_secant(model) <= row(model).constant * (1 + 1e-4)


def test_lstm_of_one_step_is_near_its_bound():
    # h = o φ(i g): with the biases at 0, i, o ≈ 1/2, and only g depends on x: slope 1/4, bound 1.
    model = one_layer(layers.LSTM(1), (1, 1))
    model.set_weights([np.array([[0.0, 0, 1, 0]]), np.zeros((1, 4)), np.zeros(4)])
    assert row(model).constant == 1
    assert float(lipschitz_estimate(model, n_steps=50)) == pytest.approx(0.25, rel=1e-3)
    model.set_weights([np.array([[0.0, 0, 1, 0]]), np.zeros((1, 4)), np.array([9.0, 0, 0, 9])])
    assert float(lipschitz_estimate(model, n_steps=50)) == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.LSTM(2, activation="relu"), "gates"),
        (layers.GRU(2, recurrent_activation="linear"), "gates"),
        (layers.SimpleRNN(2, activation="exponential"), "exp"),
        (layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2)])), "StackedRNNCells"),
        (layers.Bidirectional(layers.GRU(2), merge_mode="mul"), "mul"),
    ],
)
def test_recurrent_layers_without_a_bound_say_why(layer, reason):
    result = row(one_layer(layer, (4, 3)))
    assert math.isinf(result.constant)
    assert reason in result.note


def test_recurrent_layers_need_a_fixed_length_and_fresh_states():
    assert "time steps" in row(one_layer(layers.GRU(2), (None, 3))).note
    inputs = keras.Input((4, 3), batch_size=1)
    assert "stateful" in row(keras.Model(inputs, layers.SimpleRNN(2, stateful=True)(inputs))).note


def test_long_sequences_are_bounded_without_an_svd():
    layer = layers.SimpleRNN(1, activation="linear", return_sequences=True, use_bias=False)
    model = one_layer(layer, (600, 1))
    model.set_weights([np.array([[2.0]]), np.array([[0.5]])])
    assert 3.9 <= row(model).constant <= 4.0  # 2 Σ 0.5^s < 4, the norm for an endless sequence
    model.set_weights([np.array([[2.0]]), np.array([[1e9]])])
    assert "overflow" in row(model).note


def test_long_averages_are_bounded_without_an_svd():
    model = one_layer(layers.AveragePooling1D(4, 2), (600, 1))
    assert (row(model).kind, row(model).constant) == ("upper bound", pytest.approx(math.sqrt(0.5)))


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (layers.Lambda(lambda x: x), (3,), "Lambda"),
        (layers.Masking(), (3, 2), "masking"),
        (layers.UpSampling2D(2, interpolation="bicubic"), (4, 4, 1), "bicubic"),
        (layers.Resizing(3, 3), (4, 4, 1), "Resizing"),
        (layers.EinsumDense("abc,d->abd", (3, 4)), (3, 2), "sums over"),
        (layers.Embedding(4, 2, mask_zero=True), (3,), "mask_zero"),
    ],
)
def test_what_has_no_constant_says_why(layer, shape, reason):
    result = row(one_layer(layer, shape))
    assert math.isinf(result.constant)
    assert reason in result.note


def test_half_precision_weights_are_those_that_multiply():
    layer = layers.Dense(3, dtype="mixed_bfloat16", use_bias=False)
    model = one_layer(layer, (4,))
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(layer.kernel, "bfloat16"), "float32"))
    assert row(model).constant == pytest.approx(np.linalg.norm(rounded.astype(float), 2), rel=1e-12)


def test_a_variance_below_zero_is_refused():
    model = one_layer(layers.BatchNormalization(), (2,))
    model.layers[1].moving_variance.assign([-1.0, 1.0])
    with pytest.raises(ValueError, match="above 0. Received:"):
        lipschitz_bound(model)
    x = keras.Input((2,))
    normalization = layers.Normalization(mean=[0.0, 0.0], variance=[-1.0, 1.0])
    with pytest.raises(ValueError, match="at least 0. Received: -1"):
        lipschitz_bound(keras.Model(x, normalization(x)))
