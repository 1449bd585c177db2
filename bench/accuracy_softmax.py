"""Largest errors of logsumexp, softmax and log_softmax and of their peers, against mpmath.

python bench/accuracy_softmax.py [--quick]

Needs mpmath (``pip install mpmath``); SciPy, PyTorch and JAX are compared where installed. An
error counts in ulp, the distance of the neighbours of the exact result in the type at hand, or
where a line says so in 2^-100. Lines that break their contract end with its bound; then the
exit status is 1. All rows are random with fixed seeds, or made to be hard.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from harness import print_machine
from logitkit import _cpu

mpmath.mp.prec = 200
Array = NDArray[Any]
Function = Callable[[Array, int], Array]
TYPES = (np.float32, np.float64)


@dataclass(frozen=True)
class Case:
    """Arrays whose items along `axis` are checked, all of them or the first few."""

    name: str
    arrays: list[Array]
    axis: int = 1
    checked: int | None = None


def main(quick: bool) -> int:
    """Print a table for each function and return the exit status."""
    print_machine("numpy", "scipy", "torch", "jax", "mpmath")
    broken = False
    for function, cases in (
        ("logsumexp", logsumexp_cases),
        ("softmax", softmax_cases),
        ("log_softmax", softmax_cases),
    ):
        candidates = candidates_for(function)
        print(f"\n{function:<51}" + "".join(f"{name:>10}" for name in candidates))
        for dtype in TYPES:
            for case in cases(dtype, quick):
                broken |= print_case(function, candidates, case)
    return int(broken)


def print_case(function: str, candidates: dict[str, Function], case: Case) -> bool:
    """Print the largest error of each candidate, and return whether a contract is broken."""
    exact = [exact_results(function, array, case) for array in case.arrays]
    kind = case.arrays[0].dtype.name
    broken = False
    for unit, bound, counts in units_for(function, kind):
        if not any(np.any(counts(high)) for high, _ in exact):
            continue
        worst = {}
        for name, candidate in candidates.items():
            errors = [
                largest_error(
                    checked(candidate(array, case.axis), array, case), truth, unit, counts
                )
                for array, truth in zip(case.arrays, exact, strict=True)
            ]
            worst[name] = max(errors)
        too_large = max(worst[isa.name] for isa in _cpu.supported_isas()) > bound
        broken |= too_large
        title = f"{kind:<8} {case.name}" + ("" if unit is ulp else " < 1e-3, in 2^-100")
        print(
            f"{title:<51}"
            + "".join(
                f"{error:>10.2f}" if error < 1e6 else f"{error:>10.1e}" for error in worst.values()
            )
            + (f"  > {bound}" if too_large else ""),
            flush=True,
        )
    return broken


def units_for(function: str, kind: str) -> Iterator[tuple[Any, float, Callable[[Array], Array]]]:
    """Yield units of error, how many of them the contract allows, and for which results."""
    if function == "logsumexp" and kind == "float64":
        yield ulp, 1.0, lambda exact: np.abs(exact) >= 1e-3
        yield absolute, 1.0, lambda exact: np.abs(exact) < 1e-3
    elif function == "log_softmax":  # which may be zero below, or lack what 1000 terms may lose
        smallest = max(4.0 * np.finfo(kind).tiny, 1000 * 2.0**-1021 / np.finfo(kind).eps)
        yield ulp, 2.0, lambda exact: np.abs(exact) >= smallest
    else:
        bound = 1.0 if function == "logsumexp" else 2.0
        yield ulp, bound, lambda exact: np.full(exact.shape, True)


def ulp(high: Array, low: Array, dtype: Any) -> Array:
    """Return the unit in the last place of `dtype` at high + low."""
    info = np.finfo(dtype)
    mantissa, exponent = np.frexp(np.abs(high))
    exponent -= (mantissa == 0.5) & (high * low < 0)  # just below a power of two
    return np.ldexp(1.0, np.maximum(exponent - 1, info.minexp) - info.nmant)


def absolute(high: Array, low: Array, dtype: Any) -> Array:
    """Return 2^-100, and half an ulp, with which any result of a type is rounded."""
    return 2.0**-100 + ulp(high, low, dtype) / 2


def largest_error(
    actual: Array, exact: tuple[Array, Array], unit: Any, counts: Callable[[Array], Array]
) -> float:
    """Return the largest error, in units of the exact results, among those that count."""
    high, low = exact
    with np.errstate(all="ignore"):
        error = np.abs((actual.astype(np.float64) - high) - low) / unit(high, low, actual.dtype)
    error[(actual == high) & np.isinf(high)] = 0.0
    return float(np.max(np.nan_to_num(error[counts(high)], nan=np.inf), initial=0.0))


def checked(actual: Array, array: Array, case: Case) -> Array:
    """Return the results of the items that are checked, one item in a row."""
    rows = actual[:, None] if actual.ndim < array.ndim else np.moveaxis(actual, case.axis, -1)
    return rows[: case.checked]


def exact_results(function: str, array: Array, case: Case) -> tuple[Array, Array]:
    """Return high and low parts of the exact results, whose sums have 106 bits."""
    items = np.moveaxis(array, case.axis, -1)[: case.checked].astype(np.float64)
    parts = [exact_item(function, item) for item in items]
    return np.stack([high for high, _ in parts]), np.stack([low for _, low in parts])


def exact_item(function: str, item: Array) -> tuple[Array, Array]:
    """Do so for one item; equal terms are computed once."""
    values, inverse, counts = np.unique(item, return_inverse=True, return_counts=True)
    largest = mpmath.mpf(values[-1])
    distances = [mpmath.mpf(x) - largest for x in values]
    terms = [mpmath.exp(d) for d in distances]
    others = mpmath.fdot(terms[:-1], map(int, counts[:-1]))
    log_sum = mpmath.log1p(others + (int(counts[-1]) - 1))  # where others may be tiny
    if function == "logsumexp":
        results, inverse = [largest + log_sum], np.zeros(1, np.intp)
    elif function == "softmax":
        results = [term / (others + int(counts[-1])) for term in terms]
    else:
        results = [d - log_sum for d in distances]
    high = [float(y) for y in results]
    low = [float(y - h) for y, h in zip(results, high, strict=True)]
    return np.array(high)[inverse], np.array(low)[inverse]


def candidates_for(function: str) -> dict[str, Function]:
    """Return our kernels for each instruction set, and the peers that are installed."""
    candidates: dict[str, Function] = {
        isa.name: partial(ours, getattr(_cpu, function), function, isa)
        for isa in _cpu.supported_isas()
    }
    for name, module in (("scipy", "scipy.special"), ("torch", "torch"), ("jax", "jax.nn")):
        try:
            peer = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError:
            continue
        candidates[name] = partial(from_torch, peer) if name == "torch" else partial(plainly, peer)
        if name == "jax":
            importlib.import_module("jax").config.update("jax_enable_x64", True)
    candidates["numpy"] = partial(textbook, function)
    return candidates


def ours(kernel: Callable[..., None], function: str, isa: _cpu.Isa, x: Array, axis: int) -> Array:
    """Run a kernel."""
    out = np.empty(np.delete(x.shape, axis) if function == "logsumexp" else x.shape, x.dtype)
    kernel(x, axis, out, threads=1, isa=isa)
    return out


def plainly(peer: Callable[..., Any], x: Array, axis: int) -> Array:
    """Run a function with an argument `axis`."""
    return np.asarray(peer(x, axis=axis))


def from_torch(peer: Callable[..., Any], x: Array, axis: int) -> Array:
    """Run a function of PyTorch."""
    result: Array = peer(importlib.import_module("torch").from_numpy(x), axis).numpy()
    return result


def textbook(function: str, x: Array, axis: int) -> Array:
    """Run what everybody writes in NumPy."""
    largest = x.max(axis=axis, keepdims=True)
    exp = np.exp(x - largest)
    if function == "softmax":
        return np.asarray(exp / exp.sum(axis=axis, keepdims=True))
    log = np.log(exp.sum(axis=axis, keepdims=True))
    if function == "logsumexp":
        return np.asarray((largest + log).squeeze(axis))
    return np.asarray(x - largest - log)


def normal(rows: int, n: int, spread: float, dtype: Any, offset: float = 0.0) -> Array:
    """Return normal numbers."""
    random = np.random.default_rng([rows, n])
    return np.asarray(random.normal(offset, spread, (rows, n)).astype(dtype))


def equal_rows(dtype: Any) -> list[Array]:
    """Return rows of equal terms, whose roundings do not cancel out."""
    return [
        np.full((1, n), value, dtype)
        for n in (2, 3, 10, 100, 1000, 10_000, 1_000_000)
        for value in (0.1, 1 / 3, -14.0, 100.3)
    ]


def two_level_rows(dtype: Any) -> list[Array]:
    """Return rows of one maximum, and many terms that could be lost beside it."""
    rows = []
    for below in (0.7, 9.7, 16.7, 17.3, 36.7):
        for n in (8, 33, 100, 10_000, 100_000):
            row = np.full((1, n), 1.3 - below, dtype)
            row[0, n // 3] = 1.3
            rows.append(row)
    return rows


def nearly_equal_rows(dtype: Any) -> list[Array]:
    """Return rows whose exponentials are all alike, and round alike."""
    shapes = [(5, 100), (5, 1000), (1, 20_000)]
    return [normal(rows, n, 1e-2, dtype, at) for rows, n in shapes for at in (-7.3, 0.0, 2.0)]


def normalised(dtype: Any, rows: int, n: int) -> Array:
    """Return log-probabilities, rounded: their log-sum-exp nearly is zero."""
    return textbook("log_softmax", normal(rows, n, 1.0, np.float64), 1).astype(dtype)


def logsumexp_cases(dtype: Any, quick: bool) -> Iterator[Case]:
    """Yield the cases of logsumexp."""
    few = 10 if quick else 100
    yield Case("normal, n = 10", [normal(20 * few, 10, 1.0, dtype)])
    yield Case("normal, n = 1000", [normal(few, 1000, 1.0, dtype)])
    p = np.geomspace(1e-6, 0.5, 20 * few)
    yield Case("log p, log(1 - p)", [np.stack([np.log(p), np.log1p(-p)], axis=1).astype(dtype)])
    t = np.geomspace(1e-3, 85.0 if dtype == np.float32 else 700.0, 20 * few)
    yield Case("0, -t", [np.stack([0.0 * t, -t], axis=1).astype(dtype)])
    yield Case("log-probabilities, n = 1000", [normalised(dtype, few, 1000)])
    yield Case("equal terms", equal_rows(dtype))
    yield Case("nearly equal terms", nearly_equal_rows(dtype))
    yield Case("a maximum and many below", two_level_rows(dtype))
    offsets = (0.0, -3.0, 10.0, 1000.0)
    spreads = (1e-3, 0.1, 1.0, 10.0, 100.0)
    arrays = [normal(few // 5, 100, s, dtype, offset) for s in spreads for offset in offsets]
    yield Case("spread 1e-3 to 100, with offsets", arrays)
    yield Case(
        "(100000, 64), axis 0", [normal(100_000, 64, 1.0, dtype)], 0, checked=1 if quick else 4
    )


def softmax_cases(dtype: Any, quick: bool) -> Iterator[Case]:
    """Yield the cases of softmax and log_softmax."""
    few = 10 if quick else 100
    yield Case("normal, n = 10", [normal(20 * few, 10, 1.0, dtype)])
    yield Case("spread 5, n = 1000", [normal(few, 1000, 5.0, dtype)])
    yield Case("spread 5, (1000, 100), axis 0", [normal(1000, few, 5.0, dtype)], 0)
    depth = 103.0 if dtype == np.float32 else 745.0
    deep = -np.linspace(0.0, depth, 700, dtype=dtype)[None]
    yield Case(
        "down to the last denormal", [deep, deep - dtype(3.7), normal(few, 99, depth, dtype)]
    )
    yield Case("log-probabilities, n = 1000", [normalised(dtype, few, 1000)])
    yield Case("equal terms", equal_rows(dtype))
    yield Case("nearly equal terms", nearly_equal_rows(dtype))
    yield Case("a maximum and many below", two_level_rows(dtype))


if __name__ == "__main__":
    sys.exit(main(quick="--quick" in sys.argv[1:]))
