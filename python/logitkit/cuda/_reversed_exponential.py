"""
The closed form of argmax(mu - exponential noise) for arrays on a GPU, in float64.

logitkit.distributions._reversed_exponential has the formula and its source; here sums of
probabilities are not taken in logarithms, as those below 1e-299 count as zero.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ._arrays import namespace_of


class _Sorted(NamedTuple):
    order: Any  # of the classes, by descending logits
    place: Any  # of each class in that order, from 0
    rank: Any  # r = 1, 2, ...
    exponents: Any  # B_r
    log_terms: Any  # log((e^{B_r} - e^{B_{r+1}}) / r)


def probs(mu: Any) -> Any:
    """Return the probabilities, of rows whose maximum is zero."""
    xp, s = namespace_of(mu), _sorted(mu)
    found = xp.take_along_axis(_suffix_sums(xp.exp(s.log_terms)), s.place, axis=-1)
    return xp.where(mu == -math.inf, xp.zeros_like(mu), found)


def log_prob(mu: Any, is_class: Any) -> Any:
    """Return the logarithm for the class that `is_class` marks, far into the tail."""
    xp, s = namespace_of(mu), _sorted(mu)
    first = xp.sum(xp.where(is_class, s.place, xp.zeros_like(s.place)), axis=-1, keepdims=True)
    terms = xp.where(s.rank > first, s.log_terms, xp.full_like(mu, -math.inf))
    peak = xp.max(terms, axis=-1, keepdims=True)
    shift = xp.where(xp.isfinite(peak), peak, xp.zeros_like(peak))
    found = xp.log(xp.sum(xp.exp(terms - shift), axis=-1)) + shift[:, 0]
    hidden = xp.any(is_class & (mu == -math.inf), axis=-1)
    return xp.where(hidden, xp.full_like(found, -math.inf), found)


def vjp(mu: Any, cotangent: Any, log_divisor: Any) -> Any:
    """Return sum_i g_i dp_i/dmu_m / e^log_divisor."""
    xp, s = namespace_of(mu), _sorted(mu)
    g = xp.take_along_axis(cotangent, s.order, axis=-1)
    means = xp.cumulative_sum(g, axis=-1) / s.rank
    factors = xp.concat([xp.zeros_like(mu[:, :1]), means[:, 1:] - means[:, :-1]], axis=-1)
    seen = (s.exponents > -math.inf) & (factors != 0.0)
    powers = xp.where(seen, s.exponents - log_divisor, xp.zeros_like(mu))
    products = xp.where(seen, factors * xp.exp(powers), xp.zeros_like(mu))
    tails = _suffix_sums(products) - products
    return xp.take_along_axis((s.rank - 1.0) * products - tails, s.place, axis=-1)


def expected_max(mu: Any) -> Any:
    """Return E max."""
    xp = namespace_of(mu)
    return -xp.sum(xp.exp(_sorted(mu).log_terms), axis=-1)


def _sorted(mu: Any) -> _Sorted:
    xp = namespace_of(mu)
    order = xp.argsort(mu, axis=-1, descending=True, stable=True)
    descending = xp.take_along_axis(mu, order, axis=-1)
    rank = xp.arange(1, mu.shape[-1] + 1, dtype=mu.dtype, device=mu.device)
    lower, infinite = descending[:, 1:], xp.full_like(mu, math.inf)
    gaps = xp.where(lower == -math.inf, infinite[:, 1:], descending[:, :-1] - lower)
    steps = rank[:-1] * gaps  # B_r - B_{r+1}: no cancellation
    sums = xp.cumulative_sum(steps, axis=-1)
    exponents = xp.concat([xp.zeros_like(mu[:, :1]), -sums], axis=-1)
    steps = xp.concat([steps, infinite[:, :1]], axis=-1)
    near = steps < math.log(2.0)
    log_part = xp.where(near, xp.log(-xp.expm1(-steps)), xp.log1p(-xp.exp(-steps)))
    place = xp.argsort(order, axis=-1)
    return _Sorted(order, place, rank, exponents, exponents + log_part - xp.log(rank))


def _suffix_sums(x: Any) -> Any:
    xp = namespace_of(x)
    return xp.flip(xp.cumulative_sum(xp.flip(x, axis=-1), axis=-1), axis=-1)
