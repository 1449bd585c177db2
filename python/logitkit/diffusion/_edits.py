"""Processes that edit sequences of tokens, some places at each counted time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, Time, namespace, on_host, placed, spread, token_type, widest
from ._degradations import _PredictedData
from ._documented import documented_by
from ._draws import Draws
from ._predictions import Prediction
from ._process import FullProcess
from ._tokens import _Tokens, check_vocabulary, draw_tokens, one_hot, uniform_for


def _ranks(key: Array) -> Array:
    """Return the place of each key in the order of its row, as numbers in (0, 1)."""
    xp = namespace(key)
    order = xp.argsort(xp.argsort(key, axis=-1), axis=-1)
    return (xp.astype(order, key.dtype) + 0.5) / key.shape[-1]


class _Substitution(_Tokens):
    """Replace tokens in a random order of places; the noise is that order, and new tokens."""

    length: int

    @property
    def span(self) -> tuple[float, float]:
        """The time of clean data, and that when every token is replaced."""
        return (0.0, float(self.length))

    def _new(self, x0: Array, u: Array) -> Array:
        raise NotImplementedError

    def _source(self, x: Array, x0: Array) -> Array:
        """Return a number for which `_new` is x."""
        raise NotImplementedError

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        gone = eps[..., 0] * self.length < spread(t, eps[..., 0])
        return namespace(x0).where(gone, self._new(x0, eps[..., 1]), x0)

    def noise(self, draws: Draws, like: Array) -> Array:
        u = uniform_for(draws, like, 2)
        return namespace(u).stack([_ranks(u[..., 0]), u[..., 1]], axis=-1)

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Array:
        # All places that differ are replaced, and as many others as are missing: any of them.
        u = uniform_for(draws, x, 2)
        xp = namespace(u)
        differs = xp.astype(x != x0, u.dtype)
        chosen = _ranks(u[..., 0] - differs) * self.length < spread(t, u[..., 0])
        order = _ranks(u[..., 1] - xp.astype(chosen, u.dtype))
        return xp.stack([order, self._source(x, x0)], axis=-1)


@documented_by(FullProcess)
@dataclass(frozen=True)
class RandomSubstitution(_Substitution):
    """
    Replace one more token at each time, by any token.

    Parameters
    ----------
    vocabulary : int
        Number of tokens.
    length : int
        Length of the sequences, the time when all is replaced.

    Notes
    -----
    The new token may be the old one, so that the places are not known from x_t and the data:
    `encode` draws from those that are possible.

    References
    ----------
    .. [1] J. Su, on the unified diffusion model (in Chinese), kexue.fm/archives/9271, 2022.

    Examples
    --------
    >>> from logitkit.diffusion import RandomSubstitution
    >>> RandomSubstitution(4, length=6).span
    (0.0, 6.0)
    """

    vocabulary: int
    length: int

    def __post_init__(self) -> None:
        check_vocabulary(self.vocabulary)

    def _new(self, x0: Array, u: Array) -> Array:
        return self._picked(u, x0)

    def _source(self, x: Array, x0: Array) -> Array:
        xp = namespace(x)
        return (xp.astype(x, widest(x, float)) + 0.5) / self.vocabulary

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        xp = namespace(like)
        empty = xp.zeros((len(draws.rows), *shape), dtype=token_type(like, 0, self.vocabulary - 1))
        return self._picked(uniform_for(draws, empty), empty)


@documented_by(FullProcess)
@dataclass(frozen=True)
class DifferentSubstitution(_Substitution):
    """
    Replace one more token at each time, by a different one.

    Parameters
    ----------
    vocabulary : int
        Number of tokens, at least 2.
    length : int
        Length of the sequences, the time when all is replaced.

    Notes
    -----
    The places are those where x_t and the data differ: `t` of them. `restore` sees to that:
    it changes the `t` places where the best other token gains most over that of x_t, and
    draws a token from the others there.

    References
    ----------
    .. [1] J. Su, on the unified diffusion model (in Chinese), kexue.fm/archives/9271, 2022.

    Examples
    --------
    >>> from logitkit.diffusion import DifferentSubstitution
    >>> DifferentSubstitution(4, length=6).span
    (0.0, 6.0)
    """

    vocabulary: int
    length: int

    def __post_init__(self) -> None:
        check_vocabulary(self.vocabulary, 2)

    def _new(self, x0: Array, u: Array) -> Array:
        xp, others = namespace(x0), self.vocabulary - 1
        shift = xp.astype(xp.floor(u * others), x0.dtype)
        shift = xp.where(shift < others, shift, xp.full_like(shift, others - 1))
        return (x0 + 1 + shift) % self.vocabulary

    def _source(self, x: Array, x0: Array) -> Array:
        xp = namespace(x)
        shift = (x - x0 - 1) % self.vocabulary
        return (xp.astype(shift, widest(shift, float)) + 0.5) / (self.vocabulary - 1)

    def restore(self, prediction: Prediction, draws: Draws) -> Array:
        if prediction.kind != "logits":
            return super().restore(prediction, draws)
        logits, x = prediction.value, prediction.x
        xp = namespace(logits)
        here = one_hot(x, self.vocabulary, logits) > 0.5
        others = xp.where(here, xp.full_like(logits, -xp.inf), logits)
        stay = xp.max(xp.where(here, logits, xp.full_like(logits, -xp.inf)), axis=-1)
        best = xp.max(others, axis=-1)
        # -inf - -inf, where the prediction leaves out all tokens but one, must not be NaN
        gain = xp.where(best == -xp.inf, best, best - stay)
        changed = _ranks(-gain) * self.length < spread(prediction.t, gain)
        return xp.where(changed, draw_tokens(others, draws, x), x)

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        raise ValueError(
            "when every token is replaced by a different one, samples still depend on the data: "
            "pass `initial`"
        )


@documented_by(FullProcess)
@dataclass(frozen=True)
class Deletion(_PredictedData):
    """
    Delete one more token at each time: sequences of any length end empty.

    Parameters
    ----------
    length : int
        Length of the longest sequences. Shorter ones are filled up at their end.
    fill : int, default -1
        What stands after the end of a sequence.

    Notes
    -----
    The noise is an order of the places. Given x_t and the data, `encode` draws from all orders
    that lead there: it counts the ways in which x_t is a part of the data. Where a network
    predicts data of which x_t is no part, any order is drawn. It counts in NumPy: what lies on
    another device is copied for it.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Deletion
    >>> order = np.array([[0.7, 0.1, 0.4]])
    >>> Deletion(3).forward(np.array([[5, 6, 7]]), order, 1.0)
    array([[ 5,  7, -1]])
    """

    length: int
    fill: int = -1

    @property
    def span(self) -> tuple[float, float]:
        """The time of clean data, and that when nothing is left."""
        return (0.0, float(self.length))

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        xp = namespace(x0)
        present = x0 != self.fill
        last = xp.where(present, eps, xp.full_like(eps, 2.0))
        order = xp.astype(xp.argsort(xp.argsort(last, axis=-1), axis=-1), eps.dtype)
        kept = present & (order >= spread(t, eps))
        to = xp.argsort(xp.astype(~kept, xp.int8), axis=-1, stable=True)
        return xp.take_along_axis(xp.where(kept, x0, xp.full_like(x0, self.fill)), to, axis=-1)

    def noise(self, draws: Draws, like: Array) -> Array:
        return uniform_for(draws, like)

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Array:
        u = draws.uniform((*x.shape[1:], 2))
        pairs = zip(on_host(x), on_host(x0), u[..., 0], strict=True)
        kept = np.stack([self._part(*rows) for rows in pairs])  # row by row
        # deleted places come before kept ones, in any order
        order = np.where(kept, 0.5, 0.0) + 0.5 * u[..., 1]
        return placed(order, x, widest(x, float))

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        empty = np.full((len(draws.rows), *shape), self.fill, np.int64)
        return placed(empty, like, token_type(like, self.fill, self.fill))

    def _part(self, x: NDArray[Any], x0: NDArray[Any], u: NDArray[Any]) -> NDArray[np.bool_]:
        """Draw one of the ways in which x is a part of x0: which places of x0 are kept."""
        part, whole = x[x != self.fill], x0[x0 != self.fill]
        m, n = len(part), len(whole)
        # ways[i, j]: in how many ways part[j:] is in whole[i:]
        ways = np.zeros((n + 1, m + 1))
        ways[:, m] = 1.0
        for i in range(n - 1, -1, -1):
            ways[i, :m] = ways[i + 1, :m] + (whole[i] == part) * ways[i + 1, 1:]
            ways /= max(1.0, ways[i].max())  # shares are all that counts
        kept, j = np.zeros(len(x0), bool), 0
        if ways[0, 0] == 0.0:
            kept[np.argsort(u[:n])[: min(m, n)]] = True
            return kept
        for i in range(n):
            here = ways[i + 1, j + 1] if j < m and whole[i] == part[j] else 0.0
            if here and u[i] * (here + ways[i + 1, j]) < here:
                kept[i], j = True, j + 1
        return kept
