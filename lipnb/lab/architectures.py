"""Generators and critics for images beside the DCGAN pair of :mod:`lipnb.lab.models`, by the name of the pair.

All critics end in a linear layer without activation; ``wrap`` is applied to every layer with a kernel, and
``kernel_constraint`` to every kernel. Initial weights follow from ``seed`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers

from lipnb.checks import check_choice
from lipnb.lab.models import Wrap, initializers, unwrapped

__all__ = ["ARCHITECTURES", "critic", "generator"]

Tensor = Any
Initial = Iterator[keras.initializers.Initializer]


def generator(name: str, latent: int, shape: tuple[int, ...], width: int, *, seed: int) -> keras.Model:
    """Generator of the pair ``name``: (latent,) → ``shape`` in −1 … 1, tanh at the end.

    ``mlp``: three hidden layers of 32·width units with ReLU. ``cnn`` (Miyato et al. 2018, Table 3): dense to
    (h/8, w/8, 8·width), three transposed convolutions 4×4 stride 2 (4·width, 2·width, width), a convolution 3×3;
    batch normalization and ReLU between them. ``resnet`` (Table 4): dense to (h/8, w/8, 2·width), three residual
    blocks of 2·width maps that double the size, batch normalization, ReLU, a convolution 3×3.

    Raises ValueError for another name and, but for ``mlp``, where h or w is no multiple of 8.
    """
    check_choice(name, "architecture", tuple(ARCHITECTURES))
    if name != "mlp" and (shape[0] % 8 or shape[1] % 8):
        raise ValueError(f"the height and width of images must be multiples of 8. Received: {shape}")
    code = keras.Input((latent,))
    return keras.Model(
        code, ARCHITECTURES[name][0](code, shape, width, initializers(seed)), name=f"{name}_generator"
    )


def critic(
    name: str,
    shape: tuple[int, ...],
    width: int,
    *,
    seed: int,
    wrap: Wrap = unwrapped,
    kernel_constraint: keras.constraints.Constraint | None = None,
) -> keras.Model:
    """Critic of the pair ``name``: ``shape`` → (1,).

    ``mlp``: three hidden layers of 32·width units, leaky ReLU of slope 0.2. ``cnn`` (Miyato et al. 2018, Table 3):
    convolutions 3×3 and 4×4 stride 2 by turns (width, width, 2·width, 2·width, 4·width, 4·width, 8·width), leaky ReLU
    of slope 0.1. ``resnet`` (Table 4): four residual blocks of ``width`` maps, the first two halving the size, ReLU,
    the sum over all positions.
    """
    check_choice(name, "architecture", tuple(ARCHITECTURES))
    initial = initializers(seed)

    def make(kind: Callable[..., keras.Layer], *args: Any, **options: Any) -> keras.Layer:
        """A layer of ``kind`` with the next initializer, held as the method holds its kernel."""
        return wrap(
            kind(*args, kernel_initializer=next(initial), kernel_constraint=kernel_constraint, **options)
        )

    image = keras.Input(shape)
    features = ARCHITECTURES[name][1](image, width, make)
    return keras.Model(image, make(layers.Dense, 1)(features), name=f"{name}_critic")


def _mlp_generator(x: Tensor, shape: tuple[int, ...], width: int, initial: Initial) -> Tensor:
    for _ in range(3):
        x = layers.Dense(32 * width, "relu", kernel_initializer=next(initial))(x)
    height, breadth, channels = shape
    x = layers.Dense(height * breadth * channels, "tanh", kernel_initializer=next(initial))(x)
    return layers.Reshape(shape)(x)


def _mlp_features(x: Tensor, width: int, make: Callable[..., keras.Layer]) -> Tensor:
    x = layers.Flatten()(x)
    for _ in range(3):
        x = layers.LeakyReLU(negative_slope=0.2)(make(layers.Dense, 32 * width)(x))
    return x


def _cnn_generator(x: Tensor, shape: tuple[int, ...], width: int, initial: Initial) -> Tensor:
    x = _normalized(_start(x, shape, 8 * width, initial))
    for maps in (4 * width, 2 * width, width):
        options = {"strides": 2, "padding": "same", "use_bias": False}
        x = _normalized(layers.Conv2DTranspose(maps, 4, kernel_initializer=next(initial), **options)(x))
    return _image(x, shape, initial)


def _cnn_features(x: Tensor, width: int, make: Callable[..., keras.Layer]) -> Tensor:
    sizes = [(width * 2**i, size, strides) for i in range(3) for size, strides in ((3, 1), (4, 2))]
    for maps, size, strides in [*sizes, (8 * width, 3, 1)]:
        x = make(layers.Conv2D, maps, size, strides=strides, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.1)(x)
    return layers.Flatten()(x)


def _resnet_generator(x: Tensor, shape: tuple[int, ...], width: int, initial: Initial) -> Tensor:
    maps = 2 * width

    def convolution(size: int, y: Tensor) -> Tensor:
        return layers.Conv2D(maps, size, padding="same", kernel_initializer=next(initial))(y)

    x = _start(x, shape, maps, initial)
    for _ in range(3):
        y = convolution(3, layers.UpSampling2D(2)(_normalized(x)))
        y = convolution(3, _normalized(y))
        x = layers.Add()([y, convolution(1, layers.UpSampling2D(2)(x))])
    return _image(_normalized(x), shape, initial)


def _resnet_features(x: Tensor, width: int, make: Callable[..., keras.Layer]) -> Tensor:
    def convolution(size: int, y: Tensor) -> Tensor:
        return make(layers.Conv2D, width, size, padding="same")(y)

    def halved(y: Tensor) -> Tensor:
        return layers.AveragePooling2D(2)(y)

    # The first block has no ReLU in front: its input is an image.
    y = convolution(3, layers.ReLU()(convolution(3, x)))
    x = layers.Add()([halved(y), convolution(1, halved(x))])
    for halves in (True, False, False):
        y = convolution(3, layers.ReLU()(convolution(3, layers.ReLU()(x))))
        x = layers.Add()([halved(y), halved(convolution(1, x))] if halves else [y, x])
    height, breadth = x.shape[1:3]
    return layers.Rescaling(height * breadth)(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))


def _start(x: Tensor, shape: tuple[int, ...], maps: int, initial: Initial) -> Tensor:
    height, breadth = shape[0] // 8, shape[1] // 8
    x = layers.Dense(height * breadth * maps, kernel_initializer=next(initial))(x)
    return layers.Reshape((height, breadth, maps))(x)


def _image(x: Tensor, shape: tuple[int, ...], initial: Initial) -> Tensor:
    return layers.Conv2D(shape[-1], 3, padding="same", activation="tanh", kernel_initializer=next(initial))(x)


def _normalized(x: Tensor) -> Tensor:
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


ARCHITECTURES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "mlp": (_mlp_generator, _mlp_features),
    "cnn": (_cnn_generator, _cnn_features),
    "resnet": (_resnet_generator, _resnet_features),
}
"""Name → what the generator and the critic compute between their ends."""
