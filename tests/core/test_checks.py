"""Each check passes what its rule allows and otherwise raises one error that ends with what was received."""

from __future__ import annotations

import math
from fractions import Fraction

import keras
import numpy as np
import pytest

from lipnb.checks import check_choice, check_count, check_positive, float_array

# Keras turns some variables and PyTorch tensors into arrays in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.mark.parametrize(
    "value",
    [
        [[1.0, 2.0]],
        np.array([[1.0, 2.0]], np.float16),
        keras.ops.convert_to_tensor(np.float32([[1.0, 2.0]])),
        keras.ops.cast(keras.ops.convert_to_tensor(np.float32([[1.0, 2.0]])), "bfloat16"),
        keras.Variable(np.float32([[1.0, 2.0]])),
        keras.Variable(np.float32([[1.0, 2.0]]), trainable=False, dtype="bfloat16"),
    ],
    ids=["list", "float16", "tensor", "bfloat16", "variable", "bfloat16 variable"],
)
def test_any_floating_array_becomes_float64(value):
    array = float_array(value, "w", ndim=2)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, [[1.0, 2.0]])


def test_the_caller_s_array_is_not_the_result():
    given = np.ones(3)
    float_array(given, "w")[0] = 5.0
    assert given[0] == 1.0


@pytest.mark.parametrize("value", [[1, 2], [True], ["1.0"], [1j], None, [None], object()])
def test_other_dtypes_raise_type_error(value):
    with pytest.raises(TypeError, match=r"^w must have a floating-point dtype\. Received: \S+"):
        float_array(value, "w")


@pytest.mark.parametrize(
    ("value", "ndim", "message"),
    [
        (np.ones(3), 2, r"^w must have rank 2\. Received: shape \(3,\)$"),
        (np.ones(3), (2, 4), r"^w must have rank 2 or 4\. Received: shape \(3,\)$"),
        (np.ones((0, 3)), None, r"^w must not be empty\. Received: shape \(0, 3\)$"),
        ([1.0, math.nan, math.inf], None, r"^w must be finite\. Received: 2 NaN or infinite entries$"),
    ],
)
def test_arrays_that_make_no_sense_raise_value_error(value, ndim, message):
    with pytest.raises(ValueError, match=message):
        float_array(value, "w", ndim=ndim)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(3), Fraction(1, 2), 5e-324])
def test_positive_numbers_become_floats(value):
    assert check_positive(value, "c") == value
    assert type(check_positive(value, "c")) is float


@pytest.mark.parametrize(
    "value",
    [0, -1, math.nan, math.inf, -math.inf, True, "1", None, 1j, [1.0], 10**400],
    ids=lambda v: str(v)[:9],
)
def test_other_numbers_are_not_positive(value):
    with pytest.raises(ValueError, match=r"^c must be a finite number above 0\. Received: "):
        check_positive(value, "c")


def test_zero_is_allowed_where_it_is_said():
    assert check_positive(0, "c", allow_zero=True) == 0.0
    with pytest.raises(ValueError, match=r"^c must be a finite number of at least 0\. Received: -1$"):
        check_positive(-1, "c", allow_zero=True)


@pytest.mark.parametrize(("value", "minimum"), [(1, 1), (0, 0), (np.int32(7), 1), (10**30, 1)])
def test_counts_become_ints(value, minimum):
    assert check_count(value, "n", minimum=minimum) == value
    assert type(check_count(value, "n", minimum=minimum)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, np.float32(1)])
def test_other_values_are_no_counts(value):
    with pytest.raises(ValueError, match=r"^n must be an integer of at least 1\. Received: "):
        check_count(value, "n")


def test_choices_are_listed():
    assert check_choice("a", "kind", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"^kind must be one of 'a', 'b'\. Received: 'c'$"):
        check_choice("c", "kind", ("a", "b"))
