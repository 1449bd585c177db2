"""The distribution of argmax(logits + noise), by adaptive quadrature of its integrals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ..distributions import Noise

_TOLERANCE = 1e-13  # of a panel, relative to the whole integral
_LOG_NEGLIGIBLE = -45.0  # of what is left out, relative to the whole integral
_FURTHEST = 1e150  # where a tail without end is cut
_FIRST_STEP = 1.0  # of asinh(u / width) between the ends of the first panels
_MOST_CHANGE = 100.0  # of log G in a panel, so that its nodes see an integrand at its end
_UNDERFLOW = 1e-290  # a tail below may be no number of double precision, unlike its density
_X, _W = np.polynomial.legendre.leggauss(16)


class _Panels(NamedTuple):
    """Intervals of u, and what is known of the integrals over them without any quadrature."""

    ends: Any  # (p, 2)
    lower: Any  # (p, n): bounds of log int r_i G du
    upper: Any
    rise: Any  # (p, n): int r_i du = log F(b - mu_i) - log F(a - mu_i)
    slack: Any  # (p, n): the error of that


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


def _edges(mu: Any, noise: Noise) -> Any:
    """Return the ends of the first panels, decades of u, and where the density has a break."""
    lowest, highest = (max(-_FURTHEST, min(_FURTHEST, end)) for end in noise.support)
    first, middle, third = noise.ppf(np.array([0.25, 0.5, 0.75]))
    last = np.arcsinh(_FURTHEST / (third - first))
    s = np.linspace(-last, last, 2 * int(np.ceil(last / _FIRST_STEP)) + 1)
    decades = middle + (third - first) * np.sinh(s)
    breaks = (mu[:, None] + np.asarray(noise.break_points)).ravel()
    edges = np.concatenate([[lowest, highest], decades, breaks])
    return np.unique(edges[(edges >= lowest) & (edges <= highest)])


def _bounded(ends: Any, mu: Any, noise: Noise) -> _Panels:
    """
    Bound integrals over [a, b]: G / F_i, a product of distribution functions, is largest at b.

    It is smallest at a, and int f_i du = F_i(b) - F_i(a). So a peak that lies between all of the
    nodes cannot be overlooked.
    """
    x = ends[..., None] - mu
    with np.errstate(divide="ignore", invalid="ignore"):
        log_cdf, log_pdf = noise.log_cdf(x), noise.log_pdf(x)
        log_max_cdf = np.sum(log_cdf, axis=-1)
        rise = log_cdf[:, 1] - log_cdf[:, 0]
        upper = log_max_cdf[:, 1, None] + np.log(-np.expm1(-rise))
        # log(e^rise - 1), by a form that does not overflow.
        lower = log_max_cdf[:, 0, None] + rise + np.log(-np.expm1(-rise))
        # In its upper tail F_i may be 1 where f_i counts, which decreases there.
        log_width = np.log(ends[:, 1] - ends[:, 0])[:, None]
        far = log_cdf[:, 0] > -_UNDERFLOW
        upper = np.where(far, log_max_cdf[:, 1, None] + log_pdf[:, 0] + log_width, upper)
        lower = np.where(far, log_max_cdf[:, 0, None] + log_pdf[:, 1] + log_width, lower)
        slack = 1e-15 + 1e-6 * rise + 1e-10 * np.abs(log_cdf[:, 0])
    lower = np.where(np.isnan(lower), -np.inf, lower)  # from below the support of the class
    return _Panels(ends, lower, np.where(np.isnan(upper), -np.inf, upper), rise, slack)


def _nodes(mu: Any, noise: Noise, floor: float) -> _Nodes:
    """
    Halve panels until both halves agree with the whole, for the integrals of all classes.

    Panels of which the bounds say that they do not count are left out. Of the others the nodes
    must see every peak: by them too the integral of r_i is what it is known to be.
    """
    edges = _edges(mu, noise)
    panels = _bounded(np.stack([edges[:-1], edges[1:]], axis=-1), mu, noise)
    whole = None
    done = np.full(mu.shape, -np.inf)
    accepted = []
    while True:
        least = np.logaddexp(done, np.logaddexp.reduce(panels.lower, axis=0, initial=-np.inf))
        counts = panels.upper > np.maximum(least, floor) + _LOG_NEGLIGIBLE
        kept = np.any(counts, axis=-1)
        if not np.any(kept):
            break
        panels, counts = _Panels(*(x[kept] for x in panels)), counts[kept]
        whole = _panel_nodes(panels.ends, mu, noise)[1] if whole is None else whole[kept]
        middle = panels.ends.mean(axis=-1)
        low, high = panels.ends.T
        ends = np.stack([low, middle, middle, high], axis=-1).reshape(-1, 2)
        nodes, logs, rises = _panel_nodes(ends, mu, noise)
        sums = np.logaddexp(logs[0::2], logs[1::2])
        seen = _sees_peaks(panels, rises[0::2] + rises[1::2])
        estimates = np.where(seen[:, None], sums, panels.lower)
        total = np.maximum(least, np.logaddexp(done, np.logaddexp.reduce(estimates, axis=0)))
        with np.errstate(invalid="ignore", over="ignore"):  # of -inf: classes that cannot win
            error = np.abs(np.exp(sums - total) - np.exp(whole - total))
        allowed = _TOLERANCE * np.maximum(1.0, np.abs(total) / 50.0)
        narrow = high - low <= 1e-12 * np.maximum(np.abs(low), np.abs(high))
        good = (seen & np.all((error <= allowed) | ~counts, axis=-1)) | narrow
        done = np.logaddexp(done, np.logaddexp.reduce(sums[good], axis=0, initial=-np.inf))
        both = np.repeat(good, 2)
        accepted.append(_Nodes(*(x[both].reshape(-1, *x.shape[2:]) for x in nodes)))
        panels, whole = _bounded(ends[~both], mu, noise), logs[~both]
    return _Nodes(*(np.concatenate(parts) for parts in zip(*accepted, strict=True)))


def _sees_peaks(panels: _Panels, rises: Any) -> Any:
    """Whether nodes give int r_i du, for every class; where F begins it is infinite."""
    with np.errstate(invalid="ignore"):
        right = (np.abs(rises - panels.rise) <= panels.slack) | ~np.isfinite(panels.rise)
    change = np.sum(np.where(np.isfinite(panels.rise), panels.rise, 0.0), axis=-1)
    return np.all(right, axis=-1) & (change <= _MOST_CHANGE)


def _panel_nodes(ends: Any, mu: Any, noise: Noise) -> tuple[_Nodes, Any, Any]:
    """
    Gauss-Legendre nodes of panels (p, 2), in arrays (p, k) and (p, k, n).

    And what they make of the logarithm of int r_i G du and of int r_i du, both (p, n).
    """
    half = 0.5 * (ends[:, 1:] - ends[:, :1])
    u = ends[:, :1] + half * (1.0 + _X)
    x = u[..., None] - mu
    with np.errstate(divide="ignore", invalid="ignore"):
        log_cdf = noise.log_cdf(x)
        log_weight = np.log(half * _W)
        log_mass = log_weight + np.sum(log_cdf, axis=-1)
        # Below the support of a class there is no mass, and its ratio would be f / 0.
        log_ratio = np.where(log_cdf > -np.inf, noise.log_pdf(x) - log_cdf, -np.inf)
    logs = np.logaddexp.reduce(log_mass[..., None] + log_ratio, axis=1)
    with np.errstate(over="ignore"):
        rises = np.sum(np.exp(log_weight[..., None] + log_ratio), axis=1)
    return _Nodes(u, log_mass, log_ratio), logs, rises
