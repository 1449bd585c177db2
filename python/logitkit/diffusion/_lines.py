"""
Lines along which predictions are put through a polynomial, and the step that follows from it.

A multistep method is a line, on which each prediction has a place, and weights of predictions at
places. Places count in steps: 0 is where a step begins and 1 is where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ._arrays import Array, Time
from ._exponential import Weights, solved, step_weights
from ._gaussian import Gaussian, Hop
from ._predictions import Prediction
from ._schedules import plain
from ._update import update


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

    def carry(
        self, process: Gaussian, t: Time, s: Time, x: Array, places: list[Any], values: list[Array]
    ) -> Array:
        """Return x_s from x_t and from predictions at places."""


@dataclass(frozen=True)
class DataLine:
    """The data against log(alpha / sigma); `midpoint` as in DPM-Solver++(2M) and UniPC."""

    midpoint: bool
    of = "x0"

    def place(self, process: Gaussian, t: Time) -> Any:
        return process.schedule.log_snr(t)

    def carry(
        self, process: Gaussian, t: Time, s: Time, x: Array, places: list[Any], values: list[Array]
    ) -> Array:
        hop = process.hop(t, s)
        weights = step_weights(places, hop.h, midpoint=self.midpoint)
        return weighted(hop.sigma_s / hop.sigma_t, x, hop.alpha_s, weights, values)


@dataclass(frozen=True)
class NoiseLine:
    """The noise against log(alpha / sigma)."""

    of = "eps"

    def place(self, process: Gaussian, t: Time) -> Any:
        return process.schedule.log_snr(t)

    def carry(
        self, process: Gaussian, t: Time, s: Time, x: Array, places: list[Any], values: list[Array]
    ) -> Array:
        hop = process.hop(t, s)
        weights = step_weights(places, -hop.h)
        return weighted(hop.alpha_s / hop.alpha_t, x, hop.sigma_s, weights, values)


@dataclass(frozen=True)
class RatioLine:
    """The noise against r = sigma / alpha: sum_j w_j u_j^k = length / (k + 1)."""

    of = "eps"

    def place(self, process: Gaussian, t: Time) -> Any:
        with np.errstate(divide="ignore"):
            return plain(np.divide(process.schedule.sigma(t), process.schedule.alpha(t)))

    def carry(
        self, process: Gaussian, t: Time, s: Time, x: Array, places: list[Any], values: list[Array]
    ) -> Array:
        hop = process.hop(t, s)
        length = np.asarray(hop.sigma_s / hop.alpha_s - hop.sigma_t / hop.alpha_t)
        weights = solved(places, length[..., None] / np.arange(1.0, len(places) + 1.0))
        return weighted(hop.alpha_s / hop.alpha_t, x, hop.alpha_s, weights, values)


def weighted(a: Any, x: Array, b: Any, weights: Weights, values: Sequence[Array]) -> Array:
    """Return a x + b sum_j w_j value_j, one pass for each value."""
    total = update(a, x, plain(b * weights[..., 0]), values[0])
    for j, value in enumerate(values[1:], start=1):
        total = update(1.0, total, plain(b * weights[..., j]), value)
    return total


def to_end(process: Gaussian, prediction: Prediction, hop: Hop) -> Array:
    """Return alpha_s x_0 + sigma_s eps: a step of DDIM, which pure noise or clean data may end."""
    a, b = process.weights(prediction, (hop.alpha_s, hop.sigma_s))
    return update(a, prediction.x, b, prediction.value)


def places_of(
    line: Line, process: Gaussian, t: Time, s: Time, history: Sequence[Past]
) -> list[Any] | None:
    """
    Return the places of the prediction at `t` and of those before; None on an endless step.

    Such a step, from pure noise or into clean data, is one of DDIM. With times that differ by
    sample all take it together: no grid for each sample should end where another goes on.
    """
    here = line.place(process, t)
    length = np.subtract(line.place(process, s), here)
    if not np.all(np.isfinite(length)):
        return None
    places = [plain(np.zeros(np.shape(length)))]
    for past in history:
        place = plain(np.divide(np.subtract(line.place(process, past.t), here), length))
        if not np.all(np.isfinite(place)):
            break
        places.append(place)
    return places
