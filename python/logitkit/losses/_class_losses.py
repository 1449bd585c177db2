"""Cross-entropy of one true class with other weights: focal, Poly-1 and with a prior."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ._class_formulas import FOCAL, LOG_LOSS, POLY, checked_number, class_terms
from ._namespace import cast, first_index, is_host_known, like, namespace_of
from ._reduction import Reduction
from ._terms import RowTerms, loss


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
    return class_terms(FOCAL, logits, target, common, gamma=checked_number("gamma", gamma, 0.0))


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
    return class_terms(
        POLY, logits, target, common, epsilon=checked_number("epsilon", epsilon, -1.0)
    )


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
    tau = checked_number("tau", tau, 0.0)
    terms = class_terms(LOG_LOSS, logits, target, common)
    x, *others = terms.arrays
    prior = like("prior", prior, x)
    xp = namespace_of(x)
    if tuple(prior.shape) != (x.shape[-1],):
        raise ValueError(
            f"expected prior of shape {(x.shape[-1],)}, one for each class, "
            f"not {tuple(prior.shape)}"
        )
    if is_host_known(prior):
        wrong = np.asarray(~((prior > 0) & (prior < np.inf)))
        if wrong.any():
            at = first_index(wrong)[0]
            raise ValueError(f"expected prior > 0 and finite, not {prior[at]} of class {at}")
    return replace(terms, arrays=(x + tau * xp.log(cast(prior, x.dtype)), *others))
