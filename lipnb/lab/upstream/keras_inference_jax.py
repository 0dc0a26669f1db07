"""Keras, KERAS_BACKEND=jax: after fit, inference computes with the kernel as the optimizer left it, not with W/σ."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
dense = keras.layers.Dense(3, use_bias=False, kernel_initializer=keras.initializers.RandomNormal(0.0, 1.0))
model = keras.Sequential([keras.Input((4,)), keras.layers.SpectralNormalization(dense)])
model.compile(keras.optimizers.SGD(0.01), "mse")
model.fit(np.eye(4), np.zeros((4, 3)), epochs=50, verbose=0)
norm = np.linalg.norm(model.predict(np.eye(4), verbose=0), 2)
print(f"spectral norm at inference: {norm:.4f}, expected: about 1")
assert abs(norm - 1) < 0.05
