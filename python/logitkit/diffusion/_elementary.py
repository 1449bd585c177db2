"""
Elementary functions of a float, or of a float64 array with a number for each sample.

For a single number Python's own are ten times as fast as NumPy's. Both give infinities and NaN
where IEEE 754 does, without an exception or a warning.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def exp(x: Any) -> Any:
    """Return e^x."""
    if isinstance(x, float):
        return math.exp(x) if x < 709.0 else float(np.exp(min(x, 710.0)))
    with np.errstate(over="ignore"):
        return np.exp(x)


def expm1(x: Any) -> Any:
    """Return e^x - 1."""
    if isinstance(x, float):
        return math.expm1(x) if x < 709.0 else exp(x)
    with np.errstate(over="ignore"):
        return np.expm1(x)


def log(x: Any) -> Any:
    """Return log(x), -inf at 0."""
    if isinstance(x, float):
        return math.log(x) if x > 0.0 else -math.inf if x == 0.0 else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


def log1p(x: Any) -> Any:
    """Return log(1 + x), -inf at -1."""
    if isinstance(x, float):
        return math.log1p(x) if x > -1.0 else -math.inf if x == -1.0 else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log1p(x)


def sqrt(x: Any) -> Any:
    """Return the square root."""
    if isinstance(x, float):
        return math.sqrt(x) if x >= 0.0 else math.nan
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


def divided(a: Any, b: Any) -> Any:
    """Return a / b."""
    if isinstance(a, float) and isinstance(b, float) and b != 0.0:
        return float(a) / float(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.divide(a, b)
    return quotient if quotient.ndim else float(quotient)


def all_finite(x: Any) -> bool:
    """Return whether no number is infinite or NaN."""
    return math.isfinite(x) if isinstance(x, float) else bool(np.all(np.isfinite(x)))
