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

from lipnb.autodiff import compile_step
from lipnb.checks import check_choice, check_count, check_positive
from lipnb.lab import architectures, methods, models
from lipnb.lab.architectures import ARCHITECTURES
from lipnb.lab.steps import LOSSES, critic_step, generator_step

__all__ = ["Game", "Settings", "build", "generate", "labels_asked", "train"]

Tensor = Any
DCGAN = "dcgan"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, but its data and the machine.

    ``restart`` and ``radius`` are those of :func:`lipnb.lab.methods.hold`; ``batch_norm`` puts batch normalization
    into an image critic and ``depth`` is its number of 3×3 convolutions; ``classes`` is 0 for a game without labels.
    ``architecture`` is that of images: ``dcgan``, to which those three belong, or one of ``ARCHITECTURES``.
    """

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
    radius: float = 1.0
    restart: int = 0
    batch_norm: bool = False
    depth: int = 1
    classes: int = 0
    architecture: str = DCGAN

    def __post_init__(self) -> None:
        check_choice(self.method, "method", methods.METHODS)
        check_choice(self.loss, "loss", tuple(LOSSES))
        check_choice(self.architecture, "architecture", (DCGAN, *ARCHITECTURES))
        for name in ("critic_steps", "batch", "latent", "width", "depth"):
            check_count(getattr(self, name), name)
        for name in ("seed", "restart", "classes"):
            check_count(getattr(self, name), name, minimum=0)
        if self.restart and self.method != "spectral_norm":
            raise ValueError(f"restart must be 0 for this method. Received: {self.restart}, {self.method!r}")
        if self.batch_norm and self.classes:
            raise ValueError(
                f"batch_norm must be False where there are classes. Received: {self.classes} classes"
            )
        if self.architecture != DCGAN and (self.batch_norm, self.depth, self.classes) != (False, 1, 0):
            raise ValueError(
                f"batch_norm, depth and classes are for the architecture {DCGAN!r}. Received: {self.batch_norm}, "
                f"{self.depth} and {self.classes} with {self.architecture!r}"
            )
        for name in ("learning_rate", "penalty", "clip", "radius"):
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
    critic_step: Callable[..., Tensor]
    generator_step: Callable[..., Tensor]
    state: list[keras.Variable] = field(repr=False)


def build(settings: Settings, shape: tuple[int, ...], *, jit_compile: bool = False) -> Game:
    """Models, optimizers (Adam) and compiled steps for images of ``shape`` (h, w, c), or points of shape (d,)."""
    s = settings
    held = methods.hold(
        s.method, seed=s.seed, clip=s.clip, radius=s.radius, strength=s.penalty, restart=s.restart
    )
    pair = _generator(s, shape), _critic(s, shape, held)
    optimizers = [keras.optimizers.Adam(s.learning_rate, s.beta_1, s.beta_2) for _ in pair]
    for optimizer, model in zip(optimizers, pair, strict=True):
        optimizer.build(model.trainable_variables)
    state = [v for part in (*pair, *optimizers) for v in part.variables]
    steps = critic_step(s, held, pair, optimizers[1], state), generator_step(s, pair, optimizers[0], state)
    of_critic, of_generator = (compile_step(step, state, jit_compile=jit_compile) for step in steps)
    return Game(s, *pair, of_critic, of_generator, state)


def _generator(s: Settings, shape: tuple[int, ...]) -> keras.Model:
    if len(shape) == 1:
        return models.mlp_generator(s.latent, *shape, s.width, seed=2 * s.seed)
    if s.architecture != DCGAN:
        return architectures.generator(s.architecture, s.latent, shape, s.width, seed=2 * s.seed)
    if s.classes:
        return models.conditional_generator(s.latent, shape, s.width, s.classes, seed=2 * s.seed)
    return models.generator(s.latent, shape, s.width, seed=2 * s.seed)


def _critic(s: Settings, shape: tuple[int, ...], held: methods.Hold) -> keras.Model:
    embedding: dict[str, Any] = {"seed": 2 * s.seed + 1, "wrap": held.wrap}
    options = embedding | {"kernel_constraint": held.kernel_constraint}
    if len(shape) == 1:
        return models.mlp_critic(*shape, s.width, **options)
    if s.architecture != DCGAN:
        critic = architectures.critic(s.architecture, shape, s.width, **options)
    else:
        own: dict[str, Any] = {"batch_norm": s.batch_norm, "depth": s.depth}
        critic = models.critic(shape, s.width, gamma_constraint=held.gamma_constraint, **own, **options)
    if s.classes:
        critic = models.projection_critic(critic, s.classes, **embedding)
    methods.seed_vectors(critic, s.seed)
    return critic


def generate(game: Game, n: int, seed: int, batch: int = 500) -> np.ndarray:
    """``n`` generated images, float32 in −1 … 1, from noise that depends on ``seed`` alone.

    A game with classes is asked for those of :func:`labels_asked`.
    """
    s = game.settings
    noise = np.random.default_rng(seed).normal(size=(n, s.latent)).astype(np.float32)
    inputs = [noise, labels_asked(n, s.classes)] if s.classes else noise
    return game.generator.predict(inputs, batch_size=batch, verbose=0)


def labels_asked(n: int, classes: int) -> np.ndarray:
    """The labels of :func:`generate`: 0, 1, …, classes − 1, 0, 1, … (n of them)."""
    return (np.arange(n) % classes).astype(np.int32)


def train(
    game: Game,
    images: np.ndarray,
    evaluate_at: Iterable[int],
    evaluate: Callable[[Game], dict[str, float]],
    *,
    labels: np.ndarray | None = None,
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
    labels
        Of the images, where the game has classes; generated images are asked for labels drawn from these.
    checkpoint
        File to resume from where it exists, rewritten after each evaluation.

    Returns
    -------
    ``history`` (a list of dicts: update, epoch, seconds spent in steps, both losses, what ``evaluate`` gave)
    and ``diverged_at`` (the update at which a loss or a measured number was no longer finite, else None).
    Training ends there.
    """
    s = game.settings
    if bool(s.classes) == (labels is None):
        raise ValueError(f"labels must be given just where there are classes. Received: {s.classes} classes")
    stops = sorted(set(evaluate_at))
    rng = np.random.default_rng(s.seed)
    run: dict[str, Any] = {"update": 0, "seconds": 0.0, "history": [], "diverged_at": None}
    if checkpoint is not None and checkpoint.exists():
        run = _restore(game, rng, checkpoint)
    for stop in stops:
        if stop <= run["update"] or run["diverged_at"] is not None:
            continue
        losses = _play_until(stop, game, images, labels, rng, run, lambda done: progress(done, stops[-1]))
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


def _play_until(stop, game, images, labels, rng, run, progress):
    start = time.perf_counter()
    losses = {}
    while run["update"] < stop and run["diverged_at"] is None:
        losses = _update(game, images, labels, rng, run["update"])
        run["update"] += 1
        if not all(map(math.isfinite, losses.values())):
            run["diverged_at"] = run["update"]
        progress(run["update"])
    run["seconds"] += time.perf_counter() - start
    return losses


def _update(game, images, labels, rng, update):
    """``critic_steps`` critic steps, then one generator step."""
    s = game.settings
    for turn in range(s.critic_steps):
        chosen = rng.integers(len(images), size=s.batch)
        real = images[chosen]
        noise = rng.normal(size=(s.batch, s.latent)).astype(np.float32)
        mix = rng.uniform(size=(s.batch, *[1] * (images.ndim - 1))).astype(np.float32)
        if (
            methods.PENALTIES.get(s.method, {}).get("at") == "real"
        ):  # from elsewhere: all methods share the rest
            mix = np.random.default_rng([s.seed, update, turn]).normal(size=real.shape).astype(np.float32)
        critic_loss = _take(game.critic_step, real, noise, mix, *_labels(labels, chosen))
    noise = rng.normal(size=(s.batch, s.latent)).astype(np.float32)
    asked = [] if labels is None else _labels(labels, rng.integers(len(labels), size=s.batch))
    generator_loss = _take(game.generator_step, noise, *asked)
    return {"critic_loss": float(critic_loss), "generator_loss": float(generator_loss)}


def _take(step, *arrays):
    return step(*map(ops.convert_to_tensor, arrays))


def _labels(labels, chosen):
    return [] if labels is None else [labels[chosen].astype(np.int32)]


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
