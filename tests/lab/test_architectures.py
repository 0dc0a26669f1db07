"""Every pair of networks plays, is held as its method says, and has the constant that lipnb proves."""

from __future__ import annotations

import numpy as np
import pytest
from keras import layers

from lipnb import SpectralNormalization, lipschitz_bound
from lipnb.lab import architecture_results, architectures, classifiers, critics, data, gan
from lipnb.norms import spectral_norm

pytestmark = [
    pytest.mark.lab,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).uniform(-1, 1, size=(20, *SHAPE)).astype(np.float32)


def settings(name: str, method: str, **changes) -> gan.Settings:
    common = {
        "loss": "hinge",
        "critic_steps": 1,
        "seed": 0,
        "learning_rate": 1e-2,
        "width": 2,
        "batch": 4,
        "latent": 3,
    }
    return gan.Settings(method, architecture=name, **common | changes)


def test_a_residual_pair_plays():
    game = gan.build(settings("resnet", "spectral_norm"), SHAPE)
    assert gan.train(game, IMAGES, [2], lambda game: {})["diverged_at"] is None
    assert gan.generate(game, 5, seed=0).shape == (5, *SHAPE)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_a_normalised_critic_is_as_steep_as_proven_at_most(name):
    critic = architectures.critic(name, SHAPE, 2, seed=0, wrap=SpectralNormalization)
    held = [layer for layer in critic.layers if isinstance(layer, SpectralNormalization)]
    assert len(held) == {"mlp": 4, "cnn": 8, "resnet": 11}[name]
    for layer in held:
        layer.update_vectors(50)
        (kernel,) = (np.asarray(w) for w in layer.normalized_weights())
        assert spectral_norm(kernel.reshape(-1, kernel.shape[-1])) == pytest.approx(1, rel=1e-2)
    plain = critics.as_plain(critic)
    points = IMAGES[:6]
    np.testing.assert_allclose(plain(points), critic(points), rtol=1e-4, atol=1e-5)


def test_a_residual_critics_constant_lies_between_what_is_found_and_what_is_proven():
    critic = architectures.critic("resnet", SHAPE, 2, seed=0, wrap=SpectralNormalization)
    interval = critics.lipschitz_interval(critic, IMAGES[:6], n_steps=3, n_starts=2)
    assert 0 < interval["at_points"] <= interval["lower"] <= interval["upper"] * (1 + 1e-6)
    assert interval["upper"] <= float(lipschitz_bound(critics.as_plain(critic))) * (1 + 1e-3)


def test_the_sn_gan_papers_critics_have_its_layers():
    cnn = architectures.critic("cnn", (32, 32, 3), 64, seed=0)
    convolutions = [layer for layer in cnn.layers if isinstance(layer, layers.Conv2D)]
    found = [(layer.kernel_size[0], layer.strides[0], layer.filters) for layer in convolutions]
    assert found == [(3, 1, 64), (4, 2, 64), (3, 1, 128), (4, 2, 128), (3, 1, 256), (4, 2, 256), (3, 1, 512)]
    resnet = architectures.critic("resnet", (32, 32, 3), 128, seed=0)
    pooled = [layer.output.shape[1:] for layer in resnet.layers if isinstance(layer, layers.Add)]
    assert pooled == [(16, 16, 128), (8, 8, 128), (8, 8, 128), (8, 8, 128)]
    assert resnet.output_shape == cnn.output_shape == (None, 1)
    generator = architectures.generator("resnet", 128, (32, 32, 3), 128, seed=0)
    assert generator.output_shape == (None, 32, 32, 3)


def test_an_architecture_that_is_not_there_or_lacks_an_option_is_refused():
    with pytest.raises(ValueError, match="architecture"):
        settings("vit", "none")
    for options in ({"batch_norm": True}, {"depth": 2}, {"classes": 3}):
        with pytest.raises(ValueError, match="are for the architecture 'dcgan'"):
            settings("mlp", "none", **options)
    with pytest.raises(ValueError, match="multiples of 8"):
        gan.build(settings("cnn", "none"), (28, 28, 1))


def test_a_margin_is_black_and_comes_off_again():
    padded = data.padded(IMAGES, 2)
    assert padded.shape == (20, 12, 12, 1)
    assert (padded[:, :2] == -1).all()
    assert (padded[:, :, -2:] == -1).all()
    np.testing.assert_array_equal(data.cropped(padded, 2), IMAGES)
    np.testing.assert_array_equal(data.cropped(IMAGES, 0), IMAGES)


def test_a_small_densenet_joins_its_maps_and_has_a_proven_bound():
    model = classifiers.build("densenet", SHAPE, 10, 3, seed=0)
    joined = [layer for layer in model.layers if isinstance(layer, layers.Concatenate)]
    assert len(joined) == 12
    assert joined[3].output.shape[-1] == 6 + 4 * 3
    assert model.output_shape == (None, 10)
    assert np.isfinite(float(lipschitz_bound(model)))


def record(method: str, loss: str, seed: int, end: float | None, rate: float = 0.1, **options) -> dict:
    p = {"method": method, "loss": loss, "critic_steps": 1, "seed": seed, "learning_rate": rate, **options}
    history = [] if end is None else [{"fid_test": end, "fid_train": end + 1, "score": 2.0}]
    return {
        "run": f"{method}{loss}{seed}{rate}",
        "parameters": p,
        "history": history,
        "diverged_at": 1 if end is None else None,
    }


def test_architectures_are_compared_each_for_itself():
    records = [
        record(method, loss, seed, end + seed / 10 + (seed == 1) * 0.01, architecture=name)
        for name, ends in {"mlp": (9.0, 5.0, 7.0), "cnn": (5.0, 9.0, 7.0)}.items()
        for (method, loss), end in zip((("gradient_penalty", "wasserstein"), ("spectral_norm", "wasserstein"), ("spectral_norm", "hinge")), ends, strict=True)
        for seed in range(3)
    ]  # fmt: skip
    found = architecture_results.differences(records)
    assert {key: round(interval.mean, 3) for key, interval in found.items()} == {
        ("mlp", "wasserstein"): 4.0, ("mlp", "hinge"): 2.0, ("cnn", "wasserstein"): -4.0, ("cnn", "hinge"): -2.0,
    }  # fmt: skip
    assert [row[-1] for row in architecture_results.comparison(found).rows] == [
        "normalization ends better", "normalization ends better", "the penalty ends better", "the penalty ends better",
    ]  # fmt: skip
    assert len(architecture_results.ends(records).rows) == 6
    assert architecture_results.differences([]) == {}
    beside = architecture_results.others(found)
    assert beside["dense, 1 critic step, Wasserstein loss"] == found["mlp", "wasserstein"]
    assert beside["SN-GAN's CNN, 1 critic step, hinge loss"] == found["cnn", "hinge"]
    assert architecture_results.others({("dcgan", "hinge"): found["mlp", "hinge"]}) == {}
