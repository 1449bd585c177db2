"""Attention and its gradient, of arrays on a GPU, of the arguments that operators have."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .._attention._layout import check_together
from ._arrays import compute_name, dense, dense_rows, dtype_name, empty, namespace_of, queue
from ._arrays import workspace as bytes_for
from ._device import kernels

# `a` below is logitkit.torch._attention_operator.Arguments, in whose shapes results are, too.
#
# Nothing looks at lengths, offsets and blocks, as that would wait for the GPU. Those out of range
# are cut to what there is, so that nothing is read or written elsewhere; a range of rows that
# belongs to no sequence is 0. `clip` is the method of arrays: the function of array-api-compat
# waits in its older versions.

_FARTHEST = 2**60  # is far enough, and positions do not overflow
_CHUNK = 2**26  # elements of scores that are stored at a time
_PIECE = 128  # rows of a packed sequence: those that the largest tile of the kernel has


class _Placed(NamedTuple):
    """Arrays (batch, head, row, dim), and how many sequences they hold."""

    query: Any
    key: Any
    value: Any
    sequences: int
    capacity: int  # keys that a sequence may have
    block_table: Any

    @property
    def shape(self) -> tuple[int, int, int]:
        batches, heads, length, _ = self.query.shape
        return batches, heads, length


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


def attention(a: Any, *, stats: bool = True) -> AttentionArrays:
    """
    Return the results: the output in the type of the query, and statistics of its rows.

    Without statistics a faster kernel serves where nothing but a window hides keys.
    """
    at = _placed(a)
    rows = tuple(a.query.shape[:-1])
    # Of packed arrays rows may belong to no sequence.
    new = empty if a.cu_seqlens_q is None else _zeros
    kind = compute_name(a.query)
    found = AttentionArrays(
        new((*rows, a.value.shape[-1]), dtype_name(a.query), a.query),
        *(new(rows, kind, a.query) if stats else None for _ in range(3)),
    )
    out, logsumexp, entropy, max_logit = (_by_head(x, a) for x in found)
    options = _options(a, at)
    if a.cu_seqlens_q is not None:
        length = at.query.shape[2]
        options["sequences"] = _pieces(options["sequences"], length)
        options["longest"] = (min(_PIECE, length), at.capacity)
    queue(
        kernels().attention,
        at.query,
        at.key,
        at.value,
        _by_head(a.scale, a),
        out,
        **options,
        sinks=_of_heads(a, "sinks", at),
        block_table=at.block_table,
        logsumexp=logsumexp,
        entropy=entropy,
        max_logit=max_logit,
    )
    return found


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
    at, kind = _placed(a), compute_name(a.query)
    incoming = _Incoming(
        *(_by_head(x, a, dtype_name(a.query)) for x in (results[0], grad_output)),
        *(_by_head(x, a, kind) for x in (*results[1:], grad_logsumexp, grad_entropy)),
    )
    query, key, value = (
        _zeros(tuple(x.shape), dtype_name(x), x) for x in (a.query, a.key, a.value)
    )
    scale = _zeros(tuple(a.scale.shape), kind, a.query)
    outgoing = tuple(_by_head(x, a) for x in (query, key, value, scale))
    bias = None
    if wants_bias:
        bias = _of_bias(a, at, incoming, outgoing)
    else:
        _pull_back(a, at, incoming, outgoing, None)
    sinks = None if a.sinks is None else _of_sinks(_of_heads(a, "sinks", at), incoming)
    return GradientArrays(query, key, value, bias, scale, sinks)


def visible_keys(a: Any) -> Any:
    """Return how many keys each row sees, in int64."""
    at, xp = _placed(a), namespace_of(a.query)
    batches, heads, length = at.shape
    if math.prod(at.shape) == 0:
        return empty(tuple(a.query.shape[:-1]), "int64", a.query)
    begin, end = _band(a, at)
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


def _by_head(x: Any, a: Any, dtype: str | None = None) -> Any:
    """Return a view (batch, head, row, ...) of an array of rows, with dense columns."""
    if x is None:
        return None
    xp = namespace_of(x)
    x = x if dtype in (None, dtype_name(x)) else xp.astype(x, getattr(xp, dtype))
    x = dense_rows(x) if x.ndim > a.query.ndim - 1 else _detached(x)
    if a.cu_seqlens_q is None:
        return x
    return xp.permute_dims(x, (1, 0, *range(2, x.ndim)))[None, ...]


def _detached(x: Any) -> Any:
    return x.detach() if hasattr(x, "detach") else x


def _placed(a: Any) -> _Placed:
    packed, paged = a.cu_seqlens_q is not None, a.block_table is not None
    check_together(a.key_lengths, a.cu_seqlens_q, a.cu_seqlens_k, a.block_table)
    query, key, value = (dense_rows(x) for x in (a.query, a.key, a.value))
    xp = namespace_of(query)
    if packed:
        query = xp.permute_dims(query, (1, 0, 2))[None, ...]
    if paged:  # (blocks, size, heads, dim)
        key, value = (xp.permute_dims(x, (0, 2, 1, 3)) for x in (key, value))
    elif packed:
        key, value = (xp.permute_dims(x, (1, 0, 2))[None, ...] for x in (key, value))
    batches = a.cu_seqlens_q.shape[0] - 1 if packed else query.shape[0]
    table, capacity = None, key.shape[2]
    if paged:
        table = _table(a.block_table, batches, key.shape[0])
        capacity *= table.shape[1] if key.shape[0] else 0
    return _Placed(query, key, value, batches, capacity, table)


def _sequences(a: Any, at: _Placed) -> Any:
    """Return the rows of logitkit::Sequence: (sequence, 7), in int64."""
    xp, length = namespace_of(at.query), at.query.shape[2]
    batches, capacity = at.sequences, at.capacity
    if batches < 0 or (batches == 0 and a.cu_seqlens_q is not None and length > 0):
        raise ValueError(
            f"expected cu_seqlens_q to ascend from 0 to the {length} rows of query, not "
            f"{batches + 1} elements"
        )
    order = xp.arange(batches, dtype=xp.int64, device=at.query.device)
    zero, every = xp.zeros_like(order), xp.full_like(order, capacity)
    of_query, of_key = [order, zero, xp.full_like(order, length)], [order, zero, every]
    if a.cu_seqlens_q is not None:
        of_query = [zero, *_ranges("cu_seqlens_q", a.cu_seqlens_q, batches, length)]
    if a.cu_seqlens_k is not None:
        of_key = [zero, *_ranges("cu_seqlens_k", a.cu_seqlens_k, batches, capacity)]
    if a.key_lengths is not None:
        lengths = _integers("key_lengths", a.key_lengths, batches)
        of_key[2] = xp.minimum(lengths.clip(0, capacity), of_key[2])
    offsets = of_key[2] - of_query[2] if a.lower_right else zero
    if a.query_offsets is not None:
        offsets = _integers("query_offsets", a.query_offsets, batches)
        offsets = offsets.clip(-_FARTHEST, _FARTHEST)
    return xp.stack([*of_query, *of_key, offsets], axis=1)


def _pieces(sequences: Any, length: int) -> Any:
    """
    Return the sequences in pieces of `_PIECE` queries at most, the last ones first.

    Any sequence may have all queries, for aught that shapes say, and the kernel starts blocks for
    the longest. Of pieces there are at most one more for each sequence than tiles of queries.
    """
    xp = namespace_of(sequences)
    n = sequences.shape[0]
    counts = (sequences[:, 2] + (_PIECE - 1)) // _PIECE
    ends = counts.cumsum(0)
    piece = xp.arange(n + length // _PIECE, dtype=xp.int64, device=sequences.device)
    own = xp.searchsorted(ends, piece, side="right").clip(0, max(0, n - 1))
    of = xp.take(sequences, own, axis=0)
    first = (piece - xp.take(ends - counts, own, axis=0)) * _PIECE
    queries = (of[:, 2] - first).clip(0, _PIECE)
    columns = [of[:, 0], of[:, 1] + first, queries, of[:, 3], of[:, 4], of[:, 5], of[:, 6] + first]
    return xp.flip(xp.stack(columns, axis=1), axis=0)


def _integers(name: str, x: Any, count: int) -> Any:
    xp = namespace_of(x)
    if not xp.isdtype(x.dtype, "integral") or x.ndim != 1:
        raise ValueError(
            f"expected {name} of integers in one dimension, not {x.dtype} of shape {tuple(x.shape)}"
        )
    if x.shape[0] != count:
        raise ValueError(f"expected {name} of {count} elements, not {x.shape[0]}")
    return xp.astype(_detached(x), xp.int64)


def _ranges(name: str, x: Any, count: int, total: int) -> list[Any]:
    ends = _integers(name, x, count + 1).clip(0, total)
    return [ends[:-1], (ends[1:] - ends[:-1]).clip(0, total)]


def _table(x: Any, batches: int, blocks: int) -> Any:
    """Return the block table; what lies beyond a sequence's length may be anything."""
    xp = namespace_of(x)
    if not xp.isdtype(x.dtype, "integral") or x.ndim != 2 or x.shape[0] != batches:
        raise ValueError(
            f"expected block_table of integers of shape ({batches}, max_blocks), not {x.dtype} of "
            f"shape {tuple(x.shape)}"
        )
    return dense(xp.astype(_detached(x).clip(0, max(0, blocks - 1)), xp.int32))


def _options(a: Any, at: _Placed) -> dict[str, Any]:
    """Return what both kernels take."""
    options: dict[str, Any] = {
        "left": a.left,
        "right": a.right,
        "softcap": a.softcap,
        "slopes": _of_heads(a, "slopes", at),
        "mask": None if a.mask is None else _detached(a.mask),
        "terms": None if a.bias is None else _detached(a.bias),
    }
    length = at.query.shape[2]
    where = (a.query_offsets, a.key_lengths, a.cu_seqlens_q, a.block_table)
    if all(x is None for x in where):  # sequence b is all of batch b
        return {**options, "offset": (at.capacity - length) * int(a.lower_right)}
    # How long the longest sequence is would have to be read: it is no longer than this.
    return {**options, "sequences": _sequences(a, at), "longest": (length, at.capacity)}


def _of_heads(a: Any, name: str, at: _Placed) -> Any:
    x, heads = getattr(a, name), at.shape[1]
    if x is None:
        return None
    if tuple(x.shape) != (heads,):
        raise ValueError(
            f"expected {name} of {heads} real numbers, one a head, not of shape {tuple(x.shape)}"
        )
    return dense(x)


def _pull_back(
    a: Any, at: _Placed, incoming: _Incoming, outgoing: tuple[Any, ...], grad_logits: Any
) -> None:
    """Call the kernel, which writes into the gradients of query, key, value and scale."""
    if math.prod(at.shape) == 0 or at.capacity == 0:
        return  # all gradients are 0
    query, key, value, scale = outgoing
    queue(
        kernels().attention_gradient,
        at.query,
        at.key,
        at.value,
        _by_head(a.scale, a),
        incoming.output,
        incoming.grad_output,
        incoming.logsumexp,
        query,
        key,
        value,
        bytes_for(kernels().attention_gradient_workspace(math.prod(at.shape)), at.query),
        **_options(a, at),
        entropy=incoming.entropy,
        grad_logsumexp=incoming.grad_logsumexp,
        grad_entropy=incoming.grad_entropy,
        grad_scale=scale,
        grad_logits=grad_logits,
    )


def _of_bias(a: Any, at: _Placed, incoming: _Incoming, outgoing: tuple[Any, ...]) -> Any:
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
        placed = _placed(own)
        logits = _zeros((*placed.shape, keys), kind, at.query)
        of_part = tuple(x[part] for x in outgoing)
        _pull_back(own, placed, incoming.batches(part), of_part, logits)
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


def _band(a: Any, at: _Placed) -> tuple[Any, Any]:
    """Return the first key that the window of each row holds, and the end: (batch, row)."""
    xp = namespace_of(at.query)
    row = xp.arange(at.query.shape[2], dtype=xp.int64, device=at.query.device)
    sequences = _sequences(a, at)
    of_row = sequences[:, None]
    if a.cu_seqlens_q is not None:  # the sequence of each row
        ends = sequences[:, 1] + sequences[:, 2]
        own = xp.searchsorted(ends, row, side="right")
        of_row = xp.take(sequences, own.clip(0, max(0, ends.shape[0] - 1)), axis=0)[None]
        row = row - of_row[..., 1]
    keys, position = of_row[..., 5], row + of_row[..., 6]
    begin = xp.minimum((position - a.left).clip(0), keys)
    end = xp.minimum((position + (a.right + 1)).clip(0), keys)
    return begin, xp.maximum(end, begin)
