"""What a rule is given, the call of one layer, and what it answers, that layer's Lipschitz constant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import keras
import numpy as np

from lipnb.checks import float_array

__all__ = ["Constant", "Rule", "Shape", "Site", "known", "layer_key", "none", "weight_array"]

Shape = tuple[int | None, ...]
Kind = Literal["exact", "upper bound", "no constant"]


@dataclasses.dataclass(frozen=True)
class Constant:
    """A Lipschitz constant: its value, whether it is exact or proven from above, and a remark or reason."""

    value: float
    kind: Kind = "exact"
    note: str = ""

    def __post_init__(self) -> None:
        """No bound is NaN, and an infinite one says why."""
        if math.isnan(self.value):
            raise ValueError(f"A constant must be a number. Received: {self}")
        if math.isinf(self.value) and self.kind != "no constant":
            note = ", ".join(filter(None, (self.note, "its constant overflows float64")))
            object.__setattr__(self, "kind", "no constant")
            object.__setattr__(self, "note", note)

    def __mul__(self, other: Constant) -> Constant:
        """Bound of the composition: the product of the values, from above even where both are exact."""
        if not (math.isfinite(self.value) and math.isfinite(other.value)):
            return none(self.note if math.isinf(self.value) else other.note)
        value = self.value * other.value
        if math.isinf(value):
            return none("the product of its factors overflows float64")
        return Constant(value, "upper bound", ", ".join(filter(None, (self.note, other.note))))


@dataclasses.dataclass(frozen=True)
class Site:
    """One call of a layer.

    ``shape`` is the input's, without the batch; ``scale`` multiplies the output channels (a batch
    normalization folded into a linear layer); ``exact`` and ``rtol`` are those of ``lipschitz_bound``;
    ``inner`` finds the constant of a layer inside this one.
    """

    layer: Any
    shape: Shape
    inner: Callable[[Site], Constant]
    scale: np.ndarray | None = None
    exact: bool | Literal["auto"] = "auto"
    rtol: float = 1e-6

    def at(self, layer: Any, shape: Shape | None = None) -> Constant:
        """The constant of ``layer`` called in place of this one."""
        return self.inner(dataclasses.replace(self, layer=layer, shape=shape or self.shape, scale=None))


Rule = Callable[[Site], Constant]
Rules = Mapping[str, Rule]


def none(reason: str) -> Constant:
    """No global constant, for the reason given."""
    return Constant(math.inf, "no constant", reason)


def known(shape: Shape) -> tuple[int, ...]:
    """``shape``, where the caller has made sure that no size of it is unknown."""
    return cast("tuple[int, ...]", shape)


def layer_key(layer: Any) -> str:
    """``Dense`` for exactly ``keras.layers.Dense``, the full path of a class that is not in ``keras.layers``.

    A subclass may compute something else, so it is not taken for its parent.
    """
    cls = type(layer)
    if getattr(keras.layers, cls.__name__, None) is cls:
        return cls.__name__
    # Keras gives some a public name that is not the class's own, such as GroupQueryAttention.
    names = [name for name, value in vars(keras.layers).items() if value is cls]
    return names[0] if names else f"{cls.__module__}.{cls.__qualname__}"


def weight_array(layer: Any, name: str, *, half: bool = True) -> np.ndarray:
    """The layer's weight ``name`` as it computes with it, in float64; without ``half`` at least as a float32."""
    full = keras.backend.result_type(layer.compute_dtype, "float32")
    weight = keras.ops.cast(getattr(layer, name), layer.compute_dtype if half else full)
    return float_array(keras.ops.cast(weight, full), f"{layer.name}.{name}")
