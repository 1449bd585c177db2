"""Training: pairs of what a network sees and what it should say, and losses of the difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..random import Philox
from ._arrays import Array, Time, as_time, check_array, namespace, over_samples, placed, spread
from ._draws import Draws
from ._gaussian import Gaussian
from ._parameters import check_process
from ._predictions import Kind, coefficients
from ._schedules import Schedule, plain
from ._update import update


class TrainingPair(NamedTuple):
    """
    What a network sees, and what it should say.

    Parameters
    ----------
    x : array, shape (n, ...)
        Samples at `t`.
    t : float or ndarray, shape (n,)
        Their time.
    target : array, shape (n, ...)
        What the network should predict.
    condition : object
        The condition of each sample, None where there is none.
    dropped : ndarray of bool, shape (n,)
        Of which samples the condition is to be left out.

    See Also
    --------
    training_pair : Makes it.

    Examples
    --------
    >>> from logitkit.diffusion import TrainingPair
    >>> TrainingPair._fields
    ('x', 't', 'target', 'condition', 'dropped')
    """

    x: Array
    t: Time
    target: Array
    condition: Any
    dropped: NDArray[np.bool_]


def training_pair(
    process: Any,
    x0: Array,
    t: Any,
    *,
    prediction: Kind = "eps",
    rng: int | Philox = 0,
    step: int = 0,
    first: int = 0,
    condition: Any = None,
    no_condition: Any = None,
    p_uncond: float = 0.1,
) -> TrainingPair:
    """
    Degrade data, for a network to learn from.

    Parameters
    ----------
    process : Process
        The forward process.
    x0 : array, shape (n, ...)
        Data.
    t : float or array_like, shape (n,)
        Time.
    prediction : {"eps", "x0", "v", "score", "flow"}, default "eps"
        What the network shall predict. For a process other than of Gaussian noise it is the
        data, whatever is asked for; tokens of the data are the target for logits.
    rng : int or logitkit.random.Philox, default 0
        Seed, or generator.
    step : int, default 0
        Number of the step of the training: each draws noise of its own.
    first : int, default 0
        Number of the first sample.
    condition : array, shape (n, ...), or sequence of n objects, optional
        The condition of each sample.
    no_condition : object, optional
        What stands for no condition in such an array, such as an extra class. Without it the
        condition is returned as it is, and `dropped` says which to leave out.
    p_uncond : float, default 0.1
        Probability of leaving a condition out, for classifier-free guidance.

    Returns
    -------
    TrainingPair
        What the network sees, and what it should say.

    Raises
    ------
    ValueError
        If `p_uncond` is not a probability, or the target is infinite at one of the times.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, StraightPath, training_pair
    >>> pair = training_pair(Gaussian(StraightPath()), np.zeros((2, 3)), 0.5)
    >>> bool((pair.x == 0.5 * pair.target).all())
    True
    """
    if not 0.0 <= p_uncond <= 1.0:
        raise ValueError(f"expected a probability p_uncond from 0 to 1, not {p_uncond}")
    check_process(process, "noise", "forward")
    check_array("x0", x0)
    t = as_time(t)
    if not ((process.span[0] <= np.asarray(t)) & (np.asarray(t) <= process.span[1])).all():
        raise ValueError(f"expected times in the span {process.span} of the process, not {t}")
    draws = Draws(rng, step, np.arange(first, first + x0.shape[0]))
    eps = process.noise(draws, x0)
    x = process.forward(x0, eps, t)
    target = x0
    if isinstance(process, Gaussian):
        c0, c1 = coefficients(prediction, process.schedule, t)
        if not (np.isfinite(c0).all() and np.isfinite(c1).all()):
            raise ValueError(f"the target of a prediction of {prediction!r} is infinite at t={t}")
        target = update(c0, x0, c1, eps)
    dropped = np.zeros(x0.shape[0], bool)
    if condition is not None:
        dropped = draws.uniform(()) < p_uncond
    if condition is not None and no_condition is not None:
        xp = namespace(condition)
        where = np.reshape(dropped, (-1,) + (1,) * (condition.ndim - 1))
        none = xp.full_like(condition, no_condition)
        condition = xp.where(placed(where, condition, xp.bool), none, condition)
    return TrainingPair(x, t, target, condition, dropped)


@dataclass(frozen=True)
class Weighting:
    r"""
    Weights of the times in a loss, for a network that predicts some kind.

    Parameters
    ----------
    name : {"one", "snr", "min_snr", "v"}, default "one"
        Weight of the error of the data: ``"snr"`` is :math:`\alpha^2 / \sigma^2`, which is 1
        for the error of the noise; ``"min_snr"`` is that up to `most`; ``"v"`` is SNR + 1,
        which is 1 for the error of v (in the variance-preserving processes); ``"one"`` is a
        weight of 1 for whatever the network predicts.
    most : float, default 5.0
        The limit gamma of ``"min_snr"``.

    References
    ----------
    .. [1] T. Hang et al., "Efficient diffusion training via Min-SNR weighting strategy",
       ICCV 2023, arXiv:2303.09556.

    Examples
    --------
    >>> from logitkit.diffusion import StraightPath, Weighting
    >>> round(Weighting("min_snr")(StraightPath(), "x0", 0.1), 12)
    5.0
    >>> Weighting("snr")(StraightPath(), "eps", 0.25)
    1.0
    """

    name: Literal["one", "snr", "min_snr", "v"] = "one"
    most: float = 5.0

    def __post_init__(self) -> None:
        if self.name not in ("one", "snr", "min_snr", "v"):
            raise ValueError(
                f"expected a weighting 'one', 'snr', 'min_snr' or 'v', not {self.name!r}"
            )

    def __call__(self, schedule: Schedule, kind: Kind, t: Time) -> Any:
        """Return the weight of the squared error of a kind of prediction."""
        if self.name == "one":
            return plain(np.ones(np.shape(t)))
        alpha, sigma = np.asarray(schedule.alpha(t)), np.asarray(schedule.sigma(t))
        c0, c1 = coefficients(kind, schedule, t)
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = (alpha / sigma) ** 2
            weight = {"snr": snr, "min_snr": np.minimum(snr, self.most), "v": snr + 1.0}[self.name]
            # an error e of the data is one of (alpha c_1 - sigma c_0) / sigma e of the prediction
            gain = (alpha * c1 - sigma * c0) / sigma
            return plain(weight / gain**2)


def diffusion_loss(
    process: Gaussian,
    predicted: Array,
    pair: TrainingPair,
    *,
    kind: Kind = "eps",
    weighting: Weighting | None = None,
) -> Array:
    r"""
    Weighted squared error of a prediction, for each sample.

    .. math:: \frac{w(t)}{d} \|\hat y - y\|^2

    Parameters
    ----------
    process : Gaussian
        The process.
    predicted : array, shape (n, ...)
        What the network says.
    pair : TrainingPair
        What it should say.
    kind : {"eps", "x0", "v", "score", "flow"}, default "eps"
        What that is.
    weighting : Weighting, optional
        Weights of the times. Default: 1.

    Returns
    -------
    array, shape (n,)
        The loss of each sample: the mean over its `d` values.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, StraightPath, diffusion_loss, training_pair
    >>> process = Gaussian(StraightPath())
    >>> pair = training_pair(process, np.zeros((2, 3)), 0.5)
    >>> diffusion_loss(process, pair.target + 2.0, pair).round(12)
    array([4., 4.])
    """
    xp = namespace(predicted)
    error = predicted - pair.target
    mean = xp.mean(error * error, axis=over_samples(error))
    weight = (weighting or Weighting())(process.schedule, kind, pair.t)
    return spread(weight, mean) * mean


def token_loss(
    process: Any, logits: Array, pair: TrainingPair, *, weight: Callable[[Time], Any] | None = None
) -> Array:
    r"""
    Cross entropy of predicted tokens, for each sequence; of those masked, where some are.

    .. math:: -w(t) \sum_{i: x_{t,i} \text{ masked}} \log p(x_{0,i} \mid x_t)

    Parameters
    ----------
    process : Process
        The process, of tokens.
    logits : array, shape (n, ..., V)
        What the network says.
    pair : TrainingPair
        What it should say.
    weight : callable, (t) -> float or ndarray, optional
        Weights of the times. Default: 1. With 1 / t, that is -alpha' / (1 - alpha) for
        `linear_keep`, the loss is a bound of the negative log-likelihood of the data.

    Returns
    -------
    array, shape (n,)
        The loss of each sequence, in nats.

    References
    ----------
    .. [1] S. Sahoo et al., "Simple and effective masked diffusion language models",
       NeurIPS 2024, arXiv:2406.07524.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import MaskTokens, token_loss, training_pair
    >>> process = MaskTokens(4)
    >>> pair = training_pair(process, np.array([[2, 1]]), 1.0)
    >>> token_loss(process, np.zeros((1, 2, 4)), pair).round(4)
    array([2.7726])
    """
    xp = namespace(logits)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    index = placed(np.arange(logits.shape[-1]), pair.target, pair.target.dtype)
    right = index == pair.target[..., None]
    loss = -xp.sum(xp.where(right, log_p, xp.zeros_like(log_p)), axis=-1)
    mask = getattr(process, "mask", None)
    if mask is not None:
        loss = xp.where(pair.x == mask, loss, xp.zeros_like(loss))
    total = xp.sum(loss, axis=over_samples(loss))
    return total if weight is None else spread(as_time(weight(pair.t)), total) * total


@dataclass(frozen=True, eq=False)
class Encoded:
    r"""
    A process of encoded data, where the encoder is learnt along with the network.

    .. math:: x_t = \alpha(t) F_\varphi(x_0) + \sigma(t) \varepsilon

    Parameters
    ----------
    encoder : callable, (x0) -> array, shape (n, ...)
        The encoder F.
    inner : Gaussian
        The process of the codes.

    Notes
    -----
    The network learns -log q(x_0 | x_t), the data themselves from x_t; sampling goes through
    the codes, by `inner` and `predictor`, and ends with data drawn from q(x_0 | x_1).

    References
    ----------
    .. [1] J. Su, on the unified diffusion model, application (in Chinese),
       kexue.fm/archives/9271, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Encoded, Gaussian, StraightPath
    >>> codes = np.array([[1.0, 0.0], [0.0, 1.0]])  # of two tokens
    >>> process = Encoded(lambda x0: codes[x0], Gaussian(StraightPath()))
    >>> process.forward(np.array([1]), np.zeros((1, 2)), 0.5)
    array([[0. , 0.5]])
    """

    encoder: Callable[[Array], Array]
    inner: Gaussian

    @property
    def span(self) -> tuple[float, float]:
        """The times of clean codes and of the most noise."""
        return self.inner.span

    def noise(self, draws: Draws, like: Array) -> Array:
        """
        Draw the noise of `forward`.

        Parameters
        ----------
        draws : Draws
            Random numbers of the samples.
        like : array, shape (n, ...)
            Data.

        Returns
        -------
        array
            Noise in the shape of their codes.
        """
        return self.inner.noise(draws, self.encoder(like))

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        """
        Turn data and noise into noisy codes.

        Parameters
        ----------
        x0 : array, shape (n, ...)
            Data.
        eps : array
            Noise in the shape of the codes.
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        array
            Samples at `t`.
        """
        return self.inner.forward(self.encoder(x0), eps, t)

    def predictor(self, network: Callable[..., Array]) -> Callable[..., Array]:
        """
        Make a network that predicts data one that predicts codes, to sample them.

        Parameters
        ----------
        network : callable, (x, t) -> data
            Draws, or estimates, the data from noisy codes.

        Returns
        -------
        callable, (x, t) -> codes
            A network for `sample` with the inner process and ``prediction="x0"``.
        """
        return lambda x, t, *condition: self.encoder(network(x, t, *condition))
