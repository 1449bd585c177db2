"""Multilabel cross-entropy for lists of the true labels, and for spans of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._lines import one_axis
from .._real_array import real_array
from ._label_rows import label_rows
from ._multilabel import MULTILABEL
from ._namespace import (
    broadcast,
    first_index,
    integers,
    is_bool,
    is_floating,
    is_host_known,
    like,
    moveaxis,
    namespace_of,
    places,
    whole,
)
from ._reduction import Reduction
from ._terms import RowTerms, loss


def listed(positives: Any, n: int) -> Any:
    """Return which of `n` labels are in the lists along the last axis, where -1 fills up."""
    xp = namespace_of(positives)
    if is_floating(positives) or is_bool(positives):
        raise TypeError(f"expected positives of integers, labels, not {positives.dtype}")
    if is_host_known(positives):
        wrong = (positives < -1) | (positives >= n)
        if wrong.any():
            place = first_index(np.asarray(wrong))
            raise ValueError(
                f"expected labels from 0 to {n - 1} in positives, or -1 to fill up, "
                f"not {int(positives[place])} at {list(place)}"
            )
    shape = (*positives.shape[:-1], n + 1)
    at = xp.where(positives < 0, xp.full_like(positives, n), positives)
    if xp is np:
        found = np.zeros(shape, bool)
        np.put_along_axis(found, at.astype(np.intp), True, -1)
        return found[..., :n]
    found = xp.zeros(shape, dtype=xp.bool, device=positives.device)
    return found.scatter(-1, at.to(xp.int64), True)[..., :n]


@loss
def sparse_multilabel_cross_entropy(
    logits: Any,
    positives: Any,
    *,
    axis: int = -1,
    threshold: Any = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy for any number of true labels, given as lists.

    .. math::
        \ell = \log\Bigl(1 + \sum_{j \in P} e^{-s_j}\Bigr)
             + \log\Bigl(1 + \sum_{i \notin P} e^{s_i}\Bigr)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` labels, in nats.
    positives : array_like or Tensor of integers, shape (..., k)
        The true labels `P` of each row, with one axis of lists in place of `axis` at the end.
        Lists are filled up with -1; a label that is named twice counts once.
    axis : int, default -1
        The axis of the labels in `logits`.
    threshold : array_like or Tensor, shape of `logits` without `axis`, optional
        A score that decides instead of 0.
    mask : array_like or Tensor of bool, optional
        Which labels count, broadcast against `logits`. Others may hold anything, even NaN.
    <rows>

    <returns>

    See Also
    --------
    multilabel_cross_entropy : The same for a truth value of each label.

    Notes
    -----
    True labels are left out of the second sum. Others have subtracted them from a sum over all
    labels, which loses every digit once a true label scores well: at a score of 60 that is
    43.9 in place of 0.693 in ``float32``. Here the error is a few units in the last place.

    References
    ----------
    .. [1] J. Su et al., "ZLPR: A novel loss for multi-label classification",
       arXiv:2208.02955, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> s = np.float32([[60.0, 0.0, -80.0]])
    >>> print(losses.sparse_multilabel_cross_entropy(s, [[0, -1]]))
    0.6931472
    """
    shape = tuple(np.shape(logits))
    if not shape:
        raise ValueError("expected logits with an axis of labels, not a number")
    axis = one_axis(axis, len(shape))
    lists = integers("positives", positives, logits)
    rows = (*shape[:axis], *shape[axis + 1 :])
    if tuple(lists.shape[:-1]) != rows or lists.ndim == 0:
        raise ValueError(
            f"expected positives of shape {(*rows, 'k')}, a list for each row of logits of shape "
            f"{shape}, not {tuple(lists.shape)}"
        )
    target = moveaxis(listed(lists, shape[axis]), -1, axis)
    prepared = label_rows(
        logits,
        target,
        axis=axis,
        threshold=threshold,
        mask=mask,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    arrays = prepared.logits, prepared.target, prepared.mask
    return RowTerms(MULTILABEL, arrays, prepared.weighting, prepared.dtype, prepared.undo[:1])


@loss
def span_cross_entropy(
    logits: Any,
    target: Any,
    *,
    token_mask: Any = None,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Multilabel cross-entropy over the spans of a sequence: the loss of GlobalPointer.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, n)
        Scores of the spans from token `i` to token `j`, in nats. The leading axes are those of
        sequences and types of spans.
    target : array_like or Tensor, shape of `logits`, or of integers, shape (..., k, 2)
        Whether each span is true, or lists of the true ones as first and last token, filled up
        with (-1, -1).
    token_mask : array_like or Tensor of bool, optional
        Which tokens count, broadcast against ``(..., n)``.
    <rows>

    <returns>

    See Also
    --------
    multilabel_cross_entropy : The loss over the labels of a row.

    Notes
    -----
    Spans that end before they begin are left out, whatever their scores are, and so are those
    that begin or end at a token that does not count. Each sequence and type has one value.

    References
    ----------
    .. [1] J. Su et al., "Global Pointer: Novel efficient span-based approach for named entity
       recognition", arXiv:2208.03054, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> value = losses.span_cross_entropy(np.zeros((2, 2)), [[0, 1]])
    >>> float(np.exp(value))  # (1 + 1) * (1 + 2): the span 1, 0 does not count
    6.0
    """
    xp = namespace_of(logits)
    x = real_array("logits", logits) if xp is np else logits
    shape = tuple(x.shape)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"expected logits of shape (..., n, n), not {shape}")
    n = shape[-1]
    t = like("target", target, x)
    flat = (*shape[:-2], n * n)
    if tuple(t.shape) != shape:
        t = _listed_spans(whole(t), shape)
    first = places(n, x)
    seen = xp.broadcast_to(first[:, None] <= first, shape)
    if token_mask is not None:
        token = broadcast("token_mask", like("token_mask", token_mask, x) != 0, (*shape[:-2], n))
        seen = seen & token[..., :, None] & token[..., None, :]
    rows = label_rows(
        x.reshape(flat),
        t.reshape(flat),
        axis=-1,
        mask=seen.reshape(flat),
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )

    def undo(gradient: Any) -> Any:
        return rows.undo[0](gradient).reshape(shape)

    arrays = rows.logits, rows.target, rows.mask
    return RowTerms(MULTILABEL, arrays, rows.weighting, rows.dtype, (undo,))


def _listed_spans(spans: Any, shape: tuple[int, ...]) -> Any:
    """Return whether each span is in the lists of first and last tokens."""
    if spans.ndim != len(shape) or tuple(spans.shape[:-2]) != shape[:-2] or spans.shape[-1] != 2:
        raise ValueError(
            f"expected target of shape {shape}, that of logits, or lists of spans of shape "
            f"{(*shape[:-2], 'k', 2)}, not {tuple(spans.shape)}"
        )
    n = shape[-1]
    first, last = spans[..., 0], spans[..., 1]
    if is_host_known(spans):
        # Compared before they become one number, which would hide a token out of range.
        wrong = (last >= n) | (first > last) | ((first < 0) & ((first != -1) | (last != -1)))
        if wrong.any():
            place = first_index(np.asarray(wrong))
            raise ValueError(
                f"expected spans of tokens 0 <= first <= last < {n}, or (-1, -1) to fill up, "
                f"not ({int(first[place])}, {int(last[place])}) at {list(place)}"
            )
    xp = namespace_of(spans)
    at = xp.where(first < 0, xp.full_like(first, -1), first * n + last)
    return listed(at, n * n).reshape(shape)
