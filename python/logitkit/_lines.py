"""Arrays as the kernels read them: dense, in the order of memory, reduced along one axis."""

from __future__ import annotations

import math
from operator import index
from typing import Any, NamedTuple

import numpy as np

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def plain(x: Any, axis: object) -> tuple[Any, int] | None:
    """
    Return `x`, and `axis` from 0, if the kernels can read it as it is: the short way of a call.

    Flat if `axis` is None. The long way, by `Lines`, gives the same results.
    """
    if (
        type(x) is np.ndarray
        and (x.dtype is _FLOAT32 or x.dtype is _FLOAT64)
        and x.flags.carray
        and x.ndim > 0
    ):
        if axis is None:
            return x.reshape(-1), 0
        if type(axis) is int and -x.ndim <= axis < x.ndim:
            return x, axis % x.ndim
    return None


def plain_result(x: Any, shape: tuple[int, ...], out: Any) -> Any:
    """Return memory for a result of the short way, or None if `out` needs the long one."""
    if out is None:
        return np.empty(shape, x.dtype)
    fits = (
        type(out) is np.ndarray
        and out.dtype is x.dtype
        and out.shape == shape
        and out.flags.carray
        and (out is x or not np.may_share_memory(out, x))
    )
    return out if fits else None


def result_type(*arrays: Any) -> np.dtype[Any]:
    """
    Return the type of a function of `arrays`: what NumPy promotes them to, if it has a fraction.

    Otherwise it is ``float64``. Python's numbers count as in NumPy 2: ``1.0`` leaves
    ``float32`` what it is.
    """
    dtype = np.result_type(*(getattr(array, "dtype", array) for array in arrays))
    if dtype.kind in "biu":
        return _FLOAT64
    if issubclass(dtype.type, np.inexact) or _is_bfloat16(dtype):
        return dtype
    remedy = ": pass x.astype(float) if these are numbers" if dtype == object else ""
    raise TypeError(f"expected numbers of a NumPy type or bfloat16, not {dtype}{remedy}")


def compute_type(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the type in which the kernels compute results of `dtype`; None if they cannot."""
    if dtype in (_FLOAT32, _FLOAT64):
        return dtype
    return _FLOAT32 if dtype == np.float16 or _is_bfloat16(dtype) else None


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    return dtype.type.__name__ == "bfloat16"  # ml_dtypes has it, which we need not import


def normalized(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes that `axis` stands for, each from 0 to ``ndim - 1``; None: all."""
    if axis is None:
        return tuple(range(ndim))
    axes = []
    try:
        given = tuple(map(index, axis if isinstance(axis, tuple) else (axis,)))
    except TypeError:
        raise TypeError(
            f"expected axis as an integer, a tuple of integers or None, not {axis!r}"
        ) from None
    for i in given:
        if not -ndim <= i < ndim:
            raise np.exceptions.AxisError(i, ndim)
        axes.append(i % ndim)
    if len(set(axes)) < len(axes):
        raise ValueError(f"duplicate value in 'axis': {axis}")
    return tuple(axes)


def one_axis(axis: Any, ndim: int) -> int:
    """Return the one axis that `axis` stands for, from 0 to ``ndim - 1``."""
    if not hasattr(axis, "__index__"):
        raise TypeError(f"expected axis as one integer, not {axis!r}")
    return normalized(axis, ndim)[0]


def reduced(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """Return `shape` without `axes`, or with length one there."""
    sizes = enumerate(shape)
    if keepdims:
        return tuple(1 if i in axes else size for i, size in sizes)
    return tuple(size for i, size in sizes if i not in axes)


class Lines(NamedTuple):
    """
    An array of at least one axis, seen as the lines that are reduced.

    `array` is C-contiguous, of shape ``(outer, n, inner)``: its lines of `n` elements run
    along axis 1. `order` names the axes of the original from the outermost in memory to the
    innermost.
    """

    array: Any
    order: tuple[int, ...]

    @classmethod
    def of(cls, x: Any, axes: tuple[int, ...], dtype: Any) -> Lines:
        """
        Return the lines of `x`, of type `dtype`, along `axes`: a view if `x` is dense.

        In any order of its axes, that is, as long as no other axis lies between those in
        `axes`.
        """
        # Axes of length one have meaningless strides, and lie outside of all others.
        order = sorted(range(x.ndim), key=lambda i: (x.shape[i] != 1, -abs(x.strides[i])))
        lines = [k for k, i in enumerate(order) if i in axes and x.shape[i] != 1]
        end = lines[-1] + 1 if lines else x.ndim
        start = end - len(lines)
        if lines and start != lines[0]:
            order = [i for i in order if i not in axes] + [i for i in order if i in axes]
            start, end = x.ndim - len(axes), x.ndim
        sizes = [x.shape[i] for i in order]
        shape = (math.prod(sizes[:start]), math.prod(sizes[start:end]), math.prod(sizes[end:]))
        array = np.ascontiguousarray(x.transpose(order), dtype)
        return cls(array.reshape(shape), tuple(order))

    def unfold(self, dense: Any, shape: tuple[int, ...]) -> Any:
        """Return a view of `dense`, whose elements lie in the order of memory, of `shape`."""
        inverse = sorted(range(len(shape)), key=self.order.__getitem__)
        return dense.reshape([shape[i] for i in self.order]).transpose(inverse)

    def fold(self, out: Any, *, in_place: bool = False) -> Any:
        """
        Return `out`, shaped like the original, as memory that a kernel can write; or None.

        It cannot if `out` is not dense in the same order or of another type than `array`, or
        if it overlaps `array`, which is read after the first write. `in_place`: unless it is
        the same memory.
        """
        folded = out.transpose(self.order)
        if not (folded.flags.carray and folded.dtype == self.array.dtype):
            return None
        if not np.may_share_memory(folded, self.array):
            return folded
        return folded if in_place and _address(folded) == _address(self.array) else None


def _address(x: Any) -> int:
    start: int = x.__array_interface__["data"][0]
    return start


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise an error if `out` cannot take a result of this shape and type."""
    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"expected out to be a NumPy array, not a {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"expected out of type {dtype}, that of the result, not {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"expected out of shape {shape}, that of the result, not {out.shape}")
    if not out.flags.writeable:
        raise ValueError("expected out to be writeable: pass a copy")


def delivered(result: Any, out: Any, dtype: np.dtype[Any]) -> Any:
    """Return `result` as `dtype`, in `out` unless that is None; a scalar if it has no axis."""
    if out is None:
        return result.astype(dtype, copy=False)[()]
    out[...] = result
    return out
