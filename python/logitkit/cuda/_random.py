"""Random numbers on a GPU, and draws from a softmax by them: the streams of `logitkit.random`."""

from __future__ import annotations

from operator import index
from typing import Any, Protocol

import numpy as np

from .._lines import normalized
from ..random import Philox, as_philox
from ..reference import LargestScores
from ._arrays import (
    as_floating,
    compute_name,
    dense,
    dtype_name,
    empty,
    is_immutable,
    namespace_of,
    queue,
    with_wide_types,
    workspace,
)
from ._device import kernels

_REAL = ("float32", "float64")


class _Fill(Protocol):
    """A function that fills an array with draws."""

    def __call__(self, rng: int | Philox, out: Any, *, rows: Any = None) -> Any: ...


def _filler(stream: str, what: str, types: tuple[str, ...] = _REAL) -> _Fill:
    """Return the function that fills an array with the numbers of a method of `Philox`."""

    def fill(rng: int | Philox, out: Any, *, rows: Any = None) -> Any:
        return _filled(getattr(kernels(), f"random_{stream}"), types, rng, out, rows)

    fill.__name__ = fill.__qualname__ = f"random_{stream}"
    fill.__doc__ = f"""
    Fill an array on a GPU {what}.

    Parameters
    ----------
    rng : int or Philox
        A seed, or a generator.
    out : array of {" or ".join(types)} on a GPU, shape (r, ...)
        Where to write, dense and in the order of C.
    rows : array_like of int64, shape (r,), optional
        The ids of the rows. Default: 0, 1, ...

    Returns
    -------
    array
        `out`: the numbers of ``Philox.{stream}``, bit by bit.
    """
    return fill


random_bits = _filler("bits", "with integers of 64 bits", ("uint64",))
random_uniform = _filler("uniform", "from the uniform law on (0, 1)")
random_exponential = _filler("exponential", "from the exponential law of mean 1")
random_gumbel = _filler("gumbel", "from the standard Gumbel law")
random_normal = _filler("normal", "from the standard normal law")


@with_wide_types
def gumbel_argmax(logits: Any, rng: int | Philox, axis: int = -1, *, rows: Any = None) -> Any:
    """
    Draw a class from the softmax of logits on a GPU.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n, ...)
        Logits, in nats. ``-inf`` masks a class.
    rng : int or Philox
        A seed, or a generator.
    axis : int, optional
        The axis of the `n` classes.
    rows : array_like of int64, optional
        An id for each line, as in ``logitkit.random.gumbel_argmax``.

    Returns
    -------
    array of int64
        The indices of the classes, in the shape of `logits` without `axis`: those that the same
        logits give in main memory. -1 for a line with NaN or ``+inf``, or with ``-inf`` alone,
        as nobody waits for the GPU to see it.

    Raises
    ------
    TypeError
        If `logits` does not hold real numbers, or `rng` is neither an integer nor a `Philox`.
    ValueError
        If there is no class, or `rows` is of another shape.
    numpy.exceptions.AxisError
        If `logits` has no such `axis`.

    See Also
    --------
    logitkit.random.gumbel_argmax : The same for arrays in main memory, with explanations.
    """
    x, shape, _ = _classes_last(logits, axis)
    philox = as_philox(rng)
    count = x.shape[0]
    indices = empty((count,), "int64", x)
    if count:
        memory = workspace(kernels().gumbel_workspace(*x.shape, 1), x)
        ids = row_ids(rows, shape, x)
        queue(kernels().gumbel_argmax, x, philox.seed, philox.step, ids, indices, memory)
    return indices.reshape(shape)


@with_wide_types
def gumbel_top_k(
    logits: Any, k: int, rng: int | Philox, axis: int = -1, *, rows: Any = None
) -> LargestScores:
    """
    Draw `k` classes from the softmax of logits on a GPU, without replacement.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n, ...)
        Logits, in nats. ``-inf`` masks a class.
    k : int
        How many classes, from 1 to `n`; the kernel is made for few.
    rng : int or Philox
        A seed, or a generator.
    axis : int, optional
        The axis of the `n` classes.
    rows : array_like of int64, optional
        An id for each line, as in ``logitkit.random.gumbel_argmax``.

    Returns
    -------
    LargestScores
        As ``logitkit.random.gumbel_top_k`` explains; NaN and -1 for lines with NaN or ``+inf``.

    Raises
    ------
    TypeError
        If `logits` does not hold real numbers, or `rng` is neither an integer nor a `Philox`.
    ValueError
        If `k` is not from 1 to `n`, or `rows` is of another shape.
    numpy.exceptions.AxisError
        If `logits` has no such `axis`.

    See Also
    --------
    logitkit.random.gumbel_top_k : The same for arrays in main memory, with explanations.
    """
    x, shape, axis = _classes_last(logits, axis)
    k, (count, n) = index(k), x.shape
    if not 1 <= k <= n:
        raise ValueError(f"expected k from 1 to the {n} classes, not {k}")
    philox = as_philox(rng)
    values, indices = empty((count, k), compute_name(x), x), empty((count, k), "int64", x)
    if count:
        memory = workspace(kernels().gumbel_workspace(count, n, k), x)
        ids = row_ids(rows, shape, x)
        queue(kernels().gumbel_top_k, x, philox.seed, philox.step, ids, values, indices, memory)
    xp = namespace_of(x)
    values = xp.astype(values, x.dtype)
    return LargestScores(
        *(xp.moveaxis(result.reshape((*shape, k)), -1, axis) for result in (values, indices))
    )


def row_ids(rows: Any, shape: tuple[int, ...], like: Any) -> Any:
    """Return the ids of rows on the device of `like`, or None for 0, 1, ..."""
    if rows is None:
        return None
    given = rows if hasattr(rows, "__dlpack__") else np.asarray(rows)
    if not dtype_name(given).startswith(("int", "uint")) or tuple(given.shape) != shape:
        raise ValueError(
            f"expected rows of integers of shape {shape}, not of type {given.dtype} and shape "
            f"{tuple(given.shape)}"
        )
    xp = namespace_of(like)
    ids = xp.asarray(given, dtype=xp.int64, device=like.device)
    return dense(ids).reshape((-1,))


def _filled(fill: Any, types: tuple[str, ...], rng: int | Philox, out: Any, rows: Any) -> Any:
    if dtype_name(out) not in types or out.ndim == 0:
        raise TypeError(
            f"expected out of {' or '.join(types)} with an axis of rows, not {out.dtype} of shape "
            f"{tuple(out.shape)}"
        )
    if is_immutable(out):
        raise TypeError("expected out to be an array that may be written into, unlike those of JAX")
    philox = as_philox(rng)
    if 0 not in out.shape:
        queue(fill, out, philox.seed, philox.step, row_ids(rows, (out.shape[0],), out))
    return out


def _classes_last(logits: Any, axis: int) -> tuple[Any, tuple[int, ...], int]:
    """Return dense rows, their shape before, and where the classes were."""
    x = as_floating(logits)
    (axis,) = normalized(index(axis), x.ndim)
    moved = namespace_of(x).moveaxis(x, axis, -1)
    shape, n = tuple(moved.shape[:-1]), moved.shape[-1]
    if n == 0:
        raise ValueError(f"expected at least one class, not {n} along axis {axis} of the logits")
    rows = 1
    for size in shape:
        rows *= size
    return dense(moved).reshape((rows, n)), shape, axis
