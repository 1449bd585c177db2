"""What logits and classes must be like where a distribution over classes is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from .._backend import as_array
from .._real_array import real_array


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
    sizes = (sample_shape,) if hasattr(sample_shape, "__index__") else tuple(sample_shape)
    shape = tuple(map(index, sizes))
    if any(size < 0 for size in shape):
        raise ValueError(f"expected sizes that are not negative, not the shape {shape}")
    return shape


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
