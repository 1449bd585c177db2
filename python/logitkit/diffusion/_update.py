"""The one place where a step of a solver is computed: a x + b y + c z."""

from __future__ import annotations

from typing import Any

from ._arrays import Array, spread


def update(a: Any, x: Array, b: Any, y: Array, c: Any = None, z: Array | None = None) -> Array:
    """
    Return a x + b y + c z, in the type of `x`.

    The factors are floats, or float64 arrays with one for each sample.
    """
    result = spread(a, x) * x + spread(b, x) * y
    return result if z is None else result + spread(c, x) * z
