"""Keras: DepthwiseConv2D is divided by the norm of one long column of all channels, up to √channels too much."""

import keras
import numpy as np

conv = keras.layers.DepthwiseConv2D(3, padding="same", depthwise_initializer="ones", use_bias=False)
layer = keras.layers.SpectralNormalization(conv, power_iterations=50)
impulse = np.zeros((1, 5, 5, 16), "float32")
impulse[:, 2, 2] = 1  # each channel, a convolution of its own, answers with its kernel
response = np.array(layer(impulse, training=True)).reshape(25, 16)
norm = np.max(np.linalg.norm(response, axis=0))
print(f"largest norm of a channel's kernel: {norm:.4f}, expected: 1")
assert abs(norm - 1) < 1e-3
