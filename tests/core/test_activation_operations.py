"""Activations called as functions in a functional graph: each constant is the largest slope, at its own parameters."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.activations.activations import Mish

from lipnb import activations
from lipnb.bounds import lipschitz_bound
from lipnb.estimates import lipschitz_estimate
from lipnb.sites import Constant

pytestmark = pytest.mark.once

SLOPES = [
    ("celu", {}),
    ("celu", {"alpha": 0.25}),
    ("celu", {"alpha": 3.0}),
    ("elu", {}),
    ("elu", {"alpha": 2.5}),
    ("elu", {"alpha": -3.0}),
    ("gelu", {}),
    ("gelu", {"approximate": True}),
    ("gelu", {"approximate": False}),
    ("hard_shrink", {"threshold": 0.0}),
    ("hard_sigmoid", {}),
    ("hard_silu", {}),
    ("hard_tanh", {}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 3.0}),
    ("leaky_relu", {"negative_slope": -2.0}),
    ("log_sigmoid", {}),
    ("relu", {}),
    ("relu", {"negative_slope": 2.0}),
    ("relu", {"negative_slope": 0.5, "max_value": 4.0}),
    ("relu", {"negative_slope": 0.5, "max_value": 0.0}),
    ("relu6", {}),
    ("selu", {}),
    ("sigmoid", {}),
    ("silu", {}),
    ("soft_shrink", {}),
    ("soft_shrink", {"threshold": 2.0}),
    ("softplus", {}),
    ("softsign", {}),
    ("sparse_plus", {}),
    ("sparse_sigmoid", {}),
    ("squareplus", {}),
    ("squareplus", {"b": 1}),
    ("tanh", {}),
    ("tanh_shrink", {}),
    ("threshold", {"threshold": 1.0, "default_value": 1.0}),
]
REASONS = [
    ("celu", {"alpha": -1.0}, "unbounded"),
    ("exponential", {}, "unbounded"),
    ("glu", {}, "product"),
    ("hard_shrink", {}, "jumps"),
    ("relu", {"threshold": 1.0}, "jumps"),
    ("soft_shrink", {"threshold": -1.0}, "jumps"),
    ("sparsemax", {}, "jumps"),
    ("squareplus", {"b": -1}, "NaN"),
    ("threshold", {"threshold": 1.0, "default_value": 0.0}, "jumps"),
    ("softmax", {"axis": 0}, "mixes samples"),
    ("log_softmax", {"axis": 0}, "mixes samples"),
    ("softmax", {"axis": None}, "mixes samples"),
]
# On a symbolic tensor these functions of keras.activations raise an error; those of keras.ops do not.
EAGER = {"hard_silu", "mish", "sparsemax"}


def called(name, parameters, shape, module):
    """A model of the activation called as the function that the module has of this name; None where it has none."""
    function = getattr(module, "exp" if (name, module) == ("exponential", ops) else name, None)
    if function is None or (module is keras.activations and name in EAGER):
        return None
    if module is ops and name == "relu" and parameters:  # keras.ops.relu has none
        return None
    x = keras.Input(shape)
    return keras.Model(x, function(x, **parameters))


def models(name, parameters, shape):
    found = [called(name, parameters, shape, module) for module in (keras.activations, ops)]
    assert any(found)
    return [model for model in found if model is not None]


def check_slope(model):
    """The constant is the largest slope over steps of 0.02, to what float32 and a step can show."""
    x = np.linspace(-60, 60, 120_001).astype("float32")
    y = ops.convert_to_numpy(model(x[:, None])).astype(float)[:, 0]
    slopes = np.abs(y[20:] - y[:-20]) / (x[20:].astype(float) - x[:-20])
    row = lipschitz_bound(model).rows[0]
    assert row.kind == "exact"
    assert slopes.max() <= row.constant * (1 + 1e-3)
    assert slopes.max() >= row.constant * (1 - 1.2e-2)


@pytest.mark.parametrize(("name", "parameters"), SLOPES)
def test_the_constant_is_the_largest_slope(name, parameters):
    for model in models(name, parameters, (1,)):
        check_slope(model)


def test_the_operation_of_mish_is_known():
    x = keras.Input((1,))
    check_slope(keras.Model(x, Mish()(x)))


def test_a_wrong_constant_is_found(monkeypatch):
    x = keras.Input((1,))
    model = keras.Model(x, ops.elu(x, alpha=2.0))
    monkeypatch.setitem(activations._PARAMETRIC, "elu", lambda alpha: Constant(0.95 * alpha))
    with pytest.raises(AssertionError):
        check_slope(model)


@pytest.mark.parametrize(("name", "parameters", "reason"), REASONS)
def test_what_has_no_constant_says_why(name, parameters, reason):
    for model in models(name, parameters, (3, 4)):
        assert reason in lipschitz_bound(model).reasons[0]


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_the_length_of_the_axis_counts(name, axis):
    x = np.full((1, 3, 4), -8.0)
    peak = [slice(0, 1)] * 3
    peak[axis] = slice(0, 2 if name == "softmax" else 1)
    x[tuple(peak)] = 8
    for model in models(name, {"axis": axis}, (3, 4)):
        constant = float(lipschitz_bound(model))
        assert constant == (0.5 if name == "softmax" else math.sqrt((3, 4)[axis - 1 if axis > 0 else axis]))
        estimate = float(lipschitz_estimate(model, x, n_steps=20, compiled=False))
        assert 0.98 * constant <= estimate <= constant * (1 + 1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "constant"), [("softmax", (None,), 0.5), ("log_softmax", (None,), math.inf)]
)
def test_along_an_open_axis(name, shape, constant):
    for model in models(name, {}, shape):
        assert float(lipschitz_bound(model)) == constant


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis:UserWarning")
def test_a_softmax_of_one_entry_is_constant_and_of_a_number_mixes_samples():
    x = keras.Input((1,))
    assert float(lipschitz_bound(keras.Model(x, keras.layers.Softmax()(x)))) == 0
    x = keras.Input(())
    for name in ("softmax", "log_softmax"):
        bound = lipschitz_bound(keras.Model(x, keras.layers.Activation(name)(x)))
        assert "mixes samples" in bound.reasons[0]


def test_every_activation_of_keras_is_tested_here():
    functions = {f.__name__ for f in vars(keras.activations).values() if callable(f)}
    tested = {name for name, *_ in [*SLOPES, *REASONS]}
    assert functions - {"get", "serialize", "deserialize", "linear", "mish"} == tested
