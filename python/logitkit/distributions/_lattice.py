r"""
Rank-1 lattices: points that fill a cube more evenly than random ones.

    x_k = {k g / N + shift},    k = 0, ..., N - 1,    N prime

The generating vector g is found component by component, each the best for those before it in a
space of periodic functions with product weights 1 / j^2; one fast Fourier transform gives the
error of all candidates, since products modulo a prime are sums of logarithms. The tent map makes
functions periodic.

D. Nuyens and R. Cools, "Fast algorithms for component-by-component construction of rank-1 lattice
rules in shift-invariant reproducing kernel Hilbert spaces", Mathematics of Computation 75, 2006.
F. J. Hickernell, "Obtaining O(N^{-2+eps}) convergence for lattice quadrature rules", 2002.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=16)
def normal_lattice_generator(most: int, rank: int) -> tuple[int, tuple[int, ...]]:
    """Return the largest prime N up to `most`, at least 3, and a generating vector."""
    n = next(n for n in range(most, 2, -1) if _prime_factors(n) == [n])
    powers = np.empty((n - 1) // 2, np.int64)  # of a primitive root: the other half are -powers
    power, root = 1, _primitive_root(n)
    for i in range(len(powers)):
        powers[i], power = power, power * root % n
    x = powers / n
    kernel = 2.0 * np.pi**2 * (x * x - x + 1.0 / 6.0)  # of x and 1 - x alike
    spectrum = np.conj(np.fft.rfft(kernel))
    product, chosen = 1.0 + kernel, [1]
    for j in range(2, rank + 1):
        errors = np.fft.irfft(np.fft.rfft(product) * spectrum, len(powers))
        best = int(np.argmin(errors))
        chosen.append(int(powers[-best % len(powers)]))
        product = product * (1.0 + np.roll(kernel, best) / j**2)
    return n, tuple(chosen)


def normal_lattice(most: int, shift: Any) -> Any:
    """Return up to `most` points (N, rank) of the standard normal law, by one random shift."""
    from scipy.special import ndtri

    n, generator = normal_lattice_generator(most, len(shift))
    products = np.arange(n)[:, None] * np.array(generator, np.int64) % n
    x = np.abs(2.0 * ((products / n + shift) % 1.0) - 1.0)
    return ndtri(np.clip(x, 2.0**-54, 1.0 - 2.0**-53))


def _prime_factors(n: int) -> list[int]:
    factors, divisor = [], 2
    while divisor * divisor <= n:
        if n % divisor:
            divisor += 1
        else:
            factors.append(divisor)
            n //= divisor
    return [*factors, n] if n > 1 else factors


def _primitive_root(n: int) -> int:
    """Return a number whose powers are all of 1, ..., n - 1 modulo the prime n."""
    exponents = {(n - 1) // factor for factor in _prime_factors(n - 1)}
    return next(g for g in range(2, n) if all(pow(g, e, n) != 1 for e in exponents))
