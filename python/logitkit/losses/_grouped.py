"""Cross-entropy of n problems of m classes that balances the classes by shared logarithms."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from .._lines import normalized, one_axis
from .._real_array import real_array, real_number, whole_number
from .._shapes import check_broadcast
from .._softmax import softmax
from ._class_rows import class_rows
from ._grouped_kernel import GROUPED
from ._namespace import (
    as_numpy,
    cast,
    first_index,
    floating,
    like,
    like_given,
    namespace_of,
    places,
)
from ._reduction import Reduction, Weighting
from ._terms import RowTerms, loss


@loss
def grouped_cross_entropy(
    logits: Any,
    target: Any,
    *,
    form: Literal["ratios", "scores", "centred", "debiased"] = "ratios",
    over: int | tuple[int, ...] | None = None,
    segments: Any = None,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy of n problems of m classes that share a logarithm for each class.

    .. math::
        \ell = \sum_{j=1}^{m} \log D_j, \qquad
        D_j = 1 + \sum_{i=1}^{n} t_{ij} \sum_{k \ne j} e^{s_{ik} - s_{ij}}

    A class with many items counts by the logarithm of their number, as in
    `multilabel_cross_entropy`, which this is for two classes.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ..., m)
        Scores `s` of `m` classes of the items, in nats.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each item, or probabilities `t` of the classes, which sum to 1.
    form : {"ratios", "scores", "centred", "debiased"}, default "ratios"
        The loss above; the sum of :math:`\log(1 + \sum_i t_{ij} e^{-s_{ij}})`, for scores of
        constant sum over the classes; the same of scores less their mean over the classes; or,
        an experiment, the first with the bias of its solution taken out.
    over : int or tuple of ints, optional
        The axes of the items of a group, which share logarithms: with the items of a sample in
        axis 1, ``over=1`` is a loss for each sample. Default: all but `axis`.
    segments : array_like or Tensor of integers, optional
        The number of the group of each item, from 0, in place of `over`. One that no item has
        is no group: its value is 0, and a mean does not count it.
    axis : int, default -1
        The axis of the classes.
    mask : array_like or Tensor of bool, optional
        Which items count, broadcast against ``target``. Others may hold anything, even NaN.
    ignore_index : int or None, default -100
        A class in `target` for items that do not count.
    sample_weight : array_like or Tensor, optional
        Weights of the groups, broadcast against their values. A mean divides by their sum.
    reduction : {"mean", "sum", "none"} or callable, default "mean"
        What to make of the values of the groups.
    denominator : float, optional
        The divisor of the mean in place of the sum of weights.

    <returns>

    See Also
    --------
    grouped_probabilities : What the logits say, which is not their softmax.
    grouped_stationary_target : The soft target at which the first form is least.

    Notes
    -----
    The first form is convex. It is least for :math:`t_{ij} \propto p_{ij}^2 D_j`,
    ``p = softmax(s)``: decode with `grouped_probabilities`. "centred" is convex, too, and least
    where ``t = softmax(s)``, but it may be small where the largest score is wrong: with scores
    5, 6 and -11 of which the first is true it is 0.0067.

    "debiased" is the first form at :math:`s - \log(D) / 2`, with `D` the sums that it has there
    itself, taken as constants. What ``backward`` and `value_and_grad` return is zero at
    ``t = softmax(2 s)``. It is not the gradient of the value, in which `D` would change, nor
    that of another function.

    The sum over items does not decompose: parts of a batch on several machines must add up
    their ``D - 1`` to have the value of the whole.

    References
    ----------
    .. [1] J. Su, "Several attempts at the unified loss of n m-class problems" (in Chinese),
       https://kexue.fm/archives/9158, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> s = np.array([[2.0, 0.0], [1.0, 3.0], [0.0, 1.0]])
    >>> value = losses.grouped_cross_entropy(s, [0, 1, 1])
    >>> gap = s[:, 0] - s[:, 1]
    >>> bool(np.isclose(value, losses.multilabel_cross_entropy(gap, [1, 0, 0])))
    True
    """
    if not (isinstance(form, str) and form in GROUPED):
        raise ValueError(f"expected form {', '.join(map(repr, GROUPED))}, not {form!r}")
    rows = class_rows(logits, target, axis=axis, mask=mask, ignore_index=ignore_index)
    s, t, kept = rows.logits, rows.target, rows.weighting.kept
    xp = namespace_of(s)
    if t.ndim < s.ndim:
        t = cast(t[..., None] == places(s.shape[-1], s), s.dtype)
    if kept is not None:
        t = xp.where(kept[..., None], t, xp.zeros_like(t))
    groups = _groups(s, over, segments, axis)
    s, t = groups.gather(s), groups.gather(t)
    if groups.real is not None:
        t = xp.where(groups.real[..., None], t, xp.zeros_like(t))
    if kept is not None:
        kept = groups.gather(kept)
    if groups.real is not None:  # a number that no item has is not a group
        kept = groups.real if kept is None else kept & groups.real
    kept = None if kept is None else kept.any(-1)
    if sample_weight is not None:
        sample_weight = like("sample_weight", sample_weight, s)
    weighting = Weighting(reduction, sample_weight, kept, None, denominator)
    undo = tuple(_composed(change, groups) for change in rows.undo)
    return RowTerms(GROUPED[form], (s, t), weighting, rows.dtype, undo)


def _composed(undo: Any, groups: _Groups) -> Any:
    return lambda gradient: undo(groups.scatter(gradient))


class _Groups(NamedTuple):
    """How items become groups: by a permutation of axes, or by lists of their positions."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    rows: tuple[int, ...]
    index: Any = None
    real: Any = None

    def gather(self, x: Any) -> Any:
        """Return `x`, items first and perhaps classes, as groups of items."""
        classes = tuple(x.shape[len(self.shape) :])
        if self.index is not None:
            return x.reshape((-1, *classes))[self.index]
        order = (*self.order, *range(len(self.shape), x.ndim))
        moved = x.transpose(order) if namespace_of(x) is np else x.permute(order)
        return moved.reshape((*self.rows, -1, *classes))

    def scatter(self, x: Any) -> Any:
        """Return the gradient of items, an array, from that of groups."""
        classes = x.shape[-1:]
        if self.index is not None:
            result = np.zeros((int(np.prod(self.shape)), *classes), x.dtype)
            result[self.index[self.real]] = x[self.real]
            return result.reshape((*self.shape, *classes))
        moved = x.reshape((*(self.shape[i] for i in self.order), *classes))
        inverse = np.argsort(self.order)
        return moved.transpose((*inverse, len(self.order)))


def _groups(s: Any, over: Any, segments: Any, axis: int) -> _Groups:
    """Return the groups of items of `s`, in which the classes come last already."""
    shape = tuple(s.shape[:-1])
    class_axis = one_axis(axis, s.ndim)
    every = [i for i in range(s.ndim) if i != class_axis]
    if segments is None:
        axes = tuple(every) if over is None else normalized(over, s.ndim)
        if class_axis in axes:
            raise ValueError(f"expected over to name axes of items, not {axis}, that of classes")
        inside = tuple(every.index(i) for i in axes)
        outside = tuple(i for i in range(len(shape)) if i not in inside)
        return _Groups(shape, outside + inside, tuple(shape[i] for i in outside))
    if over is not None:
        raise ValueError("expected segments or over, not both")
    ids = real_array("segments", as_numpy(segments))
    if ids.dtype.kind not in "iu":
        raise TypeError(f"expected segments of integers, not {ids.dtype}")
    if tuple(ids.shape) != shape:
        raise ValueError(f"expected segments of shape {shape}, that of items, not {ids.shape}")
    if (ids < 0).any():
        place = first_index(ids < 0)
        raise ValueError(f"expected segments from 0, not {ids[place]} at {list(place)}")
    flat = ids.reshape(-1)
    sizes = np.bincount(flat)
    index = np.zeros((len(sizes), int(sizes.max(initial=0))), np.int64)
    real = np.arange(index.shape[1]) < sizes[:, None]
    index[real] = np.argsort(flat, kind="stable")
    xp = namespace_of(s)
    if xp is not np:
        index, real = (xp.as_tensor(x, device=s.device) for x in (index, real))
    return _Groups(shape, (), (), index, real)


class GroupedStationary(NamedTuple):
    """
    Where the first form of `grouped_cross_entropy` is least, for logits.

    Parameters
    ----------
    target : ndarray, shape of the logits
        Probabilities of the classes of the items: the soft target.
    sums : ndarray, shape (..., m)
        The sums `D` of the classes there.
    """

    target: Any
    sums: Any


def grouped_stationary_target(
    logits: Any, /, *, rtol: float = 1e-12, max_steps: int = 100_000
) -> GroupedStationary:
    r"""
    Solve for the soft target at which the gradient of `grouped_cross_entropy` vanishes.

    .. math::
        t_{ij} = \frac{p_{ij}^2 D_j}{N_i}, \qquad N_i = \sum_k p_{ik}^2 D_k, \qquad
        D_j = 1 + D_j \sum_i \frac{p_{ij} (1 - p_{ij})}{N_i}

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, m)
        Scores of `m` classes of the `n` items of each group, in nats.
    rtol : float, default 1e-12
        How little `D` shall change in a step, relative to it.
    max_steps : int, default 100000
        The most steps to take.

    Returns
    -------
    GroupedStationary
        The target and the sums `D`, in ``float64``, tensors for a tensor. They are constants.

    Raises
    ------
    ValueError
        If logits have not two axes, or hold infinities or NaN.
    RuntimeError
        If `D` has not come to rest after `max_steps`.

    See Also
    --------
    grouped_probabilities : The same, for predictions.

    Notes
    -----
    With softmax ``p`` and :math:`a_{ij} = t_{ij} / (p_{ij} D_j)` the gradient vanishes where
    `a` of an item is in proportion to its `p`. `D` comes from a fixed-point iteration that
    begins at 2. That it converges was observed, in 29 to 483 steps for 1 to 50 items; it is
    not proved.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> s = np.log([[0.404400, 0.323600, 0.272001]])
    >>> found = losses.grouped_stationary_target(s)
    >>> print(found.target.round(4), found.sums.round(4))
    [[0.5 0.3 0.2]] [1.7364 1.6271 1.5353]
    """
    rtol, max_steps = real_number("rtol", rtol), whole_number("max_steps", max_steps)
    s, _ = floating("logits", logits)
    s = as_numpy(s).astype(np.float64)
    _check_items(s)
    p = softmax(s, -1)
    sums = np.full((*s.shape[:-2], s.shape[-1]), 2.0)
    for _ in range(max_steps):
        n = (p * p * sums[..., None, :]).sum(-1, keepdims=True)
        new = 1.0 + sums * (p * (1.0 - p) / n).sum(-2)
        done = bool((abs(new - sums) <= rtol * new).all())
        sums = new
        if done:
            t = p * p * sums[..., None, :]
            found = t / t.sum(-1, keepdims=True), sums
            return GroupedStationary(*(like_given(x, logits) for x in found))
    raise RuntimeError(f"D did not come to rest in {max_steps} steps: allow more, or a larger rtol")


def _check_items(s: Any) -> None:
    """Raise an error if logits are not those of items of a group."""
    if s.ndim < 2 or s.shape[-1] == 0:
        raise ValueError(f"expected logits of shape (..., n, m) with m > 0, not {s.shape}")
    if not np.isfinite(s).all():
        place = first_index(~np.isfinite(s))
        raise ValueError(f"expected finite logits, not {s[place]} at {list(place)}")


def grouped_probabilities(logits: Any, /, *, sums: Any = None) -> Any:
    r"""
    Decode logits that were learnt by the first form of `grouped_cross_entropy`.

    .. math:: \operatorname{softmax}_j(2 s_{ij} + \log D_j)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, m)
        Scores of `m` classes of the `n` items of each group, in nats.
    sums : array_like, shape (..., m), optional
        The sums `D` of the classes, such as a running average of those in training. Then items
        are decoded one by one. Default: those of the group itself, by
        `grouped_stationary_target`.

    Returns
    -------
    array or Tensor, shape of `logits`
        Probabilities of the classes, without derivatives.

    Raises
    ------
    ValueError
        If logits have not two axes, or are not finite, or `sums` are not above 0.

    See Also
    --------
    grouped_cross_entropy : What the logits are learnt by.

    Examples
    --------
    >>> from logitkit import losses
    >>> losses.grouped_probabilities([[0.0, 0.0]], sums=[1.0, 3.0])
    array([[0.25, 0.75]])
    """
    if sums is None:
        return grouped_stationary_target(logits).target
    s, dtype = floating("logits", logits)
    s, d = as_numpy(s), as_numpy(like("sums", sums, s))
    _check_items(s)
    wrong = ~((d > 0) & (d < np.inf))
    if np.any(wrong):
        raise ValueError(f"expected sums > 0 and finite, not {d[first_index(wrong)]}")
    check_broadcast("sums", d.shape, (*s.shape[:-2], s.shape[-1]))
    with np.errstate(over="ignore"):
        gaps = 2.0 * (s - s.max(-1, keepdims=True))
    decoded = softmax(gaps + np.log(d)[..., None, :], -1)
    return cast(like_given(decoded, logits), dtype)
