"""Arguments of the bounds as rows of float64, what is asked of a row, and how it rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._lines import one_axis, result_type
from .._logsumexp import logsumexp
from .._real_array import epsilon, real_array, real_number, smallest_normal

Array = NDArray[np.float64]
Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")
UNIT = 2.0**-53  # the unit roundoff of float64, in which every bound is computed


def quiet(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Let a function compute with infinities, which have a meaning here, without warnings."""

    @wraps(function)
    def without_warnings(*args: Inputs.args, **keywords: Inputs.kwargs) -> Output:
        with np.errstate(all="ignore"):
            return function(*args, **keywords)

    return without_warnings


class Bounds(NamedTuple):
    """
    What a bound returns: arrays of one shape, or scalars.

    Parameters
    ----------
    lower : ndarray or scalar
        The quantity is not smaller; ``-inf`` where nothing is claimed.
    upper : ndarray or scalar
        The quantity is not larger; ``inf`` where nothing is claimed.
    """

    lower: Any
    upper: Any


class Sides(NamedTuple):
    """Both sides of a bound in float64, and how far rounding may have moved each."""

    lower: Array
    upper: Array
    lower_rounding: Array
    upper_rounding: Array


@dataclass(frozen=True)
class Rows:
    """An argument in float64 with its axis moved last, and the type that results get."""

    values: Array
    dtype: np.dtype[Any]

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """Whether an entry counts: -inf is an entry that is not there."""
        return np.asarray(self.values != -np.inf)

    @cached_property
    def count(self) -> NDArray[np.int64]:
        """The number of entries that count."""
        return np.asarray(np.count_nonzero(self.visible, axis=-1))

    @cached_property
    def log_count(self) -> Array:
        """Its logarithm."""
        with np.errstate(divide="ignore"):
            return np.log(self.count)

    @cached_property
    def max(self) -> Array:
        """The largest entry: -inf of nothing, NaN of NaN."""
        return np.asarray(np.max(self.values, axis=-1, initial=-np.inf))

    @cached_property
    def size(self) -> Array:
        """The largest magnitude of what counts."""
        return np.asarray(np.max(np.abs(self.values), axis=-1, where=self.visible, initial=0.0))

    def sides(
        self, lower: Any, upper: Any, lower_rounding: Any = 0.0, upper_rounding: Any = 0.0
    ) -> Sides:
        """Make both sides arrays of the rows' shape, NaN for a row with NaN."""
        lower, upper = (np.where(np.isnan(self.max), np.nan, side) for side in (lower, upper))
        return Sides(
            lower,
            upper,
            np.where(np.isfinite(lower), lower_rounding, 0.0),  # infinities are exact
            np.where(np.isfinite(upper), upper_rounding, 0.0),
        )

    @quiet
    def rounded(self, sides: Sides) -> Bounds:
        """Give the sides in the type of the results."""
        return Bounds(sides.lower.astype(self.dtype)[()], sides.upper.astype(self.dtype)[()])


def read(axis: int, /, **given: Any) -> list[Rows]:
    """Return the arguments as rows, broadcast against each other."""
    arrays = {name: real_array(name, value) for name, value in given.items()}
    try:
        together = np.broadcast_arrays(*arrays.values())
    except ValueError as error:
        shapes = " and ".join(f"{name} of shape {array.shape}" for name, array in arrays.items())
        raise ValueError(f"cannot broadcast {shapes} against each other") from error
    result = result_type(*arrays.values())
    moved = (np.moveaxis(array, one_axis(axis, array.ndim), -1) for array in together)
    return [Rows(np.ascontiguousarray(array, np.float64), result) for array in moved]


def positive(name: str, value: float) -> float:
    """Return a positive, finite number, or say what is wrong with it."""
    if not (math.isfinite(value := real_number(name, value)) and value > 0.0):
        raise ValueError(f"expected {name} > 0 and finite, not {value}")
    return value


def row_name(name: str, index: Any) -> str:
    """Say which row of `name` is meant, if it has several."""
    return f"row {', '.join(str(int(i)) for i in index)} of {name}" if len(index) else name


def refuse(name: str, rows: Rows, wrong: NDArray[np.bool_], remedy: str) -> None:
    """Raise an error that names the first wrong entry."""
    if wrong.any():
        *row, entry = np.argwhere(wrong)[0]
        value = rows.values[(*row, entry)]
        raise ValueError(f"entry {entry} of {row_name(name, row)} is {value}: {remedy}")


def require_mask_or_finite(name: str, rows: Rows) -> None:
    """Refuse NaN and +inf, at which nothing can be expanded."""
    wrong = np.isnan(rows.values) | (rows.values == np.inf)
    refuse(name, rows, wrong, "expected a finite number, or -inf for a masked entry")


@quiet
def spread(values: Array, where: Any = True) -> Array:
    """Return max - min over the entries named, and 0 for none and for one infinity alone."""
    top = np.max(values, axis=-1, where=where, initial=-np.inf)
    bottom = np.min(values, axis=-1, where=where, initial=np.inf)
    return np.where((top == bottom) | (bottom > top), 0.0, top - bottom)


@quiet
def weighted_mean(weights: Array, values: Array) -> tuple[Array, Array]:
    """Return sum(weights * values) of weights that sum to one, and the same of magnitudes."""
    used = weights > 0.0  # a weight of zero drops its entry, even an infinite one
    terms = np.where(used, weights * values, 0.0)
    bottom = np.min(values, axis=-1, where=used, initial=np.inf)
    top = np.max(values, axis=-1, where=used, initial=-np.inf)
    # A mean lies between the extremes; this also mends a sum that overflowed.
    mean = np.minimum(np.maximum(np.sum(terms, axis=-1), bottom), top)
    return mean, np.sum(np.abs(terms), axis=-1)


def summation(n: int) -> float:
    """
    Relative error of a sum of `n` terms, and of one rounding in each.

    NumPy adds contiguous numbers in pairs of blocks: 8 sums of up to 16 terms each, then
    a tree, so that a term meets at most 16 + 3 + log2(n / 128) additions, and n - 1 if there
    are fewer than 8.
    """
    return UNIT * min(n, 14 + math.ceil(math.log2(max(n, 2))))


@quiet
def log_sum_exp(values: Array) -> tuple[Array, Array]:
    """Return log-sum-exp of each row, and the error that its contract allows."""
    result = logsumexp(values, axis=-1)
    result = np.asarray(result)
    return result, allowed_error(result, np.dtype(np.float64))


@quiet
def allowed_error(result: Array, dtype: np.dtype[Any], ulps: float = 1.0) -> Array:
    """Return `ulps` units in the last place of a log-sum-exp, 2^-100 more in float64."""
    _, exponent = np.frexp(np.maximum(np.abs(result), smallest_normal(dtype)))
    unit = np.ldexp(epsilon(dtype), exponent - 1)
    near_zero = 2.0**-100 if dtype == np.float64 else 0.0
    return np.where(np.isfinite(result), ulps * unit + near_zero, 0.0)
