"""What no bound or estimate is computed for: weights and parameters of layers that are NaN or infinite."""

from __future__ import annotations

import numbers
from collections.abc import Container
from typing import Any

import keras
import numpy as np

from lipnb.checks import float_array
from lipnb.graph import operations
from lipnb.rules import MERGES, RULES
from lipnb.sites import layer_key

__all__ = ["check_parameters", "check_weights"]

_PARAMETERS = ["alpha", "b", "default_value", "epsilon", "max_value", "mean", "negative_slope", "offset"]
_PARAMETERS += ["scale", "threshold", "variance"]


def check_weights(model: Any) -> None:
    """Raises ValueError where a floating-point weight of the model is not finite."""
    for weight in model.weights:
        if "float" in weight.dtype:
            float_array(weight, weight.path)


def check_parameters(model: Any, ruled: Container[type] = ()) -> None:
    """Raises ValueError where a number that a layer or operation computes with is not finite.

    Those without a rule, or of the classes ``ruled``, whose constants the user gives, are not looked at.
    """
    for operation in operations(model):
        if layer_key(operation) in RULES.keys() | MERGES.keys() and type(operation) not in ruled:
            for name in _PARAMETERS:
                _check_parameter(f"{operation.name}.{name}", getattr(operation, name, None))


def _check_parameter(name: str, value: Any) -> None:
    if not isinstance(value, (numbers.Real, list, tuple, np.ndarray)) and not keras.ops.is_tensor(value):
        return  # not given; or a weight, and those have been looked at
    array = np.asarray(keras.ops.convert_to_numpy(value), np.float64)
    wrong = np.isnan(array) if name.endswith("max_value") else ~np.isfinite(array)  # no maximum is infinite
    if np.any(wrong):
        raise ValueError(f"{name} must be finite. Received: {value!r}")
