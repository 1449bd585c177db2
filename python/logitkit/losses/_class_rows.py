"""Arguments of losses whose target names one class of each row, or gives probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._lines import one_axis
from .._real_array import real_number, whole_number
from ._namespace import (
    broadcast,
    cast,
    check_not_nan,
    first_index,
    floating,
    integers,
    is_bool,
    is_floating,
    is_host_known,
    like,
    moveaxis,
    namespace_of,
)
from ._reduction import Reduction, Weighting


class ClassRows(NamedTuple):
    """Logits with the classes in the last axis, targets, and how to make gradients of them."""

    logits: Any
    target: Any
    weight: Any
    weighting: Weighting
    dtype: Any
    undo: tuple[Callable[[Any], Any], ...]


def class_rows(
    logits: Any,
    target: Any,
    *,
    axis: int,
    weight: Any = None,
    sample_weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> ClassRows:
    """Return `logits` and `target`, checked, and classes in the last axis."""
    x, dtype = floating("logits", logits)
    xp = namespace_of(x)
    t = integers("target", target, x)
    axis = one_axis(axis, x.ndim) if x.ndim else 0
    rows = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
    if x.ndim == 0 or tuple(t.shape) not in (rows, tuple(x.shape)):
        raise ValueError(
            f"expected target of shape {rows}, a class for each row of logits of shape "
            f"{tuple(x.shape)}, or of their shape, probabilities, not {tuple(t.shape)}"
        )
    given = t.dtype
    x = moveaxis(x, axis, -1)
    kept = kept_rows(x, t, mask, ignore_index)
    if t.ndim == x.ndim:
        t = cast(moveaxis(t, axis, -1), x.dtype)
        if kept is not None:
            t = xp.where(kept[..., None], t, xp.full_like(t, 1.0 / max(t.shape[-1], 1)))
        check_distribution(t, axis, target)
    else:
        if is_floating(t) or is_bool(t):
            raise TypeError(f"expected target of integers, the number of each class, not {t.dtype}")
        if kept is not None:
            t = xp.where(kept, t, xp.zeros_like(t))
        check_classes(t, x.shape[-1], ignore_index)
    if kept is not None:  # what a row that is left out holds shall not matter
        x = xp.where(kept[..., None], x, xp.zeros_like(x))
    norm = None
    if weight is not None:
        weight = class_weight(weight, x, x.shape[-1])
        norm = None if t.ndim == x.ndim else weight[t]
        weight = xp.broadcast_to(weight, tuple(x.shape))
    if sample_weight is not None:
        sample_weight = like("sample_weight", sample_weight, x)

    def undo(gradient: Any) -> Any:
        return cast(moveaxis(gradient, -1, axis), dtype)

    def undo_target(gradient: Any) -> Any:
        if given.kind != "f":
            raise ValueError(f"expected a target of probabilities to differentiate, not {given}")
        return cast(moveaxis(gradient, -1, axis), given)

    weighting = Weighting(reduction, sample_weight, kept, norm, denominator)
    return ClassRows(x, t, weight, weighting, dtype, (undo, undo_target))


def kept_rows(x: Any, t: Any, mask: Any, ignore_index: int | None) -> Any:
    """Return which rows count, or None for all."""
    kept = None
    if mask is not None:
        mask = like("mask", mask, x)
        if not is_bool(mask):
            raise TypeError(f"expected mask of truth values, not {mask.dtype}: pass mask != 0")
        kept = broadcast("mask", mask, tuple(x.shape[:-1]))
    if ignore_index is not None and t.ndim < x.ndim:
        known = t != whole_number("ignore_index", ignore_index)
        if kept is None and is_host_known(known) and known.all():
            return None  # the common case, without a copy of the logits
        kept = known if kept is None else kept & known
    return kept


def class_weight(weight: Any, x: Any, n: int) -> Any:
    """Return weights of `n` classes, checked, in the type of `x`."""
    weight = cast(like("weight", weight, x), x.dtype)
    if tuple(weight.shape) != (n,):
        raise ValueError(
            f"expected weight of shape {(n,)}, one for each class, not {tuple(weight.shape)}"
        )
    check_not_nan("weight", weight)
    return weight


def class_numbers(label_smoothing: float, z_loss: float) -> tuple[float, float]:
    """Return the numbers that losses of classes share, checked."""
    label_smoothing = real_number("label_smoothing", label_smoothing)
    z_loss = real_number("z_loss", z_loss)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"expected 0 <= label_smoothing <= 1, not {label_smoothing}")
    if not 0.0 <= z_loss < np.inf:
        raise ValueError(f"expected 0 <= z_loss < inf, a factor of a square, not {z_loss}")
    return label_smoothing, z_loss


def check_classes(t: Any, n: int, ignore_index: int | None = None) -> None:
    """Raise an error if there is no such class."""
    if not is_host_known(t):
        return
    wrong = (t < 0) | (t >= n)
    if wrong.any():
        place = first_index(np.asarray(wrong))
        at = f" at {list(place)}" if place else ""
        remedy = "" if ignore_index is None else f", or ignore_index, which is {ignore_index}"
        raise ValueError(
            f"expected a class from 0 to {n - 1} in target{remedy}, not {int(t[place])}{at}"
        )


def _rounding_of_sum(t: Any) -> float:
    """Return how far from 1 a sum of probabilities of a type may be: each was rounded."""
    name = str(getattr(t, "dtype", "float64"))
    if name.endswith("float16"):  # and bfloat16: two or three digits
        return 1e-2
    return 1e-3 if name.endswith("float32") else 1e-6


def check_distribution(t: Any, axis: int, given: Any) -> None:
    """Raise an error if rows of `t`, the target that was `given`, are not probabilities."""
    if not is_host_known(t):
        return
    t = np.asarray(t.detach() if hasattr(t, "detach") else t)
    wrong = ~((t >= 0) & (t <= 1))
    if wrong.any():
        place = first_index(np.moveaxis(wrong, -1, axis))
        value = np.moveaxis(t, -1, axis)[place]
        raise ValueError(f"expected probabilities in target, not {value} at {list(place)}")
    total = t.sum(-1, dtype=np.float64)
    wrong = abs(total - 1.0) > max(_rounding_of_sum(t), _rounding_of_sum(given))
    if wrong.any() and t.shape[-1]:
        place = first_index(wrong)
        raise ValueError(
            f"expected rows of target that sum to 1, not {total[place]} in row {list(place)}"
        )
