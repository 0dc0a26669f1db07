"""Random models that a search for gradients has nothing to say about: of tokens, and without a global constant."""

import keras
from keras import layers
from random_models import call, concatenation, pick, randomized, residual, shared


def token_model(g):
    """A model of sequences of tokens, and its number of tokens: embeddings, then layers and blocks."""
    vocabulary, length, width = (int(n) for n in g.integers(2, 6, 3))
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(vocabulary, width)(tokens)
    if g.random() < 0.3:
        x = pick(g, layers.Add, layers.Concatenate)()([x, layers.Embedding(vocabulary, width)(tokens)])
    for _ in range(int(g.integers(0, 4))):
        x = pick(g, call, call, residual, concatenation, shared)(g, x)
    return randomized(g, keras.Model(tokens, x)), vocabulary


def model_without_constant(g):
    """A model with a product of branches or an attention in it, and the type of that layer or operation."""
    x = inputs = keras.Input((4, 3))
    x = layers.Dense(3, activation=pick(g, None, "relu"))(x) if g.random() < 0.5 else residual(g, x)
    name = pick(g, *PRODUCTS)
    x = PRODUCTS[name](x, layers.Dense(3)(x))
    for _ in range(int(g.integers(0, 3))):
        x = call(g, x)
    return randomized(g, keras.Model(inputs, x)), name


PRODUCTS = {
    "Multiply": lambda x, y: layers.Multiply()([x, y]),
    "Dot": lambda x, y: layers.Dot(axes=1)([x, y]),
    "Attention": lambda x, y: layers.Attention()([x, y]),
    "AdditiveAttention": lambda x, y: layers.AdditiveAttention()([x, y]),
    "MultiHeadAttention": lambda x, y: layers.MultiHeadAttention(2, 2)(x, y),
    "GroupedQueryAttention": lambda x, y: layers.GroupQueryAttention(2, 2, 1)(x, y),
}
