"""Plain supervised training by Keras's own compile and fit; :mod:`lipnb.lab.supervised` has the regularizers."""

from __future__ import annotations

import keras
import numpy as np

from lipnb.lab.data import Dataset, to_float

__all__ = ["Batches", "fit"]


def fit(
    model: keras.Model,
    data: Dataset,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
    callbacks: list[keras.callbacks.Callback] | None = None,
) -> dict[str, list[float]]:
    """Adam with a cosine decay to 0; one list of values an epoch: loss, accuracy, val_loss, val_accuracy (test part).

    The order of the samples follows from ``seed``.
    """
    steps = -(-len(data.x_train) // batch)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        Batches(data, batch, seed),
        epochs=epochs,
        shuffle=False,  # Keras would shuffle the batches by the interpreter's own unseeded generator
        validation_data=(to_float(data.x_test), data.y_test),
        callbacks=callbacks,
        verbose=0,
    )
    return {name: [float(v) for v in values] for name, values in history.history.items()}


class Batches(keras.utils.PyDataset):
    """Batches of float images and labels in an order of its own generator, the same on every backend."""

    def __init__(self, data: Dataset, batch: int, seed: int) -> None:
        super().__init__()
        self._x, self._y, self._batch = to_float(data.x_train), data.y_train, batch
        self._rng = np.random.default_rng(seed)
        self._order = self._rng.permutation(len(self._x))

    def __len__(self) -> int:
        return -(-len(self._x) // self._batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        return self._x[chosen], self._y[chosen]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        self._order = self._rng.permutation(len(self._x))
