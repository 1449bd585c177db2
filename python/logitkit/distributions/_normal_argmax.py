"""The probability that one class scores highest under normal noise, by quadrature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _cpu

# log of the share of the integrand's maximum below which it is left out.
_DROP = 42.0


def log_ndtr(x: Any) -> Any:
    """Return the logarithm of the normal distribution function."""
    from scipy.special import log_ndtr as function

    return function(x)


def hazard(x: Any) -> Any:
    """Return phi(x) / Phi(x): about -x far to the left, and 0 far to the right."""
    from scipy.special import erfcx

    return math.sqrt(2.0 / math.pi) / erfcx(-math.sqrt(0.5) * x)


def equal_noise_log_probability(m: Any, y: Any, other: Any, slopes: bool) -> tuple[Any, Any]:
    """
    Return log E_z prod_j Phi(m_j + z) over the other classes, and its slopes, or None.

    See `log_probability`; `y`, shape (rows, 1), is the class itself, whose score is 0.
    """
    x = np.where(other, -m, -np.inf)
    np.put_along_axis(x, y, 0.0, -1)
    value = np.empty(len(x))
    gradient = np.empty(x.shape) if slopes else None
    index = np.ascontiguousarray(y[:, 0].astype(np.uintp))
    _cpu.noise_argmax_log_prob(x, index, _cpu.NoiseLaw.normal, 1.0, value, gradient)
    return value, None if gradient is None else np.where(other, -gradient, 0.0)


def log_probability(m: Any, steep: Any, other: Any, slopes: bool) -> tuple[Any, Any, Any]:
    r"""
    Return the log of an integral, log E_z prod_j Phi(m_j + steep_j z), and its slopes.

    In NumPy, for noise of any scales; `equal_noise_log_probability` has a kernel.

    Parameters
    ----------
    m, steep : ndarray, shape (rows, n)
        Margins over the other classes and slopes in z, in units of their noise; finite.
    other : ndarray of bool, shape (rows, n)
        The factors: all classes but the own one.
    slopes : bool
        Whether to return derivatives of the logarithm with respect to `m` and to `steep`, not
        None.

    Notes
    -----
    The logarithm h of the integrand is concave, with h'' <= -1. Newton's method finds its
    maximum from anywhere: h' is convex and falls, so that every step but the first comes from
    the left. Bisection finds where h has dropped by 42 on either side, at most sqrt(84) away,
    and the trapezoidal rule in between converges faster than any power of its step. With 96
    nodes and equal noise the error of the logarithm is below 1e-13 from 2 to 50,000 classes.
    """
    z = _mode(m, steep, other)
    top = _log_integrand(z, m, steep, other)
    ends = [_end(sign, z, top, m, steep, other) for sign in (-1.0, 1.0)]
    sharpest = float(steep.max(initial=1.0, where=other))
    count = int(min(max(96.0, 24.0 * sharpest), 1024.0))
    step = (ends[1] - ends[0]) / (count - 1)
    nodes = [ends[0] + k * step for k in range(count)]
    logs = np.stack([_log_integrand(u, m, steep, other) for u in nodes])
    shares = np.exp(logs - top)
    total = shares.sum(0)
    value = top + np.log(total) + np.log(step / math.sqrt(2.0 * math.pi))
    if not slopes:
        return value, None, None
    shares /= total
    of_m, of_steep = np.zeros(m.shape), np.zeros(m.shape)
    for u, share in zip(nodes, shares, strict=True):
        part = np.where(other, hazard(m + steep * u[:, None]), 0.0) * share[:, None]
        of_m += part
        of_steep += part * u[:, None]
    return value, of_m, of_steep


def class_log_probability(x: Any, scale: Any, index: int, *, slopes: bool) -> tuple[Any, Any, Any]:
    """
    Return log P(x_index + scale_index eps is the largest), and its slopes for x and scale.

    Rows `x` (rows, n) are of ``float64``, with -inf for the same classes in each, and `scale`
    (n,) is that of the classes.
    """
    if x[0, index] == -np.inf:
        return np.full(len(x), -np.inf), np.zeros(x.shape), np.zeros(x.shape)
    own = scale[index]
    other = (x > -np.inf) & (np.arange(x.shape[-1]) != index)
    lead = np.where(other, x[:, index, None] - x, 0.0)
    steep = np.broadcast_to(own / scale, x.shape)
    value, of_lead, of_steep = log_probability(lead / scale, steep, other, slopes)
    if not slopes:
        return value, None, None
    of_lead, of_steep = of_lead / scale, of_steep / scale
    of_scale = -(of_lead * lead + of_steep * own) / scale
    of_scale[:, index] = of_steep.sum(-1)
    of_x = -of_lead
    of_x[:, index] = of_lead.sum(-1)
    return value, of_x, of_scale


def _log_integrand(z: Any, m: Any, steep: Any, other: Any) -> Any:
    factors = log_ndtr(m + steep * z[:, None])
    return np.sum(factors, axis=-1, where=other) - 0.5 * z * z


def _mode(m: Any, steep: Any, other: Any) -> Any:
    z = np.zeros(len(m))
    for _ in range(100):
        at = m + steep * z[:, None]
        h = np.where(other, hazard(at), 0.0)
        curvature = 1.0 + (steep * steep * h * (h + at)).sum(-1)
        change = ((steep * h).sum(-1) - z) / curvature
        z += change
        # The nodes need not lie about the maximum to more than a part of its width.
        if (abs(change) * np.sqrt(curvature) < 1e-2).all():
            break
    return z


def _end(sign: float, z: Any, top: Any, m: Any, steep: Any, other: Any) -> Any:
    near, far = np.zeros(len(z)), np.full(len(z), math.sqrt(2.0 * _DROP))
    for _ in range(7):
        middle = 0.5 * (near + far)
        above = _log_integrand(z + sign * middle, m, steep, other) > top - _DROP
        near, far = np.where(above, middle, near), np.where(above, far, middle)
    return z + sign * far


def genz(m: Any, *, samples: int, seed: int, slopes: bool) -> tuple[Any, Any]:
    """
    Return the same probability, not its logarithm, by Genz's algorithm as published for EXACT.

    Differences of the own score and others are normal with covariance 1 + (i == j). In
    ascending order of `m`, shape (rows, n), each is drawn from the part above zero given those
    before, and the product of the probabilities of these parts is averaged over `samples`. For the
    derivative with respect to `m_i` the difference i stays at 0 in a chain of its own, and its
    probability is replaced by the density. The factor of the covariance has constant columns
    below the diagonal.
    """
    from scipy.special import ndtr, ndtri

    order = np.argsort(m, axis=-1)
    ranked = np.take_along_axis(m, order, -1)
    rows, n = m.shape
    uniform = np.random.Generator(np.random.Philox(seed)).random((samples, rows, n))
    chains = n + 1 if slopes else 1  # the last one is the probability itself
    moved, product = np.zeros((samples, rows, chains)), np.ones((samples, rows, chains))
    norm = 0.0  # the sum of squares of the columns so far
    for i in range(n):
        diagonal = math.sqrt(2.0 - norm)
        column = (1.0 - norm) / diagonal
        norm += column * column
        least = (-ranked[:, i, None] - moved) / diagonal
        factor = ndtr(-least)
        u = uniform[:, :, i, None]
        y = np.clip(ndtri(1.0 - factor * (1.0 - u)), -5.0, 5.0)
        if slopes:
            y[..., i] = least[..., i]
            factor[..., i] = np.exp(-0.5 * least[..., i] ** 2) / (diagonal * math.sqrt(2 * math.pi))
        product *= factor
        moved += column * y
    mean = product.mean(0)
    if not slopes:
        return mean[:, -1], None
    gradient = np.empty(m.shape)
    np.put_along_axis(gradient, order, mean[:, :-1], -1)
    return mean[:, -1], gradient
