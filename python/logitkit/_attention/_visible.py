"""What a row of attention sees: the band of its window, masks and additive terms."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._backend import as_array
from .._shapes import check_broadcast
from ._layout import Layout

UNLIMITED = 2**61
_BLOCK = 2**22  # elements of a mask that are counted at a time


class Visible(NamedTuple):
    """Limits of the band, in keys, and what is laid over it: (batch, head, row, key) or 1."""

    left: int
    right: int
    mask: NDArray[np.uint8] | None
    terms: list[NDArray[Any]]


def what_is_visible(layout: Layout, mask: Any, bias: Any, is_causal: bool, window: Any) -> Visible:
    """Check mask, bias and window, and bring them to the kernel's form."""
    left, right = window_limits(window)
    right = min(right, 0) if is_causal else right
    bits, terms = None, []
    for name, x in (("mask", mask), ("bias", bias)):
        if x is None:
            continue
        if layout.packed or layout.block_table is not None:
            raise ValueError(f"expected no {name} for a packed or paged batch, which has no shape")
        x = as_array(x)
        if not isinstance(x, np.ndarray):
            raise TypeError(f"expected {name} in main memory, not a {type(x).__name__}")
        if x.dtype == np.bool_ and name == "mask":
            bits = _scores(layout, name, x).view(np.uint8)
        elif x.dtype.kind == "f" or x.dtype.name == "bfloat16":
            with np.errstate(over="ignore"):  # the lowest float64 hides just as well
                terms.append(_scores(layout, name, x.astype(layout.compute, copy=False)))
        else:
            kinds = "bool or floats" if name == "mask" else "floats"
            raise TypeError(f"expected {name} of {kinds}, not {x.dtype}")
    return Visible(left, right, bits, terms)


def window_limits(window: Any) -> tuple[int, int]:
    """Return how many keys a row sees before its position, and after it."""
    if window is None:
        return UNLIMITED, UNLIMITED
    try:
        left, right = window
        limits = [UNLIMITED if x is None else operator.index(x) for x in (left, right)]
    except (TypeError, ValueError):
        raise ValueError(
            f"expected window = (left, right) in keys, None for no limit, not {window!r}"
        ) from None
    if min(limits) < 0:
        raise ValueError(f"expected a window of at least 0 keys to either side, not {window!r}")
    return min(limits[0], UNLIMITED), min(limits[1], UNLIMITED)


def _scores(layout: Layout, name: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return the array with four axes, 1 or whole, and dense keys."""
    heads = () if layout.single else (layout.query.shape[1],)
    full = (*layout.lead, *heads, layout.query.shape[2], layout.key.shape[2])
    check_broadcast(name, x.shape, full)
    if layout.single:
        x = x.reshape(*x.shape[:-2], 1, *x.shape[-2:]) if x.ndim > 1 else x
    x = x.reshape((1,) * (3 - x.ndim) + x.shape)
    if x.shape[-1] > 1 and x.strides[-1] != x.itemsize:
        x = np.ascontiguousarray(x)
    if x.ndim == 3 or math.prod(x.shape[:-3]) == 1:
        return x.reshape(1, *x.shape[-3:])
    full_batch = np.broadcast_to(x, (*layout.lead, *x.shape[-3:]))
    return full_batch.reshape(math.prod(layout.lead), *x.shape[-3:])


def count_visible(layout: Layout, visible: Visible) -> NDArray[np.int64]:
    """Return how many keys each row sees: (batch, head, row), or 1 where all are the same."""
    batches, _, length = layout.rows
    counts = np.zeros((1 if layout.packed else batches, 1, length), np.int64)
    bands = []
    for batch, first, rows, _, _, keys, offset in layout.sequences.tolist():
        begin, end = _band(visible, offset, rows, keys)
        counts[batch, 0, first : first + rows] = end - begin
        bands.append((begin, end))
    laid_over = visible.terms + ([visible.mask] if visible.mask is not None else [])
    if not laid_over:
        return counts
    shape = np.broadcast_shapes(*(x.shape[:2] for x in laid_over), (batches, 1))
    counts = np.zeros((*shape, length), np.int64)
    keys = layout.key.shape[2]
    step = max(1, _BLOCK // max(1, keys))
    for b in range(batches):
        begin, end = (np.broadcast_to(x, length)[:, None] for x in bands[b])
        for h in range(shape[1]):
            for i in range(0, length, step):
                rows = slice(i, i + step)
                seen = (np.arange(keys) >= begin[rows]) & (np.arange(keys) < end[rows])
                for x in laid_over:
                    own = x[b if len(x) > 1 else 0, h if x.shape[1] > 1 else 0]
                    own = own[rows] if len(own) > 1 else own
                    seen &= own.view(np.bool_) if own.dtype == np.uint8 else own != -np.inf
                counts[b, h, rows] = np.count_nonzero(seen, axis=-1)
    return counts


def _band(visible: Visible, offset: int, rows: int, keys: int) -> tuple[Any, Any]:
    """Return the first key that each row of a sequence may see, and the one after the last."""
    if visible.left == visible.right == UNLIMITED:
        return 0, keys  # in a tenth of the time
    position = np.arange(offset, offset + rows)
    begin = np.minimum(np.maximum(position - visible.left, 0), keys)
    return begin, np.maximum(np.minimum(position + (visible.right + 1), keys), begin)
