"""A network, its guidance and its condition as the one function that solvers call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import is_numpy_array, is_torch_array

from .. import _cpu
from ._arrays import Array, Time, namespace, placed
from ._predictions import KINDS, Kind, Prediction, new_prediction


class PredictionError(ValueError):
    """
    A prediction that cannot be used: of a wrong shape or type, or with NaN in it.

    See Also
    --------
    Predictor : What checks predictions.

    Examples
    --------
    >>> from logitkit.diffusion import PredictionError
    >>> issubclass(PredictionError, ValueError)
    True
    """


@dataclass(frozen=True)
class Predictor:
    """
    Turn a network into the function of samples and time that solvers call.

    Parameters
    ----------
    process : Process
        The forward process.
    network : callable, (x, t) -> array or (x, t, condition) -> array
        The network. It is called with the condition where there is one, or where there is a
        guidance, which also asks for predictions without one: then it gets None.
    kind : {"x0", "eps", "v", "score", "flow", "logits"}, default "eps"
        What it predicts.
    condition : object, optional
        What the samples shall be: handed on to the network as it is.
    guidance : Guidance, optional
        How predictions with and without the condition become one.
    memory : object, optional
        What the guidance remembers of the steps before; see `State`.

    Raises
    ------
    ValueError
        If `kind` is unknown.

    Notes
    -----
    A time that differs by sample is handed to the network as an array of its library, in the
    type of `x`; one time for all is a float.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, Predictor, StraightPath
    >>> predict = Predictor(Gaussian(StraightPath()), lambda x, t: x / 2, "eps")
    >>> predict(np.array([[4.0]]), 0.5).value
    array([[2.]])
    """

    process: Any
    network: Callable[..., Array]
    kind: Kind = "eps"
    condition: Any = None
    guidance: Any = None
    memory: Any = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a prediction of {', '.join(KINDS)}, not {self.kind!r}")

    def __call__(self, x: Array, t: Time) -> Prediction:
        """Return the guided prediction."""
        if self.guidance is not None:
            guided: Prediction = self.guidance(self, x, t)
            return guided
        if self.condition is None:
            value = self.network(x, t if type(t) is float else _time_for(x, t))
            if self.kind == "logits" or not _cpu.fits(value, x):
                self._check(value, x, t)
            return new_prediction((value, self.kind, x, t, None, None, None))
        return self.conditional(x, t, self.condition)

    def conditional(self, x: Array, t: Time, condition: Any) -> Prediction:
        """
        Ask the network alone.

        Parameters
        ----------
        x : array, shape (n, ...)
            Samples.
        t : float or ndarray, shape (n,)
            Their time.
        condition : object
            Their condition; None for none.

        Returns
        -------
        Prediction
            What it says.
        """
        return self._checked(self.network(x, _time_for(x, t), condition), x, t)

    def _checked(self, value: Array, x: Array, t: Time) -> Prediction:
        if self.kind == "logits" or not _cpu.fits(value, x):
            self._check(value, x, t)
        return new_prediction((value, self.kind, x, t, None, None, None))

    def _check(self, value: Array, x: Array, t: Time) -> None:
        """Say what is wrong with a prediction, if anything is."""
        shape = getattr(value, "shape", None)
        fits = shape is not None and (
            tuple(shape[:-1] if self.kind == "logits" else shape) == tuple(x.shape)
        )
        if not fits:
            extra = " and an axis of tokens" if self.kind == "logits" else ""
            raise PredictionError(
                f"expected a prediction of the shape {tuple(x.shape)} of the samples{extra}, "
                f"not {type(value).__name__} of shape {shape}"
            )
        if self.kind != "logits" and value.dtype != x.dtype:
            raise PredictionError(
                f"expected a prediction in the type {x.dtype} of the samples, not {value.dtype}: "
                "convert one of the two"
            )
        tokens = getattr(self.process, "vocabulary", None)
        if self.kind == "logits" and tokens not in (None, value.shape[-1]):
            raise PredictionError(f"expected logits of {tokens} tokens, not of {value.shape[-1]}")
        if _has_nan(value):
            raise PredictionError(f"the prediction holds NaN at t={t}")


def _time_for(x: Array, t: Time) -> Any:
    """Return a time as the network wants it."""
    if isinstance(t, float):
        return t
    xp = namespace(x)
    real = xp.isdtype(x.dtype, "real floating")
    return placed(t, x, None if real else xp.float32)


def _has_nan(value: Array) -> bool:
    """Return whether there is NaN in an array in main memory: elsewhere a look would wait for it."""
    here = is_numpy_array(value) or (is_torch_array(value) and value.device.type == "cpu")
    xp = namespace(value)
    if not here or not xp.isdtype(value.dtype, "real floating"):
        return False
    return bool(xp.any(xp.isnan(value)))
