"""Everything that is measured of a game on images: quality, variety, labels, and the critic's slope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipnb.lab import data, diversity, gan, metrics
from lipnb.penalties import input_gradient_norm

__all__ = ["Gauge", "gauge", "measure", "slope_points"]

PROBES = 256  # images at which the critic is looked at


@dataclass(frozen=True)
class Gauge:
    """What generated images are held against: features of test images, and how to read them.

    ``read`` gives features and labels among ``classes``, 0 where the labels say nothing of the images' own.
    """

    read: metrics.Ruler
    features: np.ndarray
    moments: metrics.Moments
    probe: np.ndarray
    classes: int
    samples: int
    neighbours: int
    seed: int


def gauge(images: data.Dataset, *, samples: int, neighbours: int, seed: int) -> Gauge:
    """A gauge that generates ``samples`` images from ``seed`` and compares them with as many test images.

    ``neighbours`` of both go into the measures of neighbours, whose cost grows with the square. Images of 28×28 are
    garments, one or several as channels (:func:`lipnb.lab.metrics.by_channel`); others have no classes here.
    """
    test = data.to_float(images.x_test[:samples])
    garments = test.shape[1:3] == (28, 28)
    read = metrics.by_channel(metrics.load_ruler()) if garments else metrics.inception()
    classes = 10 ** test.shape[-1] if garments else 0
    features, _ = read(test)
    return Gauge(
        read,
        features[:neighbours],
        metrics.moments(features),
        test[:PROBES],
        classes,
        samples,
        neighbours,
        seed,
    )


def measure(against: Gauge, game: gan.Game) -> dict[str, float]:
    """Measures of ``game``'s generator and of its critic's slope.

    Returns
    -------
    ``fid_test``; ``precision``, ``recall``, ``density``, ``coverage``; where there are classes ``modes``, those with
    at least a tenth of their fair share of the images, and ``missing_entropy``; ``label_accuracy``, the share of
    images of the class that was asked for, in a game with classes; and, in one without, ``gradient_norm_max``,
    the largest gradient norm of the critic at test images, generated ones and between.
    """
    fake = gan.generate(game, against.samples, seed=against.seed)
    features, labels = against.read(fake)
    found = {
        "fid_test": metrics.frechet_distance(metrics.moments(features), against.moments),
        **diversity.neighbour_measures(against.features, features[: against.neighbours]),
    }
    if against.classes:
        counts = np.bincount(labels, minlength=against.classes)
        found["modes"] = float(np.sum(counts >= max(0.1 * len(fake) / against.classes, 1)))
        found["missing_entropy"] = diversity.missing_entropy(counts)
    if game.settings.classes:
        asked = gan.labels_asked(len(fake), game.settings.classes)
        return found | {"label_accuracy": float(np.mean(labels == asked))}
    norms = np.asarray(input_gradient_norm(game.critic, slope_points(against, fake)))
    return found | {"gradient_norm_max": float(norms.max())}


def slope_points(against: Gauge, fake: np.ndarray) -> np.ndarray:
    """Test images, as many generated ones, and their midpoints."""
    fake = fake[: len(against.probe)]
    return np.concatenate([against.probe[: len(fake)], fake, (against.probe[: len(fake)] + fake) / 2])
