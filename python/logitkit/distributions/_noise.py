"""Laws of the noise that is added to logits before the largest is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .._real_array import real_number

_INF = math.inf
_LEAST_TAIL = 1e-280
_LOG_2, _LOG_PI = math.log(2.0), math.log(math.pi)


class Noise(Protocol):
    """
    What `ArgmaxNoise` asks of a law of noise: a continuous one, the same for every class.

    Any object with these members will do. Those of this module also have kernels; another
    law is integrated in NumPy.

    Attributes
    ----------
    support : tuple of float
        The ends of the interval where the density is positive.
    break_points : tuple of float
        Where the density is not smooth, the finite ends of the support included.
    """

    @property
    def support(self) -> tuple[float, float]: ...

    @property
    def break_points(self) -> tuple[float, ...]: ...

    def log_cdf(self, x: Any) -> Any:
        """
        Return the logarithm of the distribution function.

        Parameters
        ----------
        x : ndarray
            Where, in ``float64``.

        Returns
        -------
        ndarray
            Accurate relative to itself, in both tails.
        """
        ...

    def log_pdf(self, x: Any) -> Any:
        """
        Return the logarithm of the density.

        Parameters
        ----------
        x : ndarray
            Where, in ``float64``.

        Returns
        -------
        ndarray
            ``-inf`` outside of the support.
        """
        ...

    def ppf(self, q: Any) -> Any:
        """
        Return quantiles: the inverse of the distribution function.

        Parameters
        ----------
        q : ndarray
            Probabilities, from 0 to 1.

        Returns
        -------
        ndarray
            Where the distribution function has these values.
        """
        ...


def law_or_normal(noise: Noise | None) -> Noise:
    """Return a law, the normal one for None, or say what it lacks."""
    if noise is None:
        return Normal()
    if isinstance(noise, type):
        raise TypeError(f"expected a law of noise, such as Normal(), not the class {noise}")
    members = ("support", "break_points", "log_cdf", "log_pdf", "ppf")
    if missing := [name for name in members if not hasattr(noise, name)]:
        raise TypeError(
            f"expected a law of noise, such as Normal(), not {noise!r}, which has no "
            f"{', '.join(missing)}"
        )
    return noise


def _special() -> Any:
    from scipy import special  # not before it is needed: it takes longer than all the rest

    return special


class _Law:
    """The members of `Noise` for any array, from those of a subclass for float64."""

    def log_cdf(self, x: Any) -> Any:
        """
        Return the logarithm of the distribution function.

        Parameters
        ----------
        x : array_like
            Where.

        Returns
        -------
        ndarray
            Accurate relative to itself, in both tails.
        """
        return self._log_cdf(np.asarray(x, np.float64))

    def log_pdf(self, x: Any) -> Any:
        """
        Return the logarithm of the density.

        Parameters
        ----------
        x : array_like
            Where.

        Returns
        -------
        ndarray
            ``-inf`` outside of the support.
        """
        return self._log_pdf(np.asarray(x, np.float64))

    def ppf(self, q: Any) -> Any:
        """
        Return quantiles: the inverse of the distribution function.

        Parameters
        ----------
        q : array_like
            Probabilities, from 0 to 1.

        Returns
        -------
        ndarray
            Where the distribution function has these values.
        """
        return self._ppf(np.asarray(q, np.float64))

    def _log_cdf(self, x: Any) -> Any:
        raise NotImplementedError

    def _log_pdf(self, x: Any) -> Any:
        raise NotImplementedError

    def _ppf(self, q: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Normal(_Law):
    """
    Standard normal noise: what makes a probit model.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.

    Examples
    --------
    >>> from logitkit.distributions import Normal
    >>> round(float(Normal().log_cdf(-10.0)), 6)
    -53.231285
    """

    support = (-_INF, _INF)
    break_points = ()

    def _log_cdf(self, x: Any) -> Any:
        return _special().log_ndtr(x)

    def _log_pdf(self, x: Any) -> Any:
        return -0.5 * np.square(x) - 0.5 * (_LOG_2 + _LOG_PI)

    def _ppf(self, q: Any) -> Any:
        return _special().ndtri(q)


@dataclass(frozen=True)
class Logistic(_Law):
    """
    Standard logistic noise, of variance pi^2 / 3.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.
    """

    support = (-_INF, _INF)
    break_points = ()

    def _log_cdf(self, x: Any) -> Any:
        return -np.logaddexp(0.0, -x)

    def _log_pdf(self, x: Any) -> Any:
        return self.log_cdf(x) + self.log_cdf(-x)

    def _ppf(self, q: Any) -> Any:
        return _special().logit(q)


@dataclass(frozen=True)
class Laplace(_Law):
    """
    Laplace noise of density ``exp(-|x|) / 2``.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.
    """

    support = (-_INF, _INF)
    break_points = (0.0,)

    def _log_cdf(self, x: Any) -> Any:
        return np.where(x < 0.0, x - _LOG_2, np.log1p(-0.5 * np.exp(-np.abs(x))))

    def _log_pdf(self, x: Any) -> Any:
        return -np.abs(x) - _LOG_2

    def _ppf(self, q: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.where(q < 0.5, np.log(2.0 * q), -np.log(2.0 * (1.0 - q)))


@dataclass(frozen=True)
class Gumbel(_Law):
    """
    Gumbel noise of distribution function ``exp(-exp(-x))``: what makes a softmax.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.
    """

    support = (-_INF, _INF)
    break_points = ()

    def _log_cdf(self, x: Any) -> Any:
        with np.errstate(over="ignore"):
            return -np.exp(-x)

    def _log_pdf(self, x: Any) -> Any:
        return self.log_cdf(x) - x

    def _ppf(self, q: Any) -> Any:
        with np.errstate(divide="ignore"):
            return -np.log(-np.log(q))


@dataclass(frozen=True)
class Uniform(_Law):
    """
    Uniform noise on [-1/2, 1/2]: a class more than one below the largest never wins.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.
    """

    support = (-0.5, 0.5)
    break_points = (-0.5, 0.5)

    def _log_cdf(self, x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(np.clip(x + 0.5, 0.0, 1.0))

    def _log_pdf(self, x: Any) -> Any:
        return np.where(np.abs(x) <= 0.5, 0.0, -_INF)

    def _ppf(self, q: Any) -> Any:
        return q - 0.5


@dataclass(frozen=True)
class Exponential(_Law):
    """
    Exponential noise of mean 1: what makes permute-and-flip.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.
    """

    support = (0.0, _INF)
    break_points = (0.0,)

    def _log_cdf(self, x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return _log1mexp(x)

    def _log_pdf(self, x: Any) -> Any:
        return np.where(x < 0.0, -_INF, -x)

    def _ppf(self, q: Any) -> Any:
        with np.errstate(divide="ignore"):
            return -np.log1p(-q)


@dataclass(frozen=True)
class ReversedExponential(_Law):
    """
    Minus an exponential variable of mean 1: what makes the exponomial model.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.
    """

    support = (-_INF, 0.0)
    break_points = (0.0,)

    def _log_cdf(self, x: Any) -> Any:
        return np.minimum(x, 0.0)

    def _log_pdf(self, x: Any) -> Any:
        return np.where(x > 0.0, -_INF, x)

    def _ppf(self, q: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(q)


@dataclass(frozen=True)
class Cauchy(_Law):
    """
    Standard Cauchy noise: its tails are so heavy that every class keeps a chance.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.
    """

    support = (-_INF, _INF)
    break_points = ()

    def _log_cdf(self, x: Any) -> Any:
        tail = np.arctan2(1.0, np.abs(x)) / math.pi  # no cancellation, unlike 1/2 - atan(|x|)/pi
        return np.where(x < 0.0, np.log(tail), np.log1p(-tail))

    def _log_pdf(self, x: Any) -> Any:
        x = np.abs(x)
        return -_LOG_PI - 2.0 * np.log(np.hypot(1.0, x))

    def _ppf(self, q: Any) -> Any:
        return np.tan(math.pi * (q - 0.5))


@dataclass(frozen=True)
class StudentT(_Law):
    """
    Student's noise with `df` degrees of freedom.

    Parameters
    ----------
    df : float
        Degrees of freedom, positive: 1 for Cauchy noise; towards infinity it becomes normal.

    Raises
    ------
    ValueError
        If `df` is not positive and finite.

    See Also
    --------
    ArgmaxNoise : The distribution of the largest sum, for any noise.

    Notes
    -----
    Integrals of `ArgmaxNoise` end at 1e150, and noise of few degrees of freedom reaches farther:
    probabilities of n classes err by up to ``n * 1e-150 ** df``. That is 5e-14 for 50 classes and
    0.1 degrees of freedom; with 0.01 no digit is right.
    """

    df: float
    support = (-_INF, _INF)
    break_points = ()

    def __post_init__(self) -> None:
        """Check the degrees of freedom."""
        if not 0.0 < real_number("df", self.df) < _INF:
            raise ValueError(f"expected 0 < df < inf, not {self.df}")

    def _log_cdf(self, x: Any) -> Any:
        tail = np.minimum(_special().stdtr(self.df, -np.abs(x)), 0.5)
        far = tail < _LEAST_TAIL
        with np.errstate(divide="ignore"):
            log_tail = np.where(far, self._log_far_tail(np.where(far, x, 1e9)), np.log(tail))
            return np.where(x < 0.0, log_tail, np.log1p(-tail))

    def _log_far_tail(self, x: Any) -> Any:
        """
        Return log F(-|x|) where F itself may be no number of double precision.

        It is log(I_z(a, b) / 2), the regularised incomplete beta function, for a = df / 2,
        b = 1/2 and z = df / (df + x^2), by its hypergeometric series.
        """
        special, a = _special(), 0.5 * self.df
        ratio = np.abs(x) / math.sqrt(self.df)
        log_z = -2.0 * np.log(np.hypot(1.0, ratio))
        z = np.exp(log_z)
        series = special.hyp2f1(a + 0.5, 1.0, a + 1.0, z)
        constant = -_LOG_2 - math.log(a) - _log_half_beta(a)
        return constant + a * log_z + 0.5 * np.log1p(-z) + np.log(series)

    def _log_pdf(self, x: Any) -> Any:
        half = 0.5 * self.df
        constant = -0.5 * math.log(self.df) - _log_half_beta(half)
        ratio = np.abs(x) / math.sqrt(self.df)
        return constant - (self.df + 1.0) * np.log(np.hypot(1.0, ratio))

    def _ppf(self, q: Any) -> Any:
        return _special().stdtrit(self.df, q)


def _log_half_beta(a: float) -> float:
    """
    Return log B(a, 1/2) = log(Gamma(a) Gamma(1/2) / Gamma(a + 1/2)).

    Where the logarithms of both are large their difference is by the asymptotic series, DLMF
    5.11.13, lest it lose digits.
    """
    if a < 30.0:
        return float(_special().betaln(a, 0.5))
    b = 1.0 / (a * a)
    series = ((17.0 / 14336.0 * b - 1.0 / 640.0) * b + 1.0 / 192.0) * b - 0.125
    return 0.5 * (_LOG_PI - math.log(a)) - series / a


def _log1mexp(x: Any) -> Any:
    """log(1 - e^-x) for x > 0, and -inf elsewhere."""
    x = np.maximum(x, 0.0)
    near = x < _LOG_2
    return np.where(near, np.log(-np.expm1(-x)), np.log1p(-np.exp(-x)))
