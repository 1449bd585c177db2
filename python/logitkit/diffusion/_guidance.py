"""Guidance: two or more predictions of one network, or of two, become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ._arrays import Array, Time, as_time, namespace, over_samples
from ._parameters import check_function, check_number, check_weight
from ._predictions import Prediction
from ._predictor import Predictor
from ._update import update

Weight = float | Callable[[Time], Any]


class Guidance(ABC):
    """
    What makes one prediction of those with and without a condition.

    A subclass has a method ``__call__(predictor, x, t)``, which returns a `Prediction`; its
    `unguided` is handed to the solver too.

    See Also
    --------
    ClassifierFree : The usual one.

    Examples
    --------
    >>> from logitkit.diffusion import ClassifierFree, Guidance
    >>> isinstance(ClassifierFree(2.0), Guidance)
    True
    """

    @abstractmethod
    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the guided prediction."""

    def check(self, condition: Any, solver: Any) -> None:
        """
        Say so if the guidance cannot be used.

        Parameters
        ----------
        condition : object
            What the samples shall be, None if nothing is asked.
        solver : Solver
            The solver.

        Raises
        ------
        ValueError
            If there is no condition, or the solver ignores what the guidance does.
        """
        if condition is None:
            raise ValueError(f"{type(self).__name__} guides towards a condition: pass `condition`")

    def begin(self) -> Any:
        """
        Give what is remembered before the first step: the first `memory` of a `State`.

        Returns
        -------
        object
            None for a guidance that remembers nothing.
        """
        return None

    def plain(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """
        Predict without this guidance, but with the condition where the network takes one.

        Parameters
        ----------
        predictor : Predictor
            The network.
        x : array, shape (n, ...)
            Samples.
        t : float or ndarray, shape (n,)
            Their time.

        Returns
        -------
        Prediction
            What the network says.
        """
        return predictor.conditional(x, t, predictor.condition)


def weight_at(weight: Weight, t: Time) -> Any:
    """Return a weight that may be a function of the time."""
    return as_time(weight(t)) if callable(weight) else float(weight)


@dataclass(frozen=True)
class PowerWeight:
    r"""
    A weight of guidance that falls or rises from noise to data.

    .. math:: w(t) = b + (a - b) (t / T)^p

    Parameters
    ----------
    start, end : float
        The weights `a` at t = T, noise, and `b` at t = 0.
    power : float, default 1.0
        The power `p`: 1 is linear.
    last : float, default 1.0
        The time `T` of noise.

    Examples
    --------
    >>> from logitkit.diffusion import ClassifierFree, PowerWeight
    >>> guidance = ClassifierFree(PowerWeight(0.0, 4.0))
    >>> guidance.weight(0.5)
    2.0
    """

    start: float
    end: float
    power: float = 1.0
    last: float = 1.0

    def __post_init__(self) -> None:
        check_number("start", self.start)
        check_number("end", self.end)
        check_number("power", self.power, 0.0)
        check_number("last", self.last, 0.0, open_low=True)

    def __call__(self, t: Time) -> Any:
        """Return the weight at a time."""
        return self.end + (self.start - self.end) * (t / self.last) ** self.power


def guided(conditional: Prediction, other: Prediction, weight: Any) -> Prediction:
    """Return (1 + w) conditional - w other, as log-probabilities for logits."""
    if conditional.kind != "logits":
        value = update(_plus_one(weight), conditional.value, _minus(weight), other.value)
        return conditional._replace(value=value, unguided=other.value)
    # a token that one of the two rules out: -inf where the condition does, else the condition
    c, u = _log_softmax(conditional.value), _log_softmax(other.value)
    xp = namespace(c)
    finite = xp.isfinite(c) & xp.isfinite(u)
    zero = xp.zeros_like(c)
    safe_c, safe_u = xp.where(finite, c, zero), xp.where(finite, u, zero)
    mixed = update(_plus_one(weight), safe_c, _minus(weight), safe_u)
    return conditional._replace(value=xp.where(finite, mixed, c), unguided=u)


def _plus_one(weight: Any) -> Any:
    return 1.0 + weight


def _minus(weight: Any) -> Any:
    return -1.0 * weight


def _log_softmax(logits: Array) -> Array:
    xp = namespace(logits)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    r"""
    Classifier-free guidance: away from the prediction without the condition.

    .. math:: \tilde\varepsilon = (1 + w) \varepsilon(x, y) - w \varepsilon(x, \varnothing)

    Parameters
    ----------
    weight : float or callable, (t) -> float or ndarray
        The weight `w`: 0 is the condition alone, -1 none. The ``guidance_scale`` of other
        libraries is 1 + w.
    negative : object, optional
        A condition to be led away from, in the place of none.
    rescale : float, default 0.0
        Share of the result that is brought back to the standard deviation, over a sample, of
        the prediction with the condition.

    See Also
    --------
    CFGpp, AdaptiveProjection, MultiCondition : Other ways to use the same predictions.

    Notes
    -----
    The same combination is right for every kind of prediction. For logits it is one of
    log-probabilities; a token that the condition rules out stays ruled out.

    It does not sample p(x) p(y | x)^(1 + w), whose noisy versions have another score.

    References
    ----------
    .. [1] J. Ho and T. Salimans, "Classifier-free diffusion guidance", 2022, arXiv:2207.12598.
    .. [2] S. Lin et al., "Common diffusion noise schedules and sample steps are flawed",
       WACV 2024, arXiv:2305.08891. The rescaling, section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import ClassifierFree, Gaussian, Predictor, StraightPath
    >>> def network(x, t, condition):
    ...     return np.full_like(x, 0.0 if condition is None else condition)
    >>> predict = Predictor(Gaussian(StraightPath()), network, "x0", condition=1.0,
    ...                     guidance=ClassifierFree(2.0))
    >>> predict(np.zeros((1, 1)), 0.5).value
    array([[3.]])
    """

    weight: Weight
    negative: Any = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)
        check_number("rescale", self.rescale, 0.0, 1.0)

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the guided prediction."""
        conditional = predictor.conditional(x, t, predictor.condition)
        other = predictor.conditional(x, t, self.negative)
        result = guided(conditional, other, weight_at(self.weight, t))
        if self.rescale:
            return result._replace(value=rescaled(result.value, conditional.value, self.rescale))
        return result


def rescaled(value: Array, like: Array, share: float) -> Array:
    """Bring a share of `value` to the standard deviation of `like`, sample by sample."""
    xp, axes = namespace(value), over_samples(value)
    have = xp.std(value, axis=axes, keepdims=True)
    want = xp.std(like, axis=axes, keepdims=True)
    one = xp.ones_like(have)
    ratio = xp.where(have > 0.0, want / xp.where(have > 0.0, have, one), one)
    return value * (share * ratio + (1.0 - share))


@dataclass(frozen=True)
class MultiCondition(Guidance):
    r"""
    Several conditions at once, each with its weight.

    .. math:: \tilde\varepsilon = \varepsilon_\varnothing
        + \sum_i \gamma_i (\varepsilon_i - \varepsilon_\varnothing)

    Parameters
    ----------
    weights : tuple of floats
        The weights gamma, one for each entry of the condition, which is a tuple. With one
        condition, it is 1 + w of `ClassifierFree`. A negative weight leads away.

    References
    ----------
    .. [1] N. Liu et al., "Compositional visual generation with composable diffusion models",
       ECCV 2022, arXiv:2206.01714.

    Examples
    --------
    >>> from logitkit.diffusion import MultiCondition
    >>> MultiCondition((2.0, 1.5))
    MultiCondition(weights=(2.0, 1.5))
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not hasattr(self.weights, "__len__"):
            raise TypeError(f"expected a tuple of weights, not {self.weights!r}")
        for index, weight in enumerate(self.weights):
            check_number(f"weights[{index}]", weight)

    def check(self, condition: Any, solver: Any) -> None:
        """
        Say so if the guidance cannot be used.

        Parameters
        ----------
        condition : tuple
            The conditions.
        solver : Solver
            The solver.

        Raises
        ------
        ValueError
            If there are not as many conditions as weights.
        """
        if not isinstance(condition, tuple) or len(condition) != len(self.weights):
            raise ValueError(
                f"expected a tuple of {len(self.weights)} conditions, one for each weight, not "
                f"{type(condition).__name__}"
            )

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the guided prediction."""
        none = predictor.conditional(x, t, None)
        if none.kind == "logits":
            raise ValueError("expected a prediction of continuous data, not of 'logits'")
        value = none.value
        for weight, condition in zip(self.weights, predictor.condition, strict=True):
            one = predictor.conditional(x, t, condition).value
            value = value + weight * (one - none.value)
        return none._replace(value=value, unguided=none.value)


@dataclass(frozen=True)
class AutoGuidance(Guidance):
    r"""
    Guide a network away from a weaker one.

    .. math:: \tilde\varepsilon = (1 + w) \varepsilon(x, y) - w \varepsilon_\text{weak}(x, y)

    Parameters
    ----------
    weak : callable, (x, t, condition) -> array
        The weaker network, with the same kind of prediction: smaller, or trained for less.
    weight : float or callable, (t) -> float or ndarray
        The weight `w`.

    References
    ----------
    .. [1] T. Karras et al., "Guiding a diffusion model with a bad version of itself",
       NeurIPS 2024, arXiv:2406.02507.

    Examples
    --------
    >>> from logitkit.diffusion import AutoGuidance
    >>> AutoGuidance(lambda x, t, condition: 0 * x, weight=1.0).weight
    1.0
    """

    weak: Callable[..., Array]
    weight: Weight

    def __post_init__(self) -> None:
        check_function("weak", self.weak)
        check_weight("weight", self.weight)

    def check(self, condition: Any, solver: Any) -> None:
        """
        Accept any condition, or none.

        Parameters
        ----------
        condition : object
            What the samples shall be.
        solver : Solver
            The solver.
        """

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the guided prediction."""
        strong = predictor.conditional(x, t, predictor.condition)
        weak = replace(predictor, network=self.weak).conditional(x, t, predictor.condition)
        return guided(strong, weak, weight_at(self.weight, t))
