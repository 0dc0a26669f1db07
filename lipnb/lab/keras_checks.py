"""One table of checks for every spectral normalization layer, on whichever backend Keras runs (claims I2 to I4).

``KERAS_BACKEND=jax python -m lipnb.lab.keras_checks`` prints the report of that backend as JSON; ``--record``
keeps it as ``book/results/keras/jax.json``, to be shown where that backend is not installed.

A check is one function of a wrapper's name: it builds a small layer, does one thing, and returns a number,
whether that is what W/σ(W) asks for, and a remark. Its docstring is its row in the table. Weights and data
are the same float64 numbers, rounded to float32, on every backend.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from lipnb import reparam
from lipnb.autodiff import compile_step, value_and_grad
from lipnb.constraints import SpectralClip
from lipnb.lab import keras_reports
from lipnb.lab.linear_algebra import random_svd
from lipnb.norms import spectral_norm_estimate

__all__ = [
    "CHECKS",
    "WRAPPERS",
    "DivideBySpectralNorm",
    "dense_gradient",
    "finite_differences",
    "loss_value",
    "reparametrised_gradient",
    "report",
    "training_curve",
]

X, Y = np.random.default_rng(0).standard_normal((5, 4)), np.random.default_rng(1).standard_normal((5, 3))
W = random_svd([1.0, 0.5, 0.25], 4, 3, seed=0)[0]  # as a constraint leaves it: σ₁ = 1
GOAL = random_svd([2.0, 0.95, 0.9, 0.85, 0.8], 6, 5, seed=1)[0]  # of the loss ½‖Ŵ − GOAL‖²
MANY = 12  # power iterations: (σ₂/σ₁)²⁴ is float32 rounding for W
STEPS, RATE = 120, 0.1

WRAPPERS: dict[str, Callable[..., Any]] = {
    "keras": keras.layers.SpectralNormalization,
    "lipnb": reparam.SpectralNormalization,
}


@keras.saving.register_keras_serializable(package="lipnb.lab")
class DivideBySpectralNorm(keras.constraints.Constraint):
    """The article's constraint: after each update W ← W/σ, with σ from five rounds from all ones."""

    def __call__(self, w: Any) -> Any:
        """The divided tensor, of w's shape and dtype; not finite where the estimate is 0."""
        w = ops.convert_to_tensor(w)
        return w / ops.cast(spectral_norm_estimate(w, 5), w.dtype)


def finite_differences(function: Callable[[np.ndarray], float], w: np.ndarray) -> np.ndarray:
    """Central differences of ``function`` at float64 ``w``, good to about eps^(2/3)."""
    step, slope = np.finfo(np.float64).eps ** (1 / 3), np.zeros_like(w)
    for index in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[index] += step
        down[index] -= step
        slope[index] = (function(up) - function(down)) / (up[index] - down[index])
    return slope


def loss_value(w: np.ndarray) -> float:
    """f(W) = ½Σ(XW − Y)² in float64: a dense layer under a squared error."""
    return float(np.sum((X @ w - Y) ** 2) / 2)


def reparametrised_gradient(w: np.ndarray = W) -> np.ndarray:
    """Gradient of W ↦ f(W/σ₁(W)) by finite differences in float64, with σ₁ from an SVD."""
    return finite_differences(lambda x: loss_value(x / np.linalg.norm(x, 2)), w)


def dense_gradient(wrapper: str | None, w: np.ndarray = W) -> np.ndarray:
    """The backend's gradient of f for a Dense layer of kernel ``w``, in a wrapper or (None) as it is."""
    layer = _dense(wrapper, w, power_iterations=MANY)

    def loss() -> Any:
        return ops.sum((layer(_tensor(X), training=True) - _tensor(Y)) ** 2) / 2

    return _numpy(value_and_grad(loss, layer.trainable_variables, layer.non_trainable_variables)[1][0])


# The checks ------------------------------------------------------------------------------------------------


def gradient(wrapper: str) -> tuple[float, bool, str]:
    """Gradient: relative error against finite differences of W ↦ f(W/σ(W))."""
    exact = reparametrised_gradient()
    error = float(np.linalg.norm(dense_gradient(wrapper) - exact) / np.linalg.norm(exact))
    return error, error < 1e-5, ""


def one_kernel(wrapper: str) -> tuple[float | None, bool, str]:
    """Two calls of a critic in one loss: relative difference of their outputs for the same input."""
    critic = keras.Sequential([_dense(wrapper, 3 * W), _dense(wrapper, W[:3, :1] / np.linalg.norm(W[:3, 0]))])
    critic.build((None, 4))

    def loss() -> Any:
        first, second = critic(_tensor(X), training=True), critic(_tensor(X), training=True)
        return ops.sum((second - first) ** 2) / ops.sum(first**2)

    try:
        value, _ = value_and_grad(loss, critic.trainable_variables, critic.non_trainable_variables)
    except RuntimeError as error:
        wanted = "modified by an inplace operation"
        return None, False, f"raises: {wanted if wanted in str(error) else error}"
    difference = float(np.sqrt(_numpy(value)))
    return difference, difference < 1e-6, ""


def inference(wrapper: str) -> tuple[float, bool, str]:
    """Inference after 50 steps of fit from a kernel of norm 3: norm of the kernel that predict uses."""
    layer = _wrapped(wrapper, layers.Dense(3, use_bias=False, kernel_initializer=_Fixed(3 * W)))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    data = np.tile(X, (50, 1))
    model.fit(data, 2 * data @ W, batch_size=5, shuffle=False, verbose=0)
    norm = float(np.linalg.norm(model.predict(np.eye(4), verbose=0), 2))
    return norm, abs(norm - 1) < 0.01, ""


def frozen(wrapper: str) -> tuple[float, bool, str]:
    """Frozen (trainable = False) and called with training=True: relative change of the stored kernel."""
    layer = _dense(wrapper, 3 * W, power_iterations=MANY)
    layer.trainable = False
    before = _numpy(layer.kernel)
    layer(_tensor(X), training=True)
    change = float(np.linalg.norm(_numpy(layer.kernel) - before) / np.linalg.norm(before))
    return change, change == 0, ""


def from_zero(wrapper: str) -> tuple[float, bool, str]:
    """A kernel that is zero in one training call and then no longer: norm of the kernel in the next."""
    layer = _dense(wrapper, 0 * W, power_iterations=MANY)
    layer(_tensor(X), training=True)
    layer.kernel.assign((3 * W).astype("float32"))
    norm = float(np.linalg.norm(_numpy(layer(_tensor(np.eye(4)), training=True)), 2))
    return norm, abs(norm - 1) < 1e-5, ""


def depthwise(wrapper: str) -> tuple[float, bool, str]:
    """DepthwiseConv2D of 16 channels, each with a map of its own: the largest channel's norm."""
    fixed = _Fixed(np.random.default_rng(3).standard_normal((3, 3, 16, 1)))
    layer = _wrapped(wrapper, layers.DepthwiseConv2D(3, padding="same", depthwise_initializer=fixed), MANY)
    impulse = np.zeros((1, 5, 5, 16))
    impulse[:, 2, 2] = 1  # each channel answers with its kernel
    norms = np.linalg.norm(_numpy(layer(_tensor(impulse), training=True)).reshape(25, 16), axis=0)
    norm = float(norms.max())
    return norm, abs(norm - 1) < 1e-5, ""


def kinds(wrapper: str) -> tuple[float, bool, str]:
    """Of LSTM, SeparableConv2D and MultiHeadAttention: how many cannot be wrapped."""
    shapes: dict[Any, list] = {layers.LSTM(2): [(1, 3, 4)], layers.SeparableConv2D(2, 3): [(1, 4, 4, 4)]}
    shapes[layers.MultiHeadAttention(1, 2)] = [(1, 3, 4)] * 2
    refused = []
    for layer, inputs in shapes.items():
        try:
            _wrapped(wrapper, layer)(*(keras.KerasTensor(shape) for shape in inputs))
        except (TypeError, ValueError):
            refused.append(type(layer).__name__)
    return float(len(refused)), not refused, ", ".join(refused)


def half_precision(wrapper: str) -> tuple[float, bool, str]:
    """mixed_float16: how far one training call turns the stored float32 kernel, as a share of its length."""
    inner = layers.Dense(3, use_bias=False, kernel_initializer=_Fixed(W), dtype="mixed_float16")
    layer = WRAPPERS[wrapper](inner, power_iterations=1, dtype="mixed_float16")
    layer(_tensor(X), training=True)
    kernel = _numpy(layer.kernel)
    turned = float(np.linalg.norm(kernel / np.linalg.norm(kernel) - W / np.linalg.norm(W)))
    return turned, turned < 1e-6, ""


def saved(wrapper: str) -> tuple[float, bool, str]:
    """Saved as .keras and loaded: largest difference of the predictions."""
    model = keras.Sequential([keras.Input((4,)), _wrapped(wrapper, layers.Dense(3))])
    model(_tensor(X), training=True)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.saving.load_model(Path(folder) / "model.keras")
    difference = float(np.max(np.abs(_numpy(model(_tensor(X))) - _numpy(loaded(_tensor(X))))))
    return difference, difference == 0, ""


def training(wrapper: str) -> tuple[float, bool, str]:
    """Gradient descent on ½‖Ŵ − V‖²: final loss over the least loss that ‖Ŵ‖₂ ≤ 1 allows."""
    final = training_curve(wrapper)[-1]
    return final, final < 1.01, ""


CHECKS = (
    gradient,
    one_kernel,
    inference,
    frozen,
    from_zero,
    depthwise,
    kinds,
    half_precision,
    saved,
    training,
)


def training_curve(method: str) -> list[float]:
    """½‖Ŵ − V‖² over its minimum for ‖Ŵ‖₂ ≤ 1, by steps, for a wrapper or the constraint "divide" or "clip"."""
    start = np.random.default_rng(2).standard_normal(GOAL.shape)
    constraint = {"divide": DivideBySpectralNorm(), "clip": SpectralClip(1.0)}.get(method)
    wrapper = method if method in WRAPPERS else None
    layer = _dense(wrapper, start / np.linalg.norm(start, 2), constraint)
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build(layer.trainable_variables)
    state = layer.variables + optimizer.variables
    goal, identity = _tensor(GOAL), _tensor(np.eye(6))

    def step() -> Any:
        loss = lambda: ops.sum((layer(identity, training=True) - goal) ** 2) / 2  # noqa: E731
        value, slopes = value_and_grad(loss, layer.trainable_variables, state)
        optimizer.apply(slopes, layer.trainable_variables)
        return value

    compiled, sigma = compile_step(step, state), np.linalg.svd(GOAL, compute_uv=False)
    least = np.sum(np.maximum(sigma - 1, 0) ** 2) / 2
    return [float(_numpy(compiled()) / least) for _ in range(STEPS)]


def report() -> dict[str, Any]:
    """Everything that the chapter shows of this backend, as plain numbers."""
    backend, results = keras.backend.backend(), [(c, w, *c(w)) for w in WRAPPERS for c in CHECKS]
    return {
        "backend": backend,
        "versions": keras_reports.versions("keras", "numpy", backend),
        "checks": [
            {"check": c.__name__, "wrapper": w, "number": number, "passed": passed, "note": note}
            for c, w, number, passed, note in results
        ],
        "gradients": {
            n: dense_gradient(w).ravel().tolist()
            for n, w in {"divide": None, "keras": "keras", "lipnb": "lipnb"}.items()
        },
        "curves": {name: training_curve(name) for name in ("divide", "clip", *WRAPPERS)},
    }


# Small helpers ---------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="lipnb.lab")
class _Fixed(keras.initializers.Initializer):
    def __init__(self, value: Any) -> None:
        self.value = np.asarray(value)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return ops.convert_to_tensor(self.value.reshape(shape).astype("float32"), dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value.tolist()}


def _wrapped(wrapper: str, layer: Any, power_iterations: int = 1) -> Any:
    keras.utils.set_random_seed(0)  # Keras's own u starts at random
    return WRAPPERS[wrapper](layer, power_iterations=power_iterations)


def _dense(wrapper: str | None, w: np.ndarray, constraint: Any = None, power_iterations: int = 1) -> Any:
    inner = layers.Dense(
        w.shape[1], use_bias=False, kernel_initializer=_Fixed(w), kernel_constraint=constraint
    )
    layer = _wrapped(wrapper, inner, power_iterations) if wrapper else inner
    layer.build((None, w.shape[0]))
    return layer


def _tensor(x: np.ndarray) -> Any:
    return ops.convert_to_tensor(x.astype("float32"))


def _numpy(x: Any) -> np.ndarray:
    with suppress(AttributeError):
        x = x.detach()
    return np.array(ops.convert_to_numpy(x), np.float64)


if __name__ == "__main__":
    keras_reports.main(sys.argv[1:], report)
