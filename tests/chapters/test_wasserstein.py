"""What the chapter on the Wasserstein critic rests on (claims G1, G2, G5)."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from lipnb.lab import distributions, penalty_maths, transport
from lipnb.penalties import gradient_penalty

pytestmark = pytest.mark.lab
EPS = np.finfo(np.float64).eps
QUICK = settings(max_examples=25, deadline=None, derandomize=True)
NUMBERS = st.lists(st.integers(-50, 50).map(lambda k: k / 8), min_size=1, max_size=9)


def cloud(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d))


def worst_ratio(f, z):
    """Largest |f(a) − f(b)|/‖a − b‖ over all pairs of rows of z."""
    apart = cdist(z, z) + np.eye(len(z))
    return np.max(np.abs(f[:, None] - f) / apart)


# Exact distances -----------------------------------------------------------------------------------------


@QUICK
@given(NUMBERS, NUMBERS)
def test_g1_w1_on_the_line_agrees_with_scipy_and_with_linear_programming(x, y):
    exact = wasserstein_distance(x, y)
    assert transport.w1_1d(x, y) == pytest.approx(exact, rel=1e-12, abs=1e-13)
    rows = np.array(x)[:, None], np.array(y)[:, None]
    assert transport.w1_samples(*rows).cost == pytest.approx(exact, rel=1e-12, abs=1e-12)


def test_g1_w1_equals_the_best_of_all_matchings():
    x, y = cloud(5, 2, 0), 1 + cloud(5, 2, 1)
    costs = cdist(x, y)
    best = min(costs[range(5), p].mean() for p in itertools.permutations(range(5)))
    assert transport.w1_samples(x, y).cost == pytest.approx(best, rel=50 * EPS)


@pytest.mark.parametrize("name", ["line", "shift", "ring", "modes", "shared"])
def test_g1_w1_of_pairs_known_by_construction(name):
    sample = distributions.draw(distributions.PAIRS[name], 60, seed=3)
    assert transport.w1_samples(sample.real, sample.fake).cost == pytest.approx(sample.w1, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (7, 7, 2), (6, 11, 3), (40, 25, 2)])
def test_g1_plan_and_potential_certify_each_other(n, m, d):
    found = transport.w1_samples(cloud(n, d, 5), 0.5 + cloud(m, d, 6))
    np.testing.assert_allclose(found.plan.sum(axis=1), 1 / n, rtol=1e-12)
    np.testing.assert_allclose(found.plan.sum(axis=0), 1 / m, rtol=1e-12)
    assert found.gap == pytest.approx(0, abs=1e-12)
    points, values = found.support
    assert worst_ratio(values, points) <= 1 + 1e-9
    i, j = found.pairs
    apart = np.linalg.norm(found.real[i] - found.fake[j], axis=1)
    np.testing.assert_allclose(found.at_real[i] - found.at_fake[j], apart, rtol=1e-9, atol=1e-12)


def test_g1_a_solver_that_gives_up_is_noticed(monkeypatch):
    import ot

    def stops_early(a, b, costs, **options):
        return np.outer(a, b), {"v": np.zeros(len(b))}

    monkeypatch.setattr(ot, "emd", stops_early)
    with pytest.raises(RuntimeError, match="Received: gap"):
        transport.w1_samples(cloud(5, 2, 0), cloud(5, 2, 1))


# Potentials of the whole space -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["upper", "lower", "middle"])
def test_g1_extensions_keep_the_values_and_the_constant(which):
    found = transport.w1_samples(cloud(20, 2, 1), 1 + cloud(15, 2, 2))
    extension = getattr(found, which)
    points, values = found.support
    np.testing.assert_allclose(extension(points), values, atol=1e-12)
    anywhere = 3 * cloud(200, 2, 3)
    assert worst_ratio(extension(anywhere), anywhere) <= 1 + 1e-9
    assert np.all(found.lower(anywhere) <= found.upper(anywhere) + 1e-12)


@pytest.mark.parametrize("which", ["upper", "lower", "middle"])
def test_g1_gradients_of_the_extensions_are_their_finite_differences(which):
    found = transport.w1_samples(cloud(20, 2, 1), 1 + cloud(15, 2, 2))
    z, step, f = 2 * cloud(50, 2, 4), 1e-7, getattr(found, which)
    slopes = [(f(z + step * e) - f(z - step * e)) / (2 * step) for e in np.eye(2)]
    gradient = found.gradient(z, which)
    np.testing.assert_allclose(gradient, np.transpose(slopes), atol=1e-6)
    norms = np.linalg.norm(gradient, axis=1)
    assert np.all(norms <= 1 + 1e-12)
    assert np.allclose(norms, 1) == (which != "middle")


@QUICK
@given(NUMBERS, NUMBERS)
def test_g1_potential_on_the_line_is_optimal_and_lipschitz(x, y):
    f = transport.potential_1d(x, y)
    assert np.mean(f(x)) - np.mean(f(y)) == pytest.approx(transport.w1_1d(x, y), rel=1e-11, abs=1e-12)
    t = np.linspace(-8, 8, 400)
    assert np.max(np.abs(np.diff(f(t)))) <= (t[1] - t[0]) * (1 + 1e-9)


def test_g1_equal_samples_cost_nothing():
    x = cloud(9, 2, 0)
    assert transport.w1_samples(x, x[::-1]).cost == 0
    assert transport.w1_1d(x[:, 0], x[::-1, 0]) == 0
    assert np.ptp(transport.potential_1d(x[:, 0], x[::-1, 0])(x)) == 0


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones(3), np.ones((3, 1)), "real must have rank 2"),
        (np.ones((3, 2)), np.ones((3, 1)), "one space"),
        (np.ones((3, 1)), np.full((3, 1), np.nan), "fake must be finite"),
    ],
)
def test_samples_must_be_rows_of_one_space(real, fake, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        transport.w1_samples(real, fake)
    with pytest.raises(ValueError, match="x must be numbers"):
        transport.w1_1d(np.ones((3, 2)), np.ones(3))


# Rays and losses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["upper", "lower", "middle"])
def test_g1_an_optimal_potential_has_the_rays_direction_as_gradient(which):
    found = transport.w1_samples(cloud(30, 2, 1), 1 + cloud(30, 2, 2))
    i, j = found.pairs
    ray = found.real[i] - found.fake[j]
    inside = found.fake[j] + np.random.default_rng(0).uniform(0.05, 0.95, (len(i), 1)) * ray
    unit = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    np.testing.assert_allclose(found.gradient(inside, which), unit, atol=1e-6)


def test_g2_the_distances_slope_is_that_of_an_optimal_critic():
    sample = distributions.draw(distributions.PAIRS["ring"], 30, seed=1)
    move = 1e-5 * cloud(30, 2, 7)
    slope = -np.mean(np.sum(sample.fake / np.linalg.norm(sample.fake, axis=1, keepdims=True) * move, axis=1))
    ahead, behind = (transport.w1_samples(sample.real, sample.fake + s * move).cost for s in (1, -1))
    assert (ahead - behind) / 2 == pytest.approx(slope, rel=1e-4)


# The penalty -----------------------------------------------------------------------------------------------


def test_g5_hand_written_gradients_are_finite_differences():
    critic = penalty_maths.TanhCritic.random(5, 3, seed=0)
    x = cloud(4, 3, 1)
    for row, gradient in zip(x, critic.gradient(x), strict=True):
        numeric = penalty_maths.finite_differences(lambda z: critic(z[None])[0], row)
        np.testing.assert_allclose(gradient, numeric, atol=1e-8)
    again = critic.at(critic.vector)
    np.testing.assert_array_equal(again(x), critic(x))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(critic.to_keras()(x))[:, 0], critic(x), rtol=1e-12)


@pytest.mark.parametrize("kind", ["two_sided", "one_sided", "one_sided_linear"])
def test_g5_the_librarys_penalty_is_the_hand_written_one(kind):
    critic = penalty_maths.TanhCritic.random(5, 3, seed=0)
    real, fake, eps = cloud(9, 3, 1), cloud(9, 3, 2), np.random.default_rng(3).uniform(size=9)
    value = gradient_penalty(critic.to_keras(), real, fake, kind=kind, eps=eps)
    byhand = penalty_maths.penalty(critic, eps[:, None] * real + (1 - eps[:, None]) * fake, kind)
    assert float(value) == pytest.approx(byhand, rel=1e-13)
    with pytest.raises(ValueError, match="kind must be one of"):
        penalty_maths.penalty(critic, real, "three_sided")


def test_g5_batch_normalization_couples_the_samples_of_a_batch():
    def critic(*norm):
        layers = [
            keras.layers.Dense(4, "tanh", dtype="float64"),
            *norm,
            keras.layers.Dense(1, dtype="float64"),
        ]
        return keras.Sequential([keras.Input((2,), dtype="float64"), *layers])

    x = cloud(6, 2, 0)
    own = penalty_maths.cross_gradients(critic(), x, training=True)
    assert own.shape == (6, 6, 2)
    assert np.all(own[~np.eye(6, dtype=bool)] == 0)
    assert np.all(np.linalg.norm(own[np.eye(6, dtype=bool)], axis=1) > 0)
    normed = critic(keras.layers.BatchNormalization(dtype="float64"))
    coupled = penalty_maths.cross_gradients(normed, x, training=True)
    assert np.abs(coupled[~np.eye(6, dtype=bool)]).max() > 1e-3
    assert np.abs(coupled.sum(axis=0)).max() < 1e-12  # all that a penalty on the summed output would see
    assert np.all(penalty_maths.cross_gradients(normed, x, training=False)[~np.eye(6, dtype=bool)] == 0)
