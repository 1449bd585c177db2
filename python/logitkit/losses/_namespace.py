"""Arrays of NumPy and tensors of PyTorch as arguments, by the functions that both have."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .._backend import is_tensor
from .._lines import compute_type, result_type
from .._real_array import real_array
from .._shapes import check_broadcast


def tensors_for(x: Any) -> Any:
    """Return the module with what losses need of PyTorch if `x` is a tensor, else None."""
    if not is_tensor(x):
        return None
    from ..torch import _losses  # a plain statement, which torch.compile can follow

    return _losses


def namespace_of(*arrays: Any) -> Any:
    """Return ``torch`` if one of `arrays` is a tensor, else ``numpy``."""
    return sys.modules["torch"] if any(map(is_tensor, arrays)) else np


def places(n: int, like: Any) -> Any:
    """Return 0, 1, ... n - 1 where `like` lies."""
    xp = namespace_of(like)
    return np.arange(n) if xp is np else xp.arange(n, device=like.device)


def floating(name: str, x: Any) -> tuple[Any, Any]:
    """Return `x` in the type to compute in, and the type of results."""
    if (bridge := tensors_for(x)) is not None:
        return bridge.floating(x)  # type: ignore[no-any-return]
    x = real_array(name, x)
    dtype = result_type(x)
    return x.astype(compute_type(dtype), copy=False), dtype


def like(name: str, x: Any, other: Any) -> Any:
    """Return `x` as an array or a tensor, whichever `other` is; numbers take its type."""
    if (bridge := tensors_for(other)) is not None:
        return bridge.like(x, other)
    if is_tensor(x):
        raise TypeError(f"expected {name} as an array, as logits are, not a tensor")
    x = real_array(name, x)
    return x if x.dtype.kind in "biu" else x.astype(other.dtype, copy=False)


def cast(x: Any, dtype: Any) -> Any:
    """Return `x` in the type of results."""
    if is_tensor(x):
        return x.to(dtype)
    return np.asarray(x).astype(dtype, copy=False)[()]


def whole(x: Any) -> Any:
    """Return integers as int64, which holds -1, each ``ignore_index``, and products of places."""
    if is_tensor(x):
        torch = namespace_of(x)
        return x if x.is_floating_point() or x.dtype == torch.bool else x.to(torch.int64)
    if x.dtype == np.uint64:
        x = np.minimum(x, np.iinfo(np.int64).max)  # no class, but no other number either
    return x.astype(np.int64, copy=False) if x.dtype.kind in "iu" else x


def integers(name: str, x: Any, other: Any) -> Any:
    """Return `x` as `like` does, integers as int64; an empty list has the type that is wanted."""
    empty = isinstance(x, (list, tuple)) and np.size(x) == 0
    return whole(like(name, np.asarray(x, np.int64) if empty else x, other))


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """Return `x` with an axis elsewhere; ``torch.vmap`` cannot map ``torch.moveaxis``."""
    return x.movedim(source, destination) if is_tensor(x) else np.moveaxis(x, source, destination)


def is_floating(x: Any) -> bool:
    """Return whether the numbers in `x` have a fraction."""
    if is_tensor(x):
        return bool(x.dtype.is_floating_point)
    return bool(x.dtype.kind not in "biu")


def is_bool(x: Any) -> bool:
    """Return whether `x` holds truth values."""
    return bool(x.dtype == namespace_of(x).bool) if is_tensor(x) else x.dtype == bool


def is_host_known(x: Any) -> bool:
    """Return whether the elements of `x` may be looked at: not while PyTorch traces a graph."""
    bridge = tensors_for(x)
    return bridge is None or bridge.is_known(x)


def with_axis_last(x: Any, axis: int, length: int) -> Any:
    """Return `x`, which broadcasts against arrays of `length` axes, with `axis` moved last."""
    if x.ndim == 0 or axis in (-1, length - 1):
        return x
    x = x.reshape((1,) * (length - x.ndim) + tuple(x.shape))
    return moveaxis(x, axis, -1)


def as_numpy(x: Any) -> Any:
    """Return an array with the elements of an array or, without its derivatives, a tensor."""
    if not is_tensor(x):
        return x
    x = x.detach() if x.requires_grad else x
    if namespace_of(x).compiler.is_compiling():
        return x.numpy()
    # Inside of torch.func ``x.numpy()`` fails, as a method that might be differentiated.
    return np.from_dlpack(x if x.device.type == "cpu" else x.cpu())


def like_given(result: Any, given: Any) -> Any:
    """Return an array as a tensor, if `given` is one."""
    return namespace_of(given).as_tensor(result) if is_tensor(given) else result


def first_index(wrong: Any) -> tuple[int, ...]:
    """Return the place of the first True in `wrong`, an array."""
    return tuple(int(i[0]) for i in np.nonzero(wrong)) if np.ndim(wrong) else ()


def check_not_nan(name: str, x: Any) -> None:
    """Raise an error if weights hold NaN, as far as may be seen."""
    if not is_host_known(x):
        return
    wrong = namespace_of(x).isnan(x)
    if wrong.any():
        place = list(first_index(np.asarray(wrong)))
        raise ValueError(f"expected {name} of numbers, not NaN at {place}: 0 leaves out")


def broadcast(name: str, x: Any, shape: tuple[int, ...]) -> Any:
    """Return `x` broadcast to a shape, or raise an error if it does not fit."""
    check_broadcast(name, tuple(x.shape), shape)
    return namespace_of(x).broadcast_to(x, shape)


def stable_order(x: Any) -> Any:
    """Return the places of the numbers along the last axis, rising, of equals the first first."""
    if is_tensor(x):
        return x.argsort(dim=-1, stable=True)
    return np.argsort(x, axis=-1, kind="stable")  # `stable=True` is of NumPy 2
