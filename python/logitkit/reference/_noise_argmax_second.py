r"""
Second derivatives of the probabilities of argmax(logits + noise), and of their logarithms.

With r_i = f / F at u - mu_i, and r_i' = r_i (f' / f - r_i) its slope, the derivative of the
product of `noise_argmax_vjp` along h is that of its integrand, by dr_m = -h_m r_m' and
dG = -G sum_j h_j r_j. Where f jumps, r' is infinite. At the lower end of the support only the jump
of the largest logit counts, as G is zero below it: its h is zero once a constant is subtracted,
which changes nothing. Uniform noise has an upper end too, where F = 1 and r' = -1 times Dirac's
delta: the integrand at u = mu_i + 1/2 is added for each class i. Derivatives of uniform noise have
a kink where two logits are the same: here the first of them counts as the larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._noise_argmax import _nodes, _of_rows

if TYPE_CHECKING:
    from ..distributions import Noise


def noise_argmax_second_vjp(
    logits: Any, cotangent: Any, direction: Any, noise: Noise, *, scale: float = 1.0
) -> Any:
    """Sum_ij g_i h_j d^2 p_i / dmu_j dmu_m: symmetric in g, h and m."""

    def of_row(mu: Any, g: Any, h: Any) -> Any:
        u, log_mass, log_ratio = _nodes(mu, noise, -745.0)
        r = np.exp(log_ratio)
        h = h - h[_pivot(mu, noise)]
        moved = h * r * (_slope(noise, u[:, None] - mu) - r)  # -dr
        total = np.sum(r, axis=-1, keepdims=True)
        inner = total * g - (r @ g)[:, None]
        d_inner = -np.sum(moved, axis=-1, keepdims=True) * g + (moved @ g)[:, None]
        result = np.exp(log_mass) @ (-(r @ h)[:, None] * r * inner - moved * inner + r * d_inner)
        for i, log_cdfs, above in _upper_ends(mu, noise):
            # dr_i = h_i delta, and so d(r_m (g_m R - T)) = dr_m (g_m R - T) + r_m (g_m - g_i) dr_i
            ratios = h[i] * np.where(above, np.exp(np.sum(log_cdfs) - log_cdfs), 0.0)
            result += ratios * (g - g[i])
            result[i] += np.sum(ratios * (g[i] - g))
        return result

    return _of_rows(of_row, logits, scale, cotangent, direction) / scale**2


def noise_argmax_score_vjp(
    logits: Any, index: Any, cotangent: Any, noise: Noise, *, scale: float = 1.0
) -> Any:
    """Sum_j h_j d^2 log p_y / dmu_j dmu_m for the class y of each row; 0 where it cannot win."""
    classes = np.arange(np.shape(logits)[-1])
    own = np.asarray(index)[..., None] == classes

    def of_row(mu: Any, own: Any, h: Any) -> Any:
        own = own > 0.0
        if not own.any():
            return np.zeros(mu.shape)
        u, log_mass, log_ratio = _nodes(mu, noise, -3e4)
        logs = log_mass + log_ratio[:, own][:, 0]
        if np.max(logs) == -np.inf:
            return np.zeros(mu.shape)
        share = np.exp(logs - np.logaddexp.reduce(logs))  # the law of u, given that y wins
        r, slope = np.where(own, 0.0, np.exp(log_ratio)), _slope(noise, u[:, None] - mu)
        h = h - (h[own] if not _jumps(noise) else h[_pivot(mu, noise)])
        score = -share @ r
        score[own] = -np.sum(score)
        # d share / dmu_j = -r_j - score_j for j != y, and -f_y' / f_y - score_y for y.
        along = r @ h + np.where(own, slope, 0.0) @ h
        # d r_j = -h_j r_j'.
        result = share @ (r * (along + score @ h)[:, None] + h * r * (slope - r))
        log_p = np.logaddexp.reduce(logs)
        for i, log_cdfs, above in _upper_ends(mu, noise):
            rivals = np.sum(log_cdfs) - log_cdfs[own] - log_p  # log prod_{j != y} F / p
            if own[i]:  # d f_y = h_y delta
                result -= h[i] * np.where(above, np.exp(rivals - log_cdfs), 0.0)
            elif above[own][0]:  # dr_i = h_i delta
                result[i] -= h[i] * np.exp(rivals[0])
        result[own] = -np.sum(result[~own])
        return result

    return _of_rows(of_row, logits, scale, own, cotangent) / scale**2


def _upper_ends(mu: Any, noise: Noise) -> Iterator[tuple[int, Any, Any]]:
    """Yield the classes whose density jumps where it ends, with log F and the larger logits there."""
    if type(noise).__name__ != "Uniform":
        return
    classes = np.arange(len(mu))
    for i in classes[mu + 0.5 > np.max(mu) - 0.5]:
        above = (mu > mu[i]) | ((mu == mu[i]) & (classes < i))
        yield int(i), np.where(above, noise.log_cdf(mu[i] + 0.5 - mu), 0.0), above


def _jumps(noise: Noise) -> bool:
    return type(noise).__name__ in ("Exponential", "Uniform")


def _pivot(mu: Any, noise: Noise) -> Any:
    return np.argmax(mu) if _jumps(noise) else 0


def _slope(noise: Noise, x: Any) -> Any:
    """Return f' / f where f is positive."""
    match type(noise).__name__:
        case "Normal":
            return -x
        case "Logistic":
            return -np.tanh(0.5 * x)
        case "Laplace":
            return -np.sign(x)
        case "Gumbel":
            with np.errstate(over="ignore"):
                return np.expm1(-x)
        case "Cauchy":
            return -2.0 * x / (1.0 + x * x)
        case "StudentT":
            df = noise.df  # type: ignore[attr-defined]
            return -(df + 1.0) * x / (df + x * x)
        case "Exponential":
            return np.full_like(x, -1.0)
        case "Uniform":
            return np.zeros_like(x)
    raise NotImplementedError(f"no second derivatives are known for noise of {noise!r}")
