"""Losses made of other losses, for metrics, and schedules to bring them in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec

from ._metric_kernels import SURROGATES
from ._terms import RowTerms, Terms, loss, terms_of

P = ParamSpec("P")


def stretched(error_loss: Callable[P, Any]) -> Callable[P, Any]:
    r"""
    Make a loss that grows without bound where an error of at most 1 becomes 1.

    .. math:: -\log(1 - \text{error})

    It is the error to first order where that is small, and so leads to the same end, but it
    has a slope where all is wrong. Of `smooth_accuracy` it makes cross-entropy, and of
    `expected_accuracy` the negative log-probability of a probit.

    Parameters
    ----------
    error_loss : callable
        A loss of this package whose values are errors: `smooth_accuracy`, `expected_accuracy`,
        or one less a metric, such as `smooth_f_score`.

    Returns
    -------
    callable
        A loss of the same arguments, of which `value_and_grad` takes gradients. Each value is
        stretched before the reduction.

    Raises
    ------
    TypeError
        If `error_loss` is not a function of this package.
    ValueError
        If its values are not errors.

    See Also
    --------
    from_metric : Another way to train for a metric.

    Notes
    -----
    Where it can be, the logarithm is not taken of the error: so digits are kept at a probability
    of 1e-300. The article that gives this recipe found no gain from metrics as objectives on
    its own tasks.

    References
    ----------
    .. [1] J. Su, "Can training accuracy be a training objective?" (in Chinese),
       https://kexue.fm/archives/9098, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> cross_entropy = losses.stretched(losses.smooth_accuracy)
    >>> float(cross_entropy(np.array([[0.0, 500.0]]), [0]))
    500.0
    """
    prepare = terms_of(error_loss)

    @wraps(prepare)
    def stretch(*args: P.args, **kwargs: P.kwargs) -> Terms:
        terms = prepare(*args, **kwargs)
        assert isinstance(terms, RowTerms)
        if not terms.loss.error or terms.stretch:
            raise ValueError(f"expected a loss whose values are errors, not {terms.loss.name}")
        if terms.loss.stretched is not None:
            return replace(terms, loss=terms.loss.stretched)
        return replace(terms, stretch=True)

    return loss(stretch)


def from_metric(metric_loss: Callable[P, Any]) -> Callable[P, Any]:
    r"""
    Make a cross-entropy whose weights are the slopes of a metric.

    .. math::
        -\sum_i \Bigl[\frac{\partial M}{\partial p_i}\Bigr]_+ \log p_i
        -\sum_i \Bigl[-\frac{\partial M}{\partial p_i}\Bigr]_+ \log(1 - p_i)

    The slopes, those at the present probabilities, are constants: labels weigh as much as the
    metric says they would gain, and the logarithms have slopes where probabilities do not. For
    the F-score with ``beta=1`` the weights are in the ratio of ``1 - F/2`` for true labels to
    ``F/2`` for others.

    Parameters
    ----------
    metric_loss : callable
        One less a metric of probabilities of labels: `smooth_f_score`, `smooth_precision`,
        `smooth_recall`, `smooth_iou` or `smooth_matthews`.

    Returns
    -------
    callable
        A loss of the same arguments. What `value_and_grad` or ``backward`` return is not the
        derivative of its value, in which the slopes would change, too.

    Raises
    ------
    TypeError
        If `metric_loss` is not a function of this package.
    ValueError
        If it is not one less such a metric.

    See Also
    --------
    stretched : Minus the logarithm of the metric.

    References
    ----------
    .. [1] J. Su, "From accuracy to F1: building losses from metrics" (in Chinese),
       https://kexue.fm/archives/7708, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> step = losses.value_and_grad(losses.from_metric(losses.smooth_f_score))
    >>> step(np.zeros(2), [1, 0])[1]  # F = 1/2: 3 to 1
    array([-0.375,  0.125])
    """
    prepare = terms_of(metric_loss)

    @wraps(prepare)
    def surrogate(*args: P.args, **kwargs: P.kwargs) -> Terms:
        terms = prepare(*args, **kwargs)
        assert isinstance(terms, RowTerms)
        if terms.stretch or terms.loss.name not in SURROGATES:
            names = ", ".join(SURROGATES)
            raise ValueError(f"expected one of {names}, not {terms.loss.name}")
        return replace(terms, loss=SURROGATES[terms.loss.name])

    return loss(surrogate)


@dataclass(frozen=True)
class GeometricSchedule:
    """
    A number that changes by the same factor in equal parts of training.

    Parameters
    ----------
    initial : float, default 10
        Its value at the start.
    final : float, default 0.01
        Its value at the end.

    Raises
    ------
    ValueError
        If one of them is not above 0.

    See Also
    --------
    expected_accuracy : Whose `scale` the published training shrinks so, from 10 to 0.01.

    Examples
    --------
    >>> from logitkit import losses
    >>> schedule = losses.GeometricSchedule(initial=10.0, final=0.1)
    >>> [round(schedule(progress), 6) for progress in (0.0, 0.5, 1.0)]
    [10.0, 1.0, 0.1]
    """

    initial: float = 10.0
    final: float = 0.01

    def __post_init__(self) -> None:
        for name, value in (("initial", self.initial), ("final", self.final)):
            if not 0.0 < value < math.inf:
                raise ValueError(f"expected {name} > 0 and finite, not {value}")

    def __call__(self, progress: float) -> float:
        """
        Return the number after a part of training.

        Parameters
        ----------
        progress : float
            The part of training that is over, from 0 to 1; beyond, the end.

        Returns
        -------
        float
            The number, between `initial` and `final`.
        """
        done = min(max(float(progress), 0.0), 1.0)
        return float(self.initial * (self.final / self.initial) ** done)


@dataclass(frozen=True)
class CrossEntropyFirst:
    """
    Weight of a metric in a loss: none at first, while cross-entropy finds the way.

    Metrics have no slope where predictions are all wrong, and cross-entropy has the steepest
    there: train with it first, then for the metric.

    Parameters
    ----------
    start : float, default 0.5
        The part of training with cross-entropy alone, from 0 to 1.
    ramp : float, default 0.1
        The part of training in which the weight then rises to 1, not below 0.

    Raises
    ------
    ValueError
        If one of them is outside of its range.

    See Also
    --------
    from_metric : A loss that needs it less.

    Notes
    -----
    The advice is that of https://kexue.fm/archives/6620 for smooth F-scores. It is no promise
    of a better metric.

    Examples
    --------
    >>> from logitkit import losses
    >>> weight = losses.CrossEntropyFirst(start=0.5, ramp=0.25)
    >>> [weight(progress) for progress in (0.0, 0.5, 0.625, 1.0)]
    [0.0, 0.0, 0.5, 1.0]
    """

    start: float = 0.5
    ramp: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.start <= 1.0:
            raise ValueError(f"expected 0 <= start <= 1, not {self.start}")
        if not 0.0 <= self.ramp < math.inf:
            raise ValueError(f"expected ramp >= 0 and finite, not {self.ramp}")

    def __call__(self, progress: float) -> float:
        """
        Return the weight of the metric; that of cross-entropy is the rest.

        Parameters
        ----------
        progress : float
            The part of training that is over, from 0 to 1.

        Returns
        -------
        float
            The weight `w` in ``(1 - w) * cross_entropy + w * metric``, from 0 to 1.
        """
        beyond = float(progress) - self.start
        if self.ramp == 0.0:
            return float(beyond > 0.0)
        return min(max(beyond / self.ramp, 0.0), 1.0)
