"""Pure functions of processes and times that most runs ask for again."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """
    Look up what a function has returned for the same arguments.

    Where samples have times of their own, which cannot be looked up, it is called.
    """
    known = lru_cache(maxsize=4096)(function)

    @wraps(function)
    def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return known(*args, **kwargs)  # type: ignore[arg-type]
        except TypeError:  # an array has no hash
            return function(*args, **kwargs)

    return look_up
