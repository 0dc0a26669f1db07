"""A wrapper that lets a layer compute with scaled kernels; what the normalization wrappers share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.autodiff import is_concrete, scaled
from lipnb.checks import check_flag, check_positive
from lipnb.substitution import Substitution

__all__ = ["KernelNormalization", "Target", "wide_dtype"]

Tensor = Any
KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")


@dataclass(frozen=True)
class Target:
    """A kernel to normalise, and for spectral normalisation the map it stands for with its two vectors."""

    owner: keras.Layer
    kernel: keras.Variable
    mapping: Any = None  # a KernelMap
    u: Any = None  # variables
    v: Any = None


@dataclass(frozen=True)
class _Hidden:
    """The targets, out of sight of Keras's attribute tracking, which would count the kernels twice."""

    items: tuple[Target, ...] = ()


class KernelNormalization(keras.layers.Wrapper):
    """What the wrappers share: finding kernels, substituting them, and looking like the wrapped layer."""

    def __init__(
        self,
        layer: keras.Layer,
        norm: float,
        shrink_only: bool,
        weight_names: Sequence[str] | None,
        **kwargs: Any,
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
        self.shrink_only = check_flag(shrink_only, "shrink_only")
        self.weight_names = None if weight_names is None else _checked_names(weight_names)
        self.supports_masking = layer.supports_masking
        self._targets = _Hidden()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; one that ``build`` cannot build from one shape is built by a symbolic call."""
        if not self.built and (_wants_shapes(self.layer) or _wants_call(self.layer)):
            with keras.name_scope(self.name):
                self.layer(*_symbolic(args), **_symbolic(kwargs))
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Build the wrapped layer and find its kernels."""
        _call_where_wanted(self.layer, input_shape)
        super().build(input_shape)
        found = _find_weights(self.layer, self.weight_names)
        self._targets = _Hidden(tuple(self._target(i, *pair) for i, pair in enumerate(found)))

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The wrapped layer's output with normalised kernels."""
        targets = self._built_targets()
        scope = Substitution([(t.kernel, self._normalized(t, bool(training))) for t in targets])
        with scope:
            outputs = self.layer(inputs, *args, **kwargs)
        scope.finish(self)
        return outputs

    @property
    def kernels(self) -> list[keras.Variable]:
        """The variables W that the optimizer trains, un-normalised."""
        return [target.kernel for target in self._built_targets()]

    @property
    def kernel(self) -> keras.Variable:
        """The first of ``kernels``."""
        return self.kernels[0]

    def normalized_weights(self) -> list[Tensor]:
        """The tensors W·norm/‖W‖ that inference computes with, in the order of ``kernels``."""
        return [self._normalized(target, False) for target in self._built_targets()]

    def to_plain(self) -> keras.Layer:
        """A copy of the wrapped layer that holds the normalised weights as its own: the same function."""
        values = {id(t.kernel): self._normalized(t, False) for t in self._built_targets()}
        layer, config = type(self.layer).from_config(self.layer.get_config()), self.layer.get_build_config()
        _call_where_wanted(layer, (config or {}).get("input_shape"))
        layer.build_from_config(config)
        for new, old in zip(layer.variables, self.layer.variables, strict=True):
            new.assign(ops.copy(values.get(id(old), old.value)))  # JAX may donate, and delete, shared arrays
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

    def _built_targets(self) -> tuple[Target, ...]:
        if not self.built:
            raise ValueError(f"The layer must be built or called first. Received: {self.name!r}, not built")
        for target in self._targets.items:
            _check_plain(target.owner)
        return self._targets.items

    def _normalized(self, target: Target, training: bool) -> Tensor:
        kernel = ops.cast(target.kernel.value, wide_dtype(target.kernel))
        size = self._size(target, kernel, training and self.trainable and self.layer.trainable)
        large = size > (self.norm if self.shrink_only else 0.0)  # else, as for a zero kernel, the factor is 1
        factor = self.norm / ops.where(large, size, self.norm)
        return ops.cast(scaled(kernel, factor), target.kernel.dtype)

    def _target(self, index: int, owner: keras.Layer, kernel: keras.Variable) -> Target:
        return Target(owner, kernel)

    def _size(self, target: Target, kernel: Tensor, update: bool) -> Tensor:
        raise NotImplementedError


def _find_weights(
    layer: keras.Layer, names: Sequence[str] | None
) -> list[tuple[keras.Layer, keras.Variable]]:
    """(owner, variable) of every weight in the layer and its sublayers whose name is among ``names``."""
    wanted, seen, found = set(names or KERNELS), set(), {}
    for owner in layer._flatten_layers():
        for attribute, value in _own_weights(owner):
            if wanted & {value.name, attribute}:
                found[id(value)] = (owner, _checked(owner, value))
                seen |= {value.name, attribute}
    missing = sorted(wanted - seen)
    if not found or (names and missing):
        raise ValueError(
            f"The layer must have a weight of the names {', '.join(map(repr, missing))}; give weight_names to name "
            f"your own. Received: {type(layer).__name__} with {[w.name for w in layer.weights]}"
        )
    return list(found.values())


def _own_weights(owner: keras.Layer) -> list[tuple[str, keras.Variable]]:
    """(attribute, variable) of the layer's own weights; what it keeps in a list or dictionary has its name alone."""
    attributes = [(name, value) for name, value in vars(owner).items() if isinstance(value, keras.Variable)]
    known = {id(value) for _, value in attributes}
    kept = [*owner._trainable_variables, *owner._non_trainable_variables]
    return attributes + [(value.name, value) for value in kept if id(value) not in known]


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"weight_names must be a sequence of names. Received: {names!r}")
    if not names:
        raise ValueError(f"weight_names must hold a name, or be None for the usual ones. Received: {names!r}")
    return tuple(names)


def _checked(owner: keras.Layer, kernel: keras.Variable) -> keras.Variable:
    _check_plain(owner)
    if "float" not in kernel.dtype:
        raise TypeError(f"A kernel must be floating point. Received: {kernel.path!r} of dtype {kernel.dtype}")
    if 0 in kernel.shape:
        raise ValueError(f"A kernel must not be empty. Received: {kernel.path!r} of shape {kernel.shape}")
    value = ops.convert_to_tensor(kernel.value)
    if is_concrete(value) and not np.isfinite(ops.convert_to_numpy(value)).all():
        raise ValueError(f"A kernel must be finite. Received: {kernel.path!r} with NaN or infinite entries")
    return kernel


def _check_plain(owner: keras.Layer) -> None:
    """Both compute with another kernel than the one that is substituted: a normalised layer would not be one."""
    mode = getattr(owner, "quantization_mode", None)
    if mode is not None or getattr(owner, "lora_enabled", False):
        raise ValueError(
            "A layer with quantization or LoRA cannot be normalised: apply either to the plain layer that "
            f"to_plain() returns. Received: {owner.name!r} with {'LoRA' if mode is None else mode}"
        )


def wide_dtype(kernel: keras.Variable) -> str:
    return "float64" if kernel.dtype == "float64" else "float32"


def _wants_shapes(layer: keras.Layer) -> bool:
    """Whether ``build`` takes several shapes, as that of attention does."""
    parameters = inspect.signature(layer.build).parameters.values()
    return not layer.built and sum(p.default is p.empty for p in parameters) > 1


def _wants_call(layer: keras.Layer) -> bool:
    """Whether a call alone builds the sublayers, ``build`` being Keras's own, which builds none."""
    default = type(layer).build is keras.Layer.build
    return default and not all(sublayer.built for sublayer in layer._flatten_layers(include_self=False))


def _call_where_wanted(layer: keras.Layer, input_shape: Any) -> None:
    if _wants_call(layer):
        layer(keras.tree.map_shape_structure(keras.KerasTensor, input_shape))


def _symbolic(arguments: Any) -> Any:
    def replace(x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype) if hasattr(x, "shape") else x

    return keras.tree.map_structure(replace, arguments)
