"""What the chapter on the Frobenius norm rests on (claims C2, C3, D1)."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipnb.conv_matrices import conv_matrix
from lipnb.lab import circles, figures
from lipnb.lab.linear_algebra import agree, at_most, lengths, norm_ratio, random_svd
from lipnb.norms import frobenius_norm, spectral_norm

pytestmark = pytest.mark.lab
EPS = np.finfo(np.float64).eps
QUICK = settings(max_examples=30, deadline=None, derandomize=True)
SPECTRA = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6)


def test_agree_can_fail():
    assert agree([1.0, 2.0], [1.0, 2.0 + 4 * EPS], terms=4)
    assert not agree([1.0, 2.0], [1.0, 2.0 + 100 * EPS], terms=4)
    assert not agree([1.0, np.nan], [1.0, 2.0], terms=4)


def test_at_most_can_fail():
    assert at_most([1.0, -5.0], [1.0 - EPS, 2.0], terms=4)
    assert not at_most([1.0, -5.0], [1.0 - 100 * EPS, 2.0], terms=4)
    assert not at_most([np.nan], [1.0], terms=4)


@QUICK
@given(SPECTRA, st.integers(0, 3), st.integers(0, 3), st.integers(0, 99))
def test_random_svd_has_the_given_singular_values(sigma, more_rows, more_columns, seed):
    k = len(sigma)
    w, left, right = random_svd(sigma, k + more_rows, k + more_columns, seed)
    rounding = 100 * w.size * EPS * max(sigma)
    np.testing.assert_allclose(
        np.linalg.svd(w, compute_uv=False)[:k], sorted(sigma, reverse=True), rtol=0, atol=rounding
    )
    np.testing.assert_allclose(w @ right, left * sigma, rtol=0, atol=rounding)
    np.testing.assert_allclose(left.T @ left, np.eye(k), rtol=0, atol=100 * w.size * EPS)


@pytest.mark.parametrize("sigma", [[], [1.0, 1.0, 1.0]])
def test_random_svd_refuses_spectra_that_do_not_fit(sigma):
    with pytest.raises(ValueError, match=f"1 to 2 values. Received: {len(sigma)}"):
        random_svd(sigma, rows=2, columns=5, seed=0)


@QUICK
@given(SPECTRA, st.integers(0, 99))
def test_c2_singular_values_and_entries_give_the_same_norm(sigma, seed):
    w, *_ = random_svd(sigma, 7, 8, seed)
    assert frobenius_norm(w) == pytest.approx(np.linalg.norm(sigma), rel=100 * w.size * EPS)


@QUICK
@given(SPECTRA, st.integers(0, 99))
def test_c3_ratio_lies_between_one_and_the_root_of_the_rank(sigma, seed):
    w, *_ = random_svd(sigma, 7, 8, seed)
    assert 1 - w.size * EPS <= norm_ratio(w) <= np.sqrt(len(sigma)) * (1 + 100 * w.size * EPS)
    assert norm_ratio(w) == pytest.approx(np.linalg.norm(sigma) / max(sigma), rel=100 * w.size * EPS)


def test_c3_equality_is_for_rank_one_only():
    rng = np.random.default_rng(0)
    assert norm_ratio(np.outer(rng.standard_normal(5), rng.standard_normal(9))) == pytest.approx(
        1, rel=45 * EPS
    )
    assert norm_ratio(random_svd([1.0, 1e-3], 5, 9, seed=0)[0]) > 1 + 4e-7


def test_ratio_reads_a_kernel_as_the_matrix_of_its_last_axis_and_refuses_zero():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 5)).astype(np.float32)
    matrix = kernel.reshape(18, 5)
    assert norm_ratio(kernel) == pytest.approx(frobenius_norm(matrix) / spectral_norm(matrix), rel=90 * EPS)
    with pytest.raises(ValueError, match="must not be zero"):
        norm_ratio(np.zeros((2, 2)))


def test_c3_kernel_norm_is_no_bound_of_a_convolution():
    layer = conv_matrix(np.ones((2, 1, 1)), input_shape=(3, 1)).toarray()
    assert spectral_norm(layer) == pytest.approx(np.sqrt(3), rel=9 * EPS)
    assert spectral_norm(layer) > frobenius_norm(np.ones((2, 1, 1))) + 0.3


def test_box_around_the_ellipse_has_the_frobenius_norm_as_half_diagonal():
    _, axis = figures.new()
    left, sigma = circles.rotation(0.4), (2.0, 0.5)
    corner = circles.box(axis, left, sigma)
    w = left @ np.diag(sigma) @ circles.rotation(1.1)
    circles.image(axis, w)
    assert np.linalg.norm(corner) == pytest.approx(frobenius_norm(w), rel=16 * EPS)
    inside = np.abs(left.T @ np.array(axis.lines[1].get_data()))
    assert at_most(inside, np.reshape(sigma, (2, 1)), 16)
    assert lengths(np.array(axis.lines[1].get_data())).max() == pytest.approx(spectral_norm(w), rel=1e-3)


def _step(optimizer, slope):
    variable = keras.Variable([1.0, -2.0], dtype="float64")
    for _ in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(slope(variable.numpy()))], [variable])
    return variable.numpy()


@pytest.mark.parametrize(
    ("optimizer", "options", "same"),
    [("SGD", {}, True), ("SGD", {"momentum": 0.9}, False), ("Adam", {}, False), ("RMSprop", {}, False)],
)
def test_d1_l2_is_weight_decay_for_plain_gradient_descent_only(optimizer, options, same):
    make, strength = getattr(keras.optimizers, optimizer), 0.25
    l2 = _step(make(0.125, **options), lambda w: np.array([4.0, 0.25]) * w + 2 * strength * w)
    decay = _step(make(0.125, weight_decay=2 * strength, **options), lambda w: np.array([4.0, 0.25]) * w)
    assert agree(l2, decay, 16) is same


@QUICK
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5))
def test_d1_penalty_bounds_the_product_of_the_norms(norms):
    assert at_most(np.prod(norms), np.mean(np.square(norms)) ** (len(norms) / 2), 32)


def test_exercise_on_gaussian_matrices():
    ratio = norm_ratio(np.random.default_rng(0).standard_normal((784, 128)))
    assert ratio == pytest.approx(np.sqrt(784 * 128) / (np.sqrt(784) + np.sqrt(128)), rel=0.02)
