"""The gradient penalty by hand: a critic whose gradient has a closed form, and what couples the samples of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.autodiff import input_gradient
from lipnb.checks import check_choice

__all__ = ["TanhCritic", "cross_gradients", "finite_differences", "penalty"]

Array = np.ndarray


@dataclass(frozen=True)
class TanhCritic:
    """f(x) = aᵀ tanh(Wx + b) in float64: ``w`` (k, d), ``b`` and ``a`` (k,)."""

    w: Array
    b: Array
    a: Array

    @classmethod
    def random(cls, width: int, dimension: int, seed: int) -> TanhCritic:
        """Standard normal weights."""
        rng = np.random.default_rng(seed)
        return cls(*(rng.standard_normal(shape) for shape in ((width, dimension), width, width)))

    @property
    def vector(self) -> Array:
        """All weights in a row: W by rows, b, a."""
        return np.concatenate([part.ravel() for part in astuple(self)])

    def at(self, vector: Array) -> TanhCritic:
        """The critic of this size with the weights ``vector``."""
        ends = np.cumsum([self.w.size, self.b.size])
        w, b, a = np.split(vector, ends)
        return TanhCritic(w.reshape(self.w.shape), b, a)

    def __call__(self, x: Array) -> Array:
        """Values (n,) at rows ``x`` (n, d)."""
        return np.tanh(x @ self.w.T + self.b) @ self.a

    def gradient(self, x: Array) -> Array:
        """∇f(x) = Wᵀ(a ⊙ (1 − tanh²(Wx + b))) at rows ``x``, shape (n, d)."""
        return (self.a * (1 - np.tanh(x @ self.w.T + self.b) ** 2)) @ self.w

    def to_keras(self) -> keras.Sequential:
        """The same function as a Keras model of float64, its variables in the order W (transposed), b, a."""
        hidden = keras.layers.Dense(len(self.b), "tanh", dtype="float64")
        last = keras.layers.Dense(1, use_bias=False, dtype="float64")
        model = keras.Sequential([keras.Input(self.w.shape[1:], dtype="float64"), hidden, last])
        model.set_weights([self.w.T, self.b, self.a[:, None]])
        return model


def penalty(critic: TanhCritic, points: Array, kind: str = "two_sided") -> float:
    """Mean of (‖g‖ − 1)², or of max(‖g‖ − 1, 0)² (``one_sided``) or max(‖g‖ − 1, 0) (``one_sided_linear``)."""
    excess = np.linalg.norm(critic.gradient(points), axis=1) - 1
    check_choice(kind, "kind", ("two_sided", "one_sided", "one_sided_linear"))
    if kind != "two_sided":
        excess = np.maximum(excess, 0)
    return float(np.mean(excess if kind == "one_sided_linear" else excess**2))


def finite_differences(function: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Central differences of ``function`` along each entry of the vector ``at``; error about step² + eps/step."""
    shifts = step * np.eye(len(at))
    return np.array([(function(at + s) - function(at - s)) / (2 * step) for s in shifts])


def cross_gradients(model: Callable[..., Any], x: Array, *, training: bool) -> Array:
    """∂f(xᵢ)/∂xⱼ of each output i by each sample j of one batch, (n, n, d) for rows ``x`` (n, d).

    Blocks off the diagonal are 0 where the model treats samples independently. Computed in the model's dtype.
    """

    def one(i: int) -> Array:
        return ops.convert_to_numpy(input_gradient(lambda z: model(z, training=training)[i], x))

    return np.stack([one(i) for i in range(len(x))])
