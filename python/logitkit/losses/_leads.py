"""Losses of the lead of the true class over the best of the others: hinge and smooth errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._real_array import real_number
from ..reference.losses._leads import (
    hinge_phi,
    lead_formula,
    polynomial_phi,
    sigmoid_phi,
)
from ._class_rows import check_classes, class_rows
from ._reduction import Reduction
from ._row_loss import RowLoss
from ._terms import RowTerms, loss

# A function of leads and a number, and its derivative with respect to the leads.
Phi = Callable[[Any, float], tuple[Any, Any]]


def _hinge(lead: Any, margin: float) -> tuple[Any, Any]:
    return np.maximum(margin - lead, 0.0), np.where(lead < margin, -1.0, 0.0)


def _sigmoid(lead: Any, gain: float) -> tuple[Any, Any]:
    small = np.exp(-gain * np.abs(lead))
    of_loser, of_winner = small / (1.0 + small), 1.0 / (1.0 + small)
    return np.where(lead > 0.0, of_loser, of_winner), -gain * of_loser * of_winner


def _polynomial(lead: Any, width: float) -> tuple[Any, Any]:
    t = np.clip(lead / width, -1.0, 1.0)
    # t^3 / 4 - 3 t / 4 + 1/2 by its double root, so that a small error keeps its digits.
    return 0.25 * (1.0 - t) ** 2 * (2.0 + t), 0.75 * (t * t - 1.0) / width


def _kernel(
    phi: Phi, x: Any, target: Any, *, argnums: tuple[int, ...], **numbers: float
) -> tuple[Any, tuple[Any, ...]]:
    """Return values and slopes, opposite for the true class and the first of the best others."""
    check_classes(target, x.shape[-1])
    at = target[..., None].astype(np.intp)
    others = x.astype(np.float64)
    own = np.take_along_axis(others, at, -1)[..., 0]
    np.put_along_axis(others, at, -np.inf, -1)
    rival = np.argmax(others, axis=-1)[..., None]
    best = np.take_along_axis(others, rival, -1)[..., 0]
    unknown = np.isnan(x).any(-1)
    lead = np.where((best == -np.inf) & (own == -np.inf), np.inf, own - best)
    value, slope = phi(np.where(unknown, np.nan, lead), *numbers.values())
    if not argnums:
        return value.astype(x.dtype), ()
    slope = np.where(np.isnan(lead) | unknown, np.nan, np.where(np.isinf(lead), 0.0, slope))
    slopes = np.zeros(x.shape)
    np.put_along_axis(slopes, rival, -slope[..., None], -1)
    np.put_along_axis(slopes, at, slope[..., None], -1)
    return value.astype(x.dtype), (slopes.astype(x.dtype),)


def _row_loss(name: str, phi: Phi, formula: Callable[..., Any], number: str, error: bool) -> Any:
    def of_rows(xp: Any, *arrays: Any, **numbers: float) -> Any:
        return formula(xp, lead_formula(xp, *arrays), *numbers.values())

    numbers = ((number, "float"),)
    kernel = partial(_kernel, phi)
    return RowLoss(name, ("logits", "target"), 1, of_rows, kernel, numbers, error=error)


HINGE = _row_loss("hinge", _hinge, hinge_phi, "margin", False)
SIGMOID = _row_loss("sigmoid_zero_one", _sigmoid, sigmoid_phi, "gain", True)
POLYNOMIAL = _row_loss("polynomial_zero_one", _polynomial, polynomial_phi, "width", True)


def _terms(
    row_loss: RowLoss, logits: Any, target: Any, numbers: dict[str, float], **common: Any
) -> RowTerms:
    ((name, value),) = numbers.items()
    if not 0.0 < (value := real_number(name, value)) < math.inf:
        raise ValueError(f"expected {name} > 0 and finite, not {value}")
    rows = class_rows(logits, target, **common)
    if rows.target.ndim == rows.logits.ndim:
        raise ValueError("expected a class for each row in target, not probabilities")
    arrays = rows.logits, rows.target
    given = {name: value}
    return RowTerms(
        row_loss, arrays, rows.weighting, rows.dtype, rows.undo[:1], given, classes=rows
    )


@loss
def hinge(
    logits: Any,
    target: Any,
    *,
    margin: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Hinge loss: what is missing of a margin over the best of the other classes.

    .. math:: \max(0, m - \delta), \qquad \delta = s_y - \max_{j \ne y} s_j

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor of integers, shape of `logits` without `axis`
        The true class of each row.
    margin : float, default 1
        The lead `m` from which on nothing is missing, above 0, in units of `logits`.
    <kept rows>
    <rows>

    <returns>

    See Also
    --------
    sigmoid_zero_one, polynomial_zero_one : Smooth errors of the same lead.
    sparsemax_loss : A hinge that bends.

    Notes
    -----
    Where several others are best, the first of them has the slope. Without any other class the
    loss is 0.

    References
    ----------
    .. [1] K. Crammer and Y. Singer, "On the algorithmic implementation of multiclass
       kernel-based vector machines", JMLR 2, 2001.

    Examples
    --------
    >>> from logitkit import losses
    >>> losses.hinge([[2.0, 0.5, 1.75], [0.0, 3.0, 1.0]], [0, 1], reduction="none")
    array([0.75, 0.  ])
    """
    return _terms(
        HINGE,
        logits,
        target,
        {"margin": margin},
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )


@loss
def sigmoid_zero_one(
    logits: Any,
    target: Any,
    *,
    gain: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Error rate with a sigmoid in place of the step.

    .. math:: \sigma(-k \delta), \qquad \delta = s_y - \max_{j \ne y} s_j

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor of integers, shape of `logits` without `axis`
        The true class of each row.
    gain : float, default 1
        The gain `k`, above 0: the larger, the closer to the error rate.
    <kept rows>
    <rows>

    <returns>

    See Also
    --------
    polynomial_zero_one : Exactly 0 and 1 beyond a width.
    expected_accuracy : The error rate under noise, of all classes.

    References
    ----------
    .. [1] T. Nguyen and S. Sanner, "Algorithms for direct 0-1 loss optimization in binary
       classification", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> float(losses.sigmoid_zero_one([[np.log(3.0), 0.0, -1.0]], [0]).round(12))
    0.25
    """
    return _terms(
        SIGMOID,
        logits,
        target,
        {"gain": gain},
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )


@loss
def polynomial_zero_one(
    logits: Any,
    target: Any,
    *,
    width: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Error rate with a cubic in place of the step.

    .. math:: \tfrac14 t^3 - \tfrac34 t + \tfrac12, \qquad
        t = \operatorname{clip}(\delta / w, -1, 1), \qquad \delta = s_y - \max_{j \ne y} s_j

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor of integers, shape of `logits` without `axis`
        The true class of each row.
    width : float, default 1
        The lead `w` from which on the loss is 0, above 0, in units of `logits`. From `-w` on
        it is 1, without a slope.
    <kept rows>
    <rows>

    <returns>

    See Also
    --------
    sigmoid_zero_one : With a slope everywhere.

    References
    ----------
    .. [1] T. Nguyen and S. Sanner, "Algorithms for direct 0-1 loss optimization in binary
       classification", ICML 2013.

    Examples
    --------
    >>> from logitkit import losses
    >>> losses.polynomial_zero_one([[0.5, 0.0], [0.0, 7.0]], [0, 0], reduction="none")
    array([0.15625, 1.     ])
    """
    return _terms(
        POLYNOMIAL,
        logits,
        target,
        {"width": width},
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
