"""Solvers of the differential equations as they stand: random with any noise, or adaptive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, Time, namespace, on_host, over_samples, spread
from ._gaussian import Gaussian
from ._lines import to_end
from ._parameters import check_count, check_number
from ._predictions import Prediction
from ._schedules import plain
from ._solver import Predict, Rng, Solver, State, noisy
from ._update import update


@dataclass(frozen=True)
class ReverseSDE(Solver):
    r"""
    Euler-Maruyama's method for the reverse equation, with any noise.

    .. math:: dx = \bigl(f - \tfrac12 (g^2 + \sigma^2) \nabla \log p_t\bigr) dt
        + \sigma \, d\bar w

    Parameters
    ----------
    noise : float or callable, (t) -> float or ndarray, default 1.0
        The diffusion sigma: a number counts in units of that of the forward equation, g, and
        a function returns sigma itself, per root of the unit of time.

    See Also
    --------
    DPMpp : Integrates the linear part exactly, and is better wherever it is legal.

    Notes
    -----
    The law of the samples converges with order 1, for any noise to the same.

    References
    ----------
    .. [1] Y. Song et al., "Score-based generative modeling through stochastic differential
       equations", ICLR 2021, arXiv:2011.13456.
    .. [2] J. Su, on the general framework of stochastic equations (in Chinese),
       kexue.fm/archives/9209, 2022.

    Examples
    --------
    >>> from logitkit.diffusion import ReverseSDE
    >>> ReverseSDE(noise=0.5).needs
    ('drift_diffusion', 'convert', 'noise')
    """

    noise: float | Callable[[Time], Any] = 1.0
    needs = ("drift_diffusion", "convert", "noise")
    honours_shift = True

    def __post_init__(self) -> None:
        if not callable(self.noise):
            check_number("noise", self.noise, 0.0)

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return self.noise == 0.0

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        prediction = predict(state.x, t)
        x = prediction.x
        drift, g = process.drift_diffusion(x, t)
        sigma = self.noise(t) if callable(self.noise) else plain(self.noise * np.asarray(g))
        score = process.convert(prediction, "score")
        length = plain(np.subtract(t, s))
        half = plain(0.5 * (np.square(g) + np.square(sigma)))
        slope = drift - spread(half, score) * score
        std = plain(sigma * np.sqrt(length))
        step = Prediction(slope, "flow", x, t, shift=prediction.shift)
        b = plain(-np.asarray(length))
        if self.deterministic:
            return update(1.0, x, b, slope), ()
        return noisy(step, 1.0, b, std, state.draws(rng)), ()


# The pair of orders 5 and 4 of Dormand and Prince (1980).
_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


@dataclass(frozen=True)
class ProbabilityFlow(Solver):
    r"""
    Adaptive method of order 5 for the probability flow: as exact as asked for.

    .. math:: \frac{dy}{d\lambda} = -\frac{\sigma}{\alpha} \hat\varepsilon, \qquad
        y = x / \alpha, \quad \lambda = \log(\alpha / \sigma)

    Parameters
    ----------
    rtol, atol : float, default 1e-6 and 1e-8
        The error of a step of this method that is allowed, relative to a sample's values and
        absolute in units of the data: a root of the mean of squares over a sample.
    max_evaluations : int, default 100000
        Most predictions of a step from one time of the grid to the next.

    Raises
    ------
    RuntimeError
        If these predictions are used up before the end.

    See Also
    --------
    UniPC : With a fixed number of predictions.

    Notes
    -----
    Each sample takes steps of its own, so that its result does not depend on its batch: the
    network must take times that differ by sample. The grid needs two times only, both inside of
    the span: a step into clean data, or out of pure noise, is one of `DDIM`, as lambda is infinite
    there, and adds the error of one.

    References
    ----------
    .. [1] J. Dormand and P. Prince, "A family of embedded Runge-Kutta formulae", J. Comp.
       Appl. Math. 6, 1980.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, ProbabilityFlow, VarianceExploding, sample
    >>> def predict(x, t):  # data from N(0, 1)
    ...     return x / (1 + t[:, None] ** 2)
    >>> x = sample(Gaussian(VarianceExploding(10.0)), predict, times=[10.0, 0.1],
    ...            solver=ProbabilityFlow(), initial=np.array([[10.0]]), prediction="x0")
    >>> bool(abs(x.item() - 10.0 * (1.01 / 101.0) ** 0.5) < 1e-5)
    True
    """

    rtol: float = 1e-6
    atol: float = 1e-8
    max_evaluations: int = 100_000
    needs = ("schedule",)

    def __post_init__(self) -> None:
        if not (self.rtol > 0.0 and self.atol >= 0.0):
            raise ValueError(f"expected tolerances above 0, not {self.rtol} and {self.atol}")
        check_count("max_evaluations", self.max_evaluations)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        hop, x = process.hop(t, s), state.x
        if not np.all(np.isfinite(hop.h)):
            return to_end(process, predict(x, t), hop), ()
        begin = np.broadcast_to(process.schedule.log_snr(t), x.shape[0]).astype(np.float64)
        end = np.broadcast_to(process.schedule.log_snr(s), x.shape[0]).astype(np.float64)
        y = self._integrate(_Slope(process, predict), x / spread(hop.alpha_t, x), begin, end)
        return y * spread(hop.alpha_s, y), ()

    def _integrate(
        self, slope: _Slope, y: Array, begin: NDArray[np.float64], end: NDArray[np.float64]
    ) -> Array:
        """Carry `y` from `begin` to `end`, each sample by steps of its own."""
        xp = namespace(y)
        here, first = begin.copy(), slope(y, begin)
        size = np.sign(end - begin) * np.minimum(np.abs(end - begin), 0.05)
        for _ in range(self.max_evaluations // len(_A)):
            left = end - here
            size = np.where(np.abs(size) >= np.abs(left), left, size)
            stages, new = [first], y
            for row, place in zip(_A, _C, strict=True):
                new = y + sum(
                    spread(size * a, y) * k for a, k in zip(row, stages, strict=True) if a
                )
                stages.append(slope(new, here + place * size))
            change = sum(spread(size * e, y) * k for e, k in zip(_ERROR, stages, strict=True) if e)
            scale = self.atol + self.rtol * xp.maximum(xp.abs(y), xp.abs(new))
            ratio = _root_mean_square(change / scale)
            good = ratio <= 1.0
            taken = spread(good.astype(np.float64), y) > 0.5
            y, first = xp.where(taken, new, y), xp.where(taken, stages[-1], first)
            here = np.where(good, np.where(size == left, end, here + size), here)
            if np.all(here == end):
                return y
            growth = 0.9 * np.maximum(ratio, 1e-10) ** -0.2
            size = size * np.clip(growth, 0.2, np.where(good, 5.0, 1.0))
        raise RuntimeError(
            f"{self.max_evaluations} predictions did not reach the end: allow more, or larger "
            f"errors than rtol={self.rtol} and atol={self.atol}"
        )


@dataclass(frozen=True)
class _Slope:
    """dy / d lambda = -(sigma / alpha) eps, at a lambda of each sample."""

    process: Gaussian
    predict: Predict

    def __call__(self, y: Array, log_snr: NDArray[np.float64]) -> Array:
        t = np.asarray(self.process.schedule.time(log_snr))
        prediction = self.predict(y * spread(self.process.schedule.alpha(t), y), t)
        eps = self.process.convert(prediction, "eps")
        return spread(-np.exp(-log_snr), eps) * eps


def _root_mean_square(x: Array) -> NDArray[np.float64]:
    """Return the root of the mean of squares of each sample, on the host."""
    xp = namespace(x)
    square = xp.mean(x * x, axis=over_samples(x)) if x.ndim > 1 else x * x
    return np.sqrt(np.asarray(on_host(square), np.float64))
