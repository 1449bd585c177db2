"""What every loss computes, in NumPy and float64: row by row, without what is left out."""

from ._multilabel import multilabel_cross_entropy

__all__ = ["multilabel_cross_entropy"]
