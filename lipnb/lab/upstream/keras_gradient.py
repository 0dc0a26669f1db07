"""Keras, TensorFlow backend: the gradient misses σ (also with KERAS_BACKEND=torch, with torch's own gradient)."""

import keras
import tensorflow as tf

keras.utils.set_random_seed(0)
layer = keras.layers.SpectralNormalization(keras.layers.Dense(3, use_bias=False), power_iterations=50)
layer.build((None, 4))
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer(tf.eye(4), training=True)[:, 0])
slope = tape.gradient(loss, layer.kernel)
# W/σ(W) does not change when W is multiplied by a number, so the gradient has no part along W.
along = float(tf.reduce_sum(slope * layer.kernel))
print(f"gradient along W: {along:.4f}, expected: 0")
assert abs(along) < 1e-4
