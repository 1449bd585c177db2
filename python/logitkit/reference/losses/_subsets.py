"""Losses of sets of labels by their definitions: products of sums, and sums over subsets."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from ._labels import of_truths

# In place of -inf, of which differences and slopes are NaN. No logit comes near it.
NOTHING = -1e30


def circle_formula(xp: Any, s: Any, t: Any, mask: Any, *, gamma: float, margin: float) -> Any:
    """log(1 + sum_{i not in t} exp(gamma (s_i + margin)) sum_{j in t} exp(-gamma s_j))."""
    seen = xp.ones_like(s) > 0.0 if mask is None else mask
    s = xp.where(seen, s, xp.zeros_like(s))
    nothing = xp.full_like(s, NOTHING)
    u = _logsumexp(xp, xp.where(seen & ~t, gamma * (s + margin), nothing))
    u = u + _logsumexp(xp, xp.where(seen & t, -gamma * s, nothing))
    return xp.where(u > 0.0, u, xp.zeros_like(u)) + xp.log1p(xp.exp(-abs(u)))


def _logsumexp(xp: Any, x: Any) -> Any:
    m = xp.amax(x, axis=-1, keepdims=True)
    return m[..., 0] + xp.log(xp.exp(x - m).sum(-1))


def _logaddexp(xp: Any, a: Any, b: Any) -> Any:
    """Return log(exp(a) + exp(b)); the second derivatives of PyTorch's are NaN far apart."""
    larger, smaller = xp.where(a > b, a, b), xp.where(a > b, b, a)
    return larger + xp.log1p(xp.exp(smaller - larger))


def combinatorial_formula(xp: Any, s: Any, t: Any, mask: Any, *, at_most: int) -> Any:
    """Log of the sum over subsets as large as t of exp(sum s), less sum s over t."""
    seen = xp.ones_like(s) > 0.0 if mask is None else mask
    s = xp.where(seen, s, xp.zeros_like(s))
    size = (seen & t).sum(-1)
    k = at_most or int(size.max() if s.size else 0) if xp is np else at_most or s.shape[-1]
    nothing = xp.full_like(s[..., 0], NOTHING)
    logs = [xp.zeros_like(nothing), *[nothing] * k]
    for i in range(s.shape[-1]):
        x = xp.where(seen[..., i], s[..., i], nothing)
        logs = [logs[0], *(_logaddexp(xp, logs[j], logs[j - 1] + x) for j in range(1, k + 1))]
    table = xp.stack(logs, -1)
    if at_most:
        total = _logsumexp(xp, table)
    else:
        total = xp.where(xp.arange(k + 1) == size[..., None], table, xp.zeros_like(table)).sum(-1)
    return total - xp.where(t, s, xp.zeros_like(s)).sum(-1)


@of_truths
def circle_loss(s: Any, t: Any, *, gamma: float = 1.0, margin: float = 0.0) -> Any:
    """log(1 + sum_{i not in t} sum_{j in t} exp(gamma (s_i - s_j + margin)))."""
    gaps = s[t == 0][:, None] - s[t == 1] + margin
    return np.logaddexp.reduce(np.append(0.0, gamma * gaps))


@of_truths
def combinatorial_cross_entropy(s: Any, t: Any, *, at_most: int | None = None) -> Any:
    """Log of the sum over subsets as large as t of exp(sum s), less sum s over t."""
    k = int(t.sum())
    sizes = [k] if at_most is None else range(at_most + 1)
    scores = [sum(c) for size in sizes for c in combinations(s.tolist(), size)]
    return np.logaddexp.reduce(np.array(scores)) - s[t == 1].sum()
