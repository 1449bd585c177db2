"""Student's law in a table for the kernels: its functions are too slow to call for each node."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import _cpu
from ._noise import StudentT

_TERMS = 10  # of the polynomials: NoiseTable::terms in csrc/noise_argmax/loops.h
_STEP = 0.125  # of s = asinh(x / width): the functions are analytic in |Im s| < 1
_FURTHEST = 1e150
MOST_DF = 1e4  # for which the polynomials are exact enough


class StudentTable(NamedTuple):
    """Polynomials in the cells of a coordinate, as NoiseTable in csrc/noise_argmax/loops.h has."""

    width: float
    low: float
    step: float
    tail_index: float
    log_cdf: Any  # (cells, terms)
    log_ratio: Any


@lru_cache(maxsize=16)
def student_table(df: float) -> _cpu.NoiseLaw:
    """Return the law of `StudentT(df)` as the kernels take it."""
    return _cpu.NoiseLaw(**student_polynomials(df)._asdict())


@lru_cache(maxsize=16)
def student_polynomials(df: float) -> StudentTable:
    """Return the table of `StudentT(df)`."""
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

    return StudentTable(
        width=width,
        low=-cells * _STEP,
        step=_STEP,
        tail_index=df,
        log_cdf=table(log_cdf),
        log_ratio=table(noise.log_pdf(x) - log_cdf),
    )
