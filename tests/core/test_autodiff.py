"""value_and_grad, input_gradient and compile_step give the same numbers on every backend.

The references are NumPy's, in float64: closed forms, or central differences of the same function written in
NumPy. Backends compute in float32, hence the tolerances: a few roundings for one evaluation.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from lipnb.autodiff import compile_step, input_gradient, is_concrete, scaled, value_and_grad

# Keras turns some variables and PyTorch tensors into arrays in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
EPS = np.finfo(np.float32).eps
ONE_EVALUATION = 200 * EPS  # sums of up to 60 terms, through three layers and back


def variable(value) -> keras.Variable:
    return keras.Variable(np.asarray(value, np.float32))


def to_numpy(tensors) -> list[np.ndarray]:
    return [ops.convert_to_numpy(t) for t in tensors]


def central_differences(f, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Gradient of ``f`` at float64 ``x``, to about step² and eps/step: 1e-10 relative."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[i] += step
        below[i] -= step
        gradient[i] = (f(above) - f(below)) / (2 * step)
    return gradient


def close(actual, expected, tolerance=ONE_EVALUATION) -> None:
    """Agreement relative to the largest expected entry: small ones are differences of large ones."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), EPS))


def test_close_can_fail():
    with pytest.raises(AssertionError):
        close([1.0, 2.0], [1.0, 2.0 * (1 + 2 * ONE_EVALUATION)])
    with pytest.raises(AssertionError):
        close([1.0], 1.0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


# value_and_grad ------------------------------------------------------------------------------------------


def test_gradient_of_least_squares_is_its_closed_form(rng):
    a, b, w = rng.normal(size=(5, 3)), rng.normal(size=5), variable(rng.normal(size=3))
    value, (gradient,) = value_and_grad(
        lambda: ops.sum((ops.matmul(a.astype(np.float32), w) - ops.convert_to_tensor(b, "float32")) ** 2), [w]
    )
    residual = a @ to_numpy([w])[0] - b
    close(float(value), residual @ residual)
    close(to_numpy([gradient])[0], 2 * a.T @ residual)


def test_gradient_agrees_with_central_differences(rng):
    shapes, x = [(4, 6), (6,), (6, 2)], rng.normal(size=(5, 4))
    variables = [variable(rng.normal(size=shape)) for shape in shapes]
    values = [v.astype(np.float64) for v in to_numpy(variables)]

    def network(xp, x, w, b, v):
        return xp.sum(xp.tanh(xp.matmul(xp.tanh(xp.matmul(x, w) + b), v)) ** 3)

    _, gradients = value_and_grad(lambda: network(ops, x.astype(np.float32), *variables), variables)
    for i, gradient in enumerate(to_numpy(gradients)):
        expected = central_differences(
            lambda z, i=i: network(np, x, *values[:i], z, *values[i + 1 :]), values[i]
        )
        close(gradient, expected)


def test_variables_without_influence_get_zeros():
    used, unused = variable([1.0, 2.0]), variable(np.ones((2, 3)))
    value, (first, second) = value_and_grad(lambda: ops.sum(used.value**2), [used, unused])
    close(float(value), 5.0)
    close(to_numpy([first])[0], [2.0, 4.0])
    np.testing.assert_array_equal(to_numpy([second])[0], np.zeros((2, 3)))


def test_a_loss_without_influence_of_any_variable_gives_zeros():
    w = variable([1.0, 2.0])
    value, (gradient,) = value_and_grad(lambda: ops.convert_to_tensor(np.float32(3.0)), [w])
    assert float(value) == 3.0
    np.testing.assert_array_equal(to_numpy([gradient])[0], [0.0, 0.0])


def test_nothing_but_the_assigned_state_changes():
    w, counter, untouched = variable([3.0]), variable(0.0), variable(7.0)

    def loss():
        counter.assign(counter + 1)
        return ops.sum(w.value * untouched.value)

    for _ in range(2):  # a second call sees no gradient left behind by the first
        _, (gradient,) = value_and_grad(loss, [w], [w, counter, untouched])
        assert float(gradient[0]) == 7.0
    assert [value.item() for value in to_numpy([w, counter, untouched])] == [3.0, 2.0, 7.0]


def test_values_assigned_during_the_loss_are_not_differentiated_away():
    w, memory = variable(3.0), variable(2.0)

    def loss():
        memory.assign(10.0)
        return w.value * memory.value

    value, (gradient,) = value_and_grad(loss, [w], [memory])
    assert (float(value), float(gradient)) == (30.0, 10.0)


# input_gradient ------------------------------------------------------------------------------------------


def test_input_gradient_takes_each_sample_alone(rng):
    a, x = rng.normal(size=(4, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    gradient = input_gradient(lambda x: ops.sum(ops.matmul(x, a) * x, axis=1), x)
    close(to_numpy([gradient])[0], x @ (a + a.T).astype(np.float64))


def test_input_gradient_of_a_constant_is_zero():
    x = np.ones((2, 3), np.float32)
    gradient = input_gradient(lambda x: ops.convert_to_tensor(np.float32([1.0, 2.0])), x)
    np.testing.assert_array_equal(to_numpy([gradient])[0], np.zeros((2, 3)))


def test_input_gradient_can_be_nested():
    x = np.float32([1.0, -2.0, 0.5])
    second = input_gradient(lambda x: input_gradient(lambda y: y**3, x), x)
    close(to_numpy([second])[0], 6.0 * x)


def test_scaled_is_the_product_with_its_first_and_second_gradients(rng):
    x, weights = (rng.standard_normal((3, 2, 2)).astype("float32") for _ in range(2))
    f = np.float32(0.7)
    at = [variable(x), variable(f)]

    def loss():
        return ops.sum(ops.multiply(weights, scaled(at[0].value, at[1].value) ** 2))

    value, gradients = value_and_grad(loss, at)
    close(float(value), float(np.sum(weights * x**2) * f**2))
    close(to_numpy(gradients)[0], 2 * weights * x * f**2)
    close(float(gradients[1]), float(np.sum(2 * weights * x**2) * f))

    def of_gradient(y):  # 12 (2s)², s the sum: each of the 12 entries has the gradient 2s of s²
        return ops.sum(input_gradient(lambda z: scaled(z, ops.sum(z)), y) ** 2)

    second = ops.convert_to_numpy(input_gradient(of_gradient, x))
    close(second, np.full(x.shape, 96 * x.sum()))


def test_scaled_takes_the_gradient_of_a_lookup(rng):
    table, factor = variable(rng.standard_normal((5, 2))), variable(1.5)

    def loss():
        return ops.sum(ops.take(scaled(table.value, factor.value), np.int32([1, 1, 4]), axis=0))

    _, gradients = value_and_grad(loss, [table, factor])
    expected = np.zeros((5, 2), "float32")
    expected[1], expected[4] = 3.0, 1.5
    close(to_numpy(gradients)[0], expected)
    rows = ops.convert_to_numpy(table.value)[[1, 1, 4]]
    close(float(gradients[1]), float(rows.sum()), 1e-5)


def test_penalty_of_a_linear_critic_has_its_closed_form(rng):
    w, x = variable(rng.normal(size=(4, 1))), rng.normal(size=(8, 4)).astype(np.float32)

    def penalty():
        gradient = input_gradient(lambda x: ops.matmul(x, w), x)
        return ops.mean((ops.sqrt(ops.sum(gradient**2, axis=1)) - 1) ** 2)

    value, (gradient,) = value_and_grad(penalty, [w])
    kernel = to_numpy([w])[0].astype(np.float64)
    norm = np.linalg.norm(kernel)
    close(float(value), (norm - 1) ** 2)
    close(to_numpy([gradient])[0], 2 * (norm - 1) * kernel / norm)


# compile_step --------------------------------------------------------------------------------------------


def test_batch_statistics_are_updated_in_a_compiled_step(rng):
    layer = keras.layers.BatchNormalization(momentum=0.9)
    layer.build((None, 3))
    x = rng.normal(2.0, 3.0, size=(50, 3)).astype(np.float32)

    def step(x):
        return value_and_grad(
            lambda: ops.sum(layer(x, training=True) ** 2), layer.trainable_variables, layer.variables
        )[0]

    compiled = compile_step(step, layer.variables)
    for _ in range(2):
        compiled(ops.convert_to_tensor(x))
    share = 1 - 0.9**2
    close(to_numpy([layer.moving_mean])[0], share * x.mean(axis=0, dtype=np.float64))
    close(to_numpy([layer.moving_variance])[0], 1 - share + share * x.var(axis=0, dtype=np.float64))


def test_a_seed_generator_advances_in_a_compiled_step():
    compiled_seed, eager_seed = keras.random.SeedGenerator(5), keras.random.SeedGenerator(5)
    step = compile_step(lambda: keras.random.uniform((4,), seed=compiled_seed), [compiled_seed.state])
    drawn = to_numpy(step() for _ in range(3))
    expected = to_numpy(keras.random.uniform((4,), seed=eager_seed) for _ in range(3))
    np.testing.assert_array_equal(drawn, expected)
    assert not np.array_equal(drawn[0], drawn[1])


def test_state_changed_by_hand_is_seen_by_the_compiled_step():
    w, optimizer = variable([4.0]), keras.optimizers.SGD(0.5)
    optimizer.build([w])

    def step(x):
        value, gradients = value_and_grad(lambda: ops.sum(w.value * x), [w])
        optimizer.apply(gradients, [w])
        return {"loss": value, "pair": (value, x)}

    compiled = compile_step(step, [w, *optimizer.variables])
    one = ops.convert_to_tensor(np.float32([1.0]))
    assert float(compiled(one)["loss"]) == 4.0
    w.assign([10.0])
    optimizer.learning_rate = 2.0
    assert float(compiled(one)["pair"][0]) == 10.0
    assert to_numpy([w])[0] == [8.0]
    assert int(optimizer.iterations.value) == 2


def test_the_step_is_traced_once():
    traced, w = [], variable(1.0)

    def step(x):
        traced.append(x)
        w.assign(w + x)
        return w.value

    compiled = compile_step(step, [w])
    for _ in range(4):
        compiled(ops.convert_to_tensor(np.float32(1.0)))
    assert to_numpy([w])[0] == 5.0
    assert len(traced) == {"tensorflow": 1, "jax": 1, "torch": 4}[keras.backend.backend()]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_xla_changes_no_number(jit_compile, rng):
    w, x = variable(rng.normal(size=(3, 3))), rng.normal(size=(3, 3)).astype(np.float32)
    step = compile_step(
        lambda x: value_and_grad(lambda: ops.sum(ops.tanh(ops.matmul(x, w)) ** 2), [w])[1][0],
        [w],
        jit_compile=jit_compile,
    )
    hidden = np.tanh(x @ to_numpy([w])[0].astype(np.float64))
    close(ops.convert_to_numpy(step(ops.convert_to_tensor(x))), x.T @ (2 * hidden * (1 - hidden**2)))


# A whole game, against NumPy -----------------------------------------------------------------------------

LATENT, HIDDEN, PIXELS, BATCH, UPDATES, RATE = 3, 8, 4, 16, 20, 0.01


def initial_weights() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Generator: dense without bias, batch normalization (γ, β), dense. Critic: dense, dense without bias."""
    rng = np.random.default_rng(2)
    generator = [(LATENT, HIDDEN), (HIDDEN,), (HIDDEN,), (HIDDEN, PIXELS), (PIXELS,)]
    critic = [(PIXELS, HIDDEN), (HIDDEN,), (HIDDEN, 1)]
    return tuple([rng.normal(size=shape) for shape in shapes] for shapes in (generator, critic))


def draws():
    rng = np.random.default_rng(3)
    for _ in range(UPDATES):
        real, noise = rng.normal(1.0, 2.0, size=(BATCH, PIXELS)), rng.normal(size=(2, BATCH, LATENT))
        yield real, noise[0], rng.uniform(size=(BATCH, 1)), noise[1]


class NumpyGame:
    """The game in float64 NumPy: gradients by central differences, Adam and batch statistics by hand."""

    def __init__(self):
        self.generator, self.critic = initial_weights()
        self.moments = [[(0.0, 0.0) for _ in weights] for weights in (self.generator, self.critic)]
        self.moving = np.zeros(HIDDEN), np.ones(HIDDEN)

    def generate(self, weights, noise):
        w, gamma, beta, v, bias = weights
        hidden = noise @ w
        self.statistics = hidden.mean(axis=0), hidden.var(axis=0)
        normal = (hidden - self.statistics[0]) / np.sqrt(self.statistics[1] + 1e-3)
        return np.maximum(normal * gamma + beta, 0) @ v + bias

    def critic_loss(self, weights, real, fake, mix):
        w, bias, v = weights
        point = mix * real + (1 - mix) * fake
        slope = 1 - np.tanh(point @ w + bias) ** 2
        norm = np.linalg.norm((slope * v[:, 0]) @ w.T, axis=1)
        score = [np.mean(np.tanh(x @ w + bias) @ v) for x in (fake, real)]
        return score[0] - score[1] + 10 * np.mean((norm - 1) ** 2)

    def generator_loss(self, weights, noise):
        w, bias, v = self.critic
        return -np.mean(np.tanh(self.generate(weights, noise) @ w + bias) @ v)

    def descend(self, loss, weights, player, t):
        """Kingma & Ba's Adam with β = 0.5, 0.9, in Keras's order of operations; the moving averages of the batch."""
        value, stepped = loss(weights), []
        self.moving = tuple(0.9 * m + 0.1 * s for m, s in zip(self.moving, self.statistics, strict=True))
        for i, weight in enumerate(weights):
            g = central_differences(lambda z, i=i: loss([*weights[:i], z, *weights[i + 1 :]]), weight)
            m, v = self.moments[player][i]
            m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
            self.moments[player][i] = m, v
            rate = RATE * np.sqrt(1 - 0.9**t) / (1 - 0.5**t)
            stepped.append(weight - rate * m / (np.sqrt(v) + 1e-7))
        return value, stepped

    def update(self, t, real, noise, mix, next_noise):
        fake = self.generate(self.generator, noise)
        critic_loss, self.critic = self.descend(
            lambda w: self.critic_loss(w, real, fake, mix), self.critic, 1, t
        )
        generator_loss, self.generator = self.descend(
            lambda w: self.generator_loss(w, next_noise), self.generator, 0, t
        )
        return critic_loss, generator_loss


def keras_players():
    """Generator and critic with the weights of the NumPy game."""
    layers = keras.layers
    generator = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(HIDDEN, use_bias=False),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-3),
            layers.ReLU(),
            layers.Dense(PIXELS),
        ]
    )
    critic = keras.Sequential(
        [keras.Input((PIXELS,)), layers.Dense(HIDDEN, activation="tanh"), layers.Dense(1, use_bias=False)]
    )
    for model, weights in zip((generator, critic), initial_weights(), strict=True):
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            variable.assign(value)
    return generator, critic


def keras_game():
    """The same game with this package's three functions; returns its update and its two models."""
    generator, critic = models = keras_players()
    optimizers = [keras.optimizers.Adam(RATE, 0.5, 0.9) for _ in range(2)]
    for model, optimizer in zip(models, optimizers, strict=True):
        optimizer.build(model.trainable_variables)
    state = [v for part in (*models, *optimizers) for v in part.variables]

    def critic_step(real, noise, mix):
        fake = ops.stop_gradient(generator(noise, training=True))

        def loss():
            point = mix * real + (1 - mix) * fake
            norm = ops.sqrt(ops.sum(input_gradient(critic, point) ** 2, axis=1))
            return ops.mean(critic(fake)) - ops.mean(critic(real)) + 10 * ops.mean((norm - 1) ** 2)

        value, gradients = value_and_grad(loss, critic.trainable_variables, state)
        optimizers[1].apply(gradients, critic.trainable_variables)
        return value

    def generator_step(noise):
        value, gradients = value_and_grad(
            lambda: -ops.mean(critic(generator(noise, training=True))), generator.trainable_variables, state
        )
        optimizers[0].apply(gradients, generator.trainable_variables)
        return value

    critic_step, generator_step = (compile_step(step, state) for step in (critic_step, generator_step))

    def update(real, noise, mix, next_noise):
        real, noise, mix, next_noise = (
            ops.convert_to_tensor(a.astype(np.float32)) for a in (real, noise, mix, next_noise)
        )
        return float(critic_step(real, noise, mix)), float(generator_step(next_noise))

    return update, models


def test_twenty_updates_of_a_game_agree_with_numpy():
    reference, (update, (generator, critic)) = NumpyGame(), keras_game()
    expected = [reference.update(t, *draw) for t, draw in enumerate(draws(), 1)]
    actual = [update(*draw) for draw in draws()]
    tolerance = UPDATES * ONE_EVALUATION  # every update adds the rounding of one evaluation
    close(actual, expected, tolerance)
    assert np.ptp(expected, axis=0).min() > 1000 * tolerance  # the game did move
    for model, weights in ((generator, reference.generator), (critic, reference.critic)):
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            close(to_numpy([variable])[0], value, tolerance)
    for variable, value in zip(generator.non_trainable_variables, reference.moving, strict=True):
        close(to_numpy([variable])[0], value, tolerance)


def test_concrete_is_what_has_entries_now():
    seen = []

    def step(x):
        seen.append(is_concrete(x))
        return x

    x = ops.ones((2,))
    compile_step(step, [])(x)
    assert is_concrete(x)
    assert is_concrete(np.ones(2))
    assert seen == [keras.backend.backend() == "torch"]  # PyTorch runs a step as it is, the others trace it
