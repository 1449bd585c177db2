"""Values and slopes of losses of n problems of m classes that share their logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.losses import _grouped as formulas
from ._log1p_sum_exp import log1p_sum_exp
from ._row_loss import RowLoss

_ARRAYS = ("logits", "target")


def _log1p_sums(x: Any, t: Any) -> tuple[Any, Any, Any]:
    """Return sum_j log(1 + sum_i t_ij exp(x_ij)), the logarithms, and slopes in `t`."""
    found = log1p_sum_exp(np.swapaxes(x, -1, -2), np.swapaxes(t, -1, -2))
    ratio = np.swapaxes(found.ratio, -1, -2)
    return found.value.sum(-1), found.value, ratio


def _probabilities(s: Any) -> tuple[Any, Any]:
    """Return log p, and the log of (1 - p) / p without cancellation."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    z = np.exp(s - m)
    at = np.argmax(z, axis=-1, keepdims=True) if s.shape[-1] else np.zeros((*s.shape[:-1], 0), int)
    rest = z.copy()
    np.put_along_axis(rest, at, 0.0, -1)
    rest = rest.sum(-1, keepdims=True)
    others = rest + 1.0 - z
    np.put_along_axis(others, at, rest, -1)
    with np.errstate(divide="ignore"):
        return s - m - np.log1p(rest), np.log(others) + m - s


def _ratios(s: Any, t: Any, *, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
    """
    Return values and slopes -a (1 - p) + p sum_{h != j} a_ih, a = t / (p D).

    Computed in ``float64``, in which 1 / p has room.
    """
    dtype, s, t = s.dtype, s.astype(np.float64), t.astype(np.float64)
    log_p, log_odds = _probabilities(s)
    value, log_d, ratio = _log1p_sums(log_odds, t)
    if not argnums:
        return value.astype(dtype), ()
    with np.errstate(over="ignore", invalid="ignore"):
        a = np.where(t > 0.0, t * np.exp(-log_p - log_d[..., None, :]), 0.0)
        own = np.where(t > 0.0, t * ratio, 0.0)
        slope = np.exp(log_p) * (a.sum(-1, keepdims=True) - a) - own
    slopes = slope, ratio
    return value.astype(dtype), tuple(slopes[i].astype(dtype) for i in argnums)


def _scores(s: Any, t: Any, *, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
    value, _, ratio = _log1p_sums(-s, t.astype(s.dtype))
    slopes = -_used(t, ratio), ratio
    return value.astype(s.dtype), tuple(slopes[i].astype(s.dtype) for i in argnums)


def _centred(s: Any, t: Any, *, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
    mean = s.mean(-1, keepdims=True) if s.shape[-1] else s
    value, _, ratio = _log1p_sums(mean - s, t.astype(s.dtype))
    used = _used(t, ratio)
    slopes = (used.mean(-1, keepdims=True) if s.shape[-1] else used) - used, ratio
    return value.astype(s.dtype), tuple(slopes[i].astype(s.dtype) for i in argnums)


def _used(t: Any, ratio: Any) -> Any:
    """Return t * ratio, zero where `t` is: a ratio may be infinite there."""
    with np.errstate(invalid="ignore"):
        return np.where(t > 0.0, t * ratio, 0.0)


def _debiased(s: Any, t: Any, *, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Return those of the first form at s - log(D) / 2; D is a constant."""
    log_d = debiasing_weights(s.astype(np.float64), t.astype(np.float64))
    value, slopes = _ratios(s - 0.5 * log_d[..., None, :], t, argnums=argnums)
    return value.astype(s.dtype), tuple(slope.astype(s.dtype) for slope in slopes)


def debiasing_weights(s: Any, t: Any) -> Any:
    """Return log D where D are the sums of the first form at s - log(D) / 2."""
    log_d = np.zeros((*s.shape[:-2], s.shape[-1]))
    for _ in range(200):
        _, log_odds = _probabilities(s - 0.5 * log_d[..., None, :])
        new = 0.5 * (log_d + _log1p_sums(log_odds, t)[1])
        # The step halves at least; so much again is left.
        done = (abs(new - log_d) <= 1e-15 * (1.0 + abs(new))).all()
        log_d = new
        if done:
            break
    return log_d


GROUPED = {
    form: RowLoss(f"grouped_{form}", _ARRAYS, 2, formulas.FORMULAS[form], kernel, core=2)
    for form, kernel in (
        ("ratios", _ratios),
        ("scores", _scores),
        ("centred", _centred),
        ("debiased", _debiased),
    )
}
