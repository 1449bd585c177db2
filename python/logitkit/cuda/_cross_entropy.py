"""Values and gradients of the cross-entropy of logits, of arrays on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._arrays import dense, empty, namespace_of, queue
from ._device import kernels


class CrossEntropyRows(NamedTuple):
    """Values and log-sum-exp of rows in float64, and gradients in the type of the logits."""

    values: Any
    logsumexp: Any
    gradient: Any


def cross_entropy_rows(
    logits: Any,
    labels: Any,
    *,
    targets: Any = None,
    class_weight: Any = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    with_gradient: bool = False,
) -> CrossEntropyRows:
    """
    Return the values of rows of logits of shape (m, n), 0 where a label is negative.

    Nothing looks at labels, as that would wait for the GPU: one that is no class gives NaN.
    `targets`, of shape (m, n), take their place; they and weights are in the type of the logits.
    """
    x = dense(logits)
    rows = x.shape[0]
    values, lse = empty((rows,), "float64", x), empty((rows,), "float64", x)
    gradient = namespace_of(x).empty_like(x) if with_gradient else None
    queue(
        kernels().cross_entropy,
        x,
        dense(labels),
        values,
        None if targets is None else dense(targets),
        None if class_weight is None else dense(class_weight),
        label_smoothing,
        z_loss,
        lse,
        gradient,
    )
    return CrossEntropyRows(values, lse, gradient)
