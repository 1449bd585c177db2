"""Smooth metrics by their definitions: values, slopes, and a cross-entropy made of slopes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..reference.losses import _metrics as metrics
from ._multilabel_decoding import sigmoid
from ._row_loss import RowLoss

_ARRAYS = ("logits", "target", "weight")


class MetricLoss(NamedTuple):
    """One less a metric, and the cross-entropy whose weights are the metric's slopes."""

    error: RowLoss
    surrogate: RowLoss


def _of_metric(name: str, metric: Callable[..., Any], *numbers: tuple[str, str]) -> MetricLoss:
    def error(s: Any, y: Any, w: Any, *, argnums: Any, **given: float) -> Any:
        s = np.where(w > 0.0, s, s.dtype.type(0.0))
        p = sigmoid(s.astype(np.float64))
        value, slope = metric(np, p, y, w, **given)
        slopes = ((-slope * p * sigmoid(-s)).astype(s.dtype),) if argnums else ()
        return np.asarray(1.0 - value).astype(s.dtype), slopes

    def surrogate(s: Any, y: Any, w: Any, *, argnums: Any, **given: float) -> Any:
        s = np.where(w > 0.0, s, s.dtype.type(0.0))
        value = metrics.surrogate_formula(metric, np, s.astype(np.float64), y, w, **given)
        p, q = sigmoid(s.astype(np.float64)), sigmoid(-s.astype(np.float64))
        slope = metric(np, p, y, w, **given)[1]
        toward = -slope * np.where(slope > 0.0, q, p)
        return np.asarray(value).astype(s.dtype), ((toward.astype(s.dtype),) if argnums else ())

    return MetricLoss(
        RowLoss(
            name,
            _ARRAYS,
            1,
            partial(metrics.error_formula, metric),
            error,
            numbers,
            error=True,
        ),
        RowLoss(
            f"{name}_surrogate",
            _ARRAYS,
            1,
            partial(metrics.surrogate_formula, metric),
            surrogate,
            numbers,
        ),
    )


def _auc(s: Any, y: Any, w: Any, *, argnums: Any) -> Any:
    """Return the mean over pairs, a block of true labels at a time."""
    rows, n = s.shape[:-1], s.shape[-1]
    flat = math.prod(rows), n
    s2, w2 = np.where(w > 0.0, s, 0.0).reshape(flat).astype(np.float64), w.reshape(flat)
    true, false = (w2 * y.reshape(flat), w2 * (1.0 - y.reshape(flat)))
    count = true.sum(-1) * false.sum(-1)
    value, slope = np.zeros(len(s2)), np.zeros(s2.shape)
    for row in np.flatnonzero(count):
        i, j = np.flatnonzero(true[row]), np.flatnonzero(false[row])
        block = max(1, 2**20 // max(1, len(j)))
        for start in range(0, len(i), block):
            part = i[start : start + block]
            gap = s2[row, j] - s2[row, part, None]
            pair = true[row, part, None] * false[row, j] / count[row]
            value[row] += (pair * sigmoid(gap)).sum()
            if argnums:
                steep = pair * sigmoid(gap) * sigmoid(-gap)
                slope[row, part] -= steep.sum(1)
                slope[row, j] += steep.sum(0)
    slopes = (slope.reshape(s.shape).astype(s.dtype),) if argnums else ()
    return value.reshape(rows).astype(s.dtype), slopes


F_SCORE = _of_metric("smooth_f_score", metrics.f_score, ("beta", "float"))
PRECISION = _of_metric("smooth_precision", metrics.precision)
RECALL = _of_metric("smooth_recall", metrics.recall)
IOU = _of_metric("smooth_iou", metrics.intersection_over_union)
MATTHEWS = _of_metric("smooth_matthews", metrics.matthews)
AUC = RowLoss("smooth_auc", _ARRAYS, 1, metrics.auc_formula, _auc, error=True)

SURROGATES = {one.error.name: one.surrogate for one in (F_SCORE, PRECISION, RECALL, IOU, MATTHEWS)}
