"""What the chapter on constructions rests on (claims H4, H5, and H1's bound)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from lipnb.lab import critic_scale, residual
from lipnb.lab.linear_algebra import agree, at_most
from lipnb.norms import frobenius_norm, spectral_norm

pytestmark = pytest.mark.lab
EPS = np.finfo(np.float64).eps
QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def block(kind, seed, norm=1.0, size=7):
    return residual.random_blocks(kind, 1, size, norm, seed)[0]


def points(n, size, seed):
    return 3 * np.random.default_rng(seed).standard_normal((n, size))


# H1's bound ------------------------------------------------------------------------------------------------


@QUICK
@given(st.integers(1, 6), st.integers(1, 6), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_h1_clipped_matrices_obey_the_bound_and_one_pattern_attains_it(m, n, c, seed):
    rng = np.random.default_rng(seed)
    w = rng.uniform(-c, c, (m, n))
    assert spectral_norm(w) <= frobenius_norm(w) * (1 + 36 * EPS)
    assert frobenius_norm(w) <= c * np.sqrt(m * n)
    pattern = c * np.outer(rng.choice([-1, 1], m), rng.choice([-1, 1], n))
    assert spectral_norm(pattern) == pytest.approx(c * np.sqrt(m * n), rel=36 * EPS)


def test_h1_all_equal_signs_in_two_patterns_fall_short():
    assert spectral_norm(np.array([[1.0, 1], [1, -1]])) == pytest.approx(np.sqrt(2), rel=16 * EPS)


def test_h1_biases_clipped_to_c_change_the_best_critic_and_none_do_not():
    without = [critic_scale.best_clipped_chain(c, biases=False) for c in (0.1, 0.5, 2.0)]
    np.testing.assert_allclose(without, 0.25, rtol=1e-12)
    kink_at_3 = [critic_scale.best_clipped_chain(c, biases=True) for c in (0.1, 0.5)]
    np.testing.assert_allclose(kink_at_3, 0.75, rtol=1e-12)  # relu(4.5 − 3)/2
    assert critic_scale.best_clipped_chain(1.0, biases=True) < 0.6


def test_h1_the_grid_search_is_a_maximum_over_its_grid():
    grid, best = [-1.0, 0.0, 1.0], 0.0
    for w1, b1, w2, b2, w3 in itertools.product(grid, repeat=5):
        f = [w3 * max(w2 * max(w1 * x + b1, 0) + b2, 0) for x in (2.0, 4.5, 3.0)]
        best = max(best, f[0] / 2 + f[1] / 2 - f[2])
    assert critic_scale.best_clipped_chain(1.0, biases=True, resolution=3) == pytest.approx(best, rel=1e-12)


# H5: blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", residual.KINDS)
@pytest.mark.parametrize("norm", [0.3, 1.0, 4.0])
def test_h5_no_pair_exceeds_a_blocks_bound(kind, norm):
    b, x, y = block(kind, 0, norm), points(2000, 7, 1), points(2000, 7, 2)
    moved = np.linalg.norm(b(x) - b(y), axis=1)
    assert at_most(moved, b.bound * np.linalg.norm(x - y, axis=1), 1000)
    near = x + 1e-4 * y
    assert at_most(np.linalg.norm(b(x) - b(near), axis=1), b.bound * np.linalg.norm(x - near, axis=1), 10**8)


@pytest.mark.parametrize("kind", residual.KINDS)
def test_h5_jacobians_are_finite_differences(kind):
    b, x, step = block(kind, 3), points(20, 7, 4), 1e-6
    columns = [(b(x + step * e) - b(x - step * e)) / (2 * step) for e in np.eye(7)]
    np.testing.assert_allclose(b.jacobians(x), np.stack(columns, axis=2), atol=1e-8)


@pytest.mark.parametrize(("kind", "bound"), [("chain", 3), ("plain", 4), ("average", 2), ("gradient", 1)])
def test_h5_bounds_are_attained(kind, bound):
    b = residual.Block(3 * np.eye(4), np.zeros(4), kind)
    assert b.bound == pytest.approx(bound, rel=16 * EPS)
    gain = np.linalg.norm(b.jacobians(np.ones((1, 4)))[0], 2)
    assert gain == pytest.approx(bound, rel=16 * EPS)


def test_h5_a_block_with_the_right_sign_keeps_the_constant_at_one():
    x = points(50, 3, 0)
    assert agree(residual.Block(-2 * np.eye(3), np.zeros(3), "plain")(x), np.abs(x), 9)


@QUICK
@given(st.integers(1, 5), st.integers(1, 5), st.floats(0.1, 10), st.integers(0, 99))
def test_h5_the_gradient_form_has_constant_one_for_weights_of_any_shape(k, n, scale, seed):
    rng = np.random.default_rng(seed)
    b = residual.Block(scale * rng.standard_normal((k, n)), rng.standard_normal(k), "gradient")
    x, y = rng.standard_normal((2, 300, n))
    assert at_most(np.linalg.norm(b(x) - b(y), axis=1), np.linalg.norm(x - y, axis=1), 1000)
    jacobian = b.jacobians(x)
    np.testing.assert_allclose(jacobian, jacobian.transpose(0, 2, 1), atol=1e-12)
    assert np.linalg.norm(jacobian, 2, axis=(1, 2)).max() <= 1 + 100 * EPS


def test_h5_gains_of_a_stack_are_those_of_its_product():
    stack, x = residual.random_blocks("plain", 3, 5, 0.7, seed=2), points(30, 5, 3)
    directions = np.tile(np.eye(5)[0], (30, 1))
    largest, median = residual.gains(stack, x, directions)

    def whole(z):
        for b in stack:
            z = b(z)
        return z

    columns = [(whole(x + 1e-6 * e) - whole(x - 1e-6 * e)) / 2e-6 for e in np.eye(5)]
    jacobian = np.stack(columns, axis=2)
    assert largest[-1] == pytest.approx(np.linalg.norm(jacobian, 2, axis=(1, 2)).max(), rel=1e-7)
    assert median[-1] == pytest.approx(np.median(np.linalg.norm(jacobian[:, :, 0], axis=1)), rel=1e-7)
    assert np.all(largest <= np.cumprod([b.bound for b in stack]))


@pytest.mark.parametrize(
    ("w", "b", "kind", "message"),
    [
        (np.eye(2), np.zeros(3), "plain", "one entry for each row"),
        (np.ones((3, 2)), np.zeros(3), "average", "square"),
        (np.eye(2), np.zeros(2), "deep", "kind must be one of"),
    ],
)
def test_blocks_must_fit(w, b, kind, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        residual.Block(w, b, kind)


# H5: does a constant matter? -------------------------------------------------------------------------------


def weights(seed, n=25):
    real, fake = np.random.default_rng(seed).uniform(size=(2, n))
    return real / real.sum(), fake / fake.sum()


@pytest.mark.parametrize("constant", [0.1, 1.0, 7.0])
def test_h5_wasserstein_scales_with_the_constant(constant):
    grid, (real, fake) = np.linspace(-1, 2, 25), weights(0)
    f, loss = critic_scale.best_critic(grid, real, fake, constant, "wasserstein")
    assert -loss == pytest.approx(constant * wasserstein_distance(grid, grid, real, fake), rel=1e-6)
    assert np.abs(np.diff(f) / np.diff(grid)).max() <= constant * (1 + 1e-9)
    assert (real - fake) @ f == pytest.approx(-loss, rel=1e-9)


def test_h5_hinge_is_wasserstein_for_a_small_constant_and_satisfied_for_a_large_one():
    grid, (real, fake) = np.linspace(0, 1, 25), weights(1)
    w1 = wasserstein_distance(grid, grid, real, fake)
    assert critic_scale.best_critic(grid, real, fake, 2.0, "hinge")[1] == pytest.approx(2 - 2 * w1, abs=1e-7)
    apart = np.where(grid < 0.3, real, 0), np.where(grid > 0.7, fake, 0)
    apart = [part / part.sum() for part in apart]
    f, loss = critic_scale.best_critic(grid, *apart, 6.0, "hinge")
    assert loss == pytest.approx(0, abs=1e-7)
    assert apart[0] @ np.maximum(0, 1 - f) + apart[1] @ np.maximum(0, 1 + f) == pytest.approx(loss, abs=1e-7)


@pytest.mark.parametrize("reach", [0.7, 2.0, 5.0])
def test_h5_least_losses_of_two_points(reach):
    closed = critic_scale.optimum_on_two_points(reach)
    ends, real, fake = np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([1.0, 0.0])
    for loss in critic_scale.LOSSES:
        solved = critic_scale.best_critic(ends, real, fake, reach, loss)[1]
        assert solved == pytest.approx(float(closed[loss]), abs=1e-7)
    at_real = np.linspace(-6, 6, 24001)
    log = np.log1p(np.exp(-at_real)) + np.log1p(np.exp(at_real - reach))
    assert log.min() == pytest.approx(float(closed["log"]), abs=1e-6)


def test_best_critic_refuses_what_it_does_not_know():
    grid, (real, fake) = np.linspace(0, 1, 25), weights(2)
    with pytest.raises(ValueError, match="loss must be one of"):
        critic_scale.best_critic(grid, real, fake, 1.0, "log")
    with pytest.raises(ValueError, match="constant must be"):
        critic_scale.best_critic(grid, real, fake, 0.0, "hinge")
