"""A scope that replaces some variables' values and is not there for all else."""

import keras
import numpy as np
import pytest
from keras import ops

from lipnb.substitution import Substitution

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def variable(value):
    return keras.Variable(np.float32(value))


def value(x):
    return float(ops.convert_to_numpy(ops.convert_to_tensor(x)))


def test_an_assignment_is_made_at_once_and_read_inside():
    kernel, count = variable(1), variable(10)
    with Substitution([(kernel, ops.convert_to_tensor(np.float32(2)))]):
        count.assign(count + kernel)
        assert value(count) == 12
        count.assign(count + kernel)
        assert value(kernel) == 2
    assert (value(kernel), value(count)) == (1, 14)


def test_scopes_inside_one_another_each_replace_their_own():
    kernel, other, count = variable(1), variable(5), variable(0)
    with Substitution([(kernel, ops.convert_to_tensor(np.float32(2)))]):
        with Substitution([(other, ops.convert_to_tensor(np.float32(7)))]):
            count.assign(kernel + other)
            assert (value(kernel), value(other)) == (2, 7)
        assert (value(kernel), value(other)) == (2, 5)
    assert (value(kernel), value(other), value(count)) == (1, 5, 9)


def test_what_is_assigned_inside_a_stateless_scope_stays_there():
    kernel, count = variable(1), variable(10)
    with keras.StatelessScope(state_mapping=[(count, ops.convert_to_tensor(np.float32(20)))]) as scope:
        with Substitution([(kernel, ops.convert_to_tensor(np.float32(2)))]):
            count.assign(count + kernel)
            assert value(count) == 22
        assert value(kernel) == 1
    assert value(scope.get_current_value(count)) == 22
    assert value(count) == 10


def test_a_failed_assignment_leaves_the_scope_in_place():
    kernel, count = variable(1), variable(10)
    with Substitution([(kernel, ops.convert_to_tensor(np.float32(2)))]) as scope:
        with pytest.raises(ValueError, match="shape"):
            scope.add_update((count, np.zeros(3, "float32")))
        assert value(kernel) == 2
    assert value(kernel) == 1
