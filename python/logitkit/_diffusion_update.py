"""One step of a diffusion sampler in one pass over memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _cpu
from ._backend import as_array, bridge_for
from .random import Philox, as_philox

_INF = float("inf")


def diffusion_update(
    x: Any,
    y: Any = None,
    /,
    *,
    a: ArrayLike,
    b: ArrayLike = 0.0,
    c: ArrayLike = 0.0,
    rng: int | Philox = 0,
    rows: ArrayLike | None = None,
    lower: float = -_INF,
    upper: float = _INF,
    out: Any = None,
) -> Any:
    r"""
    Combine two arrays and noise in one pass.

    .. math:: \mathrm{out} = \min(\max(a x + b y + c z, \ell), u)

    where z is what ``rng.normal(rows, x.shape[1:])`` draws, bit by bit, and is not stored.

    Parameters
    ----------
    x : ndarray or tensor of float32 or float64, shape (n, ...)
        One sample in each row. Tensors lie in main memory, and have no derivatives here.
    y : ndarray or tensor, optional
        Of the type and shape of `x`. Default: none.
    a, b, c : float or array_like, shape (n,)
        The coefficients of `x`, `y` and the noise. No noise is drawn for rows with ``c = 0``.
    rng : int or Philox, optional
        A seed, or a generator.
    rows : array_like of int64, shape (n,), optional
        The ids of the samples. Default: 0, 1, ...
    lower, upper : float, optional
        Bounds of the result; NaN passes them. Default: none.
    out : ndarray or tensor, optional
        Where to write; may be `x` or `y`.

    Returns
    -------
    ndarray or tensor
        Of the type and shape of `x`; `out` if that is given.

    Raises
    ------
    TypeError
        If an array is of another type than ``float32`` or ``float64``, or than `x`.
    ValueError
        If a shape does not fit, a bound is NaN, ``lower > upper``, or `out` overlaps an argument
        without being it.
    RuntimeError
        If a tensor requires a gradient, unless gradients are off.

    See Also
    --------
    logitkit.reference.diffusion_update : The same in NumPy and ``float64``.
    """
    if rows is None:
        result = _of_plain_memory(x, y, a, b, c, rng, lower, upper, out)
        if result is not None:
            return result
    if (bridge := bridge_for(x)) is not None:
        return bridge.diffusion_update(
            x, y, a=a, b=b, c=c, rng=rng, rows=rows, lower=lower, upper=upper, out=out
        )
    x = as_array(x)
    if x.dtype not in (np.float32, np.float64) or x.ndim == 0:
        raise TypeError(
            f"expected x of float32 or float64 with an axis of samples, not {x.dtype} of shape "
            f"{x.shape}"
        )
    if not lower <= upper:
        raise ValueError(f"expected lower <= upper, not {lower} and {upper}")
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    if y is not None:
        y = _like("y", as_array(y), x)
    result = np.empty_like(x) if out is None else _output(out, x, y)
    if x.size == 0:
        return result
    of_x, of_y = _by_row("a", a, x), _by_row("b", b, x)
    noise = None if isinstance(c, float) and c == 0.0 else _by_row("c", c, x)
    seed, step, ids = _stream(rng, rows, len(x)) if noise is not None else (0, 0, _NO_IDS)
    _cpu.diffusion_update(x, y, of_x, of_y, noise, lower, upper, seed, step, ids, result)
    return result


def _of_plain_memory(
    x: Any, y: Any, a: Any, b: Any, c: Any, rng: Any, lower: float, upper: float, out: Any
) -> Any:
    """Return the result where there is nothing to convert or to complain about, else None."""
    if type(c) is float and c == 0.0:
        return _cpu.update(x, y, a, b, c, 0, 0, lower, upper, out)
    philox = as_philox(rng)
    return _cpu.update(x, y, a, b, c, philox.seed, philox.step, lower, upper, out)


_NO_IDS = np.empty(0, np.int64)


def _stream(rng: int | Philox, rows: ArrayLike | None, n: int) -> tuple[int, int, Any]:
    philox = as_philox(rng)
    if rows is None:
        return philox.seed, philox.step, np.arange(n)
    ids = np.asarray(rows)
    if ids.dtype.kind not in "iu" or ids.shape != (n,):
        raise ValueError(
            f"expected rows of {n} integers, one for each sample, not of type {ids.dtype} and "
            f"shape {ids.shape}"
        )
    return philox.seed, philox.step, np.ascontiguousarray(ids, np.int64)


def _by_row(name: str, value: ArrayLike, x: Any) -> Any:
    """Return a coefficient: one number, or one for each row."""
    given = np.asarray(value, x.dtype)
    if given.size != 1 and given.shape != (len(x),):
        raise ValueError(
            f"expected {name} to be a number or of shape ({len(x)},), not {given.shape}"
        )
    return given if given.flags.c_contiguous else given.copy()


def _like(name: str, value: Any, x: Any) -> Any:
    if value.dtype != x.dtype:
        raise TypeError(f"expected {name} of type {x.dtype}, that of x, not {value.dtype}")
    if value.shape != x.shape:
        raise ValueError(f"expected {name} of shape {x.shape}, that of x, not {value.shape}")
    return value if value.flags.c_contiguous else np.ascontiguousarray(value)


def _output(out: Any, x: Any, y: Any) -> Any:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"expected out to be a NumPy array, not a {type(out).__name__}")
    if out.dtype != x.dtype:
        raise TypeError(f"expected out of type {x.dtype}, that of x, not {out.dtype}")
    if out.shape != x.shape or not out.flags.carray:
        raise ValueError(
            f"expected out of shape {x.shape}, in the order of C and writeable, not of shape "
            f"{out.shape}"
        )
    for array in (x, y):
        if array is None or array is out or not np.may_share_memory(array, out):
            continue
        if _address(array) != _address(out):
            raise ValueError("expected out to be x, y or apart from them: it overlaps one of them")
    return out


def _address(x: Any) -> int:
    start: int = x.__array_interface__["data"][0]
    return start
