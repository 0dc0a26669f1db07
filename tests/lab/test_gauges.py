"""What generated samples and trained critics are measured by, against closed forms and brute force."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from lipnb import conv_matrix
from lipnb.lab import costs, critics, data, diversity, gan, gauges, metrics, mixtures
from lipnb.lab.methods import SPECTRAL
from lipnb.norms import spectral_norm

pytestmark = [
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def neighbour_measures_one_by_one(real, fake, k):
    """The same numbers from the definitions, point by point."""

    def radius(points, x):
        return sorted(np.linalg.norm(points - x, axis=1))[k]  # the first is x itself

    real_radii, fake_radii = [radius(real, x) for x in real], [radius(fake, x) for x in fake]
    inside = np.array(
        [[np.linalg.norm(r - f) <= rad for f in fake] for r, rad in zip(real, real_radii, strict=True)]
    )
    covered = [
        any(np.linalg.norm(r - f) <= rad for f, rad in zip(fake, fake_radii, strict=True)) for r in real
    ]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": np.mean(covered),
        "density": inside.sum() / (k * len(fake)),
        "coverage": inside.any(axis=1).mean(),
    }


def test_neighbour_measures_are_what_their_definitions_say():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) * 0.7 + 0.4
    expected = neighbour_measures_one_by_one(real, fake, 3)
    assert diversity.neighbour_measures(real, fake, 3) == pytest.approx(expected)
    assert 0 < expected["recall"] < 1
    assert 0 < expected["coverage"] < 1


def test_neighbour_measures_of_samples_alike_and_of_strangers():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 500, 8))
    alike = diversity.neighbour_measures(real, fake)
    assert min(alike["precision"], alike["recall"], alike["coverage"]) > 0.85
    assert alike["density"] == pytest.approx(1, abs=0.15)
    assert diversity.neighbour_measures(real, fake + 100) == dict.fromkeys(alike, 0.0)
    collapsed = diversity.neighbour_measures(real, real[:1] + 1e-3 * fake)
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.1
    assert collapsed["coverage"] < 0.1


def test_neighbour_measures_refuse_too_few_points_and_pass_on_what_is_no_number():
    with pytest.raises(ValueError, match="more than k = 5 points. Received: 5, 9"):
        diversity.neighbour_measures(np.zeros((5, 2)), np.zeros((9, 2)))
    broken = diversity.neighbour_measures(np.zeros((9, 2)), np.full((9, 2), np.nan))
    assert all(np.isnan(value) for value in broken.values())


def test_missing_entropy_between_its_ends():
    assert diversity.missing_entropy(np.full(7, 3)) == pytest.approx(0, abs=1e-15)
    assert diversity.missing_entropy(np.array([0, 9, 0])) == pytest.approx(1)
    assert diversity.missing_entropy(np.array([1, 1, 0, 0])) == pytest.approx(0.5)


def test_a_stack_is_read_channel_by_channel():
    images = data.to_float(data.stacked(data.load("fashion_mnist_mini")).x_test[:20])
    ruler = metrics.load_ruler()
    features, labels = metrics.by_channel(ruler)(images)
    single = [ruler(images[..., c : c + 1]) for c in range(3)]
    np.testing.assert_allclose(features, np.concatenate([f for f, _ in single], axis=1), rtol=1e-5, atol=1e-5)
    digits = [p.argmax(axis=1) for _, p in single]
    np.testing.assert_array_equal(labels, 100 * digits[0] + 10 * digits[1] + digits[2])


@pytest.mark.parametrize("n_modes", [2, 3, 10, 100])
def test_modes_are_one_apart_and_centred(n_modes):
    points = mixtures.centres(n_modes)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)[~np.eye(n_modes, dtype=bool)]
    assert distances.min() == pytest.approx(1)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)


def test_mixtures_measure_true_samples_as_good_and_others_as_they_are():
    real = mixtures.measures(mixtures.sample(10, 20_000, seed=3), 10)
    assert real["quality"] == pytest.approx(
        1 - np.exp(-4.5), abs=0.005
    )  # three standard deviations in the plane
    assert real["modes"] == 10
    assert real["misplaced"] < 0.03
    one = np.tile(mixtures.centres(10)[3], (100, 1))
    assert mixtures.measures(one, 10) == pytest.approx(
        {"quality": 1, "modes": 1, "misplaced": 0.9, "missing_entropy": 1}
    )
    nowhere = mixtures.measures(np.full((100, 2), 50.0), 10)
    assert (nowhere["quality"], nowhere["modes"], nowhere["misplaced"]) == (0, 0, 1)
    assert np.isnan(mixtures.measures(np.full((3, 2), np.nan), 10)["misplaced"])


def critic_of(method: str, **changes) -> keras.Sequential:
    """A critic whose vectors and statistics have moved."""
    settings = gan.Settings(method, "wasserstein", 1, 0, 1e-2, width=2, latent=3, **changes)
    critic = gan.build(settings, (8, 8, 1)).critic
    for batch in np.random.default_rng(0).uniform(-1, 1, size=(3, 4, 8, 8, 1)).astype(np.float32):
        critic(batch, training=True)
    return critic


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((m, {}) for m in ("none", *SPECTRAL)),  # the other methods leave the layers plain
        ("spectral_norm", {"restart": 5}),
        ("spectral_norm", {"batch_norm": True}),
    ],
)
def test_a_plain_copy_computes_the_critic_and_its_constants_hold_in_order(method, options):
    critic = critic_of(method, **options)
    x = np.random.default_rng(1).uniform(-1, 1, size=(30, 8, 8, 1)).astype(np.float32)
    plain = critics.as_plain(critic)
    np.testing.assert_allclose(plain(x, training=False), critic(x, training=False), rtol=1e-4, atol=1e-6)
    found = critics.lipschitz_interval(critic, x, n_steps=5, n_starts=3)
    assert 0 < found["at_points"] <= found["lower"] <= found["upper"] * (1 + 1e-6)


def test_layer_norms_are_those_of_the_matrices():
    critic = critic_of("spectral_norm")
    found = critics.layer_norms(critic)
    assert [row["type"] for row in found] == ["Conv2D", "Conv2D", "Conv2D", "Dense"]
    first = critics.as_plain(critic).layers[0]
    kernel = np.asarray(first.kernel, np.float64)
    matrix = conv_matrix(kernel, (8, 8, 1), 2, "same").toarray()
    assert found[0]["operator"] == pytest.approx(spectral_norm(matrix), rel=1e-3)
    assert found[0]["reshaped"] == pytest.approx(spectral_norm(kernel.reshape(-1, kernel.shape[-1])))


def test_a_gauge_tells_garments_from_noise():
    images = data.load("fashion_mnist_mini")
    against = gauges.gauge(images, samples=200, neighbours=50, seed=0)
    settings = gan.Settings("none", "wasserstein", 1, 0, 1e-3, width=4, batch=8)
    found = gauges.measure(against, gan.build(settings, (28, 28, 1)))
    assert found["fid_test"] > 100
    assert found["modes"] < 10
    assert found["coverage"] < 0.5
    assert "label_accuracy" not in found
    labelled = gan.Settings("none", "wasserstein", 1, 0, 1e-3, width=4, batch=8, classes=10)
    assert 0 <= gauges.measure(against, gan.build(labelled, (28, 28, 1)))["label_accuracy"] < 0.5


def test_operations_of_a_product_are_counted_and_a_penalty_costs_more():
    games = costs.games(["none", "gradient_penalty"], 8, width=2, batch=4, seed=0)
    rng = np.random.default_rng(0)
    tensors = [
        keras.ops.convert_to_tensor(rng.normal(size=shape).astype(np.float32))
        for shape in ((4, 8, 8, 1), (4, 64), (4, 1, 1, 1))
    ]
    plain, penalty = (costs.floating_operations(game.critic_step, *tensors) for game in games.values())
    assert 1.3 * plain < penalty < 4 * plain
    parts = costs.parts(games["none"].critic)
    assert all(costs.seconds(step, tensors[0], tensors[0]) > 0 for step in parts.values())
    forward, weight = (
        costs.floating_operations(parts[k], tensors[0], tensors[0]) for k in ("forward", "weight_gradient")
    )
    assert 2 * forward < weight < 4 * forward
