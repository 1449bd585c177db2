"""Smooth forms of top-k and balanced accuracy, and the square of log-sum-exp."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._lines import one_axis
from .._logsumexp import logsumexp
from .._probability_maps import threshold_top_k
from .._real_array import whole_number
from .._softmax import softmax
from ..reference.losses._implicit import top_k_formula
from ._class_formulas import SMOOTH_ACCURACY
from ._class_rows import check_classes, class_rows
from ._namespace import cast, floating, moveaxis, namespace_of
from ._reduction import Reduction, Weighting
from ._row_loss import RowLoss
from ._terms import RowTerms, loss


def _top_k_formula(xp: Any, x: Any, target: Any, *, k: int) -> Any:
    return top_k_formula(xp, x, target, None, k=k)


def _top_k(x: Any, target: Any, *, argnums: tuple[int, ...], k: int) -> tuple[Any, tuple[Any, ...]]:
    """Return 1 - p_y and slopes: those of the threshold are p (1 - p) over their sum."""
    check_classes(target, x.shape[-1])
    if k == x.shape[-1]:
        return np.zeros(x.shape[:-1], x.dtype), (np.zeros_like(x),) if argnums else ()
    p = threshold_top_k(x.astype(np.float64), -1, k=k, cdf="logistic")
    at = target[..., None].astype(np.intp)
    own = np.take_along_axis(p, at, -1)
    value = (1.0 - own[..., 0]).astype(x.dtype)
    if not argnums:
        return value, ()
    steep = p * (1.0 - p)
    total = steep.sum(-1, keepdims=True)
    share = np.divide(steep, total, out=np.zeros_like(steep), where=total > 0.0)
    slope = own * (1.0 - own) * (share - (np.arange(x.shape[-1]) == at))
    return value, (slope.astype(x.dtype),)


def _z_formula(xp: Any, x: Any) -> Any:
    m = xp.amax(x, axis=-1, keepdims=True)
    lse = m[..., 0] + xp.log(xp.exp(x - m).sum(-1))
    return lse * lse


def _z_kernel(x: Any, *, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
    lse = np.asarray(logsumexp(x, -1))
    return lse * lse, ((2.0 * lse[..., None] * softmax(x, -1)).astype(x.dtype),) if argnums else ()


TOP_K = RowLoss(
    "smooth_top_k_accuracy",
    ("logits", "target"),
    1,
    _top_k_formula,
    _top_k,
    (("k", "int"),),
    error=True,
)
Z_LOSS = RowLoss("z_loss", ("logits",), 1, _z_formula, _z_kernel)


@loss
def smooth_top_k_accuracy(
    logits: Any,
    target: Any,
    *,
    k: int = 5,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Share of rows whose class is not among the top k, softly.

    .. math:: 1 - \sigma(s_y - \lambda), \qquad \sum_j \sigma(s_j - \lambda) = k

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor of integers, shape of `logits` without `axis`
        The true class of each row.
    k : int, default 5
        How many classes may be guessed, from 1 to `n`; of all of them the loss is 0.
    <kept rows>
    <rows>

    <returns>

    See Also
    --------
    smooth_accuracy : By softmax, for the first place alone.

    References
    ----------
    .. [1] J. Su, "A smooth approximation of the top-k operator" (in Chinese),
       https://kexue.fm/archives/10373, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> print(f"{losses.smooth_top_k_accuracy(np.zeros((1, 4)), [0], k=3):.2f}")
    0.25
    """
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
    if rows.target.ndim == rows.logits.ndim:
        raise ValueError("expected a class for each row in target, not probabilities")
    n = rows.logits.shape[-1]
    if not 1 <= (k := whole_number("k", k)) <= n:
        raise ValueError(f"expected k from 1 to the {n} classes, not {k}")
    arrays = rows.logits, rows.target
    numbers = {"k": k}
    return RowTerms(TOP_K, arrays, rows.weighting, rows.dtype, rows.undo[:1], numbers, classes=rows)


@loss
def smooth_balanced_accuracy(
    logits: Any,
    target: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
) -> RowTerms:
    r"""
    Mean over classes of the smooth error rate of their rows.

    .. math:: 1 - \frac1m \sum_{j=1}^{m} \operatorname{mean}_{i:\, y_i = j} p_{ij}

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes, in nats.
    target : array_like or Tensor of integers, shape of `logits` without `axis`
        The true class of each row; `m` different ones occur.
    axis : int, default -1
        The axis of the classes.
    mask : array_like or Tensor of bool, optional
        Which rows count, broadcast against the target. Others may hold anything, even NaN.
    ignore_index : int or None, default -100
        A class in `target` for rows that do not count.

    Returns
    -------
    float or Tensor
        The loss, a number, in the floating-point type of `logits`.

    Raises
    ------
    ValueError
        If shapes differ, or a class is out of range.
    TypeError
        If an argument does not hold numbers of the kind that is expected.

    See Also
    --------
    smooth_accuracy : The mean over rows.

    Notes
    -----
    That of a part of a batch is not that of the whole: classes that are missing do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x = np.log([[0.5, 0.5], [0.9, 0.1], [0.7, 0.3]])
    >>> print(f"{losses.smooth_balanced_accuracy(x, [1, 0, 0]):.2f}")
    0.35
    """
    rows = class_rows(logits, target, axis=axis, mask=mask, ignore_index=ignore_index)
    x, y, kept = rows.logits, rows.target, rows.weighting.kept
    if y.ndim == x.ndim:
        raise ValueError("expected a class for each row in target, not probabilities")
    xp = namespace_of(x)
    of_class = y[..., None] == xp.arange(x.shape[-1])
    if kept is not None:
        of_class = of_class & kept[..., None]
    count = of_class.reshape((-1, x.shape[-1])).sum(0)
    present = (count > 0).sum()
    weight = xp.where(count > 0, 1.0 / (xp.where(count > 0, count * present, 1)), 0.0)
    weighting = Weighting("sum", cast(weight, x.dtype)[y], kept)
    numbers = {"label_smoothing": 0.0, "z_loss": 0.0}
    arrays = x, y, None
    return RowTerms(
        SMOOTH_ACCURACY, arrays, weighting, rows.dtype, rows.undo[:1], numbers, classes=rows
    )


@loss
def z_loss(
    logits: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Square of log-sum-exp, which keeps logits from drifting.

    .. math:: \Bigl(\log \sum_j e^{s_j}\Bigr)^2

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes, in nats.
    axis : int, default -1
        The axis of the classes.
    mask : array_like or Tensor of bool, optional
        Which rows count, broadcast against the values. Others may hold anything, even NaN.
    <rows>

    <returns>

    See Also
    --------
    focal : One of the losses that add it by their argument `z_loss`.

    References
    ----------
    .. [1] A. Chowdhery et al., "PaLM: Scaling language modeling with pathways",
       arXiv:2204.02311, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> print(f"{losses.z_loss(np.log([[1.0, 1.0]])) / np.log(2.0)**2:.4f}")
    1.0000
    """
    s, _ = floating("logits", logits)
    xp = namespace_of(s)
    nothing = xp.zeros_like(moveaxis(s, one_axis(axis, s.ndim), -1)[..., 0]) > 0.0
    rows = class_rows(
        logits,
        1 * nothing if xp is np else nothing.to(xp.int64),
        axis=axis,
        mask=mask,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    return RowTerms(Z_LOSS, (rows.logits,), rows.weighting, rows.dtype, rows.undo[:1])
