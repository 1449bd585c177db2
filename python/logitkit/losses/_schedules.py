"""Numbers that change in the course of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._real_array import real_number


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
            if not 0.0 < real_number(name, value) < math.inf:
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
        done = min(max(real_number("progress", progress), 0.0), 1.0)
        return float(self.initial * (self.final / self.initial) ** done)


@dataclass(frozen=True)
class LinearSchedule:
    """
    A number that changes by the same amount in equal parts of training.

    Parameters
    ----------
    initial : float
        Its value at the start.
    final : float
        Its value at the end.

    Raises
    ------
    ValueError
        If one of them is not finite.

    See Also
    --------
    GeometricSchedule : By the same factor, for what stays above 0.
    expected_accuracy : Whose `margin` may change so.

    Examples
    --------
    >>> from logitkit import losses
    >>> margin = losses.LinearSchedule(initial=0.0, final=5.0)
    >>> [margin(progress) for progress in (0.0, 0.5, 1.0)]
    [0.0, 2.5, 5.0]
    """

    initial: float
    final: float

    def __post_init__(self) -> None:
        for name, value in (("initial", self.initial), ("final", self.final)):
            if not math.isfinite(real_number(name, value)):
                raise ValueError(f"expected {name} to be finite, not {value}")

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
        done = min(max(real_number("progress", progress), 0.0), 1.0)
        return float((1.0 - done) * self.initial + done * self.final)


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
        if not 0.0 <= real_number("start", self.start) <= 1.0:
            raise ValueError(f"expected 0 <= start <= 1, not {self.start}")
        if not 0.0 <= real_number("ramp", self.ramp) < math.inf:
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
        beyond = real_number("progress", progress) - self.start
        if self.ramp == 0.0:
            return float(beyond > 0.0)
        return min(max(beyond / self.ramp, 0.0), 1.0)
