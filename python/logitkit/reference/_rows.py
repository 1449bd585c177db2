"""Arrays as the definitions want them: in float64, with what is reduced in the last axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def floating(x: ArrayLike) -> Any:
    """Return `x` in float64, or in the wider or complex type that its elements need."""
    x = np.asarray(x)
    return x.astype(np.result_type(x.dtype, np.float64), copy=False)


def as_rows(x: Any, axis: int | tuple[int, ...] | None) -> Any:
    """Return `x` with `axis` made one, the last."""
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    x = np.moveaxis(x, axes, tuple(range(-len(axes), 0)))
    kept = x.ndim - len(axes)
    return x.reshape(*x.shape[:kept], math.prod(x.shape[kept:]))
