"""What a critic step must compute: multiplications and additions, layer by layer, for the networks of the headline.

A product of a multiplication and an addition counts two operations. Counted are convolutions and dense layers;
activations, batch normalization, the losses and the optimizer are left out. ``floating_operations`` of
:mod:`lipnb.lab.costs` counts a traced graph instead, with all that is left out here, and with what is in the graph
and never run.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from math import nan

__all__ = ["PARTS", "parts", "shares", "step", "traced"]

LATENT = 64
ITERATION = 4  # operations a weight: a product with W and one with its transpose
PARTS = ("forward", "weight_gradient", "input_gradient", "penalty_gradient")


def parts(width: int, *, size: int = 28, depth: int = 1) -> dict[str, float]:
    """Operations of each of ``PARTS`` for one image, as :func:`lipnb.lab.costs.parts` times them.

    With F those of a forward pass: F; 3F less the first layer's gradient to the image; 2F; and for the penalty 4F less the
    last layer's gradient to its constant: the leaky ReLU has slopes of 0 slope themselves, so the second way back goes
    through the first way back alone, and no more through the forward pass.
    """
    layers = _critic(width, size, depth)
    forward = sum(layers)
    return {
        "forward": forward,
        "weight_gradient": 3 * forward - layers[0],
        "input_gradient": 2 * forward,
        "penalty_gradient": 4 * forward - layers[-1],
    }


def step(method: str, width: int, *, batch: int = 64, size: int = 28, depth: int = 1) -> float:
    """Operations of a critic step of ``method``: ``none``, ``gradient_penalty`` or ``spectral_norm`` (one iteration)."""
    of = parts(width, size=size, depth=depth)
    plain = batch * (sum(_generator(width, size)) + 2 * of["weight_gradient"])
    added = {
        "none": 0.0,
        "gradient_penalty": batch * of["penalty_gradient"],
        "spectral_norm": ITERATION * _weights(width, size, depth),
    }
    return plain + added[method]


def traced(width: int, batch: int) -> dict[str, float]:
    """Operations of each of ``PARTS`` for one image in the graph that TensorFlow traces; NaN on other backends.

    The graph holds more than is needed: an operation's rule gives the gradients of all its inputs, wanted or not, so the
    way back to the image brings the gradients of the kernels along (never run, since nothing asks for them); and the
    slope of the leaky ReLU's slope is a tensor of zeros, which the second way back carries through the forward pass.
    """
    import numpy as np
    from keras import ops

    from lipnb.lab import costs

    (game,) = costs.games(["none"], 28, width=width, batch=batch, seed=0).values()
    images = ops.convert_to_tensor(np.zeros((batch, 28, 28, 1), np.float32))
    with _quiet("tensorflow"):  # its profiler warns that a function of its own is deprecated
        counted = {
            name: costs.floating_operations(do, images, images)
            for name, do in costs.parts(game.critic).items()
        }
    return {name: nan if count is None else count / batch for name, count in counted.items()}


def shares(of: Mapping[str, float]) -> dict[str, float]:
    """The parts as multiples of the forward pass."""
    return {name: count / of["forward"] for name, count in of.items()}


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """No warnings of the logger ``name`` meanwhile."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _critic(width: int, size: int, depth: int) -> list[float]:
    """Operations of each layer of :func:`lipnb.lab.models.critic` for one image with one channel."""
    half, quarter = (size // 2) ** 2, (size // 4) ** 2
    kernels = _kernels(width, depth)
    return [
        2.0 * count * places for count, places in zip(kernels, (half, *[quarter] * (depth + 1)), strict=True)
    ] + [2.0 * quarter * 4 * width]


def _kernels(width: int, depth: int) -> list[int]:
    """Weights of each convolution of the critic."""
    first = [16 * width, 16 * width * 2 * width, 9 * 2 * width * 4 * width]
    return first + [9 * (4 * width) ** 2] * (depth - 1)


def _weights(width: int, size: int, depth: int) -> int:
    return sum(_kernels(width, depth)) + (size // 4) ** 2 * 4 * width


def _generator(width: int, size: int) -> list[float]:
    """Operations of each layer of :func:`lipnb.lab.models.generator` for one image with one channel."""
    quarter, half = (size // 4) ** 2, (size // 2) ** 2
    return [
        2.0 * LATENT * quarter * 4 * width,
        2.0 * quarter * 16 * 4 * width * 2 * width,
        2.0 * half * 16 * 2 * width * width,
        2.0 * size**2 * 9 * width,
    ]
