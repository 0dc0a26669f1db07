"""Every method holds the critic as it says, from the same draws as the others, with labels and without."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from keras import ops

from lipnb.lab import data, gan, methods, models, steps
from lipnb.norms import frobenius_norm, spectral_norm
from lipnb.wrapper import KernelNormalization

pytestmark = [
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).uniform(-1, 1, size=(50, *SHAPE)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(3, size=50)


def settings(**changes) -> gan.Settings:
    common = {"method": "none", "loss": "wasserstein", "critic_steps": 2, "seed": 0, "learning_rate": 1e-2}
    return gan.Settings(**common | {"width": 2, "batch": 4, "latent": 3} | changes)


@cache  # most of a test's time goes into compiling a game's steps; nobody plays on
def played(updates: int = 3, **changes) -> gan.Game:
    game = gan.build(settings(**changes), SHAPE)
    labels = LABELS if game.settings.classes else None
    outcome = gan.train(game, IMAGES, [updates], lambda game: {}, labels=labels)
    assert outcome["diverged_at"] is None
    return game


def kernels(game: gan.Game) -> list[np.ndarray]:
    return [v.numpy() for v in game.critic.trainable_variables if v.name == "kernel"]


def as_matrix(kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(-1, kernel.shape[-1])


def test_clipped_frobenius_norms_stay_within_the_radius():
    free, clipped = (played(20, method=m, radius=0.5) for m in ("none", "frobenius_clip"))
    assert max(map(frobenius_norm, kernels(free))) > 0.5
    assert max(map(frobenius_norm, kernels(clipped))) <= 0.5 * (1 + 1e-6)


def test_the_penalty_on_frobenius_norms_pulls_them_down():
    free, held = (played(20, method=m, radius=0.5) for m in ("none", "frobenius_penalty"))
    assert max(map(frobenius_norm, kernels(held))) < max(map(frobenius_norm, kernels(free)))


def test_the_articles_constraint_divides_by_its_own_estimate():
    for kernel in kernels(played(method="spectral_constraint")):
        again = methods.ArticleConstraint()(kernel)
        np.testing.assert_allclose(again, kernel, rtol=1e-5)
        assert spectral_norm(as_matrix(kernel)) >= 1 - 1e-5


def test_the_articles_constraint_takes_a_vector_by_its_length_and_leaves_zero():
    constraint = methods.ArticleConstraint()
    np.testing.assert_allclose(constraint(np.array([3.0, 4.0], np.float32)), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(constraint(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_the_articles_normalization_forgets_and_a_warm_start_does_not():
    cold, warm = (played(12, method="spectral_norm", restart=n) for n in (5, 0))
    wrapped = [layer for layer in cold.critic.layers if isinstance(layer, methods.ArticleNormalization)]
    assert len(wrapped) == 4
    assert not [v for layer in wrapped for v in layer.non_trainable_variables]
    for layer in wrapped:
        (kernel,) = layer.normalized_weights()
        expected = methods.ArticleConstraint()(layer.kernel.value)
        np.testing.assert_allclose(kernel, expected, rtol=1e-5)
    warm_layers = [layer for layer in warm.critic.layers if isinstance(layer, KernelNormalization)]
    norms = [spectral_norm(as_matrix(np.asarray(layer.normalized_weights()[0]))) for layer in warm_layers]
    np.testing.assert_allclose(norms, 1, atol=0.05)


def test_operator_normalization_bounds_the_operator_and_not_the_matrix():
    layers = [
        [
            layer
            for layer in played(12, method=m, restart=0).critic.layers
            if isinstance(layer, KernelNormalization)
        ]
        for m in ("spectral_norm", "operator_norm")
    ]
    reshaped, operator = ([np.asarray(w.normalized_weights()[0]) for w in some] for some in layers)
    assert all(spectral_norm(as_matrix(k)) >= 1 - 1e-5 for k in reshaped)
    assert min(spectral_norm(as_matrix(k)) for k in operator[:3]) < 0.95


def test_kerass_wrappers_start_from_the_seed():
    first, again, other = (
        [v.numpy() for v in gan.build(settings(method="keras_spectral_norm", seed=s), SHAPE).state]
        for s in (0, 0, 1)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("method", ["none", *methods.PENALTIES])
def test_every_method_sees_the_same_batches_and_noise(method):
    seen = []

    class Recorder:
        settings = settings(method=method)
        state = ()

        def critic_step(self, real, noise, mix):
            seen.append((np.asarray(real), np.asarray(noise)))
            assert np.asarray(mix).shape == ((4, *SHAPE) if method == "penalty_at_real" else (4, 1, 1, 1))
            return 1.0

        def generator_step(self, noise):
            seen.append((np.asarray(noise),))
            return 1.0

    gan.train(Recorder(), IMAGES, [2], lambda game: {})
    rng = np.random.default_rng(0)
    for i, arrays in enumerate(seen):
        if i % 3 < 2:
            np.testing.assert_array_equal(arrays[0], IMAGES[rng.integers(50, size=4)])
        np.testing.assert_array_equal(arrays[-1], rng.normal(size=(4, 3)).astype(np.float32))
        if i % 3 < 2:
            rng.uniform(size=4)


def test_batch_normalization_is_used_by_the_penalty_and_kept_by_the_steps_only():
    game = gan.build(settings(method="gradient_penalty", batch_norm=True), SHAPE)
    means = [v for v in game.critic.variables if v.name == "moving_mean"]
    assert len(means) == 2
    x = ops.convert_to_tensor(IMAGES[:4])
    before = [v.numpy() for v in means]
    scores = steps._with_batch_statistics(game.critic)(x)
    for variable, value in zip(means, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    np.testing.assert_allclose(scores, game.critic(x, training=True), rtol=1e-5)
    assert not all(np.array_equal(v.numpy(), b) for v, b in zip(means, before, strict=True))
    assert not np.allclose(scores, game.critic(x, training=False), rtol=1e-3)


def test_gammas_are_constrained_as_the_article_does():
    game = played(method="spectral_norm", batch_norm=True)
    gammas = [v.numpy() for v in game.critic.trainable_variables if v.name == "gamma"]
    np.testing.assert_allclose([np.linalg.norm(g) for g in gammas], 1, rtol=1e-5)


def test_losses_at_known_scores():
    real, fake = ops.convert_to_tensor([2.0, 0.0]), ops.convert_to_tensor([-2.0, 1.0])
    np.testing.assert_allclose(steps.LOSSES["wasserstein"](real, fake), -1.5)
    np.testing.assert_allclose(steps.LOSSES["hinge"](real, fake), 0.5 + 1.0)
    expected = np.mean(np.log1p(np.exp([-2.0, 0.0]))) + np.mean(np.log1p(np.exp([-2.0, 1.0])))
    np.testing.assert_allclose(steps.LOSSES["log"](real, fake), expected, rtol=1e-6)
    np.testing.assert_allclose(
        steps.GENERATOR_LOSSES["log"](fake), np.mean(np.log1p(np.exp([2.0, -1.0]))), rtol=1e-6
    )


@pytest.mark.parametrize("method", ["gradient_penalty", "spectral_norm"])
def test_labels_reach_both_networks(method):
    game = played(method=method, classes=3)
    noise = np.ones((3, 3), np.float32)
    made = game.generator([noise, np.arange(3)])
    assert not np.allclose(made[0], made[1])
    scores = game.critic([IMAGES[:1].repeat(3, axis=0), np.arange(3)])
    assert len(np.unique(np.asarray(scores))) == 3
    np.testing.assert_array_equal(gan.labels_asked(5, 3), [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(
        gan.generate(game, 3, seed=7),
        game.generator.predict(
            [np.random.default_rng(7).normal(size=(3, 3)).astype(np.float32), np.arange(3)], verbose=0
        ),
    )


def test_the_projection_critic_adds_an_inner_product_with_the_labels_vector():
    body = models.critic(SHAPE, 2, seed=0)
    model = models.projection_critic(body, 3, seed=0)
    table = next(layer for layer in model.layers if hasattr(layer, "embeddings")).embeddings.numpy()
    maps = IMAGES[:3]
    for layer in body.layers[:-2]:
        maps = layer(maps)
    expected = np.asarray(body(IMAGES[:3]))[:, 0] + np.sum(table * np.asarray(maps).mean(axis=(1, 2)), axis=1)
    np.testing.assert_allclose(np.asarray(model([IMAGES[:3], np.arange(3)]))[:, 0], expected, rtol=1e-5)


def test_labels_without_classes_and_classes_without_labels_are_refused():
    with pytest.raises(ValueError, match="labels must be given just where there are classes"):
        gan.train(gan.build(settings(), SHAPE), IMAGES, [1], lambda game: {}, labels=LABELS)
    with pytest.raises(ValueError, match="Received: 3 classes"):
        gan.train(gan.build(settings(classes=3), SHAPE), IMAGES, [1], lambda game: {})


@pytest.mark.parametrize(
    "change", [{"restart": 5}, {"batch_norm": True, "classes": 2}, {"depth": 0}, {"radius": 0.0}]
)
def test_options_that_do_not_go_together_are_refused(change):
    with pytest.raises(ValueError, match=rf"^{next(iter(change))} must be .*Received: "):
        settings(**change)


def test_points_are_played_by_dense_networks():
    points = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    for method in ("gradient_penalty", "spectral_norm"):
        game = gan.build(settings(method=method, width=5), (2,))
        assert gan.train(game, points, [2], lambda game: {})["diverged_at"] is None
        assert gan.generate(game, 7, seed=0).shape == (7, 2)
    clipped = gan.build(settings(method="frobenius_clip", width=5), (2,)).critic
    assert [v.constraint is not None for v in clipped.trainable_variables if v.name == "kernel"] == [True] * 4


def test_stacked_images_are_those_of_the_data_set():
    stacked = data.stacked(data.load("fashion_mnist_mini"))
    assert stacked.x_test.shape == (500, 28, 28, 3)
    assert stacked.y_train.max() <= 999
