"""Losses of many labels by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._labels import loss_of_labels, of_labels


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


def excess_formula(xp: Any, s: Any, t: Any, mask: Any) -> Any:
    """Return the loss above its least value, 2 log(1 + sum sqrt(t (1 - t)))."""
    u = t * xp.ones_like(s)
    u = u if mask is None else xp.where(mask, u, xp.zeros_like(u))
    least = 2.0 * xp.log1p(xp.sqrt(u * (1.0 - u)).sum(-1))
    return multilabel_formula(xp, s, t, mask) - least


def symmetric_kl_formula(xp: Any, s: Any, t: Any, mask: Any) -> Any:
    """Sum (sigmoid(s) - sigmoid(t)) (s - t) over the labels that count."""
    if mask is not None:
        s, t = (xp.where(mask, x, xp.zeros_like(x)) for x in (s, t))
    difference = 0.5 * (xp.tanh(0.5 * s) - xp.tanh(0.5 * t))
    return (difference * (s - t)).sum(-1)


@of_labels
def excess_multilabel_cross_entropy(s: Any, t: Any) -> Any:
    """Return the loss above its least value, that of s = logit(t) / 2."""
    return excess_formula(np, s, t, None)


def sparse_multilabel_cross_entropy(
    logits: ArrayLike, positives: ArrayLike, *, axis: int = -1, **common: Any
) -> Any:
    """Compute the loss for lists of the true labels, which -1 fills up."""
    x = np.moveaxis(np.asarray(logits), axis, -1)
    lists = np.asarray(positives)
    t = np.zeros(x.shape, bool)
    for i in np.ndindex(*x.shape[:-1]):
        for label in lists[i]:
            if label >= 0:
                t[(*i, label)] = True
    return multilabel_cross_entropy(logits, np.moveaxis(t, -1, axis), axis=axis, **common)


def span_cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, token_mask: ArrayLike | None = None, **common: Any
) -> Any:
    """Compute the loss over all spans (i, j) with i <= j of tokens that count."""
    x = np.asarray(logits, np.float64)
    n = x.shape[-1]
    token = np.broadcast_to(True if token_mask is None else token_mask, (*x.shape[:-2], n))
    seen = np.triu(np.ones((n, n), bool)) & token[..., :, None] & token[..., None, :]
    t = np.asarray(target)
    if t.shape != x.shape:
        dense = np.zeros(x.shape, bool)
        for i in np.ndindex(*x.shape[:-2]):
            for start, end in t[i]:
                if start >= 0:
                    dense[(*i, start, end)] = True
        t = dense
    flat = (*x.shape[:-2], n * n)
    return multilabel_cross_entropy(
        np.where(seen, x, 0.0).reshape(flat), t.reshape(flat), mask=seen.reshape(flat), **common
    )


def symmetric_kl(logits: ArrayLike, other: ArrayLike, *, axis: int = -1, **common: Any) -> Any:
    """Sum of the Kullback-Leibler divergences of Bernoulli variables, in both directions."""

    def value(s: Any, both: Any) -> Any:
        # log p, log(1 - p), log q and log(1 - q)
        p, not_p, q, not_q = (-np.logaddexp(0.0, x) for x in (-s, s, -both, both))
        of_p = np.exp(p) * (p - q) + np.exp(not_p) * (not_p - not_q)
        return (of_p + np.exp(q) * (q - p) + np.exp(not_q) * (not_q - not_p)).sum()

    return loss_of_labels(value, logits, other, axis=axis, **common)
