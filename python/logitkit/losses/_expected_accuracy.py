"""Expected accuracy under normal noise on the logits, as a loss: EXACT without sampling."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .._real_array import real_number, whole_number
from ..distributions._normal_argmax import equal_noise_log_probability, genz, log_probability
from ..reference.losses._expected_accuracy import log_accuracy_formula
from ._class_rows import check_classes, class_rows
from ._namespace import broadcast, cast, first_index, is_host_known, like, moveaxis
from ._reduction import Reduction, Weighting
from ._row_loss import RowLoss
from ._terms import RowTerms, loss


def _formula(
    xp: Any, x: Any, scale: Any, target: Any, *, margin: float, samples: int, seed: int
) -> Any:
    return -xp.expm1(log_accuracy_formula(xp, x, scale, target, margin=margin))


def _log_formula(
    xp: Any, x: Any, scale: Any, target: Any, *, margin: float, samples: int, seed: int
) -> Any:
    return -log_accuracy_formula(xp, x, scale, target, margin=margin)


def _kernel(
    x: Any,
    scale: Any,
    target: Any,
    *,
    argnums: tuple[int, ...],
    margin: float,
    samples: int,
    seed: int,
) -> tuple[Any, tuple[Any, ...]]:
    log_p, slopes = _log_accuracy(x, scale, target, argnums, margin, samples, seed)
    p = np.exp(log_p)
    slopes = tuple((-p[..., None] * s).astype(x.dtype) for s in slopes)
    return -np.expm1(log_p).astype(x.dtype), slopes


def _log_kernel(
    x: Any,
    scale: Any,
    target: Any,
    *,
    argnums: tuple[int, ...],
    margin: float,
    samples: int,
    seed: int,
) -> tuple[Any, tuple[Any, ...]]:
    log_p, slopes = _log_accuracy(x, scale, target, argnums, margin, samples, seed)
    return -log_p.astype(x.dtype), tuple((-s).astype(x.dtype) for s in slopes)


def _log_accuracy(
    x: Any,
    scale: Any,
    target: Any,
    argnums: tuple[int, ...],
    margin: float,
    samples: int,
    seed: int,
) -> tuple[Any, tuple[Any, ...]]:
    """
    Return log P and its slopes, P = E_z prod_{j != y} Phi((m_j + scale_y z) / scale_j).

    Computed in ``float64``. Classes at -inf are no rivals; a true one there has P = 0 and no
    slope. Rows with NaN or +inf are NaN.
    """
    n, shape = x.shape[-1], x.shape
    check_classes(target, n)
    rows, y = x.reshape(-1, n).astype(np.float64), target.reshape(-1, 1).astype(np.intp)
    spread = np.ones_like(rows) if scale is None else scale.reshape(-1, n).astype(np.float64)
    unknown, lost = _set_aside(rows, y)
    m = np.take_along_axis(rows, y, -1) - rows
    free = m < margin  # elsewhere the lead is a constant
    other = (np.arange(n) != y) & (rows > -np.inf)
    m = np.where(other, np.minimum(m, margin), 0.0)
    own = np.take_along_axis(spread, y, -1)
    if samples:
        log_p, of_m = _by_genz(m / spread, other, samples, seed, bool(argnums))
        of_steep = np.zeros_like(m)
    elif 1 in argnums or (spread != own).any():
        log_p, of_m, of_steep = log_probability(m / spread, own / spread, other, bool(argnums))
    else:
        log_p, of_m = equal_noise_log_probability(m / spread, y, other, bool(argnums))
        of_steep = of_m
    log_p[lost], log_p[unknown] = -np.inf, np.nan
    if not argnums:
        return log_p.reshape(shape[:-1]), ()
    of_m, of_steep = (np.where(lost[:, None], 0.0, slope) / spread for slope in (of_m, of_steep))
    of_scale = -(of_m * m + of_steep * own) / spread
    np.put_along_axis(of_scale, y, of_steep.sum(-1, keepdims=True), -1)
    of_x = np.where(free, -of_m, 0.0)
    np.put_along_axis(of_x, y, -of_x.sum(-1, keepdims=True), -1)
    of_x[unknown], of_scale[unknown] = np.nan, np.nan
    both = of_x.reshape(shape), of_scale.reshape(shape)
    return log_p.reshape(shape[:-1]), tuple(both[i] for i in argnums)


def _set_aside(rows: Any, y: Any) -> tuple[Any, Any]:
    """Return which rows are not numbers and which are lost; both are set to zero."""
    unknown = (np.isnan(rows) | (rows == np.inf)).any(-1)
    lost = np.take_along_axis(rows, y, -1)[:, 0] == -np.inf
    rivals = (rows > -np.inf).sum(-1)
    lost &= rivals > 0
    rows[unknown | lost | (rivals == 0)] = 0.0
    return unknown, lost


def _by_genz(m: Any, other: Any, samples: int, seed: int, slopes: bool) -> tuple[Any, Any]:
    """Return log P and derivatives, one row after the other: they need samples x n**2."""
    log_p, gradient = np.empty(len(m)), np.zeros(m.shape)
    for i, use in enumerate(other):
        p, of_m = genz(m[i][use][None], samples=samples, seed=seed, slopes=slopes)
        with np.errstate(divide="ignore"):
            log_p[i] = np.log(p[0])
        if slopes and p[0] > 0.0:
            gradient[i, use] = of_m[0] / p[0]
    return log_p, gradient


_NUMBERS = (("margin", "float"), ("samples", "int"), ("seed", "int"))
_ARRAYS = ("logits", "scale?", "target")
LOG_EXPECTED_ACCURACY = RowLoss(
    "log_expected_accuracy", _ARRAYS, 2, _log_formula, _log_kernel, _NUMBERS
)
EXPECTED_ACCURACY = RowLoss(
    "expected_accuracy",
    _ARRAYS,
    2,
    _formula,
    _kernel,
    _NUMBERS,
    error=True,
    stretched=LOG_EXPECTED_ACCURACY,
)


@loss
def expected_accuracy(
    logits: Any,
    target: Any,
    *,
    scale: Any = 1.0,
    margin: float | None = None,
    method: Literal["quadrature", "genz"] = "quadrature",
    samples: int = 16,
    seed: int = 0,
    axis: int = -1,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Average the error rate of the largest logit under normal noise: the EXACT loss.

    .. math::
        1 - P_y, \qquad P_y = \Pr\Bigl(s_y + \sigma_y \epsilon_y
            > \max_{j \ne y} (s_j + \sigma_j \epsilon_j)\Bigr)
            = \mathbb E_z \prod_{j \ne y} \Phi\Bigl(\frac{m_j + \sigma_y z}{\sigma_j}\Bigr)

    with :math:`m_j = \min(s_y - s_j, \text{margin})` and z normal.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor of integers, shape of `logits` without `axis`
        The true class of each row.
    scale : array_like or Tensor, default 1
        Standard deviation of the noise, above 0, in units of `logits`: a number, one for each
        class, or of the shape of `logits`. A tensor of it has a gradient.
    margin : float, optional
        The lead over a class beyond which nothing is gained, in units of `logits`.
    method : {"quadrature", "genz"}, default "quadrature"
        "genz" draws samples as the published implementation does, for comparison. It needs the
        same noise for all classes, and memory of the order of ``samples * n**2``.
    samples : int, default 16
        How many samples "genz" draws.
    seed : int, default 0
        What they are made of.
    axis : int, default -1
        The axis of the classes.
    weight : array_like or Tensor, shape (n,), optional
        Weights of the classes. A mean divides by those of the classes in `target`.
    mask : array_like or Tensor of bool, optional
        Which rows count, broadcast against the values. Others may hold anything, even NaN.
    ignore_index : int or None, default -100
        A class in `target` for rows that do not count.
    <rows>

    <returns>

    See Also
    --------
    smooth_accuracy : The same for softmax.
    stretched : Makes ``-log P`` of it, which has a slope where `P` is 0, too.
    GeometricSchedule : Scales that shrink in the course of training.

    Notes
    -----
    In ``float64`` the error of log P is at most ``1e-12 * max(1, abs(log P))`` where all noise
    has one scale, for any number of classes. Then a kernel does the work, but for the gradient
    of a scale. Noise of several scales is integrated in NumPy, with about 100 normal integrals for
    each class, and as many for the gradient; scales that differ by more than a factor of 40 lose
    digits. The spread of "genz" with 16 samples is 4 % of `P` for 3 equal classes, 19 % for 10
    and 81 % for 100.

    Of the published variants, minus the mean of log P is `stretched` of this loss, and minus the
    log of the mean of P is ``-log1p(-loss)`` of its mean.

    The scale decides, not the loss: with the logits of a linear model on three points, the loss
    separates them only below a scale of 0.22, as cross-entropy does only for logits that may
    grow. The article that discusses this loss [2]_ found no gain from it on its own tasks, where
    it did not reach cross-entropy, and none is claimed here.

    References
    ----------
    .. [1] I. Karpukhin et al., "EXACT: How to train your accuracy", arXiv:2205.09615, 2022.
    .. [2] J. Su, "Can training accuracy be a training objective?" (in Chinese),
       https://kexue.fm/archives/9098, 2022.

    Examples
    --------
    >>> from logitkit import losses
    >>> print(f"{losses.expected_accuracy([[0.0, 0.0, 0.0]], [1]):.12f}")
    0.666666666667
    """
    if method not in ("quadrature", "genz"):
        raise ValueError(f'expected method "quadrature" or "genz", not {method!r}')
    limit = math.inf if margin is None else real_number("margin", margin)
    if not limit >= 0.0:
        raise ValueError(f"expected margin >= 0, not {margin}")
    if (samples := whole_number("samples", samples)) < 1:
        raise ValueError(f"expected samples >= 1, not {samples}")
    rows = class_rows(
        logits,
        target,
        axis=axis,
        weight=weight,
        sample_weight=sample_weight,
        mask=mask,
        ignore_index=ignore_index,
        reduction=reduction,
        denominator=denominator,
    )
    x, y = rows.logits, rows.target
    if y.ndim == x.ndim:
        raise ValueError("expected a class for each row in target, not probabilities")
    scale = _scale(scale, x, axis, method)
    numbers = {
        "margin": limit,
        "samples": samples if method == "genz" else 0,
        "seed": whole_number("seed", seed),
    }
    return RowTerms(
        EXPECTED_ACCURACY,
        (x, scale, y),
        _with_class_weight(rows.weighting),
        rows.dtype,
        rows.undo[:1],
        numbers,
        classes=rows,
    )


def _with_class_weight(weighting: Weighting) -> Weighting:
    """Return the weighting with that of the class of each row as one of the row."""
    if weighting.norm is None:
        return weighting
    given = 1.0 if weighting.sample_weight is None else weighting.sample_weight
    return Weighting(
        weighting.reduction,
        given * weighting.norm,
        weighting.kept,
        None,
        weighting.denominator,
    )


def _scale(scale: Any, x: Any, axis: int, method: str) -> Any:
    """Return the scale of each logit, or None for 1."""
    if isinstance(scale, (int, float)) and scale == 1.0:
        return None
    scale = cast(like("scale", scale, x), x.dtype)
    scale = scale if scale.ndim <= 1 else moveaxis(scale, axis, -1)
    if is_host_known(scale):
        wrong = np.asarray(~((scale > 0.0) & (scale < math.inf)))
        if wrong.any():
            place = first_index(wrong)
            at = f" at {list(place)}" if place else ""
            raise ValueError(f"expected scale > 0 and finite, not {scale[place]}{at}")
        if method == "genz" and scale.ndim and (scale != scale.reshape(-1)[0]).any():
            raise ValueError('method="genz" needs the same scale for all classes and rows')
    return broadcast("scale", scale, tuple(x.shape))
