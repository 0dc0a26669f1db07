"""A convolution's operator norm and the bounds of it, against dense SVDs and closed forms: NumPy and SciPy alone."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from lipnb import conv_norms
from lipnb.conv_matrices import conv_matrix
from lipnb.conv_norms import conv_norm, svd_norm
from lipnb.convolutions import conv_norm_bound
from lipnb.norms import spectral_norm

pytestmark = pytest.mark.once


def gaussian(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_matrix_is_block_toeplitz():
    """Claim B3, the smallest case: the kernel walks along the diagonal."""
    matrix = conv_matrix(np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1), (4, 1), padding="same").toarray()
    np.testing.assert_array_equal(matrix, [[2, 3, 0, 0], [1, 2, 3, 0], [0, 1, 2, 3], [0, 0, 1, 2]])


# Norms against dense SVDs --------------------------------------------------------------------------------


def random_case(generator):
    """Arguments of the three functions: sizes, options and a kernel of one of six characters."""
    kind = str(generator.choice(["conv", "depthwise", "transpose"]))
    rank = int(generator.integers(1, 3 if kind == "depthwise" else 4))
    taps = generator.integers(1, 5 if rank < 3 else 4, rank)
    sizes = generator.integers(1, (40, 10, 5)[rank - 1], rank)
    strides, dilation = generator.integers(1, 4, rank), generator.integers(1, 4, rank)
    if kind != "depthwise" and max(strides) > 1 and max(dilation) > 1:
        (strides if generator.random() < 0.5 else dilation)[:] = 1
    padding = str(generator.choice(["valid", "same"]))
    groups = int(generator.integers(1, 4)) if kind == "conv" else 1
    channels, filters = generator.integers(1, 4, 2)
    shape = {"conv": (channels, groups * filters), "transpose": (filters, channels)}.get(
        kind, (channels, filters)
    )
    kernel = random_kernel(generator, (*taps, *shape))
    options = ((*sizes.tolist(), int(groups * channels)), tuple(strides.tolist()), padding)
    return (kernel, *options, tuple(dilation.tolist()), groups), kind


def random_kernel(generator, shape):
    kernel = generator.standard_normal(shape)
    choices = (
        lambda: kernel,
        lambda: np.abs(kernel),
        lambda: np.ones(shape),
        lambda: np.round(kernel),
        lambda: kernel * 10.0 ** int(generator.integers(-150, 150)),
        lambda: generator.standard_normal((*(1,) * (len(shape) - 2), *shape[-2:])) + 1e-3 * kernel,
    )
    return choices[generator.integers(len(choices))]()


def valid_cases(seed, count):
    """``count`` random cases that make a layer, each with its dense norm."""
    generator = np.random.default_rng(seed)
    found = 0
    while found < count:
        case, kind = random_case(generator)
        try:
            matrix = conv_matrix(*case, kind=kind).toarray()
        except ValueError:  # the kernel does not fit
            continue
        scale = np.max(np.abs(matrix)) or 1.0
        found += 1
        yield case, kind, np.linalg.norm(matrix / scale, 2) * scale


def check_norm(value, truth, rtol):
    """``value`` is at most ``truth``, to the rounding of a float64 SVD, and at most rtol below it."""
    assert (1 - rtol) * truth <= value <= truth * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_norm_and_bounds_agree_with_dense_svd(seed, monkeypatch):
    """A quarter of 1,040 cases: the shipped choice of method, Lanczos alone, and three bounds."""
    for case, kind, truth in valid_cases(seed, 260):
        check_norm(conv_norm(*case, kind=kind), truth, 1e-6)
        with monkeypatch.context() as patch:
            patch.setattr(conv_norms, "MAX_DENSE", 0)
            check_norm(conv_norm(*case, kind=kind), truth, 1e-6)
        kernel, shape, *options = case
        bound = conv_norm_bound(kernel, shape, *options, kind=kind)
        assert truth <= bound
        assert truth <= conv_norm_bound(kernel, None, *options, kind=kind)
        strides = options[0]
        if kind == "conv" and options[-1] == 1:
            overlap = math.prod(-(-k // s) for k, s in zip(kernel.shape, strides, strict=False))
            limit = math.sqrt(overlap) * spectral_norm(kernel.reshape(-1, kernel.shape[-1]))
            assert bound <= limit * (1 + 1e-9)


@pytest.mark.parametrize("value", [1.001, 0.9])
def test_norm_checker_can_fail(value):
    with pytest.raises(AssertionError):
        check_norm(value, 1.0, 1e-3)


@pytest.mark.parametrize("rtol", [1e-1, 1e-3, 1e-9])
def test_tolerance_is_kept(rtol, monkeypatch):
    monkeypatch.setattr(conv_norms, "MAX_DENSE", 0)
    for case, kind, truth in valid_cases(99, 60):
        check_norm(conv_norm(*case, rtol, kind=kind), truth, rtol)


def test_the_svd_s_norm_never_comes_from_below(monkeypatch):
    """It is the norm to rounding, or None where the norm would take iterations, which are not even there."""
    monkeypatch.setattr(conv_norms, "largest_singular_value", None)
    monkeypatch.setattr(conv_norms, "MAX_DENSE", 600)
    found = [(svd_norm(*case, kind=kind), truth) for case, kind, truth in valid_cases(7, 80)]
    assert all(norm is None or norm == pytest.approx(truth, rel=1e-12) for norm, truth in found)
    assert 20 < sum(norm is None for norm, _ in found) < 60


def test_lanczos_is_right_on_long_signals(monkeypatch):
    """Hundreds of positions: clustered top singular values, waves in the start, the looser residual."""
    monkeypatch.setattr(conv_norms, "MAX_DENSE", 0)
    monkeypatch.setattr(conv_norms, "SMALL", 0)
    for seed, size in itertools.product(range(6), (60, 250)):
        kernel, strides, dilation = (
            gaussian((4, 2, 2), seed),
            1 + seed % 2,
            1 + seed // 2 % 2 * (1 - seed % 2),
        )
        case = (kernel, (size, 2), strides, "same", dilation)
        check_norm(conv_norm(*case), spectral_norm(conv_matrix(*case).toarray()), 1e-6)


# Closed forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 16, 224])
def test_norm_of_the_box_kernel(size):
    """Ones in 3×3: the Kronecker square of tridiag(1, 1, 1), with top eigenvalue 1 + 2cos(π/(n + 1))."""
    expected = (1 + 2 * math.cos(math.pi / (size + 1))) ** 2
    norm = conv_norm(np.ones((3, 3, 1, 1)), (size, size, 1), padding="same")
    assert norm == pytest.approx(expected, rel=1e-6)


def test_reshaped_kernel_understates_the_norm():
    """Claim I5: 3×3 ones on 16×16 have 2.93 times the norm of the reshaped kernel, of at most 3 times."""
    kernel = np.ones((3, 3, 1, 1))
    ratio = conv_norm(kernel, (16, 16, 1), padding="same") / spectral_norm(kernel.reshape(9, 1))
    assert ratio == pytest.approx(2.93, abs=0.005)
    assert ratio <= conv_norm_bound(kernel, (16, 16, 1), padding="same") / 3 <= 3 * (1 + 1e-9)


def test_two_channels_with_nearly_equal_peaks():
    """Two binomial filters side by side; the one with the lower peak has the higher norm, by 4e-5 of it."""
    sharp, blunt = np.array([1, 2, 1]) / 4, np.array([1, 14, 1]) / 16 * (1 - 3e-5)
    kernel = np.zeros((3, 2, 2))
    kernel[:, 0, 0], kernel[:, 1, 1] = sharp, blunt
    cosine = math.cos(math.pi / 201)
    expected = max((1 + cosine) / 2, (14 + 2 * cosine) / 16 * (1 - 3e-5))
    check_norm(conv_norm(kernel, (200, 2), padding="same"), expected, 1e-6)


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"padding": "same", "strides": 2}])
def test_pointwise_kernels_are_their_matrix(options):
    kernel = gaussian((1, 1, 40, 30))
    truth = spectral_norm(kernel[0, 0])
    assert conv_norm(kernel, (20, 20, 40), **options) == pytest.approx(truth, rel=1e-12)
    assert conv_norm_bound(kernel, None, **options) == pytest.approx(truth, rel=1e-9)


def test_patch_kernels_are_their_reshaped_matrix():
    kernel = gaussian((4, 4, 3, 24))
    truth = spectral_norm(kernel.reshape(-1, 24))
    assert conv_norm(kernel, (32, 32, 3), 4) == pytest.approx(truth, rel=1e-12)
    assert conv_norm_bound(kernel, (32, 32, 3), 4) == pytest.approx(truth, rel=1e-9)


def test_depthwise_norm_is_the_largest_channels():
    kernel = gaussian((3, 3, 5, 2))
    parts = [conv_norm(kernel[..., c : c + 1, :], (12, 11, 1), padding="same") for c in range(5)]
    norm = conv_norm(kernel, (12, 11, 5), padding="same", kind="depthwise")
    assert norm == pytest.approx(max(parts), rel=1e-6)


def test_equal_groups_are_computed_once(monkeypatch):
    monkeypatch.setattr(conv_norms, "MAX_DENSE", 0)
    calls = []
    original = conv_norms.largest_singular_value
    monkeypatch.setattr(
        conv_norms, "largest_singular_value", lambda *args: calls.append(1) or original(*args)
    )
    kernel = np.tile(gaussian((3, 3, 1, 1)), (1, 1, 6, 1))
    conv_norm(kernel, (8, 8, 6), padding="same", kind="depthwise")
    assert len(calls) == 1


def test_transposed_layer_has_the_norm_of_what_it_transposes():
    kernel = gaussian((5, 5, 3, 4))
    transposed = conv_norm(kernel, (8, 8, 4), 2, "same", kind="transpose")
    assert transposed == pytest.approx(conv_norm(kernel, (16, 16, 3), 2, "same"), rel=1e-6)


@pytest.mark.parametrize("exponent", [-900, 900])
def test_norm_and_bound_scale_with_the_kernel(exponent):
    kernel, shape, scale = gaussian((3, 3, 2, 2)), (20, 20, 2), 2.0**exponent
    assert conv_norm(kernel * scale, shape) == conv_norm(kernel, shape) * scale
    assert conv_norm_bound(kernel * scale, shape) == conv_norm_bound(kernel, shape) * scale


def test_zero_kernel_and_unread_taps_have_norm_zero():
    assert conv_norm(np.zeros((3, 3, 2, 2)), (64, 64, 2)) == 0
    assert conv_norm_bound(np.zeros((3, 3, 2, 2))) == 0
    outside = np.array([[[0.0]], [[1.0]]])  # the second tap of a 'same' kernel of 2 reads the padding
    assert conv_norm(outside, (1, 1), padding="same") == 0


def test_bounds_are_close_for_image_kernels():
    """3×3 on 32×32 within 5 %, at every stride; without a size the bound holds for all, and rises little."""
    kernel = gaussian((3, 3, 8, 8))
    for strides in (1, 2):
        case = (kernel, (32, 32, 8), strides, "same")
        norm, bound = conv_norm(*case), conv_norm_bound(*case)
        assert norm <= bound <= 1.05 * norm
        assert bound <= conv_norm_bound(kernel, None, strides, "same") <= 1.1 * norm


def test_memory_at_the_size_of_image_models_is_a_few_feature_maps():
    """224×224 with 64 channels: a map is 26 MB in float64, the matrix would take 22 GB."""
    kernel, size = gaussian((3, 3, 64, 64)), 224
    tracemalloc.start()
    conv_norm(kernel, (size, size, 64), padding="same", rtol=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 8 * (size * size * 64 * 8)


def test_running_out_of_steps_is_an_error(monkeypatch):
    monkeypatch.setattr(conv_norms, "MAX_STEPS", 2)
    with pytest.raises(RuntimeError, match="did not converge"):
        conv_norm(gaussian((3, 3, 2, 2)), (30, 30, 2), rtol=1e-9)


# Bad input -----------------------------------------------------------------------------------------------

KERNEL = np.ones((3, 3, 2, 4))
SHAPE = (8, 8, 2)


@pytest.mark.parametrize("function", [conv_matrix, conv_norm, conv_norm_bound])
@pytest.mark.parametrize(
    ("kernel", "shape", "options", "error", "rule"),
    [
        (KERNEL.astype(int), SHAPE, {}, TypeError, "floating-point"),
        (np.ones((3, 3)), SHAPE, {}, ValueError, "rank 3 or 4 or 5"),
        (np.ones((0, 3, 2, 4)), SHAPE, {}, ValueError, "empty"),
        (KERNEL * np.nan, SHAPE, {}, ValueError, "finite"),
        (KERNEL * np.inf, SHAPE, {}, ValueError, "finite"),
        (KERNEL, (8, 2), {}, ValueError, "input_shape must be"),
        (KERNEL, 8, {}, ValueError, "input_shape must hold 3 sizes"),
        (KERNEL, (8, 8, 3), {}, ValueError, "2 channels"),
        (KERNEL, (8, 0, 2), {}, ValueError, "input_shape must be an integer of at least 1"),
        (KERNEL, (None, None, 2), {}, ValueError, "input_shape must be an integer"),
        (KERNEL, (2, 8, 2), {}, ValueError, "must fit a 'valid' input"),
        (KERNEL, SHAPE, {"strides": 0}, ValueError, "strides"),
        (KERNEL, SHAPE, {"strides": (1, 1, 1)}, ValueError, "strides must be an integer or 2"),
        (KERNEL, SHAPE, {"dilation_rate": 1.5}, ValueError, "dilation_rate"),
        (KERNEL, SHAPE, {"strides": 2, "dilation_rate": 2}, ValueError, "not both"),
        (KERNEL, SHAPE, {"padding": "full"}, ValueError, "padding"),
        (KERNEL, SHAPE, {"padding": "causal"}, ValueError, "padding"),
        (KERNEL, (8, 8, 6), {"groups": 3}, ValueError, "divide the number of filters"),
        (KERNEL, SHAPE, {"groups": 2, "kind": "transpose"}, ValueError, "groups must be 1"),
        (KERNEL, SHAPE, {"kind": "separable"}, ValueError, "kind"),
        (KERNEL, SHAPE, {"output_padding": 1}, ValueError, "output_padding needs"),
        (
            KERNEL,
            (8, 8, 4),
            {"output_padding": 2, "strides": 2, "kind": "transpose"},
            ValueError,
            "output_padding must suit",
        ),
    ],
)
def test_bad_input_says_the_rule(function, kernel, shape, options, error, rule):
    with pytest.raises(error, match=f"{rule}.*Received: "):
        function(kernel, shape, **options)


@pytest.mark.parametrize("function", [conv_matrix, conv_norm])
def test_an_open_size_has_a_bound_only(function):
    with pytest.raises(ValueError, match="input_shape must hold 3 sizes.*Received: None"):
        function(KERNEL, None)
    assert conv_norm_bound(KERNEL) >= conv_norm(KERNEL, SHAPE)


@pytest.mark.parametrize("rtol", [0, 1e-10, 1.0, "small", float("nan")])
def test_bad_tolerance_says_the_rule(rtol):
    with pytest.raises(ValueError, match=r"rtol.*Received: "):
        conv_norm(KERNEL, SHAPE, rtol=rtol)
