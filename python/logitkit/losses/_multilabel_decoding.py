"""What the logits of multilabel cross-entropy say: probabilities, labels, divergences, excess."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.losses._multilabel import excess_formula, symmetric_kl_formula
from ._label_rows import label_rows
from ._multilabel import MULTILABEL
from ._namespace import broadcast, cast, floating, like, moveaxis, namespace_of
from ._reduction import Reduction, Weighting
from ._row_loss import RowLoss
from ._terms import RowTerms, loss


def multilabel_probabilities(logits: Any, /) -> Any:
    """
    Turn logits that were learnt by `multilabel_cross_entropy` into probabilities.

    Parameters
    ----------
    logits : array_like or Tensor
        Scores of labels, in nats.

    Returns
    -------
    array or Tensor, shape of `logits`
        ``sigmoid(2 * logits)``, at which that loss is least for soft targets.

    See Also
    --------
    multilabel_labels : Which labels are true.

    Examples
    --------
    >>> from logitkit import losses
    >>> losses.multilabel_probabilities([0.0, -10.0])
    array([5.00000000e-01, 2.06115362e-09])
    """
    s, dtype = floating("logits", logits)
    return cast(sigmoid(2.0 * s), dtype)


def multilabel_labels(logits: Any, /, *, threshold: Any = 0.0) -> Any:
    """
    Decide by their logits which labels are true.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n)
        Scores of labels, in nats.
    threshold : array_like or Tensor, default 0
        The score above which a label is true, broadcast against `logits`: with a learnt one of
        each row, ``threshold[..., None]``.

    Returns
    -------
    array or Tensor of bool, shape of `logits`
        Whether each label is true.

    See Also
    --------
    multilabel_probabilities : Their probabilities.

    Examples
    --------
    >>> from logitkit import losses
    >>> losses.multilabel_labels([0.5, -0.5])
    array([ True, False])
    """
    s, _ = floating("logits", logits)
    level = like("threshold", threshold, s)
    return s > broadcast("threshold", level, tuple(s.shape))


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)) without overflow, accurate where it is small."""
    if namespace_of(x) is not np:
        return namespace_of(x).sigmoid(x)
    small = np.exp(-abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)


def _excess(s: Any, t: Any, mask: Any, *, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
    value, slopes = MULTILABEL.kernel(s, t, mask, argnums=argnums)
    u = np.where(True if mask is None else mask, t, 0.0)
    least = 2.0 * np.log1p(np.sqrt(u * (1.0 - u)).sum(-1))
    return (value - least).astype(s.dtype), slopes


def _symmetric_kl(
    s: Any, t: Any, mask: Any, *, argnums: tuple[int, ...]
) -> tuple[Any, tuple[Any, ...]]:
    if mask is not None:
        s, t = (np.where(mask, x, x.dtype.type(0.0)) for x in (s, t))
    gap = s - t
    # sigmoid(s) - sigmoid(t) without cancellation, by the addition theorem of tanh.
    difference = np.tanh(0.5 * gap) * 0.5 * (1.0 - np.tanh(0.5 * s) * np.tanh(0.5 * t))
    value = (difference * gap).sum(-1, dtype=np.float64).astype(s.dtype)
    steep = [sigmoid(x) * sigmoid(-x) * gap for x in (s, t)]
    slopes = (steep[0] + difference, -steep[1] - difference)
    return value, tuple(slopes[i].astype(s.dtype) for i in argnums)


EXCESS = RowLoss(
    "excess_multilabel_cross_entropy", ("logits", "target", "mask?"), 1, excess_formula, _excess
)
SYMMETRIC_KL = RowLoss(
    "symmetric_kl", ("logits", "other", "mask?"), 2, symmetric_kl_formula, _symmetric_kl
)


@loss
def excess_multilabel_cross_entropy(
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
    Multilabel cross-entropy above its least value for the same soft target.

    .. math:: \ell - 2 \log\Bigl(1 + \sum_i \sqrt{t_i (1 - t_i)}\Bigr)

    It is 0 where ``sigmoid(2 s) = t``, and so tells how much is left to learn. The target is a
    constant.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` labels, in nats.
    target : array_like or Tensor, shape of `logits`
        The probability `t` of each label, from 0 to 1, or whether it is true.
    axis : int, default -1
        The axis of the labels.
    threshold : array_like or Tensor, shape of `logits` without `axis`, optional
        A score that decides instead of 0.
    mask : array_like or Tensor of bool, optional
        Which labels count, broadcast against `logits`. Others may hold anything, even NaN.
    ignore_index : int, optional
        A value of `target` for labels that do not count, such as -100.
    label_smoothing : float, default 0
        How far to move targets towards 1/2: ``t`` becomes ``(1 - a) * t + a / 2``.
    <rows>

    <returns>

    See Also
    --------
    multilabel_cross_entropy : The loss itself, of the same gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> t = np.array([[0.9, 0.2, 0.5]])
    >>> s = np.log(t / (1 - t)) / 2
    >>> abs(float(losses.excess_multilabel_cross_entropy(s, t))) < 1e-15
    True
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
    t = rows.target.detach() if hasattr(rows.target, "detach") else rows.target
    return RowTerms(EXCESS, (rows.logits, t, rows.mask), rows.weighting, rows.dtype, rows.undo[:1])


@loss
def symmetric_kl(
    logits: Any,
    other: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Divergence of two sets of labels in both directions, as for R-Drop.

    .. math:: \sum_i (\sigma(s_i) - \sigma(t_i)) (s_i - t_i)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` labels, in nats.
    other : array_like or Tensor, shape of `logits`
        Other scores `t` of them. It has a gradient, too.
    axis : int, default -1
        The axis of the labels.
    mask : array_like or Tensor of bool, optional
        Which labels count, broadcast against `logits`. Others may hold anything, even NaN.
    <rows>

    <returns>

    See Also
    --------
    multilabel_cross_entropy : What the scores are learnt by.

    Notes
    -----
    The sum of the Kullback-Leibler divergences of Bernoulli variables, one to each label.

    References
    ----------
    .. [1] J. Su, "Multi-label classification with dropout regularisation" (in Chinese),
       https://kexue.fm/archives/9039, 2022.

    Examples
    --------
    >>> from logitkit import losses
    >>> float(losses.symmetric_kl([[0.5, 0.0]], [[0.5, 0.0]]))
    0.0
    """
    s, dtype = floating("logits", logits)
    t = cast(like("other", other, s), s.dtype)
    if tuple(t.shape) != tuple(s.shape):
        raise ValueError(
            f"expected other of shape {tuple(s.shape)}, that of logits, not {tuple(t.shape)}"
        )
    xp = namespace_of(s)
    truth = xp.zeros_like(s)
    rows = label_rows(
        s,
        truth,
        axis=axis,
        mask=mask,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    arrays = rows.logits, moveaxis(t, axis, -1), rows.mask
    weighting: Weighting = rows.weighting
    undo = tuple(lambda g: cast(moveaxis(g, -1, axis), dtype) for _ in range(2))
    return RowTerms(SYMMETRIC_KL, arrays, weighting, dtype, undo)
