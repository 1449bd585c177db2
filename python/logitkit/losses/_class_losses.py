"""Losses of the probability of the true class beside cross-entropy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..reference.losses._classes import (
    accuracy_phi,
    beta_bernoulli_phi,
    focal_phi,
    generalized_phi,
    logarithm_phi,
    poly_phi,
)
from ._class_kernel import Information, class_loss
from ._class_rows import class_rows
from ._namespace import cast, first_index, is_host_known, like, namespace_of
from ._reduction import Reduction
from ._terms import RowTerms, loss


def _focal(told: Information, gamma: float) -> tuple[Any, Any]:
    power = told.wrong**gamma
    # p * -log(p) is 0 where p is, and so is wrong**(gamma - 1) * -log(p) where p is 1.
    both = np.where(told.p > 0.0, told.p * told.nats, 0.0)
    steep = np.where(told.wrong > 0.0, gamma * told.wrong ** (gamma - 1.0) * both, 0.0)
    return power * told.nats, power + steep if gamma else np.ones_like(power)


def _poly(told: Information, epsilon: float) -> tuple[Any, Any]:
    return told.nats + epsilon * told.wrong, 1.0 + epsilon * told.p


def _generalized(told: Information, q: float) -> tuple[Any, Any]:
    if q == 0.0:
        return _logarithm(told)
    return -np.expm1(-q * told.nats) / q, np.exp(-q * told.nats)


def _accuracy(told: Information) -> tuple[Any, Any]:
    return told.wrong, told.p


def _beta_bernoulli(told: Information, prior: float, share: float) -> tuple[Any, Any]:
    mixed = share * prior + (1.0 - share) * told.p
    if share == 0.0:
        return _logarithm(told)
    return -np.log(mixed), (1.0 - share) * told.p / mixed


def _logarithm(told: Information) -> tuple[Any, Any]:
    return told.nats, np.ones_like(told.nats)


FOCAL = class_loss("focal", _focal, focal_phi, ("gamma", "float"))
POLY = class_loss("poly", _poly, poly_phi, ("epsilon", "float"))
BETA_BERNOULLI = class_loss(
    "beta_bernoulli",
    _beta_bernoulli,
    beta_bernoulli_phi,
    ("prior", "float"),
    ("share", "float"),
)
GENERALIZED = class_loss("generalized_cross_entropy", _generalized, generalized_phi, ("q", "float"))
LOG_LOSS = class_loss("log_loss", _logarithm, logarithm_phi)
SMOOTH_ACCURACY = class_loss("smooth_accuracy", _accuracy, accuracy_phi, stretched=LOG_LOSS)


def _terms(
    row_loss: Any, logits: Any, target: Any, common: dict[str, Any], **own: float
) -> RowTerms:
    """Return the terms of a loss of this family, given the arguments that all of them share."""
    label_smoothing, z_loss = float(common.pop("label_smoothing")), float(common.pop("z_loss"))
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"expected 0 <= label_smoothing <= 1, not {label_smoothing}")
    rows = class_rows(logits, target, **common)
    numbers = {"label_smoothing": label_smoothing, "z_loss": z_loss, **own}
    arrays = rows.logits, rows.target, rows.weight
    return RowTerms(row_loss, arrays, rows.weighting, rows.dtype, rows.undo, numbers, classes=rows)


def _number(name: str, value: float, least: float) -> float:
    value = float(value)
    if not least <= value < float("inf"):
        raise ValueError(f"expected {name} >= {least:g} and finite, not {value}")
    return value


@loss
def focal(
    logits: Any,
    target: Any,
    *,
    gamma: float = 2.0,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Focal loss: cross-entropy that counts less where the true class is likely.

    .. math:: -(1 - p_y)^\gamma \log p_y, \qquad p = \operatorname{softmax}(s)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes, in nats.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities of the classes, which sum to 1.
    gamma : float, default 2
        How much less: 0 gives cross-entropy.
    <class rows>

    <returns>

    See Also
    --------
    poly : Counts the likely more.

    Notes
    -----
    For probabilities as target the value is their mean over the classes. An ``alpha`` of other
    libraries is `weight`.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x = np.log([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]])
    >>> losses.focal(x, [0, 0], reduction="none")
    array([0.1732868 , 0.00105361])
    """
    common = {
        "axis": axis,
        "weight": weight,
        "mask": mask,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "z_loss": z_loss,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "denominator": denominator,
    }
    return _terms(FOCAL, logits, target, common, gamma=_number("gamma", gamma, 0.0))


@loss
def poly(
    logits: Any,
    target: Any,
    *,
    epsilon: float = 1.0,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy with more of the first power of 1 - p: Poly-1.

    .. math:: -\log p_y + \epsilon (1 - p_y), \qquad p = \operatorname{softmax}(s)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes, in nats.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities of the classes, which sum to 1.
    epsilon : float, default 1
        What is added to the first coefficient of the series of -log p: at least -1.
    <class rows>

    <returns>

    See Also
    --------
    focal : Counts the likely less.

    Notes
    -----
    Cross-entropy is the series :math:`\sum_k (1 - p_y)^k / k`, whose first term is the smooth
    error rate `smooth_accuracy`.

    References
    ----------
    .. [1] Z. Leng et al., "PolyLoss: A polynomial expansion perspective of classification loss
       functions", arXiv:2204.12511, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x = np.log([[0.5, 0.25, 0.25]])
    >>> print(f"{losses.poly(x, [0], epsilon=2.0) - np.log(2.0):.4f}")
    1.0000
    """
    common = {
        "axis": axis,
        "weight": weight,
        "mask": mask,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "z_loss": z_loss,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "denominator": denominator,
    }
    return _terms(POLY, logits, target, common, epsilon=_number("epsilon", epsilon, -1.0))


@loss
def generalized_cross_entropy(
    logits: Any,
    target: Any,
    *,
    q: float = 0.7,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Loss between cross-entropy and the smooth error rate, for labels that may be wrong.

    .. math:: \frac{1 - p_y^q}{q}, \qquad p = \operatorname{softmax}(s)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes, in nats.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities of the classes, which sum to 1.
    q : float, default 0.7
        From 0, cross-entropy, to 1, the smooth error rate.
    <class rows>

    <returns>

    See Also
    --------
    smooth_accuracy : The same for ``q = 1``.

    Notes
    -----
    The slope with respect to the logit of the true class is :math:`-p_y^q (1 - p_y)`: that of
    cross-entropy, less where the model disagrees with the label.

    References
    ----------
    .. [1] Z. Zhang and M. R. Sabuncu, "Generalized cross entropy loss for training deep neural
       networks with noisy labels", arXiv:1805.07836, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x = np.log([[0.25, 0.5, 0.25]])
    >>> print(f"{losses.generalized_cross_entropy(x, [0], q=0.5):.4f}")
    1.0000
    """
    common = {
        "axis": axis,
        "weight": weight,
        "mask": mask,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "z_loss": z_loss,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "denominator": denominator,
    }
    if not 0.0 <= float(q) <= 1.0:
        raise ValueError(f"expected 0 <= q <= 1, not {q}")
    return _terms(GENERALIZED, logits, target, common, q=float(q))


@loss
def beta_bernoulli(
    logits: Any,
    target: Any,
    *,
    share: float = 0.1,
    prior: float | None = None,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy that is bounded, by the posterior mean of a Beta-Bernoulli model.

    .. math:: -\log\bigl(w \theta + (1 - w) p_y\bigr), \qquad p = \operatorname{softmax}(s)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes, in nats. Times a gain above 1 they bring the loss closer to a step.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities of the classes, which sum to 1.
    share : float, default 0.1
        The share `w` of the prior, from 0, cross-entropy, to below 1.
    prior : float, optional
        The probability :math:`\theta` of the true class before, above 0 and at most 1. Default:
        ``1 / n``.
    <class rows>

    <returns>

    See Also
    --------
    generalized_cross_entropy : Another bounded loss.
    sigmoid_zero_one : An error rate that is smooth.

    Notes
    -----
    A Beta prior of mean :math:`\theta` that is worth a share `w` of all observations has this
    posterior mean. The loss is at most :math:`-\log(w \theta)`, so that a row that is all wrong,
    maybe by its label, counts no more than that. For two classes it is the model of [1]_ and the
    code of [2]_, which learns `w` and :math:`\theta`; that code takes more classes for pairs of
    the true one with each of the others and sums the losses, where here the true one is set
    against all of them at once.

    References
    ----------
    .. [1] M. K. Hasan and C. J. Pal, "A new smooth approximation to the zero one loss with a
       probabilistic interpretation", arXiv:1511.05643, 2015.
    .. [2] I. Karpukhin, S. Dereka and S. Kolesnikov, "EXACT: How to train your accuracy",
       Pattern Recognition Letters, 2024, arXiv:2205.09615. Code: github.com/ivan-chai/exact,
       ``relaxation.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> value = losses.beta_bernoulli([[0.0, 700.0]], [0], share=0.5)
    >>> float(np.exp(-value).round(12))
    0.25
    """
    common = {
        "axis": axis,
        "weight": weight,
        "mask": mask,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "z_loss": z_loss,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "denominator": denominator,
    }
    if not 0.0 <= float(share) < 1.0:
        raise ValueError(f"expected 0 <= share < 1, not {share}")
    if prior is not None and not 0.0 < float(prior) <= 1.0:
        raise ValueError(f"expected 0 < prior <= 1, not {prior}")
    terms = _terms(BETA_BERNOULLI, logits, target, common, prior=0.0, share=float(share))
    classes = max(terms.arrays[0].shape[-1], 1)
    numbers = {**terms.numbers, "prior": 1.0 / classes if prior is None else float(prior)}
    return replace(terms, numbers=numbers)


@loss
def smooth_accuracy(
    logits: Any,
    target: Any,
    *,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Smooth error rate, one less the probability of the true class.

    .. math:: 1 - p_y, \qquad p = \operatorname{softmax}(s)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes, in nats.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities of the classes, which sum to 1.
    <class rows>

    <returns>

    See Also
    --------
    expected_accuracy : The same for logits with normal noise, in place of softmax.
    stretched : Makes cross-entropy of it.

    Notes
    -----
    Its mean is one less the expected accuracy of a class that is drawn from the softmax. The
    slope, :math:`p_y (1 - p_y)` for the logit of the true class, vanishes where the model is
    sure of another class: train with cross-entropy first. The article that this loss is taken
    from [1]_ found no gain from it on its own tasks, and none is claimed here.

    References
    ----------
    .. [1] J. Su, "Can training accuracy be a training objective?" (in Chinese),
       https://kexue.fm/archives/9098, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> x = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    >>> print(f"{losses.smooth_accuracy(x, [0, 1]):.2f}")
    0.35
    """
    common = {
        "axis": axis,
        "weight": weight,
        "mask": mask,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "z_loss": z_loss,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "denominator": denominator,
    }
    return _terms(SMOOTH_ACCURACY, logits, target, common)


@loss
def logit_adjusted_cross_entropy(
    logits: Any,
    target: Any,
    *,
    prior: Any,
    tau: float = 1.0,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Cross-entropy of logits to which the log of the prior is added, for rare classes.

    .. math:: -\log \operatorname{softmax}(s + \tau \log \pi)_y

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores of `n` classes, in nats.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities of the classes, which sum to 1.
    prior : array_like or Tensor, shape (n,)
        How frequent each class is: positive numbers, which need not sum to 1.
    tau : float, default 1
        How much of the prior to take out of the logits.
    <class rows>

    <returns>

    Notes
    -----
    What is learnt is the logit less that of the prior, so that ``argmax`` of the logits
    themselves is the rule of least balanced error.

    References
    ----------
    .. [1] A. K. Menon et al., "Long-tail learning via logit adjustment", arXiv:2007.07314, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> value = losses.logit_adjusted_cross_entropy(np.zeros((1, 2)), [0], prior=[0.25, 0.75])
    >>> print(f"{np.exp(-value):.2f}")
    0.25
    """
    common = {
        "axis": axis,
        "weight": weight,
        "mask": mask,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "z_loss": z_loss,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "denominator": denominator,
    }
    tau = _number("tau", tau, 0.0)
    terms = _terms(LOG_LOSS, logits, target, common)
    x, *others = terms.arrays
    prior = like("prior", prior, x)
    xp = namespace_of(x)
    if tuple(prior.shape) != (x.shape[-1],):
        raise ValueError(
            f"expected prior of shape {(x.shape[-1],)}, one for each class, "
            f"not {tuple(prior.shape)}"
        )
    if is_host_known(prior) and not (prior > 0).all():
        at = first_index(np.asarray(~(prior > 0)))[0]
        raise ValueError(f"expected prior > 0, not {prior[at]} of class {at}")
    return replace(terms, arrays=(x + tau * xp.log(cast(prior, x.dtype)), *others))
