"""A scope in which chosen variables read as other tensors, the same on every Keras backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

__all__ = ["Substitution"]

Tensor = Any


class Substitution(keras.StatelessScope):
    """Inside, the given variables read as the given tensors; all else works as outside of the scope.

    A plain ``StatelessScope`` would hide the scope around it, for Keras consults the innermost alone, and drop
    what is assigned inside. Here reads, assignments and losses are handed on to the scope around this one (as
    under ``fit`` on JAX). Where there is none, an assignment is made at once, for in a loop in TensorFlow's graph it
    can be made at no other place, and losses are kept for ``finish``.

    Parameters
    ----------
    values
        Pairs of a variable and a tensor of its shape and dtype.
    """

    def __init__(self, values: Sequence[tuple[keras.Variable, Tensor]]) -> None:
        super().__init__(collect_losses=True)
        self.substitutes = {id(variable): value for variable, value in values}

    def __enter__(self) -> Substitution:
        super().__enter__()
        if self.original_scope is not None:
            self.collect_losses = self.original_scope.collect_losses
            self.losses = self.original_scope.losses
        return self

    def get_current_value(self, variable: keras.Variable) -> Tensor | None:
        """The substitute, else what the scope around says, else None: the variable's own value."""
        if id(variable) in self.substitutes:
            return self.substitutes[id(variable)]
        if self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return None

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
        """Assign as if this scope were not there."""
        variable, value = update
        self.__exit__()
        try:
            variable.assign(value)
        finally:
            self.__enter__()

    def finish(self, layer: keras.Layer) -> None:
        """Once outside: add the kept losses to ``layer``."""
        if self.original_scope is None:
            for loss in self.losses:
                layer.add_loss(loss)
