"""A loss with its arguments: what is left to do is to add up, or to differentiate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, Protocol

import numpy as np

from .._softmax_stats import softmax_stats
from ._class_rows import ClassRows
from ._documentation import documented
from ._namespace import cast, namespace_of
from ._reduction import Weighting
from ._row_loss import RowLoss, scaled

P = ParamSpec("P")
Undo = Callable[[Any], Any]


class Terms(Protocol):
    """What a loss function makes of its arguments."""

    def value(self) -> Any:
        """Return the loss."""

    def value_and_grad(self, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
        """Return the loss of NumPy's arrays, and its gradient for each argument in `argnums`."""

    def value_and_stats(self) -> tuple[Any, tuple[Any, ...]]:
        """Return the loss, and log-sum-exp, accuracy and entropy of each row of classes."""


@dataclass(frozen=True)
class RowTerms:
    """
    The rows of a loss with one value each.

    Parameters
    ----------
    loss : RowLoss
        What is computed of a row.
    arrays : tuple
        Its arrays, prepared: rows in the last axes, in the type to compute in.
    weighting : Weighting
        How the values become a loss.
    dtype : dtype
        The type of the loss.
    undo : tuple of callables
        For each differentiable array, what makes the gradient of an argument out of that of the
        array: axes moved back, types converted.
    numbers : mapping
        The numbers of `loss`, by name.
    stretch : bool
        Whether to take -log(1 - value) of each value.
    classes : ClassRows, optional
        The logits and the target as they were given, if rows have one class each.
    """

    loss: RowLoss
    arrays: tuple[Any, ...]
    weighting: Weighting
    dtype: Any
    undo: tuple[Undo, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    stretch: bool = False
    classes: ClassRows | None = None

    def value(self) -> Any:
        """Return the loss."""
        values = self.loss.values(*self.arrays, **self.numbers)
        if self.stretch:
            values = -namespace_of(values).log1p(-values)
        return cast(self.weighting.reduced(values), self.dtype)

    def value_and_grad(self, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
        """Return the loss and its gradients, of one pass over the arrays."""
        for i in argnums:
            if not 0 <= i < len(self.undo):
                names = ", ".join(self.loss.arrays[: len(self.undo)])
                raise ValueError(f"expected argnums of {names}, from 0, not {i}")
        values, slopes = self.loss.computed(*self.arrays, argnums=argnums, **self.numbers)
        outer = 1.0
        if self.stretch:
            with np.errstate(divide="ignore"):
                values, outer = -np.log1p(-values), 1.0 / (1.0 - values)
        g = outer * self.weighting.cotangent(values)
        gradients = (self.undo[i](scaled(g, s)) for i, s in zip(argnums, slopes, strict=True))
        return cast(self.weighting.reduced(values), self.dtype), tuple(gradients)

    def value_and_stats(self) -> tuple[Any, tuple[Any, ...]]:
        """Return the loss, and statistics of the logits, zero for rows that are left out."""
        if self.classes is None:
            raise TypeError(f"expected a loss of one class in each row, not {self.loss.name}")
        x, t = self.classes.logits, self.classes.target
        found, label = softmax_stats(x, -1), t if t.ndim < x.ndim else t.argmax(-1)
        results = found.logsumexp, cast(x.argmax(-1) == label, x.dtype), found.entropy
        xp, kept = namespace_of(x), self.weighting.kept
        if kept is not None:
            results = tuple(xp.where(kept, r, xp.zeros_like(r)) for r in results)
        return self.value(), tuple(cast(r, self.dtype) for r in results)


def loss(prepare: Callable[P, Terms]) -> Callable[P, Any]:
    """Make a loss function of a function that prepares its arguments."""

    @wraps(prepare)
    def function(*args: P.args, **kwargs: P.kwargs) -> Any:
        return prepare(*args, **kwargs).value()

    signature = inspect.signature(prepare)
    vars(function)["__signature__"] = signature.replace(return_annotation=Any)
    vars(function)["terms"] = prepare
    function.__doc__ = documented(prepare.__doc__)
    return function


def terms_of(function: Callable[P, Any]) -> Callable[P, Terms]:
    """Return what prepares the arguments of a loss function."""
    prepare: Callable[P, Terms] | None = getattr(function, "terms", None)
    if prepare is None:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"expected a loss function of logitkit.losses, not {name}")
    return prepare
