"""What the published training for expected accuracy does around the loss: EXACT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._lines import one_axis
from .._real_array import whole_number
from ._class_rows import check_classes
from ._namespace import (
    broadcast,
    cast,
    floating,
    integers,
    is_bool,
    is_floating,
    like,
    moveaxis,
    namespace_of,
    stable_order,
)


def standardized(logits: Any, /, *, mask: Any = None) -> Any:
    r"""
    Subtract the mean of all numbers, and divide by their standard deviation.

    .. math:: \frac{s_{ij} - \bar s}{\sqrt{\overline{(s - \bar s)^2}}}

    One mean and one deviation of a whole batch of logits, all rows and classes, so that the
    scale of the noise in `expected_accuracy` means the same throughout training.

    Parameters
    ----------
    logits : array_like or Tensor
        Logits, of any shape.
    mask : array_like or Tensor of bool, optional
        Which of them count, broadcast against `logits`: all that are finite, by default. What
        does not count stays as it is.

    Returns
    -------
    ndarray or Tensor
        The shape of `logits`, and their floating-point type. Logits that are all equal
        become 0.

    Raises
    ------
    TypeError
        If `logits` are not real numbers, or `mask` does not hold truth values.

    See Also
    --------
    standardized_vjp : The gradient of arrays; tensors have their own.
    expected_accuracy : What is computed of the result.

    Notes
    -----
    The deviation is that of the numbers themselves, divided by their count, without a constant
    added to it. The largest logit of a row stays the largest: a model is used without it.

    References
    ----------
    .. [1] I. Karpukhin et al., "EXACT: How to train your accuracy", arXiv:2205.09615, 2022.

    Examples
    --------
    >>> from logitkit import losses
    >>> losses.standardized([[3.0, 1.0], [1.0, 3.0]])
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    x, dtype = _doubled(logits)
    xp, counts = namespace_of(x), _counted(x, mask)
    shifted, deviation = _shifted(x, counts)
    return cast(xp.where(counts, shifted / deviation, x), dtype)


def standardized_vjp(logits: Any, cotangent: Any, /, *, mask: Any = None) -> Any:
    r"""
    Return the gradient of `standardized`: a cotangent times its Jacobian.

    .. math:: \frac1d (g_{ij} - \bar g - z_{ij} \, \overline{g z}), \qquad
        z = \operatorname{standardized}(s)

    Parameters
    ----------
    logits : array_like
        The logits s, of deviation d.
    cotangent : array_like, shape of `logits`
        The gradient g with respect to the result, such as `value_and_grad` returns it.
    mask : array_like of bool, optional
        Which of them count.

    Returns
    -------
    ndarray
        The gradient with respect to `logits`, in their floating-point type. It is 0 where they
        are all equal.

    Raises
    ------
    TypeError
        If an argument does not hold numbers of the kind that is expected.

    See Also
    --------
    standardized : The function.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x, y = np.array([[2.0, 0.0, 1.0], [0.5, 0.0, -0.5]]), [0, 2]
    >>> _, g = losses.value_and_grad(losses.expected_accuracy)(losses.standardized(x), y)
    >>> bool(abs(losses.standardized_vjp(x, g).sum()) < 1e-15)
    True
    """
    x, dtype = _doubled(logits)
    xp, counts = namespace_of(x), _counted(x, mask)
    g = cast(like("cotangent", cotangent, x), x.dtype)
    shifted, deviation = _shifted(x, counts)
    z, count = shifted / deviation, _number(counts)
    deviation = 2.0 * deviation
    kept = xp.where(counts, g, xp.zeros_like(g))
    inner = kept - kept.sum() / count - z * ((kept * z).sum() / count)
    varies = xp.amax(abs(shifted), None) > 0.0 if math.prod(x.shape) else True
    inner = xp.where(varies, inner / deviation, xp.zeros_like(inner))
    return cast(xp.where(counts, inner, g), dtype)


def _doubled(logits: Any) -> tuple[Any, Any]:
    """Return logits in float64, so that a mean far from 0 costs no digits, and their type."""
    x, dtype = floating("logits", logits)
    return cast(x, namespace_of(x).float64), dtype


def _counted(x: Any, mask: Any) -> Any:
    xp = namespace_of(x)
    if mask is None:
        return xp.isfinite(x)
    mask = like("mask", mask, x)
    if not is_bool(mask):
        raise TypeError(f"expected mask of truth values, not {mask.dtype}: pass mask != 0")
    return broadcast("mask", mask, tuple(x.shape))


def _number(counts: Any) -> Any:
    xp = namespace_of(counts)
    return xp.clip(counts.sum(), 1, None)


def _shifted(x: Any, counts: Any) -> tuple[Any, Any]:
    """
    Return the differences to the mean, 0 where nothing counts, and their deviation, not 0.

    Both halved, since a difference may be twice as large as any number.
    """
    xp, count = namespace_of(x), _number(counts)
    zero = xp.zeros_like(x)
    if not math.prod(x.shape):
        return zero, xp.ones_like(count)
    half = xp.where(counts, 0.5 * x, zero)
    finite = xp.isfinite(half).all()
    # From one of them, so that numbers that are equal differ by 0, whatever rounding does.
    first = xp.amax(xp.where(counts, half, zero - math.inf), None)
    gaps = xp.where(counts & finite, half - xp.where(xp.isfinite(first), first, 0.0), zero)
    shifted = xp.where(counts, gaps - (gaps / count).sum(), zero)
    # Squares of large numbers overflow, those of small ones vanish.
    peak = xp.amax(abs(shifted), None)
    peak = xp.where(peak > 0.0, peak, xp.ones_like(peak))
    peak = peak if xp is np else peak.detach()  # it cancels
    square = ((shifted / peak) ** 2).sum() / count
    deviation = peak * xp.sqrt(xp.where(square > 0.0, square, xp.ones_like(square)))
    return xp.where(counts & ~finite, zero + math.nan, shifted), deviation


def truncate_classes(logits: Any, target: Any, /, *, rivals: int, axis: int = -1) -> Any:
    """
    Leave the true class of each row and the hardest others; the rest becomes ``-inf``.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes.
    target : array_like or Tensor of integers, shape of `logits` without `axis`
        The true class of each row; a negative one for rows that do not count.
    rivals : int
        How many other classes to leave: those of the largest logits, the first of equal ones. At
        least 1.
    axis : int, default -1
        The axis of the classes.

    Returns
    -------
    ndarray or Tensor
        The shape of `logits`, and their floating-point type.

    Raises
    ------
    TypeError
        If `target` does not hold integers.
    ValueError
        If shapes do not fit, a target is no class, or `rivals` is not positive.

    See Also
    --------
    expected_accuracy : Where a class at ``-inf`` is no rival.

    Notes
    -----
    The published implementation has this option; its work grows with the square of the
    classes. The quadrature of this package does not need it. Of probabilities that the true class
    wins it makes upper bounds. The gradient of a loss with respect to the result, zero for
    what is left out, is that with respect to the logits.

    References
    ----------
    .. [1] I. Karpukhin et al., "EXACT: How to train your accuracy", arXiv:2205.09615, 2022.

    Examples
    --------
    >>> from logitkit import losses
    >>> losses.truncate_classes([[0.1, 0.9, 0.5, 0.7]], [2], rivals=1)
    array([[-inf,  0.9,  0.5, -inf]])
    """
    x, dtype = floating("logits", logits)
    xp = namespace_of(x)
    if (rivals := whole_number("rivals", rivals)) < 1:
        raise ValueError(f"expected rivals >= 1, not {rivals}")
    t = integers("target", target, x)
    axis = one_axis(axis, x.ndim) if x.ndim else 0
    rows = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
    if x.ndim == 0 or tuple(t.shape) != rows:
        raise ValueError(
            f"expected target of shape {rows}, a class for each row of logits of shape "
            f"{tuple(x.shape)}, not {tuple(t.shape)}"
        )
    if is_floating(t) or is_bool(t):
        raise TypeError(f"expected target of integers, the number of each class, not {t.dtype}")
    x = moveaxis(x, axis, -1)
    t = xp.where(t < 0, xp.zeros_like(t), t)
    check_classes(t, x.shape[-1])
    own = t[..., None] == xp.arange(x.shape[-1])
    others = xp.where(own, xp.full_like(x, -math.inf), x)
    constant = others if xp is np else others.detach()
    rank = xp.argsort(stable_order(-constant), axis=-1)
    kept = xp.where(own | (rank < rivals), x, xp.full_like(x, -math.inf))
    return cast(moveaxis(kept, -1, axis), dtype)


class NormalizedGradients(NamedTuple):
    """
    Gradients in units of their usual size, and what that is.

    Parameters
    ----------
    gradients : tuple of ndarray or Tensor
        The gradients, divided.
    average : float
        The average of their norms so far, to be passed on.
    """

    gradients: tuple[Any, ...]
    average: float


@dataclass(frozen=True)
class GradientNormalizer:
    r"""
    Divide gradients by a moving average of their norm.

    .. math:: a_t = \beta a_{t-1} + (1 - \beta) \|g_t\|, \qquad g_t / \max(a_t, \text{floor})

    The gradient of an expected accuracy changes by orders of magnitude with the scale of its
    noise; so an optimizer with one learning rate can follow it.

    Parameters
    ----------
    decay : float, default 0.9
        The decay :math:`\beta` of the average, from 0 to below 1.
    floor : float, default 0.01
        What is divided by at least, above 0.

    Raises
    ------
    ValueError
        If one of them is outside of its range.

    See Also
    --------
    GeometricSchedule : For the scale of the noise.

    Notes
    -----
    The average begins with the first norm. It is passed from step to step by the caller: an
    object of this class does not change.

    References
    ----------
    .. [1] I. Karpukhin et al., "EXACT: How to train your accuracy", arXiv:2205.09615, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> normalize = losses.GradientNormalizer(decay=0.5)
    >>> first = normalize([np.array([3.0, 4.0])])
    >>> first.average, first.gradients
    (5.0, (array([0.6, 0.8]),))
    >>> normalize([np.array([1.0, 0.0])], first.average).average
    3.0
    """

    decay: float = 0.9
    floor: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"expected 0 <= decay < 1, not {self.decay}")
        if not 0.0 < self.floor < math.inf:
            raise ValueError(f"expected floor > 0 and finite, not {self.floor}")

    def __call__(
        self, gradients: Sequence[Any], average: float | None = None
    ) -> NormalizedGradients:
        """
        Return the gradients of one step, divided, and the average that includes them.

        Parameters
        ----------
        gradients : sequence of ndarray or Tensor
            The gradients of all parameters, whose norm is that of all numbers together.
        average : float, optional
            What the step before returned.

        Returns
        -------
        NormalizedGradients
            A named tuple of `gradients` and `average`. A norm that is not finite leaves the
            average as it was.
        """
        norm = math.hypot(*map(_norm, gradients))
        if not math.isfinite(norm):
            now = self.floor if average is None else average
        else:
            before = norm if average is None else average
            now = self.decay * before + (1.0 - self.decay) * norm
        divisor = max(now, self.floor)
        return NormalizedGradients(tuple(g / divisor for g in gradients), now)


def _norm(g: Any) -> float:
    """Return the Euclidean norm in float64, whose squares neither overflow nor vanish."""
    g = cast(g, namespace_of(g).float64)
    peak = float(abs(g).max()) if math.prod(g.shape) else 0.0
    if not 0.0 < peak < math.inf:
        return peak
    return peak * math.sqrt(float(((g / peak) ** 2).sum()))
