"""Multistep solvers: one prediction a step, and those of the steps before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from ._arrays import Array, Time
from ._elementary import sqrt
from ._gaussian import Gaussian, fresh_share
from ._lines import NOISE_LINE, RATIO_LINE, Line, Past, carried, data_line, plan, to_end
from ._parameters import check_number
from ._predictions import Kind, Prediction
from ._remembered import remembered
from ._solver import Predict, Rng, Solver, State
from ._update import combine_with_noise

Taken = tuple[Array, tuple[Any, ...]]


def _adams(
    line: Line, order: int, prediction: Prediction, s: Time, state: State, process: Any,
    *, correct: Literal["all", "first", "none"],
) -> Taken:  # fmt: skip
    """
    Take a step of an Adams method of some order along a line.

    To correct is to repeat the step before with the prediction at its end: all steps, or the very
    first, whose predictor is of order 1 and would hold a method of order 3 at 2.
    """
    t, history = prediction.t, state.history
    value, x = process.convert(prediction, line.of), prediction.x
    first = correct == "first" and order == 3 and len(history) == 1
    if history and (correct == "all" or first):
        moved = x if prediction.x is not state.x else None  # by a guidance such as CFG++
        x = _corrected(line, x, value, t, history, process)
        x = x if moved is None else x + (moved - state.x)
        prediction = Prediction(value, cast(Kind, line.of), x, t)
    earlier = history[: order - 1]
    step = plan(line, process, t, s, tuple([past.t for past in earlier]))
    if step is None:
        end = _to_data(line, x, prediction, value, s, earlier, process)
    else:
        end = carried(step, x, (value, *[past.value for past in earlier]))
    kept = order if correct == "all" else order - 1
    return end, (Past(t, value, x), *history)[:kept]


def _to_data(
    line: Line, x: Array, prediction: Prediction, value: Array, s: Time,
    earlier: tuple[Past, ...], process: Any,
) -> Array:  # fmt: skip
    """
    Take a step without end on a line: on that of sigma / alpha, where clean data is at 0.

    There it is of the order of the method. One from pure noise is of DDIM.
    """
    t = prediction.t
    step = plan(RATIO_LINE, process, t, s, tuple([p.t for p in earlier])) if earlier else None
    if step is None:
        return to_end(process, prediction, process.hop(t, s))
    pasts = (Past(t, value, x), *earlier)[: len(step.of_values)]
    if line.of == "eps":
        return carried(step, x, tuple([past.value for past in pasts]))
    noises = [process.encode(past.x, past.value, past.t) for past in pasts]
    return carried(step, x, tuple(noises))


def _corrected(
    line: Line, x: Array, value: Array, t: Time, history: tuple[Past, ...], process: Any
) -> Array:
    """Repeat the last step with the prediction at its end."""
    last = history[0]
    step = plan(line, process, last.t, t, tuple([past.t for past in history[1:]]), True)
    if step is None:
        return x
    values = [past.value for past in history[: len(step.of_values) - 1]]
    return carried(step, last.x, (*values, value))


def _checked_order(order: int) -> None:
    if order not in (1, 2, 3):
        raise ValueError(f"expected order 1, 2 or 3, not {order}")


@dataclass(frozen=True)
class DPMpp(Solver):
    r"""
    DPM-Solver++ in its multistep forms, for the probability flow or with noise.

    .. math:: x_s = \tfrac{\sigma_s}{\sigma_t} e^{-\eta h} x_t
        + \alpha_s (1 - e^{-(1 + \eta) h}) D + \sigma_s \sqrt{1 - e^{-2 \eta h}}\, z

    Parameters
    ----------
    order : {1, 2, 3}, default 2
        Number of predictions that make `D`: 2 is DPM-Solver++(2M) and 3 is (3M).
    eta : float, default 0.0
        Strength of the noise: 0 is the probability flow, and 1 is SDE-DPM-Solver++. The
        diffusion of the reverse equation is sqrt(eta) times that of the forward one.
    halved : bool, default False
        Whether three predictions have the weights of the authors' code, with half of the second
        difference, and the first step is not corrected. Other libraries have that form too. It
        is of order 2, with errors that may be smaller below some 20 steps.

    See Also
    --------
    DPMpp2S : The single-step form.
    DDIM : The same as order 1, for ``eta=0`` and ``eta=1``.
    lower_order_final : Ends with fewer predictions, as other libraries do.

    Notes
    -----
    The order is that of the probability flow, into clean data as well. With noise, the moments
    of normal data converge with orders 1, 2 and 2.

    References
    ----------
    .. [1] C. Lu et al., "DPM-Solver++", 2022, arXiv:2211.01095.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import DPMpp, Gaussian, VarianceExploding, karras, sample
    >>> process = Gaussian(VarianceExploding(10.0))
    >>> def predict(x, t):  # data from N(0, 1)
    ...     return x / (1 + t * t)
    >>> x = sample(process, predict, solver=DPMpp(2), times=karras(process, 40, end=0.01),
    ...            initial=np.array([[10.0]]), prediction="x0")
    >>> bool(abs(x.item() - 10.0 / 101.0**0.5) < 5e-3)
    True
    """

    order: Literal[1, 2, 3] = 2
    eta: float = 0.0
    halved: bool = False
    needs = ("schedule",)
    remembers = "x0"

    def __post_init__(self) -> None:
        _checked_order(self.order)
        check_number("eta", self.eta, 0.0)

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return self.eta == 0.0

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> Taken:
        prediction, line = predict(state.x, t), data_line(True, self.eta, self.halved)
        if not self.eta:
            correct: Literal["first", "none"] = "none" if self.halved else "first"
            return _adams(line, self.order, prediction, s, state, process, correct=correct)
        data, earlier = process.convert(prediction, "x0"), state.history
        step = plan(line, process, t, s, tuple([past.t for past in earlier[: self.order - 1]]))
        std = _fresh_std(process, t, s, self.eta)
        if step is None:  # nothing is left of x: data and noise
            x = combine_with_noise((process.hop(t, s).alpha_s,), (data,), std, state.draws(rng))
        else:
            values = (data, *[past.value for past in earlier])[: len(step.of_values)]
            factors = (step.of_x, *step.of_values)
            x = combine_with_noise(factors, (prediction.x, *values), std, state.draws(rng))
        return x, (Past(t, data, prediction.x), *earlier)[: self.order - 1]


@remembered
def _fresh_std(process: Gaussian, t: Time, s: Time, eta: float) -> Any:
    """Return the standard deviation of the noise that a random step draws."""
    hop = process.hop(t, s)
    return hop.sigma_s * sqrt(fresh_share(hop, eta))


@dataclass(frozen=True)
class UniPC(Solver):
    """
    Unified predictor-corrector: each prediction also corrects the samples that it is for.

    Parameters
    ----------
    order : {1, 2, 3}, default 2
        Order of the predictor. The corrector, which costs no prediction, raises it by one.

    See Also
    --------
    DPMpp : The predictor alone, for orders 1 and 2.
    lower_order_final : Ends with fewer predictions, as other libraries do.

    Notes
    -----
    The variant with B(h) = e^h - 1 on predictions of the data. With three predictions or
    more its weights are those of the exponential Adams methods, on which B has no influence.
    The states on the way are predicted, and not yet corrected.

    References
    ----------
    .. [1] W. Zhao et al., "UniPC", NeurIPS 2023, arXiv:2302.04867.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, UniPC, VarianceExploding, karras, sample
    >>> process = Gaussian(VarianceExploding(10.0))
    >>> def predict(x, t):  # data from N(0, 1)
    ...     return x / (1 + t * t)
    >>> x = sample(process, predict, solver=UniPC(3), times=karras(process, 40, end=0.01),
    ...            initial=np.array([[10.0]]), prediction="x0")
    >>> bool(abs(x.item() - 10.0 / 101.0**0.5) < 5e-4)
    True
    """

    order: Literal[1, 2, 3] = 2
    needs = ("schedule",)
    remembers = "x0"

    def __post_init__(self) -> None:
        _checked_order(self.order)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> Taken:
        line = data_line(True)
        return _adams(line, self.order, predict(state.x, t), s, state, process, correct="all")


@dataclass(frozen=True)
class ExponentialAdams(Solver):
    """
    Exponential Adams-Bashforth: a polynomial through the last predictions, integrated exactly.

    Parameters
    ----------
    order : {1, 2, 3}, default 3
        Number of predictions.
    of : {"x0", "eps"}, default "x0"
        Whether the polynomial, in log(alpha / sigma), is one of the data or of the noise.
    corrected : bool, default True
        Whether the first step, whose order is 1, is repeated once its end has a prediction. A
        method of order 3 is of order 2 without; other libraries leave it out.

    See Also
    --------
    DEIS : A polynomial of the noise in sigma / alpha.
    DPMpp : The same for the data, with simpler weights at order 2.

    References
    ----------
    .. [1] M. Hochbruck and A. Ostermann, "Exponential integrators", Acta Numerica 19, 2010.
    .. [2] Q. Zhang and Y. Chen, "Fast sampling of diffusion models with exponential
       integrator", ICLR 2023, arXiv:2204.13902.

    Examples
    --------
    >>> from logitkit.diffusion import ExponentialAdams
    >>> ExponentialAdams(order=3, of="eps")
    ExponentialAdams(order=3, of='eps', corrected=True)
    """

    order: Literal[1, 2, 3] = 3
    of: Literal["x0", "eps"] = "x0"
    corrected: bool = True
    needs = ("schedule",)

    def __post_init__(self) -> None:
        _checked_order(self.order)
        if self.of not in ("x0", "eps"):
            raise ValueError(f"expected a polynomial of 'x0' or 'eps', not {self.of!r}")

    @property
    def remembers(self) -> str:  # type: ignore[override]
        """Of what kind the predictions in its history are."""
        return self.of

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> Taken:
        line = data_line(False) if self.of == "x0" else NOISE_LINE
        correct: Literal["first", "none"] = "first" if self.corrected else "none"
        return _adams(line, self.order, predict(state.x, t), s, state, process, correct=correct)


@dataclass(frozen=True)
class DEIS(Solver):
    r"""
    Adams-Bashforth for dy/dr = eps, with y = x / alpha and r = sigma / alpha.

    .. math:: x_s = \tfrac{\alpha_s}{\alpha_t} x_t
        + \alpha_s \int_{r_t}^{r_s} \hat\varepsilon(r) \, dr

    Parameters
    ----------
    order : {1, 2, 3}, default 3
        Number of predictions of the noise, through which the polynomial goes.
    corrected : bool, default True
        As in `ExponentialAdams`.

    See Also
    --------
    ExponentialAdams : A polynomial in log(alpha / sigma).

    Notes
    -----
    The method rho-AB of the article, which other libraries call LMS. It keeps its order in a
    last step into clean data.

    References
    ----------
    .. [1] Q. Zhang and Y. Chen, "Fast sampling of diffusion models with exponential
       integrator", ICLR 2023, arXiv:2204.13902.

    Examples
    --------
    >>> from logitkit.diffusion import DEIS
    >>> DEIS(2)
    DEIS(order=2, corrected=True)
    """

    order: Literal[1, 2, 3] = 3
    corrected: bool = True
    needs = ("schedule",)
    remembers = "eps"

    def __post_init__(self) -> None:
        _checked_order(self.order)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> Taken:
        line, prediction = RATIO_LINE, predict(state.x, t)
        correct: Literal["first", "none"] = "first" if self.corrected else "none"
        return _adams(line, self.order, prediction, s, state, process, correct=correct)
