"""A proven upper bound of a model's Lipschitz constant: what is asked, checked and answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras

from lipnb.bound_table import LipschitzBound
from lipnb.bound_walk import Walk, run
from lipnb.conv_norms import check_tolerance
from lipnb.finite import check_parameters, check_weights
from lipnb.graph import functional_graph

__all__ = ["lipschitz_bound"]

UserRules = Mapping[type, Callable[[Any, tuple], float]]


def lipschitz_bound(
    model: keras.Model,
    *,
    exact: bool | Literal["auto"] = "auto",
    rtol: float = 1e-6,
    rules: UserRules | None = None,
) -> LipschitzBound:
    """Proven upper bound of sup ‖f(x) − f(y)‖ / ‖x − y‖ over all x ≠ y, with a row for each layer.

    Parameters
    ----------
    model
        Built Sequential or functional model, seen at inference, ``model(x, training=False)``; several inputs or
        outputs count as one vector. An integer input that feeds only Embedding layers counts as one-hot vectors.
    exact
        Convolutions: ``"auto"`` takes an SVD of the small and pointwise ones and ``conv_norm_bound`` of the others,
        False always the latter. True takes ``conv_norm`` enlarged by ``rtol``: tighter and slower, and certain
        but for the improbable start that its guarantee names.
    rtol
        Relative tolerance of ``exact=True``, from 1e-9 to below 1.
    rules
        For your own layer class, a function of the layer and its input shape (without the batch) that
        returns a proven constant: ``{MyLayer: lambda layer, shape: 2.0}``. It goes before lipnb's rule.

    Returns
    -------
    LipschitzBound
        ``float(result)`` is the bound; infinite where a layer has no global constant or is unknown, and then
        ``result.reasons`` names the layer and the reason. See :class:`lipnb.LipschitzBound`.

    Guarantee
    ---------
    Upper bound for the model in exact arithmetic; rounding (of the model itself, and of float64 here, about
    1e-13 for each layer) is not included. Where an input leaves a size open, the bound holds at every size at which
    branches that are joined have equal shapes.

    Raises
    ------
    TypeError, ValueError
        Where the model is not a Keras model, is subclassed or not built, or has weights or parameters of layers
        that are not finite, or a variance below 0; for exact, rtol or rules that are not as above.

    Source
    ------
    Szegedy et al. 2014 (arXiv 1312.6199), section 4.3, for chains of layers; Gouk et al. 2021 (arXiv 1804.04368)
    for pooling, residuals and batch normalization; this book, chapter "The Lipschitz constraint, from one layer to
    a network".

    Example
    -------
    >>> stack = [keras.layers.Dense(n, kernel_initializer="ones") for n in (3, 1)]
    >>> model = keras.Sequential([keras.Input((2,)), *stack])
    >>> bound = lipnb.lipschitz_bound(model)
    >>> [round(row.constant, 4) for row in bound.rows], round(float(bound), 4)
    ([2.4495, 1.7321], 4.2426)
    """
    graph = functional_graph(model)
    if not (isinstance(exact, bool) or (isinstance(exact, str) and exact == "auto")):
        raise ValueError(f'exact must be True, False or "auto". Received: {exact!r}')
    walk = Walk(_checked_rules(rules), exact, check_tolerance(rtol))
    check_weights(model)
    check_parameters(model, walk.rules)
    value = run(walk, graph)
    return LipschitzBound(value, model.name, tuple(walk.rows))


def _checked_rules(rules: Any) -> dict[type, Callable[[Any, tuple], float]]:
    given = {} if rules is None else rules
    if not isinstance(given, Mapping) or not all(
        isinstance(k, type) and callable(f) for k, f in given.items()
    ):
        raise TypeError(
            f"rules must map layer classes to functions of a layer and its input shape. Received: {rules!r}"
        )
    return dict(given)
