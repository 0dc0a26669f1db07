"""Random weights for a model, and the matrix of one that is linear but for a constant."""

import math

import numpy as np
from keras import ops


def randomized(model, seed=0):
    """The model with every float weight random, u and v of spectral normalization too, and variances positive."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in variable.dtype:
            values = generator.standard_normal(variable.shape)
            variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
    return model


def matrix(model, dtype="float32"):
    """The value at the unit vectors less that at zero, in float64: shape (outputs, inputs)."""
    shape = tuple(model.inputs[0].shape)[1:]
    n = math.prod(shape)
    points = np.concatenate([np.eye(n), np.zeros((1, n))]).reshape(n + 1, *shape).astype(dtype)
    outputs = ops.convert_to_numpy(model(points, training=False)).astype(float).reshape(n + 1, -1)
    return (outputs[:-1] - outputs[-1]).T
