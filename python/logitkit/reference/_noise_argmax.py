"""The distribution of argmax(logits + noise), by adaptive quadrature of its integrals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ..distributions import Noise

_LEAST_MASS = 1e-17  # of the integral that is left out at the upper end
_TOLERANCE = 1e-13  # of a panel, relative to the whole integral
_FURTHEST = 1e150  # where a tail without end is cut
_HEAVY, _PEAKS = 1e4, 6  # what is a long way; the classes whose peaks are enclosed in panels
_X, _W = np.polynomial.legendre.leggauss(16)


class _Nodes(NamedTuple):
    """What the integrals over u of one row are made of, for all of its classes at once."""

    u: Any  # (k,)
    log_mass: Any  # (k,): log of weight times G(u) = prod_j F(u - mu_j)
    log_ratio: Any  # (k, n): log r_i(u), r_i(u) = f(u - mu_i) / F(u - mu_i)


def noise_argmax_log_probs(
    logits: Any, noise: Noise, *, scale: float = 1.0, floor: float = -745.0
) -> Any:
    """Log P(argmax(logits + scale * noise) = i); what is below `floor` may come out smaller."""
    return _of_rows(lambda mu: _log_probs(_nodes(mu, noise, floor)), logits, scale)


def noise_argmax_probs(logits: Any, noise: Noise, *, scale: float = 1.0) -> Any:
    """P(argmax(logits + scale * noise) = i) = int r_i(u) G(u) du."""
    return np.exp(noise_argmax_log_probs(logits, noise, scale=scale))


def noise_argmax_vjp(logits: Any, cotangent: Any, noise: Noise, *, scale: float = 1.0) -> Any:
    """Sum_i g_i dp_i/dmu_m = int r_m G (g_m R - T) du, R = sum_i r_i, T = sum_i g_i r_i."""

    def of_row(mu: Any, g: Any) -> Any:
        _, log_mass, log_ratio = _nodes(mu, noise, -745.0)
        r = np.exp(log_ratio)
        inner = np.sum(r, axis=-1, keepdims=True) * g - (r @ g)[:, None]
        return np.exp(log_mass) @ (r * inner)

    return _of_rows(of_row, logits, scale, cotangent) / scale


def noise_argmax_expected_max(logits: Any, noise: Noise, *, scale: float = 1.0) -> Any:
    """E max(logits + scale * noise) = int u G'(u) du, G' = G R."""

    def of_row(mu: Any) -> Any:
        u, log_mass, log_ratio = _nodes(mu, noise, -745.0)
        return np.exp(log_mass) @ (u * np.sum(np.exp(log_ratio), axis=-1))

    logits = np.asarray(logits, np.float64)
    peak = np.max(logits, axis=-1)
    return scale * _of_rows(of_row, logits, scale) + peak


def noise_argmax_log_prob(
    logits: Any, index: Any, noise: Noise, *, scale: float = 1.0, floor: float = -3e4
) -> Any:
    """Return the logarithm of the probability of one class of each row, far into the tail."""
    log_p = noise_argmax_log_probs(logits, noise, scale=scale, floor=floor)
    return np.take_along_axis(log_p, np.asarray(index)[..., None], axis=-1)[..., 0]


def _of_rows(function: Any, logits: Any, scale: float, *others: Any) -> Any:
    """Apply `function` to the finite part of every row, in units of the scale, its maximum 0."""
    logits = np.asarray(logits, np.float64)
    rows = logits.reshape(-1, logits.shape[-1])
    others = tuple(np.broadcast_to(x, logits.shape).reshape(rows.shape) for x in others)
    results = []
    for i, row in enumerate(rows):
        kept = row > -np.inf
        result = function((row[kept] - np.max(row)) / scale, *(x[i, kept] for x in others))
        if np.ndim(result):
            full = np.full(row.shape, 0.0 if others else -np.inf)
            full[kept] = result
            result = full
        results.append(result)
    return np.reshape(results, logits.shape if np.ndim(results[0]) else logits.shape[:-1])


def _log_probs(nodes: _Nodes) -> Any:
    return np.logaddexp.reduce(nodes.log_mass[:, None] + nodes.log_ratio, axis=0)


def _log_max_cdf(mu: Any, noise: Noise, u: Any) -> Any:
    """Log G(u) = sum_j log F(u - mu_j)."""
    with np.errstate(divide="ignore"):
        return np.sum(noise.log_cdf(u[..., None] - mu), axis=-1)


def _quantiles(mu: Any, noise: Noise, levels: Any) -> Any:
    """Return the u of log G(u) = levels, for a maximum of mu that is zero."""
    lowest, highest = noise.support
    width = np.ones(len(levels))
    low, high = np.full(len(levels), lowest), np.full(len(levels), highest)
    for _ in range(1023):  # a step for each power of two
        if not np.isfinite(lowest):
            low = np.where(_log_max_cdf(mu, noise, -width) > levels, low, -width)
        if not np.isfinite(highest):
            high = np.where(_log_max_cdf(mu, noise, width) < levels, high, width)
        if np.all(np.isfinite(low) & np.isfinite(high)):
            break
        width = np.where(np.isfinite(low) & np.isfinite(high), width, 2.0 * width)
    low, high = np.maximum(low, -_FURTHEST), np.minimum(high, _FURTHEST)
    for _ in range(60):
        middle = np.sinh(0.5 * (np.arcsinh(low) + np.arcsinh(high)))  # heavy tails span decades
        below = _log_max_cdf(mu, noise, middle) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def _edges(mu: Any, noise: Noise, floor: float) -> Any:
    """Return the ends of the first panels: quantiles of G, and where the density has a break."""
    levels = -np.exp(np.linspace(np.log(_LEAST_MASS), np.log(-floor + 40.0), 40))
    quantiles = _quantiles(mu, noise, levels)
    breaks = (mu[:, None] + np.asarray(noise.break_points)).ravel()
    low, high = quantiles.min(), quantiles.max()
    decades = np.empty(0)
    if high - low > _HEAVY:  # panels must not hide a peak from their nodes
        powers = 2.0 ** np.arange(np.log2(high - low) + 1.0)
        peaks = np.sort(mu)[-_PEAKS:]
        decades = (peaks[:, None] + np.concatenate([-powers, powers])).ravel()
    edges = np.concatenate([quantiles, breaks, decades])
    return np.unique(edges[(edges >= low) & (edges <= high)])


def _nodes(mu: Any, noise: Noise, floor: float) -> _Nodes:
    """Halve panels until both halves agree with the whole, for the integrals of all classes."""
    edges = _edges(mu, noise, floor)
    panels = np.stack([edges[:-1], edges[1:]], axis=-1)
    whole = _panel_logs(_panel_nodes(panels, mu, noise))
    done = np.full(mu.shape, -np.inf)
    accepted = []
    while len(panels):
        middle = panels.mean(axis=-1)
        halves = np.stack([panels[:, 0], middle, middle, panels[:, 1]], axis=-1).reshape(-1, 2)
        nodes = _panel_nodes(halves, mu, noise)
        parts = _panel_logs(nodes)
        sums = np.logaddexp(parts[0::2], parts[1::2])
        total = np.logaddexp(done, np.logaddexp.reduce(sums, axis=0))
        counts = total > floor
        with np.errstate(invalid="ignore"):  # of -inf, for classes that cannot win
            error = np.abs(np.exp(sums - total) - np.exp(whole - total))
        allowed = _TOLERANCE * np.maximum(1.0, np.abs(total) / 50.0)
        narrow = np.diff(panels, axis=-1)[:, 0] <= 1e-12 * np.max(np.abs(panels), axis=-1)
        good = np.all((error <= allowed) | ~counts, axis=-1) | narrow
        done = np.logaddexp(done, np.logaddexp.reduce(sums[good], axis=0, initial=-np.inf))
        both = np.repeat(good, 2)
        accepted.append(_Nodes(*(x[both].reshape(-1, *x.shape[2:]) for x in nodes)))
        panels, whole = halves[~both], parts[~both]
    return _Nodes(*(np.concatenate(parts) for parts in zip(*accepted, strict=True)))


def _panel_nodes(panels: Any, mu: Any, noise: Noise) -> _Nodes:
    """Gauss-Legendre nodes of panels (p, 2), in arrays (p, k) and (p, k, n)."""
    half = 0.5 * (panels[:, 1:] - panels[:, :1])
    u = panels[:, :1] + half * (1.0 + _X)
    x = u[..., None] - mu
    with np.errstate(divide="ignore", invalid="ignore"):
        log_cdf = noise.log_cdf(x)
        log_mass = np.log(half * _W) + np.sum(log_cdf, axis=-1)
        # Below the support of a class there is no mass, and its ratio would be f / 0.
        log_ratio = np.where(log_cdf > -np.inf, noise.log_pdf(x) - log_cdf, -np.inf)
        return _Nodes(u, log_mass, log_ratio)


def _panel_logs(nodes: _Nodes) -> Any:
    return np.logaddexp.reduce(nodes.log_mass[..., None] + nodes.log_ratio, axis=1)
