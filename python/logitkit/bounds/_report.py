"""What `certify` found out: one check for each bound, and a table of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._rows import Array, quiet


class Worst(NamedTuple):
    """
    The check that comes closest to failing, or fails by the most.

    Parameters
    ----------
    name : str
        The bound.
    row : tuple of ints
        The index of the row.
    lower, value, upper : float
        What was compared.
    excess : float
        How far the value lies outside, in units of the rounding allowance: above 1 it fails.
    """

    name: str
    row: tuple[int, ...]
    lower: float
    value: float
    upper: float
    excess: float


@dataclass(frozen=True)
class Check:
    """
    One bound, evaluated on every row.

    Parameters
    ----------
    name : str
        The function of `logitkit.bounds`, with its arguments where there are any.
    quantity : str
        What it bounds.
    lower, value, upper : ndarray
        The sides and the quantity between them, one for each row, in ``float64``. NaN all
        three where the bound has no meaning.
    lower_allowance, upper_allowance : ndarray
        What rounding may have done to each side and the quantity together.
    """

    name: str
    quantity: str
    lower: Array
    value: Array
    upper: Array
    lower_allowance: Array
    upper_allowance: Array

    @property
    def lower_gap(self) -> Array:
        """How far the quantity lies above `lower`."""
        return _gap(self.lower, self.value)

    @property
    def upper_gap(self) -> Array:
        """How far the quantity lies below `upper`."""
        return _gap(self.value, self.upper)

    @cached_property
    def excess(self) -> Array:
        """
        How far the quantity lies outside, in units of the allowance; negative inside.

        Infinite where only one of bound and quantity is NaN, and -inf where both are.
        """
        with np.errstate(all="ignore"):
            sides = [
                (-self.lower_gap, self.lower_allowance),
                (-self.upper_gap, self.upper_allowance),
            ]
            below, above = (
                np.where((gap == 0.0) | (room == np.inf), 0.0, gap / room) for gap, room in sides
            )
        undefined = np.isnan(self.lower) & np.isnan(self.upper)
        agree = undefined == np.isnan(self.value)
        worse = np.maximum(below, above)
        excess = np.where(np.isnan(worse), np.inf, worse)
        return np.where(undefined & agree, -np.inf, np.where(agree, excess, np.inf))

    @property
    def holds(self) -> NDArray[np.bool_]:
        """Whether the bound holds, row by row, up to rounding."""
        return self.excess <= 1.0


@dataclass(frozen=True)
class Report:
    """
    What `logitkit.bounds.certify` returns.

    Parameters
    ----------
    checks : tuple of Check
        One for each bound that was evaluated: `name`, `quantity`, `lower`, `value`, `upper`,
        `lower_gap`, `upper_gap`, `excess` and `holds`, arrays with an element for each row.
    shape : tuple of ints
        The shape of the rows.
    """

    checks: tuple[Check, ...]
    shape: tuple[int, ...]

    def __getitem__(self, name: str) -> Check:
        """Return the check of one bound."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}, only {', '.join(check.name for check in self.checks)}")

    @property
    def holds(self) -> bool:
        """Whether every bound holds on every row, up to rounding."""
        return all(bool(check.holds.all()) for check in self.checks)

    @property
    def worst(self) -> Worst:
        """The check that comes closest to failing; an error if there is no row."""
        if 0 in self.shape:
            raise ValueError(f"no row to be the worst: the rows have shape {self.shape}")
        check = max(self.checks, key=lambda check: check.excess.max())
        row = np.unravel_index(int(np.argmax(check.excess)), self.shape) if self.shape else ()
        values = (check.lower, check.value, check.upper, check.excess)
        lower, value, upper, excess = (float(array[row]) for array in values)
        return Worst(check.name, tuple(int(i) for i in row), lower, value, upper, excess)

    def __str__(self) -> str:
        """Return a table: a line for each bound, with the least gaps over the rows."""
        failed = sum(not check.holds.all() for check in self.checks)
        verdict = "all hold" if failed == 0 else f"{failed} FAIL"
        rows = int(np.prod(self.shape))
        title = f"{len(self.checks)} bounds on {rows} row{'s' * (rows != 1)}: {verdict}"
        head = ("bound", "quantity", "above lower", "below upper", "excess", "")
        lines = [head, *(_line(check) for check in self.checks)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        return "\n".join([title, *(_aligned(line, widths) for line in lines)])


def _line(check: Check) -> tuple[str, ...]:
    gaps = (_least(check.lower_gap), _least(check.upper_gap))
    excess = f"{check.excess.max(initial=0.0):.2g}"
    return (check.name, check.quantity, *gaps, excess, "" if check.holds.all() else "FAILS")


def _least(gap: Array) -> str:
    """Give the least gap over the rows; that of a side without a claim is infinite."""
    known = gap[~np.isnan(gap)]
    return f"{known.min(initial=np.inf):.3g}"


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


@quiet
def _gap(low: Any, high: Any) -> Array:
    """Return high - low, of which equal infinities are zero apart."""
    return np.where(low == high, 0.0, high - low)
