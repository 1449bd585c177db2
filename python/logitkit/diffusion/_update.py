"""The one place where a step of a solver is computed: a x + b y + c z."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _cpu
from ._arrays import Array, spread
from ._draws import Draws

_INF = math.inf
_NO_ROWS = np.empty(0, np.int64)
_LARGE = 2048  # values of a sample from which one pass by a kernel beats three of NumPy


def update(a: Any, x: Array, b: Any, y: Array) -> Array:
    """
    Return a x + b y, in the type of `x`.

    The factors are floats, or float64 arrays with one for each sample.
    """
    return combine((a, b), (x, y))


def combine(factors: Sequence[Any], arrays: Sequence[Array]) -> Array:
    """
    Return the sum of two or more arrays, each times its factor, in the type of the first.

    Whether a kernel does it depends on the size of a sample alone, so that no result depends on
    the batch.
    """
    x = arrays[0]
    views = [host_view(array) for array in arrays]
    if any(view is None or view.shape != views[0].shape for view in views):
        total = spread(factors[0], x) * x
        for factor, array in zip(factors[1:], arrays[1:], strict=True):
            total = total + spread(factor, array) * array
        return total
    if math.prod(views[0].shape[1:]) >= _LARGE and views[0].size:
        total = _by_kernel(factors[0], views[0], factors[1], views[1], None, None)
        for factor, view in zip(factors[2:], views[2:], strict=True):
            total = _by_kernel(1.0, total, factor, view, None, None)
        return _like(x, total)
    total = spread(factors[0], views[0]) * views[0]
    for factor, view in zip(factors[1:], views[1:], strict=True):
        total += spread(factor, view) * view
    return _like(x, total)


def update_with_noise(a: Any, x: Array, b: Any, y: Array, c: Any, draws: Draws) -> Array:
    """Return a x + b y + c z, with z standard normal: what ``draws.normal`` would draw next."""
    plain_x, plain_y = host_view(x), host_view(y)
    if plain_x is None or plain_y is None or plain_x.shape != plain_y.shape or not plain_x.size:
        return update(a, x, b, y) + spread(c, x) * draws.normal(x.shape[1:], x)
    return _like(x, _by_kernel(a, plain_x, b, plain_y, c, draws))


def _by_kernel(a: Any, x: Any, b: Any, y: Any, c: Any, draws: Draws | None) -> Any:
    """Return the update of NumPy arrays in one pass."""
    seed, step, rows, noise = 0, 0, _NO_ROWS, None
    if draws is not None:
        philox = draws.advance()
        seed, step, rows = philox.seed, philox.step, draws.rows
        noise = np.asarray(c, x.dtype)
    result = np.empty(x.shape, x.dtype)
    _cpu.diffusion_update(
        x, y, np.asarray(a, x.dtype), np.asarray(b, x.dtype), noise, -_INF, _INF, seed, step, rows,
        result,
    )  # fmt: skip
    return result


def _like(x: Array, result: Any) -> Array:
    """Return a NumPy array as the tensor that `x` is, of the same memory."""
    if isinstance(x, np.ndarray):
        return result
    return sys.modules["torch"].from_numpy(result)


def host_view(x: Array) -> Any:
    """
    Return a NumPy array of the memory of an array, without a copy; None if there is none.

    Only of float32 and float64 in the order of C: what kernels take.
    """
    if type(x) is not np.ndarray:
        torch = sys.modules.get("torch")  # who has a tensor has imported it
        if torch is None or not isinstance(x, torch.Tensor):
            return None
        try:
            x = x.numpy()
        except (RuntimeError, TypeError):  # on a device, with a gradient, of half precision
            return None
    known = x.dtype.char in "fd" and x.flags.c_contiguous and x.flags.aligned
    return x if known and x.ndim else None
