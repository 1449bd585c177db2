"""The one place where a step of a solver is computed: a x + b y + ... + c z."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .. import _cpu
from .._backend import gpu_functions_for
from ..random import Philox
from ._arrays import Array, spread
from ._draws import Draws


def update(a: Any, x: Array, b: Any, y: Array) -> Array:
    """
    Return a x + b y, in the type of `x`.

    The factors are floats, or float64 arrays with one for each sample.
    """
    total = _cpu.combine((x, y), (a, b))
    return _elsewhere((a, b), (x, y)) if total is None else total


def combine(factors: tuple[Any, ...], arrays: tuple[Array, ...]) -> Array:
    """Return the sum of some arrays, each times its factor, in the type of the first."""
    total = _cpu.combine(arrays, factors)
    return _elsewhere(factors, arrays) if total is None else total


def combine_with_noise(
    factors: tuple[Any, ...], arrays: tuple[Array, ...], c: Any, draws: Draws
) -> Array:
    """Add c z to the sum, with z standard normal: what ``draws.normal`` would draw next."""
    x = arrays[0]
    seed, step = draws.address()
    total = _cpu.combine_with_noise(arrays, factors, c, seed, step, draws.rows)
    if total is None and (functions := _functions_on_gpu(arrays)) is not None:
        rng = Philox(seed, step=step)
        total = _fused(functions, factors, arrays, c=c, rng=rng, rows=draws.rows)
    if total is not None:
        draws.skip()
        return total
    return _by_library(factors, arrays) + spread(c, x) * draws.normal(x.shape[1:], x)


def update_with_noise(a: Any, x: Array, b: Any, y: Array, c: Any, draws: Draws) -> Array:
    """Return a x + b y + c z, with z standard normal: what ``draws.normal`` would draw next."""
    return combine_with_noise((a, b), (x, y), c, draws)


def _elsewhere(factors: tuple[Any, ...], arrays: tuple[Array, ...]) -> Array:
    """Sum where the processor's kernel does not reach."""
    functions = _functions_on_gpu(arrays)
    return _by_library(factors, arrays) if functions is None else _fused(functions, factors, arrays)


def _functions_on_gpu(arrays: tuple[Array, ...]) -> ModuleType | None:
    """Return the module with the kernel for these arrays on a GPU, or None."""
    functions, x = gpu_functions_for(arrays[0]), arrays[0]
    if functions is None or len(arrays) > 2 or any(y.dtype != x.dtype for y in arrays):
        return None
    return None if any(getattr(y, "requires_grad", False) for y in arrays) else functions


def _fused(
    functions: ModuleType, factors: tuple[Any, ...], arrays: tuple[Array, ...], **noise: Any
) -> Array:
    """Sum one or two arrays, and noise, in one pass over the memory of a GPU."""
    b = factors[1] if len(factors) > 1 else 0.0
    return functions.diffusion_update(*arrays, a=factors[0], b=b, **noise)


def _by_library(factors: tuple[Any, ...], arrays: tuple[Array, ...]) -> Array:
    """Sum by the operations of the arrays: on a device, with a gradient, of half precision."""
    x = arrays[0]
    total = spread(factors[0], x) * x
    for factor, array in zip(factors[1:], arrays[1:], strict=True):
        total = total + spread(factor, array) * array
    return total
