"""The classifiers of the supervised experiments, by name: image → logits. Initial weights follow from ``seed`` alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import keras
from keras import layers

from lipnb.checks import check_choice, check_count

__all__ = ["NETWORKS", "build"]


def build(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    width: int,
    *,
    seed: int,
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
) -> keras.Model:
    """Network ``name`` for images of ``shape`` (h, w, c), with ``kernel_regularizer`` on every kernel.

    ``mlp``: dense layers of 2·width and width units. ``vgg``: blocks of two 3×3 convolutions and a 2×2 max
    pooling, of width and 2·width maps, and of 4·width where the image is 32 pixels or more; then a dense layer
    of 8·width units. ``densenet`` (Huang et al. 2017, small): a 3×3 convolution of 2·width maps, three dense blocks of
    four 3×3 convolutions that add width maps each to all before them, between blocks a 1×1 convolution to half the
    maps and a 2×2 average pooling, at the end the average over all positions. ReLU everywhere; no batch normalization,
    so that the proven bound is finite and fixed.

    Raises ValueError for another name, or a width below 1.
    """
    check_choice(name, "network", tuple(NETWORKS))
    check_count(width, "width")
    initial = (keras.initializers.HeNormal(seed=1000 * seed + i) for i in count())
    options = lambda: {"kernel_initializer": next(initial), "kernel_regularizer": kernel_regularizer}  # noqa: E731
    image = keras.Input(shape)
    features = NETWORKS[name](image, width, options)
    return keras.Model(image, layers.Dense(classes, **options())(features), name=name)


def _mlp(image, width, options):
    x = layers.Dense(2 * width, activation="relu", **options())(layers.Flatten()(image))
    return layers.Dense(width, activation="relu", **options())(x)


def _vgg(image, width, options):
    x = image
    for maps in (width, 2 * width, 4 * width)[: 3 if min(image.shape[1:3]) >= 32 else 2]:
        for _ in range(2):
            x = layers.Conv2D(maps, 3, padding="same", activation="relu", **options())(x)
        x = layers.MaxPooling2D(2)(x)
    return layers.Dense(8 * width, activation="relu", **options())(layers.Flatten()(x))


def _densenet(image, width, options):
    def convolution(x, maps, size):
        return layers.Conv2D(maps, size, padding="same", activation="relu", **options())(x)

    x = convolution(image, 2 * width, 3)
    for block in range(3):
        if block:
            x = layers.AveragePooling2D(2)(convolution(x, x.shape[-1] // 2, 1))
        for _ in range(4):
            x = layers.Concatenate()([x, convolution(x, width, 3)])
    return layers.GlobalAveragePooling2D()(x)


NETWORKS: dict[str, Callable] = {"mlp": _mlp, "vgg": _vgg, "densenet": _densenet}
"""Name → function of (image, width, options of the next kernel): the features that the logits are made of."""
