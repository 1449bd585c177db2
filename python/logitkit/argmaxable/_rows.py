"""Rows of a weight matrix as float64, a block at a time, and the hash of a layer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 23  # of float64; a few such blocks are alive at a time


def rows_as_float64(weight: NDArray[Any], index: NDArray[np.int64] | slice) -> NDArray[np.float64]:
    """Return the rows of `weight` as float64: exact for every float dtype up to 64 bits."""
    return np.ascontiguousarray(weight[index], dtype=np.float64)


def bias_as_float64(bias: NDArray[Any] | None, n: int) -> NDArray[np.float64]:
    """Return the bias as float64, zero where there is none."""
    return np.zeros(n) if bias is None else np.asarray(bias).astype(np.float64)


def row_blocks(n: int, columns: int, limit: int = BLOCK_BYTES) -> Iterator[slice]:
    """Cut `n` rows into slices whose float64 copies stay below `limit` bytes."""
    step = max(1, limit // (8 * max(columns, 1)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def largest_magnitude(weight: NDArray[Any]) -> float:
    """Return the largest absolute entry, 0 for an empty matrix."""
    n, d = weight.shape
    blocks = (rows_as_float64(weight, rows) for rows in row_blocks(n, d))
    return max((float(np.abs(block).max(initial=0.0)) for block in blocks), default=0.0)


def fingerprint(weight: NDArray[Any], bias: NDArray[Any] | None) -> str:
    """
    SHA-256 of shape, dtype and bytes of a layer.

    Strides, byte order and where the array lives do not matter; the dtype does.

    Examples
    --------
    >>> w = np.eye(2, dtype=np.float32)
    >>> fingerprint(w, None) == fingerprint(np.asfortranarray(w), None)
    True
    """
    digest = hashlib.sha256()
    for array in (weight, bias):
        if array is None:
            digest.update(b"no bias\n")
            continue
        little = array.dtype.newbyteorder("<") if array.dtype.kind == "f" else array.dtype
        digest.update(f"{array.shape} {array.dtype.name}\n".encode())
        columns = array.shape[1] if array.ndim == 2 else 1
        for rows in row_blocks(array.shape[0], columns):
            block = np.ascontiguousarray(array[rows], dtype=little)
            digest.update(block.tobytes())
    return digest.hexdigest()
