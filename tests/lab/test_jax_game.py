"""The game is one on TensorFlow and on JAX: from the same weights, the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.lab

# Initial weights differ between backends, so they are drawn here, from NumPy; then a few updates of every method.
SCRIPT = """
import json
import numpy as np
from lipnb.lab import gan, methods
from lipnb.reparam import SpectralNormalization

images = np.random.default_rng(0).uniform(-1, 1, size=(40, 8, 8, 1)).astype(np.float32)
labels = np.random.default_rng(1).integers(3, size=40)

def losses(**options):
    common = {"loss": "wasserstein", "critic_steps": 2, "seed": 0, "learning_rate": 1e-4, "width": 2, "batch": 4}
    game = gan.build(gan.Settings(latent=3, **common | options), (8, 8, 1))
    rng = np.random.default_rng(7)
    for model in (game.generator, game.critic):
        for v in model.trainable_variables:
            v.assign((0.3 * rng.normal(size=v.shape) + (v.name == "gamma")).astype(np.float32))
        for layer in model.layers:
            if isinstance(layer, SpectralNormalization):
                layer.update_vectors(50)
    history = gan.train(game, images, [1, 3], lambda game: {}, labels=labels if game.settings.classes else None)
    return [[entry["critic_loss"], entry["generator_loss"]] for entry in history["history"]]

found = {method: losses(method=method) for method in methods.METHODS}
for loss in ("hinge", "log"):
    found |= {f"{method} {loss}": losses(method=method, loss=loss) for method in ("gradient_penalty", "spectral_norm")}
for method in ("gradient_penalty", "spectral_norm"):
    found[f"{method}, batch norm"] = losses(method=method, batch_norm=True)
    found[f"{method}, labels"] = losses(method=method, classes=3)
found["restart"] = losses(method="spectral_norm", restart=5)
print(json.dumps(found))
"""


def played(backend: str) -> dict[str, list[list[float]]]:
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
    }
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_method_plays_alike_on_jax_but_kerass_wrapper():
    on_tensorflow, on_jax = played("tensorflow"), played("jax")
    assert set(on_tensorflow) == set(on_jax)
    differ = {
        key
        for key, losses in on_tensorflow.items()
        if losses != [pytest.approx(pair, rel=2e-4, abs=2e-5) for pair in on_jax[key]]
    }
    # Keras's wrapper overwrites the kernel on TensorFlow and is a true normalization under JAX (I4).
    assert differ == {"keras_spectral_norm"}
