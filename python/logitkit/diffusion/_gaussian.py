"""Gaussian noise: x_t = alpha(t) x_0 + sigma(t) eps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._arrays import Array, Time, namespace, over_samples, placed, spread
from ._documented import documented_by
from ._draws import Draws
from ._elementary import all_finite, expm1
from ._predictions import Pair, Prediction, coefficients, combination
from ._process import FullProcess
from ._remembered import remembered
from ._schedules import Schedule, plain
from ._update import update, update_with_noise


class Hop(NamedTuple):
    """A step from time t to time s in numbers, each a float or one for each sample."""

    alpha_t: Any
    sigma_t: Any
    alpha_s: Any
    sigma_s: Any
    h: Any  # log(alpha / sigma) at s less that at t: inf into clean data


@documented_by(FullProcess)
@dataclass(frozen=True, eq=False)
class Gaussian:
    r"""
    The process that adds Gaussian noise.

    .. math:: x_t = \alpha(t) x_0 + \sigma(t) \varepsilon,
        \qquad \varepsilon \sim \mathcal N(0, I)

    Parameters
    ----------
    schedule : Schedule
        The factors alpha and sigma: `VariancePreserving`, `VarianceExploding`, `StraightPath`,
        a table such as `linear`, or `Custom` for any others.

    References
    ----------
    .. [1] D. Kingma et al., "Variational diffusion models", NeurIPS 2021, arXiv:2107.00630.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, StraightPath
    >>> process = Gaussian(StraightPath())
    >>> process.forward(np.array([2.0]), np.array([-1.0]), 0.25)
    array([1.25])
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        if isinstance(self.schedule, type) or not hasattr(self.schedule, "alpha"):
            raise TypeError(f"expected a schedule such as Cosine(), not {self.schedule!r}")

    @property
    def span(self) -> tuple[float, float]:
        """The time of clean data and the time of the most noise."""
        return self.schedule.span

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        return update(self.schedule.alpha(t), x0, self.schedule.sigma(t), eps)

    def noise(self, draws: Draws, like: Array) -> Array:
        return draws.normal(like.shape[1:], like)

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws | None = None) -> Array:
        a, b = _encoding(self.schedule, t)
        return update(a, x, b, x0)

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        eps = draws.normal(shape, like)
        return spread(self.schedule.sigma(t), eps) * eps

    def transition(self, x: Array, s: Time, t: Time, draws: Draws) -> Array:
        hop = self.hop(t, s)
        kept = hop.alpha_t / hop.alpha_s
        fresh = hop.sigma_t * np.sqrt(fresh_share(hop))
        return update(kept, x, fresh, self.noise(draws, x))

    def bridge(self, x: Array, x0: Array, t: Time, s: Time, draws: Draws) -> Array:
        hop = self.hop(t, s)
        share = fresh_share(hop)
        kept = hop.sigma_s * np.sqrt(1.0 - share)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_x = plain(np.where(hop.sigma_s == 0.0, 0.0, kept / hop.sigma_t))
        std = plain(hop.sigma_s * np.sqrt(share))
        return update_with_noise(of_x, x, hop.alpha_s - of_x * hop.alpha_t, x0, std, draws)

    def log_prob(self, x: Array, x0: Array, t: Time) -> Array:
        xp = namespace(x)
        eps = self.encode(x, x0, t)
        axes = over_samples(x)
        scale = np.log(math.sqrt(2.0 * math.pi) * self.schedule.sigma(t))
        constant = plain(math.prod(x.shape[1:]) * scale)
        total = -0.5 * xp.sum(eps * eps, axis=axes)
        return total - (constant if isinstance(constant, float) else placed(constant, x))

    def drift_diffusion(self, x: Array, t: Time) -> tuple[Array, Any]:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        alpha_rate, sigma_rate = self.schedule.rates(t)
        if not np.all(alpha) or not (all_finite(alpha_rate) and all_finite(sigma * sigma_rate)):
            raise ValueError(
                f"the drift or the diffusion is infinite at t={t}, where alpha={alpha} and "
                f"sigma={sigma}: keep the times inside of the span {self.span}, as with "
                "uniform(process, steps, start=..., end=...)"
            )
        f = alpha_rate / alpha
        # g^2 = 2 alpha sigma d(sigma / alpha)/dt, which is zero where only alpha falls
        square = 2.0 * sigma * (sigma_rate - f * sigma)
        return spread(f, x) * x, plain(np.sqrt(np.maximum(square, 0.0)))

    def convert(self, prediction: Prediction, to: str) -> Array:
        if prediction.kind == to:
            return prediction.value
        a, b = _conversion(self.schedule, prediction.kind, to, prediction.t)
        return update(a, prediction.x, b, prediction.value)

    def restore(self, prediction: Prediction, draws: Draws | None = None) -> Array:
        return self.convert(prediction, "x0")

    def weights(self, kind: str, t: Time, wanted: Pair) -> Pair:
        """
        Express a combination of data and noise by the sample and the prediction.

        Parameters
        ----------
        kind : {"x0", "eps", "v", "score", "flow"}
            What is predicted.
        t : float or ndarray, shape (n,)
            The time of the samples.
        wanted : tuple of two floats or ndarrays, shape (n,)
            Factors c_0 of the data and c_1 of the noise.

        Returns
        -------
        tuple of two floats or ndarrays, shape (n,)
            A and B in c_0 x_0 + c_1 eps = A x + B prediction.
        """
        return combination(kind, wanted, self.schedule, t)

    def hop(self, t: Time, s: Time) -> Hop:
        """
        Give the numbers of a step.

        Parameters
        ----------
        t, s : float or ndarray, shape (n,)
            The times from and to which it goes.

        Returns
        -------
        NamedTuple
            Factors alpha and sigma at `t` and at `s`, and h, the gain of log(alpha / sigma).
        """
        return make_hop(self.schedule, t, s)


@remembered
def make_hop(schedule: Schedule, t: Time, s: Time) -> Hop:
    """Return the numbers of a step from `t` to `s`."""
    return Hop(
        schedule.alpha(t),
        schedule.sigma(t),
        schedule.alpha(s),
        schedule.sigma(s),
        schedule.log_snr(s) - schedule.log_snr(t),
    )


@remembered
def _encoding(schedule: Schedule, t: Time) -> Pair:
    """Return A and B in eps = A x + B x_0."""
    sigma = schedule.sigma(t)
    if not np.all(sigma):
        raise ValueError(f"no noise leads to x at t={t}, where sigma=0: encode later times")
    return 1.0 / sigma, -schedule.alpha(t) / sigma


@remembered
def _conversion(schedule: Schedule, kind: str, to: str, t: Time) -> Pair:
    """Return A and B in a prediction of one kind as A x + B prediction of another."""
    wanted = coefficients(to, schedule, t)
    if not (all_finite(wanted[0]) and all_finite(wanted[1])):
        raise ValueError(
            f"{to!r} is infinite at t={t}: keep the times inside of the span {schedule.span}, as "
            "with uniform(process, steps, start=..., end=...)"
        )
    return combination(kind, wanted, schedule, t)


def fresh_share(hop: Hop, eta: float = 1.0) -> Any:
    """
    Return the share of the variance of the noise at s that a random step draws anew.

    1 - exp(-2 h) is that of the bridge, and so of DDPM.
    """
    return -expm1(-2.0 * eta * abs(hop.h))
