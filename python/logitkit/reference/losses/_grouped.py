"""Losses of n problems of m classes that share their logarithms, by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._labels import reduced
from ._multilabel import log1p_sum_exp

# Each returns a value for each group: s and t have the shape (..., n, m).


def ratios_formula(xp: Any, s: Any, t: Any) -> Any:
    """Sum_j log(1 + sum_i t_ij sum_{k != j} exp(s_ik - s_ij))."""
    gaps = s[..., None, :] - s[..., :, None]
    same = xp.arange(s.shape[-1])
    same = same[:, None] == same
    if s.shape[-1] < 2:
        return (0.0 * s).sum(-1).sum(-1)
    gaps = xp.where(same, xp.full_like(gaps, -np.inf), gaps)
    m = xp.amax(gaps, axis=-1, keepdims=True)
    others = m[..., 0] + xp.log(xp.exp(gaps - m).sum(-1))
    return _log1p_sums(xp, others, t)


def scores_formula(xp: Any, s: Any, t: Any) -> Any:
    """Sum_j log(1 + sum_i t_ij exp(-s_ij))."""
    return _log1p_sums(xp, -s, t)


def centred_formula(xp: Any, s: Any, t: Any) -> Any:
    """Sum_j log(1 + sum_i t_ij exp(mean_k s_ik - s_ij))."""
    return _log1p_sums(xp, s.mean(-1)[..., None] - s, t)


def debiased_formula(xp: Any, s: Any, t: Any) -> Any:
    """Return the first at s - log(D) / 2, for constants D that are its own sums there."""
    d = debiasing_weights(xp, s, t)
    return ratios_formula(xp, s - 0.5 * d[..., None, :], t)


def debiasing_weights(xp: Any, s: Any, t: Any) -> Any:
    """Return log D of the fixed point D_j = 1 + sum_i t_ij (1 - p_ij) / p_ij at s - log(D)/2."""
    if xp is not np:
        s, t = s.detach(), t.detach()
    log_d = xp.zeros_like(s[..., 0, :])
    for _ in range(200):
        z = s - 0.5 * log_d[..., None, :]
        e = xp.exp(z - xp.amax(z, axis=-1, keepdims=True))
        p = e / e.sum(-1)[..., None]
        new = xp.log1p((t * (1.0 - p) / p).sum(-2))
        log_d = 0.5 * (log_d + new)
    return log_d


def _log1p_sums(xp: Any, x: Any, t: Any) -> Any:
    t = t * xp.ones_like(x)
    return log1p_sum_exp(xp, xp.swapaxes(x, -1, -2), xp.swapaxes(t, -1, -2)).sum(-1)


FORMULAS = {
    "ratios": ratios_formula,
    "scores": scores_formula,
    "centred": centred_formula,
    "debiased": debiased_formula,
}


def grouped_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    form: str = "ratios",
    over: int | tuple[int, ...] | None = None,
    segments: ArrayLike | None = None,
    axis: int = -1,
    mask: ArrayLike | None = None,
    ignore_index: int | None = -100,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """Sum over classes of logarithms that the items of a group share."""
    s = np.asarray(logits, np.float64)
    t = np.asarray(target)
    seen = np.broadcast_to(True if mask is None else mask, np.delete(s.shape, axis))
    if t.ndim < s.ndim:
        seen = seen & (t != ignore_index)
        t = np.where(seen, t, 0)
        t = np.moveaxis((t[..., None] == np.arange(s.shape[axis])) * 1.0, -1, axis)
    s, t = np.moveaxis(s, axis, -1), np.moveaxis(np.asarray(t, np.float64), axis, -1)
    class_axis = axis % s.ndim
    if segments is not None:
        ids = np.asarray(segments)
        groups = [ids == g for g in range(ids.max(initial=-1) + 1)]
        shape: tuple[int, ...] = (len(groups),)
    else:
        every = tuple(i for i in range(s.ndim) if i != class_axis)
        axes = every if over is None else over if isinstance(over, tuple) else (over,)
        moved = [every.index(i % s.ndim) for i in axes]
        shape = tuple(n for i, n in enumerate(s.shape[:-1]) if i not in moved)
        number = np.arange(int(np.prod(shape))).reshape(shape)
        ids = np.broadcast_to(np.expand_dims(number, moved), s.shape[:-1])
        groups = [ids == g for g in range(number.size)]
    values, count = np.zeros(len(groups)), np.zeros(len(groups))
    for g, member in enumerate(groups):
        items = member & seen
        count[g] = items.any() or (segments is None and not member.any())
        values[g] = FORMULAS[form](np, s[items], t[items]) if items.any() else 0.0
    weight = np.broadcast_to(1.0 if sample_weight is None else sample_weight, shape)
    return reduced(values.reshape(shape), weight * count.reshape(shape), reduction, denominator)
