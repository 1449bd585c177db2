"""The Fenchel-Young loss of the largest of noisy scores, for noise of any law."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import distributions
from .._real_array import real_number
from ..distributions import Noise
from ..distributions._integrals import expected_max, probs
from ..distributions._noise import law_or_normal
from ._class_rows import check_classes, class_rows
from ._namespace import namespace_of
from ._reduction import Reduction
from ._row_loss import RowLoss
from ._terms import RowTerms, loss

_NAMED = (
    "Cauchy",
    "Exponential",
    "Gumbel",
    "Laplace",
    "Logistic",
    "Normal",
    "ReversedExponential",
    "StudentT",
    "Uniform",
)


def law_of(name: str) -> Noise:
    """Return the law that an operator of PyTorch, which takes no objects, knows by this name."""
    kind, _, df = name.partition(" ")
    made: Noise = getattr(distributions, kind)(*([float(df)] if df else []))
    return made


def is_named(noise: Noise) -> bool:
    """Return whether there is a name for `law_of`."""
    kind = type(noise).__name__
    return kind in _NAMED and isinstance(noise, getattr(distributions, kind))


def name_of(noise: Noise) -> str:
    """Return the name for `law_of`, or raise an error if there is none."""
    kind = type(noise).__name__
    if not is_named(noise):
        names = ", ".join(_NAMED)
        raise TypeError(f"expected noise of {names} for tensors, not {kind}: pass arrays")
    return f"{kind} {noise.df!r}" if isinstance(noise, distributions.StudentT) else kind


def _formula(xp: Any, x: Any, target: Any, *, noise: Any, scale: float) -> Any:
    if target.ndim < x.ndim:
        target = target[..., None] == xp.arange(x.shape[-1])
    possible = x > -np.inf
    inner = (target * xp.where(possible, x, xp.zeros_like(x))).sum(-1)
    if xp is np:
        from .. import reference

        return reference.noise_argmax_expected_max(x, noise, scale=scale) - inner
    from ..torch._noise_argmax import expected_max as of_tensors

    return of_tensors(x, noise, scale) - inner


def _kernel(
    x: Any, target: Any, *, argnums: tuple[int, ...], noise: Any, scale: float
) -> tuple[Any, tuple[Any, ...]]:
    """Return E max(x + scale * noise) - t x and slopes, p - t and -x, in ``float64``."""
    law = law_of(noise) if isinstance(noise, str) else noise
    dtype, n, shape = x.dtype, x.shape[-1], x.shape
    if target.ndim < x.ndim:
        check_classes(target, n)
        target = target[..., None] == np.arange(n)
    rows, t = x.reshape(-1, n).astype(np.float64, order="C"), target.reshape(-1, n)
    unknown = (np.isnan(rows) | (rows == np.inf)).any(-1) | (rows == -np.inf).all(-1)
    rows[unknown] = 0.0
    with np.errstate(invalid="ignore"):
        inner = np.where(t > 0.0, t * rows, 0.0).sum(-1)
    value = expected_max(rows, law, scale) - inner
    value[unknown] = np.nan
    slopes = {}
    if 0 in argnums:
        slopes[0] = probs(rows, law, scale) - t
        slopes[0][unknown] = np.nan
    if 1 in argnums:
        slopes[1] = -x.astype(np.float64)
    return (
        value.reshape(shape[:-1]).astype(dtype),
        tuple(slopes[i].reshape(shape).astype(dtype) for i in argnums),
    )


FENCHEL_YOUNG = RowLoss(
    "fenchel_young",
    ("logits", "target"),
    2,
    _formula,
    _kernel,
    (("noise", "str"), ("scale", "float")),
)


@loss
def fenchel_young(
    logits: Any,
    target: Any,
    *,
    noise: Noise | None = None,
    scale: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    ignore_index: int | None = -100,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> RowTerms:
    r"""
    Compare the score of the true class with the expected largest of noisy scores.

    .. math:: \operatorname{E} \max_i (s_i + \sigma \epsilon_i) - \sum_i t_i s_i

    What cross-entropy is for softmax, this is for the largest of scores with any noise: its
    gradient is ``p - t``, where `p` are the probabilities of `logitkit.distributions.ArgmaxNoise`.
    It is convex, and finite where the true class has the probability 0.

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n, ...)
        Scores `s` of `n` classes.
    target : array_like or Tensor, shape of `logits` without `axis`, or of `logits`
        The true class of each row, or probabilities `t` of the classes, which sum to 1.
    noise : logitkit.distributions.Noise, optional
        The law of the noise, of a finite mean. Tensors take those of that package. Default:
        normal.
    scale : float, default 1
        What the noise is multiplied by, above 0, in units of `logits`.
    <kept rows>
    <rows>

    <returns>

    See Also
    --------
    expected_accuracy : One less the probability of the true class, for normal noise.
    entmax_loss : The same for maps without noise.

    Notes
    -----
    The least value is the mean of the noise times its scale, where a class leads by much. With
    Gumbel noise it is cross-entropy plus Euler's constant. Rows with NaN or ``inf`` are NaN.
    The error is at most 1e-9 of the scale and the expected largest score together.

    References
    ----------
    .. [1] Q. Berthet et al., "Learning with differentiable perturbed optimizers",
       arXiv:2002.08676, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import distributions, losses
    >>> value = losses.fenchel_young([[0.0, 0.0]], [0], noise=distributions.Gumbel())
    >>> print(f"{value - np.euler_gamma - np.log(2.0):.6f}")
    0.000000
    """
    scale = real_number("scale", scale)
    if not 0.0 < scale < math.inf:
        raise ValueError(f"expected scale > 0 and finite, not {scale}")
    law = law_or_normal(noise)
    if not _has_mean(law):
        raise ValueError(f"expected noise of a finite mean, not {law!r}")
    rows = class_rows(
        logits,
        target,
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
    key = law if namespace_of(rows.logits) is np else name_of(law)
    arrays, numbers = (rows.logits, rows.target), {"noise": key, "scale": scale}
    return RowTerms(
        FENCHEL_YOUNG, arrays, rows.weighting, rows.dtype, rows.undo, numbers, classes=rows
    )


def _has_mean(noise: Noise) -> bool:
    """Return whether a law of this package has a mean; of others nothing is known."""
    if isinstance(noise, distributions.Cauchy):
        return False
    return not (isinstance(noise, distributions.StudentT) and noise.df <= 1.0)
