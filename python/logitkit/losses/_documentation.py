"""What the docstrings of losses have in common."""

from __future__ import annotations

import inspect

_LAST = """\
sample_weight : array_like or Tensor, optional
    Weights of the rows, broadcast against the values. A mean divides by their sum.
reduction : {"mean", "sum", "none"} or callable, default "mean"
    What to make of the values of the rows; a function is given the weighted values.
denominator : float, optional
    The divisor of the mean in place of the sum of weights, such as the number of rows in all
    parts of a batch.
"""

_KEPT_ROWS = """\
axis : int, default -1
    The axis of the classes.
mask : array_like or Tensor of bool, optional
    Which rows count, broadcast against the values. Others may hold anything, even NaN.
ignore_index : int or None, default -100
    A class in `target` for rows that do not count.
"""

_CLASS_ROWS = (
    """\
axis : int, default -1
    The axis of the classes.
weight : array_like or Tensor, shape (n,), optional
    Weights of the classes, which may be negative. A mean divides by those of the classes in
    `target`, as in PyTorch.
mask : array_like or Tensor of bool, optional
    Which rows count, broadcast against the values. Others may hold anything, even NaN.
ignore_index : int or None, default -100
    A class in `target` for rows that do not count.
label_smoothing : float, default 0
    How much of each target to spread over all classes.
z_loss : float, default 0
    Factor of the square of log-sum-exp, which is added to the value of each row. `weight` does
    not multiply it, though a mean divides the sum of both by its weights.
"""
    + _LAST
)

_LABEL_ROWS = (
    """\
axis : int, default -1
    The axis of the labels.
mask : array_like or Tensor of bool, optional
    Which labels count, broadcast against `logits`. Others may hold anything, even NaN. A row
    without any that counts is left out of the mean.
ignore_index : int, optional
    A value of `target` for labels that do not count, such as -100.
"""
    + _LAST
)

_METRIC = """\
axis : int or tuple of ints, optional
    The axes of a group of labels, which has one metric. Default: all of them.
mask : array_like or Tensor of bool, optional
    Which labels count, broadcast against `logits`. Others may hold anything, even NaN.
sample_weight : array_like or Tensor, optional
    Weights of the labels within their groups, broadcast against `logits`, not below 0.
reduction : {"mean", "sum", "none"} or callable, default "mean"
    What to make of the values of the groups.
denominator : float, optional
    The divisor of the mean in place of the number of groups.
"""

_RETURNS = """\
Returns
-------
float or array or Tensor
    The loss in the floating-point type of `logits`: a number, or with "none" a value for each
    row, 0 for those left out. The mean of no rows is NaN.

Raises
------
ValueError
    If shapes differ, or the target or an option has a value that it may not have.
TypeError
    If an argument does not hold numbers of the kind that is expected.
"""

_PARTS = {
    "<class rows>": _CLASS_ROWS,
    "<kept rows>": _KEPT_ROWS,
    "<label rows>": _LABEL_ROWS,
    "<rows>": _LAST,
    "<metric>": _METRIC,
    "<returns>": _RETURNS,
}


def documented(text: str | None) -> str | None:
    """Return a docstring with the parts that it names."""
    if text is None:  # python -OO
        return None
    text = inspect.cleandoc(text)
    for name, part in _PARTS.items():
        text = text.replace(name, part.rstrip())
    return f"\n{text}\n"
