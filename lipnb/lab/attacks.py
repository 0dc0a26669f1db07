"""Attacks on a classifier within a Euclidean ball: how near an input is one with another label?

A found perturbation is a proof of sensitivity; that none was found proves nothing. Inputs are not clipped to the range of
images, because a certificate speaks of every input.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from lipnb.autodiff import compile_step, input_gradient
from lipnb.checks import check_count
from lipnb.lab.supervised import margin, unit

__all__ = ["Attack", "attack_distance", "attacker", "margins"]

Attack = Callable[[np.ndarray, np.ndarray, object], np.ndarray]


def margins(network: keras.Model, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logit of the label less the largest other one, float32 (batch,): positive where x has its label."""
    logits = network(ops.convert_to_tensor(x, "float32"), training=False)
    return np.array(ops.convert_to_numpy(margin(logits, ops.convert_to_tensor(labels, "int32"))))


def attacker(network: keras.Model, *, steps: int = 20) -> Attack:
    """Projected gradient descent on the margin, in the ball of a radius (a number, or one an image) around each image.

    The returned function maps images (batch, …), labels (batch,) and radius to perturbed images, float32: for each the
    one with the lowest margin among those seen, the image itself included. A step is 2.5·radius/steps long, along the
    gradient of the margin.

    Guarantee
    ---------
    The perturbation is at most the radius long, to float32 rounding. For a network that is linear with two classes the
    result is the minimum of the margin over the ball.

    Source: Madry et al. 2018 (arXiv 1706.06083), with the margin of Carlini & Wagner 2017 (arXiv 1608.04644) as loss.
    """
    check_count(steps, "steps")

    def step(x, start, labels, radius):
        def loss(z):
            return margin(network(z, training=False), labels)

        moved = x - start - 2.5 / steps * radius * unit(input_gradient(loss, x))
        length = ops.sqrt(ops.sum(moved**2, axis=tuple(range(1, len(moved.shape))), keepdims=True))
        following = start + moved * ops.where(length > radius, radius / ops.maximum(length, radius), 1.0)
        return following, loss(following)

    compiled = compile_step(step, network.variables)

    def attack(x, labels, radius):
        start, y = ops.convert_to_tensor(x, "float32"), ops.convert_to_tensor(labels, "int32")
        radii = np.broadcast_to(np.asarray(radius, np.float32), len(x)).reshape(-1, *[1] * (x.ndim - 1))
        current, radii = start, ops.convert_to_tensor(np.ascontiguousarray(radii))
        best, lowest = np.array(x, np.float32), margins(network, x, labels)
        for _ in range(steps):
            current, value = compiled(current, start, y, radii)
            value = ops.convert_to_numpy(value)
            better = value < lowest
            best[better], lowest[better] = ops.convert_to_numpy(current)[better], value[better]
        return best

    return attack


def attack_distance(
    network: keras.Model,
    attack: Attack,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    largest: float,
    rounds: int = 7,
) -> np.ndarray:
    """Length of the shortest perturbation found that takes each image's label away, float64 (batch,).

    An attack at radius ``largest``, then ``rounds`` bisections of the radius; each perturbation found is shortened along
    its own direction. 0 where the label is wrong from the start; infinite where nothing was found.

    Guarantee
    ---------
    Upper bound of the distance to the decision boundary, to float32 rounding.
    """
    low = np.zeros(len(x))
    high = np.where(margins(network, x, labels) > 0, np.inf, 0.0)
    for turn in range(rounds + 1):
        radius = np.where(np.isfinite(high), (low + high) / 2, largest)
        if turn and not np.isfinite(high).any():
            break
        found = attack(x, labels, radius) - x
        broken = margins(network, x + found, labels) <= 0
        share = _shortest_share(network, x, found, labels)
        length = np.linalg.norm(found.reshape(len(x), -1).astype(np.float64), axis=1)
        low = np.where(broken, np.minimum(low, share * length), radius)
        high = np.where(broken, np.minimum(high, share * length), high)
    return high


def _shortest_share(network, x, perturbation, labels, halvings: int = 10) -> np.ndarray:
    """By bisection, a share t of each label-changing perturbation that changes the label too; 1 where it does not."""
    low, high = np.zeros(len(x)), np.ones(len(x))
    for _ in range(halvings):
        middle = (low + high) / 2
        t = middle.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))
        broken = margins(network, x + t * perturbation, labels) <= 0
        low, high = np.where(broken, low, middle), np.where(broken, middle, high)
    return high
