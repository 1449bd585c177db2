"""Losses made of other losses, for metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec

from ._metric_kernels import SURROGATES
from ._terms import RowTerms, Terms, loss, terms_of

P = ParamSpec("P")


def stretched(error_loss: Callable[P, Any]) -> Callable[P, Any]:
    r"""
    Make a loss that grows without bound where an error of at most 1 becomes 1.

    .. math:: -\log(1 - \text{error})

    It is the error to first order where that is small, and so leads to the same end, but it
    has a slope where all is wrong. Of `smooth_accuracy` it makes cross-entropy, and of
    `expected_accuracy` the negative log-probability of a probit.

    Parameters
    ----------
    error_loss : callable
        A loss of this package whose values are errors: `smooth_accuracy`, `expected_accuracy`,
        or one less a metric, such as `smooth_f_score`.

    Returns
    -------
    callable
        A loss of the same arguments, of which `value_and_grad` takes gradients. Each value is
        stretched before the reduction.

    Raises
    ------
    TypeError
        If `error_loss` is not a function of this package.
    ValueError
        If its values are not errors.

    See Also
    --------
    from_metric : Another way to train for a metric.

    Notes
    -----
    Where it can be, the logarithm is not taken of the error: so digits are kept at a probability
    of 1e-300. The article that gives this recipe found no gain from metrics as objectives on
    its own tasks.

    References
    ----------
    .. [1] J. Su, "Can training accuracy be a training objective?" (in Chinese),
       https://kexue.fm/archives/9098, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> cross_entropy = losses.stretched(losses.smooth_accuracy)
    >>> float(cross_entropy(np.array([[0.0, 500.0]]), [0]))
    500.0
    """
    prepare = terms_of(error_loss)

    @wraps(prepare)
    def stretch(*args: P.args, **kwargs: P.kwargs) -> Terms:
        terms = prepare(*args, **kwargs)
        assert isinstance(terms, RowTerms)
        if not terms.loss.error or terms.stretch:
            raise ValueError(f"expected a loss whose values are errors, not {terms.loss.name}")
        if terms.loss.stretched is not None:
            return replace(terms, loss=terms.loss.stretched)
        return replace(terms, stretch=True)

    return loss(stretch)


def from_metric(metric_loss: Callable[P, Any]) -> Callable[P, Any]:
    r"""
    Make a cross-entropy whose weights are the slopes of a metric.

    .. math::
        -\sum_i \Bigl[\frac{\partial M}{\partial p_i}\Bigr]_+ \log p_i
        -\sum_i \Bigl[-\frac{\partial M}{\partial p_i}\Bigr]_+ \log(1 - p_i)

    The slopes, those at the present probabilities, are constants: labels weigh as much as the
    metric says they would gain, and the logarithms have slopes where probabilities do not. For
    the F-score with ``beta=1`` the weights are in the ratio of ``1 - F/2`` for true labels to
    ``F/2`` for others.

    Parameters
    ----------
    metric_loss : callable
        One less a metric of probabilities of labels: `smooth_f_score`, `smooth_precision`,
        `smooth_recall`, `smooth_iou` or `smooth_matthews`.

    Returns
    -------
    callable
        A loss of the same arguments. What `value_and_grad` or ``backward`` return is not the
        derivative of its value, in which the slopes would change, too.

    Raises
    ------
    TypeError
        If `metric_loss` is not a function of this package.
    ValueError
        If it is not one less such a metric.

    See Also
    --------
    stretched : Minus the logarithm of the metric.

    References
    ----------
    .. [1] J. Su, "From accuracy to F1: building losses from metrics" (in Chinese),
       https://kexue.fm/archives/7708, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> step = losses.value_and_grad(losses.from_metric(losses.smooth_f_score))
    >>> step(np.zeros(2), [1, 0])[1]  # F = 1/2: 3 to 1
    array([-0.375,  0.125])
    """
    prepare = terms_of(metric_loss)

    @wraps(prepare)
    def surrogate(*args: P.args, **kwargs: P.kwargs) -> Terms:
        terms = prepare(*args, **kwargs)
        assert isinstance(terms, RowTerms)
        if terms.stretch or terms.loss.name not in SURROGATES:
            names = ", ".join(SURROGATES)
            raise ValueError(f"expected one of {names}, not {terms.loss.name}")
        return replace(terms, loss=SURROGATES[terms.loss.name])

    return loss(surrogate)
