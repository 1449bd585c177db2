"""Smooth forms of metrics as losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._lines import normalized
from ._class_formulas import checked_number
from ._label_rows import check_probabilities
from ._metric_kernels import AUC, F_SCORE, IOU, MATTHEWS, PRECISION, RECALL
from ._namespace import (
    broadcast,
    cast,
    first_index,
    floating,
    is_bool,
    is_host_known,
    like,
    namespace_of,
)
from ._reduction import Reduction, Weighting
from ._row_loss import RowLoss
from ._terms import RowTerms, loss


def _terms(
    row_loss: RowLoss,
    logits: Any,
    target: Any,
    axis: int | tuple[int, ...] | None,
    mask: Any,
    sample_weight: Any,
    reduction: Reduction,
    denominator: float | None,
    **numbers: float,
) -> RowTerms:
    """Return the terms of groups of labels: their axes become one, the last."""
    s, dtype = floating("logits", logits)
    xp = namespace_of(s)
    y = like("target", target, s)
    if tuple(y.shape) != tuple(s.shape):
        raise ValueError(
            f"expected target of shape {tuple(s.shape)}, that of logits, not {tuple(y.shape)}"
        )
    w = xp.ones_like(s)
    if sample_weight is not None:
        given = like("sample_weight", sample_weight, s)
        w = w * broadcast("sample_weight", given, tuple(s.shape))
    if mask is not None:
        mask = like("mask", mask, s)
        if not is_bool(mask):
            raise TypeError(f"expected mask of truth values, not {mask.dtype}: pass mask != 0")
        mask = broadcast("mask", mask, tuple(s.shape))
        w = xp.where(mask, w, xp.zeros_like(w))
        y = xp.where(mask, y, xp.zeros_like(y))
    check_probabilities(y, -1)
    _check_weights(w)
    axes = normalized(axis, s.ndim)
    order = (*(i for i in range(s.ndim) if i not in axes), *axes)
    inverse = tuple(order.index(i) for i in range(s.ndim))
    moved = [x.transpose(order) if xp is np else x.permute(order) for x in (s, y, w)]
    shape = tuple(moved[0].shape)
    rows = shape[: s.ndim - len(axes)]
    labels = math.prod(shape[s.ndim - len(axes) :])
    s, y, w = (x.reshape((*rows, labels)) for x in moved)

    def undo(gradient: Any) -> Any:
        return cast(gradient.reshape(shape).transpose(inverse), dtype)

    kept = None if mask is None and sample_weight is None else (w > 0.0).any(-1)
    weighting = Weighting(reduction, None, kept, None, denominator)
    return RowTerms(row_loss, (s, cast(y, s.dtype), w), weighting, dtype, (undo,), numbers)


def _check_weights(w: Any) -> None:
    """Raise an error if a label that counts has no weight by which to count."""
    if not is_host_known(w):
        return
    wrong = np.asarray(~((w >= 0.0) & (w < np.inf)))
    if wrong.any():
        place = first_index(wrong)
        raise ValueError(
            f"expected sample_weight >= 0 and finite, not {w[place]} at {list(place)}: 0 leaves out"
        )


@loss
def smooth_f_score(
    logits: Any,
    target: Any,
    *,
    beta: float = 1.0,
    axis: int | tuple[int, ...] | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    One less the F-score of probabilities.

    .. math:: 1 - \frac{(1 + \beta^2) \sum_i y_i p_i}{\beta^2 \sum_i y_i + \sum_i p_i}

    Parameters
    ----------
    logits : array_like or Tensor
        Scores of labels, in nats: of ``p = sigmoid(logits)``. For those learnt by
        `multilabel_cross_entropy` pass ``2 * logits``.
    target : array_like or Tensor, shape of `logits`
        Whether each label is true, or its probability `y`.
    beta : float, default 1
        How much more recall counts than precision.
    <metric>

    <returns>

    See Also
    --------
    from_metric : A cross-entropy of the same stationary points.
    stretched : Minus the logarithm of the metric.

    Notes
    -----
    That of a part of a batch is not that of the whole: it is biased where groups are small.
    It is 1 for ``0 / 0``, and so is no error.

    References
    ----------
    .. [1] J. Su, "Thoughts on metrics as objectives" (in Chinese),
       https://kexue.fm/archives/6620, 2019.

    Examples
    --------
    >>> from logitkit import losses
    >>> print(f"{losses.smooth_f_score([0.0, 0.0], [1, 0]):.2f}")
    0.50
    """
    return _terms(
        F_SCORE.error,
        logits,
        target,
        axis,
        mask,
        sample_weight,
        reduction,
        denominator,
        beta=checked_number("beta", beta, 0.0),
    )


@loss
def smooth_precision(
    logits: Any,
    target: Any,
    *,
    axis: int | tuple[int, ...] | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    One less the precision of probabilities.

    .. math:: 1 - \frac{\sum_i y_i p_i}{\sum_i p_i}

    Parameters
    ----------
    logits : array_like or Tensor
        Scores of labels, in nats: of ``p = sigmoid(logits)``. For those learnt by
        `multilabel_cross_entropy` pass ``2 * logits``.
    target : array_like or Tensor, shape of `logits`
        Whether each label is true, or its probability `y`.
    <metric>

    <returns>

    See Also
    --------
    from_metric : A cross-entropy of the same stationary points.
    stretched : Minus the logarithm of the metric.

    Notes
    -----
    That of a part of a batch is not that of the whole: it is biased where groups are small.

    References
    ----------
    .. [1] J. Su, "Thoughts on metrics as objectives" (in Chinese),
       https://kexue.fm/archives/6620, 2019.

    Examples
    --------
    >>> from logitkit import losses
    >>> print(f"{losses.smooth_precision([0.0, 0.0], [1, 0]):.2f}")
    0.50
    """
    return _terms(
        PRECISION.error, logits, target, axis, mask, sample_weight, reduction, denominator
    )


@loss
def smooth_recall(
    logits: Any,
    target: Any,
    *,
    axis: int | tuple[int, ...] | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    One less the recall of probabilities.

    .. math:: 1 - \frac{\sum_i y_i p_i}{\sum_i y_i}

    Parameters
    ----------
    logits : array_like or Tensor
        Scores of labels, in nats: of ``p = sigmoid(logits)``. For those learnt by
        `multilabel_cross_entropy` pass ``2 * logits``.
    target : array_like or Tensor, shape of `logits`
        Whether each label is true, or its probability `y`.
    <metric>

    <returns>

    See Also
    --------
    from_metric : A cross-entropy of the same stationary points.
    stretched : Minus the logarithm of the metric.

    Notes
    -----
    Groups without a true label have no error. The recall of a part of a batch is not that of the whole: it is biased where groups are small.

    References
    ----------
    .. [1] J. Su, "Thoughts on metrics as objectives" (in Chinese),
       https://kexue.fm/archives/6620, 2019.

    Examples
    --------
    >>> from logitkit import losses
    >>> print(f"{losses.smooth_recall([0.0, 5.0], [1, 0]):.2f}")
    0.50
    """
    return _terms(RECALL.error, logits, target, axis, mask, sample_weight, reduction, denominator)


@loss
def smooth_iou(
    logits: Any,
    target: Any,
    *,
    axis: int | tuple[int, ...] | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    One less intersection over union of probabilities.

    .. math:: 1 - \frac{\sum_i y_i p_i}{\sum_i (y_i + p_i - y_i p_i)}

    Parameters
    ----------
    logits : array_like or Tensor
        Scores of labels, in nats: of ``p = sigmoid(logits)``. For those learnt by
        `multilabel_cross_entropy` pass ``2 * logits``.
    target : array_like or Tensor, shape of `logits`
        Whether each label is true, or its probability `y`.
    <metric>

    <returns>

    See Also
    --------
    from_metric : A cross-entropy of the same stationary points.
    stretched : Minus the logarithm of the metric.

    Notes
    -----
    That of a part of a batch is not that of the whole: it is biased where groups are small.

    References
    ----------
    .. [1] J. Su, "Thoughts on metrics as objectives" (in Chinese),
       https://kexue.fm/archives/6620, 2019.

    Examples
    --------
    >>> from logitkit import losses
    >>> print(f"{losses.smooth_iou([0.0, 0.0], [1, 0]):.4f}")
    0.6667
    """
    return _terms(IOU.error, logits, target, axis, mask, sample_weight, reduction, denominator)


@loss
def smooth_matthews(
    logits: Any,
    target: Any,
    *,
    axis: int | tuple[int, ...] | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Half of one less Matthews' correlation of probabilities.

    .. math:: \frac12 \Bigl(1 - \frac{n \sum y_i p_i - \sum y_i \sum p_i}{\sqrt{\sum p_i (n - \sum p_i) \sum y_i (n - \sum y_i)}}\Bigr)

    Parameters
    ----------
    logits : array_like or Tensor
        Scores of labels, in nats: of ``p = sigmoid(logits)``. For those learnt by
        `multilabel_cross_entropy` pass ``2 * logits``.
    target : array_like or Tensor, shape of `logits`
        Whether each label is true, or its probability `y`.
    <metric>

    <returns>

    See Also
    --------
    from_metric : A cross-entropy of the same stationary points.
    stretched : Minus the logarithm of the metric.

    Notes
    -----
    It is 0 where all labels are of one kind. The correlation of a part of a batch is not that of the whole: it is biased where groups are small.

    References
    ----------
    .. [1] J. Su, "Thoughts on metrics as objectives" (in Chinese),
       https://kexue.fm/archives/6620, 2019.

    Examples
    --------
    >>> from logitkit import losses
    >>> print(f"{losses.smooth_matthews([0.0, 0.0], [1, 0]):.2f}")
    0.50
    """
    return _terms(MATTHEWS.error, logits, target, axis, mask, sample_weight, reduction, denominator)


@loss
def smooth_auc(
    logits: Any,
    target: Any,
    *,
    axis: int | tuple[int, ...] | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Share of pairs in the wrong order, softly: one less the area under the ROC curve.

    .. math:: \frac{\sum_{i,j} y_i (1 - y_j) \sigma(s_j - s_i)}{\sum_{i,j} y_i (1 - y_j)}

    Parameters
    ----------
    logits : array_like or Tensor
        Scores of labels, `s`, in nats.
    target : array_like or Tensor, shape of `logits`
        Whether each label is true, or its probability `y`.
    <metric>

    <returns>

    See Also
    --------
    stretched : Minus the logarithm of the metric.

    Notes
    -----
    All pairs are compared, in blocks. It is 0 where all labels are of one kind.

    References
    ----------
    .. [1] J. Su, "Thoughts on metrics as objectives" (in Chinese),
       https://kexue.fm/archives/6620, 2019.

    Examples
    --------
    >>> from logitkit import losses
    >>> print(f"{losses.smooth_auc([0.0, 0.0], [1, 0]):.2f}")
    0.50
    """
    return _terms(AUC, logits, target, axis, mask, sample_weight, reduction, denominator)
