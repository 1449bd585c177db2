r"""
Closed form of argmax(mu - exponential noise), the exponomial model, in O(n log n).

With the logits in descending order, mu_1 >= mu_2 >= ..., and B_r = r mu_r - sum_{j <= r} mu_j,

    p_i = sum_{r >= i} (e^{B_r} - e^{B_{r+1}}) / r,    B_{n+1} = -inf.

A. Alptekinoglu and J. H. Semple, "The exponomial choice model", Operations Research, 2016.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class _Sorted(NamedTuple):
    order: Any  # of the classes, by descending logits
    rank: Any  # r = 1, 2, ...
    exponents: Any  # B_r
    log_terms: Any  # log((e^{B_r} - e^{B_{r+1}}) / r)


def _sorted(mu: Any) -> _Sorted:
    """Return what the closed form is made of, for rows whose maximum is zero."""
    order = np.argsort(-mu, axis=-1, kind="stable")
    descending = np.take_along_axis(mu, order, axis=-1)
    rank = np.arange(1.0, mu.shape[-1] + 1.0)
    with np.errstate(invalid="ignore"):
        gaps = descending[..., :-1] - descending[..., 1:]
    gaps = np.where(descending[..., 1:] == -np.inf, np.inf, gaps)
    steps = rank[:-1] * gaps  # B_r - B_{r+1}: no cancellation
    exponents = np.concatenate([np.zeros_like(mu[..., :1]), -np.cumsum(steps, axis=-1)], axis=-1)
    steps = np.concatenate([steps, np.full_like(mu[..., :1], np.inf)], axis=-1)
    with np.errstate(divide="ignore"):
        near = steps < np.log(2.0)
        log_part = np.where(near, np.log(-np.expm1(-steps)), np.log1p(-np.exp(-steps)))
    return _Sorted(order, rank, exponents, exponents + log_part - np.log(rank))


def _unsorted(values: Any, order: Any) -> Any:
    result = np.empty_like(values)
    np.put_along_axis(result, order, values, axis=-1)
    return result


def log_probs(mu: Any) -> Any:
    """Log p_i."""
    order, _, _, log_terms = _sorted(mu)
    sums = np.logaddexp.accumulate(log_terms[..., ::-1], axis=-1)[..., ::-1]
    return np.where(mu == -np.inf, -np.inf, _unsorted(sums, order))


def vjp(mu: Any, cotangent: Any, log_divisor: Any) -> Any:
    """
    Sum_i g_i dp_i/dmu_m / e^log_divisor.

    e^{B_r} has the factor h_r = c_r - c_{r-1}, c_r = sum_{i <= r} g_i / r, in sum_i g_i p_i, and
    dB_r/dmu_m = (r - 1) [m = r] - [m < r].
    """
    order, rank, exponents, _ = _sorted(mu)
    g = np.take_along_axis(cotangent, order, axis=-1)
    return _pulled_back(g, 1.0, order, rank, exponents, log_divisor)


def _pulled_back(
    g: Any, along: Any, order: Any, rank: Any, exponents: Any, log_divisor: Any
) -> Any:
    """Return the sum over r of h_r along_r e^{B_r} dB_r/dmu_m, with g in the order of ranks."""
    factors = np.diff(np.cumsum(g, axis=-1) / rank, axis=-1, prepend=0.0)
    factors[..., 0] = 0.0  # B_1 = 0
    # What has no factor may be far above a divisor in the tail.
    nothing = (exponents == -np.inf) | (factors == 0.0)
    powers = np.exp(np.where(nothing, -np.inf, exponents - log_divisor))
    products = along * factors * powers
    tails = np.cumsum(products[..., ::-1], axis=-1)[..., ::-1] - products
    return _unsorted((rank - 1.0) * products - tails, order)


def second_vjp(mu: Any, cotangent: Any, direction: Any, log_divisor: Any) -> Any:
    """
    Sum_ij g_i h_j d^2 p_i / dmu_j dmu_m / e^log_divisor.

    B_r is linear in mu, so that its part of `vjp` is multiplied by the derivative of B_r along h.
    """
    order, rank, exponents, _ = _sorted(mu)
    g, h = (np.take_along_axis(x, order, axis=-1) for x in (cotangent, direction))
    along = rank * h - np.cumsum(h, axis=-1)
    return _pulled_back(g, along, order, rank, exponents, log_divisor)


def expected_max(mu: Any) -> Any:
    """E max = -int G du, G(u) = e^{r u - mu_1 - ... - mu_r} between mu_{r+1} and mu_r."""
    return -np.sum(np.exp(_sorted(mu).log_terms), axis=-1)
