"""Losses of one true class that are bounded: generalized cross-entropy and smooth errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._real_array import real_number
from ._class_formulas import BETA_BERNOULLI, GENERALIZED, SMOOTH_ACCURACY, class_terms
from ._reduction import Reduction
from ._terms import RowTerms, loss


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
    if not 0.0 <= (q := real_number("q", q)) <= 1.0:
        raise ValueError(f"expected 0 <= q <= 1, not {q}")
    return class_terms(GENERALIZED, logits, target, common, q=q)


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
    if not 0.0 <= (share := real_number("share", share)) < 1.0:
        raise ValueError(f"expected 0 <= share < 1, not {share}")
    if prior is not None and not 0.0 < (prior := real_number("prior", prior)) <= 1.0:
        raise ValueError(f"expected 0 < prior <= 1, not {prior}")
    terms = class_terms(BETA_BERNOULLI, logits, target, common, prior=0.0, share=share)
    classes = max(terms.arrays[0].shape[-1], 1)
    numbers = {**terms.numbers, "prior": 1.0 / classes if prior is None else prior}
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
    return class_terms(SMOOTH_ACCURACY, logits, target, common)
