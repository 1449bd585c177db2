"""The arguments of attention of arrays on a GPU, brought to what its kernel takes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._attention._arguments import Arguments
from .._attention._layout import check_shapes
from .._attention._problem import check_numbers
from .._attention._visible import window_limits
from .._shapes import check_broadcast
from ..reference._attention_scale import AttentionScale
from ._arrays import compute_name, dtype_name, namespace_of
from ._attention import visible_keys
from ._attention_sequences import placed

_TYPES = ("float16", "bfloat16", "float32", "float64")


class Lowered(NamedTuple):
    """The arguments of the kernel, and shapes of the caller's: of rows, and of batches."""

    arguments: Arguments
    rows: tuple[int, ...]
    lead: tuple[int, ...]


def lowered_arguments(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    is_causal: bool = False,
    causal_alignment: str = "upper_left",
    window: Any = None,
    scale: Any = None,
    softcap: float | None = None,
    alibi_slopes: Any = None,
    sinks: Any = None,
    query_offsets: Any = None,
    key_lengths: Any = None,
    cu_seqlens_q: Any = None,
    cu_seqlens_k: Any = None,
    block_table: Any = None,
    threads: int | None = None,
) -> Lowered:
    """Bring the arguments of attention to what the kernel takes."""
    _check_types(query, key, value)
    check_numbers(causal_alignment, softcap, threads)
    packed, paged = cu_seqlens_q is not None, block_table is not None
    check_shapes(tuple(query.shape), tuple(key.shape), tuple(value.shape), packed, paged)
    left, right = window_limits(window)
    query, key, value, rows, lead = _laid_out(query, key, value, packed, paged)
    compute = compute_name(query)
    xp, full = namespace_of(query), (*rows, key.shape[-2])
    visible, terms = None, []
    for name, x in (("mask", mask), ("bias", bias)):
        if x is None:
            continue
        if packed or paged:
            raise ValueError(f"expected no {name} for a packed or paged batch, which has no shape")
        x = _of_scores(name, x, query, full, lead)
        if dtype_name(x) == "bool":
            visible = x
        else:
            terms.append(xp.astype(x, getattr(xp, compute)))
    arguments = Arguments(
        query=query,
        key=key,
        value=value,
        mask=visible,
        bias=sum(terms[1:], terms[0]) if terms else None,
        scale=xp.broadcast_to(_moved("scale", 1.0, query, compute), tuple(query.shape[:-1])),
        sinks=None if sinks is None else _moved("sinks", sinks, query, compute),
        slopes=None
        if alibi_slopes is None
        else _moved("alibi_slopes", alibi_slopes, query, compute),
        query_offsets=_integers("query_offsets", query_offsets, query),
        key_lengths=_integers("key_lengths", key_lengths, query),
        cu_seqlens_q=_integers("cu_seqlens_q", cu_seqlens_q, query),
        cu_seqlens_k=_integers("cu_seqlens_k", cu_seqlens_k, query),
        block_table=_integers("block_table", block_table, query),
        left=left,
        right=min(right, 0) if is_causal else right,
        lower_right=causal_alignment == "lower_right",
        softcap=float(softcap or 0.0),
        threads=0,
    )
    return Lowered(arguments._replace(scale=_row_scale(arguments, scale, rows)), rows, lead)


def _check_types(*arrays: Any) -> None:
    types = [dtype_name(x) if hasattr(x, "dtype") else type(x).__name__ for x in arrays]
    if types[0] not in _TYPES:
        raise TypeError(f"expected query of {', '.join(_TYPES)}, not {types[0]}")
    if types != types[:1] * 3:
        raise TypeError(
            f"expected query, key and value of one type, not {types[0]}, {types[1]} and {types[2]}"
        )


def _laid_out(query: Any, key: Any, value: Any, packed: bool, paged: bool) -> Any:
    """Return the arrays as the kernel takes them, the shape of rows, and of batches."""
    if packed:
        return query, key, value, tuple(query.shape[:-1]), ()
    single = query.ndim == 2
    query = query[None] if single else query
    if not paged:
        key, value = (x[None] if x.ndim == 2 else x for x in (key, value))
    leads = [tuple(x.shape[:-3]) for x in ((query,) if paged else (query, key))]
    try:
        lead = np.broadcast_shapes(*leads)
    except ValueError:
        raise ValueError(
            f"expected batches that broadcast, not query of shape {tuple(query.shape)} and key of "
            f"shape {tuple(key.shape)}"
        ) from None
    rows = (*lead, *query.shape[-2 if single else -3 : -1])
    query = _flat(query, lead)
    return query, *((key, value) if paged else (_flat(key, lead), _flat(value, lead))), rows, lead


def _flat(x: Any, lead: tuple[int, ...]) -> Any:
    """Return `x` with one axis of batches in place of several."""
    last = tuple(x.shape[-3:])
    return namespace_of(x).broadcast_to(x, (*lead, *last)).reshape((math.prod(lead), *last))


def _of_scores(name: str, x: Any, query: Any, full: Any, lead: Any) -> Any:
    """Return a mask or bias as (batch, head, row, key), or 1."""
    if type(x) is not type(query):
        raise TypeError(f"expected {name} of {type(query).__name__} like query, not {type(x)}")
    if not (dtype_name(x) in _TYPES or (name == "mask" and dtype_name(x) == "bool")):
        kinds = "bool or floats" if name == "mask" else "floats"
        raise TypeError(f"expected {name} of {kinds}, not {x.dtype}")
    check_broadcast(name, tuple(x.shape), full)
    x = x.reshape(with_heads(tuple(x.shape), full, lead))
    return x.reshape((1, *x.shape[-3:])) if math.prod(x.shape[:-3]) == 1 else _flat(x, lead)


def with_heads(shape: tuple[int, ...], full: Any, lead: Any) -> tuple[int, ...]:
    """Return the shape of a mask or bias with the axis of heads, which one head does without."""
    if len(full) == len(lead) + 2 and len(shape) > 1:
        shape = (*shape[:-2], 1, *shape[-2:])
    return (*(1 for _ in range(3 - len(shape))), *shape)


def _row_scale(a: Arguments, scale: Any, rows: tuple[int, ...]) -> Any:
    """Return what the scores of each row are multiplied by."""
    shape, dim = tuple(a.query.shape[:-1]), a.query.shape[-1]
    xp, compute = namespace_of(a.query), compute_name(a.query)
    packed = a.cu_seqlens_q is not None
    if isinstance(scale, AttentionScale):
        return _of_schedule(a, scale, packed, compute)
    scale = 1.0 / math.sqrt(dim) if scale is None else scale
    scale = _moved("scale", scale, a.query, compute)
    if scale.ndim >= 2:
        check_broadcast("scale", tuple(scale.shape), rows)
        return xp.broadcast_to(scale, rows).reshape(shape)
    if scale.ndim == 1:
        if scale.shape[0] not in (1, shape[1]):
            raise ValueError(
                f"expected scale for each of {shape[1]} heads, not of shape {tuple(scale.shape)}"
            )
        scale = scale if packed else scale[:, None]
    return xp.broadcast_to(scale, shape)


def _of_schedule(a: Arguments, scale: AttentionScale, packed: bool, compute: str) -> Any:
    """Return the factors of a schedule, from a table for every number of visible keys."""
    xp, shape = namespace_of(a.query), tuple(a.query.shape[:-1])
    keys, heads = placed(a).capacity + 1, shape[1]
    factors = scale.row_scale(np.arange(keys)[None], a.query.shape[-1])
    table = _moved("scale", np.broadcast_to(factors, (len(factors), keys)), a.query, compute)
    counts = visible_keys(a)
    if len(factors) > 1:  # a parameter for each head
        first = keys * xp.arange(heads, dtype=counts.dtype, device=a.query.device)
        counts = counts + (first if packed else first[:, None])
    return xp.take(table.reshape((-1,)), counts.reshape((-1,)), axis=0).reshape(shape)


def _moved(name: str, x: Any, like: Any, dtype: str) -> Any:
    """Return numbers, or an array on the device of `like`, in a type."""
    xp = namespace_of(like)
    if type(x) is not type(like):
        x = np.asarray(x)
        if x.dtype.kind not in "iuf":
            raise TypeError(f"expected {name} of real numbers, not {x.dtype}")
        # Rounded here: JAX has no doubles unless it is told to.
        return xp.asarray(x.astype(np.dtype(dtype)), device=like.device)
    if dtype_name(x) == "bool" or "complex" in dtype_name(x):
        raise TypeError(f"expected {name} of real numbers, not {x.dtype}")
    return xp.astype(x, getattr(xp, dtype))


def _integers(name: str, x: Any, like: Any) -> Any:
    """Return lengths as an array on the device; who reads them refuses what are no integers."""
    if x is None or type(x) is type(like):
        return x
    x = np.asarray(x)
    if x.dtype.kind not in "iu":
        raise TypeError(f"expected {name} of integers, not {x.dtype}")
    return namespace_of(like).asarray(x.astype(np.int64), device=like.device)
