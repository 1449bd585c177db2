"""Docstrings written once, where a method is promised, for all classes that have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Class = TypeVar("Class", bound=type)


def documented_by(promise: type) -> Callable[[Class], Class]:
    """Return a decorator that gives the methods of a class the docstrings of their promise."""

    def decorate(cls: Class) -> Class:
        for name, method in vars(cls).items():
            if callable(method) and not name.startswith("_") and method.__doc__ is None:
                method.__doc__ = getattr(promise, name).__doc__
        return cls

    return decorate
