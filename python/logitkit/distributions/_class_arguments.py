"""What logits and classes must be like where a distribution over classes is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from .._backend import as_array
from .._real_array import real_array, real_number


def check_logits(logits: Any) -> None:
    """Raise an error if a row of logits is none of a distribution."""
    if logits.shape[-1] == 0:
        raise ValueError(f"expected at least one class, not logits of shape {logits.shape}")
    wrong = np.isnan(logits) | (logits == np.inf)
    if np.any(wrong):
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise ValueError(f"expected logits that are finite or -inf, not {logits[place]} at {place}")
    masked = np.all(logits == -np.inf, axis=-1)
    if np.any(masked):
        place = tuple(map(int, np.argwhere(masked)[0])) if masked.ndim else ()
        raise ValueError(
            f"expected a finite logit in every row, but row {place} is -inf throughout"
        )


def cotangent_of(shape: tuple[int, ...], cotangent: Any) -> Any:
    """Return a cotangent broadcast to the shape of the logits."""
    g = real_array("cotangent", cotangent)
    try:
        return np.broadcast_to(g, shape)
    except ValueError:
        raise ValueError(
            f"expected cotangent that broadcasts to {shape}, a number for each logit, not of "
            f"shape {g.shape}"
        ) from None


def shape_of_sample(sample_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return a shape that is given as a tuple or as one number."""
    try:
        sizes = (sample_shape,) if hasattr(sample_shape, "__index__") else tuple(sample_shape)
        shape = tuple(map(index, sizes))
    except TypeError:
        raise TypeError(
            f"expected sample_shape as an integer or a tuple of integers, not {sample_shape!r}"
        ) from None
    if any(size < 0 for size in shape):
        raise ValueError(f"expected sizes that are not negative, not the shape {shape}")
    return shape


def temperature_of_sample(temperature: float) -> float:
    """Return the temperature of a relaxed draw, checked."""
    temperature = real_number("temperature", temperature)
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"expected 0 < temperature < inf, not {temperature}")
    return temperature


def shape_with_batch(value: tuple[int, ...], batch: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of classes of this shape and of a batch, or say that they do not fit."""
    try:
        return np.broadcast_shapes(value, batch)
    except ValueError:
        raise ValueError(
            f"expected classes that broadcast against the batch {batch}, not of shape {value}"
        ) from None


def check_same_classes(own: Any, other: Any, kind: type[Any]) -> None:
    """Raise an error unless `other` is a distribution of this kind that can be compared."""
    if not isinstance(other, kind):
        raise TypeError(f"expected an {kind.__name__}, not {type(other).__name__}")
    if other.num_classes != own.num_classes:
        raise ValueError(
            f"expected a distribution over {own.num_classes} classes, not {other.num_classes}"
        )
    try:
        np.broadcast_shapes(own.batch_shape, other.batch_shape)
    except ValueError:
        raise ValueError(
            f"expected a batch that broadcasts against {own.batch_shape}, not {other.batch_shape}"
        ) from None


def check_classes(value: Any, num_classes: int) -> Any:
    """Return classes as an array, or raise an error if one of them is none."""
    classes = as_array(value)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"expected classes as integers, not {classes.dtype}")
    wrong = np.argwhere((classes < 0) | (classes >= num_classes))
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        raise ValueError(
            f"expected classes from 0 to {num_classes - 1}, not {classes[place]}"
            + (f" at {place}" if place else "")
        )
    return classes
