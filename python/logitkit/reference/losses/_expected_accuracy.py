"""Probabilities that the true class scores highest under normal noise, by their integral."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._classes import loss_of_classes


def log_accuracy_formula(xp: Any, x: Any, scale: Any, target: Any, *, margin: float) -> Any:
    """
    Log E_z prod_{j != y} Phi((min(x_y - x_j, margin) + scale_y z) / scale_j), z normal.

    The trapezoidal rule on nodes about the mode of the integrand, which is log-concave and, in
    z, at least as curved as a normal density.
    """
    n = x.shape[-1]
    own = target[..., None] == xp.arange(n)
    zero = xp.zeros_like(x)
    if scale is None:
        scale = xp.ones_like(x)
    m = xp.where(own, x, zero).sum(-1)[..., None] - x
    m = xp.where(m < margin, m, xp.full_like(m, margin)) / scale
    steep = xp.where(own, scale, zero).sum(-1)[..., None] / scale
    other = ~own & (m < np.inf)
    m = xp.where(other, m, zero)
    z = _mode(xp, m, steep, other)
    step = 0.05
    nodes = z[..., None] + step * xp.arange(-200, 201)
    at = m[..., None, :] + steep[..., None, :] * nodes[..., None]
    logs = xp.where(other[..., None, :], _log_ndtr(xp, at), xp.zeros_like(at)).sum(-1)
    logs = logs - 0.5 * nodes * nodes + math.log(step) - 0.5 * math.log(2.0 * math.pi)
    top = xp.amax(logs, axis=-1, keepdims=True)
    return top[..., 0] + xp.log(xp.exp(logs - top).sum(-1))


def _mode(xp: Any, m: Any, steep: Any, other: Any) -> Any:
    """Return where -z**2 / 2 + sum log Phi(m + steep z) is largest, a constant."""
    if xp is not np:
        m, steep = m.detach(), steep.detach()
    z = xp.zeros_like(m[..., 0])
    for _ in range(16):
        at = m + steep * z[..., None]
        hazard = xp.where(other, steep * _hazard(xp, at), xp.zeros_like(at))
        curvature = hazard * (hazard + steep * at)
        z = z + (hazard.sum(-1) - z) / (1.0 + curvature.sum(-1))
    return z


def _log_ndtr(xp: Any, x: Any) -> Any:
    if xp is not np:
        return xp.special.log_ndtr(x)
    from scipy.special import log_ndtr

    return log_ndtr(x)


def _hazard(xp: Any, x: Any) -> Any:
    """phi(x) / Phi(x), by the scaled complementary error function."""
    if xp is np:
        from scipy.special import erfcx
    else:
        erfcx = xp.special.erfcx
    return math.sqrt(2.0 / math.pi) / erfcx(-math.sqrt(0.5) * x)


def expected_accuracy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    scale: ArrayLike = 1.0,
    margin: float | None = None,
    method: str = "quadrature",
    samples: int = 16,
    seed: int = 0,
    axis: int = -1,
    weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = -100,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """One less the probability that the true class scores highest, whatever the method."""
    x = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    spread = np.asarray(scale, np.float64)
    spread = spread if spread.ndim <= 1 else np.moveaxis(spread, axis, -1)
    spread = np.broadcast_to(spread, x.shape)
    rows = x.reshape(-1, x.shape[-1]), spread.reshape(-1, x.shape[-1])
    limit = np.inf if margin is None else margin

    def value(number: Any, y: Any, w: Any, *_: Any) -> Any:
        row, scales = (each[int(number[0])] for each in rows)
        log_p = log_accuracy_formula(np, row, scales, np.asarray(y), margin=limit)
        return -np.expm1(log_p) * (1.0 if w is None else w[y])

    return loss_of_classes(
        value,
        np.arange(len(rows[0]), dtype=np.float64).reshape(*x.shape[:-1], 1),
        target,
        axis=-1,
        weight=weight,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
