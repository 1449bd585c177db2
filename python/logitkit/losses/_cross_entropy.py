"""Cross-entropy of logits, by a kernel that reads them once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import _cpu
from .._lines import one_axis
from ..reference.losses._classes import class_formula, logarithm_phi
from ._class_formulas import LOG_LOSS
from ._class_rows import ClassRows, check_classes, class_numbers, class_rows, kept_rows
from ._namespace import floating, integers, moveaxis, namespace_of
from ._reduction import Reduction
from ._row_loss import RowLoss
from ._terms import RowTerms, loss


def _formula(
    xp: Any, x: Any, target: Any, weight: Any, *, label_smoothing: float, z_loss: float
) -> Any:
    """Return the values of rows; a class of -1 says that what a row holds shall not matter."""
    if target.ndim < x.ndim:
        x = xp.where((target < 0)[..., None], xp.zeros_like(x), x)
    return class_formula(xp, logarithm_phi, x, target, weight, label_smoothing, z_loss)


def _kernel(
    x: Any,
    target: Any,
    weight: Any,
    *,
    argnums: tuple[int, ...],
    label_smoothing: float,
    z_loss: float,
) -> tuple[Any, tuple[Any, ...]]:
    """Return values and slopes."""
    n = x.shape[-1]
    if weight is not None and any(
        step and size > 1 for step, size in zip(weight.strides[:-1], weight.shape, strict=False)
    ):
        # Weights of each row, which only a map over weights gives.
        numbers = {"label_smoothing": label_smoothing, "z_loss": z_loss}
        return LOG_LOSS.kernel(x, target, weight, argnums=argnums, **numbers)
    of_class = None
    if weight is not None:
        of_class = np.ascontiguousarray(weight[(0,) * (weight.ndim - 1)]) if weight.size else None
    rows = np.ascontiguousarray(x).reshape(-1, n) if x.size else np.empty((0, n), x.dtype)
    hard = target.ndim < x.ndim
    if hard:
        check_classes(np.maximum(target, 0), n)
        labels = np.ascontiguousarray(target, np.int64).reshape(-1)
        targets = None
    else:
        labels = np.zeros(x.shape[:-1], np.int64).reshape(-1)
        targets = np.ascontiguousarray(target, x.dtype).reshape(-1, n)
    count = labels.size
    rows = rows.reshape(count, n)
    values, lse = np.empty(count), np.empty(count)
    gradient = np.empty((count, n), x.dtype) if 0 in argnums else None
    _cpu.cross_entropy(
        rows,
        labels,
        values,
        targets=targets,
        class_weight=of_class,
        smoothing=label_smoothing,
        z_loss=z_loss,
        logsumexp=lse,
        gradient=gradient,
    )
    slopes = {0: gradient}
    if 1 in argnums:
        with np.errstate(invalid="ignore"):
            information = lse[:, None] - rows
            if of_class is not None:
                information = information * of_class
        slopes[1] = ((1.0 - label_smoothing) * information).astype(x.dtype, copy=False)
    shaped = tuple(slopes[i].reshape(x.shape) for i in argnums)  # type: ignore[union-attr]
    return values.reshape(x.shape[:-1]).astype(x.dtype, copy=False), shaped


CROSS_ENTROPY = RowLoss(
    "cross_entropy",
    ("logits", "target", "weight?"),
    2,
    _formula,
    _kernel,
    (("label_smoothing", "float"), ("z_loss", "float")),
)


def _rows(
    logits: Any, target: Any, *, axis: int, mask: Any, ignore_index: int | None, **common: Any
) -> ClassRows:
    """Return the rows; those that are left out keep their logits, and have the class -1."""
    x, _ = floating("logits", logits)
    t = integers("target", target, x)
    left_out = mask is not None or ignore_index is not None
    if x.ndim == 0 or t.ndim != x.ndim - 1 or not left_out:
        return class_rows(logits, target, axis=axis, mask=mask, ignore_index=ignore_index, **common)
    xp = namespace_of(x)
    axis_last = moveaxis(x, one_axis(axis, x.ndim), -1)
    kept = None
    if tuple(t.shape) == tuple(axis_last.shape[:-1]):
        kept = kept_rows(axis_last, t, mask, ignore_index)
    if kept is None:
        return class_rows(logits, target, axis=axis, ignore_index=ignore_index, **common)
    # One that is not ignored, if there is such: rows that count are not copied then.
    some_class = xp.full_like(t, int(ignore_index == 0 and axis_last.shape[-1] > 1))
    rows = class_rows(
        logits,
        xp.where(kept, t, some_class),
        axis=axis,
        ignore_index=ignore_index,
        **common,
    )
    hidden = xp.where(kept, rows.target, xp.full_like(rows.target, -1))
    return rows._replace(target=hidden, weighting=replace(rows.weighting, kept=kept))


def _terms(
    logits: Any, target: Any, *, label_smoothing: float, z_loss: float, **common: Any
) -> Any:
    label_smoothing, z_loss = class_numbers(label_smoothing, z_loss)
    rows = _rows(logits, target, **common)
    numbers = {"label_smoothing": label_smoothing, "z_loss": z_loss}
    arrays = rows.logits, rows.target, rows.weight
    return RowTerms(
        CROSS_ENTROPY, arrays, rows.weighting, rows.dtype, rows.undo, numbers, classes=rows
    )


@loss
def cross_entropy(
    logits: Any,
    target: Any,
    *,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy of the softmax of logits.

    .. math:: -\sum_j w_j t_j \log p_j, \qquad p = \operatorname{softmax}(s)

    ``torch.nn.functional.cross_entropy`` with more arguments. Its classes lie in axis 1.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes, in nats. ``-inf`` hides a class.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities `t` of the classes, which sum to 1.
    <class rows>

    <returns>

    See Also
    --------
    cross_entropy_with_aux : The same with log-sum-exp, accuracy and entropy of each row.
    linear_cross_entropy : The same of the logits of a linear layer, which are not stored.

    Notes
    -----
    Label smoothing replaces `t` by :math:`(1 - \epsilon) t + \epsilon / n`, before it is
    multiplied by `weight`. A row that is left out is not read.

    Values err by at most :math:`\varepsilon (1 + \ell)`, the value being :math:`\ell`, and slopes
    by :math:`\varepsilon \sum_j w_j t_j`, where :math:`\varepsilon` is ``2**-22`` in ``float32``,
    which half types are computed in too, and ``2**-50`` in ``float64``. The value of a likely
    class, :math:`p_y > 1 / e` without smoothing, has this error relative to itself: it does not
    come from a difference of large numbers.

    References
    ----------
    .. [1] C. Szegedy et al., "Rethinking the Inception architecture for computer vision",
       arXiv:1512.00567, 2015, section 7.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x = np.log([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]])
    >>> losses.cross_entropy(x, [0, -100], reduction="none")
    array([0.69314718, 0.        ])
    >>> losses.value_and_grad(losses.cross_entropy)(x[:1], [0])[1]
    array([[-0.5 ,  0.25,  0.25]])
    """
    terms: RowTerms = _terms(
        logits,
        target,
        axis=axis,
        weight=weight,
        mask=mask,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    return terms
