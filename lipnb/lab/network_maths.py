"""Small networks whose Lipschitz constants are bounded from above, searched from below, or known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.autodiff import compile_step, value_and_grad
from lipnb.bounds import lipschitz_bound
from lipnb.estimates import lipschitz_estimate
from lipnb.lab.data import Dataset, to_float
from lipnb.norms import spectral_norm

__all__ = [
    "Gap",
    "gaps",
    "max_row_sum",
    "mlp",
    "pattern_constant",
    "positive_constant",
    "product_bound",
    "relu_network",
    "train_together",
    "two_layers",
]

MOST_PATTERNS = 16  # units of a hidden layer whose 2^units patterns are gone through
Function = Callable[[np.ndarray], np.ndarray]


def max_row_sum(w: np.ndarray) -> float:
    """max_i Σ_j |w_ij|: the best constant of x ↦ Wx where lengths are measured by the largest entry, ‖·‖_∞."""
    return float(np.max(np.sum(np.abs(w), axis=1)))


def product_bound(kernels: Sequence[np.ndarray], slope: float = 1.0) -> float:
    """slope^(L−1)·Π ‖W_l‖₂ of L layers with an activation between them whose slopes are at most ``slope``."""
    return slope ** (len(kernels) - 1) * math.prod(map(spectral_norm, kernels))


def relu_network(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> Function:
    """x ↦ W_L relu(… relu(W_1 x + b_1) …) + b_L of columns x (n, …); the last layer has no ReLU."""

    def function(x: np.ndarray) -> np.ndarray:
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            x = np.maximum(w @ x + b[:, None], 0)
        return weights[-1] @ x + biases[-1][:, None]

    return function


def positive_constant(weights: Sequence[np.ndarray]) -> float:
    """‖W_L ⋯ W_1‖₂, the exact constant of a ReLU network whose weights have no negative entry.

    Raises
    ------
    ValueError
        Where an entry is negative: the product can then be larger or smaller than the constant.
    """
    if min(float(np.min(w)) for w in weights) < 0:
        raise ValueError("weights must have no negative entry. Received: a negative one")
    product = weights[0]
    for w in weights[1:]:
        product = w @ product
    return spectral_norm(product)


def pattern_constant(first: np.ndarray, second: np.ndarray) -> float:
    """max ‖W₂DW₁‖₂ over all 2^m patterns D = diag(0 or 1): a bound for W₂ relu(W₁x + b), exact where W₁ has rank m.

    Parameters
    ----------
    first, second
        W₁ (m, n) and W₂ (k, m), m at most 16.

    Raises
    ------
    ValueError
        For more hidden units.
    """
    units = len(first)
    if units > MOST_PATTERNS:
        raise ValueError(f"first must have at most {MOST_PATTERNS} rows. Received: {units}")
    patterns = np.arange(2**units)[:, None] >> np.arange(units) & 1
    gram = first @ first.T  # ‖W₂DW₁‖² is the largest eigenvalue of W₂D(W₁W₁ᵀ)DW₂ᵀ
    scaled = second[None] * patterns[:, None, :]
    return float(np.sqrt(np.max(np.linalg.eigvalsh(scaled @ gram @ scaled.transpose(0, 2, 1)))))


def mlp(
    width: int, depth: int, *, seed: int, shape: tuple[int, ...] = (28, 28, 1), classes: int = 10
) -> keras.Model:
    """``depth`` hidden ReLU layers of ``width`` units and a linear one, He-normal kernels that follow from ``seed``."""
    initial = [keras.initializers.HeNormal(seed=1000 * seed + i) for i in range(depth + 1)]
    hidden = [keras.layers.Dense(width, "relu", kernel_initializer=start) for start in initial[:-1]]
    last = keras.layers.Dense(classes, kernel_initializer=initial[-1])
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), *hidden, last])


def two_layers(
    inputs: int, units: int, outputs: int, seed: int
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A Gaussian network W₂ relu(W₁x + b) in Keras, float64, with W₁ (units, inputs) and W₂ (outputs, units)."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((units, inputs)) / math.sqrt(inputs)
    second = rng.standard_normal((outputs, units)) / math.sqrt(units)
    hidden, last = (keras.layers.Dense(n, f, dtype="float64") for n, f in ((units, "relu"), (outputs, None)))
    model = keras.Sequential([keras.Input((inputs,), dtype="float64"), hidden, last])
    hidden.set_weights([first.T, rng.standard_normal(units)])
    last.set_weights([second.T, np.zeros(outputs)])
    return model, first, second


@dataclass(frozen=True)
class Gap:
    """What is known of one network: the product bound, the largest slope found, and its test accuracy."""

    width: int
    depth: int
    seed: int
    trained: bool
    bound: float
    found: float
    accuracy: float

    @property
    def ratio(self) -> float:
        """How many times the bound exceeds what was found: at least 1, an upper limit of its looseness."""
        return self.bound / self.found


def gaps(
    sizes: Sequence[tuple[int, int]], seeds: Sequence[int], images: Dataset, *, epochs: int, n_steps: int
) -> list[Gap]:
    """The gap of an ``mlp`` of each (width, depth) and seed, before and after ``epochs`` of training on ``images``.

    The search takes ``n_steps`` steps from the first eight images.
    """
    names = [(width, depth, seed) for width, depth in sizes for seed in seeds]
    networks = [mlp(*name[:2], seed=name[2], shape=images.x_train.shape[1:]) for name in names]
    pairs = list(zip(names, networks, strict=True))
    before = [_gap(model, name, False, images, n_steps) for name, model in pairs]
    train_together(networks, images, epochs=epochs, batch=64, learning_rate=1e-3, seed=min(seeds))
    return before + [_gap(model, name, True, images, n_steps) for name, model in pairs]


def train_together(
    models: Sequence[keras.Model],
    images: Dataset,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
) -> list[float]:
    """Train classifiers on the same batches in one compiled step; returns the sum of their losses for each step.

    The loss is the sum of theirs and Adam treats every weight by itself, so each trains as it would alone.
    """
    variables = [v for model in models for v in model.trainable_variables]
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(variables)
    state = [v for model in models for v in model.variables] + optimizer.variables

    def step(x: Any, y: Any) -> Any:
        def loss() -> Any:
            losses = [
                keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
                for model in models
            ]
            return ops.sum(ops.stack(losses)) / batch

        value, gradients = value_and_grad(loss, variables, state)
        optimizer.apply(gradients, variables)
        return value

    x, y, rng = to_float(images.x_train), images.y_train, np.random.default_rng(seed)
    compiled = compile_step(step, state)
    orders = (rng.permutation(len(x))[: len(x) // batch * batch].reshape(-1, batch) for _ in range(epochs))
    return [float(compiled(*map(ops.convert_to_tensor, (x[i], y[i])))) for order in orders for i in order]


def _gap(model: keras.Model, name: tuple[int, int, int], trained: bool, images: Dataset, n_steps: int) -> Gap:
    starts = to_float(images.x_train[:8])
    estimate = lipschitz_estimate(model, starts, n_steps=n_steps, seed=name[2])
    labels = np.argmax(ops.convert_to_numpy(model(to_float(images.x_test))), axis=1)
    accuracy = float(np.mean(labels == images.y_test))
    return Gap(*name, trained, float(lipschitz_bound(model)), float(estimate), accuracy)
