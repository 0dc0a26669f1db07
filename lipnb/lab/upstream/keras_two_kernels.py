"""Keras: two training calls in one loss, as of every critic, compute with two kernels."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
layer = keras.layers.SpectralNormalization(keras.layers.Dense(3, use_bias=False))
x = np.ones((1, 4), "float32")
first, second = (np.array(layer(x, training=True)) for _ in range(2))
print("first call ", first, "\nsecond call", second)
assert np.allclose(first, second, atol=1e-5)
