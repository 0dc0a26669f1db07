"""What the chapter on power iteration rests on (claims C1, E1 to E5)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb.lab import circles, norm_figures
from lipnb.lab.linear_algebra import agree, at_most, iterates, lengths, random_svd, spectral_radius, tangents
from lipnb.norms import power_iteration, spectral_norm, spectral_norm_estimate

pytestmark = pytest.mark.lab
EPS = np.finfo(np.float64).eps
QUICK = settings(max_examples=30, deadline=None, derandomize=True)
RATIOS = st.lists(st.floats(0, 0.95), min_size=1, max_size=5)  # of the other singular values to the top one


def _case(ratios, copies, seed):
    """W with ``copies`` singular values 2 and others, its right singular vectors, and a start."""
    sigma = 2 * np.sort([*np.ones(copies), *ratios])[::-1]
    w, _, right = random_svd(sigma, 9, 10, seed)
    return w, right, np.random.default_rng(seed).standard_normal(10)


def test_c1_spectral_radius_is_not_the_norm():
    nilpotent = np.array([[0.0, 1.0], [0.0, 0.0]])
    assert spectral_radius(nilpotent) == 0
    assert spectral_norm(nilpotent) == 1
    not_normal = np.block([[np.array([[2.0]]), np.zeros((1, 2))], [np.zeros((2, 1)), nilpotent]])
    assert spectral_radius(not_normal) == spectral_norm(not_normal) == 2
    assert not np.array_equal(not_normal.T @ not_normal, not_normal @ not_normal.T)


@QUICK
@given(st.integers(1, 6), st.integers(0, 99))
def test_c1_spectral_radius_is_at_most_the_norm_and_equal_for_normal_matrices(n, seed):
    w = np.random.default_rng(seed).standard_normal((n, n))
    assert spectral_radius(w) <= spectral_norm(w) * (1 + 100 * w.size * EPS)
    for normal in (w + w.T, w - w.T, np.linalg.qr(w)[0]):
        assert spectral_radius(normal) == pytest.approx(spectral_norm(normal), rel=100 * w.size * EPS)


def test_lengths_are_of_columns():
    np.testing.assert_array_equal(lengths(np.array([[3.0, 0.0], [4.0, 1.0]])), [5.0, 1.0])
    assert lengths(np.array([3.0, 4.0])) == 5


def test_tangents_of_known_angles():
    angles = np.array([0.0, 0.3, 1.2])
    vectors = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    np.testing.assert_allclose(tangents(vectors, np.eye(3)[:, :1]), np.tan(angles), rtol=16 * EPS)
    np.testing.assert_allclose(tangents(vectors, np.eye(3)[:, :2]), 0, atol=16 * EPS)
    assert tangents(np.eye(3)[2:], np.eye(3)[:, :2])[0] == np.inf


@QUICK
@given(RATIOS, st.integers(1, 3), st.integers(0, 99))
def test_e2_iterates_are_those_of_the_full_step(ratios, copies, seed):
    w, _, start = _case(ratios, copies, seed)
    u = iterates(w, start, 8).T
    full = w.T @ w @ u[:, :-1]
    assert agree(u[:, 1:], full / lengths(full), w.size)
    assert agree(lengths(u), 1.0, w.size)


@QUICK
@given(RATIOS, st.integers(1, 3), st.integers(0, 99))
def test_e2_estimates_interlace_and_never_exceed_the_norm(ratios, copies, seed):
    w, _, start = _case(ratios, copies, seed)
    whole = lengths(w @ iterates(w, start, 6).T)
    # The library's u stands to the left of the kernel, so the kernel is the transposed matrix.
    half = np.array([float(power_iteration(w.T, start, r)[0]) for r in range(1, 7)])
    assert at_most(whole[:-1], half, w.size)
    assert at_most(half, whole[1:], w.size)
    assert at_most(whole, 2.0, 100 * w.size)


@QUICK
@given(RATIOS, st.integers(1, 3), st.integers(0, 99))
def test_e3_vector_and_value_obey_the_theorem(ratios, copies, seed):
    w, right, start = _case(ratios, copies, seed)
    top, q, r = right[:, :copies], max(ratios) ** 2, np.arange(31)
    u = iterates(w, start, 30)
    tangent, rounding = tangents(u, top), 100 * w.size * EPS
    limit = top @ (top.T @ start)
    assert np.all(tangent <= q**r * tangent[0] * (1 + rounding) + rounding * tangent[0])
    assert np.all(lengths(u.T - (limit / lengths(limit))[:, None]) <= tangent + rounding * tangent[0])
    missing = 4 - lengths(w @ u.T) ** 2
    assert np.all(
        missing <= 4 * q ** (2 * r) * tangent[0] ** 2 * (1 + rounding) + rounding * (1 + tangent[0] ** 2)
    )
    assert np.all(missing >= -4 * rounding)


@QUICK
@given(RATIOS, st.floats(0.01, 0.9), st.integers(0, 99))
def test_e3_value_needs_no_gap(ratios, delta, seed):
    w, right, start = _case(ratios, 1, seed)
    u = iterates(w, start, 20)
    tangent, r = tangents(u[:1], right[:, :1])[0], np.arange(21)
    floor = (1 - delta) / (1 + (1 - delta) ** (2 * r) * tangent**2)
    assert at_most(floor, lengths(w @ u.T) ** 2 / 4, 100 * w.size)


def test_e3_orthogonal_start_never_leaves_where_nothing_is_rounded():
    u = iterates(np.diag([2.0, 1.0]), np.array([0.0, 3.0]), 100)
    np.testing.assert_array_equal(u, np.tile([0.0, 1.0], (101, 1)))


def test_e3_tail_of_random_starts_is_within_its_bound_and_not_far_below():
    n, limit = 40, 50.0
    normal = np.random.default_rng(0).standard_normal((100_000, n))
    share = np.mean(lengths(normal[:, 1:].T) / np.abs(normal[:, 0]) >= limit)
    assert 0.9 < share / (np.sqrt(2 * (n - 1) / np.pi) / limit) < 1.05


def test_e4_all_ones_can_be_lost():
    kernel = np.array([[1.0, 0.1], [-1.0, 0.1]])
    assert float(spectral_norm_estimate(kernel)) == pytest.approx(0.1 * np.sqrt(2), rel=16 * EPS)
    assert float(spectral_norm_estimate(kernel, seed=0)) == pytest.approx(np.sqrt(2), rel=1e-9)
    sobel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[..., None, None]
    assert float(spectral_norm_estimate(sobel)) == 0
    assert float(spectral_norm_estimate(sobel, seed=0)) == pytest.approx(np.sqrt(12), rel=16 * EPS)


def test_e5_five_rounds_are_short_of_the_norm_for_gaussian_kernels():
    kernel = np.random.default_rng(0).standard_normal((784, 128))
    assert 0.85 < float(spectral_norm_estimate(kernel)) / spectral_norm(kernel) < 0.97


def test_exercise_one_round_by_hand():
    u = iterates(np.diag([2.0, 1.0]), np.ones(2), 1)
    np.testing.assert_allclose(u[1], np.array([4, 1]) / np.sqrt(17), rtol=8 * EPS)
    np.testing.assert_allclose(lengths(np.diag([2.0, 1.0]) @ u.T) ** 2, [5 / 2, 65 / 17], rtol=8 * EPS)


@pytest.mark.parametrize(("ratio", "rounds"), [(0.9, 33), (0.99, 344)])
def test_exercise_rounds_for_a_millionth(ratio, rounds):
    assert ratio ** (4 * rounds) <= 1e-6 < ratio ** (4 * (rounds - 1))


@QUICK
@given(RATIOS, st.integers(1, 3), st.integers(0, 99))
def test_exercise_norm_after_dividing(ratios, copies, seed):
    w, right, start = _case(ratios, copies, seed)
    u = iterates(w, start, 5)
    left_over = 2 / lengths(w @ u.T)
    assert at_most(left_over, np.hypot(1, tangents(u, right[:, :copies])), 100 * w.size)
    assert at_most(1.0, left_over, 100 * w.size)


def test_frames_show_the_estimates_and_one_column_a_round():
    plane = circles.rotation(0.2) @ np.diag([3.0, 1.0])
    turning = iterates(plane, np.array([1.0, 1.0]), 4)
    figure = norm_figures.frames(plane, turning, rounds=(0, 4))
    titles = [axis.get_title() for axis in figure.axes[:2]]
    assert titles == [f"$r$ = {r}: {np.linalg.norm(plane @ turning[r]) / 3:.4f}" for r in (0, 4)]


def test_errors_are_drawn_down_to_rounding_only():
    error = np.array([1.0, 1e-9, 1e-16, 1e-12])
    figure = norm_figures.convergence({0.5: (error, error)}, {0.5: (error, error)})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, 1e-9, np.nan, np.nan])
