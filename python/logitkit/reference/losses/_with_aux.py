"""What the rows of a loss of classes are like, by the definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def with_aux(loss: Callable[..., Any]) -> Callable[..., tuple[Any, Any, Any, Any]]:
    """Return the loss, log-sum-exp, accuracy and entropy of each row, 0 for those left out."""

    def function(
        logits: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        mask: ArrayLike | None = None,
        ignore_index: int | None = -100,
        **common: Any,
    ) -> tuple[Any, Any, Any, Any]:
        value = loss(logits, target, axis=axis, mask=mask, ignore_index=ignore_index, **common)
        x, t = np.moveaxis(np.asarray(logits, np.float64), axis, -1), np.asarray(target)
        seen = np.array(np.broadcast_to(True if mask is None else mask, x.shape[:-1]))
        if t.ndim == x.ndim:
            t = np.argmax(np.moveaxis(t, axis, -1), axis=-1)
        elif ignore_index is not None:
            seen &= t != ignore_index
        lse, accuracy, entropy = np.zeros((3, *x.shape[:-1]))
        for i in np.ndindex(*x.shape[:-1]):
            if seen[i]:
                top = np.max(x[i])
                lse[i] = top + np.log(np.sum(np.exp(x[i] - top)))
                accuracy[i] = np.argmax(x[i]) == t[i]
                p = np.exp(x[i] - lse[i])
                entropy[i] = -np.sum(p[p > 0.0] * np.log(p[p > 0.0]))
        return value, lse, accuracy, entropy

    return function
