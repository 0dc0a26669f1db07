"""The matrix of a convolution is the map of the Keras layer, for layers of every kind, and tensors are taken as they are."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from lipnb.conv_matrices import conv_matrix
from lipnb.conv_norms import conv_norm

# TensorFlow's __array__ lacks NumPy 2's copy argument; Keras's convert_to_numpy calls it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def gaussian(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


LAYERS = {
    "conv1d": (layers.Conv1D(3, 4), (9, 2)),
    "conv1d causal dilated": (layers.Conv1D(3, 3, padding="causal", dilation_rate=2), (9, 2)),
    "conv1d causal strided": (layers.Conv1D(2, 3, padding="causal", strides=2), (8, 2)),
    "conv2d": (layers.Conv2D(3, (2, 3)), (5, 6, 2)),
    "conv2d same even": (layers.Conv2D(3, (4, 2), padding="same"), (5, 6, 2)),
    "conv2d same strided": (layers.Conv2D(3, (3, 5), padding="same", strides=(2, 3)), (7, 8, 2)),
    "conv2d stride beyond kernel": (layers.Conv2D(2, 2, strides=3), (8, 9, 2)),
    "conv2d kernel beyond input": (layers.Conv2D(2, 5, padding="same"), (2, 3, 2)),
    "conv2d dilated": (layers.Conv2D(3, 3, padding="same", dilation_rate=(2, 3)), (7, 8, 2)),
    "conv2d grouped": (layers.Conv2D(6, 3, padding="same", groups=2), (5, 4, 4)),
    "conv3d": (layers.Conv3D(2, (2, 3, 1), padding="same", strides=(1, 2, 1)), (3, 4, 3, 2)),
    "depthwise1d": (layers.DepthwiseConv1D(3, depth_multiplier=2), (7, 3)),
    "depthwise2d": (layers.DepthwiseConv2D((3, 2), depth_multiplier=2, padding="same"), (5, 6, 3)),
    "depthwise2d strided": (layers.DepthwiseConv2D(3, padding="same", strides=2), (6, 7, 2)),
    "depthwise2d dilated": (layers.DepthwiseConv2D(3, dilation_rate=2), (7, 8, 2)),
    "transpose1d": (layers.Conv1DTranspose(3, 4, strides=2, padding="same"), (5, 2)),
    "transpose2d": (layers.Conv2DTranspose(3, (2, 3), strides=(2, 1)), (3, 4, 2)),
    "transpose2d stride beyond kernel": (layers.Conv2DTranspose(2, 2, strides=3), (3, 2, 2)),
    "transpose2d same": (layers.Conv2DTranspose(2, 4, strides=2, padding="same"), (3, 4, 3)),
    "transpose2d dilated": (layers.Conv2DTranspose(2, 2, dilation_rate=2), (4, 5, 2)),
    "transpose2d output padding": (layers.Conv2DTranspose(2, 3, strides=2, output_padding=1), (3, 4, 2)),
    "transpose3d": (layers.Conv3DTranspose(2, 2, strides=2), (2, 3, 2, 2)),
}
# Keras's PyTorch backend warns that its padding of these differs, and so cannot be asked.
if keras.backend.backend() != "torch":
    LAYERS |= {
        "transpose2d odd same": (layers.Conv2DTranspose(2, 5, strides=2, padding="same"), (4, 3, 2)),
        "transpose2d same output padding": (
            layers.Conv2DTranspose(2, 3, strides=2, padding="same", output_padding=1),
            (4, 3, 2),
        ),
    }


def arguments(layer, shape):
    """The arguments of ``conv_matrix`` for a layer."""
    kind = {"D": "depthwise"}.get(type(layer).__name__[0], "conv")
    kind = "transpose" if "Transpose" in type(layer).__name__ else kind
    values = (shape, layer.strides, layer.padding, layer.dilation_rate, getattr(layer, "groups", 1))
    return values, {"kind": kind, "output_padding": getattr(layer, "output_padding", None)}


@pytest.mark.parametrize("name", LAYERS)
def test_matrix_is_the_layers_map(name):
    layer, shape = LAYERS[name]
    layer.build((None, *shape))
    layer.kernel.assign(gaussian(layer.kernel.shape, 1))
    x = gaussian((1, *shape)).astype("float32")
    y = ops.convert_to_numpy(layer(x))[0]
    positional, keywords = arguments(layer, shape)
    matrix = conv_matrix(layer.kernel, *positional, **keywords)
    assert matrix.shape == (y.size, x.size)
    np.testing.assert_allclose(matrix @ x.ravel(), y.ravel(), atol=1e-5)


def test_tensors_of_half_precision_are_taken_exactly():
    kernel = ops.cast(gaussian((3, 2, 2)).astype("float32"), "bfloat16")
    exact = ops.convert_to_numpy(ops.cast(kernel, "float32"))
    assert conv_norm(kernel, (9, 2)) == conv_norm(exact, (9, 2))
