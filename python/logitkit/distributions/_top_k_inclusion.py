r"""
P(i is among the k largest of mu + noise), for independent noise of any law.

    P_i = int f(u - mu_i) Q_i(u) du,    Q_i(u) = P(at most k - 1 classes j != i are above u)

Q_i is a value of the Poisson-binomial distribution function without class i. It is computed from
the counts before i and after i, which are both known: only sums of products of probabilities, so
that nothing cancels. The work is O(n k) for each node; nodes are the last axis, the long one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._noise import Noise

_X, _W = np.polynomial.legendre.leggauss(16)
_PANELS = 24
_MASS = 1e-14  # that is left out at either end
_PARTS, _ROUNDS = 32, 12  # of a search: 60 bits, by few passes over the classes
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
    low = _quantile(mu, noise, lambda above: np.sum(_counts(above, k), axis=0) >= _MASS)
    high = _quantile(mu, noise, lambda above: np.sum(above, axis=0) <= _MASS)
    between = np.sinh(np.linspace(np.arcsinh(low), np.arcsinh(high), _PANELS + 1)[1:-1])
    breaks = (mu[:, None] + np.asarray(noise.break_points)).ravel()
    edges = np.concatenate([[low, high], between, breaks])
    return np.unique(edges[(edges >= low) & (edges <= high)])


def _above(mu: Any, noise: Noise, u: Any) -> Any:
    """P(mu_j + noise > u), (n, nodes)."""
    with np.errstate(divide="ignore"):
        return -np.expm1(noise.log_cdf(u - mu[:, None]))


def _quantile(mu: Any, noise: Noise, holds: Any) -> float:
    """Return where a condition on the probabilities above u, false for small u, becomes true."""
    ends = (noise.support[0] + np.min(mu), noise.support[1] + np.max(mu))
    low, high = np.arcsinh(np.maximum(ends[0], -1e300)), np.arcsinh(np.minimum(ends[1], 1e300))
    for _ in range(_ROUNDS):
        inner = np.linspace(low, high, _PARTS + 1)[1:-1]
        first = int(np.argmax(np.append(holds(_above(mu, noise, np.sinh(inner))), True)))
        low, high = np.concatenate([[low], inner, [high]])[first : first + 2]
    return float(np.sinh(high))


def _counts(above: Any, k: int) -> Any:
    """P(0, ..., k - 1 of all classes are above u), (k, nodes)."""
    counts = _no_class(above.shape[1], k)
    for q in above:
        counts = _with_class(counts, q)
    return counts


def _no_class(nodes: int, k: int) -> Any:
    counts = np.zeros((k, nodes))
    counts[0] = 1.0
    return counts


def _with_class(counts: Any, q: Any) -> Any:
    """Probabilities of counts, with one class more that is above u with probability q."""
    result = counts * (1.0 - q)
    result[1:] += q * counts[:-1]
    return result


def _quadrature(mu: Any, k: int, noise: Noise, edges: Any) -> Any:
    half = 0.5 * np.diff(edges)[:, None]
    u, weights = (edges[:-1, None] + half * (1.0 + _X)).ravel(), (half * _W).ravel()
    size = max(1, _BLOCK // (len(mu) * k))
    blocks = range(0, len(u), size)
    return sum(_integral(mu, k, noise, u[i : i + size], weights[i : i + size]) for i in blocks)


def _integral(mu: Any, k: int, noise: Noise, u: Any, weights: Any) -> Any:
    above, n = _above(mu, noise, u), len(mu)
    after = np.empty((n, k, len(u)))  # counts of the classes after i, no more than each number
    counts = _no_class(len(u), k)
    for i in range(n - 1, -1, -1):
        np.cumsum(counts, axis=0, out=after[i])
        counts = _with_class(counts, above[i])
    before = _no_class(len(u), k)
    masses = weights * np.exp(noise.log_pdf(u - mu[:, None]))
    result = np.empty(n)
    for i in range(n):
        # P(before + after <= k - 1) = sum_a P(before = a) P(after <= k - 1 - a)
        result[i] = masses[i] @ np.einsum("ku,ku->u", before, after[i, ::-1])
        before = _with_class(before, above[i])
    return result
