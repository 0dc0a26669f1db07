"""A model as a function of rows: inputs, outputs and gradients flattened, in float64, with several of each joined."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.autodiff import compile_step, input_gradient
from lipnb.graph import functional_graph, is_graph

__all__ = ["Shapes", "evaluation", "rounding_unit", "split"]

Shapes = Sequence[tuple[Any, ...]]
HALF = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def evaluation(model: Any, shapes: Shapes, compiled: bool) -> Callable:
    """Function of rows z and u: the rows f(z) and, unless u is None, the gradients J(z)ᵀu, in float64."""
    dtype = keras.backend.result_type(model.variable_dtype, "float32")
    ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()

    def f(z: Any) -> Any:
        slices = zip(ends, ends[1:], shapes, strict=False)
        parts = [ops.reshape(z[:, start:stop], (-1, *shape)) for start, stop, shape in slices]
        outputs = keras.tree.flatten(model(_arranged(model, parts), training=False))
        return ops.concatenate(
            [ops.reshape(ops.cast(y, dtype), (ops.shape(y)[0], -1)) for y in outputs], axis=1
        )

    def step(z: Any, u: Any) -> tuple[Any, Any]:
        return f(z), input_gradient(lambda z: u * f(z), z)

    compiled_step = compile_step(step, model.variables) if compiled else step

    def evaluate(z: np.ndarray, u: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        z = ops.convert_to_tensor(z, dtype)
        pair = (f(z), z) if u is None else compiled_step(z, ops.convert_to_tensor(u, dtype))
        outputs, gradients = (np.asarray(ops.convert_to_numpy(a), np.float64) for a in pair)
        return outputs, np.nan_to_num(gradients, nan=0.0, posinf=0.0, neginf=0.0)

    return evaluate


def rounding_unit(model: Any) -> float:
    """ε of the coarsest dtype that a layer of the model computes in, at most float32's precision."""
    return max(HALF.get(layer.compute_dtype, 2.0**-23) for layer in model._flatten_layers())


def split(rows: np.ndarray, shapes: Shapes) -> list[np.ndarray]:
    """The first row as arrays of the shapes."""
    parts = np.split(rows, np.cumsum([math.prod(s) for s in shapes])[:-1], axis=1)
    return [part[0].reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _arranged(model: Any, parts: list[Any]) -> Any:
    """The inputs in the structure that the model is called with."""
    if is_graph(model):
        return keras.tree.pack_sequence_as(functional_graph(model).input, parts)
    return parts if len(parts) > 1 else parts[0]
