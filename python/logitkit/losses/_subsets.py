"""Losses of sets of labels: every true label against every other one, and set against set."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._logsumexp import logsumexp
from .._real_array import real_number, whole_number
from ..reference.losses._subsets import circle_formula, combinatorial_formula
from ._label_rows import label_rows
from ._namespace import is_bool, is_host_known
from ._reduction import Reduction
from ._row_loss import RowLoss
from ._terms import RowTerms, loss


def _circle(
    s: Any, t: Any, mask: Any, *, argnums: tuple[int, ...], gamma: float, margin: float
) -> tuple[Any, tuple[Any, ...]]:
    """Return log(1 + exp(u)), where u is the sum of two log-sums of exponentials."""
    seen = True if mask is None else mask
    negative = np.where(~t & seen, gamma * (s + margin), -np.inf).astype(s.dtype, copy=False)
    positive = np.where(t & seen, -gamma * s, -np.inf).astype(s.dtype, copy=False)
    of_negative, of_positive = logsumexp(negative, -1), logsumexp(positive, -1)
    with np.errstate(invalid="ignore"):
        u = of_negative + of_positive
        # Without a label of one kind there is no pair.
        u = np.where((of_negative == -np.inf) | (of_positive == -np.inf), -np.inf, u)
    value = np.logaddexp(np.zeros_like(u), u).astype(s.dtype)
    if not argnums:
        return value, ()
    with np.errstate(invalid="ignore"):
        share = np.exp(u - value)[..., None] * s.dtype.type(gamma)
        slope = np.exp(negative - of_negative[..., None]) - np.exp(
            positive - of_positive[..., None]
        )
        return value, (np.where(share == 0.0, 0.0, share * slope).astype(s.dtype),)


def _combinatorial(
    s: Any, t: Any, mask: Any, *, argnums: tuple[int, ...], at_most: int
) -> tuple[Any, tuple[Any, ...]]:
    """
    Return values and slopes, p - t, by logarithms of elementary symmetric polynomials.

    ``logs[i][..., j]`` is that of degree j of the first i labels: E_j <- E_j + exp(s_i) E_{j-1}.
    The share p_i of subsets with label i is the derivative of the last one, which the chain
    rule takes back through these steps. Newton's identities cancel.
    """
    x = (s if mask is None else np.where(mask, s, -np.inf)).astype(np.float64)
    t = t if mask is None else t & mask
    size = t.sum(-1)
    if at_most and (size > at_most).any():
        raise ValueError(f"expected at most {at_most} true labels in a row, not {size.max()}")
    k, n = at_most or int(size.max(initial=0)), x.shape[-1]
    rows = x.shape[:-1]
    logs = np.full((n + 1, *rows, k + 1), -np.inf)
    logs[0, ..., 0] = 0.0
    for i in range(n):
        logs[i + 1] = logs[i]
        added = logs[i, ..., :-1] + x[..., i, None]
        logs[i + 1, ..., 1:] = np.logaddexp(logs[i, ..., 1:], added)
    if at_most:
        total = logsumexp(logs[n], -1)
        g = np.exp(logs[n] - np.asarray(total)[..., None])
    else:
        total = np.take_along_axis(logs[n], size[..., None], -1)[..., 0]
        g = (np.arange(k + 1) == size[..., None]).astype(np.float64)
    value = total - np.where(t, x, 0.0).sum(-1)
    if not argnums:
        return value.astype(s.dtype), ()
    slope = np.empty(x.shape)
    for i in reversed(range(n)):  # g is the derivative with respect to logs[i + 1]
        with np.errstate(invalid="ignore"):
            share = np.exp(logs[i, ..., :-1] + x[..., i, None] - logs[i + 1, ..., 1:])
        share = np.where(np.isnan(share), 0.0, share)
        moved = g[..., 1:] * share
        slope[..., i] = moved.sum(-1)
        g = g.copy()
        g[..., 1:] -= moved
        g[..., :-1] += moved
    return value.astype(s.dtype), ((slope - t).astype(s.dtype),)


CIRCLE = RowLoss(
    "circle_loss",
    ("logits", "target", "mask?"),
    1,
    circle_formula,
    _circle,
    (("gamma", "float"), ("margin", "float")),
)
COMBINATORIAL = RowLoss(
    "combinatorial_cross_entropy",
    ("logits", "target", "mask?"),
    1,
    combinatorial_formula,
    _combinatorial,
    (("at_most", "int"),),
)


def _truths(target: Any) -> Any:
    """Return a target of truth values, or raise an error if it has probabilities."""
    if is_bool(target):
        return target
    if is_host_known(target) and ((target != 0) & (target != 1)).any():
        raise ValueError(
            "expected target of truth values, 0 or 1, not probabilities: "
            "multilabel_cross_entropy takes them"
        )
    return target != 0


@loss
def circle_loss(
    logits: Any,
    target: Any,
    *,
    gamma: float = 1.0,
    margin: float = 0.0,
    axis: int = -1,
    threshold: Any = None,
    mask: Any = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Loss that puts every true label above every other one: the unified form of circle loss.

    .. math::
        \ell = \log\Bigl(1 + \sum_{i \text{ false}} e^{\gamma (s_i + m)}
                             \sum_{j \text{ true}} e^{-\gamma s_j}\Bigr)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` labels, in nats.
    target : array_like or Tensor, shape of `logits`
        Whether a label is true.
    gamma : float, default 1
        The inverse temperature of the pairs.
    margin : float, default 0
        How far above, `m`.
    axis : int, default -1
        The axis of the labels.
    threshold : array_like or Tensor, shape of `logits` without `axis`, optional
        What is taken from the logits first. It cancels.
    mask : array_like or Tensor of bool, optional
        Which labels count, broadcast against `logits`. Others may hold anything, even NaN.
    ignore_index : int, optional
        A value of `target` for labels that do not count, such as -100.
    <rows>

    <returns>

    See Also
    --------
    multilabel_cross_entropy : Compares with a threshold, so that the number of labels is told.

    Notes
    -----
    With ``gamma=1`` and ``margin=0`` it is the softmax loss for a known number of true labels,
    which are decoded as the largest scores. A row without true labels, or with nothing else,
    has the value 0.

    References
    ----------
    .. [1] Y. Sun et al., "Circle loss: A unified perspective of pair similarity optimization",
       arXiv:2002.10857, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> value = losses.circle_loss(np.log([[1.0, 2.0, 4.0]]), [[0, 1, 1]])
    >>> print(f"{np.exp(value):.2f}")
    1.75
    """
    rows = label_rows(
        logits,
        target,
        axis=axis,
        threshold=threshold,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    numbers = {"gamma": real_number("gamma", gamma), "margin": real_number("margin", margin)}
    if not 0.0 < numbers["gamma"] < float("inf"):
        raise ValueError(f"expected gamma > 0 and finite, not {gamma}")
    if not abs(numbers["margin"]) < float("inf"):
        raise ValueError(f"expected margin to be finite, not {margin}")
    arrays = rows.logits, _truths(rows.target), rows.mask
    return RowTerms(CIRCLE, arrays, rows.weighting, rows.dtype, rows.undo[:1], numbers)


@loss
def combinatorial_cross_entropy(
    logits: Any,
    target: Any,
    *,
    at_most: int | None = None,
    axis: int = -1,
    threshold: Any = None,
    mask: Any = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy of a softmax over all subsets of labels that are as large as the true one.

    .. math::
        \ell = \log \sum_{|A| = k} \exp \sum_{i \in A} s_i - \sum_{i \text{ true}} s_i

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` labels, in nats.
    target : array_like or Tensor, shape of `logits`
        Whether a label is true; `k` of a row are.
    at_most : int, optional
        Compare with all subsets of at most so many labels, instead of `k`. Then scores count
        against 0, or against `threshold`, as that of a place that stays empty.
    axis : int, default -1
        The axis of the labels.
    threshold : array_like or Tensor, shape of `logits` without `axis`, optional
        What is taken from the logits first. It cancels without `at_most`.
    mask : array_like or Tensor of bool, optional
        Which labels count, broadcast against `logits`. Others may hold anything, even NaN.
    ignore_index : int, optional
        A value of `target` for labels that do not count, such as -100.
    <rows>

    <returns>

    See Also
    --------
    multilabel_cross_entropy : Less work, and no number of labels to choose.

    Notes
    -----
    The sum over subsets is an elementary symmetric polynomial of the exponentials. It takes
    `n` times `k` additions of logarithms, none of which cancels, in ``float64``.

    References
    ----------
    .. [1] J. Su, "Extending softmax and cross-entropy to multi-label classification" (in
       Chinese), https://kexue.fm/archives/7359, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> value = losses.combinatorial_cross_entropy(np.log([[1.0, 2.0, 4.0]]), [[0, 1, 1]])
    >>> print(f"{np.exp(-value):.4f} = 8 / 14")
    0.5714 = 8 / 14
    """
    if at_most is not None and (at_most := whole_number("at_most", at_most)) < 1:
        raise ValueError(f"expected at_most >= 1, not {at_most}")
    rows = label_rows(
        logits,
        target,
        axis=axis,
        threshold=threshold,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    arrays = rows.logits, _truths(rows.target), rows.mask
    numbers = {"at_most": at_most or 0}
    return RowTerms(COMBINATORIAL, arrays, rows.weighting, rows.dtype, rows.undo[:1], numbers)
