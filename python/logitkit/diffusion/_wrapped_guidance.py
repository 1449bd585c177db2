"""Guidance around another: at some times only, or with its data brought back to their range."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._arrays import Array, Time, namespace, spread
from ._guidance import Guidance
from ._parameters import check_guidance, check_number
from ._predictions import Prediction
from ._predictor import Predictor


class _Around(Guidance):
    """A guidance around another, or around none."""

    inner: Guidance | None

    def check(self, condition: Any, solver: Any) -> None:
        if self.inner is not None:
            self.inner.check(condition, solver)

    check.__doc__ = Guidance.check.__doc__

    def begin(self) -> Any:
        return None if self.inner is None else self.inner.begin()

    begin.__doc__ = Guidance.begin.__doc__


def _inner(guidance: Guidance | None, predictor: Predictor, x: Array, t: Time) -> Prediction:
    return replace(predictor, guidance=guidance)(x, t)


@dataclass(frozen=True)
class Interval(_Around):
    """
    Guide at some times only, and use the prediction with the condition at others.

    Parameters
    ----------
    inner : Guidance
        The guidance.
    low, high : float
        The times above `low` and up to `high` are guided.

    References
    ----------
    .. [1] T. Kynkäänniemi et al., "Applying guidance in a limited interval improves sample and
       distribution quality in diffusion models", NeurIPS 2024, arXiv:2404.07724.

    Examples
    --------
    >>> from logitkit.diffusion import ClassifierFree, Interval
    >>> Interval(ClassifierFree(3.0), low=0.2, high=0.8).high
    0.8
    """

    inner: Guidance
    low: float
    high: float

    def __post_init__(self) -> None:
        check_guidance("inner", self.inner)
        if not self.low <= self.high:
            raise ValueError(f"expected low up to high, not {self.low!r} and {self.high!r}")

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the guided prediction, or that with the condition."""
        plain = self.inner.plain(predictor, x, t)
        inside = (np.asarray(t) > self.low) & (np.asarray(t) <= self.high)
        if not inside.any():
            return plain._replace(unguided=plain.value)
        result = _inner(self.inner, predictor, x, t)
        if inside.all():
            return result
        if result.kind != plain.kind:
            value = predictor.process.convert(plain, result.kind)
            plain = plain._replace(value=value, kind=result.kind)
        xp = namespace(plain.value)
        mask = spread(inside.astype(np.float64), plain.value) > 0.5
        there = spread(inside.astype(np.float64), x) > 0.5
        return result._replace(
            value=xp.where(mask, result.value, plain.value),
            x=xp.where(there, result.x, x),
        )


@dataclass(frozen=True)
class DynamicThreshold(_Around):
    r"""
    Bring predicted data back to their range, by a share that the largest values give.

    .. math:: \tilde x_0 = \operatorname{clip}(\hat x_0, -s, s) \, r / s, \qquad
        s = \max(r, Q_q |\hat x_0|)

    Parameters
    ----------
    inner : Guidance, optional
        The guidance. Default: none.
    quantile : float, default 0.995
        Which quantile `Q` of a sample's values, exactly: that of ``numpy.quantile``.
    limit : float, default 1.0
        The range of the data, from -r to r.
    most : float, default inf
        Largest `s`. With ``most=limit`` values are clipped.

    References
    ----------
    .. [1] C. Saharia et al., "Photorealistic text-to-image diffusion models with deep language
       understanding", NeurIPS 2022, arXiv:2205.11487.

    Examples
    --------
    >>> from logitkit.diffusion import ClassifierFree, DynamicThreshold
    >>> DynamicThreshold(ClassifierFree(7.0)).quantile
    0.995
    """

    inner: Guidance | None = None
    quantile: float = 0.995
    limit: float = 1.0
    most: float = field(default=np.inf)

    def __post_init__(self) -> None:
        if self.inner is not None:
            check_guidance("inner", self.inner)
        check_number("quantile", self.quantile, 0.0, 1.0)
        check_number("limit", self.limit, 0.0, open_low=True)
        check_number("most", self.most, 0.0, open_low=True, or_infinite=True)

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the prediction of the data in their range."""
        prediction = _inner(self.inner, predictor, x, t)
        data = predictor.process.convert(prediction, "x0")
        xp = namespace(data)
        flat = xp.sort(xp.reshape(xp.abs(data), (data.shape[0], -1)), axis=-1)
        place = self.quantile * (flat.shape[1] - 1)
        low, high = int(np.floor(place)), int(np.ceil(place))
        top = flat[:, low] + (place - low) * (flat[:, high] - flat[:, low])
        s = xp.clip(top, self.limit, max(self.most, self.limit))
        s = xp.reshape(s, (-1,) + (1,) * (data.ndim - 1))
        value = xp.minimum(xp.maximum(data, -s), s) * (self.limit / s)
        unguided = prediction.value if prediction.unguided is None else prediction.unguided
        other = prediction._replace(value=unguided)
        unguided = predictor.process.convert(other, "x0")
        return prediction._replace(value=value, kind="x0", unguided=unguided)
