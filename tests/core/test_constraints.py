"""WeightClip, FrobeniusClip and SpectralClip are projections: inside, on the boundary, outside, and in training."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from lipnb.constraints import FrobeniusClip, SpectralClip, WeightClip

RNG = np.random.default_rng(2)
SHAPES = [(4, 3), (3, 4), (1, 5), (5, 1), (2, 3, 2, 4)]
CLIPS = [WeightClip, FrobeniusClip, SpectralClip]


def numpy(x):
    return ops.convert_to_numpy(ops.copy(x)).astype("float64")


def as_matrix(w):
    return w.reshape(-1, w.shape[-1])


def size(clip, w):
    """The norm that the constraint bounds."""
    if isinstance(clip, WeightClip):
        return np.max(np.abs(w))
    return np.linalg.norm(as_matrix(w), "fro" if isinstance(clip, FrobeniusClip) else 2)


def tensor(w, dtype="float32"):
    return ops.convert_to_tensor(w, dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", CLIPS)
def test_inside_is_kept_bit_for_bit_and_outside_meets_the_bound(kind, shape):
    w = RNG.normal(size=shape).astype("float32")
    clip = kind(1.0)
    inside = (0.9 * w / size(clip, w)).astype("float32")
    np.testing.assert_array_equal(numpy(clip(tensor(inside))), inside)
    outside = numpy(clip(tensor(7 * w / size(clip, w))))
    rounding = 16 * np.finfo("float32").eps
    assert size(clip, outside) <= 1 + rounding
    assert size(clip, outside) >= 1 - rounding
    np.testing.assert_allclose(numpy(clip(tensor(outside))), outside, atol=rounding)


@pytest.mark.parametrize("kind", CLIPS)
def test_no_point_of_the_ball_is_nearer(kind):
    clip = kind(0.5)
    w = RNG.normal(size=(4, 3))
    distance = np.linalg.norm(numpy(clip(tensor(w))) - w)
    for _ in range(300):
        other = numpy(clip(tensor(w + 0.3 * RNG.normal(size=w.shape))))
        assert np.linalg.norm(other - w) >= distance - 1e-5


def test_spectral_clip_cuts_singular_values_only():
    u, _ = np.linalg.qr(RNG.normal(size=(5, 3)))
    v, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    actual = numpy(SpectralClip(1.0)(tensor(u @ np.diag([3.0, 1.5, 0.4]) @ v.T)))
    np.testing.assert_allclose(actual, u @ np.diag([1.0, 1.0, 0.4]) @ v.T, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
@pytest.mark.parametrize("kind", CLIPS)
def test_zero_tiny_and_huge(kind, scale):
    w = (scale * RNG.normal(size=(4, 3))).astype("float32")
    clip = kind(1.0)
    actual = numpy(clip(tensor(w)))
    assert np.all(np.isfinite(actual))
    assert size(clip, actual) <= 1 + 1e-5
    if scale < 1:
        np.testing.assert_array_equal(actual, w)


@settings(max_examples=25, deadline=None)
# Few shapes: JAX compiles every operation anew for each.
@given(st.sampled_from([(1, 1), (1, 6), (6, 2), (3, 5)]), st.floats(1e-3, 1e3), st.integers(0, 2**16))
def test_bounds_hold_for_any_matrix_and_c(shape, c, seed):
    w = np.random.default_rng(seed).normal(size=shape)
    for kind in CLIPS:
        clip = kind(c)
        assert size(clip, numpy(clip(tensor(w)))) <= c * (1 + 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("kind", CLIPS)
def test_dtype_is_kept(kind, dtype):
    w = tensor(RNG.normal(size=(4, 3)), dtype)
    result = kind(0.5)(w)
    assert result.dtype == w.dtype
    assert size(kind(0.5), numpy(ops.cast(result, "float32"))) <= 0.5 * 1.01


# Keras 3.15 on TensorFlow with NumPy 2 warns whenever it saves a variable.
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
@pytest.mark.parametrize("kind", CLIPS)
def test_holds_after_training_and_survives_saving(kind, tmp_path):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, kernel_constraint=kind(0.3)), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x = RNG.normal(size=(16, 6)).astype("float32")
    model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0)
    assert size(kind(0.3), numpy(model.layers[0].kernel)) <= 0.3 * (1 + 1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").layers[0].kernel_constraint
    assert type(loaded) is kind
    assert loaded.c == 0.3


@pytest.mark.parametrize("c", [0, -1.0, float("nan"), float("inf"), "1", None, True])
@pytest.mark.parametrize("kind", CLIPS)
def test_bad_bounds_raise(kind, c):
    with pytest.raises(ValueError, match=r"c must be a finite number above 0\. Received: "):
        kind(c)


@pytest.mark.parametrize(
    ("w", "error", "message"),
    [
        (np.ones((3, 2), int), TypeError, "w must have a floating-point dtype. Received: int64"),
        (None, TypeError, "w must have a floating-point dtype. Received: object"),
        ([[1.0, 2.0], [3.0]], ValueError, "w must be an array. Received: a nest"),
        (np.ones((0, 2)), ValueError, r"w must not be empty. Received: shape \(0, 2\)"),
        (np.array([[1.0, np.nan], [np.inf, 0.0]]), ValueError, "w must be finite. Received: 2 NaN"),
    ],
)
@pytest.mark.parametrize("kind", CLIPS)
def test_weights_that_make_no_sense_raise(kind, w, error, message):
    with pytest.raises(error, match=message):
        kind(1.0)(w)


def test_a_scalar_has_no_singular_values():
    with pytest.raises(ValueError, match=r"w must have rank 1 or more. Received: shape \(\)"):
        SpectralClip(1.0)(np.float32(1))
