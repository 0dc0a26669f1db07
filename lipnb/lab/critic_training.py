"""Training a small critic between two known distributions, under each way to hold its Lipschitz constant.

The critic minimises mean f(fake) − mean f(real), plus the method's penalty. Batches are fresh draws, so there is
nothing to overfit. A bench is compiled once and trained many times: ``reset`` gives it the initial weights of a
seed. All numbers are drawn by NumPy, so a seed means the same to every method and backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from lipnb.autodiff import compile_step, input_gradient, value_and_grad
from lipnb.checks import check_choice, check_count, check_positive
from lipnb.constraints import FrobeniusClip, WeightClip
from lipnb.lab.distributions import Pair, draw
from lipnb.lab.methods import PENALTIES
from lipnb.penalties import gradient_penalty
from lipnb.regularizers import FrobeniusPenalty
from lipnb.reparam import SpectralNormalization

__all__ = ["METHODS", "THRESHOLD", "Bench", "Settings", "build", "loss_gradients", "reset", "train"]

METHODS = ("none", "weight_clip", "frobenius_clip", "frobenius_penalty", *PENALTIES, "spectral_norm")
SLOPE = 0.2
THRESHOLD = 1.0  # Frobenius norm up to which the Frobenius penalty asks nothing
BLOCK = 50  # steps whose batches are drawn at once
Tensor = Any


@dataclass(frozen=True)
class Settings:
    """What a bench is compiled for. ``strength`` is the clipping bound or the penalty's factor, 0 where unused."""

    method: str
    dimension: int
    strength: float = 0.0
    depth: int = 3
    width: int = 64
    batch: int = 256
    beta_1: float = 0.5
    beta_2: float = 0.9

    def __post_init__(self) -> None:
        check_choice(self.method, "method", METHODS)
        for name in ("dimension", "depth", "width", "batch"):
            check_count(getattr(self, name), name)
        unused = self.method in ("none", "spectral_norm")
        check_positive(self.strength, "strength", allow_zero=unused)


@dataclass(frozen=True)
class Bench:
    """A critic with its compiled training step and evaluation, and every variable that they touch.

    ``step`` takes (real, fake, mix) and returns the loss; ``evaluate`` takes rows x (n, d) and returns f(x), shape
    (n,), and ∇f(x), shape (n, d), as float32 arrays.
    """

    settings: Settings
    critic: keras.Model
    optimizer: keras.Optimizer
    step: Callable[..., Tensor] = field(repr=False)
    evaluate: Callable[[Any], tuple[np.ndarray, np.ndarray]] = field(repr=False)
    state: list[keras.Variable] = field(repr=False)
    start: list[np.ndarray] = field(repr=False)

    @property
    def kernels(self) -> list[keras.Variable]:
        """The kernels, from the input to the output; of a normalised layer, the ones that the optimizer writes."""
        return [v for v in self.critic.trainable_variables if v.name == "kernel"]


def build(settings: Settings, *, jit_compile: bool = False) -> Bench:
    """An MLP critic of ``depth`` hidden layers (leaky ReLU of slope 0.2), Adam, and their compiled step."""
    critic = _critic(settings)
    optimizer = keras.optimizers.Adam(1e-3, settings.beta_1, settings.beta_2)
    optimizer.build(critic.trainable_variables)
    state = [*critic.variables, *optimizer.variables]
    step = compile_step(_training_step(settings, critic, optimizer, state), state, jit_compile=jit_compile)
    start = [ops.convert_to_numpy(v) for v in state]
    return Bench(settings, critic, optimizer, step, _evaluation(critic), state, start)


def _critic(s: Settings) -> keras.Model:
    options = {
        "weight_clip": {k: WeightClip(s.strength or 1) for k in ("kernel_constraint", "bias_constraint")},
        "frobenius_clip": {"kernel_constraint": FrobeniusClip(s.strength or 1)},
        "frobenius_penalty": {"kernel_regularizer": FrobeniusPenalty(s.strength, THRESHOLD)},
    }.get(s.method, {})

    def dense(units: int) -> keras.Layer:
        layer = layers.Dense(units, **options)
        return SpectralNormalization(layer) if s.method == "spectral_norm" else layer

    critic = keras.Sequential([keras.Input((s.dimension,))], name="critic")
    for _ in range(s.depth):
        critic.add(dense(s.width))
        critic.add(layers.LeakyReLU(negative_slope=SLOPE))
    critic.add(dense(1))
    return critic


def _training_step(s, critic, optimizer, state):
    penalty = PENALTIES.get(s.method)

    def step(real, fake, mix):
        def loss():
            scores = critic(ops.concatenate([fake, real]), training=True)
            value = ops.mean(scores[: s.batch]) - ops.mean(scores[s.batch :])
            if penalty is not None:
                value = value + s.strength * gradient_penalty(critic, real, fake, eps=mix, **penalty)
            return value + sum(critic.losses)

        value, gradients = value_and_grad(loss, critic.trainable_variables, state)
        optimizer.apply(gradients, critic.trainable_variables)
        return value

    return step


def _evaluation(critic: keras.Model) -> Callable:
    def f(x: Tensor) -> Tensor:
        return critic(x, training=False)[:, 0]

    compiled = compile_step(lambda x: (f(x), input_gradient(f, x)), critic.variables)

    def evaluate(x: Any) -> tuple[np.ndarray, np.ndarray]:
        values, gradients = compiled(ops.convert_to_tensor(x, "float32"))
        return ops.convert_to_numpy(values), ops.convert_to_numpy(gradients)

    return evaluate


def reset(bench: Bench, seed: int, learning_rate: float) -> None:
    """Initial weights of ``seed`` and a new optimizer.

    The weights are He-normal, brought within the method's constraint; under the Frobenius penalty each
    kernel starts at its threshold at most, since from far above it the critic's gain outruns the penalty.
    """
    for variable, value in zip(bench.state, bench.start, strict=True):
        variable.assign(value)
    within = FrobeniusClip(THRESHOLD) if bench.settings.method == "frobenius_penalty" else None
    rng = np.random.default_rng(seed)
    for kernel in bench.kernels:
        value = (rng.standard_normal(kernel.shape) * np.sqrt(2 / kernel.shape[0])).astype(np.float32)
        project = kernel.constraint or within
        kernel.assign(value if project is None else project(value))
    for layer in bench.critic.layers:
        if isinstance(layer, SpectralNormalization):
            layer.update_vectors()
    bench.optimizer.learning_rate = learning_rate


def train(
    bench: Bench,
    pair: Pair,
    seed: int,
    evaluate_at: Sequence[int],
    measure: Callable[[Bench], dict[str, float]],
    progress: Callable[[int], None] = lambda step: None,
) -> dict[str, Any]:
    """Train until the last step of ``evaluate_at``, with ``measure(bench)`` after each of them.

    Returns
    -------
    ``history``, one list for each number that ``measure`` returned, and ``step``; ``diverged_at``, the first of
    ``evaluate_at`` at which one of them was not finite (training ends there), else None.
    """
    history: dict[str, list[float]] = {"step": []}
    for done, batch in enumerate(_batches(bench.settings, pair, evaluate_at[-1], seed), start=1):
        bench.step(*batch)
        if done not in evaluate_at:
            continue
        progress(done)
        measured = measure(bench)
        if not np.all(np.isfinite(list(measured.values()))):
            return {"history": history, "diverged_at": done}
        for key, value in {"step": done, **measured}.items():
            history.setdefault(key, []).append(value)
    return {"history": history, "diverged_at": None}


def _batches(s: Settings, pair: Pair, steps: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Independent real and fake batches and the penalty's draws, for each of ``steps`` steps."""
    rng = np.random.default_rng([seed, 1])
    for first in range(0, steps, BLOCK):
        shape = (min(BLOCK, steps - first), s.batch, s.dimension)
        sample = draw(pair, 2 * shape[0] * s.batch, int(rng.integers(2**31)))
        real, fake = np.split(sample.real, 2)[0], np.split(sample.fake, 2)[1]
        at_real = s.method == "penalty_at_real"
        mix = rng.standard_normal(shape) if at_real else rng.uniform(size=(*shape[:2], 1))
        arrays = [a.astype(np.float32) for a in (real.reshape(shape), fake.reshape(shape), mix)]
        for batch in zip(*arrays, strict=True):
            yield tuple(map(ops.convert_to_tensor, batch))


def loss_gradients(bench: Bench, real: Any, fake: Any) -> list[float]:
    """Frobenius norm of the gradient of mean f(fake) − mean f(real) with respect to each kernel, input first."""
    rows = [ops.convert_to_tensor(x, "float32") for x in (real, fake)]

    def loss() -> Tensor:
        real_scores, fake_scores = (bench.critic(x, training=False) for x in rows)
        return ops.mean(fake_scores) - ops.mean(real_scores)

    _, gradients = value_and_grad(loss, bench.kernels, bench.state)
    return [float(np.linalg.norm(ops.convert_to_numpy(g))) for g in gradients]
