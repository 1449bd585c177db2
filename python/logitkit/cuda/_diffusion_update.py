"""One step of a diffusion sampler on a GPU, in one pass over memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..random import Philox, as_philox
from ._arrays import (
    check_out,
    compute_name,
    dense,
    dtype_name,
    empty,
    namespace_of,
    queue,
    with_wide_types,
)
from ._device import kernels
from ._random import row_ids

_INF = float("inf")
_TYPES = ("float16", "bfloat16", "float32", "float64")


@with_wide_types
def diffusion_update(
    x: Any,
    y: Any = None,
    /,
    *,
    a: Any,
    b: Any = 0.0,
    c: Any = 0.0,
    rng: int | Philox = 0,
    rows: Any = None,
    lower: float = -_INF,
    upper: float = _INF,
    out: Any = None,
) -> Any:
    """
    Combine two arrays on a GPU and noise in one pass: ``clip(a x + b y + c z, lower, upper)``.

    Parameters
    ----------
    x : array on a GPU, shape (n, ...)
        One sample in each row, of ``float32`` or ``float64``, or of a half type, which is computed
        in ``float32``.
    y : array, optional
        Of the type and shape of `x`.
    a, b, c : float or array_like, shape (n,)
        The coefficients of `x`, `y` and the noise. No noise is drawn for rows with ``c = 0``.
    rng : int or Philox, optional
        A seed, or a generator.
    rows : array_like of int64, shape (n,), optional
        The ids of the samples. Default: 0, 1, ...
    lower, upper : float, optional
        Bounds of the result; NaN passes them. Default: none.
    out : array, optional
        Where to write; may be `x` or `y`.

    Returns
    -------
    array
        Of the type and shape of `x`; `out` if that is given. The bits that the same arrays give in
        main memory.

    Raises
    ------
    TypeError
        If an array is of another type than floating-point numbers, or than `x`.
    ValueError
        If a shape does not fit, a bound is NaN, or ``lower > upper``.

    See Also
    --------
    logitkit.reference.diffusion_update : The same in NumPy and ``float64``.
    """
    if dtype_name(x) not in _TYPES or x.ndim == 0:
        raise TypeError(
            f"expected x of a floating-point type with an axis of samples, not {x.dtype} of shape "
            f"{tuple(x.shape)}"
        )
    if not lower <= upper:
        raise ValueError(f"expected lower <= upper, not {lower} and {upper}")
    if y is not None and (y.dtype != x.dtype or tuple(y.shape) != tuple(x.shape)):
        raise ValueError(
            f"expected y of type {x.dtype} and shape {tuple(x.shape)}, those of x, not {y.dtype} "
            f"and {tuple(y.shape)}"
        )
    if out is None:
        out = empty(tuple(x.shape), dtype_name(x), x)
    else:
        check_out(out, x, tuple(x.shape))
    if 0 in x.shape:
        return out
    philox = as_philox(rng)
    coefficients = [_by_row(name, given, x) for name, given in (("a", a), ("b", b), ("c", c))]
    queue(
        kernels().diffusion_update,
        dense(x),
        None if y is None else dense(y),
        *coefficients,
        float(lower),
        float(upper),
        philox.seed,
        philox.step,
        row_ids(rows, (x.shape[0],), x),
        out,
    )
    return out


def _by_row(name: str, given: Any, x: Any) -> Any:
    """Return a coefficient: a number, or an array on the device of `x` with one for each row."""
    if not hasattr(given, "__dlpack__") or isinstance(given, (np.ndarray, np.generic)):
        given = np.asarray(given, np.float64)
        if given.size == 1:
            return float(given.reshape(()))
    if tuple(given.shape) != (x.shape[0],):
        raise ValueError(
            f"expected {name} to be a number or of shape ({x.shape[0]},), not {tuple(given.shape)}"
        )
    xp = namespace_of(x)
    return dense(xp.asarray(given, dtype=getattr(xp, compute_name(x)), device=x.device))
