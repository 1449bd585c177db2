"""Attention and its gradient, of arrays on a GPU, of the arguments that operators have."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

from ._arrays import compute_name, dense, dtype_name, empty, namespace_of, queue
from ._arrays import workspace as bytes_for
from ._attention_parts import attention_in_parts, suits
from ._attention_sequences import (
    Placed,
    as_written,
    band,
    by_head,
    detached,
    in_pieces,
    in_pieces_of_keys,
    placed,
    sequences_of,
)
from ._device import kernels

# `a` below is logitkit._attention._arguments.Arguments, in whose shapes results are, too.

_CHUNK = 2**26  # elements of scores that are stored at a time


class AttentionArrays(NamedTuple):
    """The results of attention; all but the output None where they are not wanted."""

    output: Any
    logsumexp: Any
    entropy: Any
    max_logit: Any


class GradientArrays(NamedTuple):
    """The gradient of attention; None for what is not wanted, or not there."""

    query: Any
    key: Any
    value: Any
    bias: Any
    scale: Any
    sinks: Any


_STATS = AttentionArrays._fields[1:]


def attention(a: Any, *, stats: Collection[str] = _STATS) -> AttentionArrays:
    """
    Return the results: the output in the type of the query, and `stats` of its rows.

    Without the entropy a faster kernel serves where nothing but a window hides keys.
    """
    at = placed(a)
    rows = tuple(a.query.shape[:-1])
    # Of packed arrays rows may belong to no sequence.
    new = empty if a.cu_seqlens_q is None else _zeros
    kind = compute_name(a.query)
    found = AttentionArrays(
        new((*rows, a.value.shape[-1]), dtype_name(a.query), a.query),
        *(new(rows, kind, a.query) if name in stats else None for name in _STATS),
    )
    out, logsumexp, entropy, max_logit = (by_head(x, a) for x in found)
    options, sinks = _options(a, at), _of_heads(a, "sinks", at)
    if suits(a, at):
        attention_in_parts(a, at, (out, logsumexp, entropy, max_logit), options, sinks)
        return found
    if a.cu_seqlens_q is not None:
        options |= in_pieces(options["sequences"], at)
    queue(
        kernels().attention,
        at.query,
        at.key,
        at.value,
        by_head(a.scale, a),
        out,
        **options,
        sinks=sinks,
        block_table=at.block_table,
        logsumexp=logsumexp,
        entropy=entropy,
        max_logit=max_logit,
    )
    views = (out, logsumexp, entropy, max_logit)
    return AttentionArrays(*(as_written(x, of, a) for x, of in zip(found, views, strict=True)))


def attention_gradient(
    a: Any,
    results: tuple[Any, Any, Any],
    grad_output: Any,
    grad_logsumexp: Any = None,
    grad_entropy: Any = None,
    *,
    wants_bias: bool = False,
) -> GradientArrays:
    """
    Return the gradient, given the output, log-sum-exp and entropy, which are constants.

    Those of `bias`, `scale` and `sinks` are in the type that is computed in.
    """
    at, kind = placed(a), compute_name(a.query)
    incoming = _Incoming(
        *(by_head(x, a, dtype_name(a.query)) for x in (results[0], grad_output)),
        *(by_head(x, a, kind) for x in (*results[1:], grad_logsumexp, grad_entropy)),
    )
    query, key, value = (
        _zeros(tuple(x.shape), dtype_name(x), x) for x in (a.query, a.key, a.value)
    )
    scale = _zeros(tuple(a.scale.shape), kind, a.query)
    outgoing = tuple(by_head(x, a) for x in (query, key, value, scale))
    bias = None
    given = (query, key, value, scale)
    if wants_bias:
        bias = _of_bias(a, at, incoming, outgoing)
    else:
        _pull_back(a, at, incoming, outgoing, None)
    sinks = None if a.sinks is None else _of_sinks(_of_heads(a, "sinks", at), incoming)
    query, key, value, scale = (as_written(x, of, a) for x, of in zip(given, outgoing, strict=True))
    return GradientArrays(query, key, value, bias, scale, sinks)


def visible_keys(a: Any) -> Any:
    """Return how many keys each row sees, in int64."""
    at, xp = placed(a), namespace_of(a.query)
    batches, heads, length = at.shape
    if math.prod(at.shape) == 0:
        return empty(tuple(a.query.shape[:-1]), "int64", a.query)
    begin, end = band(a, at)
    counts = (end - begin)[:, None, :]
    laid_over = [x for x in (a.mask, a.bias) if x is not None]
    if laid_over:
        keys = at.key.shape[2]
        width = max(x.shape[1] for x in laid_over)
        step = max(1, _CHUNK // max(1, batches * width * keys))
        column = xp.arange(keys, device=a.query.device)
        parts = []
        for i in range(0, length, step):
            rows = slice(i, i + step)
            seen = (column >= begin[:, None, rows, None]) & (column < end[:, None, rows, None])
            for x in laid_over:
                own = x if x.shape[2] == 1 else x[:, :, rows]
                seen = seen & (own if dtype_name(own) == "bool" else own != -math.inf)
            parts.append(xp.sum(seen, axis=-1, dtype=xp.int64))
        counts = xp.concat(parts, axis=-1)
    counts = xp.broadcast_to(counts, (batches, heads, length))
    if a.cu_seqlens_q is not None:
        counts = xp.permute_dims(counts[0], (1, 0))
    return dense(counts)


class _Incoming(NamedTuple):
    """What the kernel reads beside the arguments: (batch, head, row), and dims of the first two."""

    output: Any
    grad_output: Any
    logsumexp: Any
    entropy: Any
    grad_logsumexp: Any
    grad_entropy: Any

    def batches(self, part: slice) -> _Incoming:
        return _Incoming(*(None if x is None else x[part] for x in self))


def _zeros(shape: tuple[int, ...], dtype: str, like: Any) -> Any:
    xp = namespace_of(like)
    return xp.zeros(shape, dtype=getattr(xp, dtype), device=like.device)


def _options(a: Any, at: Placed) -> dict[str, Any]:
    """Return what both kernels take."""
    options: dict[str, Any] = {
        "left": a.left,
        "right": a.right,
        "softcap": a.softcap,
        "slopes": _of_heads(a, "slopes", at),
        "mask": None if a.mask is None else detached(a.mask),
        "terms": None if a.bias is None else detached(a.bias),
    }
    length = at.query.shape[2]
    given = (a.query_offsets, a.key_lengths, a.cu_seqlens_q, a.block_table)
    if all(x is None for x in given):  # sequence b is all of batch b
        return {**options, "offset": (at.capacity - length) * int(a.lower_right)}
    # How long the longest sequence is would have to be read: it is no longer than this.
    return {**options, "sequences": sequences_of(a, at), "longest": (length, at.capacity)}


def _of_heads(a: Any, name: str, at: Placed) -> Any:
    x, heads = getattr(a, name), at.shape[1]
    if x is None:
        return None
    if tuple(x.shape) != (heads,):
        raise ValueError(
            f"expected {name} of {heads} real numbers, one a head, not of shape {tuple(x.shape)}"
        )
    return dense(x)


def _pull_back(
    a: Any, at: Placed, incoming: _Incoming, outgoing: tuple[Any, ...], grad_logits: Any
) -> None:
    """Call the kernel, which writes into the gradients of query, key, value and scale."""
    if math.prod(at.shape) == 0 or at.capacity == 0:
        return  # all gradients are 0
    query, key, value, scale = outgoing
    options = _options(a, at)
    if a.cu_seqlens_q is not None:
        whole = options["sequences"]
        options |= {**in_pieces(whole, at), **in_pieces_of_keys(whole, at)}
    queue(
        kernels().attention_gradient,
        at.query,
        at.key,
        at.value,
        by_head(a.scale, a),
        incoming.output,
        incoming.grad_output,
        incoming.logsumexp,
        query,
        key,
        value,
        bytes_for(kernels().attention_gradient_workspace(math.prod(at.shape)), at.query),
        **options,
        entropy=incoming.entropy,
        grad_logsumexp=incoming.grad_logsumexp,
        grad_entropy=incoming.grad_entropy,
        grad_scale=scale,
        grad_logits=grad_logits,
    )


def _of_bias(a: Any, at: Placed, incoming: _Incoming, outgoing: tuple[Any, ...]) -> Any:
    """Return the gradient of the bias, and write the others; scores are stored by the chunk."""
    xp, kind = namespace_of(at.query), compute_name(at.query)
    batches, heads, length = at.shape
    keys, shape = at.capacity, tuple(a.bias.shape)
    if shape == (batches, heads, length, keys):
        bias = _zeros(shape, kind, at.query)
        _pull_back(a, at, incoming, outgoing, bias)
        return bias
    axes = tuple(k for k in range(4) if shape[k] == 1)  # along which it is broadcast
    parts = []
    step = max(1, _CHUNK // max(1, heads * length * keys))
    for b in range(0, batches, step):
        part = slice(b, b + step)
        own = _batches(a, part)
        own_at = placed(own)
        logits = _zeros((*own_at.shape, keys), kind, at.query)
        own_outgoing = tuple(x[part] for x in outgoing)
        _pull_back(own, own_at, incoming.batches(part), own_outgoing, logits)
        parts.append(xp.sum(logits, axis=axes, dtype=xp.float64, keepdims=True))
    if not parts:
        return _zeros(shape, kind, at.query)
    total = xp.concat(parts) if shape[0] > 1 else sum(parts[1:], parts[0])
    return xp.astype(total, getattr(xp, kind))


def _batches(a: Any, part: slice) -> Any:
    """Return the arguments of some batches, neither packed nor paged."""
    names = ("query", "key", "value", "mask", "bias", "scale", "query_offsets", "key_lengths")
    given = {name: x for name in names if (x := getattr(a, name)) is not None}
    return a._replace(
        **{
            name: x if name in ("mask", "bias") and x.shape[0] == 1 else x[part]
            for name, x in given.items()
        }
    )


def _of_sinks(sinks: Any, incoming: _Incoming) -> Any:
    r"""
    Return the gradient of the sinks.

    :math:`\sum_i p_{is} (G^L_i - \langle o_i, G_i \rangle - G^H_i (H_i + \log p_{is}))`, for a
    sink `s` whose value is 0.
    """
    xp = namespace_of(sinks)
    kind = sinks.dtype

    def wide(x: Any) -> Any:
        return 0.0 if x is None else xp.astype(x, xp.float64)

    sink, logsumexp = wide(sinks)[:, None], wide(incoming.logsumexp)
    there = xp.isfinite(sink) & xp.isfinite(logsumexp)  # -inf - -inf would be NaN
    log_p = xp.where(there, sink - logsumexp, xp.zeros_like(logsumexp))
    products = xp.astype(incoming.output, kind) * xp.astype(incoming.grad_output, kind)
    terms = wide(incoming.grad_logsumexp) - xp.sum(products, axis=-1, dtype=xp.float64)
    if incoming.grad_entropy is not None:
        terms = terms - wide(incoming.grad_entropy) * (wide(incoming.entropy) + log_p)
    terms = xp.where(there, xp.exp(log_p) * terms, xp.zeros_like(terms))
    return xp.astype(xp.sum(terms, axis=(0, 2)), kind)
