"""Keras, TensorFlow (and JAX, eager): under mixed_float16 the float32 kernel is overwritten in half precision."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
policy = {"dtype": "mixed_float16"}
layer = keras.layers.SpectralNormalization(keras.layers.Dense(3, use_bias=False, **policy), **policy)
layer.build((None, 4))
before = np.array(layer.kernel.value)
layer(np.ones((1, 4), "float32"), training=True)
after = np.array(layer.kernel.value)
turned = np.linalg.norm(after / np.linalg.norm(after) - before / np.linalg.norm(before))
print(f"the stored kernel turned by {turned:.1e}, expected: float32 rounding, 1e-7")
assert turned < 1e-6
