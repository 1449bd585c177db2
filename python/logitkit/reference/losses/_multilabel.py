"""Losses of many labels by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._labels import of_labels


def log1p_sum_exp(xp: Any, x: Any, w: Any) -> Any:
    """log(1 + sum w exp(x)) along the last axis; a weight of zero drops its term."""
    if x.shape[-1] == 0:
        return x.sum(-1)
    top = xp.amax(xp.where(w > 0.0, x, xp.full_like(x, -np.inf)), axis=-1, keepdims=True)
    m = xp.where((top > 0.0) & (top < np.inf), top, xp.zeros_like(top))
    # Terms without weight have a slope in it; 600 keeps them from overflow.
    limited = xp.where((w > 0.0) | (x - m < 600.0), x - m, xp.full_like(x, 600.0))
    extra = (w * xp.exp(limited)).sum(-1) + xp.expm1(-m[..., 0])
    return m[..., 0] + xp.log1p(extra)


def multilabel_formula(xp: Any, s: Any, t: Any, mask: Any) -> Any:
    """log(1 + sum t exp(-s)) + log(1 + sum (1 - t) exp(s)) over the labels that count."""
    one = xp.ones_like(s)
    t = t * one
    u = one - t
    if mask is not None:
        s, t, u = (xp.where(mask, x, xp.zeros_like(x)) for x in (s, t, u))
    return log1p_sum_exp(xp, -s, t) + log1p_sum_exp(xp, s, u)


@of_labels
def multilabel_cross_entropy(s: Any, t: Any) -> Any:
    """log(1 + sum t exp(-s)) + log(1 + sum (1 - t) exp(s))."""
    return multilabel_formula(np, s, t, None)
