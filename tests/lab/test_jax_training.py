"""Training is one on TensorFlow and on JAX: from the same weights, the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.lab

# Initial weights differ between backends, so they are drawn here, from NumPy; then a few updates of every method.
GAMES = """
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

# Classifiers: network by network without a penalty, then the small one under every method.
CLASSIFIERS = """
import json
import numpy as np
from lipnb.lab import classifiers, supervised
from lipnb.lab.data import Dataset

rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, size=(40, 8, 8, 1), dtype=np.uint8), rng.integers(3, size=40)
toys = Dataset(images[:30], labels[:30], images[30:], labels[30:])

def losses(network, method, strength):
    penalty = supervised.kernel_penalty(method, strength)
    model = classifiers.build(network, (8, 8, 1), 3, 4, seed=0, kernel_regularizer=penalty)
    draw = np.random.default_rng(7)
    for v in model.trainable_variables:
        v.assign((0.3 * draw.normal(size=v.shape)).astype(np.float32))
    settings = supervised.Settings(method, strength, 10, 3, 1e-4, 0)
    trained = supervised.train(model, toys, settings)
    return [[entry["train_loss"], entry["test_loss"]] for entry in trained["history"]]

found = {network: losses(network, "none", 0.0) for network in classifiers.NETWORKS}
found |= {method: losses("mlp", method, 0.1) for method in supervised.METHODS}
print(json.dumps(found))
"""

# Critics between two distributions in the plane, under every method.
CRITICS = """
import json
import numpy as np
from lipnb.lab import critic_training
from lipnb.lab.distributions import PAIRS

points = np.random.default_rng(0).standard_normal((5, 2))

def values(method):
    bench = critic_training.build(critic_training.Settings(method, 2, 0.1, depth=2, width=4, batch=8))
    critic_training.reset(bench, 0, 1e-3)
    measure = lambda bench: dict(zip("ab", map(float, np.abs(bench.evaluate(points)[0][:2])), strict=True))
    history = critic_training.train(bench, PAIRS["ring"], 0, [1, 4], measure)["history"]
    return [list(pair) for pair in zip(history["a"], history["b"], strict=True)]

print(json.dumps({method: values(method) for method in critic_training.METHODS}))
"""


def trained(script: str, backend: str) -> dict[str, list[list[float]]]:
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
    }
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def differing(script: str) -> set[str]:
    """What the script trains to other losses on JAX than on TensorFlow."""
    on_tensorflow, on_jax = trained(script, "tensorflow"), trained(script, "jax")
    assert set(on_tensorflow) == set(on_jax)
    return {
        key
        for key, losses in on_tensorflow.items()
        if losses != [pytest.approx(pair, rel=2e-4, abs=2e-5) for pair in on_jax[key]]
    }


@pytest.mark.slow
def test_every_method_plays_alike_on_jax_but_kerass_wrapper():
    # Keras's wrapper overwrites the kernel on TensorFlow and is a true normalization under JAX (I4).
    assert differing(GAMES) == {"keras_spectral_norm"}


@pytest.mark.slow
@pytest.mark.parametrize("script", [CLASSIFIERS, CRITICS], ids=["classifiers", "critics"])
def test_every_classifier_and_critic_trains_alike_on_jax(script):
    assert differing(script) == set()
