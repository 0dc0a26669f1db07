"""The networks of the experiments. Every layer's initial weights follow from ``seed`` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import keras
from keras import layers

__all__ = ["Wrap", "classifier", "critic", "generator", "unwrapped"]

Wrap = Callable[[keras.Layer], keras.Layer]
SLOPE = 0.2


def unwrapped(layer: keras.Layer) -> keras.Layer:
    """``layer`` as it is."""
    return layer


def generator(latent: int, shape: tuple[int, int, int], width: int, *, seed: int) -> keras.Model:
    """DCGAN generator (Radford, Metz & Chintala 2016): (latent,) → ``shape`` in −1 … 1.

    Dense to (h/4, w/4, 4·width), then two transposed convolutions 4×4 stride 2 (2·width, width) and a
    convolution 3×3; batch normalization and ReLU between them, tanh at the end. Raises ValueError where h or w
    is no multiple of 4.
    """
    height, breadth, channels = shape
    if height % 4 or breadth % 4:
        raise ValueError(f"the height and width of images must be multiples of 4. Received: {shape}")
    initial = _initializers(seed)
    model = keras.Sequential(name="generator")
    model.add(keras.Input((latent,)))
    model.add(
        layers.Dense(
            height // 4 * (breadth // 4) * 4 * width, use_bias=False, kernel_initializer=next(initial)
        )
    )
    model.add(layers.Reshape((height // 4, breadth // 4, 4 * width)))
    for filters in (2 * width, width):
        _add_normalized(model)
        model.add(
            layers.Conv2DTranspose(
                filters, 4, strides=2, padding="same", use_bias=False, kernel_initializer=next(initial)
            )
        )
    _add_normalized(model)
    model.add(layers.Conv2D(channels, 3, padding="same", activation="tanh", kernel_initializer=next(initial)))
    return model


def _add_normalized(model: keras.Sequential) -> None:
    model.add(layers.BatchNormalization(momentum=0.9))
    model.add(layers.ReLU())


def critic(
    shape: tuple[int, int, int],
    width: int,
    *,
    seed: int,
    wrap: Wrap = unwrapped,
    kernel_constraint: keras.constraints.Constraint | None = None,
) -> keras.Model:
    """DCGAN critic without batch normalization: ``shape`` → (1,).

    Two convolutions 4×4 stride 2 (width, 2·width) and one 3×3 (4·width), leaky ReLU of slope 0.2, dense.
    ``wrap`` is applied to every layer with a kernel, ``kernel_constraint`` to every kernel.
    """
    initial = _initializers(seed)
    model = keras.Sequential(name="critic")
    model.add(keras.Input(shape))
    for filters, size, strides in ((width, 4, 2), (2 * width, 4, 2), (4 * width, 3, 1)):
        convolution = layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            kernel_initializer=next(initial),
            kernel_constraint=kernel_constraint,
        )
        model.add(wrap(convolution))
        model.add(layers.LeakyReLU(negative_slope=SLOPE))
    model.add(layers.Flatten())
    model.add(wrap(layers.Dense(1, kernel_initializer=next(initial), kernel_constraint=kernel_constraint)))
    return model


def classifier(shape: tuple[int, int, int], classes: int, *, seed: int) -> keras.Model:
    """Small convolutional classifier: ``shape`` → logits (classes,); its layer ``features`` has 64 units."""
    initial = _initializers(seed)
    model = keras.Sequential(name="classifier")
    model.add(keras.Input(shape))
    for filters in (16, 32, 64):
        model.add(
            layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer=next(initial))
        )
        model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.3, seed=seed))
    model.add(layers.Dense(64, activation="relu", kernel_initializer=next(initial), name="features"))
    model.add(layers.Dense(classes, kernel_initializer=next(initial), name="logits"))
    return model


def _initializers(seed: int) -> Iterator[keras.initializers.Initializer]:
    """He-normal initializers with a seed each: ``seed`` 0 gives 0, 1, …; ``seed`` 1 gives 1000, 1001, …"""
    return (keras.initializers.HeNormal(seed=1000 * seed + i) for i in count())
