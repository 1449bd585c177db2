"""Checks of the numbers and functions that make a schedule, a solver or a guidance."""

from __future__ import annotations

import math
from operator import index
from typing import Any


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    or_infinite: bool = False,
) -> None:
    """Say so if a parameter is no number, is not finite, or is out of its range."""
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    finite = math.isfinite(number) or (or_infinite and number == math.inf)
    if finite and low <= number <= high and not (open_low and number == low):
        return
    below = "" if low == -math.inf else f" {'above' if open_low else 'from'} {low:g}"
    above = "" if high == math.inf else f" to {high:g}"
    kind = "number" if or_infinite else "finite number"
    raise ValueError(f"expected {name} to be a {kind}{below}{above}, not {value!r}")


def check_weight(name: str, value: Any) -> None:
    """Say so if a weight is neither a finite number nor a function of the time."""
    if not callable(value):
        try:
            check_number(name, value)
        except ValueError:
            raise ValueError(
                f"expected {name} to be a finite number or a function of the time, not {value!r}"
            ) from None


def check_function(name: str, value: Any) -> None:
    """Say so if what is to be called cannot be."""
    if not callable(value):
        raise TypeError(f"expected {name} to be callable, not {value!r}")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least `least`, or say what is wrong with it."""
    try:
        count = index(value)
    except TypeError:
        whole = isinstance(value, float) and value.is_integer()
        count = int(value) if whole else least - 1
    if count < least:
        raise ValueError(f"expected {name} to be a whole number from {least}, not {value!r}")
    return count


def check_span(span: Any) -> None:
    """Say so if a span is not the time of clean data and a later one."""
    try:
        first, last = (float(time) for time in span)
    except (TypeError, ValueError):
        first, last = math.nan, math.nan
    if not -math.inf < first < last < math.inf:
        raise ValueError(
            f"expected a span of two rising finite times, clean data first, not {span!r}"
        )


def check_process(process: Any, *needed: str) -> None:
    """Say so if what should be a process is none, or lacks what is needed of it."""
    if isinstance(process, type) or not hasattr(process, "span"):
        raise TypeError(f"expected a process such as Gaussian(Cosine()), not {process!r}")
    for name in needed:
        if not hasattr(process, name):
            raise TypeError(
                f"expected a process with `{name}`, as Gaussian has, not {type(process).__name__}"
            )


def check_guidance(name: str, guidance: Any) -> None:
    """Say so if what should be a guidance is none."""
    if isinstance(guidance, type) or not (callable(guidance) and hasattr(guidance, "check")):
        raise TypeError(
            f"expected {name} to be a guidance such as ClassifierFree(3.0), not {guidance!r}"
        )
