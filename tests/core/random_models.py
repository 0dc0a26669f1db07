"""Random layers, weights and models for the property tests: every layer that ``lipschitz_bound`` has a rule for."""

import math

import keras
import numpy as np
from keras import layers

from lipnb.reparam import FrobeniusNormalization, SpectralNormalization

LARGEST = 150  # entries of a tensor, so that thousands of gradients take minutes
SMOOTH = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
]
SMOOTH += [
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
]
SMOOTH += ["softsign", "sparse_plus", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink"]


def pick(g, *options):
    return options[g.integers(len(options))]


def numbers(g, low, high, count):
    return tuple(int(n) for n in g.integers(low, high + 1, count))


# One layer -----------------------------------------------------------------------------------------------


def _steps(g, rank, both=False):
    """Strides and dilation, not both above 1 unless ``both``."""
    strides, dilation = numbers(g, 1, 3, rank), numbers(g, 1, 2, rank)
    if both or 1 == max(strides) == max(dilation):
        return {"strides": strides, "dilation_rate": dilation}
    return pick(g, {"strides": strides}, {"dilation_rate": dilation})


def convolution(g, rank, channels):
    kind = pick(g, "", "Depthwise", "Separable", "Transpose") if rank < 3 else pick(g, "", "Transpose")
    options = {"padding": pick(g, "valid", "same"), "use_bias": bool(g.integers(2))} | _steps(g, rank)
    size = numbers(g, 1, 4 if rank < 3 else 2, rank)
    if kind == "Transpose":
        options["dilation_rate"] = 1  # TensorFlow has no others on a CPU
        return getattr(layers, f"Conv{rank}DTranspose")(int(g.integers(1, 4)), size, **options)
    if kind:  # TensorFlow takes equal strides only
        options["strides"] = (options.get("strides", (1,))[0],) * rank
        options["depth_multiplier"] = int(g.integers(1, 3))
    if kind == "Depthwise":
        return getattr(layers, f"DepthwiseConv{rank}D")(size, **options)
    if kind == "Separable":
        return getattr(layers, f"SeparableConv{rank}D")(int(g.integers(1, 4)), size, **options)
    groups = pick(g, *[n for n in (1, 2, 3) if channels % n == 0])
    if rank == 1 and g.random() < 0.3:
        options["padding"] = "causal"
    return getattr(layers, f"Conv{rank}D")(groups * int(g.integers(1, 3)), size, groups=groups, **options)


def pooling(g, rank, sizes):
    kind, name = pick(g, "Max", "Average"), f"Pooling{rank}D"
    dtype = "float32" if rank == 3 else None  # TensorFlow has no MaxPooling3D or AveragePooling3D in float64
    if g.random() < 0.2:
        return getattr(layers, f"Global{kind}{name}")()
    least = (
        2 if kind == "Max" else 1
    )  # TensorFlow's gradient of a maximum adapted to size 1 is unwritten memory
    if g.random() < 0.2 and min(sizes) >= least:
        return getattr(layers, f"Adaptive{kind}{name}")(
            [int(g.integers(least, n + 1)) for n in sizes], dtype=dtype
        )
    options = {"strides": numbers(g, 1, 3, rank), "padding": pick(g, "valid", "same"), "dtype": dtype}
    return getattr(layers, f"{kind}{name}")(numbers(g, 1, 4, rank), **options)


def shaping(g, rank):
    name = pick(g, "ZeroPadding", "Cropping", "UpSampling")
    if name == "UpSampling":
        size = numbers(g, 1, 2, rank)
        extra = {"interpolation": pick(g, "nearest", "bilinear")} if rank == 2 else {}
        return getattr(layers, f"UpSampling{rank}D")(size[0] if rank == 1 else size, **extra)
    pairs = tuple(numbers(g, 0, 1, 2) for _ in range(rank))
    return getattr(layers, f"{name}{rank}D")(pairs[0] if rank == 1 else pairs)


def recurrent(g):
    options = {"return_sequences": bool(g.integers(2)), "go_backwards": bool(g.integers(2))}
    units = int(g.integers(1, 4))
    layer = pick(
        g,
        lambda: layers.SimpleRNN(units, activation=pick(g, "tanh", "relu", "linear", "silu"), **options),
        lambda: layers.LSTM(units, activation=pick(g, "tanh", "softsign"), **options),
        lambda: layers.GRU(units, reset_after=bool(g.integers(2)), **options),
    )()
    if g.random() < 0.3:
        merge = pick(g, "concat", "sum", "ave")
        return layers.Bidirectional(layer, merge_mode=merge)
    return layer


def elementwise(g, shape):
    """A layer that keeps the shape and treats entries, or the last axis, alike."""
    channels = shape[-1]
    return pick(
        g,
        lambda: layers.Activation(pick(g, *SMOOTH)),
        lambda: layers.ReLU(max_value=pick(g, None, 1.0), negative_slope=pick(g, 0.0, 0.5, 2.0)),
        lambda: layers.LeakyReLU(negative_slope=pick(g, 0.1, 1.5)),
        lambda: layers.ELU(alpha=pick(g, 0.5, 2.0)),
        lambda: layers.PReLU(shared_axes=pick(g, None, [1])),
        lambda: layers.Softmax(axis=pick(g, -1, 1)),
        lambda: layers.Rescaling(pick(g, -2.0, g.standard_normal(channels).tolist()), offset=1.0),
        lambda: layers.Normalization(
            mean=g.standard_normal(channels), variance=g.random(channels) + 0.1, invert=bool(g.integers(2))
        ),
        lambda: pick(g, layers.Dropout, layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout)(
            0.3
        ),
        lambda: layers.BatchNormalization(
            axis=pick(g, -1, 1), scale=bool(g.integers(2)), center=bool(g.integers(2))
        ),
        lambda: layers.LayerNormalization(axis=pick(g, -1, 1), epsilon=pick(g, 0.01, 1.0)),
        lambda: layers.RMSNormalization(epsilon=pick(g, 0.01, 1.0)),
    )()


def matrix_layer(g, shape):
    """A dense layer, an einsum, or one of them normalised."""
    units, activation = int(g.integers(1, 6)), pick(g, None, None, "relu", "tanh", "silu", "softmax")
    axes = "abcde"[: len(shape) + 1]
    dense = layers.Dense(units, activation=activation)
    blocks = layers.EinsumDense(f"{axes},{axes[1:]}z->{axes[:-1]}z", (*shape[:-1], units))
    plain = layers.EinsumDense(f"...{axes[-1]},{axes[-1]}z->...z", units, bias_axes="z")
    if tuple(shape[:-1]) != tuple(shape[:-1])[::-1]:
        plain = blocks  # Keras gives the axes under an ellipsis back in reverse: the model would not run
    wrapper = pick(g, SpectralNormalization, FrobeniusNormalization)
    return pick(g, dense, dense, blocks, plain, wrapper(dense, norm=float(g.uniform(0.5, 2))))


def random_layer(g, shape):
    """A layer for inputs of this shape (without the batch); its call may still refuse the sizes."""
    rank = len(shape) - 1
    makers = [lambda: elementwise(g, shape), lambda: matrix_layer(g, shape)]
    if rank == 0:
        makers += [lambda: layers.RepeatVector(int(g.integers(1, 4)))]
    if rank == 1:
        makers += [lambda: recurrent(g), lambda: layers.TimeDistributed(layers.Dense(3, activation="tanh"))]
    if rank:
        makers += [lambda: pooling(g, rank, shape[:-1])]
        makers += [lambda: convolution(g, rank, shape[-1])] * 2
        makers += [lambda: shaping(g, rank), layers.Flatten]
        makers += [lambda: layers.Permute(tuple((1 + g.permutation(len(shape))).tolist()))]
        makers += [lambda: layers.Reshape((shape[0] * shape[1], *shape[2:]))]
        makers += [
            lambda: layers.GroupNormalization(groups=-1, axis=pick(g, -1, 1), epsilon=pick(g, 0.01, 1.0))
        ]
        makers += [
            lambda: SpectralNormalization(convolution(g, rank, shape[-1]), operator=bool(g.integers(2)))
        ]
    return pick(g, *makers)()


def call(g, x, attempts=50):
    """A random layer called on x; layers that refuse the size, or grow it beyond LARGEST, are drawn again."""
    for _ in range(attempts):
        try:
            y = random_layer(g, tuple(x.shape)[1:])(x)
        except ValueError:
            continue
        if 0 < math.prod(y.shape[1:]) <= LARGEST:
            return y
    return x


# A model -------------------------------------------------------------------------------------------------


def residual(g, x):
    """x and a layer of it that keeps the shape, joined."""
    channels, rank = x.shape[-1], len(x.shape) - 2
    branch = layers.Dense(channels, activation=pick(g, None, "relu"))(x)
    if 1 <= rank <= 3 and g.random() < 0.7:
        branch = getattr(layers, f"Conv{rank}D")(channels, 2, padding="same")(x)
    merge = pick(g, layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
    return merge()([x, branch] if g.random() < 0.5 else [branch, x])


def concatenation(g, x):
    branches = [x, layers.Rescaling(-1.5)(x), elementwise(g, tuple(x.shape)[1:])(x)]
    return layers.Concatenate(axis=pick(g, -1, 1))(branches[: int(g.integers(2, 4))])


def normalized_linear(g, x):
    """A linear layer that a batch normalization reads, alone or not."""
    rank = len(x.shape) - 2
    y = layers.Dense(3)(x) if rank < 1 or rank > 3 else getattr(layers, f"Conv{rank}D")(3, 1)(x)
    z = layers.BatchNormalization()(y)
    return z if g.random() < 0.7 else layers.Add()([y, z])


def shared(g, x):
    layer = layers.Dense(x.shape[-1], activation=pick(g, None, "tanh"))
    return layers.Average()([layer(x), layer(layer(x))])


def nested(g, x):
    inputs = keras.Input(tuple(x.shape)[1:])
    return keras.Model(inputs, call(g, call(g, inputs)))(x)


def operators(g, x):
    return pick(
        g,
        lambda: 2.0 * x - 1.0,
        lambda: x / -0.5,
        lambda: x - 0.3 * x,
        lambda: x * g.standard_normal(x.shape[-1]).astype("float32"),
        lambda: x[..., :1],
        lambda: x[:, ::2],
        lambda: x[:, :1] + x,
        lambda: keras.ops.relu(x),
        lambda: keras.activations.elu(x, alpha=2.0),
        lambda: keras.ops.leaky_relu(x, negative_slope=1.5),
        lambda: keras.ops.gelu(x, approximate=True),
        lambda: keras.ops.log_softmax(x, axis=pick(g, -1, 1)),
    )()


def random_model(g):
    """A model of one or two inputs and one or two outputs, of random weights, on tensors of up to LARGEST entries."""
    shapes = [(6,), (5, 3), (4, 4, 2), (3, 3, 2, 2)]
    weights = [0.2, 0.3, 0.4, 0.1]
    shape = shapes[g.choice(4, p=weights)]
    inputs = [keras.Input(shape) for _ in range(pick(g, 1, 1, 2))]
    x = inputs[0] if len(inputs) == 1 else pick(g, layers.Add, layers.Concatenate, layers.Maximum)()(inputs)
    for _ in range(int(g.integers(1, 5))):
        block = pick(
            g, call, call, call, residual, concatenation, normalized_linear, shared, nested, operators
        )
        y = block(g, x)
        x = y if math.prod(y.shape[1:]) <= LARGEST else x
    outputs = x if g.random() < 0.8 else [x, layers.Flatten()(inputs[-1])]
    return randomized(g, keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs))


def randomized(g, model):
    """The model with every float weight drawn anew, u and v of spectral normalization too: its σ may be anything."""
    manner = pick(g, "gaussian", "gaussian", "positive", "ones", "sparse")
    for v in model.variables:
        if "float" in v.dtype:
            v.assign(_values(g, v, manner).astype(v.dtype))
    return model


def _values(g, variable, manner):
    values = (
        g.standard_normal(variable.shape) * g.uniform(0.3, 2) / math.sqrt(math.prod(variable.shape[:-1]) or 1)
    )
    if "variance" in variable.path:
        return np.abs(values) + 0.1
    if (
        manner == "ones" and len(variable.shape) > 1
    ):  # aligned singular vectors: products of norms are attained
        return np.full(variable.shape, abs(float(values.flat[0])) + 0.1)
    if manner == "positive":
        return np.abs(values)
    return values * (g.random(variable.shape) < 0.5) if manner == "sparse" else values
