r"""
What a network can predict of x_t = alpha x_0 + sigma eps, and how one follows from another.

Every prediction is the mean of some c_0 x_0 + c_1 eps. Together with x_t itself that makes two
linear equations for x_0 and eps, and any other combination is A x_t + B prediction:

    B = (alpha c_1' - sigma c_0') / (alpha c_1 - sigma c_0),
    A = (c_0' c_1 - c_1' c_0) / (alpha c_1 - sigma c_0).

A step of DDIM is such a combination too, with the coefficients alpha(s) and sigma(s).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ._arrays import Array, Time
from ._elementary import all_finite, divided
from ._remembered import remembered
from ._schedules import Schedule, plain

Kind: TypeAlias = Literal["x0", "eps", "v", "score", "flow", "logits"]
KINDS: tuple[str, ...] = get_args(Kind)
Pair: TypeAlias = tuple[Any, Any]


class Prediction(NamedTuple):
    r"""
    What is predicted for samples at a time.

    Parameters
    ----------
    value : array, shape (n, ...)
        The prediction, in the type of `x`.
    kind : {"x0", "eps", "v", "score", "flow", "logits"}
        What it predicts, of :math:`x_t = \alpha x_0 + \sigma \varepsilon`: the data, the
        noise, :math:`v = \alpha\varepsilon - \sigma x_0`, the score
        :math:`-\varepsilon / \sigma`, the velocity :math:`\dot\alpha x_0 +
        \dot\sigma\varepsilon`, or log-probabilities of the tokens of the data, up to a
        constant, along a last axis of its own.
    x : array, shape (n, ...)
        The samples it is for: those that it was asked for, unless a guidance moves them.
    t : float or ndarray, shape (n,)
        Their time.
    unguided : array, optional
        The prediction of the same kind without guidance.
    shift : callable, (variance, mean) -> array, optional
        What a guidance adds to the mean of a random step, given the variance of its noise.
    memory : object, optional
        What a guidance wants to remember at the next step; see `State`.

    See Also
    --------
    convert : From one kind to another.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, Prediction, StraightPath
    >>> flow = Prediction(np.array([[1.5]]), "flow", x=np.array([[1.0]]), t=0.5)
    >>> Gaussian(StraightPath()).convert(flow, "x0")
    array([[0.25]])
    """

    value: Array
    kind: Kind
    x: Array
    t: Time
    unguided: Array | None = None
    shift: Callable[[Any, Array], Array] | None = None
    memory: Any = None


# Without the function of a NamedTuple that sorts its arguments: a tenth of a small step.
new_prediction: Callable[[tuple[Any, ...]], Prediction] = partial(tuple.__new__, Prediction)


def coefficients(kind: str, schedule: Schedule, t: Time) -> Pair:
    """Return the factors c_0 of x_0 and c_1 of eps in a kind of prediction."""
    if kind == "x0":
        return 1.0, 0.0
    if kind == "eps":
        return 0.0, 1.0
    if kind == "v":
        return -schedule.sigma(t), schedule.alpha(t)
    if kind == "score":
        return 0.0, divided(-1.0, schedule.sigma(t))
    if kind == "flow":
        return schedule.rates(t)
    raise ValueError(
        f"expected a kind of prediction of Gaussian noise, {', '.join(KINDS[:-1])}, not {kind!r}"
    )


@remembered
def combination(kind: str, wanted: Pair, schedule: Schedule, t: Time) -> Pair:
    """
    Return A and B in c_0' x_0 + c_1' eps = A x_t + B prediction.

    Raises
    ------
    ValueError
        If the prediction says nothing about what is wanted, as one of the noise says nothing
        about the data where there is only noise.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    c0, c1 = coefficients(kind, schedule, t)
    d0, d1 = wanted
    determinant = alpha * c1 - sigma * c0
    if not all_finite(determinant) or not np.all(determinant):
        raise ValueError(
            f"a prediction of kind {kind!r} does not determine the data and the noise at "
            f"t={t}, where alpha={alpha} and sigma={sigma}: end the times before clean data, "
            "begin them after pure noise, or predict 'v', which serves at both ends"
        )
    return plain((d0 * c1 - d1 * c0) / determinant), plain((alpha * d1 - sigma * d0) / determinant)
