"""One step of the critic and one of the generator, for every method and loss, as plain stateful Keras code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from lipnb.autodiff import value_and_grad
from lipnb.lab.methods import Hold
from lipnb.penalties import gradient_penalty

__all__ = ["GENERATOR_LOSSES", "LOSSES", "critic_step", "generator_step"]

Tensor = Any


def _wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return ops.mean(fake) - ops.mean(real)


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


def _log(real: Tensor, fake: Tensor) -> Tensor:
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


def _minus_mean(fake: Tensor) -> Tensor:
    return -ops.mean(fake)


def _non_saturating(fake: Tensor) -> Tensor:
    return ops.mean(ops.softplus(-fake))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "wasserstein": _wasserstein,
    "hinge": _hinge,
    "log": _log,
}
"""What the critic minimises, of its scores of real and fake samples."""

GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "wasserstein": _minus_mean,
    "hinge": _minus_mean,
    "log": _non_saturating,
}
"""What the generator minimises, of the critic's scores of its samples."""


def critic_step(
    s: Any,
    held: Hold,
    models: tuple[keras.Model, keras.Model],
    optimizer: keras.optimizers.Optimizer,
    state: list[keras.Variable],
) -> Callable[..., Tensor]:
    """Function of (real, noise, mix, *labels) that moves the critic once and returns its loss.

    ``s`` is a :class:`lipnb.lab.gan.Settings`, ``models`` (generator, critic), ``mix`` the penalty's random draw;
    ``labels``, where there are any, are those of the real and of the fake samples alike.
    """
    generator, critic = models
    kernels = [v for v in critic.trainable_variables if v.name == "kernel"]

    def step(real, noise, mix, *labels):
        fake = ops.stop_gradient(generator(_given(noise, labels), training=True))

        def loss():
            value = LOSSES[s.loss](*_scores(s, critic, real, fake, labels))
            if held.penalty is not None:
                function = _with_batch_statistics(critic) if s.batch_norm else _at_inference(critic, labels)
                value = value + s.penalty * gradient_penalty(function, real, fake, eps=mix, **held.penalty)
            if held.regularizer is not None:
                value = value + sum(held.regularizer(kernel.value) for kernel in kernels)
            return value

        value, gradients = value_and_grad(loss, critic.trainable_variables, state)
        optimizer.apply(gradients, critic.trainable_variables)
        return value

    return step


def generator_step(
    s: Any,
    models: tuple[keras.Model, keras.Model],
    optimizer: keras.optimizers.Optimizer,
    state: list[keras.Variable],
) -> Callable[..., Tensor]:
    """Function of (noise, *labels) that moves the generator once and returns its loss."""
    generator, critic = models

    def step(noise, *labels):
        def loss():
            fake = generator(_given(noise, labels), training=True)
            # The critic is only read here, its u vectors must not move. Batch normalization takes the statistics
            # of these samples, as in the article's code; normalised kernels find u up to date and leave it.
            return GENERATOR_LOSSES[s.loss](critic(_given(fake, labels), training=s.batch_norm))

        value, gradients = value_and_grad(loss, generator.trainable_variables, state)
        optimizer.apply(gradients, generator.trainable_variables)
        return value

    return step


def _given(x: Tensor, labels: tuple[Tensor, ...]) -> Any:
    """What a model is called with: the labels follow where there are any."""
    return [x, *labels] if labels else x


def _scores(s, critic, real, fake, labels):
    """Scores of both halves: in one call, but apart where batch normalization would mix them."""
    if s.batch_norm:
        return tuple(critic(samples, training=True) for samples in (real, fake))
    both = tuple(ops.concatenate([y, y]) for y in labels)
    scores = critic(_given(ops.concatenate([real, fake]), both), training=True)
    return scores[: s.batch], scores[s.batch :]


def _at_inference(critic, labels):
    return lambda x: critic(_given(x, labels), training=False)


def _with_batch_statistics(critic):
    """The critic with batch normalization by the statistics of its input, which are not kept."""

    def function(x):
        values = [(v, ops.convert_to_tensor(v.value)) for v in critic.variables]
        with keras.StatelessScope(state_mapping=values):
            return critic(x, training=True)

    return function
