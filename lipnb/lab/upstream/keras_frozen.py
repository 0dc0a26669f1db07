"""Keras: a frozen layer's kernel changes, for instance the critic's in the generator's step."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
layer = keras.layers.SpectralNormalization(keras.layers.Dense(3, use_bias=False))
layer.build((None, 4))
layer.trainable = False
before = np.array(layer.kernel.value)
layer(np.ones((1, 4), "float32"), training=True)
change = np.max(np.abs(np.array(layer.kernel.value) - before))
print(f"largest change of the frozen kernel: {change:.4f}, expected: 0")
assert change == 0
