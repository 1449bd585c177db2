"""The reverse step of any process: estimate the data, and carry the noise over to go on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from array_api_compat import is_numpy_array

from ._arrays import Array, Time, namespace, spread
from ._draws import Draws
from ._gaussian import fresh_share
from ._parameters import check_function, check_number
from ._schedules import plain
from ._solver import Predict, Rng, Solver, State
from ._update import update


class Kernel(Protocol):
    """
    What happens to the noise of a sample from one time to the next.

    Any kernel that leaves the law of the noise as it is leaves the law of x_s as it is: with
    data drawn from p(x_0 | x_t), sampling is then exact for any number of steps.

    See Also
    --------
    Fresh, Keep, Rotate, Refresh, Copula : The kernels there are.

    Examples
    --------
    >>> from logitkit.diffusion import Keep, Kernel
    >>> kernel: Kernel = Keep()
    """

    def __init__(self) -> None: ...

    def __call__(self, eps: Any, process: Any, t: Time, s: Time, draws: Draws) -> Any:
        """Return the noise at `s` from that at `t`."""


@dataclass(frozen=True)
class Fresh:
    """
    Draw all of the noise anew: the baseline, which needs no inverse of the process.

    See Also
    --------
    UDM : The solver that it belongs to.

    Examples
    --------
    >>> from logitkit.diffusion import UDM, Fresh
    >>> UDM(Fresh()).needs
    ('forward', 'noise', 'restore')
    """


@dataclass(frozen=True)
class Keep:
    """
    Keep the noise: the deterministic form.

    See Also
    --------
    UDM : The solver that it belongs to.

    Examples
    --------
    >>> from logitkit.diffusion import Keep
    >>> Keep()(2.0, None, 1.0, 0.5, None)
    2.0
    """

    def __call__(self, eps: Any, process: Any, t: Time, s: Time, draws: Draws) -> Any:
        """Return the noise."""
        return eps


def ddpm_amount(process: Any, t: Time, s: Time) -> Any:
    """
    Share of new noise that makes a step one of DDPM: the root of 1 - exp(-2 h).

    Parameters
    ----------
    process : Gaussian
        The process.
    t, s : float or ndarray, shape (n,)
        The times from and to which the step goes.

    Returns
    -------
    float or ndarray, shape (n,)
        From 0 to 1.

    Examples
    --------
    >>> from logitkit.diffusion import Gaussian, StraightPath, ddpm_amount
    >>> ddpm_amount(Gaussian(StraightPath()), 1.0, 0.5)
    1.0
    """
    return plain(np.sqrt(fresh_share(process.hop(t, s))))


@dataclass(frozen=True)
class Rotate:
    r"""
    Mix normal noise with new noise.

    .. math:: \varepsilon' = \sqrt{1 - a^2}\, \varepsilon + a z

    Parameters
    ----------
    amount : float or callable, (process, t, s) -> float
        The share `a` of new noise, from 0 to 1; what is above is taken for 1.

    See Also
    --------
    ddpm_amount : The share of DDPM.
    UDM : The solver that it belongs to.

    References
    ----------
    .. [1] J. Su, on the unified diffusion model (in Chinese), kexue.fm/archives/9262, 2022.

    Examples
    --------
    >>> from logitkit.diffusion import Rotate, ddpm_amount
    >>> Rotate(0.5) == Rotate(amount=0.5)
    True
    """

    amount: float | Callable[[Any, Time, Time], Any]

    def __post_init__(self) -> None:
        if not callable(self.amount):
            check_number("amount", self.amount, 0.0)

    def __call__(self, eps: Any, process: Any, t: Time, s: Time, draws: Draws) -> Any:
        """Return the mix."""
        a = self.amount(process, t, s) if callable(self.amount) else self.amount
        a = plain(np.minimum(a, 1.0))
        return update(plain(np.sqrt(1.0 - np.square(a))), eps, a, process.noise(draws, eps))


@dataclass(frozen=True)
class Refresh:
    """
    Draw each coordinate of the noise anew with some probability: right for any law.

    Parameters
    ----------
    probability : float
        The probability, from 0 to 1.

    See Also
    --------
    UDM : The solver that it belongs to.

    Notes
    -----
    The coordinates of the noise must be independent of each other.

    Examples
    --------
    >>> from logitkit.diffusion import Refresh
    >>> Refresh(0.25)
    Refresh(probability=0.25)
    """

    probability: float

    def __post_init__(self) -> None:
        check_number("probability", self.probability, 0.0, 1.0)

    def __call__(self, eps: Any, process: Any, t: Time, s: Time, draws: Draws) -> Any:
        """Return the noise with some of its coordinates new."""
        new = draws.uniform(eps.shape[1:], eps) < self.probability
        return namespace(eps).where(new, process.noise(draws, eps), eps)


@dataclass(frozen=True)
class Copula:
    r"""
    Mix noise of any continuous law with new noise, through normal scores.

    .. math:: \varepsilon' = F^{-1}\bigl(\Phi\bigl(\sqrt{1 - a^2}\, \Phi^{-1}(F(\varepsilon))
        + a z\bigr)\bigr)

    Parameters
    ----------
    amount : float
        The share `a` of new noise, from 0 to 1.
    cdf, ppf : callable
        The distribution function `F` of a coordinate of the noise, and its inverse: such as
        the methods of a law of ``scipy.stats``.

    See Also
    --------
    Rotate : For normal noise.

    Notes
    -----
    For NumPy arrays.

    Examples
    --------
    >>> from scipy import stats
    >>> from logitkit.diffusion import Copula
    >>> Copula(0.5, stats.laplace.cdf, stats.laplace.ppf).amount
    0.5
    """

    amount: float
    cdf: Callable[[Any], Any]
    ppf: Callable[[Any], Any]

    def __post_init__(self) -> None:
        check_number("amount", self.amount, 0.0, 1.0)
        check_function("cdf", self.cdf)
        check_function("ppf", self.ppf)

    def __call__(self, eps: Any, process: Any, t: Time, s: Time, draws: Draws) -> Any:
        """Return the mix."""
        if not is_numpy_array(eps):
            raise TypeError(f"expected noise as a NumPy array, not {type(eps).__qualname__}")
        from scipy.special import ndtr, ndtri

        score = ndtri(self.cdf(eps))
        mixed = np.sqrt(1.0 - self.amount**2) * score + self.amount * draws.normal(eps.shape[1:])
        return self.ppf(ndtr(mixed)).astype(eps.dtype, copy=False)


@dataclass(frozen=True)
class UDM(Solver):
    r"""
    Reverse step of the unified diffusion model, for any process.

    .. math:: x_s = F_s(\hat x_0, \varepsilon'), \qquad \varepsilon' \sim K(\cdot \mid
        F_t^{-1}(\hat x_0, x_t))

    Parameters
    ----------
    kernel : Kernel, default Fresh()
        What happens to the noise: `Fresh` is the baseline, `Keep` the deterministic form,
        `Rotate` the Gaussian form with a free share of new noise, and `Refresh`, `Copula` or
        any other kernel that leaves the law of the noise as it is the general form.
    x0_std : callable, (t) -> float or ndarray, optional
        Standard deviation of the data given x_t: they are then drawn from N(prediction,
        x0_std(t)^2) instead of taken for their mean.

    See Also
    --------
    Cold : For processes without noise.
    DDIM : The same for Gaussian noise, in one pass.

    Notes
    -----
    With data *drawn* from p(x_0 | x_t), samples are exact for any number of steps. With their
    *mean* they are exact in the limit of many steps only: fewer make them too little spread.

    References
    ----------
    .. [1] J. Su, on the unified diffusion model (in Chinese), kexue.fm/archives/9262, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import UDM, Gaussian, Keep, StraightPath, sample
    >>> sample(Gaussian(StraightPath()), lambda x, t: 0 * x + 2.0, solver=UDM(Keep()),
    ...        times=[1.0, 0.5, 0.0], initial=np.array([[5.0]]), prediction="x0")
    array([[2.]])
    """

    kernel: Any = field(default_factory=Fresh)
    x0_std: Callable[[Time], Any] | None = None

    def __post_init__(self) -> None:
        known = callable(self.kernel) or isinstance(self.kernel, Fresh)
        if isinstance(self.kernel, type) or not known:
            raise TypeError(f"expected a kernel such as Keep(), not {self.kernel!r}")
        if self.x0_std is not None:
            check_function("x0_std", self.x0_std)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What a process must have."""
        basic = ("forward", "noise", "restore")
        return basic if isinstance(self.kernel, Fresh) else (*basic, "encode")

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return isinstance(self.kernel, Keep) and self.x0_std is None

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        draws = state.draws(rng)
        prediction = predict(state.x, t)
        x0 = process.restore(prediction, draws)
        if self.x0_std is not None:
            x0 = x0 + spread(self.x0_std(t), x0) * draws.normal(x0.shape[1:], x0)
        if isinstance(self.kernel, Fresh):
            eps = process.noise(draws, x0)
        else:
            eps = process.encode(prediction.x, x0, t, draws)
            eps = self.kernel(eps, process, t, s, draws)
        return process.forward(x0, eps, s), ()


@dataclass(frozen=True)
class Cold(Solver):
    r"""
    Improved sampling of cold diffusion: take off only what the process has added since `s`.

    .. math:: x_s = x_t + F_s(\hat x_0) - F_t(\hat x_0)

    See Also
    --------
    UDM : With `Fresh`, naive sampling, x_s = F_s(x_0).

    Notes
    -----
    Exact, whatever is predicted, where the process adds t times something that does not
    depend on the data. Where the process has noise, it is the same in both terms.

    References
    ----------
    .. [1] A. Bansal et al., "Cold diffusion", NeurIPS 2023, arXiv:2208.09392. Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Cold, from_function, sample
    >>> drift = from_function(lambda x0, eps, t: x0 + t * np.array([3.0, -1.0]))
    >>> sample(drift, lambda x, t: 0 * x, solver=Cold(), times=[1.0, 0.5, 0.0],
    ...        initial=np.array([[5.0, 5.0]]), prediction="x0")
    array([[2., 6.]])
    """

    needs = ("forward", "noise", "restore")

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        draws = state.draws(rng)
        prediction = predict(state.x, t)
        x0 = process.restore(prediction, draws)
        eps = process.noise(draws, x0)
        change = process.forward(x0, eps, s) - process.forward(x0, eps, t)
        return prediction.x + change, ()
