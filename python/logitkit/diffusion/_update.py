"""The one place where a step of a solver is computed: a x + b y + c z."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from .. import _cpu
from ._arrays import Array, spread
from ._draws import Draws

_INF = math.inf
_NO_ROWS = np.empty(0, np.int64)
_LARGE = 2048  # values of a sample from which one pass by a kernel beats three of NumPy


def update(a: Any, x: Array, b: Any, y: Array) -> Array:
    """
    Return a x + b y, in the type of `x`.

    The factors are floats, or float64 arrays with one for each sample. Whether a kernel does it
    depends on the size of a sample alone, so that no result depends on the batch.
    """
    if math.prod(x.shape[1:]) >= _LARGE:
        result = _by_kernel(a, x, b, y, None, None)
        if result is not None:
            return result
    return spread(a, x) * x + spread(b, x) * y


def update_with_noise(a: Any, x: Array, b: Any, y: Array, c: Any, draws: Draws) -> Array:
    """Return a x + b y + c z, with z standard normal: what ``draws.normal`` would draw next."""
    result = _by_kernel(a, x, b, y, c, draws)
    if result is not None:
        return result
    return update(a, x, b, y) + spread(c, x) * draws.normal(x.shape[1:], x)


def _by_kernel(a: Any, x: Array, b: Any, y: Array, c: Any, draws: Draws | None) -> Array | None:
    """Return the update in one pass, or None for arrays that the kernel does not take."""
    plain_x, plain_y = _host_view(x), _host_view(y)
    if plain_x is None or plain_y is None or plain_x.shape != plain_y.shape or not plain_x.size:
        return None
    seed, step, rows, noise = 0, 0, _NO_ROWS, None
    if draws is not None:
        philox = draws.advance()
        seed, step, rows = philox.seed, philox.step, draws.rows
        noise = np.asarray(c, plain_x.dtype)
    result = np.empty(plain_x.shape, plain_x.dtype)
    _cpu.diffusion_update(
        plain_x, plain_y, np.asarray(a, plain_x.dtype), np.asarray(b, plain_x.dtype), noise,
        -_INF, _INF, seed, step, rows, result,
    )  # fmt: skip
    if plain_x is x:
        return result
    import torch

    return torch.from_numpy(result)


def _host_view(x: Array) -> Any:
    """Return a NumPy array of the same memory that the kernel takes, or None."""
    if type(x) is not np.ndarray:
        if not is_torch_array(x) or x.device.type != "cpu" or x.requires_grad:
            return None
        if x.dtype.itemsize < 4 or not x.dtype.is_floating_point:
            return None
        x = x.numpy()
    known = x.dtype == np.float64 or x.dtype == np.float32
    return x if known and x.ndim and x.flags.c_contiguous and x.flags.aligned else None
