"""Fenchel-Young losses of sparse maps, whose value may be exactly zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._probability_maps import entmax
from .._real_array import real_number
from ..reference.losses._implicit import entmax_formula
from ._class_rows import check_classes, class_rows
from ._reduction import Reduction
from ._row_loss import RowLoss
from ._terms import RowTerms, loss, terms_of


def _formula(xp: Any, x: Any, target: Any, *, alpha: float, label_smoothing: float) -> Any:
    return entmax_formula(xp, x, target, None, alpha=alpha, label_smoothing=label_smoothing)


def _kernel(
    x: Any, target: Any, *, argnums: tuple[int, ...], alpha: float, label_smoothing: float
) -> tuple[Any, tuple[Any, ...]]:
    """
    Return (p - t) x + H(p) - H(t) and slopes, p - t and H'(p at t) - x, in ``float64``.

    The derivative with respect to `t` is that along the line of probabilities, up to a constant.
    """
    dtype, x = x.dtype, x.astype(np.float64)
    if target.ndim < x.ndim:
        check_classes(target, x.shape[-1])
        target = target[..., None] == np.arange(x.shape[-1])
    t = (1.0 - label_smoothing) * target + label_smoothing / max(x.shape[-1], 1)
    p = entmax(x, -1, alpha=alpha)
    top = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        gap = np.where(p == t, 0.0, (p - t) * (x - top))
    size = 1.0 / (alpha * (alpha - 1.0))
    # Both sum to 1, and so do not differ in the linear part of H.
    value = gap.sum(-1) - size * (p**alpha - t**alpha).sum(-1)
    value = np.maximum(value, 0.0)
    slopes = p - t, (1.0 - label_smoothing) * (t ** (alpha - 1.0) / (alpha - 1.0) - size - x)
    return value.astype(dtype), tuple(slopes[i].astype(dtype) for i in argnums)


ENTMAX = RowLoss(
    "entmax_loss",
    ("logits", "target"),
    2,
    _formula,
    _kernel,
    (("alpha", "float"), ("label_smoothing", "float")),
)


@loss
def entmax_loss(
    logits: Any,
    target: Any,
    *,
    alpha: float = 1.5,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Compare with entmax, as cross-entropy does with softmax.

    .. math::
        \max_p \bigl(p^\top s + H_\alpha(p)\bigr) - t^\top s - H_\alpha(t), \qquad
        H_\alpha(p) = \frac{\sum_i (p_i - p_i^\alpha)}{\alpha (\alpha - 1)}

    The gradient is ``p - t`` with ``p = entmax(s)``: exactly zero where classes have no share,
    and all of it once the true class leads by enough.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities `t` of the classes, which sum to 1.
    alpha : float, default 1.5
        Above 1, where the loss would be cross-entropy; 2 is sparsemax.
    <kept rows>
    label_smoothing : float, default 0
        How much of each target to spread over all classes.
    <rows>

    <returns>

    See Also
    --------
    sparsemax_loss : The same for ``alpha=2``.

    Notes
    -----
    With a true class the loss is 0 from a lead of :math:`1 / (\alpha - 1)` on.

    References
    ----------
    .. [1] B. Peters, V. Niculae and A. F. T. Martins, "Sparse sequence-to-sequence models",
       arXiv:1905.05702, 2019.
    .. [2] M. Blondel, A. F. T. Martins and V. Niculae, "Learning with Fenchel-Young losses",
       arXiv:1901.02324, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x = np.array([[3.0, 0.5, 0.0], [0.0, 0.0, -9.0]])
    >>> losses.entmax_loss(x, [0, 0], reduction="none").round(4)
    array([0.    , 0.3905])
    """
    alpha = real_number("alpha", alpha)
    if not 1.0 < alpha < float("inf"):
        raise ValueError(f"expected alpha > 1 and finite, not {alpha}")
    label_smoothing = real_number("label_smoothing", label_smoothing)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"expected 0 <= label_smoothing <= 1, not {label_smoothing}")
    rows = class_rows(
        logits,
        target,
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    numbers = {"alpha": alpha, "label_smoothing": label_smoothing}
    arrays = rows.logits, rows.target
    return RowTerms(ENTMAX, arrays, rows.weighting, rows.dtype, rows.undo, numbers, classes=rows)


@loss
def sparsemax_loss(
    logits: Any,
    target: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Compare with sparsemax: the entmax loss of the squared norm.

    .. math:: \tfrac12 \|s - t\|^2 - \min_p \tfrac12 \|s - p\|^2

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities `t` of the classes, which sum to 1.
    <kept rows>
    label_smoothing : float, default 0
        How much of each target to spread over all classes.
    <rows>

    <returns>

    See Also
    --------
    entmax_loss : The family.

    References
    ----------
    .. [1] A. F. T. Martins and R. F. Astudillo, "From softmax to sparsemax", arXiv:1602.02068,
       2016.

    Examples
    --------
    >>> from logitkit import losses
    >>> float(losses.sparsemax_loss([[0.5, 0.0, -2.0]], [1]))
    0.5625
    """
    terms = terms_of(entmax_loss)(
        logits,
        target,
        alpha=2.0,
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    assert isinstance(terms, RowTerms)
    return terms
