"""Draws from a softmax by Gumbel noise, which is not stored."""

from __future__ import annotations

import math
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._backend import bridge_for
from .._lines import compute_type, normalized, plain, result_type
from .._real_array import real_array
from ..reference import LargestScores
from ._philox import Philox, as_philox


def gumbel_argmax(
    logits: Any, rng: int | Philox, axis: int = -1, *, rows: ArrayLike | None = None
) -> NDArray[np.int64]:
    r"""
    Draw a class from the softmax of logits.

    .. math:: \arg\max_i (x_i + g_i), \quad g_i = -\log(-\log u_i)

    is :math:`i` with probability :math:`e^{x_i} / \sum_j e^{x_j}` [1]_. Neither the noise nor the
    probabilities are stored, and there is no limit to the number of classes.

    Parameters
    ----------
    logits : array_like, shape (..., n, ...)
        Logits, in nats: real numbers of at most 64 bits. ``-inf`` masks a class.
    rng : int or Philox
        A seed, or a generator. The same one gives the same draw.
    axis : int, optional
        The axis of the `n` classes.
    rows : array_like of int64, optional
        An id for each line of `logits` along `axis`, in the shape of `logits` without it.
        Default: 0, 1, ... in the order of C. Who splits a batch gives its parts their ids, and
        gets the same draws.

    Returns
    -------
    numpy.ndarray of int64, or a tensor if `logits` is one
        The indices of the classes, in the shape of `logits` without `axis`.

    Raises
    ------
    TypeError
        If `logits` does not hold real numbers of at most 64 bits in main memory, or `rng` is
        neither an integer nor a `Philox`.
    ValueError
        If a line has NaN or ``+inf``, or nothing but ``-inf``; or if `rows` is of another shape.
    numpy.exceptions.AxisError
        If `logits` has no such `axis`.

    See Also
    --------
    gumbel_top_k : Several classes without replacement.
    logitkit.reference.gumbel_argmax : The same in NumPy and ``float64``.

    Notes
    -----
    Class `i` of a row draws element `i` of that row of `rng`, by `Philox.gumbel`. The noise has
    64 bits and reaches 45, so that probabilities down to ``2**-64`` are met; with the 24 bits
    that are common in ``float32`` it ends at 16.6. Results do not depend on the batch, the number
    of threads or the instruction set.

    References
    ----------
    .. [1] E. J. Gumbel, "Statistical theory of extreme values and some practical
       applications", National Bureau of Standards, 1954.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.random import gumbel_argmax
    >>> logits = np.log([[0.5, 0.25, 0.25]] * 8000)
    >>> np.bincount(gumbel_argmax(logits, 1)) / 8000
    array([0.490625, 0.2585  , 0.250875])
    """
    if (bridge := bridge_for(logits)) is not None:
        tensor: Any = bridge.gumbel_argmax(logits, rng, axis, rows=rows)
        return tensor  # type: ignore[no-any-return]
    lines = _Lines.of(logits, axis, rows)
    philox = as_philox(rng)
    indices = np.empty(len(lines.ids), np.int64)
    _cpu.gumbel_argmax(lines.logits, philox.seed, philox.step, lines.ids, indices)
    if indices.size and indices.min() < 0:
        lines.refuse(int(np.argmin(indices)))
    return indices.reshape(lines.shape)[()]


def gumbel_top_k(
    logits: Any, k: int, rng: int | Philox, axis: int = -1, *, rows: ArrayLike | None = None
) -> LargestScores:
    r"""
    Draw `k` classes from the softmax of logits, without replacement.

    The `k` largest :math:`x_i + g_i` with Gumbel noise, in their order: the first is drawn from
    the softmax, the second from that of the other classes, and so on, which is the law of
    Plackett and Luce [1]_.

    Parameters
    ----------
    logits : array_like, shape (..., n, ...)
        Logits, in nats: real numbers of at most 64 bits. ``-inf`` masks a class.
    k : int
        How many classes, from 1 to `n`.
    rng : int or Philox
        A seed, or a generator. The same one gives the same draw.
    axis : int, optional
        The axis of the `n` classes.
    rows : array_like of int64, optional
        An id for each line of `logits` along `axis`, as in `gumbel_argmax`.

    Returns
    -------
    LargestScores
        A named tuple of arrays, or of tensors if `logits` is one, shaped like `logits` with
        `k` elements along `axis`. `values`: :math:`x_i + g_i` in descending order, in the
        floating-point type of `logits`. `indices`: the classes, in ``int64``. Where fewer than
        `k` classes are not masked, the rest is ``-inf`` and -1.

    Raises
    ------
    TypeError
        If `logits` does not hold real numbers of at most 64 bits in main memory, or `rng` is
        neither an integer nor a `Philox`.
    ValueError
        If `k` is not from 1 to `n`, a line has NaN or ``+inf``, or `rows` is of another shape.
    numpy.exceptions.AxisError
        If `logits` has no such `axis`.

    See Also
    --------
    gumbel_argmax : The first of them; its notes hold here too.
    logitkit.reference.gumbel_top_k : The same in NumPy and ``float64``.

    References
    ----------
    .. [1] W. Kool, H. van Hoof, M. Welling, "Stochastic beams and where to find them: the
       Gumbel-top-k trick for sampling sequences without replacement", ICML 2019,
       arXiv:1903.06059.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.random import gumbel_top_k
    >>> gumbel_top_k(np.log([0.5, 0.3, 0.2]), 2, 1).indices
    array([0, 2])
    """
    if (bridge := bridge_for(logits)) is not None:
        tensors: LargestScores = bridge.gumbel_top_k(logits, k, rng, axis, rows=rows)
        return tensors
    lines = _Lines.of(logits, axis, rows)
    k = index(k)
    if not 1 <= k <= lines.logits.shape[1]:
        raise ValueError(f"expected k from 1 to the {lines.logits.shape[1]} classes, not {k}")
    philox = as_philox(rng)
    values = np.empty((len(lines.ids), k), lines.logits.dtype)
    indices = np.empty((len(lines.ids), k), np.int64)
    _cpu.gumbel_top_k(lines.logits, philox.seed, philox.step, lines.ids, values, indices)
    if (nan := np.isnan(values[:, 0])).any():
        lines.refuse(int(np.argmax(nan)))
    values = values.astype(lines.dtype, copy=False)
    return LargestScores(lines.with_axis(values), lines.with_axis(indices))


class _Lines(NamedTuple):
    """Logits as rows that the kernels read, and what brings their results back."""

    logits: Any
    ids: NDArray[np.int64]
    shape: tuple[int, ...]
    axis: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, logits: Any, axis: int, rows: ArrayLike | None) -> _Lines:
        short = plain(logits, axis)
        if short is not None and short[1] == logits.ndim - 1:
            moved, axis = short
            dtype = compute = moved.dtype
        else:
            x = real_array("logits", logits)
            (axis,) = normalized(index(axis), x.ndim)
            moved, dtype = np.moveaxis(x, axis, -1), result_type(x)
            compute = compute_type(dtype)
        shape, n = moved.shape[:-1], moved.shape[-1]
        if n == 0:
            raise ValueError(
                f"expected at least one class, not {n} along axis {axis} of the logits"
            )
        dense = np.ascontiguousarray(moved, compute).reshape(math.prod(shape), n)
        if rows is None:
            return cls(dense, np.arange(len(dense)), shape, axis, dtype)
        ids = np.asarray(rows)
        if ids.dtype.kind not in "iu" or ids.shape != shape:
            raise ValueError(
                f"expected rows of integers of shape {shape}, that of logits without axis {axis}, "
                f"not of type {ids.dtype} and shape {ids.shape}"
            )
        return cls(dense, np.ascontiguousarray(ids, np.int64).reshape(-1), shape, axis, dtype)

    def refuse(self, row: int) -> None:
        """Raise the error for a row without a softmax."""
        x = self.logits[row]
        bad = np.flatnonzero(np.isnan(x) | (x == np.inf))
        place = np.unravel_index(row, self.shape) if self.shape else ()
        where = f"line {tuple(map(int, place))} of the logits"
        if bad.size:
            raise ValueError(
                f"expected logits that are finite or -inf, not {x[bad[0]]} as class {bad[0]} of "
                f"{where}"
            )
        raise ValueError(f"expected a class that is not masked: {where} is -inf throughout")

    def with_axis(self, result: Any) -> Any:
        """Return results of shape (lines, k) with the `k` along the axis."""
        return np.moveaxis(result.reshape(*self.shape, result.shape[-1]), -1, self.axis)
