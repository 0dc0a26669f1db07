"""NaN, infinity and what overflows never become a bound: weights and parameters are looked at before any work."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from lipnb.bounds import lipschitz_bound
from lipnb.estimates import lipschitz_estimate
from lipnb.sites import Constant

pytestmark = pytest.mark.once


def unasked(layer, shape):
    raise AssertionError("work was done before the check")


class Unknown(layers.Layer):
    scale = math.nan

    def call(self, x):
        return x


@pytest.mark.parametrize("weight", ["kernel", "bias"])
def test_weights_that_are_not_finite_are_refused_before_any_work(weight):
    broken = layers.Dense(2, name="broken")
    inner = keras.Sequential([keras.Input((2,)), broken])
    model = keras.Sequential([keras.Input((2,)), layers.ReLU(), inner])
    getattr(broken, weight).assign(np.full(getattr(broken, weight).shape, np.nan))
    for function in (
        lambda: lipschitz_bound(model, rules={layers.ReLU: unasked}),
        lambda: lipschitz_estimate(model),
    ):
        with pytest.raises(ValueError, match=rf"broken.{weight} must be finite. Received:"):
            function()


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.Rescaling(math.nan)(x),
        lambda x: layers.Rescaling(math.inf)(x),
        lambda x: layers.Rescaling([1.0, 2.0, math.nan])(x),
        lambda x: layers.Rescaling(1.0, offset=math.nan)(x),
        lambda x: layers.LeakyReLU(negative_slope=math.nan)(x),
        lambda x: layers.ReLU(max_value=math.nan)(x),
        lambda x: layers.ELU(alpha=math.nan)(x),
        lambda x: layers.LayerNormalization(epsilon=math.nan)(x),
        lambda x: layers.Normalization(mean=[0.0] * 3, variance=[1.0, math.nan, 1.0])(x),
        lambda x: layers.Dense(2, activation=layers.LeakyReLU(negative_slope=math.nan))(x),
        lambda x: layers.TimeDistributed(layers.Rescaling(math.nan))(layers.Reshape((3, 1))(x)),
        lambda x: ops.leaky_relu(x, negative_slope=math.nan),
        lambda x: keras.Sequential([keras.Input((3,)), layers.Rescaling(math.nan)])(x),
    ],
)
def test_parameters_that_are_not_finite_are_refused_before_any_work(build):
    x = keras.Input((3,))
    model = keras.Model(x, build(layers.Identity()(x)))
    with pytest.raises(ValueError, match="must be finite. Received:.*(nan|inf)"):
        lipschitz_bound(model, rules={layers.Identity: unasked})


def test_what_has_no_rule_or_a_given_one_may_hold_anything():
    x = keras.Input((3,))
    model = keras.Model(x, Unknown()(x))
    assert "Unknown" in lipschitz_bound(model).reasons[0]
    assert float(lipschitz_bound(model, rules={Unknown: lambda layer, shape: 1.0})) == 1
    endless = keras.Model(x, layers.ReLU(max_value=math.inf)(x))
    assert float(lipschitz_bound(endless)) == 1


def test_an_infinite_constant_always_has_a_reason_and_none_is_nan():
    assert (Constant(math.inf).kind, Constant(math.inf, note="a").note) == (
        "no constant",
        "a, its constant overflows float64",
    )
    assert Constant(math.inf, "no constant", "b").note == "b"
    with pytest.raises(ValueError, match="must be a number. Received:"):
        Constant(math.nan)


def test_outputs_that_overflow_together_are_named():
    x = keras.Input((3,))
    outputs = [layers.Rescaling(1.7e308)(x) for _ in range(2)]
    bound = lipschitz_bound(keras.Model(x, outputs))
    assert math.isinf(float(bound))
    assert "overflows" in bound.reasons[0]
