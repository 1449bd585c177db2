"""Tokens replaced by the transitions of any matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import Array, Time, namespace, over_samples, placed, token_type, widest
from ._documented import documented_by
from ._draws import Draws
from ._predictions import Prediction
from ._process import FullProcess
from ._tokens import _Tokens, one_hot, probabilities, uniform_for, zeros_for


@documented_by(FullProcess)
@dataclass(frozen=True, eq=False)
class TransitionTokens(_Tokens):
    r"""
    Replace tokens by the transitions of any matrices: the general process of D3PM.

    Parameters
    ----------
    matrices : array_like, shape (T, V, V)
        Probabilities of the tokens after each step, in the row of the token before.

    Raises
    ------
    ValueError
        If a row does not hold probabilities whose sum is 1 to within rounding.

    Notes
    -----
    The time is counted, from 0 to T. Laws are products of the matrices, in ``float64``, with rows
    that were scaled to sum 1.

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
        given = np.asarray(self.matrices)
        steps = given.astype(np.float64)
        if steps.ndim != 3 or steps.shape[1] != steps.shape[2] or not steps.size:
            raise ValueError(f"expected matrices of shape (T, V, V), not {steps.shape}")
        unit = float(np.finfo(given.dtype).eps) if given.dtype.kind == "f" else 0.0
        total = steps.sum(-1)
        right = (steps >= 0.0).all(-1) & (np.abs(total - 1.0) <= max(1e-9, steps.shape[1] * unit))
        if not right.all():
            step, row = np.argwhere(~right)[0].tolist()
            raise ValueError(
                f"expected rows of probabilities that sum to 1, not matrices[{step}, {row}] with "
                f"the sum {total[step, row]} and the least entry {steps[step, row].min()}"
            )
        object.__setattr__(self, "matrices", steps / total[..., None])

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

    def _law(self, s: Time, t: Time, like: Array) -> Array:
        """Return Q from time s to a later time t, as an array of the library of `like`."""
        return placed(self._between(s, t), like, widest(like, float))

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        return _drawn(_rows(self._law(0.0, t, x0), x0), eps, x0)

    def noise(self, draws: Draws, like: Array) -> Array:
        return uniform_for(draws, like)

    def bridge(self, x: Array, x0: Array, t: Time, s: Time, draws: Draws) -> Array:
        # q(x_s | x_t, x_0) ~ Q_{t|s}[:, x_t] * Q_s[x_0, :]
        law = _rows(self._law(s, t, x).T, x) * _rows(self._law(0.0, s, x), x0)
        return _drawn(law, uniform_for(draws, x), x)

    def transition(self, x: Array, s: Time, t: Time, draws: Draws) -> Array:
        return _drawn(_rows(self._law(s, t, x), x), uniform_for(draws, x), x)

    def log_prob(self, x: Array, x0: Array, t: Time) -> Array:
        xp = namespace(x)
        p = _rows(self._law(0.0, t, x), x0) * one_hot(x, self.vocabulary, zeros_for(x))
        with np.errstate(divide="ignore"):
            return xp.sum(xp.log(xp.sum(p, axis=-1)), axis=over_samples(x))

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        law = self._between(0.0, t)
        if np.ptp(law, axis=0).max() > 1e-3:
            raise ValueError(f"at t={t} tokens still depend on the data: pass `initial`")
        total, u = np.cumsum(law.mean(0)), draws.uniform(shape)
        token = np.minimum(np.searchsorted(total / total[-1], u, side="right"), len(law) - 1)
        return placed(token.astype(np.int64), like, token_type(like, 0, len(law) - 1))

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
        xp, x = namespace(prediction.value), prediction.x
        p = xp.astype(probabilities(prediction.value), widest(x, float))
        reach = _rows(self._law(0.0, prediction.t, x).T, x)  # q(x_t | x_0), for each x_0
        zero = xp.zeros_like(p)
        share = xp.where(reach > 0.0, p / xp.where(reach > 0.0, reach, zero + 1.0), zero)
        result = _rows(self._law(s, prediction.t, x).T, x) * (share @ self._law(0.0, s, x))
        result = result / xp.sum(result, axis=-1, keepdims=True)
        return xp.astype(result, prediction.value.dtype)


def _rows(matrix: Array, tokens: Array) -> Array:
    """Return the row of each token, along a last axis of its own."""
    xp = namespace(matrix)
    rows = xp.take(matrix, xp.reshape(tokens, (-1,)), axis=0)
    return xp.reshape(rows, (*tokens.shape, matrix.shape[-1]))


def _drawn(law: Array, u: Array, like: Array) -> Array:
    """Draw a token from each law, whose values need no sum of 1, by a uniform number."""
    xp = namespace(law)
    total = xp.cumulative_sum(law, axis=-1)
    passed = xp.astype(u[..., None] * total[..., -1:] >= total, like.dtype)
    token = xp.sum(passed, axis=-1, dtype=like.dtype)
    return xp.where(token < law.shape[-1], token, xp.full_like(token, law.shape[-1] - 1))
