"""Arguments of losses whose target has the shape of the logits: a truth for each label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._lines import one_axis
from .._real_array import real_number
from .._shapes import check_broadcast
from ._namespace import (
    broadcast,
    cast,
    first_index,
    floating,
    is_bool,
    is_floating,
    is_host_known,
    like,
    moveaxis,
    namespace_of,
    whole,
    with_axis_last,
)
from ._reduction import Reduction, Weighting


class LabelRows(NamedTuple):
    """Logits and targets with the labels in the last axis, and how to make gradients of them."""

    logits: Any
    target: Any
    mask: Any
    weighting: Weighting
    dtype: Any
    undo: tuple[Callable[[Any], Any], ...]


def label_rows(
    logits: Any,
    target: Any,
    *,
    axis: int,
    threshold: Any = None,
    mask: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> LabelRows:
    """Return `logits` less `threshold` and `target`, checked, and labels in the last axis."""
    s, dtype = floating("logits", logits)
    xp = namespace_of(s)
    t = like("target", target, s)
    if s.ndim == 0 or t.shape != s.shape:
        raise ValueError(
            f"expected target of shape {tuple(s.shape)}, that of logits with at least one axis, "
            f"not {tuple(t.shape)}"
        )
    axis = one_axis(axis, s.ndim)
    given = (s.dtype, t.dtype)
    s, t = moveaxis(s, axis, -1), moveaxis(t, axis, -1)
    visible = _visible(s, t, mask, ignore_index, axis)
    if visible is not None and not is_bool(t):
        t = xp.where(visible, t, xp.zeros_like(t))
    check_probabilities(t, axis)
    t = smoothed(t, label_smoothing, s)
    if threshold is not None:
        level = like("threshold", threshold, s)
        check_broadcast("threshold", tuple(level.shape), tuple(s.shape[:-1]))
        s = s - (level if level.ndim == 0 else level[..., None])
    kept = None if visible is None else visible.any(-1)
    if sample_weight is not None:
        sample_weight = like("sample_weight", sample_weight, s)
    slope = 1.0 - float(label_smoothing)

    def undo(gradient: Any) -> Any:
        return cast(moveaxis(gradient, -1, axis), dtype)

    def undo_target(gradient: Any) -> Any:
        if given[1].kind != "f":
            raise ValueError(f"expected a target of probabilities to differentiate, not {given[1]}")
        return cast(moveaxis(slope * gradient, -1, axis), given[1])

    weighting = Weighting(reduction, sample_weight, kept, None, denominator)
    return LabelRows(s, t, visible, weighting, dtype, (undo, undo_target))


def _visible(s: Any, t: Any, mask: Any, ignore_index: int | None, axis: int) -> Any:
    """Return which labels count, in the shape of the logits, or None for all."""
    visible = None
    if mask is not None:
        mask = like("mask", mask, s)
        if not is_bool(mask):
            raise TypeError(f"expected mask of truth values, not {mask.dtype}: pass mask != 0")
        visible = broadcast("mask", with_axis_last(mask, axis, s.ndim), tuple(s.shape))
    if ignore_index is not None and not is_bool(t):
        known = whole(t) != real_number("ignore_index", ignore_index)
        visible = known if visible is None else visible & known
    return visible


def check_probabilities(t: Any, axis: int) -> None:
    """Raise an error if a target, with `axis` last, is not in [0, 1]."""
    if is_bool(t) or not is_host_known(t):
        return
    wrong = ~((t >= 0) & (t <= 1))
    if wrong.any():
        wrong = np.moveaxis(np.asarray(wrong), -1, axis)
        place = first_index(wrong)
        values = moveaxis(t, -1, axis)
        raise ValueError(
            f"expected targets from 0 to 1, not {values[place]} at {list(place)}: a label that "
            "shall not count is left out by mask, or by ignore_index"
        )


def smoothed(t: Any, label_smoothing: float, s: Any) -> Any:
    """Return truth values, or probabilities in the type of `s`, moved towards 1/2."""
    label_smoothing = real_number("label_smoothing", label_smoothing)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"expected 0 <= label_smoothing <= 1, not {label_smoothing}")
    if label_smoothing:
        return (1.0 - label_smoothing) * cast(t, s.dtype) + 0.5 * label_smoothing
    return t if is_floating(t) or is_bool(t) else t != 0
