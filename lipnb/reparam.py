"""Wrappers that make a layer compute with W·norm/‖W‖ in place of W, on every Keras backend.

The wrapped layer runs with its kernel's value substituted, so the loss is a function of W through W/σ(W) and
the gradient holds σ's part. The kernel itself is only ever written by the optimizer.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from lipnb.checks import check_choice, check_count, check_positive
from lipnb.operators import KernelMap, advance, iterate, kernel_map, singular_value, start_vectors

__all__ = ["FrobeniusNormalization", "SpectralNormalization"]

Tensor = Any
KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")
WARM_UP = 15  # power iterations at build, torch's choice


class _Substitution(keras.StatelessScope):
    """Inside, the given variables read as other tensors; all else works as outside of the scope.

    Keras consults the innermost scope alone, so reads, updates and losses are handed on to the scope around
    this one, or, where there is none, kept for ``finish``.
    """

    def __init__(self, values: Sequence[tuple[keras.Variable, Tensor]]) -> None:
        super().__init__(collect_losses=True)
        self.substitutes = {id(variable): value for variable, value in values}
        self.updates: dict[int, tuple[keras.Variable, Tensor]] = {}

    def __enter__(self) -> _Substitution:
        super().__enter__()
        if self.original_scope is not None:
            self.collect_losses = self.original_scope.collect_losses
            self.losses = self.original_scope.losses
        return self

    def get_current_value(self, variable: keras.Variable) -> Tensor:
        """The substitute, else what the outer scope says, else an update made inside."""
        if id(variable) in self.substitutes:
            return self.substitutes[id(variable)]
        if self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return self.updates.get(id(variable), (None, None))[1]

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
        """Hand on an assignment, or keep it."""
        if self.original_scope is not None:
            self.original_scope.add_update(update)
        else:
            self.updates[id(update[0])] = update

    def finish(self, wrapper: keras.Layer) -> None:
        """Outside again: make the assignments and losses that no outer scope took."""
        if self.original_scope is not None:
            return
        for variable, value in self.updates.values():
            variable.assign(value)
        for loss in self.losses:
            wrapper.add_loss(loss)


@dataclass(frozen=True)
class _Target:
    """A kernel to normalise, and for spectral normalisation the map it stands for with its two vectors."""

    kernel: keras.Variable
    mapping: KernelMap | None = None
    u: keras.Variable | None = None
    v: keras.Variable | None = None


@dataclass(frozen=True)
class _Targets:
    """The targets, out of sight of Keras's attribute tracking, which would count the kernels twice."""

    items: tuple[_Target, ...] = ()


class _Normalization(keras.layers.Wrapper):
    """What the wrappers share: finding kernels, substituting them, and looking like the wrapped layer."""

    def __init__(
        self, layer: keras.Layer, norm: float, shrink_only: bool, weight_names: Sequence[str] | None, **kwargs: Any
    ) -> None:
        # In float32 and without autocasting, kernels are read here in full precision under a mixed policy;
        # the wrapped layer has its own policy and casts as ever.
        kwargs["dtype"] = getattr(layer, "variable_dtype", None)
        super().__init__(layer, autocast=False, **kwargs)
        if hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN):
            raise ValueError(
                "A recurrent cell cannot be wrapped: wrap the layer around it, so that the norm is computed once "
                f"per sequence and not inside the loop over time. Received: {type(layer).__name__}"
            )
        self.norm = check_positive(norm, "norm")
        self.shrink_only = bool(shrink_only)
        self.weight_names = None if weight_names is None else tuple(weight_names)
        self.supports_masking = layer.supports_masking
        self._targets = _Targets()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; one whose ``build`` wants several shapes (attention) is built by a symbolic call."""
        if not self.layer.built and _n_required(self.layer.build) > 1:
            with keras.name_scope(self.name):
                self.layer(*_symbolic(args), **_symbolic(kwargs))
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Build the wrapped layer and find its kernels."""
        super().build(input_shape)
        found = _find_weights(self.layer, self.weight_names)
        self._targets = _Targets(tuple(self._target(i, *pair) for i, pair in enumerate(found)))

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The wrapped layer's output with normalised kernels."""
        scope = _Substitution([(t.kernel, self._normalized(t, bool(training))) for t in self._targets.items])
        with scope:
            outputs = self.layer(inputs, *args, **kwargs)
        scope.finish(self)
        return outputs

    @property
    def kernels(self) -> list[keras.Variable]:
        """The variables W that the optimizer trains, un-normalised."""
        return [target.kernel for target in self._targets.items]

    @property
    def kernel(self) -> keras.Variable:
        """The first of ``kernels``."""
        return self.kernels[0]

    def normalized_weights(self) -> list[Tensor]:
        """The tensors W·norm/‖W‖ that inference computes with, in the order of ``kernels``."""
        return [self._normalized(target, False) for target in self._targets.items]

    def to_plain(self) -> keras.Layer:
        """A copy of the wrapped layer that holds the normalised weights as its own: the same function."""
        layer = type(self.layer).from_config(self.layer.get_config())
        layer.build_from_config(self.layer.get_build_config())
        values = {id(t.kernel): self._normalized(t, False) for t in self._targets.items}
        for new, old in zip(layer.variables, self.layer.variables, strict=True):
            new.assign(values.get(id(old), old.value))
        return layer

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """As the wrapped layer's."""
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """As the wrapped layer's, in its dtype."""
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """As the wrapped layer's."""
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"norm": self.norm, "shrink_only": self.shrink_only, "weight_names": self.weight_names}
        return {**super().get_config(), **own}

    def _normalized(self, target: _Target, training: bool) -> Tensor:
        kernel = ops.cast(target.kernel.value, _wide(target.kernel))
        size = self._size(target, kernel, training and self.trainable and self.layer.trainable)
        large = size > (self.norm if self.shrink_only else 0.0)  # a zero kernel stays as it is
        factor = ops.where(large, self.norm / ops.where(large, size, 1.0), 1.0)
        return ops.cast(kernel * factor, target.kernel.dtype)

    def _target(self, index: int, owner: keras.Layer, kernel: keras.Variable) -> _Target:
        return _Target(kernel)

    def _size(self, target: _Target, kernel: Tensor, update: bool) -> Tensor:
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="lipnb")
class SpectralNormalization(_Normalization):
    """Run a layer with W·norm/σ(W) in place of each kernel W; the gradient flows through σ = uᵀWv, u, v fixed.

    TODO doc
    """

    def __init__(
        self,
        layer: keras.Layer,
        n_iter: int = 1,
        operator: bool = False,
        norm: float = 1.0,
        shrink_only: bool = False,
        *,
        weight_names: Sequence[str] | None = None,
        u_initializer: str = "random",
        seed: int = 0,
        power_iterations: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, norm, shrink_only, weight_names, **kwargs)
        self.n_iter = check_count(n_iter if power_iterations is None else power_iterations, "n_iter")
        self.operator = bool(operator)
        self.u_initializer = check_choice(u_initializer, "u_initializer", ("random", "ones"))
        self.seed = check_count(seed, "seed", minimum=0)

    def update_vectors(self, n_iter: int = WARM_UP) -> None:
        """Run ``n_iter`` power iterations on the current kernels, as after setting weights by hand."""
        for target in self._targets.items:
            kernel = ops.cast(target.kernel.value, target.u.dtype)
            self._store(target, *iterate(target.mapping, kernel, *_vectors(target), n_iter))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"n_iter": self.n_iter, "operator": self.operator, "u_initializer": self.u_initializer}
        return {**super().get_config(), **own, "seed": self.seed}

    def _target(self, index: int, owner: keras.Layer, kernel: keras.Variable) -> _Target:
        mapping = kernel_map(owner, kernel, self.operator)
        start = start_vectors(mapping, self.u_initializer, (self.seed, index))

        def vector(name: str, position: int) -> keras.Variable:
            def warm(shape: Any, dtype: Any) -> Tensor:
                u, v = (ops.cast(x, dtype) for x in start)
                return iterate(mapping, ops.cast(kernel.value, dtype), u, v, WARM_UP)[position]

            return self.add_weight(
                name=f"{name}_{index}",
                shape=start[position].shape,
                initializer=warm,
                dtype=_wide(kernel),
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",  # all replicas compute the same
            )

        return _Target(kernel, mapping, vector("u", 0), vector("v", 1))

    def _size(self, target: _Target, kernel: Tensor, update: bool) -> Tensor:
        u, v = _vectors(target)
        if update:
            u, v = advance(target.mapping, kernel, u, v, self.n_iter)
            self._store(target, u, v)
        return singular_value(target.mapping, kernel, u, v)

    @staticmethod
    def _store(target: _Target, u: Tensor, v: Tensor) -> None:
        target.u.assign(u)
        target.v.assign(v)


@keras.saving.register_keras_serializable(package="lipnb")
class FrobeniusNormalization(_Normalization):
    """Run a layer with W·norm/‖W‖_F in place of each kernel W; the gradient flows through ‖W‖_F. TODO doc
    """

    def __init__(
        self,
        layer: keras.Layer,
        norm: float = 1.0,
        shrink_only: bool = False,
        *,
        weight_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, norm, shrink_only, weight_names, **kwargs)

    def _size(self, target: _Target, kernel: Tensor, update: bool) -> Tensor:
        largest = ops.stop_gradient(ops.max(ops.abs(kernel)))
        scale = ops.where(largest > 0, largest, 1.0)  # squares of tiny or huge entries would leave the range
        square = ops.sum(ops.square(kernel / scale))
        return ops.where(largest > 0, scale * ops.sqrt(ops.where(largest > 0, square, 1.0)), 0.0)


def _find_weights(layer: keras.Layer, names: Sequence[str] | None) -> list[tuple[keras.Layer, keras.Variable]]:
    """(owner, variable) of every weight in the layer and its sublayers whose name is among ``names``."""
    wanted, seen, found = set(names or KERNELS), set(), {}
    for owner in layer._flatten_layers():
        for attribute, value in vars(owner).items():
            if isinstance(value, keras.Variable) and wanted & {value.name, attribute}:
                found[id(value)] = (owner, _checked(owner, value))
                seen |= {value.name, attribute}
    missing = sorted(wanted - seen)
    if not found or (names and missing):
        raise ValueError(
            f"The layer must have a weight of the names {', '.join(map(repr, missing))}; give weight_names to name "
            f"your own. Received: {type(layer).__name__} with {[w.name for w in layer.weights]}"
        )
    return list(found.values())


def _checked(owner: keras.Layer, kernel: keras.Variable) -> keras.Variable:
    if "float" not in kernel.dtype:
        raise TypeError(f"A kernel must be floating point. Received: {kernel.path!r} of dtype {kernel.dtype}")
    if getattr(owner, "lora_enabled", False):
        raise ValueError(f"A layer with LoRA cannot be normalised. Received: {owner.name!r}, whose LoRA is enabled")
    return kernel


def _wide(kernel: keras.Variable) -> str:
    return "float64" if kernel.dtype == "float64" else "float32"


def _vectors(target: _Target) -> tuple[Tensor, Tensor]:
    # Copies: PyTorch assigns in place, under the feet of a gradient that still needs the old values.
    return ops.copy(target.u.value), ops.copy(target.v.value)


def _n_required(function: Any) -> int:
    return sum(p.default is p.empty for p in inspect.signature(function).parameters.values())


def _symbolic(arguments: Any) -> Any:
    def replace(x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype) if hasattr(x, "shape") else x

    return keras.tree.map_structure(replace, arguments)
