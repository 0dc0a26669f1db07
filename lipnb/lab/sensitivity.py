"""How sensitive a trained classifier is: its constant from above and below, certificates, attacks, gradients, spectra."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from lipnb.bounds import lipschitz_bound
from lipnb.estimates import certified_radius, lipschitz_estimate
from lipnb.lab.attacks import attack_distance, attacker, margins
from lipnb.lab.supervised import margin
from lipnb.penalties import input_gradient_norm

__all__ = ["SAFE", "measure", "spectra"]

SAFE = 0.999  # share of a certified radius that an attack must not break: float32 rounds below this
FARTHEST = 64.0  # radius of the widest attack: farther than two images of a data set in [−1, 1] usually are


def measure(
    network: keras.Model,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    radius: float,
    attacked: int,
    steps: int = 20,
    searched: int = 16,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers and arrays about ``network`` at float images ``x`` (batch, …) with ``labels``.

    Parameters
    ----------
    radius
        Euclidean length at which accuracy under attack and certified accuracy are reported.
    attacked
        How many of the images, the first ones, are attacked, with ``steps`` gradient steps an attack.
    searched
        How many of them the search for a lower bound of the constant starts from.

    Returns
    -------
    numbers
        ``bound`` ≥ best Lipschitz constant ≥ ``estimate``; over the attacked images ``accuracy``,
        ``certified_accuracy`` (right, and proven to stay right) ≤ ``robust_accuracy`` (right, and the attack found
        nothing), ``broken_certificates`` (attacks that succeeded within ``SAFE`` of a certificate: none, or there is a
        mistake), mean norms of the input gradient of the margin and of the loss, and ``distance``, the median length of
        the shortest label-changing perturbation found at rightly classified images (None where infinite).
    arrays
        For each attacked image ``right``, ``certified`` (radius) and ``distance`` (of the attack).
    """
    x, labels = x[:attacked], labels[:attacked]
    logits = network.predict(x, batch_size=1000, verbose=0)
    guesses = logits.argmax(axis=1)
    right = guesses == labels
    bound = float(lipschitz_bound(network))
    certified, attack = certified_radius(logits, bound), attacker(network, steps=steps)
    kept = margins(network, attack(x, guesses, SAFE * certified), guesses) > 0
    distance = attack_distance(network, attack, x, guesses, largest=FARTHEST)
    held = margins(network, attack(x, guesses, radius), guesses) > 0
    middle = float(np.median(distance[right])) if right.any() else np.inf
    numbers = {
        "bound": bound,
        "estimate": float(lipschitz_estimate(network, x[:searched], n_steps=60)),
        "accuracy": float(right.mean()),
        "certified_accuracy": float(np.mean(right & (certified > radius))),
        "robust_accuracy": float(np.mean(right & held & (distance > radius))),
        "broken_certificates": int(np.sum((~kept & (certified > 0)) | (distance < SAFE * certified))),
        "distance": middle if np.isfinite(middle) else None,
        **_gradient_norms(network, x, labels),
    }
    arrays = {
        "right": right,
        "certified": certified.astype(np.float32),
        "distance": distance.astype(np.float32),
    }
    return numbers, arrays


def spectra(network: keras.Model) -> list[np.ndarray]:
    """Singular values of every kernel as the matrix (−1, shape[-1]), float32, largest first."""
    kernels = [keras.ops.convert_to_numpy(v) for v in network.trainable_variables if len(v.shape) > 1]
    return [
        np.linalg.svd(k.reshape(-1, k.shape[-1]).astype(np.float64), compute_uv=False).astype(np.float32)
        for k in kernels
    ]


def _gradient_norms(network, x, labels) -> dict[str, float]:
    y = keras.ops.convert_to_tensor(labels, "int32")

    def loss(z):
        return keras.losses.sparse_categorical_crossentropy(y, network(z, training=False), from_logits=True)

    found = {"margin": lambda z: margin(network(z, training=False), y), "loss": loss}
    return {
        f"{name}_gradient": float(np.mean(keras.ops.convert_to_numpy(input_gradient_norm(f, x))))
        for name, f in found.items()
    }
