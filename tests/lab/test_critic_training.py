"""Critics with a known answer: the same start for a seed, methods that hold, measures that follow their definitions."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from lipnb.lab import clip_maths, critic_measures, critic_training
from lipnb.lab.distributions import PAIRS
from lipnb.norms import spectral_norm

pytestmark = pytest.mark.lab
STRENGTHS = {"none": 0.0, "spectral_norm": 0.0, "weight_clip": 0.01, "frobenius_clip": 1.0}


def bench(method: str, dimension: int = 2, **changes) -> critic_training.Bench:
    plain = {"strength": STRENGTHS.get(method, 10.0), "depth": 2, "width": 8, "batch": 16}
    return critic_training.build(critic_training.Settings(method, dimension, **plain | changes))


def kernels(b: critic_training.Bench) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(kernel) for kernel in b.kernels]


def some_steps(b: critic_training.Bench, steps: int = 3, seed: int = 0) -> dict:
    return critic_training.train(b, PAIRS["ring"], seed, [steps], lambda b: {"constant": 1.0})


@pytest.mark.parametrize("method", critic_training.METHODS)
def test_a_seed_gives_one_start_whatever_was_trained_before(method):
    b, x = bench(method), np.random.default_rng(0).standard_normal((20, 2))
    critic_training.reset(b, 1, 1e-2)
    before = b.evaluate(x)
    some_steps(b)
    trained = b.evaluate(x)
    critic_training.reset(b, 1, 1e-2)
    after = b.evaluate(x)
    assert np.array_equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert not np.array_equal(before[0], trained[0])
    critic_training.reset(b, 2, 1e-2)
    assert not np.array_equal(before[0], b.evaluate(x)[0])


def test_methods_hold_what_they_promise():
    clipped, shrunk, penalised, normal = (
        bench(m) for m in ("weight_clip", "frobenius_clip", "frobenius_penalty", "spectral_norm")
    )
    for b in (clipped, shrunk, penalised, normal):
        critic_training.reset(b, 0, 1e-2)
    assert max(np.linalg.norm(k) for k in kernels(penalised)) <= 1 + 1e-6
    for b in (clipped, shrunk, normal):
        some_steps(b)
    assert max(np.abs(v.numpy()).max() for v in clipped.critic.trainable_variables) <= 0.01 * (1 + 1e-6)
    assert max(np.linalg.norm(k) for k in kernels(shrunk)) <= 1 + 1e-6
    used = [
        np.asarray(w)
        for layer in normal.critic.layers
        if hasattr(layer, "normalized_weights")
        for w in layer.normalized_weights()
    ]
    assert len(used) == 3
    assert all(1 - 1e-5 <= spectral_norm(w) <= 1.2 for w in used)


def test_penalties_hold_the_gradient_and_no_constraint_does_not():
    norms = {}
    for method in ("none", "gradient_penalty"):
        b = bench(method, width=32, batch=64)
        critic_training.reset(b, 0, 3e-3)
        some_steps(b, 200)
        probe = critic_measures.make_probe(PAIRS["ring"], 200, 7)
        norms[method] = critic_measures.along(b, probe, n=100)["segments"]
    assert abs(norms["gradient_penalty"] - 1) < 0.2
    assert norms["none"] > 3


def test_a_training_ends_where_a_measured_number_is_not_finite():
    b = bench("none")
    critic_training.reset(b, 0, 1e-3)
    numbers = iter([1.0, np.inf, 1.0])
    outcome = critic_training.train(b, PAIRS["ring"], 0, [1, 2, 3], lambda b: {"gap": next(numbers)})
    assert outcome == {"history": {"step": [1], "gap": [1.0]}, "diverged_at": 2}


def test_gradients_of_the_loss_are_those_on_paper():
    b = bench("none")
    critic_training.reset(b, 3, 1e-3)
    real, fake = np.random.default_rng(0).standard_normal((2, 40, 2))
    biases = [np.zeros(k.shape[1]) for k in kernels(b)]
    exact = clip_maths.gap_gradients((kernels(b), biases), real, fake, slope=critic_training.SLOPE)
    sizes = critic_training.loss_gradients(b, real, fake)
    np.testing.assert_allclose(sizes, [np.linalg.norm(g) for g in exact], rtol=1e-4)


@pytest.mark.parametrize("name", ["line", "shared", "modes_16"])
def test_probes_lie_where_they_say(name):
    pair = PAIRS[name]
    probe = critic_measures.make_probe(pair, 200, 0)
    apart = np.linalg.norm(probe.box[probe.off][:, None] - probe.segments, axis=2)
    assert probe.off.any()
    assert apart.min() > critic_measures.NEAR
    moved, f = probe.sample.fake[probe.moved], pair.potential
    along = np.linalg.norm(probe.rays - moved, axis=1)
    np.testing.assert_allclose(f(probe.rays) - f(moved), along, atol=1e-12)


def test_measures_of_a_critic_that_is_known():
    """f(x) = 3x₁ in one layer beside a tiny one: gradient (3, 0) everywhere."""
    b, pair = bench("none", depth=1), PAIRS["shift"]
    hidden, last = (np.zeros(k.shape) for k in kernels(b))
    hidden[0, :2], last[:2, 0] = (1, -1), (3 / 1.2, -3 / 1.2)  # relu'(x) + 0.2 relu'(−x), twice
    for kernel, value in zip(b.kernels, (hidden, last), strict=True):
        kernel.assign(value)
    probe = critic_measures.make_probe(pair, 300, 0)
    found = critic_measures.final(b, pair, probe)
    assert found["gap"] == pytest.approx(6, rel=1e-5)
    assert found["largest"] == pytest.approx(3, rel=1e-5)
    assert found["largest"] <= found["bound"] * (1 + 1e-6)
    assert found["correlation"] == pytest.approx(1, abs=1e-9)
    assert found["rms_scaled"] == pytest.approx(0, abs=1e-5)
    assert found["rms"] > 0.5
    assert found["cosine"] == pytest.approx(1, abs=1e-6)
    assert found["norms"]["segments"]["near_one"] == 0


@pytest.mark.parametrize("change", [{"method": "magic"}, {"depth": 0}, {"strength": 0.0}, {"strength": -1.0}])
def test_settings_that_make_no_sense_raise(change):
    with pytest.raises(ValueError, match="Received"):
        critic_training.Settings(**{"method": "weight_clip", "dimension": 2, "strength": 0.01} | change)
