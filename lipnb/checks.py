"""Checks at the public boundary: each raises one error that says the rule and ends with what was received."""

from __future__ import annotations

import math
import numbers
from typing import Any

import keras
import numpy as np

__all__ = ["check_choice", "check_count", "check_positive", "float_array"]


def float_array(value: Any, name: str, *, ndim: int | tuple[int, ...] | None = None) -> np.ndarray:
    """``value`` (array, tensor or variable of any backend) as a finite, non-empty float64 array.

    Raises TypeError where the dtype is not floating point, ValueError where the rank, size or an entry is
    wrong.
    """
    array = _to_numpy(value)
    if not _is_floating(array):
        raise TypeError(f"{name} must have a floating-point dtype. Received: {array.dtype}")
    array = array.astype(np.float64)
    ranks = (ndim,) if isinstance(ndim, int) else ndim
    if ranks is not None and array.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ValueError(f"{name} must have rank {wanted}. Received: shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty. Received: shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(
            f"{name} must be finite. Received: {int(np.sum(~np.isfinite(array)))} NaN or infinite entries"
        )
    return array


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


def _to_numpy(value: Any) -> np.ndarray:
    if isinstance(value, keras.Variable) or keras.ops.is_tensor(value):
        return keras.ops.convert_to_numpy(value)
    return np.asarray(value)


def _is_floating(array: np.ndarray) -> bool:
    # bfloat16 and the float8 family (ml_dtypes) are not np.floating, yet cast to float64 exactly.
    return np.issubdtype(array.dtype, np.floating) or "float" in array.dtype.name
