"""How good generated images are, measured in the features of one committed classifier.

The Fréchet distance and the score are Heusel et al. 2017's FID and Salimans et al. 2016's inception score,
with the Inception network replaced by a small Fashion-MNIST classifier: values compare within this book,
never with published ones. ``notebooks/runs/ruler.md`` trains it; its weights travel with lipnb. Images of
another shape are measured by Keras's own copy of Inception, whose weights Keras downloads once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import scipy.linalg

from lipnb.lab import models, paths

__all__ = [
    "RULER",
    "Moments",
    "Ruler",
    "by_channel",
    "classifier_score",
    "frechet_distance",
    "inception",
    "load_ruler",
    "moments",
    "ruler_for",
]

RULER = paths.ASSETS / "ruler.npz"
RULER_SHA256 = "27f0275729f813f6cdfe2b19d0fedb8839badf7008fb29317059046d198523c5"


class Moments(NamedTuple):
    """Mean (d,) and covariance (d, d) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray


Ruler = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def load_ruler(batch: int = 500) -> Ruler:
    """Function from images, float32 (n, 28, 28, 1) in −1 … 1, to features (n, 64) and class probabilities (n, 10).

    Raises OSError where the committed weights are not the ones that the recorded results were measured with.
    """
    digest = hashlib.sha256(RULER.read_bytes()).hexdigest()
    if digest != RULER_SHA256:
        raise OSError(
            f"{RULER.name} must have SHA-256 {RULER_SHA256}: check it out again. Received: {digest}"
        )
    model = models.classifier((28, 28, 1), 10, seed=0)
    with np.load(RULER) as arrays:
        model.set_weights([arrays[name] for name in arrays.files])
    outputs = [model.get_layer("features").output, keras.ops.softmax(model.outputs[0])]
    both = keras.Model(model.inputs, outputs)
    return lambda images: tuple(both.predict(images, batch_size=batch, verbose=0))


def inception(batch: int = 50) -> Ruler:
    """Function from images, float32 (n, h, w, c) in −1 … 1, to features (n, 2048) and class probabilities (n, 1000).

    Inception-v3 as Keras ships it, trained on ImageNet: the pooled features, and the softmax. A single channel is
    repeated, images are resized to 299×299 (bilinear). Published FIDs come from another copy of the weights and other
    resizing: values are near them, not equal.

    Raises OSError where its weights are neither in Keras's cache nor to be had. Source: Szegedy et al. 2016.
    """
    try:
        network = keras.applications.InceptionV3(weights="imagenet")
    except Exception as error:  # whatever the download raises
        raise OSError(
            "images that are no garments are measured by Inception-v3, whose weights Keras downloads once: go online. "
            f"Received: {error}"
        ) from error
    both = keras.Model(network.inputs, [network.get_layer("avg_pool").output, network.outputs[0]])

    def read(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coloured = images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)
        parts = (coloured[i : i + batch] for i in range(0, len(images), batch))
        read = [
            both.predict_on_batch(keras.ops.image.resize(part, network.input_shape[1:3])) for part in parts
        ]
        features, probabilities = (np.concatenate(part) for part in zip(*read, strict=True))
        return features, probabilities

    return read


def ruler_for(shape: Sequence[int]) -> Ruler:
    """What measures images of ``shape`` (h, w, c): the garments' classifier where they are 28×28×1, else Inception."""
    return load_ruler() if tuple(shape) == (28, 28, 1) else inception()


def by_channel(ruler: Ruler) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Function from images (n, 28, 28, c) to features (n, 64·c), channel after channel, and labels (n,).

    A label has one decimal digit for each channel, the first channel's in front: 0 … 10^c − 1, as the labels of
    ``stacked_fashion_mnist``.
    """

    def read(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, channels = len(images), images.shape[-1]
        single = np.moveaxis(images, -1, 1).reshape(n * channels, *images.shape[1:3], 1)
        features, probabilities = ruler(single)
        digits = probabilities.argmax(axis=1).reshape(n, channels)
        return features.reshape(n, -1), digits @ 10 ** np.arange(channels)[::-1]

    return read


def moments(features: np.ndarray) -> Moments:
    """Mean and covariance (divided by n − 1) of ``features`` (n, d), in float64."""
    features = np.asarray(features, np.float64)
    return Moments(features.mean(axis=0), np.cov(features, rowvar=False))


def frechet_distance(a: Moments, b: Moments) -> float:
    r"""Squared Fréchet (Wasserstein-2) distance of two Gaussians, in squared feature units.

    .. math:: \|\mu_a-\mu_b\|^2 + \operatorname{tr}\Sigma_a + \operatorname{tr}\Sigma_b
              - 2\operatorname{tr}\big(\Sigma_a^{1/2}\Sigma_b\Sigma_a^{1/2}\big)^{1/2}

    The symmetric form needs eigenvalues of symmetric matrices only, so no complex root and no added
    epsilon. Exact to rounding; negative rounding residue is cut at 0; NaN where a moment is not finite, as of a
    diverged generator. Source: Heusel et al. 2017.
    """
    if not all(np.all(np.isfinite(part)) for part in (*a, *b)):
        return float("nan")
    values, vectors = scipy.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = scipy.linalg.eigvalsh(root @ b.covariance @ root)
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(max(0.0, np.sum((a.mean - b.mean) ** 2) + trace))


def classifier_score(probabilities: np.ndarray) -> float:
    r"""Exponential of the mean Kullback–Leibler divergence of p(y|x) from their mean, between 1 and the classes' number.

    Source: Salimans et al. 2016, in one split.
    """
    p = np.asarray(probabilities, np.float64)
    p = np.clip(p, np.finfo(np.float64).tiny, None)
    return float(np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(axis=0))), axis=1))))
