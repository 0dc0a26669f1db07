"""When u and v advance: once after each change of the kernel, in training only, and never into a dead end."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops
from reparam_cases import IMAGES, as_matrix, assert_same, gradients, move, numpy, per_channel, stored, wrap

from lipnb.autodiff import value_and_grad
from lipnb.conv_norms import conv_norm
from lipnb.operators import advance
from lipnb.penalties import gradient_penalty, input_gradient_norm
from lipnb.reparam import SpectralNormalization


@pytest.mark.parametrize("operator", [False, True])
def test_two_calls_in_one_loss_see_one_kernel(operator):
    layer = wrap(lambda: layers.Conv2D(3, 3), IMAGES, operator=operator)
    move(layer)
    first = numpy(layer(IMAGES, training=True))
    after = stored(layer)
    for training in (True, False, True):
        np.testing.assert_allclose(numpy(layer(IMAGES, training=training)), first, atol=1e-6)
        assert_same(after, stored(layer))


def test_two_calls_in_one_loss_have_the_gradient_of_one_kernel():
    layer = wrap(lambda: layers.Dense(3, use_bias=False), IMAGES[:, 0, 0])
    a, b = IMAGES[:, 0, 0], IMAGES[:, 1, 1]
    move(layer)
    together = gradient_of_loss(
        layer, lambda: ops.sum(layer(a, training=True)) - ops.sum(layer(b, training=True))
    )
    apart = [gradient_of_loss(layer, lambda x=x: ops.sum(layer(x, training=True))) for x in (a, b)]
    np.testing.assert_allclose(together, apart[0] - apart[1], atol=1e-5)


def test_an_unmoved_kernel_is_not_iterated_on_outside_of_a_graph():
    layer = wrap(lambda: layers.Conv2D(3, 3), IMAGES)
    move(layer)
    (target,) = layer._targets.items
    called = []
    counting = dataclasses.replace(
        target.mapping, adjoint=lambda kernel, u: called.append(1) or target.mapping.adjoint(kernel, u)
    )
    kernel, u, v = (ops.copy(x.value) for x in (target.kernel, target.u, target.v))
    sigma, u, v = advance(counting, kernel, u, v, 1)
    again, same_u, same_v = advance(counting, kernel, u, v, 1)
    assert called == [1]
    assert_same([numpy(u), numpy(v)], [numpy(same_u), numpy(same_v)])
    assert numpy(again) == pytest.approx(numpy(sigma), rel=1e-6)


def gradient_of_loss(layer, loss):
    return numpy(value_and_grad(loss, layer.trainable_variables, layer.non_trainable_variables)[1][0])


def test_u_advances_once_after_each_change_of_the_kernel_and_follows_it():
    x = np.zeros((1, 40), "float32")
    layer = wrap(lambda: layers.Dense(30, use_bias=False), x)
    layer.kernel.assign(layer.kernel + 0.2)  # a clear top singular value
    layer.update_vectors(15)
    for _ in range(20):
        before = stored(layer)
        move(layer, 1e-3)
        layer(x, training=True)
        assert np.any(stored(layer)[0] != before[0])
    sigma = np.linalg.norm(numpy(layer.normalized_weights()[0]), 2)
    assert 1 - 1e-6 <= sigma < 1.0001


def test_perturbed_kernel_is_not_normalised_until_the_iteration_has_caught_up():
    layer = wrap(
        lambda: layers.Dense(20), np.random.default_rng(2).normal(size=(2, 30)).astype("float32"), [as_matrix]
    )
    sigma = lambda: np.linalg.norm(numpy(layer.normalized_weights()[0]), 2)  # noqa: E731
    assert sigma() == pytest.approx(1, abs=1e-5)
    layer.kernel.assign(np.random.default_rng(2).normal(size=(30, 20)).astype("float32"))
    assert sigma() > 1.5
    layer.update_vectors(100)
    assert sigma() == pytest.approx(1, abs=1e-3)


def test_inference_changes_nothing_and_uses_the_current_kernel():
    layer = wrap(lambda: layers.Dense(3, use_bias=False), IMAGES)
    move(layer)
    before, u, v = stored(layer), *stored(layer)
    output = numpy(layer(IMAGES))
    w = numpy(layer.kernel)
    np.testing.assert_allclose(output, IMAGES @ (w / (u @ w @ v.T)), atol=1e-5)
    assert_same(before, stored(layer))


@pytest.mark.parametrize("block", [np.s_[:], np.s_[:, :, 1]])
def test_inference_normalises_a_kernel_that_changed_its_sign(block):
    """⟨u, Wv⟩ < 0 for the stored u, v, of the whole kernel or of one channel."""
    layer = wrap(lambda: layers.DepthwiseConv2D(3), IMAGES, [per_channel])
    changed = numpy(layer.kernel)
    changed[block] *= -50
    layer.kernel.assign(changed.astype("float32"))
    blocks = per_channel(numpy(layer.normalized_weights()[0]))
    assert max(np.linalg.norm(w, 2) for w in blocks) == pytest.approx(1, rel=1e-5)


def test_a_penalty_before_the_training_call_sees_the_kernel_with_the_old_vectors():
    """The gradient of Σ xW/σ is W1/σ: σ is that of the old u, v at first, and that of all calls after training."""
    layer = wrap(lambda: layers.Dense(3, use_bias=False), IMAGES[:, 0, 0])
    x = IMAGES[:, 0, 0]
    move(layer, 0.5)
    w, penalties, expected = numpy(layer.kernel), [], []
    for training in (False, True):
        layer(x, training=training)
        u, v = stored(layer)
        expected.append((np.linalg.norm(w.sum(axis=1)) / abs((u @ w @ v.T).item()) - 1) ** 2)
        penalties.append(float(numpy(gradient_penalty(layer, x, x, at="fake"))))
    np.testing.assert_allclose(penalties, expected, rtol=1e-4)
    assert abs(penalties[0] - penalties[1]) > 1e-2 * penalties[1]


@pytest.mark.parametrize("part", ["wrapper", "layer"])
def test_trainable_false_freezes_kernel_and_vectors(part):
    layer = wrap(lambda: layers.Dense(3), IMAGES)
    (layer if part == "wrapper" else layer.layer).trainable = False
    assert layer.trainable_variables == []
    move(layer)
    before = stored(layer)
    layer(IMAGES, training=True)
    assert_same(before, stored(layer))


@pytest.mark.parametrize("operator", [False, True])
def test_zero_kernel_is_finite_and_recovers(operator):
    layer = SpectralNormalization(layers.Conv2D(3, 3, kernel_initializer="zeros"), operator=operator)
    layer.build(IMAGES.shape)
    np.testing.assert_array_equal(numpy(layer(IMAGES, training=True)), 0)
    (slope,) = gradients(layer, IMAGES, layer.kernels)
    assert np.all(np.isfinite(slope))
    assert np.any(slope != 0)
    layer.kernel.assign(np.random.default_rng(2).normal(size=layer.kernel.shape).astype("float32"))
    layer(IMAGES, training=True)
    layer.update_vectors(50)
    (weight,) = layer.normalized_weights()
    norm = conv_norm(weight, IMAGES.shape[1:]) if operator else np.linalg.norm(as_matrix(numpy(weight))[0], 2)
    assert norm == pytest.approx(1, rel=1e-2)


def test_input_gradient_of_a_normalised_critic_is_differentiable_and_stores_nothing():
    conv, dense = SpectralNormalization(layers.Conv2D(3, 3)), SpectralNormalization(layers.Dense(1))
    critic = keras.Sequential(
        [keras.Input((7, 6, 4)), conv, layers.Activation("tanh"), layers.Flatten(), dense]
    )
    before = stored(critic)
    _, slopes = value_and_grad(
        lambda: ops.sum(input_gradient_norm(critic, IMAGES)),
        critic.trainable_variables,
        critic.non_trainable_variables,
    )
    assert all(np.all(np.isfinite(numpy(g))) for g in slopes)
    assert np.any(numpy(slopes[0]) != 0)
    assert_same(before, stored(critic))
