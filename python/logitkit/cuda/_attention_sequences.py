"""Where the sequences of attention lie, for the kernels, of arrays on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._attention._layout import check_together
from ._arrays import dense, dense_rows, dtype_name, is_immutable, namespace_of

# `a` below is logitkit._attention._arguments.Arguments.
#
# Nothing looks at lengths, offsets and blocks, as that would wait for the GPU. Those out of range
# are cut to what there is, so that nothing is read or written elsewhere; a range of rows that
# belongs to no sequence is 0. `clip` is the method of arrays: the function of array-api-compat
# waits in its older versions.

_FARTHEST = 2**60  # is far enough, and positions do not overflow
_PIECE = 128  # rows of a packed sequence: those that the largest tile of the kernel has


class Placed(NamedTuple):
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


def placed(a: Any) -> Placed:
    """Return the arrays of the arguments as the kernels take them."""
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
    return Placed(query, key, value, batches, capacity, table)


def by_head(x: Any, a: Any, dtype: str | None = None) -> Any:
    """Return a view (batch, head, row, ...) of an array of rows, with dense columns."""
    if x is None:
        return None
    xp = namespace_of(x)
    x = x if dtype in (None, dtype_name(x)) else xp.astype(x, getattr(xp, dtype))
    x = dense_rows(x) if x.ndim > a.query.ndim - 1 else detached(x)
    if a.cu_seqlens_q is None:
        return x
    return xp.permute_dims(x, (1, 0, *range(2, x.ndim)))[None, ...]


def as_written(x: Any, of_heads: Any, a: Any) -> Any:
    """Return `x`, of which the kernel wrote into `of_heads`, what by_head() made of it."""
    if x is None or a.cu_seqlens_q is None or not is_immutable(x):
        return x
    # A view is a copy in JAX: what was written goes back to the order of rows.
    return namespace_of(x).permute_dims(of_heads[0], (1, 0, *range(2, x.ndim)))


def detached(x: Any) -> Any:
    """Return `x` without derivatives, which kernels refuse to read."""
    return x.detach() if hasattr(x, "detach") else x


def sequences_of(a: Any, at: Placed) -> Any:
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


def in_pieces(sequences: Any, at: Placed) -> dict[str, Any]:
    """
    Return the sequences in pieces of `_PIECE` queries at most, the last ones first.

    Any sequence may have all queries, for aught that shapes say, and the kernel starts blocks for
    the longest. Of pieces there are at most one more for each sequence than tiles of queries.
    """
    length = at.query.shape[2]
    of, first, queries = _pieces(sequences, 2, length)
    columns = [of[:, 0], of[:, 1] + first, queries, of[:, 3], of[:, 4], of[:, 5], of[:, 6] + first]
    xp = namespace_of(sequences)
    return {
        "sequences": xp.flip(xp.stack(columns, axis=1), axis=0),
        "longest": (min(_PIECE, length), at.capacity),
    }


def in_pieces_of_keys(sequences: Any, at: Placed) -> dict[str, Any]:
    """Return the sequences in pieces of `_PIECE` keys at most, each with all queries."""
    of, first, keys = _pieces(sequences, 5, at.capacity)
    columns = [*(of[:, k] for k in range(4)), of[:, 4] + first, keys, of[:, 6] - first]
    return {
        "key_sequences": namespace_of(sequences).stack(columns, axis=1),
        "key_longest": (at.query.shape[2], min(_PIECE, at.capacity)),
    }


def _pieces(sequences: Any, column: int, total: int) -> tuple[Any, Any, Any]:
    """Return of each piece of `total` rows the sequence, its beginning there and its length."""
    xp, n = namespace_of(sequences), sequences.shape[0]
    lengths = sequences[:, column]
    counts = (lengths + (_PIECE - 1)) // _PIECE
    ends = counts.cumsum(0)
    piece = xp.arange(n + total // _PIECE, dtype=xp.int64, device=sequences.device)
    own = xp.searchsorted(ends, piece, side="right").clip(0, max(0, n - 1))
    first = (piece - xp.take(ends - counts, own, axis=0)) * _PIECE
    of = xp.take(sequences, own, axis=0)
    return of, first, (of[:, column] - first).clip(0, _PIECE)


def band(a: Any, at: Placed) -> tuple[Any, Any]:
    """Return the first key that the window of each row holds, and the end: (batch, row)."""
    xp = namespace_of(at.query)
    row = xp.arange(at.query.shape[2], dtype=xp.int64, device=at.query.device)
    sequences = sequences_of(a, at)
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


def _integers(name: str, x: Any, count: int) -> Any:
    xp = namespace_of(x)
    if not xp.isdtype(x.dtype, "integral") or x.ndim != 1:
        raise ValueError(
            f"expected {name} of integers in one dimension, not {x.dtype} of shape {tuple(x.shape)}"
        )
    if x.shape[0] != count:
        raise ValueError(f"expected {name} of {count} elements, not {x.shape[0]}")
    return xp.astype(detached(x), xp.int64)


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
    return dense(xp.astype(detached(x).clip(0, max(0, blocks - 1)), xp.int32))
