"""Adversarial training, written once for every backend, method and loss.

The noise, the batches and the penalty's ε come from NumPy, so a seed gives the same numbers to every
method and backend. ``train`` can stop and resume: its checkpoint holds every variable, the optimizers' and
the random generator's state, so that a resumed run ends in the same bits as an unbroken one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.autodiff import compile_step, value_and_grad
from lipnb.checks import check_choice, check_count, check_positive
from lipnb.constraints import WeightClip
from lipnb.lab import models
from lipnb.penalties import gradient_penalty
from lipnb.reparam import SpectralNormalization

__all__ = ["LOSSES", "METHODS", "Game", "Settings", "build", "generate", "train"]

METHODS = ("none", "weight_clip", "gradient_penalty", "spectral_norm")
Tensor = Any


def _wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return ops.mean(fake) - ops.mean(real)


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"wasserstein": _wasserstein, "hinge": _hinge}
"""What the critic minimises, of its scores of real and fake images; the generator minimises −mean(fake)."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, but its data and the machine."""

    method: str
    loss: str
    critic_steps: int
    seed: int
    learning_rate: float
    beta_1: float = 0.5
    beta_2: float = 0.9
    batch: int = 64
    latent: int = 64
    width: int = 16
    penalty: float = 10.0
    clip: float = 0.01

    def __post_init__(self) -> None:
        check_choice(self.method, "method", METHODS)
        check_choice(self.loss, "loss", tuple(LOSSES))
        for name in ("critic_steps", "batch", "latent", "width"):
            check_count(getattr(self, name), name)
        check_count(self.seed, "seed", minimum=0)
        for name in ("learning_rate", "penalty", "clip"):
            check_positive(getattr(self, name), name)
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1. Received: {getattr(self, name)!r}")


@dataclass(frozen=True)
class Game:
    """A generator and a critic with their compiled steps, and all variables that the steps touch."""

    settings: Settings
    generator: keras.Model
    critic: keras.Model
    critic_step: Callable[[Tensor, Tensor, Tensor], Tensor]
    generator_step: Callable[[Tensor], Tensor]
    state: list[keras.Variable] = field(repr=False)


def build(settings: Settings, shape: tuple[int, int, int], *, jit_compile: bool = False) -> Game:
    """Models, optimizers (Adam) and compiled steps for images of ``shape`` (h, w, c)."""
    s = settings
    generator = models.generator(s.latent, shape, s.width, seed=2 * s.seed)
    critic = models.critic(
        shape,
        s.width,
        seed=2 * s.seed + 1,
        wrap=_spectral(s.seed) if s.method == "spectral_norm" else models.unwrapped,
        kernel_constraint=WeightClip(s.clip) if s.method == "weight_clip" else None,
    )
    optimizers = [keras.optimizers.Adam(s.learning_rate, s.beta_1, s.beta_2) for _ in range(2)]
    for optimizer, model in zip(optimizers, (generator, critic), strict=True):
        optimizer.build(model.trainable_variables)
    state = [v for part in (generator, critic, *optimizers) for v in part.variables]
    critic_step = _critic_step(s, generator, critic, optimizers[1], state)
    generator_step = _generator_step(generator, critic, optimizers[0], state)
    return Game(
        s,
        generator,
        critic,
        compile_step(critic_step, state, jit_compile=jit_compile),
        compile_step(generator_step, state, jit_compile=jit_compile),
        state,
    )


def _spectral(seed: int) -> models.Wrap:
    return lambda layer: SpectralNormalization(layer, seed=seed)


def _critic_step(s, generator, critic, optimizer, state):
    def step(real, noise, mix):
        fake = ops.stop_gradient(generator(noise, training=True))

        def loss():
            scores = critic(ops.concatenate([real, fake]), training=True)
            value = LOSSES[s.loss](scores[: s.batch], scores[s.batch :])
            if s.method == "gradient_penalty":
                value = value + s.penalty * gradient_penalty(critic, real, fake, eps=mix)
            return value

        value, gradients = value_and_grad(loss, critic.trainable_variables, state)
        optimizer.apply(gradients, critic.trainable_variables)
        return value

    return step


def _generator_step(generator, critic, optimizer, state):
    def step(noise):
        def loss():
            # training=False: the critic is only read here, its u vectors must not move.
            return -ops.mean(critic(generator(noise, training=True), training=False))

        value, gradients = value_and_grad(loss, generator.trainable_variables, state)
        optimizer.apply(gradients, generator.trainable_variables)
        return value

    return step


def generate(game: Game, n: int, seed: int, batch: int = 500) -> np.ndarray:
    """``n`` generated images, float32 in −1 … 1, from noise that depends on ``seed`` alone."""
    noise = np.random.default_rng(seed).normal(size=(n, game.settings.latent)).astype(np.float32)
    return game.generator.predict(noise, batch_size=batch, verbose=0)


def train(
    game: Game,
    images: np.ndarray,
    evaluate_at: Iterable[int],
    evaluate: Callable[[Game], dict[str, float]],
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Play until the last update of ``evaluate_at``, measuring at each of them.

    Parameters
    ----------
    images
        Training images, float32 (n, h, w, c) in −1 … 1; batches are drawn with replacement.
    evaluate_at
        Generator updates after which ``evaluate(game)`` is called.
    checkpoint
        File to resume from where it exists, rewritten after each evaluation.

    Returns
    -------
    ``history`` (a list of dicts: update, epoch, seconds spent in steps, both losses, what ``evaluate`` gave)
    and ``diverged_at`` (the update at which a loss or a measured number was no longer finite, else None).
    Training ends there.
    """
    s = game.settings
    stops = sorted(set(evaluate_at))
    rng = np.random.default_rng(s.seed)
    run: dict[str, Any] = {"update": 0, "seconds": 0.0, "history": [], "diverged_at": None}
    if checkpoint is not None and checkpoint.exists():
        run = _restore(game, rng, checkpoint)
    for stop in stops:
        if stop <= run["update"] or run["diverged_at"] is not None:
            continue
        losses = _play_until(stop, game, images, rng, run, lambda done: progress(done, stops[-1]))
        entry = {
            "update": run["update"],
            "epoch": run["update"] * s.critic_steps * s.batch / len(images),
            "seconds": run["seconds"],
            **losses,
        }
        if run["diverged_at"] is None:
            entry |= evaluate(game)
            if all(map(math.isfinite, entry.values())):
                run["history"].append(entry)
            else:
                run["diverged_at"] = run["update"]
        if checkpoint is not None:
            _save(game, rng, run, checkpoint)
    return {"history": run["history"], "diverged_at": run["diverged_at"]}


def _play_until(stop, game, images, rng, run, progress):
    start = time.perf_counter()
    losses = {}
    while run["update"] < stop and run["diverged_at"] is None:
        losses = _update(game, images, rng)
        run["update"] += 1
        if not all(map(math.isfinite, losses.values())):
            run["diverged_at"] = run["update"]
        progress(run["update"])
    run["seconds"] += time.perf_counter() - start
    return losses


def _update(game, images, rng):
    """``critic_steps`` critic steps, then one generator step."""
    s = game.settings
    for _ in range(s.critic_steps):
        real = images[rng.integers(len(images), size=s.batch)]
        noise = rng.normal(size=(s.batch, s.latent)).astype(np.float32)
        mix = rng.uniform(size=(s.batch, 1, 1, 1)).astype(np.float32)
        critic_loss = game.critic_step(*map(ops.convert_to_tensor, (real, noise, mix)))
    noise = rng.normal(size=(s.batch, s.latent)).astype(np.float32)
    generator_loss = game.generator_step(ops.convert_to_tensor(noise))
    return {"critic_loss": float(critic_loss), "generator_loss": float(generator_loss)}


def _save(game, rng, run, path):
    variables = {f"v{i:04d}": ops.convert_to_numpy(v) for i, v in enumerate(game.state)}
    meta = json.dumps({"run": run, "rng": rng.bit_generator.state})
    beside = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("wb") as file:
        np.savez(file, meta=np.array(meta), **variables)
    os.replace(beside, path)


def _restore(game, rng, path):
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["meta"]))
        for i, variable in enumerate(game.state):
            variable.assign(arrays[f"v{i:04d}"])
    rng.bit_generator.state = meta["rng"]
    return meta["run"]
