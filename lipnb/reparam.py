"""Wrappers that make a layer compute with W·norm/‖W‖ in place of W: a true reparametrisation on every backend.

The wrapped layer runs with its kernel's value substituted, so that the loss is a function of W through
W/σ(W) and the gradient has σ's part. Only the optimizer writes the kernel.

When do u and v advance? A training loss calls a critic several times (real, fake, penalty) and all calls must
see one kernel, so u must not advance at each call; and no hook tells a layer that the optimizer has stepped.
The stored pair itself tells: after an update u = Wv/‖Wv‖, so a training call that finds this still true (to
rounding) knows that W has not moved and uses u, v as they are; a call that finds it broken advances them by
``n_iter`` iterations and stores them. The first training call after an optimizer step advances, the others
agree with it. Inference uses the stored pair and stores nothing: in a loss, let the training calls come first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
from keras import ops

from lipnb.checks import check_choice, check_count, check_flag
from lipnb.operators import advance, iterate, kernel_map, singular_value, start_vectors
from lipnb.wrapper import KernelNormalization, Target, wide_dtype

__all__ = ["FrobeniusNormalization", "SpectralNormalization"]

Tensor = Any
WARM_UP = 15  # power iterations at build, torch's choice


@keras.saving.register_keras_serializable(package="lipnb")
class SpectralNormalization(KernelNormalization):
    """Spectral normalization: run a layer with W·norm/σ(W) in place of each of its kernels W.

    σ = ⟨u, Wv⟩ with u, v from warm-started power iteration and held fixed in the gradient, so that
    ∂σ/∂W = uvᵀ. W stands for a matrix, (−1, shape[-1]) where the layer's kind does not suggest another one
    (``help(lipnb.operators.kernel_map)`` lists them), or for the operator; of a block-diagonal one (groups,
    depthwise) σ is the largest block's. A zero W stays zero and is normalised as soon as it leaves zero. σ is
    computed in float32 (float64 for a float64 kernel) under any dtype policy.

    Parameters
    ----------
    layer
        Layer with kernels: Dense, EinsumDense, Embedding, all convolutions, RNN layers, MultiHeadAttention,
        layers made of these, or any layer whose weights are named in ``weight_names``.
    n_iter
        Power iterations after each optimizer step, at the first call with ``training=True``.
    operator
        Normalise a convolution's linear operator at its input size instead of its reshaped kernel.
    norm
        The norm to give to each kernel, above 0.
    shrink_only
        Leave a kernel with σ ≤ norm as it is: W·min(1, norm/σ).
    weight_names
        Names (of variable or attribute) of the weights to normalise, in the layer and its sublayers; by
        default kernel, recurrent_kernel, depthwise_kernel, pointwise_kernel and embeddings.
    u_initializer, seed
        Start of u: ``random`` (Gaussian, the same for a seed on every backend) or ``ones``; 15 iterations
        follow at build.
    power_iterations
        Keras's name for ``n_iter``.
    kwargs
        name and trainable, as for any layer; the wrapped layer's dtype policy is kept.

    State
    -----
    u and v for each kernel, not trainable, saved with the model. ``trainable=False`` freezes W, u, v. The first call
    with ``training=True`` after an optimizer step moves them on, so in one loss let the training call come first: a
    call at inference before it, such as that of :class:`lipnb.gradient_penalty`, sees the kernel with the old u and v.

    Guarantee
    ---------
    σ is a lower bound of the norm, so the normalised kernel's norm is at least ``norm`` (up to rounding, and
    unless shrink_only), and tends to it as the iteration converges: close it with ``update_vectors``. It can exceed
    ``norm`` by much while W changes fast (a large learning rate, weights set by hand) or where u is nearly
    orthogonal to a new top direction, since one warm iteration a step then lags behind. To see by how much, take
    ``lipschitz_bound`` of the model, which measures the normalised kernels anew, or for a dense kernel or a plain
    convolution ``spectral_norm`` of the ``normalized_weights()``, reshaped to (−1, shape[-1]); a larger ``n_iter``
    makes σ follow sooner. Where a change leaves u and v singular vectors, though not the top ones, training takes the
    kernel for unmoved and does not iterate before another change: call ``update_vectors`` after setting weights by hand.

    Raises
    ------
    ValueError, TypeError
        For bad arguments, a recurrent cell (wrap the layer around it); at build, for a layer without such
        weights, weights that are empty, not finite, of rank 1 or of an integer dtype, for ``operator`` without a
        static input size; for reading kernels of a layer that is not built; for a layer that was quantized or
        given LoRA, which is for the plain layer that ``to_plain()`` returns.

    Source
    ------
    Miyato et al. 2018 (arXiv 1802.05957), Algorithm 1 and eq. 12; this book, chapter "Spectral normalization in
    Keras, wrong and right".

    Example
    -------
    >>> dense = keras.layers.Dense(3, kernel_initializer="ones")
    >>> layer = lipnb.SpectralNormalization(dense)
    >>> layer.build((None, 4))
    >>> trained, used = layer.kernel, layer.normalized_weights()[0]
    >>> [round(lipnb.spectral_norm(w), 4) for w in (trained, used)]
    [3.4641, 1.0]
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
        self.operator = check_flag(operator, "operator")
        self.u_initializer = check_choice(u_initializer, "u_initializer", ("random", "ones"))
        self.seed = check_count(seed, "seed", minimum=0)

    def update_vectors(self, n_iter: int = WARM_UP) -> None:
        """Run ``n_iter`` power iterations on the current kernels, as after setting weights by hand."""
        n_iter = check_count(n_iter, "n_iter")
        for target in self._built_targets():
            kernel = ops.cast(target.kernel.value, target.u.dtype)
            u, v = _vectors(target)
            self._store(target, *iterate(target.mapping, kernel, u, v, n_iter))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"n_iter": self.n_iter, "operator": self.operator, "u_initializer": self.u_initializer}
        return {**super().get_config(), **own, "seed": self.seed}

    def _target(self, index: int, owner: keras.Layer, kernel: keras.Variable) -> Target:
        mapping = kernel_map(owner, kernel, self.operator)
        start = start_vectors(mapping, self.u_initializer, (self.seed, index))

        def vector(name: str, position: int) -> keras.Variable:
            def warm(shape: Any, dtype: Any) -> Tensor:
                value, u, v = (ops.cast(x, dtype) for x in (ops.convert_to_tensor(kernel.value), *start))
                return _taped(lambda: iterate(mapping, value, u, v, WARM_UP)[position], value)

            return self.add_weight(
                name=f"{name}_{index}",
                shape=start[position].shape,
                initializer=warm,
                dtype=wide_dtype(kernel),
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",  # all replicas compute the same
            )

        return Target(owner, kernel, mapping, vector("u", 0), vector("v", 1))

    def _size(self, target: Target, kernel: Tensor, update: bool) -> Tensor:
        u, v = _vectors(target)
        if not update:
            return singular_value(target.mapping, kernel, u, v)
        size, u, v = advance(target.mapping, kernel, u, v, self.n_iter)
        self._store(target, u, v)
        return size

    @staticmethod
    def _store(target: Target, u: Tensor, v: Tensor) -> None:
        target.u.assign(u)
        target.v.assign(v)


@keras.saving.register_keras_serializable(package="lipnb")
class FrobeniusNormalization(KernelNormalization):
    """Run a layer with W·norm/‖W‖_F in place of each of its kernels W; the gradient flows through ‖W‖_F.

    Parameters
    ----------
    layer, norm, shrink_only, weight_names
        As for :class:`lipnb.SpectralNormalization`, and so are ``kernels``, ``normalized_weights`` and ``to_plain``.
        There is no state beyond the layer's own.

    Guarantee
    ---------
    The kernel's Frobenius norm is ``norm`` (at most ``norm`` with shrink_only) to rounding, hence ‖W‖₂ ≤ norm
    for the kernel as a matrix. A zero kernel stays zero.

    Raises
    ------
    ValueError, TypeError
        As for :class:`lipnb.SpectralNormalization`.

    Source
    ------
    Salimans & Kingma 2016 (arXiv 1602.07868) for each column; Miyato et al. 2018 (arXiv 1802.05957), Table 7, for
    all.

    Example
    -------
    >>> dense = keras.layers.Dense(3, kernel_initializer="ones")
    >>> layer = lipnb.FrobeniusNormalization(dense, norm=2.0)
    >>> layer.build((None, 4))
    >>> trained, used = layer.kernel, layer.normalized_weights()[0]
    >>> [round(lipnb.frobenius_norm(w), 4) for w in (trained, used)]
    [3.4641, 2.0]
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

    def _size(self, target: Target, kernel: Tensor, update: bool) -> Tensor:
        largest = ops.stop_gradient(ops.max(ops.abs(kernel)))
        scale = ops.where(largest > 0, largest, 1.0)  # squares of tiny or huge entries would leave the range
        square = ops.sum(ops.square(kernel / scale))
        return ops.where(largest > 0, scale * ops.sqrt(ops.where(largest > 0, square, 1.0)), 0.0)


def _vectors(target: Target) -> tuple[Tensor, Tensor]:
    # Copies: PyTorch assigns in place, under the feet of a gradient that still needs the old values.
    return ops.copy(target.u.value), ops.copy(target.v.value)


def _taped(function: Callable[[], Tensor], value: Tensor) -> Tensor:
    """``function()``. TensorFlow pauses gradient tapes on the thread that initialises a variable: use another."""
    if keras.backend.backend() != "tensorflow" or not hasattr(value, "numpy"):
        return function()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()
