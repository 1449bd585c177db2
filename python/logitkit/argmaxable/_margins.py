"""Certified margins of witnesses: products with a bound of every rounding error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._error_free import (
    OUTWARD,
    UNIT,
    UNIT_FLOAT32,
    gamma,
    power_of_two_above,
    two_difference,
    two_product,
)
from ._rows import bias_as_float64, largest_magnitude, row_blocks, rows_as_float64

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_QUERIES = 1024  # feature vectors in one product
_CLASSES = 4096  # classes in one product


def witness_margins(
    weight: NDArray[Any], bias: NDArray[Any] | None, classes: Index, x: Array
) -> Array:
    """
    Lower bounds of the margins by which classes win.

    The margin of class `i` at `x` is the least of ``x @ (w_i - w_j) + b_i - b_j`` over
    all other classes `j`. A float32 product with its rounding bound settles almost all
    rows, a float64 product most others, and exact products the rest.

    Parameters
    ----------
    weight : ndarray, shape (n, d)
        Output layer: finite, of any float dtype.
    bias : ndarray, shape (n,), or None
        Its bias.
    classes : ndarray of int64, shape (q,)
        The class that should win at each feature vector.
    x : ndarray of float64, shape (q, d)
        Feature vectors.

    Returns
    -------
    ndarray of float64, shape (q,)
        At most the margin in real arithmetic: a positive entry proves its class
        argmaxable. ``inf`` for a layer of a single class, ``-inf`` where `x` is not
        finite.

    Examples
    --------
    >>> w = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]])
    >>> witness_margins(w, None, np.array([0]), np.array([[-1.0, 1.0]])).round(6).tolist()
    [1.0]
    """
    return certified_margins(weight, bias, classes, x)


def certified_margins(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    classes: Index,
    x: Array,
    *,
    at_least: Array | None = None,
) -> Array:
    """Do what `witness_margins` does, and look closer where the bound is below `at_least`."""
    x = np.asarray(x, np.float64)
    classes = np.asarray(classes, np.int64)
    if x.shape != (classes.size, weight.shape[1]):
        raise ValueError(
            f"witness_margins: {classes.size} classes and {weight.shape[1]} features need x of "
            f"shape {(classes.size, weight.shape[1])}, not {x.shape}"
        )
    if weight.shape[0] == 1:
        return np.full(classes.size, np.inf)
    margins = np.full(classes.size, -np.inf)
    errors = np.full(classes.size, np.inf)
    todo = np.flatnonzero(np.isfinite(x).all(axis=1))
    wanted = np.full(classes.size, -np.inf) if at_least is None else at_least
    centre = _centre(weight)
    w_exp = _exponent(_largest_difference(weight, centre))
    for dtype in (np.float32, np.float64):
        if todo.size:
            margins[todo], errors[todo] = _margins_by_product(
                weight, bias, classes[todo], x[todo], centre, w_exp, dtype
            )
        # Settled: clearly positive (and the bound within 1/16 of it), or clearly not.
        won = (margins[todo] > 16 * errors[todo]) & (margins[todo] >= wanted[todo])
        todo = todo[~(won | (margins[todo] + errors[todo] < 0))]
    for q in todo[(margins[todo] <= 0) | (margins[todo] < wanted[todo])]:
        margins[q] = exact_margin(weight, bias, int(classes[q]), x[q])
    return margins


def _centre(weight: NDArray[Any]) -> Array:
    n, d = weight.shape
    return sum((rows_as_float64(weight, r).sum(axis=0) / n for r in row_blocks(n, d)), np.zeros(d))


def _largest_difference(weight: NDArray[Any], centre: Array) -> float:
    blocks = (rows_as_float64(weight, rows) - centre for rows in row_blocks(*weight.shape))
    return max(float(np.abs(block).max(initial=0.0)) for block in blocks)


def _margins_by_product(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    classes: Index,
    x: Array,
    centre: Array,
    w_exp: int,
    dtype: DTypeLike,
) -> tuple[Array, Array]:
    """Return a lower bound of each margin and how far below the margin it may lie."""
    n, d = weight.shape
    unit = UNIT_FLOAT32 if dtype == np.float32 else UNIT
    # Margins do not change when all rows or all biases move by the same amount: with the
    # centre taken off, less cancels.
    b = bias_as_float64(bias, n)
    b = b - np.median(b)
    # One product holds logits, biases and error bounds: its rows [x, s, c] and [w, b, |w|],
    # all scaled by powers of two to at most one, so that nothing overflows.
    b_exp = _exponent(float(np.abs(b).max())) if b.any() else -1 << 20
    exponent = np.maximum(power_of_two_above(np.abs(x).max(axis=1)) + w_exp, b_exp)
    queries = np.empty((classes.size, d + 2))
    queries[:, :d] = np.ldexp(x, (w_exp - exponent)[:, None])
    queries[:, d] = np.ldexp(1.0, b_exp - exponent)
    # |computed - exact logit| <= c |(w, b)| by Cauchy-Schwarz: d + 1 products of factors
    # that were centred and rounded to `dtype`. The product itself adds c |(w, b)|, so that
    # its entries are upper bounds of the scaled logits.
    norms = np.sqrt(np.einsum("qk,qk->q", queries[:, : d + 1], queries[:, : d + 1]))
    queries[:, d + 1] = c = 1.01 * OUTWARD * gamma(d + 10, unit) * norms
    tiny = (d + 10) * float(np.finfo(dtype).tiny)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        rounded = queries.astype(dtype)
    highest = np.full(classes.size, -np.inf)
    own, longest = np.empty(classes.size), 0.0
    for rows in row_blocks(n, d + 2, 8 * _CLASSES * (d + 2)):
        block = np.empty((rows.stop - rows.start, d + 2))
        block[:, :d] = np.ldexp(rows_as_float64(weight, rows) - centre, -w_exp)
        block[:, d] = np.ldexp(b[rows], -b_exp) if b.any() else 0.0
        length = OUTWARD * np.sqrt(np.einsum("jk,jk->j", block[:, : d + 1], block[:, : d + 1]))
        block[:, d + 1] = length
        longest = max(longest, float(length.max()))
        here = np.flatnonzero((classes >= rows.start) & (classes < rows.stop))
        mine = block[classes[here] - rows.start]
        lower = np.einsum("qk,qk->q", queries[here, : d + 1], mine[:, : d + 1])
        own[here] = lower - OUTWARD * gamma(d + 10) * norms[here] * mine[:, d + 1]
        _raise_highest(highest, rounded, block.astype(dtype), classes - rows.start)
    shrink = 1.0 - 2.0**-50 * np.sign(own - highest)
    lower = (own - highest - 2 * tiny) * shrink
    # The product may exceed the exact logit by twice the bound, our own logit by once.
    error = 3.1 * c * longest + 4 * tiny
    margins, errors = np.ldexp(lower, exponent), np.ldexp(error, exponent)
    margins[np.isnan(margins) | (margins == np.inf)] = -np.inf
    errors[~np.isfinite(margins) | np.isnan(errors)] = np.inf
    return margins, errors


def _raise_highest(highest: Array, queries: NDArray[Any], block: NDArray[Any], own: Index) -> None:
    """Raise `highest` to the largest product with the block, leaving out the own class."""
    for start in range(0, len(queries), _QUERIES):
        part = slice(start, start + _QUERIES)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            product = queries[part] @ block.T
        inside = np.flatnonzero((own[part] >= 0) & (own[part] < len(block)))
        product[inside, own[part][inside]] = -np.inf
        np.maximum(highest[part], product.max(axis=1), out=highest[part])


def _exponent(magnitude: float) -> int:
    return math.frexp(magnitude)[1]


def exact_margin(weight: NDArray[Any], bias: NDArray[Any] | None, cls: int, x: Array) -> float:
    """
    Margin of one class at `x`, rounded down to a float64.

    Differences of rows and their products with `x` narrow the runners-up down to those
    that rounding may confuse; these are summed without error.

    Parameters
    ----------
    weight : ndarray, shape (n, d)
        Output layer: finite, of any float dtype.
    bias : ndarray, shape (n,), or None
        Its bias.
    cls : int
        The class that should win.
    x : ndarray of float64, shape (d,)
        A finite feature vector.

    Returns
    -------
    float
        The margin, rounded down; ``inf`` for a layer of a single class.

    Examples
    --------
    >>> exact_margin(np.array([[1.0], [1.0 + 2.0**-52]]), None, 1, np.array([1.0])) > 0
    True
    """
    n, d = weight.shape
    b = bias_as_float64(bias, n)
    # Powers of two that bring weights, features and biases below one.
    w_exp = _exponent(largest_magnitude(weight))
    x_exp, b_exp = (_exponent(float(np.abs(v).max(initial=0.0))) for v in (x, b))
    exponent = max(x_exp + w_exp, b_exp) if b.any() else x_exp + w_exp
    x, b = np.ldexp(x, w_exp - exponent), np.ldexp(b, -exponent)
    tiny = 4 * d * float(np.finfo(np.float64).tiny)
    own = np.ldexp(rows_as_float64(weight, np.array([cls])), -w_exp)
    best, rivals = np.inf, np.empty(0, np.int64)
    lower = np.empty(0)
    for rows in row_blocks(n, d):
        difference = own - np.ldexp(rows_as_float64(weight, rows), -w_exp)
        gap = b[cls] - b[rows]
        margin = difference @ x + gap
        error = np.abs(difference) @ np.abs(x) + np.abs(gap)
        error = OUTWARD * gamma(d + 4) * error + tiny
        if rows.start <= cls < rows.stop:
            margin[cls - rows.start] = np.inf
        best = min(best, float((margin + error).min()))
        rivals = np.append(rivals, np.arange(rows.start, rows.stop))
        lower = np.append(lower, margin - error)
        rivals, lower = rivals[lower <= best], lower[lower <= best]
    rivals = rivals[rivals != cls]
    if not rivals.size:
        return math.inf
    others = (
        np.ldexp(rows_as_float64(weight, rivals[k : k + 1])[0], -w_exp) for k in range(rivals.size)
    )
    exact = (
        _exact_difference(own[0], other, float(b[cls]), float(b[j]), x)
        for j, other in zip(rivals.tolist(), others, strict=True)
    )
    return float(np.ldexp(np.nextafter(min(exact) - tiny, -np.inf), exponent))


def _exact_difference(own: Array, other: Array, b_own: float, b_other: float, x: Array) -> float:
    """Round ``x @ (own - other) + b_own - b_other`` once, barring underflow."""
    high, low = two_difference(own, other)
    terms = [*two_product(high, x), *two_product(low, x)]
    return math.fsum([value for term in terms for value in term.tolist()] + [b_own, -b_other])
