"""Solvers of one prediction a step that remember nothing: DDIM and its relatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._arrays import Array, Time
from ._elementary import divided, sqrt
from ._gaussian import Gaussian, Hop, fresh_share
from ._parameters import check_function, check_number
from ._remembered import remembered
from ._schedules import plain
from ._solver import Predict, Rng, Solver, State, noisy
from ._update import update


def _over(a: Any, b: Any) -> Any:
    """Return a / b, and 0 where both are: nothing kept of no noise."""
    return plain(np.where(np.equal(a, 0.0), 0.0, divided(a, b)))


@dataclass(frozen=True)
class DDIM(Solver):
    r"""
    Denoising diffusion implicit model: keep some of the noise, draw the rest anew.

    .. math:: x_s = \alpha_s \hat x_0 + \sigma_s \bigl(\sqrt{1 - \tilde\sigma^2}\,
        \hat\varepsilon + \tilde\sigma z\bigr), \qquad
        \tilde\sigma^2 = \eta^2 (1 - e^{-2h})

    Parameters
    ----------
    eta : float, default 0.0
        Share of the noise of DDPM: 0 is deterministic, and 1 is DDPM with its small variance.
    x0_std : callable, (t) -> float or ndarray, optional
        Standard deviation of the data given a sample at `t`, in units of the data: x_0 is then
        drawn from N(prediction, x0_std(t)^2), as in Analytic-DPM. See `AnalyticStd`.

    See Also
    --------
    DDPM : The choice of the variance of the article.
    DPMpp : The same of higher order.

    Notes
    -----
    Order 1, for any prediction. With ``eta=0`` it is Euler's method for the probability flow,
    dy/dr = eps with y = x / alpha and r = sigma / alpha, and so the sampler "Euler" of other
    libraries; with ``eta=1`` it is their "Euler ancestral". For the straight path, it is
    Euler's method of flow matching.

    References
    ----------
    .. [1] J. Song, C. Meng and S. Ermon, "Denoising diffusion implicit models", ICLR 2021,
       arXiv:2010.02502.
    .. [2] F. Bao et al., "Analytic-DPM", ICLR 2022, arXiv:2201.06503.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import DDIM, Gaussian, StraightPath, sample
    >>> process = Gaussian(StraightPath())
    >>> sample(process, lambda x, t: 0 * x + 2.0, solver=DDIM(), times=[1.0, 0.5, 0.0],
    ...        shape=(3, 1), prediction="x0").ravel()
    array([2., 2., 2.])
    """

    eta: float = 0.0
    x0_std: Callable[[Time], Any] | None = None
    needs = ("schedule",)
    honours_shift = True

    def __post_init__(self) -> None:
        check_number("eta", self.eta, 0.0, 1.0)
        if self.x0_std is not None:
            check_function("x0_std", self.x0_std)

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return self.eta == 0.0 and self.x0_std is None

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        prediction = predict(state.x, t)
        a, b, fresh = _plan(process, prediction.kind, t, s, self.eta)
        if self.x0_std is not None:
            fresh = _with_spread(process.hop(t, s), self.eta, fresh, self.x0_std(t))
        if fresh is None:
            return update(a, prediction.x, b, prediction.value), ()
        return noisy(prediction, a, b, fresh, state.draws(rng)), ()


@remembered
def _plan(process: Gaussian, kind: str, t: Time, s: Time, eta: float) -> tuple[Any, Any, Any]:
    """Return the factors of the samples, of the prediction and of the noise."""
    hop = process.hop(t, s)
    kept, fresh = _shares(hop, eta)
    return (*process.weights(kind, t, (hop.alpha_s, kept)), fresh)


def _shares(hop: Hop, eta: float) -> tuple[Any, Any]:
    """Return the standard deviations of the noise that is kept, and of that drawn anew."""
    if not eta:
        return hop.sigma_s, None
    share = eta**2 * fresh_share(hop)
    return hop.sigma_s * sqrt(1.0 - share), hop.sigma_s * sqrt(share)


def _with_spread(hop: Hop, eta: float, fresh: Any, x0_std: Any) -> Any:
    """Add the variance of x_0, as far as x_s depends on it."""
    of_x0 = hop.alpha_s - _over(_shares(hop, eta)[0], hop.sigma_t) * hop.alpha_t
    into_data = np.equal(hop.sigma_s, 0.0)  # the last step returns the mean
    fresh = 0.0 if fresh is None else fresh
    return plain(np.where(into_data, fresh, np.hypot(fresh, of_x0 * x0_std)))


@dataclass(frozen=True)
class DDPM(Solver):
    r"""
    Ancestral sampling: denoising diffusion probabilistic model.

    .. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - \sigma^2}\, \hat\varepsilon
        + \sigma' z, \qquad \sigma = \sigma_s \sqrt{1 - e^{-2h}}

    Parameters
    ----------
    variance : {"small", "large"}, default "small"
        Whether sigma' is sigma, the standard deviation of the bridge, or that of the noise
        which the forward process adds from `s` to `t`. The mean is that of the bridge in both.

    See Also
    --------
    DDIM : With ``eta=1`` it is the small variance.

    Notes
    -----
    No noise is added in a last step to clean data.

    References
    ----------
    .. [1] J. Ho, A. Jain and P. Abbeel, "Denoising diffusion probabilistic models",
       NeurIPS 2020, arXiv:2006.11239.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import DDPM, Gaussian, linear, sample
    >>> x = sample(Gaussian(linear()), lambda x, t: 0 * x, solver=DDPM(),
    ...            times=np.arange(1000.0, -1.0, -100.0), shape=(2, 3), prediction="x0")
    >>> x.shape
    (2, 3)
    """

    variance: Literal["small", "large"] = "small"
    needs = ("schedule",)
    honours_shift = True

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large"):
            raise ValueError(f"expected variance 'small' or 'large', not {self.variance!r}")

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return False

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        draws = state.draws(rng)
        prediction = predict(state.x, t)
        a, b, std = _ancestral_plan(process, prediction.kind, t, s, self.variance)
        return noisy(prediction, a, b, std, draws), ()


@remembered
def _ancestral_plan(
    process: Gaussian, kind: str, t: Time, s: Time, variance: str
) -> tuple[Any, Any, Any]:
    """Return the factors of the samples, of the prediction and of the noise."""
    hop = process.hop(t, s)
    kept, std = _shares(hop, 1.0)
    if variance == "large":
        # alpha_s / alpha_t would bring this to the units of x_s; the article leaves it out
        scale = np.where(np.equal(hop.sigma_s, 0.0), 0.0, hop.sigma_t)
        std = plain(scale * sqrt(fresh_share(hop)))
    return (*process.weights(kind, t, (hop.alpha_s, kept)), std)


def euler_ancestral(eta: float = 1.0) -> DDIM:
    """
    Make the sampler that other libraries call "Euler ancestral".

    Parameters
    ----------
    eta : float, default 1.0
        Share of the noise: 0 is their "Euler".

    Returns
    -------
    DDIM
        The same step under its older name.

    Examples
    --------
    >>> from logitkit.diffusion import euler_ancestral
    >>> euler_ancestral()
    DDIM(eta=1.0, x0_std=None)
    """
    return DDIM(eta=eta)
