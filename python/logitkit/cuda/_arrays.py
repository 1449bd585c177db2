"""Arrays on a GPU, of PyTorch, CuPy and JAX, as the kernels take them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from .._lines import normalized
from ._device import kernels

_FLOATING = ("float16", "bfloat16", "float32", "float64")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_wide_types(function: _Function) -> _Function:
    """Let a function of an array make arrays of 64 bits, which JAX refuses unless it is told."""

    @wraps(function)
    def call(x: Any, *args: Any, **options: Any) -> Any:
        if not _is_jax(x):
            return function(x, *args, **options)
        jax = sys.modules["jax"]
        home = (
            jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")
        )  # older ones
        with home.enable_x64(True):
            return function(x, *args, **options)

    return cast(_Function, call)


def namespace_of(x: Any) -> Any:
    """Return the functions of the array-API standard for `x`."""
    from array_api_compat import array_namespace

    return array_namespace(x)


def dtype_name(x: Any) -> str:
    """Return the name of the type of the elements of `x`, such as ``"float32"``."""
    return str(x.dtype).rsplit(".", 1)[-1]  # torch.float32


def compute_name(x: Any) -> str:
    """Return the name of the type in which elements of `x` are computed."""
    return "float64" if dtype_name(x) == "float64" else "float32"


def as_floating(x: Any) -> Any:
    """Return `x` in a type that the kernels read; raise an error if it has another meaning."""
    name = dtype_name(x)
    if name in _FLOATING:
        return x
    if name == "bool" or name.startswith(("int", "uint")):
        xp = namespace_of(x)
        return xp.astype(x, xp.float64)
    raise TypeError(f"expected real numbers of 16, 32 or 64 bits, or integers, not {x.dtype}")


def dense(x: Any) -> Any:
    """Return `x` in the order of rows, without a copy if it is that already."""
    if _is_torch(x):
        return x.detach().contiguous()
    return x if _is_jax(x) else namespace_of(x).ascontiguousarray(x)


def dense_rows(x: Any) -> Any:
    """Return `x` with a dense last axis, without a copy if it has that already."""
    if _is_torch(x) and (x.shape[-1] == 1 or x.stride(-1) == 1):
        return x.detach()
    return dense(x)


def empty(shape: tuple[int, ...], dtype: str, like: Any) -> Any:
    """Return memory on the device of `like`."""
    xp = namespace_of(like)
    return xp.empty(shape, dtype=getattr(xp, dtype), device=like.device)


def workspace(size: int, like: Any) -> Any:
    """Return `size` bytes on the device of `like`."""
    return empty((size,), "uint8", like)


# What `lasting` has made; a key says what, for which library, device and stream.
_LASTING: dict[Any, Any] = {}
_MOST_LASTING = 32


def lasting(key: Any, make: Callable[[], Any], like: Any) -> Any:
    """
    Return what `make` returns, an array of NumPy, on the device of `like`; it is copied there once.

    Once for each stream: on another one the copy might not be there yet, or its memory be used
    again, when it is read.
    """
    stream = 0 if _is_jax(like) else _stream_of(like)
    key = (key, type(like).__module__, str(like.device), stream)
    if key not in _LASTING:
        while len(_LASTING) >= _MOST_LASTING:
            del _LASTING[next(iter(_LASTING))]
        _LASTING[key] = namespace_of(like).asarray(make(), device=like.device)
    return _LASTING[key]


def queue(kernel: Callable[..., None], *args: Any, **options: Any) -> None:
    """
    Call a function of `_cuda` on the stream that the caller's library uses.

    `args` are arrays and numbers, an array first. JAX tells nobody its streams, so its arrays
    are waited for, before the call and after it.
    """
    first = args[0]
    for x in (*args, *options.values()):  # a kernel that reads another GPU's memory breaks both
        if hasattr(x, "__dlpack__") and x.device != first.device:
            raise ValueError(
                f"expected all arrays on {first.device}, where the first one is, not one on "
                f"{x.device}: copy it"
            )
    if not _is_jax(first):
        kernel(*args, **options, stream=_stream_of(first))
        return
    ready = {name: _Ready(x) if _is_jax(x) else x for name, x in options.items()}
    kernel(*(_Ready(x) if _is_jax(x) else x for x in args), **ready, stream=0)
    kernels().synchronize(_Ready(first), stream=0)


class _Ready:
    """An array of JAX whose elements are there, so that nobody need wait for a stream."""

    def __init__(self, x: Any) -> None:
        self._array = x.block_until_ready()

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        return self._array.__dlpack__()


def is_immutable(x: Any) -> bool:
    """Return whether nothing may write into `x`, an array of JAX."""
    return _is_jax(x)


def _is_torch(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "torch"


def _is_jax(x: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def _stream_of(x: Any) -> int:
    if _is_torch(x):
        torch = sys.modules["torch"]
        return torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(x, cupy.ndarray):
        raise TypeError(
            f"expected an array of PyTorch, CuPy or JAX, not {type(x).__module__}."
            f"{type(x).__qualname__}"
        )
    with x.device:
        stream: int = cupy.cuda.get_current_stream().ptr
    return stream


class Lines(NamedTuple):
    """
    An array seen as the lines that run along some of its axes.

    `array` is dense, of shape ``(outer, terms, inner)``. `order` names the axes of the original
    in the order in which `array` has them, and `ndim_before` says how many are in ``outer``.
    """

    array: Any
    order: tuple[int, ...]
    ndim_before: int
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, x: Any, axis: Any) -> Lines:
        """Return the lines of `x`, without a copy where the axes lie beside each other."""
        axes = normalized(axis, x.ndim)
        if x.ndim == 0:
            return cls(dense(x).reshape((1, 1, 1)), (), 0, (), ())
        first = min(axes, default=x.ndim)
        order = tuple(range(x.ndim))
        if axes and sorted(axes) != list(range(first, first + len(axes))):
            order = tuple(i for i in order if i not in axes) + tuple(sorted(axes))
            first = x.ndim - len(axes)
            x = namespace_of(x).permute_dims(x, order)
        sizes = tuple(x.shape)
        end = first + len(axes)
        shape = tuple(map(math.prod, (sizes[:first], sizes[first:end], sizes[end:])))
        original = tuple(sizes[order.index(i)] for i in range(len(order)))
        return cls(dense(x).reshape(shape), order, first, tuple(axes), original)

    def spread(self, y: Any) -> Any:
        """Return `y`, of the shape of `array`, in that of the original."""
        if not self.order:
            return y.reshape(())
        y = y.reshape(tuple(self.shape[i] for i in self.order))
        if self.order == tuple(range(len(self.order))):
            return y
        inverse = tuple(self.order.index(i) for i in range(len(self.order)))
        return namespace_of(y).permute_dims(y, inverse)

    def reduced(self, y: Any, keepdims: bool) -> Any:
        """Return `y`, one number for each line, in the shape of the original without `axes`."""
        kept = [1 if i in self.axes else n for i, n in enumerate(self.shape)]
        shape = kept if keepdims else [n for i, n in enumerate(self.shape) if i not in self.axes]
        return y.reshape(tuple(shape))


def check_out(out: Any, like: Any, shape: tuple[int, ...]) -> None:
    """Raise an error if `out` cannot take a result of this shape, in the type of `like`."""
    if type(out) is not type(like):
        raise TypeError(f"expected out to be a {type(like).__name__}, not a {type(out).__name__}")
    if out.dtype != like.dtype:
        raise TypeError(f"expected out of type {like.dtype}, that of the result, not {out.dtype}")
    if tuple(out.shape) != shape:
        raise ValueError(
            f"expected out of shape {shape}, that of the result, not {tuple(out.shape)}"
        )
    if _is_jax(out):
        raise TypeError("expected no out for an array of JAX, which nothing may write into")


def delivered(result: Any, out: Any) -> Any:
    """Return `result`, in `out` unless that is None."""
    if out is None:
        return result
    check_out(out, result, tuple(np.shape(result)))
    out[...] = result
    return out
