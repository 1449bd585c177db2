"""Cross-entropy of many labels: softmax's generalisation to any number of true classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.losses._multilabel import multilabel_formula
from ._label_rows import label_rows
from ._log1p_sum_exp import log1p_sum_exp
from ._reduction import Reduction
from ._row_loss import RowLoss
from ._terms import RowTerms, loss


def _kernel(s: Any, t: Any, mask: Any, *, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Return values and slopes; a term that does not count is exp(-inf), or has weight 0."""
    if t.dtype == bool:
        seen = True if mask is None else mask
        positive = log1p_sum_exp(np.where(t & seen, -s, -np.inf).astype(s.dtype, copy=False))
        negative = log1p_sum_exp(np.where(~t & seen, s, -np.inf).astype(s.dtype, copy=False))
        value = positive.value + negative.value
        return value, (negative.ratio - positive.ratio,) if argnums else ()
    t = t.astype(s.dtype, copy=False)
    u = 1.0 - t
    if mask is not None:
        s, t, u = (np.where(mask, x, 0.0).astype(x.dtype, copy=False) for x in (s, t, u))
    positive, negative = log1p_sum_exp(-s, t), log1p_sum_exp(s, u)
    with np.errstate(invalid="ignore", over="ignore"):
        # A term of weight 0 has no slope, even where exp overflows.
        slopes: tuple[Any, ...] = (
            np.where(u > 0.0, u * negative.ratio, 0.0) - np.where(t > 0.0, t * positive.ratio, 0.0),
            positive.ratio - negative.ratio,
        )
    if mask is not None:
        slopes = tuple(np.where(mask, x, 0.0) for x in slopes)
    return positive.value + negative.value, tuple(
        slopes[i].astype(s.dtype, copy=False) for i in argnums
    )


MULTILABEL = RowLoss(
    "multilabel_cross_entropy", ("logits", "target", "mask?"), 2, multilabel_formula, _kernel
)


@loss
def multilabel_cross_entropy(
    logits: Any,
    target: Any,
    *,
    axis: int = -1,
    threshold: Any = None,
    mask: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy for any number of true labels.

    .. math::
        \ell = \log\Bigl(1 + \sum_i t_i e^{-s_i}\Bigr)
             + \log\Bigl(1 + \sum_i (1 - t_i) e^{s_i}\Bigr)

    Every true label shall score above 0, and every other one below: a softmax whose rivals are
    the labels of the other kind, so that classes need no balancing by hand.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` labels, in nats.
    target : array_like or Tensor, shape of `logits`
        Whether a label is true, or its probability `t`, from 0 to 1.
    axis : int, default -1
        The axis of the labels.
    threshold : array_like or Tensor, shape of `logits` without `axis`, optional
        A score that decides instead of 0, as one more output of a model. Its gradient is the
        negative sum of that of the logits; tensors get it by themselves.
    mask : array_like or Tensor of bool, optional
        Which labels count, broadcast against `logits`. Others may hold anything, even NaN. A
        row without any that counts is left out of the mean.
    ignore_index : int, optional
        A value of `target` for labels that do not count, such as -100.
    label_smoothing : float, default 0
        How far to move targets towards 1/2: ``t`` becomes ``(1 - a) * t + a / 2``.
    <rows>

    Returns
    -------
    float or array or Tensor
        The loss in nats, in the floating-point type of `logits`. With "none" a value for each
        row, 0 for those left out. It is ``inf`` if a true label scores ``-inf`` or another one
        ``inf``, and NaN if a score is; a label that scores ``-inf`` and is not true drops out.

    Raises
    ------
    ValueError
        If shapes differ, a target lies outside of [0, 1], or an option outside of its range.
    TypeError
        If an argument does not hold real numbers, or `mask` no truth values.

    See Also
    --------
    sparse_multilabel_cross_entropy : The same for lists of the true labels.
    multilabel_probabilities : Probabilities of the labels.
    excess_multilabel_cross_entropy : The loss above its least value for soft targets.

    Notes
    -----
    The loss is least where ``t = sigmoid(2 s)``: the probability of a label is
    ``sigmoid(2 * s)``, not ``sigmoid(s)``. It is convex, and no more than the sum of binary
    cross-entropies for hard targets. Sums are accumulated in ``float64``. For a target of
    probabilities there is a gradient with respect to it, too.

    References
    ----------
    .. [1] J. Su et al., "ZLPR: A novel loss for multi-label classification",
       arXiv:2208.02955, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> s = np.array([[3.0, -2.0, 1.0]])
    >>> print(f"{losses.multilabel_cross_entropy(s, [[1, 0, 1]]):.4f}")
    0.4759
    """
    rows = label_rows(
        logits,
        target,
        axis=axis,
        threshold=threshold,
        mask=mask,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    arrays = rows.logits, rows.target, rows.mask
    return RowTerms(MULTILABEL, arrays, rows.weighting, rows.dtype, rows.undo)
