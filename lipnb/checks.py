"""Checks at the public boundary: each raises one error that says the rule and ends with what was received."""

from __future__ import annotations

import math
import numbers
from typing import Any

import keras
import numpy as np

__all__ = ["check_choice", "check_count", "check_flag", "check_positive", "float_array", "float_tensor"]


def float_array(value: Any, name: str, *, ndim: int | tuple[int, ...] | None = None) -> np.ndarray:
    """``value`` (array, tensor or variable of any backend) as a finite, non-empty float64 array.

    Raises TypeError where the dtype is not floating point, ValueError where the rank, size or an entry is
    wrong.
    """
    array = _to_numpy(value, name)
    _check_floating(array.dtype.name, name)
    array = array.astype(np.float64)
    ranks = (ndim,) if isinstance(ndim, int) else ndim
    if ranks is not None and array.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ValueError(f"{name} must have rank {wanted}. Received: shape {array.shape}")
    _check_not_empty(array.shape, name)
    _check_finite(array, name)
    return array


def float_tensor(value: Any, name: str, *, rank: int = 0) -> Any:
    """``value`` as a tensor of the backend, of a floating-point dtype, not empty, of at least ``rank``.

    What NumPy can read without the backend (arrays, lists) must be finite too. The entries of a tensor or variable
    are not looked at: they may be traced or on a device.

    Raises TypeError where the dtype is not floating point, ValueError where the rank, size or an entry is
    wrong.
    """
    if not _is_of_backend(value):
        array = _to_numpy(value, name)
        _check_floating(array.dtype.name, name)
        _check_finite(array.astype(np.float64), name)
    tensor = keras.ops.convert_to_tensor(value)
    _check_floating(keras.backend.standardize_dtype(tensor.dtype), name)
    shape = tuple(tensor.shape)
    if len(shape) < rank:
        raise ValueError(f"{name} must have rank {rank} or more. Received: shape {shape}")
    _check_not_empty(shape, name)
    return tensor


def check_positive(value: Any, name: str, *, allow_zero: bool = False) -> float:
    """``value`` as a finite float above zero (or at least zero)."""
    rule = "a finite number of at least 0" if allow_zero else "a finite number above 0"
    number = _to_float(value)
    if not math.isfinite(number) or number < 0 or (number == 0 and not allow_zero):
        raise ValueError(f"{name} must be {rule}. Received: {value!r}")
    return number


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """``value`` as an int of at least ``minimum``."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}. Received: {value!r}")
    return int(value)


def check_flag(value: Any, name: str) -> bool:
    """``value`` where it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False. Received: {value!r}")
    return bool(value)


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """``value`` where it is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}. Received: {value!r}")
    return value


def _to_float(value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an int beyond the largest float
        return math.inf


def _is_of_backend(value: Any) -> bool:
    return isinstance(value, keras.Variable) or keras.ops.is_tensor(value)


def _to_numpy(value: Any, name: str) -> np.ndarray:
    if _is_of_backend(value):
        return keras.ops.convert_to_numpy(value)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array. Received: a nest with rows of unequal length") from error


def _check_floating(dtype: str, name: str) -> None:
    # By name: bfloat16 and the float8 family (ml_dtypes) are not np.floating, yet cast to float64 exactly.
    if "float" not in dtype:
        raise TypeError(f"{name} must have a floating-point dtype. Received: {dtype}")


def _check_not_empty(shape: tuple[int | None, ...], name: str) -> None:
    if 0 in shape:
        raise ValueError(f"{name} must not be empty. Received: shape {shape}")


def _check_finite(array: np.ndarray, name: str) -> None:
    wrong = int(np.sum(~np.isfinite(array)))
    if wrong:
        raise ValueError(f"{name} must be finite. Received: {wrong} NaN or infinite entries")
