"""Guidance by gradients: of classifiers, of similarities, of anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ._arrays import Array, Time, namespace, placed, spread
from ._guidance import Guidance, Weight, weight_at
from ._parameters import check_function, check_weight
from ._predictions import Prediction
from ._predictor import Predictor
from ._update import update

Pullback = Callable[[Array], Array]


@dataclass(frozen=True)
class GradientGuidance(Guidance):
    r"""
    Guide by the gradient of anything: the logarithm of p(y | x_t), or a similarity.

    .. math:: \tilde\varepsilon = \hat\varepsilon - \sigma_t \gamma \nabla \log p(y \mid x_t)
        \qquad\text{or}\qquad \tilde\mu = \mu + \sigma^2 \gamma \nabla \log p(y \mid x_t)

    Parameters
    ----------
    gradient : callable, (x, t, condition) -> array
        The gradient at samples of a time.
    scale : float or callable, (t) -> float or ndarray, default 1.0
        The factor gamma. The network is called with samples and time alone.
    form : {"eps", "mean"}, default "eps"
        Whether it shifts the prediction of the noise, which any solver can use, or the mean of
        a random step by its variance, which deterministic ones cannot.
    at : {"x", "mean"}, default "x"
        For the mean: whether the gradient is taken at x_t, or at the mean of x_s.

    See Also
    --------
    Classifier, CosineSimilarity, GramSimilarity, sum_of : Gradients.

    Notes
    -----
    The two forms agree in the limit of many steps only: for DDPM the first shifts the mean by
    sigma_t^2 / (alpha_t|s sigma_s^2) times as much, 2.20 at the second step of the linear
    schedule and 1.006 at the 500th of 1000.

    References
    ----------
    .. [1] P. Dhariwal and A. Nichol, "Diffusion models beat GANs on image synthesis",
       NeurIPS 2021, arXiv:2105.05233.
    .. [2] J. Su, on conditional control (in Chinese), kexue.fm/archives/9257, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, GradientGuidance, Predictor, StraightPath
    >>> guidance = GradientGuidance(lambda x, t, y: y - x, scale=2.0)
    >>> predict = Predictor(Gaussian(StraightPath()), lambda x, t: 0 * x, condition=1.0,
    ...                     guidance=guidance)
    >>> predict(np.zeros((1, 1)), 0.5).value
    array([[-1.]])
    """

    gradient: Callable[[Array, Time, Any], Array]
    scale: Weight = 1.0
    form: Literal["eps", "mean"] = "eps"
    at: Literal["x", "mean"] = "x"

    def __post_init__(self) -> None:
        if self.form not in ("eps", "mean") or self.at not in ("x", "mean"):
            raise ValueError(
                f"expected form 'eps' or 'mean', at 'x' or 'mean', not {self.form!r} and "
                f"{self.at!r}"
            )
        if self.form == "eps" and self.at == "mean":
            raise ValueError("the gradient at the mean belongs to form='mean'")
        check_function("gradient", self.gradient)
        check_weight("scale", self.scale)

    def check(self, condition: Any, solver: Any) -> None:
        """
        Say so if the guidance cannot be used.

        Parameters
        ----------
        condition : object
            What the samples shall be.
        solver : Solver
            The solver.

        Raises
        ------
        ValueError
            If there is no condition, or no random step whose mean could be shifted.
        """
        super().check(condition, solver)
        random = solver.honours_shift and not solver.deterministic
        if self.form == "mean" and not random:
            raise ValueError(
                f"form='mean' shifts a step by the variance of its noise, and {solver} has none: "
                "use form='eps', or a solver such as DDPM"
            )

    def plain(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """
        Predict without this guidance, and so without the condition.

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
        return replace(predictor, guidance=None, condition=None)(x, t)

    def __call__(self, predictor: Predictor, x: Array, t: Time) -> Prediction:
        """Return the guided prediction, or one with a shift for the solver."""
        plain = self.plain(predictor, x, t)
        gamma = weight_at(self.scale, t)
        if self.form == "mean":

            def shift(variance: Any, mean: Array) -> Array:
                place = mean if self.at == "mean" else x
                slope = self.gradient(place, t, predictor.condition)
                return spread(gamma, slope) * (variance * slope)

            return plain._replace(unguided=plain.value, shift=shift)
        process = predictor.process
        eps = process.convert(plain, "eps")
        factor = -1.0 * process.schedule.sigma(t) * gamma
        slope = self.gradient(x, t, predictor.condition)
        return Prediction(update(1.0, eps, factor, slope), "eps", x, t, unguided=eps)


@dataclass(frozen=True)
class Classifier:
    r"""
    Gradient of the logarithm of the probability of a class.

    .. math:: \nabla \log p(y \mid x) \qquad\text{or}\qquad
        \tfrac1\gamma \nabla \log \operatorname{softmax}(\gamma \ell)_y

    Parameters
    ----------
    network : callable, (x, t) -> (logits, pullback)
        The classifier: logits, shape (n, k), and the function that takes an array of their
        shape to the gradient, by x, of the sum of its products with them. ``jax.vjp`` makes
        such pairs; for torch see `TorchPullback`.
    temper : float, default 1.0
        The power gamma of p(y | x) in a law that is normalised again: p^gamma / sum p^gamma.
        The factor gamma itself is the guidance's `scale`, which should then be the same.

    See Also
    --------
    GradientGuidance : What it is for. The condition is an array of classes, shape (n,).

    Notes
    -----
    ``scale=g`` alone is the gradient of the logarithm of p(y | x)^g, which is not normalised.
    With ``temper=g`` as well, it is that of the law which is.

    References
    ----------
    .. [1] J. Su, on conditional control (in Chinese), kexue.fm/archives/9257, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Classifier
    >>> w = np.array([[1.0, -1.0]])  # logits w x of two classes
    >>> classify = Classifier(lambda x, t: (x @ w, lambda g: g @ w.T))
    >>> classify(np.zeros((1, 1)), 0.5, np.array([0]))
    array([[1.]])
    """

    network: Callable[[Array, Time], tuple[Array, Pullback]]
    temper: float = 1.0

    def __call__(self, x: Array, t: Time, condition: Any) -> Array:
        """Return the gradient for the classes asked for."""
        logits, pullback = self.network(x, t)
        xp = namespace(logits)
        warm = logits * self.temper
        p = xp.exp(warm - xp.max(warm, axis=-1, keepdims=True))
        p = p / xp.sum(p, axis=-1, keepdims=True)
        classes = np.asarray(condition)[:, None] == np.arange(logits.shape[-1])
        return pullback(placed(classes.astype(np.float64), logits) - p)


@dataclass(frozen=True)
class CosineSimilarity:
    r"""
    Gradient of the cosine of the angle between features of samples and those wanted.

    .. math:: \nabla_{e_1} \cos = \frac{\hat e_2 - \cos \hat e_1}{\|e_1\|}

    Parameters
    ----------
    network : callable, (x, t) -> (features, pullback)
        The features, shape (n, k), and their pullback, as in `Classifier`.

    See Also
    --------
    GradientGuidance : What it is for. The condition is the features wanted, shape (n, k).

    Notes
    -----
    Where the features of a sample or those wanted are all zero, so is the gradient.

    References
    ----------
    .. [1] X. Liu et al., "More control for free!", WACV 2023, arXiv:2112.05744.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import CosineSimilarity
    >>> similar = CosineSimilarity(lambda x, t: (x, lambda g: g))
    >>> similar(np.array([[2.0, 0.0]]), 0.5, np.array([[0.0, 3.0]]))
    array([[0. , 0.5]])
    """

    network: Callable[[Array, Time], tuple[Array, Pullback]]

    def __call__(self, x: Array, t: Time, condition: Any) -> Array:
        """Return the gradient towards the features wanted."""
        features, pullback = self.network(x, t)
        xp = namespace(features)

        def unit(e: Array) -> tuple[Array, Array]:
            length = xp.sqrt(xp.sum(e * e, axis=-1, keepdims=True))
            safe = xp.where(length > 0.0, length, xp.ones_like(length))
            return e / safe, xp.where(length > 0.0, 1.0 / safe, xp.zeros_like(length))

        (one, inverse), (two, _) = unit(features), unit(condition)
        cosine = xp.sum(one * two, axis=-1, keepdims=True)
        return pullback((two - cosine * one) * inverse)


@dataclass(frozen=True)
class GramSimilarity:
    r"""
    Gradient of the likeness of style: minus the squared distance of Gram matrices.

    .. math:: -\Bigl\| \tfrac1m F F^T - G \Bigr\|^2

    Parameters
    ----------
    network : callable, (x, t) -> (features, pullback)
        The features F, shape (n, channels, m), and their pullback, as in `Classifier`.

    See Also
    --------
    GradientGuidance : What it is for. The condition is G, shape (n, channels, channels).

    References
    ----------
    .. [1] L. Gatys, A. Ecker and M. Bethge, "Image style transfer using convolutional neural
       networks", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import GramSimilarity
    >>> style = GramSimilarity(lambda x, t: (x, lambda g: g))
    >>> style(np.ones((1, 1, 2)), 0.5, np.ones((1, 1, 1))).ravel() + 0.0
    array([0., 0.])
    """

    network: Callable[[Array, Time], tuple[Array, Pullback]]

    def __call__(self, x: Array, t: Time, condition: Any) -> Array:
        """Return the gradient towards the style wanted."""
        features, pullback = self.network(x, t)
        xp, count = namespace(features), features.shape[-1]
        gram = xp.matmul(features, xp.matrix_transpose(features)) / count
        return pullback(-4.0 / count * xp.matmul(gram - condition, features))


@dataclass(frozen=True)
class _Sum:
    gradients: tuple[Callable[[Array, Time, Any], Array], ...]
    weights: tuple[float, ...]

    def __call__(self, x: Array, t: Time, condition: Any) -> Array:
        parts = zip(self.gradients, self.weights, condition, strict=True)
        total: Any = 0.0
        for gradient, weight, wanted in parts:
            total = total + weight * gradient(x, t, wanted)
        return total


def sum_of(
    *gradients: Callable[[Array, Time, Any], Array], weights: tuple[float, ...] | None = None
) -> Callable[[Array, Time, Any], Array]:
    """
    Add gradients, for several guides at once.

    Parameters
    ----------
    *gradients : callable, (x, t, condition) -> array
        The gradients.
    weights : tuple of floats, optional
        Their weights. Default: 1 each.

    Returns
    -------
    callable, (x, t, conditions) -> array
        The sum, for a tuple with the condition of each.

    Examples
    --------
    >>> from logitkit.diffusion import sum_of
    >>> both = sum_of(lambda x, t, y: y - x, lambda x, t, y: y + x, weights=(1.0, 0.5))
    >>> both(1.0, 0.5, (3.0, 5.0))
    5.0
    """
    return _Sum(gradients, weights or (1.0,) * len(gradients))


@dataclass(frozen=True)
class TorchPullback:
    """
    A torch network that returns its result together with its pullback.

    Parameters
    ----------
    network : callable, (x, t) -> tensor
        The network.

    See Also
    --------
    Classifier : One use of it.

    Examples
    --------
    >>> from logitkit.diffusion import Classifier, TorchPullback
    >>> classify = Classifier(TorchPullback(lambda x, t: x.tanh()))
    """

    network: Callable[[Any, Any], Any]

    def __call__(self, x: Any, t: Time) -> tuple[Any, Pullback]:
        """Return the result and its pullback."""
        import torch

        leaf = x.detach().requires_grad_(True)
        with torch.enable_grad():
            result = self.network(leaf, t)

        def pullback(cotangent: Any) -> Any:
            (gradient,) = torch.autograd.grad(result, leaf, cotangent)
            return gradient

        return result.detach(), pullback
