"""Losses of classes that say, too, what the rows of their logits are like."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

from ._bounded_losses import beta_bernoulli, generalized_cross_entropy, smooth_accuracy
from ._class_losses import focal, logit_adjusted_cross_entropy, poly
from ._cross_entropy import cross_entropy
from ._entmax_losses import entmax_loss, sparsemax_loss
from ._expected_accuracy import expected_accuracy
from ._fenchel_young import fenchel_young
from ._leads import hinge, polynomial_zero_one, sigmoid_zero_one
from ._linear_cross_entropy import linear_cross_entropy
from ._terms import terms_of
from ._top_k import smooth_balanced_accuracy, smooth_top_k_accuracy

P = ParamSpec("P")


class LossAux(NamedTuple):
    """
    A loss of classes, and what the rows of its logits are like.

    Parameters
    ----------
    loss : float or array or Tensor
        The loss.
    logsumexp : array or Tensor
        Log-sum-exp of the logits of each row, in nats.
    accuracy : array or Tensor
        1 where the first of the largest logits is that of the class of largest target, else 0.
    entropy : array or Tensor
        Entropy of the softmax of each row, in nats, whatever the loss.
    """

    loss: Any
    logsumexp: Any
    accuracy: Any
    entropy: Any


_RETURNS = """\
Returns
-------
LossAux
    A named tuple: `loss`, as `{name}` returns it; and `logsumexp`, `accuracy` and
    `entropy` of the logits, one number for each row in the type of the loss, 0 for those left
    out.
"""

_EXAMPLES = """\
See Also
--------
{name} : The loss alone.

Examples
--------
>>> from logitkit import losses
>>> aux = losses.{name}_with_aux({arguments})
>>> aux.accuracy
array([1., 0.])
"""


def with_aux(loss: Callable[P, Any]) -> Callable[P, LossAux]:
    """
    Make of a loss of classes a function that says what the rows are like, too.

    Parameters
    ----------
    loss : callable
        A loss of this package of one class in each row, such as `focal` or what `stretched`
        makes of one.

    Returns
    -------
    callable
        A function of the same arguments that returns a `LossAux`: the loss, and log-sum-exp,
        accuracy and entropy of each row.

    Raises
    ------
    TypeError
        If `loss` is not a function of this package, or, once called, not one of classes.

    See Also
    --------
    cross_entropy_with_aux : Made so, as are its like: one for each loss of classes.

    Examples
    --------
    >>> from logitkit import losses
    >>> probit = losses.with_aux(losses.stretched(losses.expected_accuracy))
    >>> probit([[0.0, 0.0]], [0]).entropy.round(6)
    array([0.693147])
    """
    prepare = terms_of(loss)

    def function(*args: P.args, **kwargs: P.kwargs) -> LossAux:
        value, stats = prepare(*args, **kwargs).value_and_stats()
        return LossAux(value, *stats)

    name = prepare.__name__
    function.__name__ = function.__qualname__ = f"{name}_with_aux"
    function.__module__ = __name__  # where pickle finds those made below
    signature = inspect.signature(prepare)
    vars(function)["__signature__"] = signature.replace(return_annotation=LossAux)
    function.__doc__ = _documentation(name, loss.__doc__)
    return function


def _documentation(name: str, text: str | None) -> str | None:
    """Return the docstring of a loss with another summary, results and example."""
    if text is None:  # python -OO
        return None
    sections = re.split(r"\n(?=[^\n]+\n-{3,}\n)", inspect.cleandoc(text))
    kept = {part.partition("\n")[0]: part.rstrip() + "\n" for part in sections[1:]}
    arguments = "[[1.0, 0.0], [0.0, 2.0]], [0, 0]"
    if name == "logit_adjusted_cross_entropy":
        arguments += ", prior=[0.5, 0.5]"
    if name == "smooth_top_k_accuracy":
        arguments += ", k=1"
    if name == "linear_cross_entropy":
        arguments = "[[1.0], [-1.0]], [[1.0], [-1.0]], [0, 0]"
    parts = (
        f"Return `{name}`, and log-sum-exp, accuracy and entropy of each row.\n",
        kept["Parameters"],
        _RETURNS.format(name=name),
        kept["Raises"],
        _EXAMPLES.format(name=name, arguments=arguments),
    )
    return "\n" + "\n".join(parts)


beta_bernoulli_with_aux = with_aux(beta_bernoulli)
cross_entropy_with_aux = with_aux(cross_entropy)
entmax_loss_with_aux = with_aux(entmax_loss)
expected_accuracy_with_aux = with_aux(expected_accuracy)
fenchel_young_with_aux = with_aux(fenchel_young)
focal_with_aux = with_aux(focal)
generalized_cross_entropy_with_aux = with_aux(generalized_cross_entropy)
hinge_with_aux = with_aux(hinge)
linear_cross_entropy_with_aux = with_aux(linear_cross_entropy)
logit_adjusted_cross_entropy_with_aux = with_aux(logit_adjusted_cross_entropy)
poly_with_aux = with_aux(poly)
polynomial_zero_one_with_aux = with_aux(polynomial_zero_one)
sigmoid_zero_one_with_aux = with_aux(sigmoid_zero_one)
smooth_accuracy_with_aux = with_aux(smooth_accuracy)
smooth_balanced_accuracy_with_aux = with_aux(smooth_balanced_accuracy)
smooth_top_k_accuracy_with_aux = with_aux(smooth_top_k_accuracy)
sparsemax_loss_with_aux = with_aux(sparsemax_loss)
