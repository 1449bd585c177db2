"""Scaled softmax attention by its definition: one sequence after another, scores stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._attention_scale import AttentionScale

Array = NDArray[np.float64]


class AttentionResult(NamedTuple):
    """What attention returns, and what it saw: one number for each row of scores."""

    output: Any
    logsumexp: Any
    entropy: Any
    max_logit: Any
    n_visible: Any


class AttentionGradients(NamedTuple):
    """The gradients of attention's inputs, in their shapes; None for what was not given."""

    query: Any
    key: Any
    value: Any
    bias: Any
    sinks: Any
    scale: Any


@dataclass
class _Options:
    mask: Any = None
    bias: Any = None
    is_causal: bool = False
    causal_alignment: str = "upper_left"
    window: tuple[int | None, int | None] | None = None
    scale: Any = None
    softcap: float | None = None
    alibi_slopes: Any = None
    sinks: Any = None
    query_offsets: Any = None
    key_lengths: Any = None
    cu_seqlens_q: Any = None
    cu_seqlens_k: Any = None
    block_table: Any = None


def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention with the arguments of ``torch.nn.functional.scaled_dot_product_attention``."""
    if dropout_p != 0.0:
        raise ValueError(f"expected dropout_p = 0, the only one there is, not {dropout_p}")
    if enable_gqa and min(np.ndim(x) for x in (query, key, value)) > 2:
        heads = np.shape(query)[-3]
        key, value = (np.repeat(x, heads // np.shape(x)[-3], axis=-3) for x in (key, value))
    if not enable_gqa:
        lead = np.broadcast_shapes(*(np.shape(x)[:-2] for x in (query, key, value)))
        query, key, value = (
            np.broadcast_to(x, (*lead, *np.shape(x)[-2:])) for x in (query, key, value)
        )
    return attention(query, key, value, mask=attn_mask, is_causal=is_causal, scale=scale)


def attention(query: ArrayLike, key: ArrayLike, value: ArrayLike, /, **options: Any) -> Any:
    """Softmax of the scaled, capped, biased and masked scores, times the values."""
    return attention_with_stats(query, key, value, **options).output


def attention_with_stats(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, /, **options: Any
) -> AttentionResult:
    """As `attention`, with logsumexp, entropy, largest logit and visible keys of each row."""
    given = _Options(**options)
    layout = _Layout(query, key, value, given)
    output = layout.like_queries(np.shape(value)[-1])
    stats = [layout.like_queries() for _ in range(4)]
    for b in range(layout.batches):
        rows = _attend(layout, b, given)
        layout.queries(output, b, 1)[...] = rows.output
        for array, of_rows in zip(
            stats, (rows.logsumexp, rows.entropy, rows.max_logit, rows.n), strict=True
        ):
            layout.queries(array, b)[...] = of_rows
    logsumexp, entropy, max_logit, n = stats
    return AttentionResult(output, logsumexp, entropy, max_logit, n.astype(np.int64))


def attention_vjp(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    grad_output: ArrayLike,
    /,
    *,
    grad_logsumexp: ArrayLike | None = None,
    grad_entropy: ArrayLike | None = None,
    **options: Any,
) -> AttentionGradients:
    """Gradients of the sum of ``grad_output * output`` and the same for two statistics."""
    given = _Options(**options)
    layout = _Layout(query, key, value, given)
    g_output = np.asarray(grad_output, np.float64)
    g_logsumexp, g_entropy = (
        np.zeros_like(layout.like_queries()) if g is None else np.asarray(g, np.float64)
        for g in (grad_logsumexp, grad_entropy)
    )
    grad_q, grad_k, grad_v = (np.zeros(np.shape(x)) for x in (query, key, value))
    grad_bias = None if given.bias is None else np.zeros(layout.score_shape)
    grad_sinks = None if given.sinks is None else np.zeros(layout.heads)
    grad_rows, n = layout.like_queries(), layout.like_queries()
    for b in range(layout.batches):
        q, k, v = layout.sequence(b)
        rows = _attend(layout, b, given)
        g = layout.queries(g_output, b, 1)
        g_lse, g_h = layout.queries(g_logsumexp, b), layout.queries(g_entropy, b)
        # dZ = P (dP - sum P dP) + g_lse P - g_H P (log P + H)
        of_row = g_lse - np.sum(g * rows.output, -1) - g_h * rows.entropy
        grad_z = rows.p * (g @ _swap(_finite(v)) + of_row[..., None])
        grad_z -= g_h[..., None] * rows.p * np.log(np.where(rows.p > 0, rows.p, 1.0))
        if grad_bias is not None:
            grad_bias.reshape(layout.batches, *layout.score_shape[-3:])[b][
                ..., : rows.p.shape[-1]
            ] += grad_z
        if grad_sinks is not None:
            log_p = np.log(np.where(rows.p_sink > 0, rows.p_sink, 1.0))
            grad_sinks += np.sum(rows.p_sink * (of_row - g_h * log_p), -1)
        grad_x = grad_z * rows.cap_slope
        layout.queries(grad_rows, b)[...] = np.sum(grad_x * rows.products, -1)
        layout.queries(n, b)[...] = rows.n
        grad_s = grad_x * rows.scale[..., None]
        layout.queries(grad_q, b, 1)[...] += grad_s @ _finite(k)
        layout.add_to_keys(grad_k, b, _swap(grad_s) @ q)
        layout.add_to_keys(grad_v, b, _swap(rows.p) @ g)
    return AttentionGradients(
        grad_q,
        grad_k,
        grad_v,
        None if grad_bias is None else _sum_to(grad_bias, np.shape(given.bias)),
        grad_sinks,
        _grad_scale(given.scale, grad_rows, n, layout),
    )


class _Layout:
    """Where the queries and keys of each sequence lie in the arrays."""

    def __init__(self, query: ArrayLike, key: ArrayLike, value: ArrayLike, o: _Options) -> None:
        self.q, self.k, self.v = (np.asarray(x, np.float64) for x in (query, key, value))
        self.packed, self.paged = o.cu_seqlens_q is not None, o.block_table is not None
        self.cu_q, self.cu_k, self.table = o.cu_seqlens_q, o.cu_seqlens_k, o.block_table
        self.heads = self.q.shape[1] if self.packed else math.prod(self.q.shape[-3:-2])
        if self.packed:
            self.batches = len(o.cu_seqlens_q) - 1
        else:
            k_lead = () if self.paged else self.k.shape[:-3]
            self.lead = np.broadcast_shapes(self.q.shape[:-3], k_lead)
            self.batches = math.prod(self.lead)
            # Which batch of an array that is broadcast belongs to which sequence.
            self.q_batch = self._batch_index(self.q.shape[:-3])
            self.k_batch = self._batch_index(k_lead)
            self.score_shape = (*self.lead, self.heads, self.q.shape[-2], self.k.shape[-2])
        self.key_lengths = o.key_lengths

    def _batch_index(self, lead: tuple[int, ...]) -> NDArray[np.int64]:
        index = np.arange(math.prod(lead)).reshape(lead)
        return np.broadcast_to(index, self.lead).ravel()

    def like_queries(self, *rest: int) -> Array:
        """Zeros for each query."""
        if self.packed:
            return np.zeros((*self.q.shape[:-1], *rest))
        heads = self.q.shape[-3:-2]
        return np.zeros((*self.lead, *heads, self.q.shape[-2], *rest))

    def queries(self, x: Array, b: int, dims: int = 0) -> Array:
        """Return a view of what belongs to the queries of sequence b, (heads, length, ...)."""
        if self.packed:
            return np.swapaxes(x[self.cu_q[b] : self.cu_q[b + 1]], 0, 1)
        lead = x.shape[: x.ndim - dims - min(self.q.ndim - 1, 2)]
        shape = (math.prod(lead), self.heads, self.q.shape[-2], *x.shape[x.ndim - dims :])
        own: Array = x.reshape(shape)
        mine: Array = own[b if len(own) == self.batches else self.q_batch[b]]
        return mine

    def keys(self, x: Array, b: int) -> Array:
        """Return what belongs to its keys, (heads, length, dim)."""
        if self.paged:
            length, size = self.key_lengths[b], x.shape[1]
            slots = np.arange(length)
            return np.swapaxes(x[np.asarray(self.table)[b][slots // size], slots % size], 0, 1)
        if self.cu_k is not None:
            own = x[self.cu_k[b] : self.cu_k[b + 1]].swapaxes(0, 1)
        else:
            heads = math.prod(x.shape[-3:-2])
            own = x.reshape(math.prod(x.shape[:-3]), heads, *x.shape[-2:])[self.k_batch[b]]
        return own if self.key_lengths is None else own[:, : self.key_lengths[b]]

    def sequence(self, b: int) -> tuple[Array, Array, Array]:
        """Return query, key and value of sequence b, keys repeated for groups of heads."""
        q, k, v = self.queries(self.q, b, 1), self.keys(self.k, b), self.keys(self.v, b)
        group = self.heads // len(k)
        return q, k.repeat(group, axis=0), v.repeat(group, axis=0)

    def add_to_keys(self, x: Array, b: int, terms: Array) -> None:
        if self.paged:
            raise ValueError("expected no block_table: a paged cache has no gradients")
        own = self.keys(x, b)
        own += terms.reshape(len(own), self.heads // len(own), *terms.shape[1:]).sum(1)


class _Rows(NamedTuple):
    output: Array
    logsumexp: Array
    entropy: Array
    max_logit: Array
    n: NDArray[np.int64]
    p: Array
    p_sink: Array
    products: Array  # q k, what the scale multiplies
    cap_slope: Array  # of the soft cap
    scale: Array


def _attend(layout: _Layout, b: int, o: _Options) -> _Rows:
    """One sequence, all heads: scores (heads, length, keys)."""
    q, k, v = layout.sequence(b)
    length, keys = q.shape[1], k.shape[1]
    offset = keys - length if o.causal_alignment == "lower_right" else 0
    if o.query_offsets is not None:
        offset = o.query_offsets[b]
    distance = np.arange(keys) - (np.arange(length)[:, None] + offset)
    left, right = o.window if o.window is not None else (None, None)
    visible = np.full((layout.heads, length, keys), True)
    visible &= distance <= (np.inf if right is None else right)
    visible &= distance >= (-np.inf if left is None else -left)
    if o.is_causal:
        visible &= distance <= 0
    added = np.zeros(visible.shape)
    for term in (o.mask, o.bias):
        if term is not None:
            full = np.broadcast_to(np.asarray(term), layout.score_shape)
            own = full.reshape(layout.batches, *visible.shape[:2], full.shape[-1])[b][..., :keys]
            if own.dtype == bool:
                visible &= own
            else:
                visible &= own != -np.inf
                added = added + own
    n = np.sum(visible, axis=-1)
    scale = _row_scale(o.scale, n, q.shape[-1], layout, b)
    with np.errstate(invalid="ignore"):
        products = q @ _swap(k)
    z, cap_slope = scale[..., None] * products, np.ones(products.shape)
    if o.softcap is not None:
        tanh = np.tanh(z / o.softcap)
        z, cap_slope = o.softcap * tanh, 1.0 - tanh**2
    if o.alibi_slopes is not None:
        z = z - np.asarray(o.alibi_slopes, np.float64)[:, None, None] * np.abs(distance)
    z = np.where(visible, z + np.where(visible, added, 0.0), -np.inf)
    products, cap_slope = (np.where(visible, x, 0.0) for x in (products, cap_slope))
    return _softmax_rows(z, v, visible, n, o.sinks)._replace(
        products=products, cap_slope=cap_slope, scale=scale
    )


def _softmax_rows(
    z: Array, v: Array, visible: NDArray[np.bool_], n: NDArray[np.int64], sinks: Any
) -> _Rows:
    """P = softmax(Z), with a sink as one more column whose value is 0."""
    sink = np.full(z.shape[0], -np.inf) if sinks is None else np.asarray(sinks, np.float64)
    max_logit = np.max(z, axis=-1, initial=-np.inf)
    top = np.maximum(max_logit, sink[:, None])
    shift = np.where(top == -np.inf, 0.0, top)
    weights, sink_weight = np.exp(z - shift[..., None]), np.exp(sink[:, None] - shift)
    total = np.sum(weights, axis=-1) + sink_weight
    safe = np.where(total == 0.0, 1.0, total)
    p, p_sink = weights / safe[..., None], sink_weight / safe
    with np.errstate(divide="ignore"):
        logsumexp = shift + np.log(total)
    # H = -sum p log p, where 0 log 0 is 0
    log_p = np.where(p > 0, np.where(visible, z, 0.0) - np.where(n > 0, logsumexp, 0)[..., None], 0)
    log_p_sink = np.log(np.where(p_sink > 0, p_sink, 1.0))
    entropy = -np.sum(p * log_p, axis=-1) - p_sink * log_p_sink
    output = p @ _finite(v)
    for j in np.flatnonzero(~np.isfinite(v).all((0, 2))):  # 0 * NaN is not nothing
        rest = (v[:, j] - _finite(v)[:, j])[:, None]
        output += np.where(visible[..., j, None], p[..., j, None] * rest, 0.0)
    empty = np.empty(0)
    return _Rows(output, logsumexp, entropy, max_logit, n, p, p_sink, empty, empty, empty)


def _row_scale(scale: Any, n: NDArray[np.int64], head_dim: int, layout: _Layout, b: int) -> Array:
    """Return the factor of each row: (heads, length)."""
    if scale is None:
        return np.full(n.shape, 1.0 / math.sqrt(head_dim))
    if isinstance(scale, AttentionScale):
        return np.broadcast_to(scale.row_scale(n, head_dim), n.shape)
    scale = np.asarray(scale, np.float64)
    if scale.ndim < 2:  # for all heads, or for each
        return np.broadcast_to(scale[..., None], n.shape)
    full = np.broadcast_to(scale, layout.like_queries().shape)
    return layout.queries(np.ascontiguousarray(full), b)


def _grad_scale(scale: Any, grad_rows: Array, n: Array, layout: _Layout) -> Any:
    if scale is None:
        return None
    rows, n = (x.T if layout.packed else x for x in (grad_rows, n))  # (..., heads, length)
    if isinstance(scale, AttentionScale):
        return scale.pull_back(rows, n.astype(np.int64), layout.q.shape[-1])
    if np.ndim(scale) == 1:
        return _sum_to(rows, (len(scale), 1))[..., 0]
    return _sum_to(grad_rows, np.shape(scale))


def _sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an array of this shape is broadcast."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    kept = tuple(k for k, size in enumerate(shape) if size == 1)
    return np.sum(x, axis=kept, keepdims=True) if kept else x


def _swap(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _finite(x: Array) -> Array:
    return np.where(np.isfinite(x), x, 0.0)
