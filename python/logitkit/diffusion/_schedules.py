r"""
Schedules: how much data and how much noise is in x_t = alpha(t) x_0 + sigma(t) eps.

`alpha` and `sigma` are the factors themselves: alpha is the square root of the
``alphas_cumprod`` of other libraries, and it is the bar-alpha of Su's articles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ._arrays import Time
from ._documented import documented_by
from ._elementary import exp, log, log1p
from ._parameters import check_function, check_number, check_span


class Schedule(Protocol):
    """
    The factors of data and noise at each time, from clean data to noise.

    Times are floats, or float64 arrays with the time of each sample; so are the results.

    Attributes
    ----------
    span : tuple of two floats
        The time of clean data and the time of the most noise.

    See Also
    --------
    Custom : A schedule from two functions.

    Examples
    --------
    >>> from logitkit.diffusion import Schedule, StraightPath
    >>> schedule: Schedule = StraightPath()
    >>> schedule.alpha(0.25), schedule.sigma(0.25)
    (0.75, 0.25)
    """

    def __init__(self) -> None: ...

    def __hash__(self) -> int: ...

    @property
    def span(self) -> tuple[float, float]: ...

    def alpha(self, t: Time, /) -> Any:
        """
        Factor of the data.

        Parameters
        ----------
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        float or ndarray, shape (n,)
            The factor.
        """

    def sigma(self, t: Time, /) -> Any:
        """
        Factor of the noise.

        Parameters
        ----------
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        float or ndarray, shape (n,)
            The factor: the standard deviation of the noise in x_t.
        """

    def log_snr(self, t: Time, /) -> Any:
        """
        Logarithm of alpha / sigma, half of the logarithm of the signal-to-noise ratio.

        Parameters
        ----------
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        float or ndarray, shape (n,)
            In nats: +inf for clean data, -inf for pure noise.
        """

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        """
        Give the derivatives of alpha and sigma by the time.

        Parameters
        ----------
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        tuple of two floats or ndarrays, shape (n,)
            The two, per unit of time.
        """

    def time(self, log_snr: Time, /) -> Any:
        """
        Time at which log(alpha / sigma) has a value: the inverse of `log_snr`.

        Parameters
        ----------
        log_snr : float or ndarray, shape (n,)
            In nats. Beyond the schedule's own range, its nearer end is returned.

        Returns
        -------
        float or ndarray, shape (n,)
            The time.
        """


def plain(value: Any) -> Any:
    """Return a float where NumPy has made a scalar of its own."""
    return float(value) if isinstance(value, float) or np.ndim(value) == 0 else value


def bisect(log_snr: Callable[[Time], Any], span: tuple[float, float], target: Time) -> Any:
    """Solve log_snr(t) = target, for a function that falls from the first of `span` to the last."""
    wanted = np.asarray(target, np.float64)
    low, high = np.full_like(wanted, span[0]), np.full_like(wanted, span[1])
    for _ in range(200):  # until the two are neighbours, which a start at zero makes long
        middle = 0.5 * (low + high)
        if np.all((middle == low) | (middle == high)):
            break
        too_early = np.asarray(log_snr(middle)) > wanted
        low, high = np.where(too_early, middle, low), np.where(too_early, high, middle)
    return plain(0.5 * (low + high))


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class StraightPath:
    r"""
    The straight path from data to noise, of flow matching and rectified flows.

    .. math:: \alpha(t) = 1 - t, \qquad \sigma(t) = t

    References
    ----------
    .. [1] X. Liu, C. Gong and Q. Liu, "Flow straight and fast", ICLR 2023, arXiv:2209.03003.
    .. [2] Y. Lipman et al., "Flow matching for generative modeling", ICLR 2023,
       arXiv:2210.02747.

    Examples
    --------
    >>> from logitkit.diffusion import StraightPath
    >>> StraightPath().log_snr(0.5)
    0.0
    """

    span = (0.0, 1.0)

    def alpha(self, t: Time, /) -> Any:
        return 1.0 - t

    def sigma(self, t: Time, /) -> Any:
        return t

    def log_snr(self, t: Time, /) -> Any:
        return log1p(-t) - log(t)

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        one = 1.0 if isinstance(t, float) else plain(np.ones(np.shape(t)))
        return -one, one

    def time(self, log_snr: Time, /) -> Any:
        return 1.0 / (1.0 + exp(log_snr))


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class VarianceExploding:
    r"""
    Noise added to data that is not scaled down; the time is the noise.

    .. math:: \alpha(t) = 1, \qquad \sigma(t) = t

    Parameters
    ----------
    sigma_max : float, default 80.0
        The most noise, in units of the data.

    References
    ----------
    .. [1] T. Karras et al., "Elucidating the design space of diffusion-based generative
       models", NeurIPS 2022, arXiv:2206.00364.

    Examples
    --------
    >>> from logitkit.diffusion import VarianceExploding
    >>> VarianceExploding().sigma(3.0)
    3.0
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        check_number("sigma_max", self.sigma_max, 0.0, open_low=True)

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, self.sigma_max)

    def alpha(self, t: Time, /) -> Any:
        return 1.0 if isinstance(t, float) else plain(np.ones(np.shape(t)))

    def sigma(self, t: Time, /) -> Any:
        return t

    def log_snr(self, t: Time, /) -> Any:
        return -log(t)

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        return plain(np.zeros(np.shape(t))), plain(np.ones(np.shape(t)))

    def time(self, log_snr: Time, /) -> Any:
        return plain(np.minimum(exp(-log_snr), self.sigma_max))


@documented_by(Schedule)
@dataclass(frozen=True, eq=False)
class Custom:
    """
    A schedule from any two functions of the time.

    Parameters
    ----------
    alpha_of, sigma_of : callable, (t) -> array
        The factors of data and noise for a float64 array of times. Their ratio must fall.
    span : tuple of two floats, default (0.0, 1.0)
        The time of clean data and the time of the most noise.

    Notes
    -----
    `rates` are central differences, with a relative error near 1e-10; `time` is found by
    bisection. For use in other processes the two functions must pickle, which those defined
    at the top of a module do.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Custom
    >>> schedule = Custom(lambda t: np.cos(t), lambda t: np.sin(t), span=(0.0, np.pi / 2))
    >>> round(schedule.time(0.0), 12) == round(np.pi / 4, 12)
    True
    """

    alpha_of: Callable[[Any], Any]
    sigma_of: Callable[[Any], Any]
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_function("alpha_of", self.alpha_of)
        check_function("sigma_of", self.sigma_of)
        check_span(self.span)

    def alpha(self, t: Time, /) -> Any:
        return plain(self.alpha_of(np.asarray(t, np.float64)))

    def sigma(self, t: Time, /) -> Any:
        return plain(self.sigma_of(np.asarray(t, np.float64)))

    def log_snr(self, t: Time, /) -> Any:
        with np.errstate(divide="ignore"):
            return plain(np.log(self.alpha(t)) - np.log(self.sigma(t)))

    def rates(self, t: Time, /) -> tuple[Any, Any]:
        first, last = self.span
        step = 1e-5 * (last - first)  # the cube root of the rounding error: equal shares
        before, after = np.maximum(t - step, first), np.minimum(t + step, last)
        return (
            plain((self.alpha(after) - self.alpha(before)) / (after - before)),
            plain((self.sigma(after) - self.sigma(before)) / (after - before)),
        )

    def time(self, log_snr: Time, /) -> Any:
        return bisect(self.log_snr, self.span, log_snr)
