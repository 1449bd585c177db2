r"""
Variance-preserving schedules, alpha^2 + sigma^2 = 1, each given by log(alpha) alone.

sigma comes from log(alpha) by expm1, so that it keeps its digits where there is little noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import Time
from ._documented import documented_by
from ._elementary import divided, exp, expm1, log, log1p, sqrt
from ._parameters import check_number
from ._schedules import Schedule, bisect, plain


def _number(t: Any) -> Any:
    """Return a float, for Python's own functions, or an array."""
    if isinstance(t, float) or np.ndim(t) == 0:
        return float(t)
    return np.asarray(t, np.float64)


def _float64(t: Any) -> Any:
    """Return NumPy's float64, which divides by zero, or an array of them."""
    return np.asarray(t, np.float64)[()]  # NumPy 1.26 makes one number of float64(an array of one)


def _of_square(half: Any, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """Return the derivatives of alpha and sigma from half of that of alpha^2."""
    return divided(half, alpha), divided(-half, sigma)


class _FromLogAlpha:
    """What follows from log(alpha) and its derivative."""

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def _log_alpha(self, t: Any) -> Any:
        raise NotImplementedError

    def _log_alpha_rate(self, t: Any) -> Any:
        raise NotImplementedError

    def _time_of(self, log_alpha: Any) -> Any:
        return bisect(self._log_alpha, self.span, log_alpha)

    def alpha(self, t: Time, /) -> Any:
        return plain(exp(self._log_alpha(_number(t))))

    def sigma(self, t: Time, /) -> Any:
        return plain(sqrt(abs(expm1(2.0 * self._log_alpha(_number(t))))))

    def log_snr(self, t: Time, /) -> Any:
        log_alpha = self._log_alpha(_number(t))
        return plain(log_alpha - 0.5 * log(abs(expm1(2.0 * log_alpha))))

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        alpha, sigma = self.alpha(t), self.sigma(t)
        d_alpha = plain(alpha * self._log_alpha_rate(_float64(t)))
        return d_alpha, divided(-alpha * d_alpha, sigma)

    def time(self, log_snr: Time, /) -> Any:
        log_alpha = -0.5 * np.logaddexp(0.0, -2.0 * _number(log_snr))
        return plain(np.clip(self._time_of(log_alpha), *self.span))


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class VariancePreserving(_FromLogAlpha):
    r"""
    The continuous form of the linear schedule.

    .. math:: \log \alpha(t) = -\tfrac14 (b - a) t^2 - \tfrac12 a t, \qquad 0 \le t \le 1

    Parameters
    ----------
    beta_min, beta_max : float, default 0.1 and 20.0
        The rates `a` and `b` at which noise comes in at t = 0 and t = 1, per unit of time.

    References
    ----------
    .. [1] Y. Song et al., "Score-based generative modeling through stochastic differential
       equations", ICLR 2021, arXiv:2011.13456.

    Examples
    --------
    >>> from logitkit.diffusion import VariancePreserving
    >>> round(VariancePreserving().alpha(1.0), 5)
    0.00657
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        check_number("beta_min", self.beta_min, 0.0)
        check_number("beta_max", self.beta_max, 0.0, open_low=not self.beta_min)

    def _log_alpha(self, t: Any) -> Any:
        return -0.25 * (self.beta_max - self.beta_min) * t * t - 0.5 * self.beta_min * t

    def _log_alpha_rate(self, t: Any) -> Any:
        return -0.5 * (self.beta_max - self.beta_min) * t - 0.5 * self.beta_min

    def _time_of(self, log_alpha: Any) -> Any:
        # The root of (b - a) t^2 + 2 a t + 4 log(alpha) = 0 without a difference.
        a, slope = self.beta_min, self.beta_max - self.beta_min
        with np.errstate(invalid="ignore"):
            t = -4.0 * log_alpha / (a + np.sqrt(a * a - 4.0 * slope * log_alpha))
        return np.where(np.isinf(log_alpha), 1.0, t)


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class ExponentialDecay(_FromLogAlpha):
    r"""
    The continuous schedules of the article on the unified diffusion model.

    .. math:: \alpha(t) = e^{-r t^p}, \qquad 0 \le t \le 1

    Parameters
    ----------
    rate : float, default 5.0
        The rate `r`.
    power : float, default 2.0
        The power `p`: 1 and 2 are those of the article.

    References
    ----------
    .. [1] J. Su, on the unified diffusion model (in Chinese), kexue.fm/archives/9262, 2022.

    Examples
    --------
    >>> from logitkit.diffusion import ExponentialDecay
    >>> round(ExponentialDecay().alpha(1.0), 5)
    0.00674
    """

    rate: float = 5.0
    power: float = 2.0

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0.0, open_low=True)
        check_number("power", self.power, 0.0, open_low=True)

    def _log_alpha(self, t: Any) -> Any:
        return -self.rate * t**self.power

    def _log_alpha_rate(self, t: Any) -> Any:
        with np.errstate(divide="ignore"):
            return -self.rate * self.power * t ** (self.power - 1.0)

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        d_alpha, d_sigma = super().rates(t)
        # sigma is about sqrt(2 r) t^(p / 2) near clean data
        slope = math.sqrt(2.0 * self.rate) if self.power == 2.0 else 0.0
        clean = slope if self.power >= 2.0 else math.inf
        return d_alpha, plain(np.where(np.equal(t, 0.0), clean, d_sigma))

    def _time_of(self, log_alpha: Any) -> Any:
        return (-log_alpha / self.rate) ** (1.0 / self.power)


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class Cosine(_FromLogAlpha):
    r"""
    The cosine schedule in continuous time; its end is pure noise.

    .. math:: \alpha(t) = \cos\bigl(\tfrac{\pi}{2} \tfrac{t + o}{1 + o}\bigr) \big/
        \cos\bigl(\tfrac{\pi}{2} \tfrac{o}{1 + o}\bigr), \qquad 0 \le t \le 1

    Parameters
    ----------
    offset : float, default 0.008
        The offset `o`, which keeps the first of many steps from being too small.

    References
    ----------
    .. [1] A. Nichol and P. Dhariwal, "Improved denoising diffusion probabilistic models",
       ICML 2021, arXiv:2102.09672.

    Examples
    --------
    >>> from logitkit.diffusion import Cosine
    >>> round(Cosine().alpha(0.5), 4)
    0.7027
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        check_number("offset", self.offset, 0.0)

    def _angle(self, t: Any) -> Any:
        return 0.5 * math.pi * (t + self.offset) / (1.0 + self.offset)

    def _log_alpha(self, t: Any) -> Any:
        # cos(pi/2 - x) = sin(x) is exactly zero at the end.
        left = 0.5 * math.pi * (1.0 - t) / (1.0 + self.offset)
        sine = math.sin(left) if isinstance(left, float) else np.sin(left)
        return log(sine) - math.log(math.cos(self._angle(0.0)))

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        # alpha times the derivative of its logarithm would be 0 times infinity in pure noise
        speed = 0.5 * math.pi / (1.0 + self.offset)
        d_alpha = -speed * np.sin(self._angle(_float64(t))) / math.cos(self._angle(0.0))
        sigma = self.sigma(t)
        d_sigma = divided(-self.alpha(t) * d_alpha, sigma)
        if not self.offset:  # cosine and sine
            d_sigma = plain(np.where(np.equal(sigma, 0.0), speed, d_sigma))
        return plain(d_alpha), d_sigma

    def _time_of(self, log_alpha: Any) -> Any:
        # alpha cos(angle(0)) = sin(left); near alpha = 1 through the tangent of half angles.
        sine = np.exp(log_alpha) * math.cos(self._angle(0.0))
        left = np.arcsin(np.minimum(sine, 1.0))
        return 1.0 - left * (1.0 + self.offset) / (0.5 * math.pi)


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class Sigmoid(_FromLogAlpha):
    r"""
    The sigmoid schedule in continuous time; its end is pure noise.

    .. math:: \alpha(t)^2 = \frac{s(b) - s(a + (b - a) t)}{s(b) - s(a)},
        \qquad s(u) = \frac{1}{1 + e^{-u / \tau}}

    Parameters
    ----------
    start, end : float, default -3.0 and 3.0
        The arguments `a` and `b` of the sigmoid at t = 0 and t = 1.
    temperature : float, default 1.0
        The width tau.

    References
    ----------
    .. [1] A. Jabri, D. Fleet and T. Chen, "Scalable adaptive computation for iterative
       generation", ICML 2023, arXiv:2212.11972.

    Examples
    --------
    >>> from logitkit.diffusion import Sigmoid
    >>> round(Sigmoid().alpha(0.5) ** 2, 12)
    0.5
    """

    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number("start", self.start)
        check_number("end", self.end)
        if self.start == self.end:
            raise ValueError(f"expected start and end to differ, not {self.start} for both")
        check_number("temperature", self.temperature, 0.0, open_low=True)

    def _sigmoid(self, t: Any) -> Any:
        u = (self.start + (self.end - self.start) * t) / self.temperature
        return 1.0 / (1.0 + exp(-u))

    def _log_alpha(self, t: Any) -> Any:
        first, last = self._sigmoid(0.0), self._sigmoid(1.0)
        # log of 1 - the share that is gone, which keeps its digits near t = 0
        gone = (self._sigmoid(t) - first) / (last - first)
        return 0.5 * log1p(-gone)

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        here = self._sigmoid(_number(t))
        slope = here * (1.0 - here) * (self.end - self.start) / self.temperature
        half = plain(-0.5 * slope / (self._sigmoid(1.0) - self._sigmoid(0.0)))
        return _of_square(half, self.alpha(t), self.sigma(t))


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class StepTable(_FromLogAlpha):
    r"""
    A schedule of `T` steps, at real times between them too.

    .. math:: \alpha(t)^2 = \prod_{i=1}^{t} (1 - \beta_i), \qquad t = 0, 1, \ldots, T

    Parameters
    ----------
    betas : array_like, shape (T,)
        The share of the variance that each step replaces by noise: from 0 to 1, where only
        the last may be 1. These are the ``betas`` of other libraries and the squares of the
        beta of Su's articles.

    Raises
    ------
    ValueError
        If a share is not in its range.

    See Also
    --------
    linear, scaled_linear, cosine, sigmoid, su : The usual tables.

    Notes
    -----
    A network that was trained with steps counted from 0 to T - 1 sees x_t with index t - 1.
    Between two steps log(alpha) is linear in the time; in a last step to pure noise, where
    log(alpha) ends at -inf, alpha^2 is.

    Examples
    --------
    >>> from logitkit.diffusion import StepTable
    >>> StepTable([0.5, 0.5]).alpha(2.0)
    0.5
    """

    betas: ArrayLike
    _table: NDArray[np.float64] = field(init=False, repr=False)
    _entries: list[float] = field(init=False, repr=False)  # the same, for single times

    def __post_init__(self) -> None:
        betas = np.array(self.betas, np.float64)
        inside = (betas >= 0.0) & (betas < 1.0)
        if betas.ndim != 1 or not len(betas) or not (inside[:-1].all() and 0 <= betas[-1] <= 1):
            raise ValueError(
                "expected betas, shape (T,), from 0 to below 1, of which only the last may be 1, "
                f"not {betas}"
            )
        with np.errstate(divide="ignore"):
            table = np.concatenate([[0.0], np.cumsum(0.5 * np.log1p(-betas))])
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_entries", table.tolist())

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, float(len(self._table) - 1))

    def _cell(self, t: Any) -> tuple[Any, Any, Any, Any]:
        """Return the two entries around each time, how far it is between them, and the place."""
        index = np.clip(np.ceil(t).astype(np.int64), 1, len(self._table) - 1)
        return self._table[index - 1], self._table[index], t - (index - 1), index

    def _log_alpha(self, t: Any) -> Any:
        if isinstance(t, float):
            index = min(max(math.ceil(t), 1), len(self._entries) - 1)
            low, high, share = self._entries[index - 1], self._entries[index], t - (index - 1)
            if share == 0.0:
                return low
            to_noise = high == -math.inf
            return low + (0.5 * log1p(-share) if to_noise else share * (high - low))
        low, high, share, _ = self._cell(t)
        with np.errstate(divide="ignore", invalid="ignore"):
            linear = low + share * (high - low)
            to_noise = low + 0.5 * np.log1p(-share)
        return np.where(share == 0.0, low, np.where(np.isinf(high), to_noise, linear))

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        low, high, _, _ = self._cell(np.asarray(t))
        # In a last step to pure noise alpha^2 falls on a line, elsewhere log(alpha).
        half = plain(np.where(np.isinf(high), -0.5 * np.exp(2.0 * low), 0.0))
        alpha, sigma = self.alpha(t), self.sigma(t)
        to_noise = _of_square(half, alpha, sigma)
        with np.errstate(invalid="ignore"):
            d_alpha = plain(alpha * (high - low))
        inside = (d_alpha, divided(-alpha * d_alpha, sigma))
        return (
            plain(np.where(np.isinf(high), to_noise[0], inside[0])),
            plain(np.where(np.isinf(high), to_noise[1], inside[1])),
        )

    def _time_of(self, log_alpha: Any) -> Any:
        finite = self._table[np.isfinite(self._table)]
        last = float(len(self._table) - 1)
        # np.interp wants rising abscissas
        t = np.interp(-log_alpha, -finite, np.arange(len(finite), dtype=np.float64))
        if len(finite) == len(self._table):
            return t
        with np.errstate(invalid="ignore"):
            beyond = last - np.exp(2.0 * (log_alpha - finite[-1]))
        return np.where(log_alpha < finite[-1], beyond, t)
