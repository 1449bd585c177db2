"""Metrics of predicted probabilities, smooth where those of predicted labels are steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._labels import reduced

# Each returns a metric along the last axis and its derivative with respect to p, for
# probabilities p, targets y and weights w.


def f_score(xp: Any, p: Any, y: Any, w: Any, *, beta: float) -> tuple[Any, Any]:
    """(1 + beta^2) sum y p / (beta^2 sum y + sum p)."""
    b = beta * beta  # perhaps inf; both sums are divided by 1 + b
    of_p = 1.0 / (1.0 + b)
    of_y = b * of_p if b < 1.0 else 1.0 / (1.0 + 1.0 / b)
    return _ratio(xp, w * y * p, of_y * w * y + of_p * w * p, w * y, of_p * w)


def precision(xp: Any, p: Any, y: Any, w: Any) -> tuple[Any, Any]:
    """Sum y p / sum p."""
    return _ratio(xp, w * y * p, w * p, w * y, w)


def recall(xp: Any, p: Any, y: Any, w: Any) -> tuple[Any, Any]:
    """Sum y p / sum y."""
    return _ratio(xp, w * y * p, w * y + 0.0 * p, w * y, 0.0 * w)


def intersection_over_union(xp: Any, p: Any, y: Any, w: Any) -> tuple[Any, Any]:
    """Sum y p / sum (y + p - y p)."""
    return _ratio(xp, w * y * p, w * (y + p - y * p), w * y, w * (1.0 - y))


def matthews(xp: Any, p: Any, y: Any, w: Any) -> tuple[Any, Any]:
    """(1 + MCC) / 2: the correlation of p and y, if p were labels, between 0 and 1."""
    n, together = _sum(w), _sum(w * y * p)
    of_p, of_y = _sum(w * p), _sum(w * y)
    square = of_p * (n - of_p) * of_y * (n - of_y)
    defined = square > 0.0
    one = xp.ones_like(n)
    root = xp.where(defined, square, one) ** 0.5
    # One minus the other is never zero where the root is.
    inner = xp.where(defined, of_p * (n - of_p), one)
    value = xp.where(defined, (n * together - of_p * of_y) / root, one)
    slope = w * (n * y - of_y) / root - value * w * (n - 2.0 * of_p) / (2.0 * inner)
    slope = xp.where(defined, slope, 0.0 * slope)
    return 0.5 * (1.0 + value[..., 0]), 0.5 * slope


def _ratio(xp: Any, above: Any, below: Any, d_above: Any, d_below: Any) -> tuple[Any, Any]:
    """Return a quotient of two sums, 1 for 0 / 0, and its derivative."""
    numerator, divisor = _sum(above), _sum(below)
    defined = divisor > 0.0
    divisor = xp.where(defined, divisor, xp.ones_like(divisor))
    value = xp.where(defined, numerator / divisor, xp.ones_like(divisor))
    slope = (d_above - value * d_below) / divisor
    return value[..., 0], xp.where(defined, slope, 0.0 * slope)


def _sum(x: Any) -> Any:
    return x.sum(-1)[..., None]


def sigmoid(xp: Any, s: Any) -> Any:
    """1 / (1 + exp(-s))."""
    return xp.sigmoid(s) if xp is not np else 0.5 * (1.0 + np.tanh(0.5 * s))


def log_sigmoid(xp: Any, s: Any) -> Any:
    """-log(1 + exp(-s))."""
    return -np.logaddexp(0.0, -s) if xp is np else xp.nn.functional.logsigmoid(s)


def error_formula(
    metric: Callable[..., Any], xp: Any, s: Any, y: Any, w: Any, **numbers: float
) -> Any:
    """1 - M(sigmoid(s))."""
    s = xp.where(w > 0.0, s, xp.zeros_like(s))
    return 1.0 - metric(xp, sigmoid(xp, s), y, w, **numbers)[0]


def surrogate_formula(
    metric: Callable[..., Any], xp: Any, s: Any, y: Any, w: Any, **numbers: float
) -> Any:
    """-sum a log p - sum b log(1 - p): a and b, the parts of dM/dp, are constants."""
    s = xp.where(w > 0.0, s, xp.zeros_like(s))
    slope = metric(xp, sigmoid(xp, s), y, w, **numbers)[1]
    slope = slope if xp is np else slope.detach()
    zero = xp.zeros_like(s)
    gain = xp.where(slope > 0.0, slope, zero) * log_sigmoid(xp, s)
    loss = xp.where(slope < 0.0, -slope, zero) * log_sigmoid(xp, -s)
    return -(gain + loss).sum(-1)


def auc_formula(xp: Any, s: Any, y: Any, w: Any) -> Any:
    """Mean of sigmoid(s_j - s_i) over true i and false j."""
    s = xp.where(w > 0.0, s, xp.zeros_like(s))
    true, false = w * y, w * (1.0 - y)
    pairs = sigmoid(xp, s[..., None, :] - s[..., :, None])
    total = (true[..., :, None] * false[..., None, :] * pairs).sum(-1).sum(-1)
    count = true.sum(-1) * false.sum(-1)
    defined = count > 0.0
    return xp.where(defined, total / xp.where(defined, count, xp.ones_like(count)), 0.0 * total)


def _loss(formula: Callable[..., Any], **own: float) -> Callable[..., Any]:
    """Return the loss of ``formula(xp, s, y, w, **numbers)`` over groups of labels."""

    def function(
        logits: ArrayLike,
        target: ArrayLike,
        *,
        axis: int | tuple[int, ...] | None = None,
        mask: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        reduction: Any = "mean",
        denominator: float | None = None,
        **numbers: float,
    ) -> Any:
        s, y = np.asarray(logits, np.float64), np.asarray(target, np.float64)
        w = np.array(np.broadcast_to(1.0 if sample_weight is None else sample_weight, s.shape))
        w = np.where(np.broadcast_to(True if mask is None else mask, s.shape), w, 0.0)
        axes = (
            tuple(range(s.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        )
        kept = s.ndim - len(axes)
        last = tuple(range(-len(axes), 0))
        s, y, w = (np.moveaxis(x, axes, last) for x in (s, y, w))
        s, y, w = (x.reshape(*x.shape[:kept], -1) for x in (s, y, w))
        values = np.zeros(s.shape[:-1])
        for i in np.ndindex(*values.shape):
            seen = w[i] > 0.0
            values[i] = formula(np, s[i][seen], y[i][seen], w[i][seen], **{**own, **numbers})
        weight = (w > 0.0).any(-1).astype(np.float64)
        return reduced(values, weight, reduction, denominator)

    return function


def _error(metric: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **numbers: error_formula(metric, *args, **numbers)


smooth_f_score = _loss(_error(f_score), beta=1.0)
smooth_precision = _loss(_error(precision))
smooth_recall = _loss(_error(recall))
smooth_iou = _loss(_error(intersection_over_union))
smooth_matthews = _loss(_error(matthews))
smooth_auc = _loss(auc_formula)
