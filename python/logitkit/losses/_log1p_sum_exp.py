"""Log of one plus a weighted sum of exponentials, along the last axis, and its slopes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Log1pSumExp(NamedTuple):
    """
    The value log(1 + sum w exp(x)), and what its derivatives are made of.

    The derivative with respect to `w` is ``ratio``, and that to `x` is ``w * ratio``.
    """

    value: Any
    ratio: Any


def log1p_sum_exp(x: Any, w: Any = None) -> Log1pSumExp:
    """
    Return log(1 + sum w exp(x)) of rows, w >= 0.

    A weight of zero drops its term, even an infinite one. The value is m + log(1 + e), where m
    is the largest of 0 and the terms, and e = sum w exp(x - m) + (exp(-m) - 1): exact where the
    sum is small, too. Sums are accumulated in ``float64``. One with an infinite term is infinite,
    and the ratio of that term NaN.
    """
    top = x if w is None else np.where(w > 0.0, x, -np.inf)
    m = np.max(top, axis=-1, keepdims=True, initial=0.0)
    m = np.where(np.isnan(m), 0.0, m).astype(x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        z = np.exp(x - m)
        terms = z if w is None else np.where(w > 0.0, w * z, 0.0)
        extra = np.sum(terms, axis=-1, keepdims=True, dtype=np.float64) + np.expm1(-np.float64(m))
        # Beside an infinite term all others are 0.
        extra = np.where(m == np.inf, np.inf, extra)
        value = (m + np.log1p(extra)).astype(x.dtype)[..., 0]
        z /= (1.0 + extra).astype(x.dtype)
    return Log1pSumExp(value, z)
