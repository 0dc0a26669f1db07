"""Every bound is at least every estimate: random layers against their matrices, random models against searches."""

import math

import keras
import numpy as np
import pytest
import scipy.linalg
from keras import ops
from linear_models import matrix
from random_models import LARGEST, random_layer, random_model, randomized
from random_tokens import model_without_constant, token_model

from lipnb.bounds import lipschitz_bound
from lipnb.estimates import lipschitz_estimate
from lipnb.rules import RULES
from lipnb.sites import Constant

# float64 where Keras computes in it throughout (on PyTorch it multiplies some float64 tensors in float32): then the
# slack is rounding only, and no violation can hide in it.
WIDE = keras.backend.backend() == "tensorflow"
DTYPE = "float64" if WIDE else "float32"

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:You are using a softmax over axis:UserWarning"),
]


@pytest.fixture(autouse=True)
def _wide():
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(DTYPE)
    keras.config.set_dtype_policy(DTYPE)
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def values(model, x):
    """The model's outputs at x, (batch, everything), in float64."""
    outputs = keras.tree.flatten(model(x if len(x) > 1 else x[0], training=False))
    return np.concatenate(
        [ops.convert_to_numpy(y).astype(float).reshape(len(x[0]), -1) for y in outputs], axis=1
    )


def is_wide(model):
    """Whether every layer computes in float64; pooling in three dimensions cannot on TensorFlow."""
    return WIDE and all(layer.compute_dtype == "float64" for layer in model._flatten_layers())


def secant(model, generator, pairs=200):
    """Largest ‖f(x) − f(x')‖/‖x − x'‖ over random pairs, near and far, by two forward passes and no gradient."""
    scales = 10 ** generator.uniform(-3, 2, (2, pairs, 1))
    shapes = [tuple(t.shape)[1:] for t in model.inputs]
    parts = [generator.standard_normal((2, pairs, math.prod(shape))) * scales for shape in shapes]
    x, move = (list(side) for side in zip(*parts, strict=True))
    ends = [
        [a.reshape(pairs, *s).astype(DTYPE) for a, s in zip(end, shapes, strict=True)]
        for end in (x, [a + b for a, b in zip(x, move, strict=True)])
    ]
    change = np.linalg.norm(values(model, ends[0]) - values(model, ends[1]), axis=1)
    distance = np.linalg.norm(
        np.concatenate([(a - b).reshape(pairs, -1) for a, b in zip(*ends, strict=True)], 1), axis=1
    )
    # A float32 difference of near points is rounding: of outputs of size s it is s·ε.
    return float(((change - (0 if is_wide(model) else 1e-4)) / distance).max())


def check_model(seed):
    """The share of the bound that a search reaches, in a random model; never above 1."""
    generator = np.random.default_rng(seed)
    model = random_model(generator)
    bound = float(lipschitz_bound(model, exact=[True, False, "auto"][seed % 3]))
    estimate = float(lipschitz_estimate(model, n_steps=20, n_starts=4, seed=seed, compiled=False))
    slack = 1e-9 if is_wide(model) else 1e-3
    assert math.isfinite(bound), lipschitz_bound(model)
    # Secants of large maps lose digits to cancellation: their slack is that of outputs of size 100·bound.
    assert estimate <= bound * (1 + slack), (seed, estimate, lipschitz_bound(model))
    assert secant(model, generator) <= bound * (1 + max(slack, 1e-6)) + 1e-9, (seed, lipschitz_bound(model))
    return estimate / bound if bound else 1.0


def run_models(seeds):
    shares = [check_model(seed) for seed in seeds]
    keras.backend.clear_session(free_memory=False)
    # The search has power: some bounds are attained, where a rule that is too small would show.
    assert np.mean(np.array(shares) > 0.95) > 0.05
    return shares


def test_bounds_of_random_models_are_above_their_estimates():
    run_models(range(12))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1600, 50))
def test_bounds_of_six_hundred_random_models_are_above_their_estimates(start):
    run_models(range(start, start + 50))


def test_the_property_finds_rules_that_are_too_small(monkeypatch):
    for name, right in RULES.items():

        def wrong(site, right=right):
            constant = right(site)
            return Constant(constant.value * 0.8, constant.kind, constant.note)

        monkeypatch.setitem(RULES, name, wrong)
    with pytest.raises(AssertionError):
        run_models(range(20))


# Tokens, and what has no constant ------------------------------------------------------------------------


def check_tokens(seed):
    """The share of the bound that a pair of sequences reaches, in a random model of tokens; never above 1."""
    generator = np.random.default_rng(seed)
    model, vocabulary = token_model(generator)
    bound = float(lipschitz_bound(model, exact=[True, False, "auto"][seed % 3]))
    first = generator.integers(0, vocabulary, (300, *model.inputs[0].shape[1:]))
    moved = generator.random(first.shape) < generator.choice([0.1, 0.5, 1.0], (300, 1))
    second = np.where(moved, generator.integers(0, vocabulary, first.shape), first)
    distance = np.sqrt(2 * np.sum(first != second, axis=1))  # of the sequences as one-hot vectors
    change = np.linalg.norm(values(model, [first]) - values(model, [second]), axis=1)[distance > 0]
    largest = (change / distance[distance > 0]).max()
    assert math.isfinite(bound), lipschitz_bound(model)
    assert largest <= bound * (1 + 1e-6) + 1e-9, (seed, largest, lipschitz_bound(model))
    return largest / bound if bound else 1.0


def run_token_models(seeds):
    shares = [check_tokens(seed) for seed in seeds]
    keras.backend.clear_session(free_memory=False)
    assert np.mean(np.array(shares) > 0.5) > 0.05


def run_models_without_constant(seeds):
    for seed in seeds:
        model, name = model_without_constant(np.random.default_rng(seed))
        bound = lipschitz_bound(model)
        assert math.isinf(float(bound)) or float(bound) == 0  # 0 where a constant layer follows
        assert any(f"({name})" in reason for reason in bound.reasons), (seed, name, bound)
    keras.backend.clear_session(free_memory=False)


def test_bounds_of_random_token_models_are_above_every_pair():
    run_token_models(range(20))


def test_random_models_without_a_constant_say_where_and_why():
    run_models_without_constant(range(20))


@pytest.mark.slow
def test_bounds_of_more_token_models_are_above_every_pair():
    run_token_models(range(5000, 5300))
    run_models_without_constant(range(5000, 5300))


def test_token_models_find_rules_that_are_too_small(monkeypatch):
    right = RULES["Embedding"]
    monkeypatch.setitem(RULES, "Embedding", lambda site: right(site) * Constant(0.3))
    with pytest.raises(AssertionError):
        run_token_models(range(20))


# Random layers against their matrices --------------------------------------------------------------------


def one_layer(generator):
    """A model of one random layer with random weights."""
    while True:
        shape = [(6,), (7, 3), (5, 4, 2), (3, 4, 2, 2)][generator.integers(4)]
        inputs = keras.Input(shape)
        try:
            outputs = random_layer(generator, shape)(inputs)
        except ValueError:  # it does not fit
            continue
        if 0 < math.prod(outputs.shape[1:]) <= 4 * LARGEST:
            return randomized(generator, keras.Model(inputs, outputs))


def is_affine(model, generator):
    """Whether f(a + b) − f(a) − f(b) + f(0) vanishes at random a, b, small and large."""
    shape = (8, *model.inputs[0].shape[1:])
    a, b = generator.standard_normal((2, *shape)) * 10 ** generator.uniform(
        -1, 2, (8, *[1] * (len(shape) - 1))
    )
    points = [x.astype(DTYPE) for x in (a + b, a, b, 0 * a)]
    sums, at_a, at_b, at_0 = (values(model, [x]) for x in points)
    return np.abs(sums - at_a - at_b + at_0).max() <= 1e-5 * np.abs(at_a).max()


def check_layer(seed):
    """Whether the layer was affine, and then its constant is right: equal where exact, from above otherwise."""
    generator = np.random.default_rng(seed)
    model = one_layer(generator)
    row = lipschitz_bound(model, exact=[True, False, "auto"][seed % 3]).rows[-1]
    if not is_affine(model, generator):
        return False
    norm = scipy.linalg.svdvals(matrix(model, DTYPE))[0]
    assert norm <= row.constant * (1 + 1e-5) + 1e-12, (seed, norm, row)
    if row.kind == "exact":
        assert row.constant <= norm * (1 + 1e-5) + 1e-12, (seed, norm, row)
    return True


def test_random_affine_layers_have_the_norm_of_their_matrix():
    assert sum(map(check_layer, range(60))) > 30


@pytest.mark.slow
def test_more_random_affine_layers_have_the_norm_of_their_matrix():
    assert sum(map(check_layer, range(10_000, 13_000))) > 1500
