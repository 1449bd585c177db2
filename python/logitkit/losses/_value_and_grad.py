"""The value of a loss and its gradient, of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._backend import is_tensor
from .._real_array import whole_number
from ._terms import terms_of


def value_and_grad(
    loss: Callable[..., Any], argnums: int | tuple[int, ...] = 0
) -> Callable[..., tuple[Any, Any]]:
    """
    Make a function that returns a loss and its gradient, of one pass over the arrays.

    Parameters
    ----------
    loss : callable
        A function of `logitkit.losses`.
    argnums : int or tuple of ints, default 0
        The arguments, by position, whose gradient is wanted: 0 for the logits, 1 for a target
        of probabilities where the loss has a gradient with respect to it.

    Returns
    -------
    callable
        A function of the arguments of `loss`, NumPy's arrays, that returns ``(value, grad)``.
        `grad` has the shape and type of its argument, or is a tuple of gradients if `argnums`
        is a tuple. With ``reduction="none"`` it is the gradient of the sum of the values.

    Raises
    ------
    TypeError
        If `loss` is not a function of `logitkit.losses`, `argnums` are no integers, or the function that is returned is
        given tensors, which have `backward`, or a function as `reduction`.
    ValueError
        If the loss has no gradient with respect to an argument in `argnums`, or one is there
        twice.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> step = losses.value_and_grad(losses.multilabel_cross_entropy)
    >>> value, grad = step(np.zeros((1, 2)), [[1, 0]])
    >>> float(np.exp(value)), grad
    (4.0, array([[-0.5,  0.5]]))
    """
    prepare = terms_of(loss)
    wanted = tuple(
        whole_number("argnums", i) for i in (argnums if isinstance(argnums, tuple) else (argnums,))
    )
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"expected argnums without repetition, not {argnums}")

    def function(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if any(map(is_tensor, (*args, *kwargs.values()))):
            raise TypeError("expected arrays: a loss of tensors is differentiated by backward()")
        value, gradients = prepare(*args, **kwargs).value_and_grad(wanted)
        return value, gradients if isinstance(argnums, tuple) else gradients[0]

    return function
