"""One step of a diffusion sampler: a linear combination, with noise and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._philox import Philox


def diffusion_update(
    x: ArrayLike,
    y: ArrayLike | None = None,
    /,
    *,
    a: ArrayLike,
    b: ArrayLike = 0.0,
    c: ArrayLike = 0.0,
    rng: Any = 0,
    rows: ArrayLike | None = None,
    lower: float = -np.inf,
    upper: float = np.inf,
) -> NDArray[np.float64]:
    """Compute ``clip(a x + b y + c z, lower, upper)`` with normal noise z for each row."""
    x = np.asarray(x, np.float64)
    a, b, c = (_by_row(coefficient, x.ndim) for coefficient in (a, b, c))
    out: NDArray[np.float64] = a * x
    if y is not None:
        out = out + b * np.asarray(y, np.float64)
    if np.any(c):
        philox = Philox(int(getattr(rng, "seed", rng)), getattr(rng, "step", 0))
        noise = philox.normal(len(x) if rows is None else rows, x.shape[1:])
        out = np.where(c == 0.0, out, out + c * noise)
    return np.clip(out, lower, upper)


def _by_row(coefficient: ArrayLike, ndim: int) -> NDArray[np.float64]:
    value = np.asarray(coefficient, np.float64)
    return value.reshape(value.shape + (1,) * (ndim - value.ndim))
