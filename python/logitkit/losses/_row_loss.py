"""What defines a loss: its formula, and the values and slopes that NumPy computes by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._namespace import tensors_for

Slopes = tuple[Any, ...]


@dataclass(frozen=True)
class RowLoss:
    """
    A loss with one value for each row, where a row is what lies in the last axes of an array.

    No row takes part in the value of another one, so that the gradient of any reduction is the
    slope of each value times what arrives at it.

    Parameters
    ----------
    name : str
        The name of the operator of PyTorch, ``torch.ops.logitkit.<name>``.
    arrays : tuple of str
        The names of its arrays, the differentiable ones first. A name that ends in "?" may
        stand for None. All share the leading axes.
    differentiable : int
        How many of the arrays, from the first, have slopes.
    core : int
        How many of the last axes of the first array a value depends on.
    formula : callable
        ``formula(xp, *arrays, **numbers)``: the values, by differentiable functions that NumPy
        and PyTorch have under the same name, where `xp` is one of the two. The reference in
        ``float64`` is made of it, and derivatives beyond the first.
    kernel : callable
        ``kernel(*arrays, argnums, **numbers)``: the values for NumPy's arrays, and for each
        number in `argnums` the slopes: the derivatives of the value of a row with respect to
        that array, in new memory. Raises ValueError where an array has a value that it may not
        have. Integers and booleans have no slopes and are never asked for any.
    numbers : tuple of (str, str)
        The names of its numbers and their types, "float", "int", "bool" or "str".
    error : bool
        Whether its values are errors: from 0, all right, to 1, all wrong.
    stretched : RowLoss, optional
        -log(1 - error) of the same arrays and numbers, where that can be had with more digits.
    """

    name: str
    arrays: tuple[str, ...]
    differentiable: int
    formula: Callable[..., Any]
    kernel: Callable[..., tuple[Any, Slopes]]
    numbers: tuple[tuple[str, str], ...] = ()
    core: int = 1
    error: bool = False
    stretched: RowLoss | None = None

    def values(self, *arrays: Any, **numbers: Any) -> Any:
        """Return the values of rows, of arrays or of tensors."""
        if (bridge := tensors_for(arrays[0])) is not None:
            return bridge.row_loss(self)(*arrays, *(numbers[name] for name, _ in self.numbers))
        return self.computed(*arrays, argnums=(), **numbers)[0]

    def computed(
        self, *arrays: Any, argnums: tuple[int, ...], **numbers: Any
    ) -> tuple[Any, Slopes]:
        """Return what the kernel does, without a warning where a row is not finite."""
        with np.errstate(all="ignore"):
            return self.kernel(*arrays, argnums=argnums, **numbers)


def spread(g: Any, over: Any) -> Any:
    """Return `g`, one number for each row, with axes of length one for those within a row."""
    return g.reshape(tuple(g.shape) + (1,) * (over.ndim - g.ndim))


def scaled(g: Any, slopes: Any) -> Any:
    """Return `slopes`, an array that is overwritten, times what arrives at each row."""
    return np.multiply(slopes, spread(np.asarray(g, slopes.dtype), slopes), out=slopes)
