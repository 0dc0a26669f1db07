"""Where an input leaves a size open the bound holds at every size: pooling, and a whole backbone."""

import math

import keras
import numpy as np
import pytest
from keras import layers
from linear_models import matrix, randomized

from lipnb.bounds import lipschitz_bound
from lipnb.estimates import lipschitz_estimate

pytestmark = pytest.mark.once


def constant(layer, shape):
    x = keras.Input(shape)
    return lipschitz_bound(keras.Model(x, layer(x))).rows[-1]


def at_sizes(make, sizes, channels=2):
    """The layer's constants at the sizes that it takes."""
    values = []
    for n in sizes:
        try:
            values.append(constant(make(), (n, channels)).constant)
        except ValueError:  # the window does not fit
            continue
    return values


STEPS = [(1, 1), (2, 1), (2, 2), (3, 2), (3, 1), (4, 3), (5, 2), (2, 3), (7, 2)]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), STEPS)
def test_max_pooling_of_open_size_has_the_largest_constant_of_all_sizes(size, stride, padding):
    def make():
        return layers.MaxPooling1D(size, stride, padding)

    row = constant(make(), (None, 2))
    assert (row.kind, row.note) == ("upper bound", "for every input size")
    assert row.constant == math.sqrt(math.ceil(size / stride))
    assert row.constant == max(at_sizes(make, range(1, 30)))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), STEPS)
def test_average_pooling_of_open_size_is_above_the_constants_of_all_sizes(size, stride, padding):
    def make():
        return layers.AveragePooling1D(size, stride, padding)

    row = constant(make(), (None, 2))
    largest = max(at_sizes(make, range(1, 40)))
    assert row.kind == "upper bound"
    assert largest * (1 - 1e-12) <= row.constant <= 1.3 * largest


@pytest.mark.parametrize(
    "name", ["AdaptiveMaxPooling1D", "AdaptiveAveragePooling1D", "GlobalAveragePooling1D"]
)
def test_adaptive_and_global_pooling_of_open_size_have_that_of_one_position(name):
    def make():
        return getattr(layers, name)(*[3] * name.startswith("Adaptive"))

    row = constant(make(), (None, 2))
    assert row.constant == pytest.approx(math.sqrt(3) if name.startswith("Adaptive") else 1)
    assert max(at_sizes(make, range(3, 20))) <= row.constant


@pytest.mark.parametrize(
    "make", [lambda: layers.MaxPooling2D(3, 1), lambda: layers.AveragePooling2D(2, 1, "same")]
)
def test_each_axis_counts_by_itself(make):
    open_axis, both, neither = (constant(make(), (*shape, 2)) for shape in ((None, 3), (None, None), (9, 3)))
    assert neither.constant <= open_axis.constant <= both.constant
    assert (open_axis.kind, neither.kind) == ("upper bound", "exact")


def test_channels_may_be_first():
    assert constant(layers.MaxPooling1D(3, 2, data_format="channels_first"), (2, None)).constant == math.sqrt(
        2
    )


def backbone(shape):
    """A small residual network without its top: every kind of layer that such backbones are made of."""
    x = inputs = keras.Input(shape)
    x = layers.ZeroPadding2D(1)(layers.Rescaling(0.5)(x))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(3, 3, strides=2)(x)))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    h = layers.SeparableConv2D(3, 3, padding="same", activation="relu")(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(h)])
    x = layers.AveragePooling2D(2)(layers.Concatenate()([x, h]))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def test_a_backbone_of_open_size_is_bounded_at_every_size():
    model = randomized(backbone((None, None, 2)))
    bound = float(lipschitz_bound(model))
    assert math.isfinite(bound)
    for n in (8, 11, 16):
        fixed = backbone((n, n, 2))
        fixed.set_weights(model.get_weights())
        assert float(lipschitz_bound(fixed)) <= bound * (1 + 1e-9)
        points = np.random.default_rng(n).standard_normal((4, n, n, 2))
        estimate = float(lipschitz_estimate(model, points, n_steps=10, compiled=False))
        assert 0 < estimate <= bound


def test_the_norms_of_the_layers_at_small_sizes_are_below():
    """The matrix of average pooling itself, at each size, against the constant for all of them."""
    layer = layers.AveragePooling1D(3, 2, padding="same")
    bound = constant(layer, (None, 1)).constant
    norms = [np.linalg.norm(matrix(keras.Sequential([keras.Input((n, 1)), layer])), 2) for n in range(1, 9)]
    assert max(norms) <= bound * (1 + 1e-6)
