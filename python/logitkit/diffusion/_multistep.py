"""Multistep solvers: one prediction a step, and those of the steps before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ._arrays import Array, Time
from ._draws import Draws
from ._exponential import Weights, solved, step_weights
from ._gaussian import Gaussian, Hop, fresh_share
from ._schedules import plain
from ._solver import Predict, Solver, State
from ._update import update


class Past(NamedTuple):
    """What was predicted at an earlier step, and the samples that it began with."""

    t: Time
    value: Array
    x: Array | None = None


def _places(process: Gaussian, t: Time, s: Time, history: tuple[Past, ...]) -> list[Any]:
    """
    Return where the predictions are on the line of log(alpha / sigma), in steps from t to s.

    The first is 0. A step from pure noise or into clean data is infinitely long, and then
    this is the only one: such a step is of first order. With times that differ by sample,
    all of them take it, so no grid for each sample should have one where another has not.
    """
    log_snr = process.schedule.log_snr
    here, h = log_snr(t), process.hop(t, s).h
    places = [plain(np.zeros(np.shape(h)))]
    if not np.all(np.isfinite(h)):
        return places
    for past in history:
        place = plain(np.divide(np.subtract(log_snr(past.t), here), h))
        if not np.all(np.isfinite(place)):
            break
        places.append(place)
    return places


def _weighted(weights: Weights, values: list[Array]) -> Array:
    """Return the sum of two or more predictions, each with its weight."""
    columns = [plain(weights[..., j]) for j in range(len(values))]
    total = update(columns[0], values[0], columns[1], values[1])
    for column, value in zip(columns[2:], values[2:], strict=True):
        total = update(1.0, total, column, value)
    return total


def _carry(
    hop: Hop, weights: Weights, values: list[Array], x: Array, std: Any, noise: Array, eta: float
) -> Array:
    """Return the samples at the end of a step, from weighted predictions of the data."""
    factor = hop.sigma_s / hop.sigma_t
    if eta:
        factor = plain(factor * np.exp(-eta * np.float64(hop.h)))
    if len(values) == 1:  # its weight goes into the factor: one pass less
        rest, total = plain(hop.alpha_s * weights[..., 0]), values[0]
    else:
        rest, total = hop.alpha_s, _weighted(weights, values)
    return update(factor, x, rest, total, std, noise)


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

    See Also
    --------
    DPMpp2S : The single-step form.
    DDIM : The same as order 1, for ``eta=0`` and ``eta=1``.

    Notes
    -----
    The order is that of the probability flow; with noise, order 1 at least holds for the
    moments. The first steps, and a last one into clean data, are of the order they can be.

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
    needs = ("schedule",)

    def __post_init__(self) -> None:
        _checked_order(self.order)
        if not self.eta >= 0.0:
            raise ValueError(f"expected eta from 0, not {self.eta}")

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, draws: Draws
    ) -> tuple[Array, tuple[Any, ...]]:
        prediction = predict(state.x, t)
        data = process.convert(prediction, "x0")
        hop = process.hop(t, s)
        places = _places(process, t, s, state.history)
        growth = plain((1.0 + self.eta) * np.float64(hop.h))
        weights = step_weights(places, growth, midpoint=True)
        values = [data, *(past.value for past in state.history)][: len(places)]
        std, noise = None, None
        if self.eta:
            std = plain(hop.sigma_s * np.sqrt(fresh_share(hop, self.eta)))
            noise = process.noise(draws, data)
        x = _carry(hop, weights, values, prediction.x, std, noise, self.eta)
        return x, (Past(t, data), *state.history)[: self.order - 1]


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

    def __post_init__(self) -> None:
        _checked_order(self.order)

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, draws: Draws
    ) -> tuple[Array, tuple[Any, ...]]:
        prediction = predict(state.x, t)
        data = process.convert(prediction, "x0")
        x = self._corrected(prediction.x, data, t, state.history, process)
        hop = process.hop(t, s)
        places = _places(process, t, s, state.history[: self.order - 1])
        weights = step_weights(places, hop.h, midpoint=True)
        values = [data, *(past.value for past in state.history)][: len(places)]
        predicted = _carry(hop, weights, values, x, None, None, 0.0)
        return predicted, (Past(t, data, x), *state.history)[: self.order]

    def _corrected(
        self, x: Array, data: Array, t: Time, history: tuple[Past, ...], process: Gaussian
    ) -> Array:
        """Repeat the last step with the prediction at its end, which is place 1 on its line."""
        if not history:
            return x
        last, hop = history[0], process.hop(history[0].t, t)
        if not np.all(np.isfinite(hop.h)):
            return x
        places = _places(process, last.t, t, history[1:])
        weights = step_weights([*places, places[0] + 1.0], hop.h, midpoint=True)
        values = [*(past.value for past in history[: len(places)]), data]
        return _carry(hop, weights, values, last.x, None, None, 0.0)


@dataclass(frozen=True)
class ExponentialAdams(Solver):
    """
    Exponential Adams-Bashforth: a polynomial through the last predictions, integrated exactly.

    Parameters
    ----------
    order : {1, 2, 3, 4}, default 3
        Number of predictions.
    of : {"x0", "eps"}, default "x0"
        Whether the polynomial, in log(alpha / sigma), is one of the data or of the noise.

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
    >>> ExponentialAdams(order=4, of="eps")
    ExponentialAdams(order=4, of='eps')
    """

    order: Literal[1, 2, 3, 4] = 3
    of: Literal["x0", "eps"] = "x0"
    needs = ("schedule",)

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"expected order 1, 2, 3 or 4, not {self.order}")
        if self.of not in ("x0", "eps"):
            raise ValueError(f"expected a polynomial of 'x0' or 'eps', not {self.of!r}")

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, draws: Draws
    ) -> tuple[Array, tuple[Any, ...]]:
        prediction = predict(state.x, t)
        hop, x = process.hop(t, s), prediction.x
        places = _places(process, t, s, state.history)
        value = process.convert(prediction, self.of)
        values = [value, *(past.value for past in state.history)][: len(places)]
        if len(places) == 1:
            a, b = process.weights(prediction, (hop.alpha_s, hop.sigma_s))
            x = update(a, x, b, prediction.value)
        elif self.of == "x0":
            x = _carry(hop, step_weights(places, hop.h), values, x, None, None, 0.0)
        else:
            total = _weighted(step_weights(places, -hop.h), values)
            x = update(hop.alpha_s / hop.alpha_t, x, hop.sigma_s, total)
        return x, (Past(t, value), *state.history)[: self.order - 1]


@dataclass(frozen=True)
class DEIS(Solver):
    r"""
    Adams-Bashforth for dy/dr = eps, with y = x / alpha and r = sigma / alpha.

    .. math:: x_s = \tfrac{\alpha_s}{\alpha_t} x_t
        + \alpha_s \int_{r_t}^{r_s} \hat\varepsilon(r) \, dr

    Parameters
    ----------
    order : {1, 2, 3, 4}, default 3
        Number of predictions of the noise, through which the polynomial goes.

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
    DEIS(order=2)
    """

    order: Literal[1, 2, 3, 4] = 3
    needs = ("schedule",)

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"expected order 1, 2, 3 or 4, not {self.order}")

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, draws: Draws
    ) -> tuple[Array, tuple[Any, ...]]:
        prediction = predict(state.x, t)
        hop = process.hop(t, s)
        if not np.all(hop.alpha_t):  # r is infinite: no line to walk along yet
            a, b = process.weights(prediction, (hop.alpha_s, hop.sigma_s))
            return update(a, prediction.x, b, prediction.value), ()
        eps = process.convert(prediction, "eps")
        values = [eps, *(past.value for past in state.history)]
        ratio = hop.alpha_s / hop.alpha_t
        weights = self._weights(process, t, s, state.history)
        if len(values) == 1:
            x = update(ratio, prediction.x, plain(hop.alpha_s * weights[..., 0]), eps)
        else:
            x = update(ratio, prediction.x, hop.alpha_s, _weighted(weights, values))
        return x, (Past(t, eps), *state.history)[: self.order - 1]

    @staticmethod
    def _weights(process: Gaussian, t: Time, s: Time, history: tuple[Past, ...]) -> Weights:
        """Solve sum_j w_j u_j^k = length / (k + 1)."""
        here = noise_ratio(process, t)
        length = np.asarray(noise_ratio(process, s) - here)
        places = [np.zeros_like(length)]
        places += [(noise_ratio(process, past.t) - here) / length for past in history]
        return solved(places, length[..., None] / np.arange(1.0, len(places) + 1.0))


def noise_ratio(process: Gaussian, t: Time) -> Any:
    """Return r = sigma / alpha."""
    return process.schedule.sigma(t) / process.schedule.alpha(t)
