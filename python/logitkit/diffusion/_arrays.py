"""Arrays of any library that follows the array API standard, and times that may differ by sample."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import (
    array_namespace,
    device,
    is_jax_array,
    is_numpy_array,
    is_torch_array,
)
from numpy.typing import NDArray

Array: TypeAlias = Any  # of NumPy, torch, JAX, CuPy: the standard has no type to name
Time: TypeAlias = "float | NDArray[np.float64]"  # one for all samples, or one for each


@cache
def numpy_namespace() -> ModuleType:
    """Return NumPy with the names of the standard, also where it is older than version 2."""
    return import_module("array_api_compat.numpy")


def namespace(x: Array) -> ModuleType:
    """Return the module with the array functions for `x`."""
    if type(x) is np.ndarray:  # most often; the general question takes two microseconds
        return numpy_namespace()
    return array_namespace(x)


def check_array(name: str, x: Any) -> None:
    """Say so if what should be an array is none, such as a list."""
    try:
        namespace(x)
    except TypeError:
        raise TypeError(
            f"expected {name} to be an array, of NumPy or a library with its API, not {x!r}"
        ) from None


def as_time(t: Any) -> Time:
    """Return `t` as a float, or as a float64 array with the time of each sample."""
    if isinstance(t, float):
        return float(t)
    times = np.asarray(t, np.float64)
    if times.ndim > 1:
        raise ValueError(f"expected one time, or one for each sample, not shape {times.shape}")
    return times if times.ndim else float(times)


def spread(factor: Any, x: Array) -> Any:
    """Return a factor for all of `x`, or those of its samples, in a shape that multiplies `x`."""
    if isinstance(factor, float) or np.ndim(factor) == 0:
        return float(factor)  # a Python float leaves the type of the array alone
    return placed(np.reshape(factor, (-1,) + (1,) * (x.ndim - 1)), x)


def placed(values: NDArray[Any], like: Array, dtype: Any = None) -> Array:
    """Return a NumPy array as an array of the library, device and (by default) type of `like`."""
    dtype = like.dtype if dtype is None else dtype
    if is_numpy_array(like):
        return values.astype(dtype, copy=False)
    xp = namespace(like)
    if is_torch_array(like):
        return xp.from_numpy(np.ascontiguousarray(values)).to(device=like.device, dtype=dtype)
    return xp.asarray(values, dtype=dtype, device=device(like))


def widest(like: Array, kind: type) -> Any:
    """Return the type of 64 bits for floats or ints; of 32 where JAX is not told to have it."""
    xp = namespace(like)
    if is_jax_array(like):
        return xp.result_type(kind)
    return xp.float64 if kind is float else xp.int64


def token_type(like: Array, least: int, largest: int) -> Any:
    """Return the type of `like` where it is one of whole numbers, else that of 64 bits."""
    xp = namespace(like)
    if not xp.isdtype(like.dtype, "integral"):
        return widest(like, int)
    limits = xp.iinfo(like.dtype)
    if least < limits.min or largest > limits.max:
        raise ValueError(
            f"expected `like` of a type with numbers from {least} to {largest}, not {like.dtype}"
        )
    return like.dtype


def over_samples(x: Array) -> tuple[int, ...]:
    """Return all axes of `x` but the first, which counts the samples."""
    return tuple(range(1, x.ndim))


def on_host(x: Array) -> NDArray[Any]:
    """Return an array as one of NumPy: a few numbers of each sample, for decisions."""
    if is_numpy_array(x):
        return np.asarray(x)
    if is_torch_array(x):
        return np.asarray(x.detach().cpu().numpy())
    return np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x)
