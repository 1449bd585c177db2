"""Rows of labels, one after the other, without what is left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def loss_of_labels(
    value: Callable[[Any, Any], Any],
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    threshold: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """Return the loss made of ``value(s, t)``, that of one row of logits and targets."""
    s = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    t = np.moveaxis(np.asarray(target, np.float64), axis, -1)
    seen = np.ones(np.shape(logits), bool) if mask is None else np.asarray(mask, bool)
    seen = np.moveaxis(np.broadcast_to(seen, np.shape(logits)), axis, -1)
    if ignore_index is not None:
        seen = seen & (t != ignore_index)
    rows = s.shape[:-1]
    level = np.broadcast_to(0.0 if threshold is None else threshold, rows)
    weight = np.array(np.broadcast_to(1.0 if sample_weight is None else sample_weight, rows))
    values = np.zeros(rows)
    for i in np.ndindex(*rows):
        if not seen[i].any() and seen[i].size:
            weight[i] = 0.0
            continue
        truth = t[i][seen[i]] * (1.0 - label_smoothing) + 0.5 * label_smoothing
        values[i] = value(s[i][seen[i]] - level[i], truth)
    return reduced(values, weight, reduction, denominator)


def of_labels(value: Callable[..., Any]) -> Callable[..., Any]:
    """Make a loss of ``value(s, t, **numbers)``, that of one row of labels that all count."""
    return with_arguments(value, loss_of_labels)


def of_truths(value: Callable[..., Any]) -> Callable[..., Any]:
    """Make a loss of ``value(s, t, **numbers)``, where labels are true or not."""
    return with_arguments(value, loss_of_labels, without=("label_smoothing",))


def with_arguments(
    value: Callable[..., Any], loss: Callable[..., Any], *, without: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Return ``loss(value, ...)`` with the arguments of both."""
    common = [p for p in inspect.signature(loss).parameters.values() if p.name not in without]
    own = [p for p in inspect.signature(value).parameters.values() if p.kind is p.KEYWORD_ONLY]
    signature = inspect.Signature([*common[1:3], *own, *common[3:]])

    @wraps(value)
    def function(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        numbers = {p.name: given.pop(p.name) for p in own}
        return loss(lambda *row: value(*row, **numbers), **given)

    vars(function)["__signature__"] = signature
    return function


def reduced(
    values: Any, weight: Any, reduction: Any, denominator: float | None, norm: Any = 1.0
) -> Any:
    """Return the loss of values that have these weights, zero for rows that are left out."""
    weighted = np.where(weight == 0.0, 0.0, values) * weight
    if callable(reduction):
        return reduction(weighted)
    if reduction == "none":
        return weighted[()]
    if reduction == "sum":
        return weighted.sum()
    with np.errstate(invalid="ignore"):  # the mean of nothing is NaN
        return weighted.sum() / ((weight * norm).sum() if denominator is None else denominator)
