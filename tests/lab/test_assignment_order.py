"""TensorFlow's optimized graphs assign a variable only after every read that comes before it in the code.

TensorFlow 2.21 breaks this where a gradient needs no value that was read: its optimizer sees the read's edge
to the assignment implied by a path through the shape of a result, removes it, then replaces the shape by a
constant, and the path is gone. A Wasserstein critic's last layer then mixes old and new weights, about once in
a thousand steps of a busy machine. The graphs that TensorFlow ends up with are checked here, not its luck.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorflow.python.eager import context

from lipnb.autodiff import compile_step, value_and_grad
from lipnb.lab import gan, methods

pytestmark = pytest.mark.lab


def optimized_graphs(step, *inputs) -> list[tf.compat.v1.GraphDef]:
    """The graphs that TensorFlow runs for ``step``."""
    context.context().enable_run_metadata()
    try:
        step(*inputs)
        return [
            graph.post_optimization_graph for graph in context.context().export_run_metadata().function_graphs
        ]
    finally:
        context.context().disable_run_metadata()


def unordered_reads(graph) -> list[tuple[str, str]]:
    """(read, assignment) of one variable where neither waits for the other."""
    inputs = {node.name: [i.lstrip("^").split(":")[0] for i in node.input] for node in graph.node}
    reads = [node for node in graph.node if node.op == "ReadVariableOp"]
    writes = [node for node in graph.node if node.op.startswith("Assign") and node.op.endswith("VariableOp")]
    before = {node.name: ancestors(node.name, inputs) for node in reads + writes}
    return [
        (read.name, write.name)
        for write in writes
        for read in reads
        if read.input[0] == write.input[0]
        and read.name not in before[write.name]
        and write.name not in before[read.name]
    ]


def ancestors(name: str, inputs: dict[str, list[str]]) -> set[str]:
    found, todo = set(), [name]
    while todo:
        new = [i for i in inputs.get(todo.pop(), ()) if i not in found]
        found.update(new)
        todo += new
    return found


def test_an_unordered_read_is_found():
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="w", op="VarHandleOp")
    graph.node.add(name="read", op="ReadVariableOp", input=["w"])
    graph.node.add(name="sum", op="Sum", input=["read"])
    write = graph.node.add(name="write", op="AssignSubVariableOp", input=["w"])
    assert unordered_reads(graph) == [("read", "write")]
    write.input.append("^sum")
    assert unordered_reads(graph) == []


def test_a_linear_last_layer_is_read_before_it_is_updated():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
    )
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)

    def step(x, y):
        def loss():
            return ops.mean(model(x)) - ops.mean(model(y))

        value, gradients = value_and_grad(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    x = ops.ones((16, 4))
    graphs = optimized_graphs(compile_step(step, [*model.variables, *optimizer.variables]), x, x)
    assert [pair for graph in graphs for pair in unordered_reads(graph)] == []
    assert sum(node.op == "AssignSubVariableOp" for graph in graphs for node in graph.node) == 4


# The other penalties differ from the first by functions of single numbers.
@pytest.mark.parametrize("method", [m for m in methods.METHODS if m not in list(methods.PENALTIES)[1:]])
def test_both_steps_of_the_game_keep_the_order(method):
    settings = gan.Settings(method, "wasserstein", 1, 0, 1e-3, width=2, batch=4, latent=3)
    game = gan.build(settings, (8, 8, 1))
    rng = np.random.default_rng(0)
    real, noise, mix = (
        ops.convert_to_tensor(rng.normal(size=shape).astype(np.float32))
        for shape in [(4, 8, 8, 1), (4, 3), (4, 1, 1, 1)]
    )
    graphs = optimized_graphs(game.critic_step, real, noise, mix) + optimized_graphs(
        game.generator_step, noise
    )
    assert [pair for graph in graphs for pair in unordered_reads(graph)] == []
