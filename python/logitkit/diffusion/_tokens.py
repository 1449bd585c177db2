"""Processes of tokens: sequences of whole numbers below the size of a vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import Array, Time, as_time, namespace, placed, spread, token_type, widest
from ._documented import documented_by
from ._draws import Draws
from ._parameters import check_count
from ._predictions import Prediction
from ._process import FullProcess

Keep = Callable[[Any], Any]


def linear_keep(t: Time) -> Any:
    """
    Share of the tokens that are still those of the data: 1 - t.

    Parameters
    ----------
    t : float or ndarray, shape (n,)
        Time, from 0 to 1.

    Returns
    -------
    float or ndarray, shape (n,)
        The share.

    Examples
    --------
    >>> from logitkit.diffusion import linear_keep
    >>> linear_keep(0.25)
    0.75
    """
    return 1.0 - t


def check_vocabulary(size: int, least: int = 1) -> None:
    """Say so if there are too few tokens."""
    try:
        check_count("size", size, least)
    except ValueError:
        raise ValueError(
            f"expected a vocabulary of at least {least} tokens, not {size!r}"
        ) from None


def draw_tokens(logits: Array, draws: Draws, like: Array) -> Array:
    """Draw a token of each place, in the type of `like`: the largest of logits + Gumbel noise."""
    xp = namespace(logits)
    noise = draws.gumbel(logits.shape[1:], logits)
    return xp.astype(xp.argmax(logits + noise, axis=-1), like.dtype)


def probabilities(logits: Array) -> Array:
    """Return the softmax of logits, of which some but not all of a place may be -inf."""
    xp = namespace(logits)
    weights = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return weights / xp.sum(weights, axis=-1, keepdims=True)


def one_hot(x: Array, size: int, like: Array) -> Array:
    """Return 1 at each token and 0 beside it, in the type of `like`."""
    xp = namespace(x)
    return xp.astype(placed(np.arange(size), x, x.dtype) == x[..., None], like.dtype)


def uniform_for(draws: Draws, x: Array, *extra: int) -> Array:
    """Draw uniform numbers for tokens, as float64."""
    like = placed(np.empty(0), x, widest(x, float))
    return draws.uniform((*x.shape[1:], *extra), like)


class _Tokens:
    """What the processes of tokens have in common."""

    vocabulary: int

    def restore(self, prediction: Prediction, draws: Draws) -> Array:
        if prediction.kind == "x0":
            return prediction.value
        if prediction.kind != "logits":
            raise ValueError(f"expected a prediction of 'logits' or 'x0', not {prediction.kind!r}")
        logits = prediction.value
        if logits.shape[-1] != self.vocabulary:
            raise ValueError(
                f"expected logits of {self.vocabulary} tokens, not of {logits.shape[-1]}"
            )
        return draw_tokens(logits, draws, prediction.x)

    restore.__doc__ = FullProcess.restore.__doc__

    def _picked(self, u: Array, x: Array) -> Array:
        """Return any token, from a uniform number."""
        xp = namespace(x)
        token = xp.astype(xp.floor(u * self.vocabulary), x.dtype)
        return xp.where(token < self.vocabulary, token, xp.full_like(token, self.vocabulary - 1))


@documented_by(FullProcess)
@dataclass(frozen=True)
class MaskTokens(_Tokens):
    r"""
    Mask tokens, each at a random time: the absorbing process.

    .. math:: P(x_t = x_0) = \alpha(t), \qquad P(x_t = \text{mask}) = 1 - \alpha(t)

    Parameters
    ----------
    vocabulary : int
        Number `V` of tokens. The mask is token `V`.
    keep : callable, (t) -> float or ndarray, default linear_keep
        The share alpha of tokens not masked, falling from 1 at t = 0 to 0 at t = 1.

    See Also
    --------
    Unmask : Orders in which to unmask.
    Bridge : Unmasks each token at random, which is exact.

    References
    ----------
    .. [1] S. Sahoo et al., "Simple and effective masked diffusion language models",
       NeurIPS 2024, arXiv:2406.07524.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import MaskTokens
    >>> MaskTokens(3).forward(np.array([[0, 1, 2]]), np.array([[0.1, 0.6, 0.9]]), 0.5)
    array([[3, 1, 2]])
    """

    vocabulary: int
    keep: Keep = linear_keep
    span = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_vocabulary(self.vocabulary)

    @property
    def mask(self) -> int:
        """The token that hides others."""
        return self.vocabulary

    def unmask(self, t: Time, s: Time) -> Any:
        """
        Probability that a token masked at one time is not at an earlier one.

        Parameters
        ----------
        t, s : float or ndarray, shape (n,)
            Times, of which `t` has more masks.

        Returns
        -------
        float or ndarray, shape (n,)
            (alpha(s) - alpha(t)) / (1 - alpha(t)).
        """
        before, after = self.keep(t), self.keep(s)
        return (after - before) / (1.0 - before)

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        xp = namespace(x0)
        masked = eps < 1.0 - spread(as_time(self.keep(t)), eps)
        return xp.where(masked, xp.full_like(x0, self.mask), x0)

    def noise(self, draws: Draws, like: Array) -> Array:
        return uniform_for(draws, like)

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Array:
        u = self.noise(draws, x)
        gone = 1.0 - spread(as_time(self.keep(t)), u)
        return namespace(x).where(x == self.mask, u * gone, gone + u * (1.0 - gone))

    def bridge(self, x: Array, x0: Array, t: Time, s: Time, draws: Draws) -> Array:
        u = uniform_for(draws, x)
        shown = (x == self.mask) & (u < spread(as_time(self.unmask(t, s)), u))
        return namespace(x).where(shown, x0, x)

    def transition(self, x: Array, s: Time, t: Time, draws: Draws) -> Array:
        u = uniform_for(draws, x)
        kept = spread(as_time(self.keep(t) / self.keep(s)), u)
        return namespace(x).where(u < kept, x, namespace(x).full_like(x, self.mask))

    def log_prob(self, x: Array, x0: Array, t: Time) -> Array:
        xp, zero = namespace(x), zeros_for(x)
        alpha = zero + spread(as_time(self.keep(t)), zero)
        p = xp.where(x == self.mask, 1.0 - alpha, xp.where(x == x0, alpha, zero))
        with np.errstate(divide="ignore"):
            return xp.sum(xp.log(p), axis=tuple(range(1, x.ndim)))

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        if np.any(self.keep(t) > 0.0):
            raise ValueError(f"expected to begin where all tokens are masked, not at t={t}")
        full = np.full((len(draws.rows), *shape), self.mask, np.int64)
        return placed(full, like, token_type(like, 0, self.mask))

    def posterior(self, prediction: Prediction, s: Time) -> Array:
        """
        Give the probabilities of the tokens at an earlier time, from predicted logits.

        Parameters
        ----------
        prediction : Prediction
            Logits of the data.
        s : float or ndarray, shape (n,)
            The earlier time.

        Returns
        -------
        array, shape (n, ..., V + 1)
            Their probabilities; the last is that of the mask.
        """
        xp, x = namespace(prediction.value), prediction.x
        p = probabilities(prediction.value)
        shown = spread(as_time(self.unmask(prediction.t, s)), p)
        filled = xp.concat([p * shown, xp.zeros_like(p[..., :1]) + (1.0 - shown)], axis=-1)
        return xp.where((x == self.mask)[..., None], filled, one_hot(x, self.vocabulary + 1, p))


def zeros_for(x: Array) -> Array:
    """Return zeros of float64 in the shape of tokens."""
    xp = namespace(x)
    return xp.zeros_like(x, dtype=widest(x, float))


@documented_by(FullProcess)
@dataclass(frozen=True)
class UniformTokens(_Tokens):
    r"""
    Replace tokens by any others, each at random times: the uniform process of D3PM.

    .. math:: P(x_t = j) = \alpha(t) [x_0 = j] + \frac{1 - \alpha(t)}{V}

    Parameters
    ----------
    vocabulary : int
        Number `V` of tokens.
    keep : callable, (t) -> float or ndarray, default linear_keep
        The share alpha of tokens not replaced, falling from 1 at t = 0 to 0 at t = 1.

    Notes
    -----
    All laws are evaluated in O(V) for a token; no matrix of transitions is made.

    References
    ----------
    .. [1] J. Austin et al., "Structured denoising diffusion models in discrete state-spaces",
       NeurIPS 2021, arXiv:2107.03006.

    Examples
    --------
    >>> from logitkit.diffusion import UniformTokens, capabilities
    >>> capabilities(UniformTokens(3))["bridge"]
    True
    """

    vocabulary: int
    keep: Keep = linear_keep
    span = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_vocabulary(self.vocabulary)

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        alpha = spread(as_time(self.keep(t)), eps[..., 0])
        token = self._picked(eps[..., 1], x0)
        return namespace(x0).where(eps[..., 0] < alpha, x0, token)

    def noise(self, draws: Draws, like: Array) -> Array:
        return uniform_for(draws, like, 2)

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Array:
        # A token that is that of the data was kept, or replaced by the same.
        u = uniform_for(draws, x, 2)
        xp = namespace(u)
        alpha = spread(as_time(self.keep(t)), u[..., 0])
        share = alpha / (alpha + (1.0 - alpha) / self.vocabulary)
        kept = (x == x0) & (u[..., 0] < share)
        place = xp.where(kept, alpha * u[..., 1], alpha + (1.0 - alpha) * u[..., 1])
        token = (xp.astype(x, u.dtype) + 0.5) / self.vocabulary
        return xp.stack([place, token], axis=-1)

    def bridge(self, x: Array, x0: Array, t: Time, s: Time, draws: Draws) -> Array:
        # q(x_s | x_t, x_0) ~ (a [x_s = x_t] + (1 - a) / V) (b [x_s = x_0] + (1 - b) / V)
        xp, size = namespace(x), self.vocabulary
        u = uniform_for(draws, x, 2)
        b = spread(as_time(self.keep(s)), u[..., 0])
        a = spread(as_time(self.keep(t) / self.keep(s)), u[..., 0])
        same = xp.astype(x == x0, u.dtype) * (a * b)
        stay, jump = a * (1.0 - b) / size, (1.0 - a) * b / size
        anywhere = (1.0 - a) * (1.0 - b) / size
        at = u[..., 0] * (same + stay + jump + anywhere)
        token = self._picked(u[..., 1], x)
        return xp.where(at < same + stay, x, xp.where(at < same + stay + jump, x0, token))

    def transition(self, x: Array, s: Time, t: Time, draws: Draws) -> Array:
        u = uniform_for(draws, x, 2)
        kept = spread(as_time(self.keep(t) / self.keep(s)), u[..., 0])
        return namespace(x).where(u[..., 0] < kept, x, self._picked(u[..., 1], x))

    def log_prob(self, x: Array, x0: Array, t: Time) -> Array:
        xp = namespace(x)
        alpha = spread(as_time(self.keep(t)), zeros_for(x)) + zeros_for(x)
        other = (1.0 - alpha) / self.vocabulary
        with np.errstate(divide="ignore"):
            log_p = xp.log(xp.where(x == x0, alpha + other, other))
        return xp.sum(log_p, axis=tuple(range(1, x.ndim)))

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        tokens = np.minimum(draws.uniform(shape) * self.vocabulary, self.vocabulary - 1)
        return placed(tokens.astype(np.int64), like, token_type(like, 0, self.vocabulary - 1))

    def posterior(self, prediction: Prediction, s: Time) -> Array:
        """
        Give the probabilities of the tokens at an earlier time, from predicted logits.

        Parameters
        ----------
        prediction : Prediction
            Logits of the data.
        s : float or ndarray, shape (n,)
            The earlier time.

        Returns
        -------
        array, shape (n, ..., V)
            Their probabilities, mixed over all data that are predicted.
        """
        xp, size = namespace(prediction.value), self.vocabulary
        p = probabilities(prediction.value)
        here = one_hot(prediction.x, size, p)
        now, then = self.keep(prediction.t), self.keep(s)
        alpha = spread(as_time(now), p)
        a, b = spread(as_time(now / then), p), spread(as_time(then), p)
        share = p / (alpha * here + (1.0 - alpha) / size)
        mixed = b * share + (1.0 - b) / size * xp.sum(share, axis=-1, keepdims=True)
        result = (a * here + (1.0 - a) / size) * mixed
        return result / xp.sum(result, axis=-1, keepdims=True)
