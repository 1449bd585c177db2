"""Single-step solvers: more than one prediction a step, and nothing to remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._arrays import Array, Time
from ._elementary import all_finite, exp, expm1, sqrt
from ._gaussian import fresh_share
from ._lines import to_end
from ._parameters import check_number
from ._remembered import remembered
from ._schedules import Schedule
from ._solver import Predict, Rng, Solver, State
from ._update import update, update_with_noise


@remembered
def _time_of(schedule: Schedule, log_snr: Any) -> Any:
    return schedule.time(log_snr)


@dataclass(frozen=True)
class Heun(Solver):
    r"""
    Heun's method for the probability flow: the mean of the slopes at both ends of a step.

    .. math:: \frac{dy}{dr} = \hat\varepsilon, \qquad y = x / \alpha, \quad r = \sigma / \alpha

    See Also
    --------
    DDIM : Euler's method for the same equation.
    FlowHeun : Heun's method in the time of the process.

    Notes
    -----
    Order 2, with two predictions a step. Where a step ends in clean data, which has no slope
    for a network to predict, it is one of `DDIM`, and so is one that begins in pure noise.

    References
    ----------
    .. [1] T. Karras et al., "Elucidating the design space of diffusion-based generative
       models", NeurIPS 2022, arXiv:2206.00364. Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, Heun, VarianceExploding, karras, sample
    >>> process = Gaussian(VarianceExploding(10.0))
    >>> def predict(x, t):  # data from N(0, 1)
    ...     return x / (1 + t * t)
    >>> x = sample(process, predict, solver=Heun(), times=karras(process, 40, end=0.01),
    ...            initial=np.array([[10.0]]), prediction="x0")
    >>> bool(abs(x.item() - 10.0 / 101.0**0.5) < 5e-3)
    True
    """

    needs = ("schedule",)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        first = predict(state.x, t)
        hop = process.hop(t, s)
        end = to_end(process, first, hop)
        if not all_finite(hop.h):
            return end, ()
        second = predict(end, s)
        length = hop.sigma_s / hop.alpha_s - hop.sigma_t / hop.alpha_t
        half = 0.5 * hop.alpha_s * length
        slopes = process.convert(first, "eps") + process.convert(second, "eps")
        return update(hop.alpha_s / hop.alpha_t, first.x, half, slopes), ()


@dataclass(frozen=True)
class DPMSolver2(Solver):
    r"""
    DPM-Solver-2: the noise predicted in the middle of a step, on the line of log(alpha/sigma).

    .. math:: x_s = \tfrac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1) \hat\varepsilon_m

    See Also
    --------
    DPMpp2S : The same with predictions of the data.

    Notes
    -----
    Order 2, with two predictions a step. A step into clean data or out of pure noise is one of
    `DDIM`.

    References
    ----------
    .. [1] C. Lu et al., "DPM-Solver", NeurIPS 2022, arXiv:2206.00927. Algorithm 1.

    Examples
    --------
    >>> from logitkit.diffusion import DPMSolver2
    >>> DPMSolver2().needs
    ('schedule',)
    """

    needs = ("schedule",)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        first = predict(state.x, t)
        hop = process.hop(t, s)
        if not all_finite(hop.h):
            return to_end(process, first, hop), ()
        m = _time_of(process.schedule, process.schedule.log_snr(t) + 0.5 * hop.h)
        middle = predict(to_end(process, first, process.hop(t, m)), m)
        eps = process.convert(middle, "eps")
        factor = -hop.sigma_s * expm1(hop.h)
        return update(hop.alpha_s / hop.alpha_t, first.x, factor, eps), ()


@dataclass(frozen=True)
class DPMpp2S(Solver):
    r"""
    DPM-Solver++(2S): the data predicted in the middle of a step, on the line of log(alpha/sigma).

    .. math:: x_s = \tfrac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h}) \hat x_{0, m}

    Parameters
    ----------
    eta : float, default 0.0
        Strength of noise. With it a step goes on to where sigma is less by e^{-eta h}, and
        noise brings it back, as in the "ancestral" samplers of other libraries.

    See Also
    --------
    DPMpp : The multistep form, with one prediction a step.
    DPMSolver2 : The same with predictions of the noise.

    Notes
    -----
    Order 2 for ``eta=0``, with two predictions a step. A step into clean data or out of pure
    noise is one of `DDIM`.

    References
    ----------
    .. [1] C. Lu et al., "DPM-Solver++", 2022, arXiv:2211.01095. Algorithm 1.

    Examples
    --------
    >>> from logitkit.diffusion import DPMpp2S
    >>> DPMpp2S(eta=1.0)
    DPMpp2S(eta=1.0)
    """

    eta: float = 0.0
    needs = ("schedule",)

    def __post_init__(self) -> None:
        check_number("eta", self.eta, 0.0)

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return self.eta == 0.0

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        first = predict(state.x, t)
        hop = process.hop(t, s)
        std: Any = 0.0
        if self.eta:
            std = hop.sigma_s * sqrt(fresh_share(hop, self.eta))
            less = hop.sigma_s * exp(-self.eta * hop.h)
            hop = hop._replace(sigma_s=less, h=(1.0 + self.eta) * hop.h)
        if not all_finite(hop.h):
            return to_end(process, first, hop), ()
        m = _time_of(process.schedule, process.schedule.log_snr(t) + 0.5 * hop.h)
        middle = predict(to_end(process, first, process.hop(t, m)), m)
        data = process.convert(middle, "x0")
        factor = -hop.alpha_s * expm1(-hop.h)
        ratio = hop.sigma_s / hop.sigma_t
        if not self.eta:
            return update(ratio, first.x, factor, data), ()
        return update_with_noise(ratio, first.x, factor, data, std, state.draws(rng)), ()


@dataclass(frozen=True)
class FlowEuler(Solver):
    r"""
    Euler's method for the velocity, in the time of the process: x_s = x_t + (s - t) u.

    See Also
    --------
    DDIM : The same for the straight path; better for others.

    Notes
    -----
    Order 1. For any process whose predictions convert to ``"flow"``, or whose network
    predicts it.

    References
    ----------
    .. [1] Y. Lipman et al., "Flow matching for generative modeling", ICLR 2023,
       arXiv:2210.02747.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import FlowEuler, Gaussian, StraightPath, sample
    >>> sample(Gaussian(StraightPath()), lambda x, t: np.ones_like(x), solver=FlowEuler(),
    ...        times=[1.0, 0.5, 0.0], initial=np.array([[3.0]]), prediction="flow")
    array([[2.]])
    """

    needs = ("convert",)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        prediction = predict(state.x, t)
        flow = process.convert(prediction, "flow")
        return update(1.0, prediction.x, s - t, flow), ()


@dataclass(frozen=True)
class FlowHeun(Solver):
    r"""
    Heun's method for the velocity, in the time of the process.

    See Also
    --------
    FlowEuler : With one prediction a step.
    Heun : In sigma / alpha, for Gaussian noise.

    Notes
    -----
    Order 2, with two predictions a step. Where the velocity at the end of a step cannot be
    had from what is predicted, as at clean data from a prediction of it, end the times before.

    References
    ----------
    .. [1] Y. Lipman et al., "Flow matching for generative modeling", ICLR 2023,
       arXiv:2210.02747.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import FlowHeun, Gaussian, StraightPath, sample
    >>> sample(Gaussian(StraightPath()), lambda x, t: t * np.ones_like(x), solver=FlowHeun(),
    ...        times=[1.0, 0.5, 0.0], initial=np.array([[3.0]]), prediction="flow")
    array([[2.5]])
    """

    needs = ("convert",)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        first = predict(state.x, t)
        length = s - t
        slope = process.convert(first, "flow")
        second = predict(update(1.0, first.x, length, slope), s)
        slopes = slope + process.convert(second, "flow")
        return update(1.0, first.x, 0.5 * length, slopes), ()
