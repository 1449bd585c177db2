"""
Lines along which predictions are put through a polynomial, and the step that follows from it.

A multistep method is a line, on which each prediction has a place, and weights of the predictions.
Places count in steps: 0 is where a step begins and 1 is where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

from ._arrays import Array, Time
from ._elementary import all_finite, divided, exp
from ._exponential import (
    Weights,
    halved_weights,
    midpoint_weights,
    polynomial_weights,
    solved,
)
from ._gaussian import Gaussian, Hop
from ._predictions import Prediction
from ._remembered import remembered
from ._schedules import plain
from ._update import combine, update


class Past(NamedTuple):
    """What was predicted at an earlier step, and the samples that it began with."""

    t: Time
    value: Array
    x: Array


class Line(Protocol):
    """One way to write the equation: what is predicted, against what it is integrated."""

    of: str

    def place(self, process: Gaussian, t: Time) -> Any:
        """Return where on the line a time is; infinite where the line has no end."""

    def factors(
        self, process: Gaussian, t: Time, s: Time, places: list[Any]
    ) -> tuple[Any, Any, Weights]:
        """Return a, b and w in x_s = a x_t + b sum_j w_j prediction_j."""


@dataclass(frozen=True, eq=False)
class DataLine:
    """
    The data against log(alpha / sigma).

    With `midpoint`, two predictions have the weights of DPM-Solver++(2M) and UniPC; with
    `halved`, three have those of DPM-Solver++(3M).
    """

    midpoint: bool
    eta: float = 0.0
    halved: bool = False
    of = "x0"

    def place(self, process: Gaussian, t: Time) -> Any:
        return process.schedule.log_snr(t)

    def factors(
        self, process: Gaussian, t: Time, s: Time, places: list[Any]
    ) -> tuple[Any, Any, Weights]:
        hop = process.hop(t, s)
        ratio = hop.sigma_s / hop.sigma_t
        if self.eta:
            ratio = ratio * exp(-self.eta * hop.h)
        growth = (1.0 + self.eta) * hop.h
        if self.midpoint and len(places) == 2:
            return ratio, hop.alpha_s, midpoint_weights(places[1], growth)
        if self.halved and len(places) == 3:
            return ratio, hop.alpha_s, halved_weights(places, growth)
        return ratio, hop.alpha_s, polynomial_weights(places, growth)


@dataclass(frozen=True, eq=False)
class NoiseLine:
    """The noise against log(alpha / sigma)."""

    of = "eps"

    def place(self, process: Gaussian, t: Time) -> Any:
        return process.schedule.log_snr(t)

    def factors(
        self, process: Gaussian, t: Time, s: Time, places: list[Any]
    ) -> tuple[Any, Any, Weights]:
        hop = process.hop(t, s)
        return hop.alpha_s / hop.alpha_t, hop.sigma_s, polynomial_weights(places, -hop.h)


@dataclass(frozen=True, eq=False)
class RatioLine:
    """The noise against r = sigma / alpha: sum_j w_j u_j^k = length / (k + 1)."""

    of = "eps"

    def place(self, process: Gaussian, t: Time) -> Any:
        return divided(process.schedule.sigma(t), process.schedule.alpha(t))

    def factors(
        self, process: Gaussian, t: Time, s: Time, places: list[Any]
    ) -> tuple[Any, Any, Weights]:
        hop = process.hop(t, s)
        length = hop.sigma_s / hop.alpha_s - hop.sigma_t / hop.alpha_t
        weights = solved(places, [length / (k + 1.0) for k in range(len(places))])
        return hop.alpha_s / hop.alpha_t, hop.alpha_s, weights


data_line = cache(DataLine)  # the same object for the same arguments, for `remembered`
NOISE_LINE, RATIO_LINE = NoiseLine(), RatioLine()


class Plan(NamedTuple):
    """A step as a linear combination: of the samples, and of predictions in their order."""

    of_x: Any
    of_values: tuple[Any, ...]


@remembered
def plan(
    line: Line, process: Gaussian, t: Time, s: Time, times: tuple[Time, ...], end: bool = False
) -> Plan | None:
    """
    Return the factors of x_t, of the prediction at `t`, and of those at earlier `times`.

    With `end`, the prediction at `s` comes last. Predictions that are infinitely far off are
    left out. None stands for an endless step, from pure noise or into clean data: it is one of
    DDIM. Where times differ by sample, one endless step makes all of them such.
    """
    here = line.place(process, t)
    length = line.place(process, s) - here
    if not all_finite(length):
        return None
    places = [0.0 * length]
    for time in times:
        place = divided(line.place(process, time) - here, length)
        if not all_finite(place):
            break
        places.append(place)
    places = [*places, 0.0 * length + 1.0] if end else places
    a, b, weights = line.factors(process, t, s, places)
    return Plan(plain(a), tuple([plain(b * weight) for weight in weights]))


def carried(step: Plan, x: Array, values: tuple[Array, ...]) -> Array:
    """Return the combination that a plan asks for, of the first of some values."""
    return combine((step.of_x, *step.of_values), (x, *values[: len(step.of_values)]))


def to_end(process: Gaussian, prediction: Prediction, hop: Hop) -> Array:
    """Return alpha_s x_0 + sigma_s eps: a step of DDIM, which pure noise or clean data may end."""
    a, b = process.weights(prediction.kind, prediction.t, (hop.alpha_s, hop.sigma_s))
    return update(a, prediction.x, b, prediction.value)
