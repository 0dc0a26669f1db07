"""Flax: after one call with a zero kernel, linen.SpectralNorm never normalises again."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.SpectralNorm(nn.Dense(3, use_bias=False))(x, update_stats=True)


layer, x = Layer(), jnp.eye(4)
variables = layer.init(jax.random.key(0), x)
params = jax.tree.map(lambda w: 3 * w / jnp.linalg.norm(w, 2), variables["params"])
zero, stats = jax.tree.map(jnp.zeros_like, params), variables["batch_stats"]
for weights in [zero] + [params] * 50:
    y, changed = layer.apply({"params": weights, "batch_stats": stats}, x, mutable="batch_stats")
    stats = changed["batch_stats"]
norm = jnp.linalg.norm(y, 2)
print(f"spectral norm after 50 further calls: {norm:.4f}, expected: 1")
assert abs(norm - 1) < 1e-3
