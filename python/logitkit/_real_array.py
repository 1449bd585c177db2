"""Arguments of the functions that NumPy computes: arrays of real numbers in main memory."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from ._backend import as_array


def real_array(name: str, value: Any) -> Any:
    """Return `value` as an array of real numbers of at most 64 bits, or say what is wrong."""
    array = as_array(value)
    half = array.dtype.name == "bfloat16"  # of ml_dtypes, whose kind is not that of a float
    if not half and (array.dtype.kind not in "biuf" or array.dtype.itemsize > 8):
        raise TypeError(f"expected {name} of real numbers of at most 64 bits, not {array.dtype}")
    return array


def real_number(name: str, value: Any) -> float:
    """Return `value` as a float, or say what is wrong."""
    try:
        if not isinstance(value, str):  # of which float would make numbers
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"expected {name} as one number, not {value!r}")


def whole_number(name: str, value: Any) -> int:
    """Return `value` as an int, or say what is wrong."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"expected {name} as an integer, not {value!r}") from None


def epsilon(dtype: np.dtype[Any]) -> float:
    """Return the distance from 1 to the next number of a type; of float64 for integers."""
    if dtype.name == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def smallest_normal(dtype: np.dtype[Any]) -> float:
    """Return the smallest number of a type with all of its digits; of float64 for integers."""
    if dtype.name == "bfloat16":
        return 2.0**-126
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).tiny)
