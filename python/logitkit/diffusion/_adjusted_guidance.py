"""Classifier-free guidance that keeps the noise, or the contrast, of a sample as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._arrays import Array, Time, namespace, over_samples
from ._guidance import Guidance, Weight, weight_at
from ._parameters import check_number, check_weight
from ._predictions import Prediction
from ._predictor import Predictor
from ._update import update


@dataclass(frozen=True)
class CFGpp(Guidance):
    r"""
    CFG++: take the data from the guided prediction, and the noise from the unguided one.

    .. math:: x_s = \alpha_s \bigl(\hat x_{0, \varnothing} + \lambda (\hat x_{0, y}
        - \hat x_{0, \varnothing})\bigr) + \sigma_s \hat\varepsilon_\varnothing

    Parameters
    ----------
    weight : float or callable, (t) -> float or ndarray
        The weight lambda, from 0, no condition, to 1.

    Notes
    -----
    The two belong to a sample that is moved, alpha x_0 + sigma eps, from which any solver
    goes on: with `DDIM` that is the step of the article.

    References
    ----------
    .. [1] H. Chung et al., "CFG++", ICLR 2025, arXiv:2406.08070.

    Examples
    --------
    >>> from logitkit.diffusion import CFGpp
    >>> CFGpp(0.6)
    CFGpp(weight=0.6)
    """

    weight: Weight

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the unguided prediction, for samples moved towards the condition."""
        process = predictor.process
        none = predictor.conditional(x, t, None)
        with_condition = predictor.conditional(x, t, predictor.condition)
        change = process.convert(with_condition, "x0") - process.convert(none, "x0")
        alpha = process.schedule.alpha(t)
        moved = update(1.0, x, alpha * weight_at(self.weight, t), change)
        eps = process.convert(none, "eps")
        return Prediction(eps, "eps", moved, t, unguided=eps)


@dataclass(frozen=True)
class AdaptiveProjection(Guidance):
    r"""
    Adaptive projected guidance: without the part that only raises the contrast.

    .. math:: \tilde x_0 = \hat x_{0, y} + w (\Delta_\perp + \eta \Delta_\parallel),
        \qquad \Delta \propto m_t = \hat x_{0, y} - \hat x_{0, \varnothing} + \beta\, m

    Parameters
    ----------
    weight : float or callable, (t) -> float or ndarray
        The weight `w`, as in `ClassifierFree`.
    parallel : float, default 0.0
        Share eta of the part along the prediction: 1 is `ClassifierFree`.
    norm : float, default inf
        Longest Delta of a sample; a longer one is scaled down.
    momentum : float, default 0.0
        Factor beta of `m`, the m_t of the step before, which is 0 at first. The article takes
        negative ones, such as -0.5, that push away from where the steps before went.

    Raises
    ------
    ValueError
        If there is a momentum, and the state has no `memory`: `sample` sees to it.

    Notes
    -----
    Delta is m_t, scaled down where it is longer than `norm`; its part along the prediction with
    the condition is Delta_parallel. With momentum a step depends on those before, by the `memory`
    of its `State` alone. Where a solver asks for several predictions in a step, all of them see
    the same `m`, and the first is remembered.

    References
    ----------
    .. [1] S. Sadat, O. Hilliges and R. Weber, "Eliminating oversaturation and artifacts of
       high guidance scales in diffusion models", ICLR 2025, arXiv:2410.02416.

    Examples
    --------
    >>> from logitkit.diffusion import AdaptiveProjection
    >>> AdaptiveProjection(4.0, norm=15.0).parallel
    0.0
    """

    weight: Weight
    parallel: float = 0.0
    norm: float = field(default=np.inf)
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)
        check_number("parallel", self.parallel)
        check_number("norm", self.norm, 0.0, open_low=True, or_infinite=True)
        check_number("momentum", self.momentum)

    def begin(self) -> Any:
        return 0.0 if self.momentum else None

    begin.__doc__ = Guidance.begin.__doc__

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the guided prediction, of the data."""
        process = predictor.process
        none = process.convert(predictor.conditional(x, t, None), "x0")
        data = process.convert(predictor.conditional(x, t, predictor.condition), "x0")
        xp, axes, change = namespace(x), over_samples(x), data - none
        memory = None
        if self.momentum:
            if predictor.memory is None:
                raise ValueError(
                    "expected a state with the memory that momentum needs: pass "
                    "State(..., memory=guidance.begin())"
                )
            memory = change = change + self.momentum * predictor.memory
        length = xp.sqrt(xp.sum(change * change, axis=axes, keepdims=True))
        one = xp.ones_like(length)
        change = change * xp.where(length > self.norm, self.norm / (length + 1e-30), one)
        square = xp.sum(data * data, axis=axes, keepdims=True)
        along = xp.sum(change * data, axis=axes, keepdims=True)
        along = along / xp.where(square > 0.0, square, one) * data
        step = change - along + self.parallel * along
        value = update(1.0, data, weight_at(self.weight, t), step)
        return Prediction(value, "x0", x, t, unguided=none, memory=memory)
