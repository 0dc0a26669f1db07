"""What a critic step costs: its parts alone, its operations, its memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from lipnb.autodiff import compile_step, value_and_grad
from lipnb.lab import gan
from lipnb.penalties import gradient_penalty

__all__ = ["VARIANTS", "floating_operations", "games", "parts", "peak_bytes", "seconds"]

Tensor = Any
# What is timed: a method, and the options of gan.Settings that make it a variant.
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    "weight_clip": {"method": "weight_clip"},
    "gradient_penalty": {"method": "gradient_penalty"},
    "spectral_norm": {"method": "spectral_norm"},
    "article_norm": {"method": "spectral_norm", "restart": 5},
    "operator_norm": {"method": "operator_norm"},
}


def games(names: list[str], size: int, **settings: Any) -> dict[str, gan.Game]:
    """A game for each variant in ``names``, on images of ``size``×``size``×1, with the Wasserstein loss."""
    common: dict[str, Any] = {"loss": "wasserstein", "critic_steps": 1, "learning_rate": 1e-4} | settings
    return {name: gan.build(gan.Settings(**common | VARIANTS[name]), (size, size, 1)) for name in names}


def seconds(step: Callable[..., Any], *tensors: Tensor) -> float:
    """Wall-clock seconds of one call, the wait for its result included."""
    start = time.perf_counter()
    float(step(*tensors))
    return time.perf_counter() - start


def parts(critic: keras.Model) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Compiled functions of (real, fake) that do one part of a critic step, each of the batch of ``real``.

    ``forward``: scores; ``weight_gradient``: forward and backward to the weights; ``input_gradient``: forward and
    backward to the input; ``penalty_gradient``: the latter and a second backward through both, to the weights.
    The results are sums, so that nothing can be left out.
    """
    variables, state = critic.trainable_variables, critic.variables
    half = ops.full((1,), 0.5)

    def total(value: Tensor, gradients: list[Tensor]) -> Tensor:
        return value + sum(ops.sum(g) for g in gradients)

    def forward(real, fake):
        return ops.sum(critic(real, training=False))

    def weight_gradient(real, fake):
        return total(*value_and_grad(lambda: ops.mean(critic(real, training=False)), variables, state))

    def input_gradient(real, fake):
        return gradient_penalty(critic, real, fake, eps=half)

    def penalty_gradient(real, fake):
        return total(
            *value_and_grad(lambda: gradient_penalty(critic, real, fake, eps=half), variables, state)
        )

    steps = (forward, weight_gradient, input_gradient, penalty_gradient)
    return {step.__name__: compile_step(step, state) for step in steps}


def floating_operations(step: Callable[..., Any], *tensors: Tensor) -> int | None:
    """Floating-point operations of one call as TensorFlow's profiler counts them; None on other backends.

    Multiplications and additions count one each. What the profiler has no rule for counts nothing.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    traced: Any = step
    graph = traced.get_concrete_function(*tensors).graph
    return tf.compat.v1.profiler.profile(graph, options=options.build()).total_float_ops


def peak_bytes() -> int:
    """Most memory held so far: on the accelerator where JAX tells, else by this process."""
    if keras.backend.backend() == "jax":
        import jax

        if stats := jax.local_devices()[0].memory_stats():
            return int(stats["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
