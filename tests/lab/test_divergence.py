"""A game that goes out of bounds ends as a recorded outcome, and one that is stopped goes on where it was."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipnb.lab import gan, metrics, models, records

# Keras turns TensorFlow's variables into arrays in a way that NumPy 2 warns about.
pytestmark = [
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).uniform(-1, 1, size=(50, *SHAPE)).astype(np.float32)


def settings(**changes) -> gan.Settings:
    common = {"method": "none", "loss": "wasserstein", "critic_steps": 1, "seed": 0, "learning_rate": 1e-3}
    return gan.Settings(**common | {"width": 2, "batch": 4, "latent": 3} | changes)


@pytest.fixture(scope="module")
def game() -> gan.Game:
    return gan.build(settings(), SHAPE)


class FakeGame:
    """A game whose steps give the losses that a test wants, with one variable and a generator's images."""

    def __init__(self, losses):
        self.settings, self.state = settings(critic_steps=2), []
        self._losses = iter(losses)
        self.critic_step = self.generator_step = lambda *tensors: next(self._losses)


def test_a_rate_that_is_far_too_large_ends_with_the_update_at_which_a_loss_left_the_numbers():
    wild = gan.build(settings(learning_rate=1e20), SHAPE)
    outcome = gan.train(wild, IMAGES, [1, 5, 9], lambda game: {"measured": 1.0})
    assert 1 <= outcome["diverged_at"] <= 5
    assert all(entry["update"] < outcome["diverged_at"] for entry in outcome["history"])
    images = gan.generate(wild, 4, seed=0)
    assert images.shape == (4, *SHAPE)


@pytest.mark.parametrize(
    ("losses", "diverged_at"),
    [
        ([1.0, 1.0, 1.0, math.nan, math.nan, math.nan], 2),  # a critic's step in the midst of an update
        ([1.0, 1.0, math.inf], 1),  # the generator's
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], None),
    ],
)
def test_either_loss_ends_the_game(losses, diverged_at):
    outcome = gan.train(FakeGame(losses), IMAGES, [2], lambda game: {})
    assert outcome["diverged_at"] == diverged_at
    assert len(outcome["history"]) == (diverged_at is None)


@pytest.mark.parametrize("measured", [math.nan, math.inf])
def test_a_measurement_that_is_no_number_ends_the_game_and_can_be_recorded(tmp_path, measured):
    numbers = iter([1.0, measured])
    outcome = gan.train(FakeGame([1.0] * 99), IMAGES, [3, 5, 7], lambda game: {"norm": next(numbers)})
    assert outcome["diverged_at"] == 5
    assert [entry["update"] for entry in outcome["history"]] == [3]
    records.write(tmp_path, "run", outcome)


def test_images_that_are_no_numbers_are_measured_as_such():
    broken = metrics.moments(np.full((9, 4), np.nan))
    whole = metrics.moments(np.random.default_rng(0).normal(size=(9, 4)))
    assert math.isnan(metrics.frechet_distance(broken, whole))
    assert math.isnan(metrics.frechet_distance(whole, broken))
    assert math.isnan(metrics.classifier_score(np.full((9, 4), np.nan)))


def test_a_stop_between_measurements_loses_only_what_came_after_the_last(game, tmp_path):
    def stopped(done, total):
        assert total == 6
        if done == 5:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "deeper" / "learning_rate0.001.npz"
    measured = []

    def evaluate(game):
        measured.append(game)
        return {"measured": float(len(measured))}

    with pytest.raises(KeyboardInterrupt):
        gan.train(game, IMAGES, [2, 4, 6], evaluate, checkpoint=checkpoint, progress=stopped)
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]
    history = gan.train(game, IMAGES, [2, 4, 6], evaluate, checkpoint=checkpoint)["history"]
    assert [entry["update"] for entry in history] == [2, 4, 6]
    assert [entry["measured"] for entry in history] == [1.0, 2.0, 3.0]
    assert [entry["epoch"] for entry in history] == [2 * 4 / 50, 4 * 4 / 50, 6 * 4 / 50]
    assert history[0]["seconds"] < history[1]["seconds"] < history[2]["seconds"]
    again = gan.train(game, IMAGES, [2, 4, 6], evaluate, checkpoint=checkpoint)
    assert again["history"] == history
    assert len(measured) == 3


def test_generated_images_follow_from_the_seed(game):
    first, again, other = (gan.generate(game, 5, seed=seed) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == ((5, *SHAPE), np.float32)
    assert np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_initial_weights_follow_from_the_seed_and_are_the_same_for_every_method():
    def kernels(seed, method):
        built = gan.build(settings(seed=seed, method=method), SHAPE)
        trainable = built.generator.trainable_variables + built.critic.trainable_variables
        return [v.numpy() for v in trainable if v.name == "kernel"]

    plain = kernels(3, "none")
    for same in (kernels(3, "gradient_penalty"), kernels(3, "spectral_norm")):
        for a, b in zip(plain, same, strict=True):
            np.testing.assert_array_equal(a, b)
    assert all(not np.array_equal(a, b) for a, b in zip(plain, kernels(4, "none"), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 0.5},
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"beta_2": math.nan},
        {"clip": 0.0},
        {"penalty": math.inf},
        {"width": 0},
        {"latent": 1.5},
        {"batch": True},
        {"loss": None},
    ],
)
def test_settings_out_of_range_raise_before_any_work(change):
    (name,) = change
    with pytest.raises(ValueError, match=rf"^{name} must be .*Received: "):
        settings(**change)


def test_images_that_no_generator_can_make_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 4\. Received: \(30, 28, 1\)"):
        models.generator(4, (30, 28, 1), 2, seed=0)
