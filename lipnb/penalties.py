"""Penalties on the gradient of a critic with respect to its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from lipnb.autodiff import input_gradient
from lipnb.checks import check_choice, check_positive, float_tensor

__all__ = ["gradient_penalty", "input_gradient_norm"]

Tensor = Any


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Any,
    fake: Any,
    *,
    kind: str = "two_sided",
    at: str = "between",
    seed: int | keras.random.SeedGenerator | None = None,
    eps: Any = None,
    perturbation: float = 0.5,
) -> Tensor:
    """Mean over the batch of a penalty on ‖∇critic(x̂)‖, to be multiplied by a strength and added to a loss.

    Parameters
    ----------
    critic
        Built Keras model or layer, called with ``training=False`` (so no batch-norm statistics and no stored
        vectors change), or any function of a batch. It must treat samples independently (no batch norm with
        batch statistics), or ‖g‖ is not the gradient norm of one sample. Call a critic with
        ``SpectralNormalization`` in training first: a penalty before that sees its kernels with the old u and v.
    real, fake
        Floating-point batches (batch, ...), of one shape for ``between`` and of one sample's shape else; of two
        dtypes (a generator in half precision) the wider is taken.
    kind
        With g = ∇critic(x̂): ``two_sided`` (‖g‖ − 1)², ``one_sided`` relu(‖g‖ − 1)², ``one_sided_linear``
        relu(‖g‖ − 1).
    at
        ``between``: x̂ = ε·real + (1 − ε)·fake, one ε ~ U[0, 1) per sample; ``real``: x̂ = real + perturbation·s·ε with
        s the standard deviation of all entries of real and one ε ~ N(0, 1) per entry; ``fake``: x̂ = fake.
    seed
        Int (the same draw at every call) or a ``keras.random.SeedGenerator`` (a new draw at every call).
        One of seed and eps is needed where something is drawn.
    eps
        The draw itself, instead of seed: ``between`` (batch,) or broadcastable to real's shape, ``real``
        broadcastable to real's shape.
    perturbation
        Size of the step from the real samples for ``real``, at least 0; with 0, x̂ = real and nothing is drawn.

    Returns
    -------
    Scalar tensor
        Differentiable with respect to the critic's weights; its gradient is finite where ‖g‖ = 0.

    Guarantee
    ---------
    None on the Lipschitz constant: the norm is only penalised, and only at x̂.

    Raises
    ------
    TypeError, ValueError
        For a critic that is not built or cannot be called, batches that are not floating point, empty, of different
        shapes or (arrays) not finite, an unknown kind or at, a negative perturbation, an eps of a wrong shape or
        where nothing is drawn, or a draw without seed and eps.

    Source
    ------
    Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3; for ``real``, Kodali et al. 2017 (DRAGAN, arXiv 1705.07215),
    with their Gaussian perturbation scaled by the data's standard deviation.

    Example
    -------
    >>> critic = lambda x: keras.ops.sum(x, axis=-1)  # its gradient is (1, 1)
    >>> real, fake = np.ones((8, 2), "float32"), np.zeros((8, 2), "float32")
    >>> penalty = lipnb.gradient_penalty(critic, real, fake, seed=0)
    >>> round(keras.ops.convert_to_numpy(penalty).item(), 4)  # (sqrt(2) - 1)²
    0.1716
    """
    check_choice(kind, "kind", ("two_sided", "one_sided", "one_sided_linear"))
    check_choice(at, "at", ("between", "real", "fake"))
    critic = _at_inference(critic, "critic")
    real, fake = _batches(real, fake, at)
    x = _points(real, fake, at, seed, eps, check_positive(perturbation, "perturbation", allow_zero=True))
    excess = input_gradient_norm(critic, x) - 1.0
    if kind == "two_sided":
        return ops.mean(excess**2)
    excess = ops.relu(excess)
    return ops.mean(excess**2 if kind == "one_sided" else excess)


def input_gradient_norm(model: Callable[[Tensor], Tensor], x: Any) -> Tensor:
    """Euclidean norm of the gradient of the summed output with respect to each input sample.

    Parameters
    ----------
    model
        Built Keras model or layer, called with ``training=False``, or any function of a batch; it must treat
        samples independently.
    x
        Floating-point batch (batch, ...).

    Returns
    -------
    Tensor
        (batch,), of float32, or float64 for such x; differentiable, with gradient 0 where the norm is 0.

    Guarantee
    ---------
    Exact to rounding at x; hence, for a scalar output, a lower bound of the model's Lipschitz constant.

    Raises
    ------
    TypeError, ValueError
        Where model is not built or cannot be called; where x is not floating point, a scalar or empty, or an array
        with NaN or infinite entries.

    Source
    ------
    This book, chapter "The Lipschitz constraint, from one layer to a network", for constant and slope.

    Example
    -------
    >>> x = np.float32([[3, 4], [0, 1]])
    >>> square = lambda x: keras.ops.sum(x**2, axis=-1)  # its gradient is 2x
    >>> norms = lipnb.input_gradient_norm(square, x)
    >>> keras.ops.convert_to_numpy(norms).round(4).tolist()
    [10.0, 2.0]
    """
    model, x = _at_inference(model, "model"), float_tensor(x, "x", rank=1)
    gradient = input_gradient(model, x)
    if keras.backend.standardize_dtype(gradient.dtype) != "float64":
        gradient = ops.cast(gradient, "float32")  # squares of half precision overflow at 256
    square = ops.sum(gradient**2, axis=tuple(range(1, len(gradient.shape))))
    zero = square == 0  # and not `square > 0`: NaN must stay NaN
    # The inner `where` keeps sqrt away from 0, whose infinite slope would turn into NaN.
    return ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, square)))


def _at_inference(model: Any, name: str) -> Callable[[Tensor], Tensor]:
    if not callable(model):
        raise TypeError(f"{name} must be a Keras model or a function. Received: {model!r}")
    if not isinstance(model, keras.Layer):
        return model
    if not model.built:  # its variables would be made inside of the gradient
        raise ValueError(
            f"{name} must be built: call it once, or give it an Input. Received: {model.name!r}, not built"
        )
    return lambda x: model(x, training=False)


def _batches(real: Any, fake: Any, at: str) -> tuple[Tensor, Tensor]:
    real, fake = float_tensor(real, "real"), float_tensor(fake, "fake")
    shapes = tuple(real.shape), tuple(fake.shape)
    sizes = {shape[0] for shape in shapes if shape and at == "between"} - {None}
    if len(shapes[0]) < 2 or shapes[0][1:] != shapes[1][1:] or len(sizes) > 1:
        raise ValueError(
            f"real and fake must have one shape (batch, ...). Received: {shapes[0]} and {shapes[1]}"
        )
    if real.dtype == fake.dtype:
        return real, fake
    dtype = keras.backend.result_type(*(keras.backend.standardize_dtype(x.dtype) for x in (real, fake)))
    return ops.cast(real, dtype), ops.cast(fake, dtype)


def _points(real: Tensor, fake: Tensor, at: str, seed: Any, eps: Any, perturbation: float) -> Tensor:
    if at == "fake" or (at == "real" and perturbation == 0):
        if eps is not None:
            raise ValueError(f"eps is a draw, and here nothing is drawn. Received: at={at!r} with eps")
        return fake if at == "fake" else real
    if at == "real":
        noise = _drawn(keras.random.normal, ops.shape(real), real, seed, eps)
        return real + perturbation * ops.std(real) * noise
    ones = (1,) * (len(real.shape) - 1)
    eps = _drawn(keras.random.uniform, (ops.shape(real)[0], *ones), real, seed, eps, ones)
    return eps * real + (1.0 - eps) * fake


def _drawn(
    draw: Callable, shape: Any, real: Tensor, seed: Any, eps: Any, ones: tuple[int, ...] = ()
) -> Tensor:
    if (seed is None) == (eps is None):
        raise ValueError(
            f"Give exactly one of seed and eps. Received: seed={seed!r}, eps={type(eps).__name__}"
        )
    if eps is None:
        return draw(shape, dtype=keras.backend.standardize_dtype(real.dtype), seed=seed)
    eps = ops.cast(float_tensor(eps, "eps"), real.dtype)
    if ones and len(eps.shape) == 1:
        eps = ops.reshape(eps, (-1, *ones))
    allowed = zip(reversed(eps.shape), reversed(real.shape), strict=False)
    if len(eps.shape) > len(real.shape) or any(n not in (1, None, m) and m is not None for n, m in allowed):
        raise ValueError(f"eps must fit the shape {tuple(real.shape)}. Received: shape {tuple(eps.shape)}")
    return eps
