"""From the values of rows to a loss: weights of rows, rows that are left out, and reductions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .._shapes import check_broadcast
from ._namespace import check_not_nan, namespace_of

Reduction = Literal["mean", "sum", "none"] | Callable[[Any], Any]


@dataclass(frozen=True)
class Weighting:
    """
    How the values of rows become a loss.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"} or callable
        "mean" divides the sum by the weights of its rows; a callable is given the weighted
        values, zero for rows that are left out.
    sample_weight : array or tensor, optional
        Broadcast against the values, which it multiplies.
    kept : array or tensor of bool, shape of the values, optional
        Rows that count. The value of another row is replaced by zero, even NaN, and its weight
        does not count.
    norm : array or tensor, shape of the values, optional
        What a row adds to the divisor of a mean, before it is multiplied by `sample_weight`: a
        value with a class weight in it has it here, too. Default: 1.
    denominator : float, optional
        The divisor of a mean in place of these weights, such as the number of rows of all
        parts of a batch.
    """

    reduction: Reduction = "mean"
    sample_weight: Any = None
    kept: Any = None
    norm: Any = None
    denominator: float | None = None

    def __post_init__(self) -> None:
        named = isinstance(self.reduction, str) and self.reduction in ("mean", "sum", "none")
        if not (callable(self.reduction) or named):
            raise ValueError(
                'expected reduction "mean", "sum" or "none", or a function of the weighted values, '
                f"not {self.reduction!r}"
            )
        if self.denominator is not None and self.reduction != "mean":
            raise ValueError(
                f"denominator={self.denominator} divides a mean: pass it with reduction='mean', "
                f"not with {self.reduction!r}"
            )
        given = self.denominator
        if isinstance(given, (str, list, tuple)) or getattr(given, "ndim", None):
            raise TypeError(f"expected denominator as one number, not {self.denominator!r}")
        if self.denominator is not None and not self.denominator > 0:
            raise ValueError(
                f"expected denominator > 0, the divisor of the mean, not {self.denominator}: pass "
                "None for the sum of the weights"
            )

    def reduced(self, values: Any) -> Any:
        """Return the loss: a number, or one for each row."""
        xp = namespace_of(values)
        if self.kept is not None:
            values = xp.where(self.kept, values, xp.zeros_like(values))
        if self.sample_weight is not None:
            values = values * self.kept_weight(values)
        if callable(self.reduction):
            return self.reduction(values)
        if self.reduction == "none":
            return values
        total = _total(values)
        return total if self.reduction == "sum" else _quotient(total, self.divisor(values))

    def cotangent(self, values: Any) -> Any:
        """Return the derivative of the loss with respect to each of `values`, arrays of NumPy."""
        if callable(self.reduction):
            raise TypeError(
                "value_and_grad cannot differentiate a reduction that is a function: pass "
                "reduction='none' and multiply by its derivative, or use tensors"
            )
        g = np.broadcast_to(np.asarray(self.kept_weight(values), np.float64), values.shape)
        if self.reduction == "mean":
            # Rows that are left out stay at zero even where the mean is 0 / 0.
            divisor = np.broadcast_to(self.divisor(values), values.shape)
            g = np.divide(g, divisor, out=np.zeros(values.shape), where=g != 0.0)
        return g

    def kept_weight(self, values: Any) -> Any:
        """Return the weight of each row, zero for those that are left out."""
        xp = namespace_of(values)
        weight = 1.0 if self.sample_weight is None else self.sample_weight
        if self.sample_weight is not None:
            check_broadcast("sample_weight", tuple(self.sample_weight.shape), tuple(values.shape))
        if self.kept is not None:
            weight = xp.where(self.kept, xp.ones_like(values) * weight, xp.zeros_like(values))
        if self.sample_weight is not None:
            check_not_nan("sample_weight", weight)
        return weight

    def divisor(self, values: Any) -> Any:
        if self.denominator is not None:
            return self.denominator
        xp = namespace_of(values)
        if self.sample_weight is None and self.norm is None:
            return _count(values) if self.kept is None else self.kept.sum()
        weight = self.kept_weight(values)
        if self.norm is not None:
            weight = weight * self.norm
        return _total(xp.ones_like(values) * weight)


def _total(values: Any) -> Any:
    """Return the sum, which NumPy accumulates in float64."""
    if namespace_of(values) is np:
        return np.sum(values, dtype=np.float64)
    return values.sum()


def _count(values: Any) -> int:
    return int(values.size) if namespace_of(values) is np else values.numel()


def _quotient(total: Any, divisor: Any) -> Any:
    """Return the mean, NaN of nothing as in PyTorch, without a warning."""
    if namespace_of(total) is not np:
        return total / divisor
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(total, divisor)
