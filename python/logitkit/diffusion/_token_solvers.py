"""Solvers that draw x_s given x_t: by the bridge of a process, or token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._arrays import Array, Time, as_time, namespace, placed, spread
from ._draws import Draws
from ._solver import Predict, Rng, Solver, State
from ._tokens import draw_tokens, probabilities, uniform_for


@dataclass(frozen=True)
class Bridge(Solver):
    r"""
    Ancestral sampling of any process: draw the data, then x_s given x_t and the data.

    .. math:: \hat x_0 \sim p(x_0 \mid x_t), \qquad x_s \sim q(x_s \mid x_t, \hat x_0)

    See Also
    --------
    TokenPosterior : The same law for tokens, without drawing the data.
    UDM : For a process of which only `forward` is known.

    Notes
    -----
    Exact for any number of steps where the data are drawn from their law given all of x_t.
    A network that predicts each token by itself needs as many steps as there are tokens.

    References
    ----------
    .. [1] J. Austin et al., "Structured denoising diffusion models in discrete state-spaces",
       NeurIPS 2021, arXiv:2107.03006.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Bridge, MaskTokens, sample
    >>> logits = np.array([-np.inf, 0.0, -np.inf])
    >>> sample(MaskTokens(3), lambda x, t: np.broadcast_to(logits, (*x.shape, 3)),
    ...        solver=Bridge(), times=[1.0, 0.5, 0.0], shape=(1, 4), prediction="logits")
    array([[1, 1, 1, 1]])
    """

    needs = ("bridge", "restore")

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return False

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        draws = state.draws(rng)
        prediction = predict(state.x, t)
        x0 = process.restore(prediction, draws)
        return process.bridge(prediction.x, x0, t, s, draws), ()


@dataclass(frozen=True)
class TokenPosterior(Solver):
    r"""
    Draw each token from its law given x_t, mixed over the data that are predicted.

    .. math:: p(x_s \mid x_t) = \sum_{x_0} q(x_s \mid x_t, x_0) \, p(x_0 \mid x_t)

    See Also
    --------
    Bridge : The same law, by drawing the data first.

    Notes
    -----
    A guidance that shifts a random step, such as that of a classifier, adds to the logarithm
    of these probabilities.

    References
    ----------
    .. [1] J. Austin et al., "Structured denoising diffusion models in discrete state-spaces",
       NeurIPS 2021, arXiv:2107.03006. Equation 4.

    Examples
    --------
    >>> from logitkit.diffusion import TokenPosterior, UniformTokens, illegality
    >>> illegality(TokenPosterior(), UniformTokens(3))
    ''
    """

    needs = ("posterior",)
    honours_shift = True

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return False

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        draws = state.draws(rng)
        prediction = predict(state.x, t)
        p = process.posterior(prediction, s)
        with np.errstate(divide="ignore"):
            logits = namespace(p).log(p)
        if prediction.shift is not None:
            logits = logits + prediction.shift(1.0, prediction.x)
        return draw_tokens(logits, draws, prediction.x), ()


@dataclass(frozen=True)
class Unmask(Solver):
    r"""
    Unmask tokens in an order, and mask some again.

    Parameters
    ----------
    order : {"random", "confidence"}, default "random"
        Whether each masked token is unmasked at random, which is exact for a network that
        predicts the law of a token given the others; or those that the network is surest of.
    remask : float, default 0.0
        Probability of masking a token again, as far as the law of the masks allows it, so
        that errors can be undone. With ``order="random"`` only.
    temperature : float, default 1.0
        What the logits are divided by before tokens are drawn; 0 takes the likeliest.

    See Also
    --------
    Bridge : ``Unmask("random")`` without extras.

    Notes
    -----
    By confidence, a sequence of `L` tokens has ``floor(L (1 - alpha(s)))`` masks at `s`, and
    samples are more typical than the data. Masking again leaves the law of x_s as it is: a
    shown token is masked with probability r and a masked one is shown with probability
    (alpha_s - (1 - r) alpha_t) / (1 - alpha_t).

    References
    ----------
    .. [1] H. Chang et al., "MaskGIT", CVPR 2022, arXiv:2202.04200.
    .. [2] G. Wang et al., "Remasking discrete diffusion models with inference-time scaling",
       2025, arXiv:2503.00307.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import MaskTokens, Unmask, sample
    >>> logits = np.log([[0.9, 0.1], [0.6, 0.4]])
    >>> sample(MaskTokens(2), lambda x, t: np.broadcast_to(logits, (*x.shape, 2)),
    ...        solver=Unmask("confidence", temperature=0.0), times=[1.0, 0.5, 0.0],
    ...        shape=(1, 2), prediction="logits")
    array([[0, 0]])
    """

    order: Literal["random", "confidence"] = "random"
    remask: float = 0.0
    temperature: float = 1.0
    needs = ("unmask", "restore")

    def __post_init__(self) -> None:
        if self.order not in ("random", "confidence"):
            raise ValueError(f"expected order 'random' or 'confidence', not {self.order!r}")
        if not 0.0 <= self.remask <= 1.0 or (self.remask and self.order == "confidence"):
            raise ValueError(
                f"expected a probability to mask again, and 0 by confidence, not {self.remask}"
            )
        if not self.temperature >= 0.0:
            raise ValueError(f"expected a temperature from 0, not {self.temperature}")

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return False

    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        draws = state.draws(rng)
        prediction = predict(state.x, t)
        if prediction.kind != "logits":
            raise ValueError(f"expected a prediction of 'logits', not {prediction.kind!r}")
        x, logits = prediction.x, prediction.value
        xp = namespace(logits)
        if self.temperature == 0.0:
            x0 = xp.astype(xp.argmax(logits, axis=-1), x.dtype)
        else:
            x0 = draw_tokens(logits / self.temperature, draws, x)
        masked = x == process.mask
        if self.order == "random":
            return self._at_random(x, x0, masked, t, s, process, draws), ()
        p = probabilities(logits)
        index = placed(np.arange(p.shape[-1]), x, x.dtype)
        confidence = xp.sum(xp.where(index == x0[..., None], p, 0.0 * p), axis=-1)
        confidence = xp.where(masked, confidence, xp.full_like(confidence, 2.0))
        order = xp.argsort(xp.argsort(confidence, axis=-1), axis=-1)
        left = np.floor(x.shape[-1] * (1.0 - np.asarray(process.keep(s))) + 1e-9)
        hidden = masked & (xp.astype(order, confidence.dtype) < spread(as_time(left), confidence))
        return xp.where(masked & ~hidden, x0, x), ()

    def _at_random(
        self, x: Array, x0: Array, masked: Array, t: Time, s: Time, process: Any, draws: Draws
    ) -> Array:
        """Show each masked token, and mask each shown one, with its probability."""
        before, after = np.asarray(process.keep(t)), np.asarray(process.keep(s))
        with np.errstate(divide="ignore", invalid="ignore"):  # at first nothing is shown
            most = np.where(before == 0.0, 0.0, np.minimum(1.0, (1.0 - after) / before))
        again = np.minimum(self.remask, most)
        show = (after - (1.0 - again) * before) / (1.0 - before)
        u = uniform_for(draws, x)
        xp = namespace(x)
        shown = xp.where(u < spread(as_time(show), u), x0, x)
        hidden = xp.where(u < spread(as_time(again), u), xp.full_like(x, process.mask), x)
        return xp.where(masked, shown, hidden)
