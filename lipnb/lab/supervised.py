"""Classifiers trained with one regularizer each, by Keras's compile and fit.

With cross-entropy ℓ, network f and margin m(x, y) = f_y(x) − max_{j≠y} f_j(x), a method minimises over a batch

| method | loss | strength |
|---|---|---|
| ``none`` | mean ℓ(x) | – |
| ``l2`` | mean ℓ(x) + s·Σ‖W‖_F² | s |
| ``adamw`` | mean ℓ(x), weights decayed by learning rate · s beside each step | s |
| ``spectral_penalty`` | mean ℓ(x) + s·Σσ(W)² | s |
| ``adversarial`` | mean ½ℓ(x) + ½ℓ(x + s·g/‖g‖), g = ∇ℓ(x) held fixed | s, a distance |
| ``gradient_penalty`` | mean ℓ(x) + s·(‖∇m(x)‖ − 1)² | s |
| ``one_sided`` | mean ℓ(x) + s·max(‖∇m(x)‖ − 1, 0)² | s |

Sums run over all kernels; biases are never penalised or decayed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.autodiff import input_gradient
from lipnb.checks import check_choice, check_count, check_positive
from lipnb.lab.classify import Batches
from lipnb.lab.data import Dataset, to_float
from lipnb.penalties import gradient_penalty
from lipnb.regularizers import FrobeniusPenalty, SpectralNormPenalty

__all__ = [
    "METHODS",
    "Regularized",
    "Settings",
    "kernel_penalty",
    "margin",
    "split",
    "train",
    "unit",
]

METHODS = ("none", "l2", "adamw", "spectral_penalty", "adversarial", "gradient_penalty", "one_sided")
PENALTIES = {"gradient_penalty": "two_sided", "one_sided": "one_sided"}
Tensor = Any


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training, but its network, its data and the machine."""

    method: str
    strength: float
    batch: int
    epochs: int
    learning_rate: float
    seed: int
    every: int = 1  # epochs between two measurements

    def __post_init__(self) -> None:
        check_choice(self.method, "method", METHODS)
        check_positive(self.strength, "strength", allow_zero=True)
        check_positive(self.learning_rate, "learning_rate")
        for name in ("batch", "epochs", "every"):
            check_count(getattr(self, name), name)
        check_count(self.seed, "seed", minimum=0)


def split(images: Dataset, train: int, *, seed: int, noise: float = 0.0, validation: bool = False) -> Dataset:
    """``train`` training images drawn by ``seed``; beside them the test images, or a held-out validation part.

    One twelfth of the training images, the same for every seed, is the validation part, and nothing is ever
    trained on it. ``noise`` is the share of the drawn labels that another class, chosen evenly, replaces.

    Raises ValueError where there are fewer than ``train`` images left or noise is not in [0, 1].
    """
    if not 0 <= noise <= 1:
        raise ValueError(f"noise must be between 0 and 1. Received: {noise!r}")
    order = np.random.default_rng(0).permutation(len(images.x_train))
    rest, held_out = np.split(order, [len(order) - len(order) // 12])
    if not 1 <= train <= len(rest):
        raise ValueError(f"train must be 1 to {len(rest)} images. Received: {train!r}")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(rest)[:train]
    labels = _with_noise(images.y_train[chosen], noise, int(images.y_train.max()) + 1, rng)
    beside = (
        (images.x_train[held_out], images.y_train[held_out]) if validation else (images.x_test, images.y_test)
    )
    return Dataset(images.x_train[chosen], labels, *beside)


def _with_noise(labels: np.ndarray, noise: float, classes: int, rng: np.random.Generator) -> np.ndarray:
    wrong = rng.permutation(len(labels))[: round(noise * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return noisy


def kernel_penalty(method: str, strength: float) -> keras.regularizers.Regularizer | None:
    """What ``method`` puts on every kernel of a network: a regularizer, or nothing."""
    penalties = {"l2": FrobeniusPenalty, "spectral_penalty": SpectralNormPenalty}
    return penalties[method](strength) if method in penalties else None


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """f_y − max_{j≠y} f_j for each row of ``logits`` (batch, classes): positive where the label is right."""
    own = ops.cast(ops.one_hot(labels, logits.shape[-1]), "bool")
    others = ops.max(ops.where(own, -float("inf"), logits), axis=-1)
    return ops.sum(ops.where(own, logits, 0.0), axis=-1) - others


def unit(x: Tensor) -> Tensor:
    """Each sample of ``x`` (batch, …) divided by its Euclidean length; a zero sample stays zero."""
    axes = tuple(range(1, len(x.shape)))
    largest = ops.max(ops.abs(x), axis=axes, keepdims=True)
    x = x / ops.where(largest > 0, largest, 1.0)  # squares of tiny gradients would underflow
    square = ops.sum(x**2, axis=axes, keepdims=True)
    return x / ops.sqrt(ops.where(square > 0, square, 1.0))


class Regularized(keras.Model):
    """``network`` trained by ``fit`` with the part of a method's loss that depends on the inputs."""

    def __init__(self, network: keras.Model, method: str, strength: float) -> None:
        super().__init__()
        self.network, self.method, self.strength = network, method, strength

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """The network's logits."""
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """Cross-entropy, the kernels' penalties and, while training, the method's own term."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training and self.method == "adversarial":
            return (loss + self._cross_entropy(self._adversary(x, y), y)) / 2
        if training and self.method in PENALTIES:
            kind = PENALTIES[self.method]
            penalty = gradient_penalty(
                lambda z: margin(self.network(z), y), x, x, kind=kind, at="real", perturbation=0.0
            )
            return loss + self.strength * penalty
        return loss

    def _cross_entropy(self, x: Tensor, y: Tensor) -> Tensor:
        losses = keras.losses.sparse_categorical_crossentropy(y, self.network(x), from_logits=True)
        return ops.mean(losses)

    def _adversary(self, x: Tensor, y: Tensor) -> Tensor:
        """x moved by ``strength`` along each sample's own loss gradient (fast gradient method)."""
        gradient = input_gradient(lambda z: self._cross_entropy(z, y), x)
        return ops.stop_gradient(x + self.strength * unit(gradient))


def train(
    network: keras.Model,
    data: Dataset,
    settings: Settings,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    watch: Callable[[keras.Model], Any] | None = None,
) -> dict[str, Any]:
    """Adam with a cosine decay to 0; measured before training and after every ``settings.every`` epochs.

    Parameters
    ----------
    network
        Built with :func:`kernel_penalty` on its kernels; trained in place.
    watch
        Called with the network at each measurement; what it returns is kept in ``watched``.

    Returns
    -------
    ``history`` (a list of dicts: epoch, seconds of training, accuracy and cross-entropy on training and test
    images), ``watched`` and ``diverged_at`` (the epoch at which a loss was no longer finite, else None).
    Training ends there.
    """
    s = settings
    steps = -(-len(data.x_train) // s.batch)
    model = Regularized(network, s.method, s.strength)
    schedule = keras.optimizers.schedules.CosineDecay(s.learning_rate, s.epochs * steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(_optimizer(s, schedule), loss, jit_compile=False)
    record = _Record(network, data, s, progress, watch)
    model.fit(Batches(data, s.batch, s.seed), epochs=s.epochs, shuffle=False, callbacks=[record], verbose=0)
    return {"history": record.history, "watched": record.watched, "diverged_at": record.diverged_at}


def _optimizer(settings: Settings, schedule: Any) -> keras.optimizers.Optimizer:
    if settings.method != "adamw":
        return keras.optimizers.Adam(schedule)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.strength)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


class _Record(keras.callbacks.Callback):
    """Measures the network as it trains, and stops the training once a number is not finite."""

    def __init__(self, network, data, settings, progress, watch) -> None:
        super().__init__()
        self._network, self._settings, self._progress, self._watch = network, settings, progress, watch
        self._parts = {
            "train": (to_float(data.x_train), data.y_train),
            "test": (to_float(data.x_test), data.y_test),
        }
        self.history: list[dict[str, float]] = []
        self.watched: list[Any] = []
        self.diverged_at: int | None = None
        self._seconds = 0.0

    def on_train_begin(self, logs=None):
        self._measure(0)

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._seconds += time.perf_counter() - self._started
        self._progress(epoch + 1, self._settings.epochs)
        if not math.isfinite(logs["loss"]):
            self._stop(epoch + 1)
        elif (epoch + 1) % self._settings.every == 0 or epoch + 1 == self._settings.epochs:
            self._measure(epoch + 1)

    def _measure(self, epoch: int) -> None:
        entry = {"epoch": epoch, "seconds": self._seconds}
        for part, (x, y) in self._parts.items():
            logits = self._network.predict(x, batch_size=1000, verbose=0).astype(np.float64)
            entry |= {f"{part}_{name}": value for name, value in _scores(logits, y).items()}
        if all(map(math.isfinite, entry.values())):
            self.history.append(entry)
            self.watched.append(self._watch(self._network) if self._watch else None)
        else:
            self._stop(epoch)

    def _stop(self, epoch: int) -> None:
        self.diverged_at = epoch
        self.model.stop_training = True


def _scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    top = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    own = logits[np.arange(len(labels)), labels]
    return {
        "accuracy": float(np.mean(logits.argmax(axis=1) == labels)),
        "loss": float(np.mean(log_sum - own)),
    }
