"""Losses of the lead of the true class over the best of the others, by their definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._classes import loss_of_classes


def lead_formula(xp: Any, x: Any, target: Any) -> Any:
    """x_y - max_{j != y} x_j; +inf where there is no other."""
    classes = xp.arange(x.shape[-1])
    own = target[..., None] == classes
    others = xp.where(own, xp.full_like(x, -np.inf), x)
    best = xp.argmax(others, -1)[..., None] == classes
    zero = xp.zeros_like(x)
    alone = (xp.amax(others, -1) if x.shape[-1] else zero.sum(-1)) == -np.inf
    lead = xp.where(own, x, zero).sum(-1) - xp.where(best & ~own, x, zero).sum(-1)
    return xp.where(alone, xp.full_like(lead, np.inf), lead)


def hinge_phi(xp: Any, lead: Any, margin: float) -> Any:
    """max(0, margin - lead)."""
    return xp.where(lead < margin, margin - lead, xp.zeros_like(lead))


def sigmoid_phi(xp: Any, lead: Any, gain: float) -> Any:
    """1 / (1 + exp(gain lead))."""
    known = xp.where(abs(lead) < np.inf, lead, xp.zeros_like(lead))
    smooth = 0.5 * (1.0 - xp.tanh(0.5 * gain * known))
    return xp.where(abs(lead) < np.inf, smooth, 1.0 * (lead < 0.0))


def polynomial_phi(xp: Any, lead: Any, width: float) -> Any:
    """t^3 / 4 - 3 t / 4 + 1/2 for t = lead / width in [-1, 1], and 1 or 0 beyond."""
    t = xp.clip(lead / width, -1.0, 1.0)
    return 0.25 * t * t * t - 0.75 * t + 0.5


def _loss(phi: Callable[..., Any], number: float, logits: Any, target: Any, common: Any) -> Any:
    def value(x: Any, y: Any, *_: Any) -> Any:
        return phi(np, lead_formula(np, x, np.asarray(y)), number)

    return loss_of_classes(value, logits, target, **common)


def hinge(logits: ArrayLike, target: ArrayLike, *, margin: float = 1.0, **common: Any) -> Any:
    """max(0, margin - lead)."""
    return _loss(hinge_phi, margin, logits, target, common)


def sigmoid_zero_one(
    logits: ArrayLike, target: ArrayLike, *, gain: float = 1.0, **common: Any
) -> Any:
    """1 / (1 + exp(gain lead))."""
    return _loss(sigmoid_phi, gain, logits, target, common)


def polynomial_zero_one(
    logits: ArrayLike, target: ArrayLike, *, width: float = 1.0, **common: Any
) -> Any:
    """t^3 / 4 - 3 t / 4 + 1/2, t = lead / width, and 1 or 0 beyond."""
    return _loss(polynomial_phi, width, logits, target, common)
