"""Discrete choice: linear utilities with noise, the largest of which is chosen."""

from ._fit import ChoiceFit, fit

__all__ = ["ChoiceFit", "fit"]
