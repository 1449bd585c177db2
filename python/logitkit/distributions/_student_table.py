"""Student's law in a table for the kernels: its functions are too slow to call for each node."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from .. import _cpu
from ._noise import StudentT

_TERMS = 10  # of the polynomials: NoiseTable::terms in csrc/noise_argmax/loops.h
_STEP = 0.25  # of s = asinh(x / width): the functions are analytic in |Im s| < 1
_FURTHEST = 1e150


@lru_cache(maxsize=16)
def student_table(df: float) -> _cpu.NoiseLaw:
    """Return the law of `StudentT(df)` as the kernels take it."""
    noise = StudentT(df)
    width = min(2.0, math.sqrt(df))
    cells = math.ceil(math.asinh(_FURTHEST / width) / _STEP)
    # A polynomial of each cell, by its values at Chebyshev nodes.
    t = np.cos(np.pi * (np.arange(_TERMS) + 0.5) / _TERMS)
    s = _STEP * (np.arange(-cells, cells)[:, None] + 0.5 * (1.0 + t))
    x = width * np.sinh(s)
    log_cdf = noise.log_cdf(x)
    inverse = np.linalg.inv(np.vander(t, increasing=True))

    def table(values: Any) -> Any:
        return np.ascontiguousarray(values @ inverse.T)

    return _cpu.NoiseLaw(
        width=width,
        low=-cells * _STEP,
        step=_STEP,
        tail_index=df,
        log_cdf=table(log_cdf),
        log_ratio=table(noise.log_pdf(x) - log_cdf),
    )
