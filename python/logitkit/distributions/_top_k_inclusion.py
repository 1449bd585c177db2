r"""
P(i is among the k largest of mu + noise), for independent noise of any law.

    P_i = int f(u - mu_i) Q_i(u) du,    Q_i(u) = P(at most k - 1 classes j != i are above u)

Q_i is a value of the Poisson-binomial distribution function without class i. It is computed from
the counts before i and after i, which are both known: only sums of products of probabilities, so
that nothing cancels. The work is O(n k) for each node.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._noise import Noise

_X, _W = np.polynomial.legendre.leggauss(16)
_PANELS = 24
_MASS = 1e-14  # that is left out at either end
_BLOCK = 2**22  # elements of a block of nodes


def top_k_inclusion(x: Any, k: int, noise: Noise, scale: float) -> Any:
    """Return the probabilities of all classes of each row."""
    results = np.zeros(x.shape)
    for row, result in zip(x.astype(np.float64), results, strict=True):
        kept = row > -np.inf
        if np.count_nonzero(kept) <= k:
            result[kept] = 1.0
        else:
            result[kept] = _of_row((row[kept] - np.max(row)) / scale, k, noise)
    return results


def _of_row(mu: Any, k: int, noise: Noise) -> Any:
    """Double the number of panels between two breaks until nothing changes."""
    edges = _edges(mu, k, noise)
    before = _quadrature(mu, k, noise, edges)
    while len(edges) < 2**16:
        edges = np.sort(np.concatenate([edges, 0.5 * (edges[1:] + edges[:-1])]))
        now = _quadrature(mu, k, noise, edges)
        if np.max(np.abs(now - before)) <= 1e-12:
            break
        before = now
    return now


def _edges(mu: Any, k: int, noise: Noise) -> Any:
    """Quantiles of the k-th largest value up to those of the largest, and break points."""
    levels = np.linspace(0.0, 1.0, _PANELS + 1)
    low = _quantile(mu, noise, lambda above: _at_most(above, k - 1)[..., -1] >= _MASS)
    high = _quantile(mu, noise, lambda above: np.sum(above, axis=-1) <= _MASS)
    a, b = np.arcsinh(low), np.arcsinh(high)
    breaks = (mu[:, None] + np.asarray(noise.break_points)).ravel()
    edges = np.concatenate([np.sinh(a + levels * (b - a)), breaks])
    return np.unique(edges[(edges >= low) & (edges <= high)])


def _above(mu: Any, noise: Noise, u: Any) -> Any:
    """P(mu_j + noise > u), (..., n)."""
    with np.errstate(divide="ignore"):
        return -np.expm1(noise.log_cdf(u[..., None] - mu))


def _quantile(mu: Any, noise: Noise, holds: Any) -> float:
    """Return where a condition on the probabilities above u, false for small u, becomes true."""
    ends = (noise.support[0] + np.min(mu), noise.support[1] + np.max(mu))
    low, high = np.arcsinh(np.maximum(ends[0], -1e300)), np.arcsinh(np.minimum(ends[1], 1e300))
    for _ in range(60):
        middle = 0.5 * (low + high)
        if holds(_above(mu, noise, np.sinh(middle))):
            high = middle
        else:
            low = middle
    return float(np.sinh(middle))


def _at_most(above: Any, most: int) -> Any:
    """P(no more than 0, ..., most) of all classes are above u."""
    counts = np.zeros((*above.shape[:-1], most + 1))
    counts[..., 0] = 1.0
    for q in np.moveaxis(above, -1, 0):
        counts = _with_class(counts, q[..., None])
    return np.cumsum(counts, axis=-1)


def _with_class(counts: Any, q: Any) -> Any:
    """Probabilities of counts, with one class more that is above u with probability q."""
    result = counts * (1.0 - q)
    result[..., 1:] += q * counts[..., :-1]
    return result


def _quadrature(mu: Any, k: int, noise: Noise, edges: Any) -> Any:
    half = 0.5 * np.diff(edges)[:, None]
    u, weights = (edges[:-1, None] + half * (1.0 + _X)).ravel(), (half * _W).ravel()
    size = max(1, _BLOCK // (len(mu) * k))
    blocks = range(0, len(u), size)
    return sum(_integral(mu, k, noise, u[i : i + size], weights[i : i + size]) for i in blocks)


def _integral(mu: Any, k: int, noise: Noise, u: Any, weights: Any) -> Any:
    above = _above(mu, noise, u).T  # (n, nodes)
    n = len(mu)
    after = np.zeros((n + 1, len(u), k))  # counts of the classes from i on
    after[n, :, 0] = 1.0
    for i in range(n - 1, 0, -1):
        after[i] = _with_class(after[i + 1], above[i, :, None])
    before = np.zeros((len(u), k))
    before[:, 0] = 1.0
    masses = weights[:, None] * np.exp(noise.log_pdf(u[:, None] - mu))
    result = np.empty(n)
    for i in range(n):
        # P(before + after <= k - 1) = sum_a P(before = a) P(after <= k - 1 - a)
        few = np.sum(before * np.cumsum(after[i + 1], axis=-1)[:, ::-1], axis=-1)
        result[i] = masses[:, i] @ few
        before = _with_class(before, above[i, :, None])
    return result
