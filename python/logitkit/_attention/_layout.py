"""Where the queries, keys and values of attention lie: one form for dense, packed and paged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._backend import as_array

_TYPES = ("float16", "bfloat16", "float32", "float64")
# What bfloat16 is called where it comes from a framework's tensor: NumPy has no such type, and
# ml_dtypes, which adds one, need not be installed.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])


@dataclass
class Layout:
    """Arrays (batch, head, row, dim), and the sequences that they hold."""

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    # For each: batch, first row and rows of query, the same of key, offset of the first query.
    sequences: NDArray[np.int64]
    dtype: np.dtype[Any]  # of the arguments
    compute: np.dtype[Any]  # float32 or float64
    lead: tuple[int, ...]  # of the results: (..., heads, length) follows
    packed: bool
    single: bool  # the query has no axis of heads
    block_table: NDArray[np.int32] | None

    @property
    def rows(self) -> tuple[int, int, int]:
        """Batches, heads and rows of the kernel's results."""
        batches, heads, length, _ = self.query.shape
        return batches, heads, length

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of numbers for each row as the caller sees it."""
        _, heads, length = self.rows
        if self.packed:
            return (length, heads)
        return (*self.lead, length) if self.single else (*self.lead, heads, length)

    @property
    def all_in_sequences(self) -> bool:
        """Whether every query and key is one of a sequence, and heads see them."""
        whole = bool(np.all(self.sequences[:, 5] == self.key.shape[2]))
        return whole and not self.packed and self.query.shape[1] > 0

    def new(self, dim: int | None = None, dtype: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return an empty result as the caller sees it, and the kernel's view of it."""
        _, heads, length = self.rows
        dims = () if dim is None else (dim,)
        dtype = self.compute if dtype is None else dtype
        if self.packed:
            array = np.empty((length, heads, *dims), dtype)
            return array, array.swapaxes(0, 1)[None]
        array = np.empty((*self.lead, heads, length, *dims), dtype)
        view = array.reshape(self.query.shape[0], heads, length, *dims)
        return array[..., 0, :, :] if self.single and dims else self._of_one_head(array), view

    def _of_one_head(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[..., 0, :] if self.single else array

    def kernel_rows(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return numbers for each row, broadcast from the caller's shape to the kernel's."""
        batches, heads, length = self.rows
        if self.packed:
            return np.broadcast_to(x, (length, heads)).T[None]
        if self.single:
            x = x[..., None, :]
        full: NDArray[Any] = np.broadcast_to(x, (*self.lead, heads, length))
        return full.reshape(batches, heads, length)

    def kernel_matrix(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return a view (batch, head, row, dim) of a result in the caller's shape."""
        if self.packed:
            return x.swapaxes(0, 1)[None]
        return x.reshape(*self.rows, x.shape[-1])

    def batch(self, b: int) -> Layout:
        """Return one batch of arrays that are neither packed nor paged."""
        sequences = self.sequences[b : b + 1].copy()
        sequences[:, [0, 3]] = 0
        query, key, value = (x[b : b + 1] for x in (self.query, self.key, self.value))
        return replace(self, query=query, key=key, value=value, sequences=sequences, lead=(1,))

    def user_rows(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the way back: numbers for each row in the caller's shape."""
        batches, heads, length = self.rows
        x = np.broadcast_to(x, (batches, heads, length))
        if self.packed:
            return np.array(x[0].T, order="C")
        return self._of_one_head(np.array(x, order="C").reshape(*self.lead, heads, length))


def lay_out(
    query: Any,
    key: Any,
    value: Any,
    *,
    lower_right: bool,
    query_offsets: Any,
    key_lengths: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    block_table: Any,
) -> Layout:
    """Check the shapes and types of all that says where things lie, and bring it to one form."""
    query, key, value = (
        _checked(name, x) for name, x in (("query", query), ("key", key), ("value", value))
    )
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(
            f"expected query, key and value of one type, not {query.dtype}, {key.dtype} and "
            f"{value.dtype}"
        )
    packed, paged = cu_seqlens_q is not None, block_table is not None
    check_together(key_lengths, cu_seqlens_q, cu_seqlens_k, block_table)
    single = query.ndim == 2 and not packed
    check_shapes(query.shape, key.shape, value.shape, packed, paged)
    lead: tuple[int, ...] = ()
    if packed:
        query = query.swapaxes(0, 1)[None]
    if paged:  # (blocks, size, heads, dim)
        key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
    elif packed:
        key, value = key.swapaxes(0, 1)[None], value.swapaxes(0, 1)[None]
    if not packed:
        query, key, value, lead = _one_batch_axis(query, key, value, paged)
    where = _Where(query_offsets, key_lengths, cu_seqlens_q, cu_seqlens_k, block_table)
    sequences, table = _sequences(query.shape, key.shape, where, lower_right)
    return Layout(
        query,
        key,
        value,
        sequences,
        query.dtype,
        np.dtype(np.float64 if query.dtype == np.float64 else np.float32),
        lead,
        packed,
        single,
        table,
    )


class _Where(NamedTuple):
    """What says where the sequences lie."""

    query_offsets: Any
    key_lengths: Any
    cu_seqlens_q: Any
    cu_seqlens_k: Any
    block_table: Any


def _sequences(
    query: tuple[int, ...], key: tuple[int, ...], where: _Where, lower_right: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32] | None]:
    """Return `Layout.sequences`, for arrays of these shapes, and `Layout.block_table`."""
    query_offsets, key_lengths, cu_seqlens_q, cu_seqlens_k, block_table = where
    packed, paged = cu_seqlens_q is not None, block_table is not None
    batches = max(len(cu_seqlens_q) - 1, 0) if packed else query[0]
    sequences = np.zeros((batches, 7), np.int64)
    if packed:
        sequences[:, 1:3] = _ranges("cu_seqlens_q", cu_seqlens_q, query[2], "query")
    else:
        sequences[:, 0] = np.arange(batches)
        sequences[:, 2] = query[2]
    if cu_seqlens_k is not None:
        ranges = _ranges("cu_seqlens_k", cu_seqlens_k, key[2], "key")
        if len(ranges) != batches:
            raise ValueError(
                f"expected cu_seqlens_k of {batches + 1} elements like cu_seqlens_q, not "
                f"{len(ranges) + 1}"
            )
        sequences[:, 4:6] = ranges
    else:
        sequences[:, 3] = np.arange(batches)
        sequences[:, 5] = key[2]
    table = None
    if paged:
        table = _table(block_table, batches)
        sequences[:, 5] = table.shape[1] * key[2]
    if key_lengths is not None:
        lengths = _integers("key_lengths", key_lengths, batches)
        if np.any(lengths < 0) or np.any(lengths > sequences[:, 5]):
            raise ValueError(
                f"expected key_lengths from 0 to the keys that there are, "
                f"{sequences[:, 5].tolist()}, not {lengths.tolist()}"
            )
        sequences[:, 5] = lengths
    if table is not None:
        _check_blocks(table, sequences[:, 5], key)
    if lower_right:
        sequences[:, 6] = sequences[:, 5] - sequences[:, 2]
    if query_offsets is not None:
        # Far away is far enough, and positions do not overflow.
        sequences[:, 6] = np.clip(
            _integers("query_offsets", query_offsets, batches), -(2**60), 2**60
        )
    return sequences, table


def as_float64(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return a copy of an array of one of the types."""
    if x.dtype != BFLOAT16:
        return x.astype(np.float64)
    return (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def _checked(name: str, x: Any) -> NDArray[Any]:
    array = as_array(x)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected {name} in main memory, not a {type(array).__name__}")
    # Asking for the name of a type takes longer than all other checks together.
    dtype = array.dtype
    if dtype.char not in "efd" and dtype != BFLOAT16 and dtype.name != "bfloat16":
        raise TypeError(f"expected {name} of {', '.join(_TYPES)}, not {array.dtype}")
    if array.shape[-1:] != (1,) and array.ndim > 0 and array.strides[-1] != array.itemsize:
        return np.ascontiguousarray(array)
    return array


def check_together(key_lengths: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, table: Any) -> None:
    """Raise an error if one of these is given without what it needs."""
    packed, paged = cu_seqlens_q is not None, table is not None
    if paged and key_lengths is None:
        raise ValueError("expected key_lengths with block_table")
    if (cu_seqlens_k is not None) != (packed and not paged):
        raise ValueError(
            "expected cu_seqlens_q and cu_seqlens_k together, or cu_seqlens_q with block_table"
        )


def check_shapes(
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    packed: bool,
    paged: bool,
) -> None:
    """Raise an error, which names all three, if these shapes do not fit each other."""
    shapes = f"query of shape {query}, key {key} and value {value}"
    if packed and len(query) != 3:
        raise ValueError(f"expected a packed query of shape (total, heads, head_dim), not {shapes}")
    if not packed and len(query) < 2:
        raise ValueError(f"expected query of shape (batch, heads, length, head_dim), not {shapes}")
    if paged and len(key) != 4:
        raise ValueError(
            f"expected a paged key of shape (blocks, block_size, heads, head_dim), not {shapes}"
        )
    if not paged and (len(key) != 3 if packed else len(key) < 2):
        raise ValueError(f"expected key with the axes of query, not {shapes}")
    if query[-1] != key[-1] or query[-1] == 0:
        raise ValueError(f"expected query and key of one head_dim of at least 1, not {shapes}")
    if len(key) != len(value) or key[:-1] != value[:-1] or value[-1] == 0:
        raise ValueError(f"expected value like key, with a head_dim of at least 1, not {shapes}")
    heads = query[1] if packed else query[-3] if len(query) > 2 else 1
    axis = -2 if packed or paged else -3
    key_heads = key[axis] if len(key) > 2 else 1
    if heads != key_heads and (key_heads == 0 or heads % key_heads):
        raise ValueError(f"expected heads of query in a multiple of those of key, not {shapes}")


def _one_batch_axis(
    query: NDArray[Any], key: NDArray[Any], value: NDArray[Any], paged: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[int, ...]]:
    if query.ndim == 4 and (paged or query.shape[0] == key.shape[0]) and key.ndim == 4:
        return query, key, value, query.shape[:1]
    query, key, value = (x[None] if x.ndim == 2 else x for x in (query, key, value))
    try:
        lead = np.broadcast_shapes(query.shape[:-3], () if paged else key.shape[:-3])
    except ValueError:
        raise ValueError(
            f"expected batches that broadcast, not query of shape {query.shape} and key of shape "
            f"{key.shape}"
        ) from None

    def flat(x: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(x, (*lead, *x.shape[-3:])).reshape(math.prod(lead), *x.shape[-3:])

    return flat(query), key if paged else flat(key), value if paged else flat(value), lead


def _integers(name: str, x: Any, count: int | None) -> NDArray[np.int64]:
    array = np.asarray(x)
    if (array.dtype.kind not in "iu" and array.size) or array.ndim != 1:
        raise ValueError(f"expected {name} of integers in one dimension, not {x!r}")
    if count is not None and len(array) != count:
        raise ValueError(f"expected {name} of {count} elements, one a sequence, not {len(array)}")
    return array.astype(np.int64)


def _ranges(name: str, x: Any, total: int, whose: str) -> NDArray[np.int64]:
    ends = _integers(name, x, None)
    if len(ends) == 0 or ends[0] != 0 or ends[-1] != total or np.any(np.diff(ends) < 0):
        raise ValueError(
            f"expected {name} to ascend from 0 to the {total} rows of {whose}, not {ends.tolist()}"
        )
    return np.stack([ends[:-1], np.diff(ends)], axis=1)


def _table(block_table: Any, batches: int) -> NDArray[np.int32]:
    table = np.asarray(block_table)
    if table.dtype.kind not in "iu" or table.ndim != 2 or len(table) != batches:
        raise ValueError(
            f"expected block_table of integers of shape ({batches}, max_blocks), not {table.dtype} "
            f"of shape {table.shape}"
        )
    return np.ascontiguousarray(table, np.int32)


def _check_blocks(
    table: NDArray[np.int32], lengths: NDArray[np.int64], shape: tuple[int, ...]
) -> None:
    """Blocks beyond a sequence's length may be anything."""
    blocks, size = shape[0], shape[2]
    used = np.arange(table.shape[1]) * size < lengths[:, None]
    wrong = used & ((table < 0) | (table >= blocks))
    if np.any(wrong):
        b, k = np.argwhere(wrong)[0]
        raise ValueError(
            f"expected block_table of blocks from 0 to {blocks - 1}, not {table[b, k]} at "
            f"[{b}, {k}]"
        )
