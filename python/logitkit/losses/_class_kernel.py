"""Values and slopes of losses that are a function of the probability of a class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import _cpu
from ..reference.losses._classes import class_formula
from ._class_rows import check_classes
from ._row_loss import RowLoss


class Information(NamedTuple):
    """What a class tells: -log p, the probability p of it, and that of all others."""

    nats: Any
    p: Any
    wrong: Any


# A function of it and of numbers, and its derivative with respect to the nats.
Phi = Callable[..., tuple[Any, Any]]


def class_loss(
    name: str,
    phi: Phi,
    formula: Callable[..., Any],
    *numbers: tuple[str, str],
    stretched: RowLoss | None = None,
) -> RowLoss:
    """Return the loss sum_j t_j w_j phi(-log p_j)."""

    def of_rows(xp: Any, *arrays: Any, **given: Any) -> Any:
        return class_formula(xp, formula, *arrays, **given)

    common = (("label_smoothing", "float"), ("z_loss", "float"))
    kernel = partial(_kernel, phi)
    return RowLoss(
        name,
        ("logits", "target", "weight?"),
        2,
        of_rows,
        kernel,
        (*common, *numbers),
        error=stretched is not None,
        stretched=stretched,
    )


def _kernel(
    phi: Phi,
    x: Any,
    target: Any,
    weight: Any,
    *,
    argnums: tuple[int, ...],
    label_smoothing: float,
    z_loss: float,
    **numbers: float,
) -> tuple[Any, tuple[Any, ...]]:
    """Return values and slopes: of a class for each row the short way, unless it is smoothed."""
    hard = target.ndim < x.ndim
    if hard:
        check_classes(target, x.shape[-1])
    if hard and not label_smoothing:
        value, slope = _of_class(phi, x, target, weight, bool(argnums), z_loss, numbers)
        return value.astype(x.dtype, copy=False), (slope,) if argnums else ()
    if hard:
        target = (target[..., None] == np.arange(x.shape[-1])).astype(x.dtype)
    t = (1.0 - label_smoothing) * target + label_smoothing / max(x.shape[-1], 1)
    t = t.astype(x.dtype, copy=False)
    value, slopes, lse, p = _of_distribution(phi, x, t, weight, argnums, numbers)
    if 1 in argnums:
        slopes = (slopes[0], (1.0 - label_smoothing) * slopes[1])
    if z_loss:
        value = value + z_loss * lse * lse
        if 0 in argnums:
            slopes = (slopes[0] + (2.0 * z_loss * lse)[..., None] * p, *slopes[1:])
    value = value.astype(x.dtype, copy=False)
    return value, tuple(slopes[i].astype(x.dtype, copy=False) for i in argnums)


def _weighted(value: Any, weight: Any) -> Any:
    """Return values times weights, 0 for a class without weight, even if it is impossible."""
    return np.where(np.isinf(value) & (weight == 0.0), 0.0, value) * weight


def _exponentials(x: Any) -> tuple[Any, Any]:
    """Return the maximum of each row, 0 where it is infinite, and exp(x - maximum)."""
    m = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    m = np.where(np.isfinite(m), m, 0.0).astype(x.dtype, copy=False)
    z = x - m
    return m, np.exp(z, out=z)


def _of_class(
    phi: Phi,
    x: Any,
    target: Any,
    weight: Any,
    wanted: bool,
    z_loss: float,
    numbers: dict[str, float],
) -> tuple[Any, Any]:
    """
    Return the value for one class of each row, and slopes.

    The kernel of cross-entropy has -log p with all of its digits, however small it is, and its
    gradient, the probabilities less one at the class: phi' of the row times that is the slope.
    """
    n, count = x.shape[-1], target.size
    rows = np.ascontiguousarray(x).reshape(count, n)
    labels = np.ascontiguousarray(target, np.int64).reshape(-1)
    nats, lse = np.empty(count), np.empty(count)
    slope = np.empty((count, n), x.dtype) if wanted else None
    _cpu.cross_entropy(rows, labels, nats, logsumexp=lse, gradient=slope)
    with np.errstate(all="ignore"):
        told = Information(nats, np.exp(-nats), -np.expm1(-nats))
        value, change = phi(told, **numbers)
    if weight is not None:
        at = target[..., None].astype(np.intp)
        w = np.take_along_axis(weight, at, -1).reshape(-1)
        value, change = _weighted(value, w), change * w
    pull: Any = 0.0  # of log-sum-exp on all classes
    if z_loss:
        value, pull = value + z_loss * lse * lse, 2.0 * z_loss * lse
    if slope is not None:
        slope *= (change + pull).astype(x.dtype)[:, None]
        own = (pull * told.p - change * told.wrong).astype(x.dtype)
        slope[np.arange(count), labels] = own
        slope = slope.reshape(x.shape)
    return value.reshape(target.shape), slope


def _of_distribution(
    phi: Phi, x: Any, t: Any, weight: Any, argnums: tuple[int, ...], numbers: dict[str, float]
) -> tuple[Any, tuple[Any, ...], Any, Any]:
    """Return the value for probabilities of the classes, slopes, log-sum-exp, probabilities."""
    m, z = _exponentials(x)
    at = np.argmax(x, axis=-1, keepdims=True)
    largest = np.take_along_axis(z, at, -1)
    np.put_along_axis(z, at, 0.0, -1)
    others = z.sum(-1, keepdims=True, dtype=np.float64)
    np.put_along_axis(z, at, largest, -1)
    total = others + largest
    p = (z / total).astype(x.dtype)
    wrong = 1.0 - p
    np.put_along_axis(wrong, at, (others / total).astype(x.dtype), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_total = np.where(largest == 1.0, np.log1p(others), np.log(total))
        nats = log_total - (x - m)
        each, change = phi(Information(nats, p, wrong), **numbers)
        if weight is not None:
            each, change = _weighted(each, weight), change * weight
        value = np.where(t > 0.0, t * each, 0.0).sum(-1, dtype=np.float64)
        u = np.where(t > 0.0, t * change, 0.0)
    slope = p * u.sum(-1, keepdims=True) - u if 0 in argnums else None
    return value, (slope, each), (np.float64(m) + log_total)[..., 0], p
