"""Gradients and compilation, the same functions on TensorFlow, JAX and PyTorch.

This is the only file of lipnb that knows which backend Keras runs on. Training and measuring code is
written once, as ordinary stateful Keras (layers called, variables assigned, ``optimizer.apply``), and
handed to these functions.

JAX cannot differentiate or compile code that assigns variables. There, each function enters a
``keras.StatelessScope`` that maps every variable of ``state`` to a traced value, runs the stateful code,
and assigns what changed afterwards. Only the innermost scope is consulted by Keras, so ``state`` must name
every variable that the code reads or assigns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["compile_step", "input_gradient", "is_concrete", "scaled", "value_and_grad"]

Tensor = Any
Variables = Sequence[keras.Variable]


def value_and_grad(
    loss: Callable[[], Tensor], variables: Variables, state: Variables = ()
) -> tuple[Tensor, list[Tensor]]:
    """Value of ``loss()`` and its gradient with respect to ``variables``.

    Parameters
    ----------
    loss
        Function without arguments that returns a scalar tensor; it may assign variables of ``state``.
    variables
        The n trainable variables to differentiate with respect to.
    state
        Every other variable that ``loss`` reads or assigns (batch-norm statistics, seeds, u vectors, other
        models' weights). Needed on JAX only, harmless elsewhere.

    Returns
    -------
    value, gradients
        A scalar tensor and a list of n tensors shaped like the variables.
    """
    variables = list(variables)
    return _per_backend(_value_and_grad_tf, _value_and_grad_jax, _value_and_grad_torch)(
        loss, variables, state
    )


def input_gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of ``sum(f(x))`` with respect to ``x``, itself differentiable.

    Where ``f`` treats the samples of a batch independently, row i is the gradient of ``f`` at sample i.
    ``f`` must not assign variables that depend on ``x``.

    Parameters
    ----------
    f
        Function from a tensor like ``x`` to a tensor of any shape.
    x
        Floating-point tensor or array.

    Returns
    -------
    Tensor shaped like ``x``.
    """
    x = ops.convert_to_tensor(x)
    return _per_backend(_input_gradient_tf, _input_gradient_jax, _input_gradient_torch)(f, x)


def compile_step(step: Callable, state: Variables, *, jit_compile: bool = False) -> Callable:
    """Compiled version of ``step``, a function of tensors that may read and assign ``state``.

    TensorFlow traces a ``tf.function`` (with XLA where ``jit_compile``, which slows convolutions on a CPU);
    JAX always uses XLA and donates the old values of ``state``; PyTorch runs ``step`` as it is.

    Parameters
    ----------
    step
        Function of tensors only, whose result is a tensor or a nest of tensors.
    state
        Every variable that ``step`` reads or assigns.

    Returns
    -------
    Callable with the signature of ``step``.
    """
    return _per_backend(_compile_tf, _compile_jax, _compile_torch)(step, list(state), jit_compile)


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    """``x * factor`` for a scalar tensor ``factor``.

    TensorFlow's own gradient of the factor, Σ g·x, fills a tensor of x's size first; here it is one dot product.
    """
    return _scaled_tf(x, factor) if keras.backend.backend() == "tensorflow" else x * factor


def is_concrete(x: Tensor) -> bool:
    """Whether the tensor's entries are known now: not while a graph is traced or shapes are inferred."""
    if isinstance(x, np.ndarray):
        return True
    return _per_backend(_is_concrete_tf, _is_concrete_jax, _is_concrete_torch)(x)


def _per_backend(tensorflow: Callable, jax: Callable, torch: Callable) -> Callable:
    return {"tensorflow": tensorflow, "jax": jax, "torch": torch}[keras.backend.backend()]


# TensorFlow ----------------------------------------------------------------------------------------------


def _value_and_grad_tf(loss, variables, state):
    import tensorflow as tf

    values = [v.value for v in variables]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value = loss()
    gradients = tape.gradient(value, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # TensorFlow's graph optimizer (2.21) may drop the edge that makes an assignment wait for earlier reads, where
    # the gradient needs no value that was read: a Wasserstein critic's last layer. So gradients wait for the loss.
    # It bypasses a data edge where the gradient is an input, and a control edge where it is a constant: hence both.
    with tf.control_dependencies([value]):
        gradients = [tf.identity(gradient) for gradient in gradients]
    value, *gradients = tf.identity_n([value, *gradients])
    return value, gradients


def _input_gradient_tf(f, x):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        total = tf.reduce_sum(f(x))
    return tape.gradient(total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _scaled_tf(x, factor):
    import tensorflow as tf

    @tf.custom_gradient
    def product(x, factor):
        def gradient(upstream):
            g = tf.convert_to_tensor(upstream)  # an embedding's has rows and indices
            dot = tf.matmul(tf.reshape(g, (1, -1)), tf.reshape(x, (1, -1)), transpose_b=True)
            return g * factor, tf.reshape(dot, ())

        return x * factor, gradient

    return product(x, factor)


def _is_concrete_tf(x):
    import tensorflow as tf

    return tf.executing_eagerly() and hasattr(x, "numpy")  # a tf.Variable always has it


def _compile_tf(step, state, jit_compile):
    import tensorflow as tf

    # No AutoGraph: the other backends know no `if` on a tensor either, and tracing takes half the time.
    return tf.function(step, autograph=False, jit_compile=jit_compile, reduce_retracing=True)


# JAX -----------------------------------------------------------------------------------------------------


def _value_and_grad_jax(loss, variables, state):
    import jax

    known = {id(v) for v in variables}
    others = [v for v in state if id(v) not in known]
    outer = [v.value for v in others]

    def pure(values):
        mapping = [*zip(variables, values, strict=True), *zip(others, outer, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            value = loss()
        return value, _current_values(scope, others, outer)

    (value, after), gradients = jax.value_and_grad(pure, has_aux=True)([v.value for v in variables])
    for variable, old, new in zip(others, outer, after, strict=True):
        if new is not old:
            variable.assign(new)
    return value, list(gradients)


def _input_gradient_jax(f, x):
    import jax

    return jax.grad(lambda x: ops.sum(f(x)))(x)


def _is_concrete_jax(x):
    import jax

    return not isinstance(x, jax.core.Tracer)


def _compile_jax(step, state, jit_compile):
    import jax

    def pure(values, *inputs):
        with keras.StatelessScope(state_mapping=list(zip(state, values, strict=True))) as scope:
            result = step(*inputs)
        return result, _current_values(scope, state, values)

    compiled = jax.jit(pure, donate_argnums=0)

    def call(*inputs):
        result, values = compiled([v.value for v in state], *inputs)
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        return result

    return call


def _current_values(scope, variables, fallback):
    values = [scope.get_current_value(v) for v in variables]
    return [old if new is None else new for new, old in zip(values, fallback, strict=True)]


# PyTorch -------------------------------------------------------------------------------------------------


def _value_and_grad_torch(loss, variables, state):
    import torch

    value = loss()
    wanted = [v.value for v in variables]
    if not value.requires_grad:
        return value, [torch.zeros_like(v) for v in wanted]
    gradients = torch.autograd.grad(value, wanted, allow_unused=True)
    filled = [torch.zeros_like(v) if g is None else g for v, g in zip(wanted, gradients, strict=True)]
    return value.detach(), filled


def _input_gradient_torch(f, x):
    import torch

    if not x.requires_grad:
        x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        total = torch.sum(f(x))
        if not total.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(total, x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def _is_concrete_torch(x):
    return x.device.type != "meta"


def _compile_torch(step, state, jit_compile):
    return step
