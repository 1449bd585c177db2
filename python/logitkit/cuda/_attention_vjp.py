"""The gradient of attention of arrays on a GPU."""

from __future__ import annotations

import math
from typing import Any

from ..reference import AttentionGradients, AttentionResult
from ..reference._attention_scale import AttentionScale
from . import _attention
from ._arrays import dtype_name, is_immutable, namespace_of, with_wide_types
from ._attention_arguments import Lowered, lowered_arguments, with_heads


@with_wide_types
def attention_vjp(
    query: Any,
    key: Any,
    value: Any,
    grad_output: Any,
    /,
    *,
    grad_logsumexp: Any = None,
    grad_entropy: Any = None,
    result: AttentionResult | None = None,
    **options: Any,
) -> AttentionGradients:
    """
    Gradient of attention of arrays on a GPU.

    Parameters
    ----------
    query, key, value : array on a GPU
        As for `attention`.
    grad_output : array, shape of the output
        The gradient that comes in, converted to the type of `query`.
    grad_logsumexp, grad_entropy : array, shape of the output without its last axis, optional
        The gradients with respect to the log-sum-exp and the entropy. Default: 0.
    result : AttentionResult, optional
        What `attention_with_stats` gave for the same arguments, if it is at hand.
    **options
        As for `attention`; there is no `block_table`.

    Returns
    -------
    AttentionGradients
        A named tuple of arrays, as :func:`logitkit.attention_vjp` explains.

    Raises
    ------
    TypeError
        If an argument is not of the right type, or `scale` is a schedule with a parameter.
    ValueError
        If shapes do not fit each other, or a window or threshold is out of range.

    See Also
    --------
    logitkit.attention_vjp : The same for arrays in main memory.
    """
    if options.get("block_table") is not None:
        raise ValueError("expected no block_table: a paged cache has no gradients")
    bias, scale = options.get("bias"), options.get("scale")
    if isinstance(scale, AttentionScale) and (
        type(scale)._pull_back is not AttentionScale._pull_back
    ):
        raise TypeError(
            "the parameter of a schedule has no gradient on a GPU: pass the scale of each row"
        )
    lowered = lowered_arguments(query, key, value, **options)
    a = lowered.arguments
    xp = namespace_of(query)
    if bias is not None and is_immutable(query):  # nothing writes into a part of its gradient
        a = a._replace(bias=xp.broadcast_to(a.bias, (*a.query.shape[:-1], a.key.shape[-2])))
    if result is None:
        found = _attention.attention(a, stats=("logsumexp", "entropy"))
        results = (found.output, found.logsumexp, found.entropy)
    else:
        results = (
            _of_rows(result.output, a, 1),
            _of_rows(result.logsumexp, a),
            _of_rows(result.entropy, a),
        )
    g = _attention.attention_gradient(
        a,
        results,
        _of_rows(grad_output, a, 1),
        _of_rows(grad_logsumexp, a),
        _of_rows(grad_entropy, a),
        wants_bias=bias is not None,
    )
    full = (*lowered.rows, a.key.shape[-2])
    grad_query, grad_key, grad_value = (
        _summed(of, lowered.lead, tuple(x.shape), dtype_name(x))
        for of, x in ((g.query, query), (g.key, key), (g.value, value))
    )
    return AttentionGradients(
        grad_query,
        grad_key,
        grad_value,
        bias=None
        if bias is None
        else _summed(
            g.bias,
            lowered.lead,
            with_heads(tuple(bias.shape), full, lowered.lead),
            dtype_name(bias),
        ).reshape(tuple(bias.shape)),
        sinks=None if g.sinks is None else xp.astype(g.sinks, xp.float64),
        scale=None
        if scale is None or isinstance(scale, AttentionScale)
        else _of_scale(g.scale, scale, lowered),
    )


def _of_rows(x: Any, a: Any, dims: int = 0) -> Any:
    """Return an array of the caller's rows as the kernel takes it; `dims` axes are no rows."""
    if x is None:
        return None
    return x.reshape((*a.query.shape[:-1], *x.shape[x.ndim - dims :]))


def _summed(x: Any, lead: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """Return a gradient in the shape that was given, summed over what it was broadcast to."""
    if tuple(x.shape) == shape:
        return namespace_of(x).astype(x, getattr(namespace_of(x), dtype))
    batches = lead if x.shape[0] == math.prod(lead) else (1,) * len(lead)
    return _broadcast_back(x.reshape((*batches, *x.shape[1:])), shape, dtype)


def _broadcast_back(x: Any, shape: tuple[int, ...], dtype: str) -> Any:
    xp = namespace_of(x)
    padded = (*(1 for _ in range(x.ndim - len(shape))), *shape)
    axes = tuple(k for k in range(x.ndim) if padded[k] == 1 and x.shape[k] != 1)
    if axes:
        x = xp.sum(x, axis=axes, dtype=xp.float64, keepdims=True)
    return xp.astype(x, getattr(xp, dtype)).reshape(shape)


def _of_scale(x: Any, scale: Any, lowered: Lowered) -> Any:
    """Return the gradient of the scale in its shape, given that of each row's."""
    xp, shape = namespace_of(x), tuple(getattr(scale, "shape", ()))
    if isinstance(scale, (list, tuple)):
        shape = (len(scale),)
    x = xp.astype(x, xp.float64)
    if len(shape) >= 2:
        return _broadcast_back(x.reshape(lowered.rows), shape, "float64")
    if shape in ((), (1,)):
        return xp.sum(x).reshape(shape)
    return xp.sum(x, axis=tuple(k for k in range(x.ndim) if k != 1))
