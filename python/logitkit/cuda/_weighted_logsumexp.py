"""Log-sum-exp with weights, of real arrays on a GPU, by the steps of the reference in float64."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ._arrays import namespace_of


class LogSum(NamedTuple):
    """The logarithm of the absolute value of a sum, and a number of the sum's sign."""

    log: Any
    total: Any


def log_of_sum(a: Any, b: Any) -> LogSum:
    """Return that of b exp(a), summed over the second axis, of arrays of three axes in float64."""
    xp = namespace_of(a)
    if a.shape[1] == 0:
        nothing = xp.zeros((a.shape[0], a.shape[2]), dtype=a.dtype, device=a.device)
        return LogSum(nothing - math.inf, nothing)
    nothing = xp.zeros_like(a)
    a = xp.where(b == 0.0, nothing - math.inf, a)  # drops the term, even an infinite one or NaN
    magnitude = a + xp.log(xp.abs(b))
    peak = xp.max(magnitude, axis=1, keepdims=True)
    place = xp.arange(a.shape[1], dtype=xp.int64, device=a.device)[None, :, None]
    is_largest = (magnitude == peak) | xp.isnan(magnitude)
    first = xp.min(xp.where(is_largest, place, xp.full_like(place, a.shape[1])), axis=1)
    is_first = place == first[:, None, :]
    shift, lead = (_sum(xp.where(is_first, x, nothing)) for x in (a, b))
    half = xp.exp((a - shift) / 2.0)  # exp(a - shift) may overflow where b is tiny
    terms = b * half * half
    rest = _sum(xp.where(is_first, nothing, terms))
    total = lead + rest
    # What is left may be smaller than the rounding of a plain sum.
    total = xp.where(xp.abs(total) < xp.abs(lead), _compensated_sum(terms), total)
    log = shift + xp.where(
        xp.abs(rest) < xp.abs(lead) / 2.0,
        xp.log(xp.abs(lead)) + xp.log1p(rest / lead),
        xp.log(xp.abs(total)),
    )
    # Infinite terms decide alone, and there is nothing to shift by.
    exp = xp.exp(xp.where(magnitude < peak, nothing - math.inf, a))
    plain, finite = _sum(xp.where(b == 1.0, exp, b * exp)), xp.isfinite(peak)
    log = xp.where(finite, log, xp.log(xp.abs(plain)))
    return LogSum(log[:, 0, :], xp.where(finite, total, plain)[:, 0, :])


def sign(total: Any) -> Any:
    """Return -1, 0 or 1, and NaN of NaN."""
    xp = namespace_of(total)
    return xp.where(xp.isnan(total), total, xp.sign(total))


def _sum(x: Any) -> Any:
    return namespace_of(x).sum(x, axis=1, keepdims=True)


def _compensated_sum(terms: Any) -> Any:
    """Sum with what each addition rounds away (Knuth's TwoSum) put back."""
    xp = namespace_of(terms)
    after = xp.cumulative_sum(terms, axis=1)
    before = xp.concat([xp.zeros_like(after[:, :1]), after[:, :-1]], axis=1)
    added = after - before
    lost = (before - (after - added)) + (terms - added)
    return after[:, -1:] + _sum(lost)
