"""The networks of the experiments. Every layer's initial weights follow from ``seed`` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import keras
from keras import layers

__all__ = [
    "Wrap",
    "classifier",
    "conditional_generator",
    "critic",
    "generator",
    "initializers",
    "mlp_critic",
    "mlp_generator",
    "projection_critic",
    "unwrapped",
]

Wrap = Callable[[keras.Layer], keras.Layer]
SLOPE = 0.2


def unwrapped(layer: keras.Layer) -> keras.Layer:
    """``layer`` as it is."""
    return layer


def generator(latent: int, shape: tuple[int, ...], width: int, *, seed: int) -> keras.Model:
    """DCGAN generator (Radford, Metz & Chintala 2016): (latent,) → ``shape`` in −1 … 1.

    Dense to (h/4, w/4, 4·width), then two transposed convolutions 4×4 stride 2 (2·width, width) and a
    convolution 3×3; batch normalization and ReLU between them, tanh at the end. Raises ValueError where h or w
    is no multiple of 4.
    """
    height, breadth, channels = shape
    if height % 4 or breadth % 4:
        raise ValueError(f"the height and width of images must be multiples of 4. Received: {shape}")
    initial = initializers(seed)
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


def conditional_generator(
    latent: int, shape: tuple[int, ...], width: int, classes: int, *, seed: int
) -> keras.Model:
    """:func:`generator` of the noise joined with an embedding of the label: [(latent,), ()] → ``shape``."""
    noise, label = keras.Input((latent,)), keras.Input((), dtype="int32")
    start = keras.initializers.RandomNormal(stddev=1.0, seed=1000 * seed + 999)
    embedded = layers.Embedding(classes, latent, embeddings_initializer=start)(label)
    code = layers.Concatenate()([noise, embedded])
    body = generator(2 * latent, shape, width, seed=seed)
    return keras.Model([noise, label], body(code), name="conditional_generator")


def critic(
    shape: tuple[int, ...],
    width: int,
    *,
    seed: int,
    wrap: Wrap = unwrapped,
    kernel_constraint: keras.constraints.Constraint | None = None,
    gamma_constraint: keras.constraints.Constraint | None = None,
    batch_norm: bool = False,
    depth: int = 1,
) -> keras.Model:
    """DCGAN critic: ``shape`` → (1,).

    Two convolutions 4×4 stride 2 (width, 2·width) and ``depth`` of 3×3 (4·width), leaky ReLU of slope 0.2, dense.
    ``wrap`` is applied to every layer with a kernel, ``kernel_constraint`` to every kernel. With ``batch_norm``,
    every convolution but the first is followed by a batch normalization, ``gamma_constraint`` on its γ.
    """
    initial = initializers(seed)
    model = keras.Sequential(name="critic")
    model.add(keras.Input(shape))
    plan = [(width, 4, 2), (2 * width, 4, 2), *[(4 * width, 3, 1)] * depth]
    for i, (filters, size, strides) in enumerate(plan):
        convolution = layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            kernel_initializer=next(initial),
            kernel_constraint=kernel_constraint,
        )
        model.add(wrap(convolution))
        if batch_norm and i > 0:
            model.add(layers.BatchNormalization(momentum=0.9, gamma_constraint=gamma_constraint))
        model.add(layers.LeakyReLU(negative_slope=SLOPE))
    model.add(layers.Flatten())
    model.add(wrap(layers.Dense(1, kernel_initializer=next(initial), kernel_constraint=kernel_constraint)))
    return model


def projection_critic(body: keras.Model, classes: int, *, seed: int, wrap: Wrap = unwrapped) -> keras.Model:
    """``body``, a :func:`critic`, given a label too: f(x, y) = body(x) + ⟨e_y, φ(x)⟩ (Miyato & Koyama 2018).

    φ averages the last feature maps over their positions; e is an embedding, wrapped like any other kernel.
    """
    label = keras.Input((), dtype="int32")
    maps = body.layers[-3].output
    start = keras.initializers.RandomNormal(stddev=maps.shape[-1] ** -0.5, seed=1000 * seed + 999)
    embedded = wrap(layers.Embedding(classes, maps.shape[-1], embeddings_initializer=start))(label)
    product = layers.Dot(axes=-1)([embedded, layers.GlobalAveragePooling2D()(maps)])
    score = layers.Add()([body.outputs[0], product])
    return keras.Model([body.inputs[0], label], score, name="projection_critic")


def mlp_generator(latent: int, dimension: int, width: int, *, seed: int) -> keras.Model:
    """(latent,) → (dimension,): three hidden layers of ``width`` units with ReLU."""
    return _mlp("generator", latent, dimension, width, initializers(seed), layers.ReLU, unwrapped, None)


def mlp_critic(
    dimension: int,
    width: int,
    *,
    seed: int,
    wrap: Wrap = unwrapped,
    kernel_constraint: keras.constraints.Constraint | None = None,
) -> keras.Model:
    """(dimension,) → (1,): three hidden layers of ``width`` units with leaky ReLU of slope 0.2."""

    def activation() -> keras.Layer:
        return layers.LeakyReLU(negative_slope=SLOPE)

    return _mlp("critic", dimension, 1, width, initializers(seed), activation, wrap, kernel_constraint)


def _mlp(name, inputs, outputs, width, initial, activation, wrap, constraint) -> keras.Model:
    model = keras.Sequential(name=name)
    model.add(keras.Input((inputs,)))
    for units in (width, width, width, outputs):
        dense = layers.Dense(units, kernel_initializer=next(initial), kernel_constraint=constraint)
        model.add(wrap(dense))
        model.add(activation())
    model.pop()  # the output is linear
    return model


def classifier(shape: tuple[int, ...], classes: int, *, seed: int) -> keras.Model:
    """Small convolutional classifier: ``shape`` → logits (classes,); its layer ``features`` has 64 units."""
    initial = initializers(seed)
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


def initializers(seed: int) -> Iterator[keras.initializers.Initializer]:
    """He-normal initializers with a seed each: ``seed`` 0 gives 0, 1, …; ``seed`` 1 gives 1000, 1001, …"""
    return (keras.initializers.HeNormal(seed=1000 * seed + i) for i in count())
