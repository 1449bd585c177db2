"""Tokens replaced by the transitions of any matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import Array, Time
from ._documented import documented_by
from ._draws import Draws
from ._predictions import Prediction
from ._process import FullProcess
from ._tokens import _Tokens, probabilities


@documented_by(FullProcess)
@dataclass(frozen=True, eq=False)
class TransitionTokens(_Tokens):
    r"""
    Replace tokens by the transitions of any matrices: the general process of D3PM.

    Parameters
    ----------
    matrices : array_like, shape (T, V, V)
        Probabilities of the tokens after each step, in the row of the token before.

    Notes
    -----
    The time is counted, from 0 to T. For NumPy arrays.

    References
    ----------
    .. [1] J. Austin et al., "Structured denoising diffusion models in discrete state-spaces",
       NeurIPS 2021, arXiv:2107.03006.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import TransitionTokens
    >>> process = TransitionTokens(np.full((4, 2, 2), 0.5))
    >>> process.span
    (0.0, 4.0)
    """

    matrices: ArrayLike

    def __post_init__(self) -> None:
        steps = np.array(self.matrices, np.float64)
        square = steps.ndim == 3 and steps.shape[1] == steps.shape[2] and steps.shape[0] > 0
        if not square or (steps < 0.0).any() or np.abs(steps.sum(-1) - 1.0).max() > 1e-9:
            raise ValueError(
                "expected matrices of shape (T, V, V) with rows of probabilities that sum to 1, "
                f"not of shape {steps.shape}"
            )
        object.__setattr__(self, "matrices", steps)

    @property
    def vocabulary(self) -> int:  # type: ignore[override]
        """Number of tokens."""
        return int(np.asarray(self.matrices).shape[-1])

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last time."""
        return (0.0, float(len(np.asarray(self.matrices))))

    def _between(self, s: Time, t: Time) -> NDArray[np.float64]:
        """Return Q from time s to a later time t."""
        if not (isinstance(s, float) and isinstance(t, float) and s == int(s) and t == int(t)):
            raise ValueError(f"expected one whole time for all samples, not {s} and {t}")
        result = np.eye(self.vocabulary)
        for step in np.asarray(self.matrices)[int(s) : int(t)]:
            result = result @ step
        return result

    @staticmethod
    def _drawn(rows: NDArray[np.float64], u: NDArray[np.float64], like: Any) -> Any:
        total = np.cumsum(rows, axis=-1)
        token = np.sum(u[..., None] * total[..., -1:] >= total, axis=-1)
        return np.minimum(token, rows.shape[-1] - 1).astype(like.dtype)

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        return self._drawn(self._between(0.0, t)[x0], eps, x0)

    def noise(self, draws: Draws, like: Array) -> Array:
        return draws.uniform(like.shape[1:])

    def bridge(self, x: Array, x0: Array, t: Time, s: Time, draws: Draws) -> Array:
        # q(x_s | x_t, x_0) ~ Q_{t|s}[:, x_t] * Q_s[x_0, :]
        law = self._between(s, t).T[x] * self._between(0.0, s)[x0]
        return self._drawn(law, draws.uniform(x.shape[1:]), x)

    def transition(self, x: Array, s: Time, t: Time, draws: Draws) -> Array:
        return self._drawn(self._between(s, t)[x], draws.uniform(x.shape[1:]), x)

    def log_prob(self, x: Array, x0: Array, t: Time) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self._between(0.0, t)[x0, x]).sum(axis=tuple(range(1, x.ndim)))

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        law = self._between(0.0, t)
        if np.ptp(law, axis=0).max() > 1e-3:
            raise ValueError(f"at t={t} tokens still depend on the data: pass `initial`")
        u = draws.uniform(shape)
        return self._drawn(np.broadcast_to(law.mean(0), (*u.shape, len(law))), u, np.int64(0))

    def posterior(self, prediction: Prediction, s: Time) -> Array:
        """
        Give the probabilities of the tokens at an earlier time, from predicted logits.

        Parameters
        ----------
        prediction : Prediction
            Logits of the data.
        s : float
            The earlier time.

        Returns
        -------
        array, shape (n, ..., V)
            Their probabilities, mixed over all data that are predicted.
        """
        p, x = probabilities(prediction.value), prediction.x
        reach = self._between(0.0, prediction.t).T[x]  # q(x_t | x_0), for each x_0
        share = np.divide(p, reach, out=np.zeros_like(p), where=reach > 0.0)
        result = self._between(s, prediction.t).T[x] * (share @ self._between(0.0, s))
        return result / result.sum(axis=-1, keepdims=True)
