"""Losses of maps that are defined by an equation for a threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._classes import loss_of_classes

# The threshold is a constant that solves its equation, and then takes Newton's steps, so that
# its derivatives are right: each step doubles how many.


def entmax_formula(
    xp: Any, x: Any, target: Any, weight: Any, *, alpha: float, label_smoothing: float
) -> Any:
    """max_p (p x + H(p)) - t x - H(t), H(p) = sum (p - p^alpha) / (alpha (alpha - 1))."""
    t = _distribution(xp, x, target, label_smoothing)
    possible = x > -np.inf
    x = xp.where(possible, x, xp.zeros_like(x))

    def shares(threshold: Any) -> tuple[Any, Any]:
        above = (alpha - 1.0) * (x - threshold[..., None]) + 1.0 / alpha
        inside = possible & (above > 0.0)
        safe = xp.where(inside, above, xp.ones_like(above))
        zero = xp.zeros_like(above)
        power = 1.0 / (alpha - 1.0)
        p = xp.where(inside, safe**power, zero)
        return p, xp.where(inside, safe ** (power - 1.0), zero)

    def step(threshold: Any) -> Any:
        p, slope = shares(threshold)
        return threshold + (p.sum(-1) - 1.0) / slope.sum(-1)

    constant = x if xp is np else x.detach()
    top = xp.amax(xp.where(possible, constant, xp.full_like(x, -np.inf)), axis=-1)
    # At most 1 / alpha (alpha - 1) below the top the sum is at least 1.
    high = top + 1.0 / (alpha * (alpha - 1.0))
    low = high - 1.0 / (alpha - 1.0)
    for _ in range(40):
        middle = 0.5 * (low + high)
        enough = shares(middle)[0].sum(-1) >= 1.0
        low, high = xp.where(enough, middle, low), xp.where(enough, high, middle)
    if xp is not np:
        low = low.detach()
    threshold = step(low)
    p, _ = shares(threshold)
    size = 1.0 / (alpha * (alpha - 1.0))
    conjugate = ((x - threshold[..., None]) * p - size * (p**alpha - p)).sum(-1) + threshold
    entropy = size * (t - t**alpha).sum(-1)
    return _weighted(xp, conjugate - (t * x).sum(-1) - entropy, t, weight)


def top_k_formula(xp: Any, x: Any, target: Any, weight: Any, *, k: int) -> Any:
    """1 - sigmoid(x_y - threshold), where sum_j sigmoid(x_j - threshold) = k."""
    t = _distribution(xp, x, target, 0.0)
    possible = x > -np.inf
    x = xp.where(possible, x, xp.zeros_like(x))

    def shares(threshold: Any) -> Any:
        p = 0.5 * (1.0 + xp.tanh(0.5 * (x - threshold[..., None])))
        return xp.where(possible, p, xp.zeros_like(p))

    constant = x if xp is np else x.detach()
    if k >= x.shape[-1]:
        return 0.0 * x.sum(-1)
    low = xp.amin(constant, axis=-1) - 60.0
    high = xp.amax(constant, axis=-1) + 60.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        enough = shares(middle).sum(-1) >= k
        low, high = xp.where(enough, middle, low), xp.where(enough, high, middle)
    threshold = low if xp is np else low.detach()
    for _ in range(2):
        p = shares(threshold)
        threshold = threshold + (p.sum(-1) - k) / (p * (1.0 - p)).sum(-1)
    return _weighted(xp, 1.0 - (t * shares(threshold)).sum(-1), t, weight)


def _distribution(xp: Any, x: Any, target: Any, label_smoothing: float) -> Any:
    n, one = x.shape[-1], xp.ones_like(x)
    if target.ndim < x.ndim:
        target = target[..., None] == xp.arange(n)
    return (1.0 - label_smoothing) * (one * target) + label_smoothing / n


def _weighted(xp: Any, value: Any, t: Any, weight: Any) -> Any:
    return value if weight is None else value * (t * weight).sum(-1)


def entmax_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float = 1.5,
    axis: int = -1,
    mask: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """max_p (p x + H(p)) - t x - H(t), for the entropy H of Tsallis."""

    def value(x: Any, t: Any, *_: Any) -> Any:
        smoothing = label_smoothing
        return entmax_formula(np, x, np.asarray(t), None, alpha=alpha, label_smoothing=smoothing)

    return loss_of_classes(
        value,
        logits,
        target,
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )


def sparsemax_loss(logits: ArrayLike, target: ArrayLike, **common: Any) -> Any:
    """|x - t|^2 / 2 - min_p |x - p|^2 / 2."""
    return entmax_loss(logits, target, alpha=2.0, **common)


def smooth_top_k_accuracy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    k: int = 5,
    axis: int = -1,
    mask: ArrayLike | None = None,
    ignore_index: int | None = -100,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """1 - sigmoid(x_y - threshold), where sum_j sigmoid(x_j - threshold) = k."""
    n = np.shape(logits)[axis]
    if not 1 <= k <= n:
        raise ValueError(f"expected k from 1 to the {n} classes, not {k}")
    return loss_of_classes(
        lambda x, t, *_: top_k_formula(np, x, np.asarray(t), None, k=k),
        logits,
        target,
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )


def smooth_balanced_accuracy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    mask: ArrayLike | None = None,
    ignore_index: int | None = -100,
) -> Any:
    """One less the mean over classes of the mean probability of their rows."""
    x = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    y = np.asarray(target)
    kept = np.broadcast_to(True if mask is None else mask, y.shape) & (y != ignore_index)
    x, y = x[kept], y[kept]
    p = np.exp(x - x.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return 1.0 - np.mean([p[y == c, c].mean() for c in np.unique(y)])


def z_loss(
    logits: ArrayLike,
    *,
    axis: int = -1,
    mask: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """logsumexp(x)**2."""
    x = np.moveaxis(np.asarray(logits), axis, -1)
    return loss_of_classes(
        lambda x, *_: np.logaddexp.reduce(x) ** 2,
        x,
        np.zeros(x.shape[:-1], int),
        mask=mask,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
