"""One training step of the DCGAN critic, plain and spectrally normalised, in Keras and in each peer's own way.

Every function here answers steps by name; a step trains once on its own batch and returns the loss as a number.
The critic is that of ``lipnb.lab.models``: convolutions 4×4 stride 2 (width, 2·width) and 3×3 (4·width), leaky
ReLU of slope 0.2, dense; loss mean f(fake) − mean f(real) of two calls; gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

import lipnb
from lipnb.autodiff import compile_step, value_and_grad
from lipnb.lab import models

Steps = dict[str, Callable[[], float]]
RATE = 1e-4


def batches(size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and fake images, (batch, size, size, 1)."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, batch, size, size, 1)).astype("float32")
    return images[0], images[1]


# Keras ---------------------------------------------------------------------------------------------------


def keras_steps(size: int, width: int, batch: int, kernel: int | None = None) -> Steps:
    """``plain``, ``lipnb`` (reshaped kernel), ``lipnb, operator`` and Keras's own wrapper, on the running backend."""
    wraps: dict[str, Callable[[keras.Layer], keras.Layer]] = {
        "plain": models.unwrapped,
        "lipnb": lipnb.SpectralNormalization,
        "lipnb, operator": lambda layer: lipnb.SpectralNormalization(layer, operator=True),
    }
    if keras.backend.backend() != "torch":  # there it fails where a loss calls a critic twice
        wraps["keras"] = keras.layers.SpectralNormalization
    return {name: _keras_step(resized(wrap, kernel), size, width, batch) for name, wrap in wraps.items()}


def resized(wrap: Callable[[keras.Layer], keras.Layer], kernel: int | None) -> Callable[[Any], keras.Layer]:
    """``wrap`` of the layer, with a convolution's kernel of another size where one is given."""

    def change(layer: Any) -> keras.Layer:
        if kernel is None or not hasattr(layer, "kernel_size"):
            return wrap(layer)
        return wrap(type(layer).from_config({**layer.get_config(), "kernel_size": kernel}))

    return change


def _keras_step(wrap: Callable, size: int, width: int, batch: int) -> Callable[[], float]:
    critic = models.critic((size, size, 1), width, seed=0, wrap=wrap)
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build(critic.trainable_variables)
    state = [*critic.variables, *optimizer.variables]

    def step(real: Any, fake: Any) -> Any:
        def loss() -> Any:
            return ops.mean(critic(fake, training=True)) - ops.mean(critic(real, training=True))

        value, gradients = value_and_grad(loss, critic.trainable_variables, state)
        optimizer.apply(gradients, critic.trainable_variables)
        return value

    compiled, tensors = compile_step(step, state), [*map(ops.convert_to_tensor, batches(size, batch))]
    return lambda: float(compiled(*tensors))


# Peers ---------------------------------------------------------------------------------------------------


def torch_steps(size: int, width: int, batch: int) -> Steps:
    """torch.nn.utils.parametrizations.spectral_norm."""
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm

    real, fake = (torch.tensor(x.transpose(0, 3, 1, 2)) for x in batches(size, batch))

    def build(wrap: Callable) -> Callable[[], float]:
        plan = [(1, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 4 * width, 3, 1)]
        parts = [
            part
            for i, o, k, s in plan
            for part in (wrap(nn.Conv2d(i, o, k, s, padding=1)), nn.LeakyReLU(0.2))
        ]
        critic = nn.Sequential(*parts, nn.Flatten(), wrap(nn.Linear(4 * width * (size // 4) ** 2, 1)))
        optimizer = torch.optim.SGD(critic.parameters(), RATE)

        def step() -> float:
            loss = critic(fake).mean() - critic(real).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return {"plain": build(lambda layer: layer), "torch": build(spectral_norm)}


def flax_steps(size: int, width: int, batch: int) -> Steps:
    """flax.linen.SpectralNorm."""
    import jax
    from flax import linen as nn

    real, fake = (jax.numpy.asarray(x) for x in batches(size, batch))

    class Critic(nn.Module):
        spectral: bool

        @nn.compact
        def __call__(self, x: Any) -> Any:
            def apply(layer: Any, x: Any) -> Any:
                return nn.SpectralNorm(layer)(x, update_stats=True) if self.spectral else layer(x)

            for filters, kernel, stride in ((width, 4, 2), (2 * width, 4, 2), (4 * width, 3, 1)):
                x = nn.leaky_relu(apply(nn.Conv(filters, (kernel, kernel), stride, padding=1), x), 0.2)
            return apply(nn.Dense(1), x.reshape(len(x), -1))

    def build(spectral: bool) -> Callable[[], float]:
        critic = Critic(spectral)
        variables = critic.init(jax.random.key(0), real)

        def loss(params: Any, rest: Any) -> Any:
            y, rest = critic.apply({"params": params, **rest}, fake, mutable=["batch_stats"])
            z, rest = critic.apply({"params": params, **rest}, real, mutable=["batch_stats"])
            return y.mean() - z.mean(), rest

        return _jax_step(loss, variables["params"], {k: v for k, v in variables.items() if k != "params"})

    return {"plain": build(False), "flax": build(True)}


def equinox_steps(size: int, width: int, batch: int) -> Steps:
    """equinox.nn.SpectralNorm."""
    import equinox as eqx
    import jax

    real, fake = (jax.numpy.asarray(x.transpose(0, 3, 1, 2)) for x in batches(size, batch))
    keys = iter(jax.random.split(jax.random.key(0), 20))

    def build(spectral: bool) -> Callable[[], float]:
        def wrap(layer: Any) -> Any:
            return eqx.nn.SpectralNorm(layer, "weight", key=next(keys)) if spectral else layer

        def layers() -> Any:
            for i, o, k, s in ((1, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 4 * width, 3, 1)):
                yield wrap(eqx.nn.Conv2d(i, o, k, s, padding=1, key=next(keys)))
                yield eqx.nn.Lambda(lambda x: jax.nn.leaky_relu(x, 0.2))
            yield eqx.nn.Lambda(jax.numpy.ravel)
            yield wrap(eqx.nn.Linear(4 * width * (size // 4) ** 2, 1, key=next(keys)))

        model, state = eqx.nn.make_with_state(lambda: eqx.nn.Sequential(list(layers())))()
        params, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(params: Any, state: Any) -> Any:
            critic = jax.vmap(
                eqx.combine(params, static), in_axes=(0, None), out_axes=(0, None), axis_name="n"
            )
            y, state = critic(fake, state)
            z, state = critic(real, state)
            return y.mean() - z.mean(), state

        return _jax_step(loss, params, state)

    return {"plain": build(False), "equinox": build(True)}


def _jax_step(loss: Callable, params: Any, rest: Any) -> Callable[[], float]:
    """A compiled step of gradient descent of ``loss(params, rest)`` → (value, rest)."""
    import jax

    @jax.jit
    def update(params: Any, rest: Any) -> Any:
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params, rest)
        return value, jax.tree.map(lambda p, g: p - RATE * g, params, gradients), rest

    held = [params, rest]

    def step() -> float:
        value, *held[:] = update(*held)
        return float(value)

    return step


PEERS: dict[str, Callable[[int, int, int], Steps]] = {
    "torch": torch_steps,
    "flax": flax_steps,
    "equinox": equinox_steps,
}
