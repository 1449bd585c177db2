"""Losses of one true class in a row, by their definitions."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._labels import reduced, with_arguments


def class_formula(
    xp: Any,
    phi: Callable[..., Any],
    x: Any,
    target: Any,
    weight: Any,
    label_smoothing: float,
    z_loss: float,
    **numbers: float,
) -> Any:
    """sum_j t_j w_j phi(-log p_j) + z_loss * logsumexp(x)**2, for p = softmax(x)."""
    n = x.shape[-1]
    one = xp.ones_like(x)
    if target.ndim < x.ndim:  # one class each
        target = target[..., None] == xp.arange(n)
    t = (1.0 - label_smoothing) * (one * target) + label_smoothing / n
    if weight is not None:
        t = t * weight
    possible = x > -np.inf
    m = xp.amax(x, axis=-1, keepdims=True)
    m = xp.where(xp.isfinite(m), m, xp.zeros_like(m))
    shifted = xp.where(possible, x - m, xp.zeros_like(x))
    e = xp.where(possible, xp.exp(shifted), xp.zeros_like(x))
    lse = m + xp.log(e.sum(-1)[..., None])
    information = xp.where(possible | (t > 0.0), lse - x, xp.zeros_like(x))
    value = (t * phi(xp, information, **numbers)).sum(-1)
    return value + z_loss * (lse * lse)[..., 0] if z_loss else value


def loss_of_classes(
    value: Callable[..., Any],
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """Return the loss made of ``value(x, target, weight, ...)``, that of one row."""
    x = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    t = np.asarray(target)
    if t.ndim == x.ndim:
        t = np.moveaxis(np.asarray(t, np.float64), axis, -1)
    rows = x.shape[:-1]
    w = None if weight is None else np.asarray(weight, np.float64)
    each = np.array(np.broadcast_to(1.0 if sample_weight is None else sample_weight, rows))
    seen = np.broadcast_to(True if mask is None else np.asarray(mask, bool), rows)
    values, norm = np.zeros(rows), np.ones(rows)
    for i in np.ndindex(*rows):
        hard = t.ndim < x.ndim
        if not seen[i] or (hard and ignore_index is not None and t[i] == ignore_index):
            each[i] = 0.0
            continue
        values[i] = value(x[i], t[i], w, label_smoothing, z_loss)
        norm[i] = w[t[i]] if hard and w is not None else 1.0
    return reduced(values, each, reduction, denominator, norm)


def of_classes(phi: Callable[..., Any]) -> Callable[..., Any]:
    """Make a loss of ``phi(xp, information, **numbers)``, for -log p of the true class."""

    @wraps(phi)
    def value(x: Any, t: Any, w: Any, smoothing: float, z: float, /, **numbers: Any) -> Any:
        return class_formula(np, phi, x, t, w, smoothing, z, **numbers)

    return with_arguments(value, loss_of_classes)


def focal_phi(xp: Any, information: Any, *, gamma: float = 2.0) -> Any:
    """(1 - p)**gamma * -log(p)."""
    wrong = -xp.expm1(-information)
    if gamma == 0.0:
        return information
    certain = wrong == 0.0
    power = xp.where(certain, xp.ones_like(wrong), wrong) ** gamma
    return xp.where(certain, xp.zeros_like(wrong), power * information)


def poly_phi(xp: Any, information: Any, *, epsilon: float = 1.0) -> Any:
    """-log(p) + epsilon * (1 - p)."""
    return information - epsilon * xp.expm1(-information)


def generalized_phi(xp: Any, information: Any, *, q: float = 0.7) -> Any:
    """(1 - p**q) / q, and -log(p) for q = 0."""
    return -xp.expm1(-q * information) / q if q else information


def beta_bernoulli_phi(xp: Any, information: Any, *, prior: float, share: float) -> Any:
    """-log(share * prior + (1 - share) * p)."""
    if share == 0.0:
        return information
    return -xp.log(share * prior + (1.0 - share) * xp.exp(-information))


def accuracy_phi(xp: Any, information: Any) -> Any:
    """1 - p."""
    return -xp.expm1(-information)


def logarithm_phi(xp: Any, information: Any) -> Any:
    """-log(p)."""
    return information


focal = of_classes(focal_phi)
poly = of_classes(poly_phi)
generalized_cross_entropy = of_classes(generalized_phi)
smooth_accuracy = of_classes(accuracy_phi)
log_loss = of_classes(logarithm_phi)


def beta_bernoulli(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    share: float = 0.1,
    prior: float | None = None,
    **common: Any,
) -> Any:
    """-log(share * prior + (1 - share) * p), where the prior is 1 / n by default."""
    given = 1.0 / np.shape(logits)[common.get("axis", -1)] if prior is None else prior

    def value(x: Any, t: Any, w: Any, smoothing: float, z: float) -> Any:
        numbers = {"prior": given, "share": share}
        return class_formula(np, beta_bernoulli_phi, x, np.asarray(t), w, smoothing, z, **numbers)

    return loss_of_classes(value, logits, target, **common)


def logit_adjusted_cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, prior: ArrayLike, tau: float = 1.0, **common: Any
) -> Any:
    """-log softmax(s + tau log(prior))_y."""
    axis = common.get("axis", -1)
    shift = tau * np.log(np.asarray(prior, np.float64))
    x = np.moveaxis(np.moveaxis(np.asarray(logits, np.float64), axis, -1) + shift, -1, axis)
    return log_loss(x, target, **common)
