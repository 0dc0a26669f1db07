"""Adversarial training: the same bits from the same seed, through a stop, and an end that is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from lipnb.lab import data, gan
from lipnb.norms import spectral_norm

pytestmark = pytest.mark.lab

IMAGES = data.to_float(data.load("fashion_mnist_mini").x_train)
SCRIPT = """
import json, sys
from pathlib import Path
from lipnb.lab import data, gan, machine, metrics
machine.make_deterministic()
images = data.to_float(data.load("fashion_mnist_mini").x_train)
ruler = metrics.load_ruler()
reference = metrics.moments(ruler(images[:500])[0])
def evaluate(game):
    features, p = ruler(gan.generate(game, 500, seed=0))
    return {"fid": metrics.frechet_distance(metrics.moments(features), reference), "score": metrics.classifier_score(p)}
def run(stops, checkpoint=None, method="spectral_norm"):
    game = gan.build(gan.Settings(method, "wasserstein", 2, 3, 1e-3, width=4, batch=16), images.shape[1:])
    history = gan.train(game, images, stops, evaluate, checkpoint=checkpoint)["history"]
    return [{k: float.hex(float(v)) for k, v in h.items() if k != "seconds"} for h in history]
whole = run([2, 4])
path = Path(sys.argv[1]) / "checkpoint.npz"
stopped = run([2], path)
resumed = run([2, 4], path)
print(json.dumps([whole, stopped, resumed]))
"""


def settings(**changes) -> gan.Settings:
    common = {"method": "none", "loss": "wasserstein", "critic_steps": 1, "seed": 0, "learning_rate": 1e-3}
    return gan.Settings(**common | {"width": 4, "batch": 8} | changes)


def test_same_seed_same_bits_and_a_resumed_run_ends_like_an_unbroken_one(tmp_path):
    # In a process of its own: deterministic operations cannot be switched off again.
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    whole, stopped, resumed = json.loads(result.stdout.splitlines()[-1])
    assert len(whole) == 2
    assert stopped == whole[:1]
    assert resumed == whole


def test_a_diverging_run_ends_with_the_update_at_which_it_did():
    game = gan.build(settings(), IMAGES.shape[1:])
    broken = IMAGES[:50].copy()
    broken[:] = np.nan
    outcome = gan.train(game, broken, [3, 6], lambda game: {"measured": 1.0})
    assert outcome == {"history": [], "diverged_at": 1}


def test_clipped_weights_stay_within_the_bound():
    game = gan.build(settings(method="weight_clip"), IMAGES.shape[1:])
    gan.train(game, IMAGES, [2], lambda game: {})
    kernels = [w for w in game.critic.trainable_variables if w.name == "kernel"]
    assert kernels
    assert max(float(np.abs(w.numpy()).max()) for w in kernels) <= 0.01 * (1 + 1e-6)


def test_normalized_kernels_have_norm_about_one_from_above():
    game = gan.build(settings(method="spectral_norm"), IMAGES.shape[1:])
    gan.train(game, IMAGES, [3], lambda game: {})
    wrapped = [layer for layer in game.critic.layers if hasattr(layer, "normalized_weights")]
    assert len(wrapped) == 4
    for layer in wrapped:
        (kernel,) = (np.asarray(w) for w in layer.normalized_weights())
        assert 1 - 1e-5 <= spectral_norm(kernel.reshape(-1, kernel.shape[-1])) <= 1.1


@pytest.mark.parametrize(
    "change", [{"method": "magic"}, {"loss": "square"}, {"critic_steps": 0}, {"learning_rate": -1.0}]
)
def test_settings_that_make_no_sense_raise_before_any_work(change):
    with pytest.raises(ValueError, match="Received"):
        settings(**change)
