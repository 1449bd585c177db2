"""The Fenchel-Young loss of the largest of noisy scores, by its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._noise_argmax import noise_argmax_expected_max
from ._classes import loss_of_classes


def fenchel_young(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    noise: Any = None,
    scale: float = 1.0,
    axis: int = -1,
    mask: ArrayLike | None = None,
    ignore_index: int | None = -100,
    sample_weight: ArrayLike | None = None,
    reduction: Any = "mean",
    denominator: float | None = None,
) -> Any:
    """E max(s + scale * noise) - t s."""
    if noise is None:
        from ...distributions import Normal

        noise = Normal()

    def value(x: Any, t: Any, *_: Any) -> Any:
        inner = x[t] if np.ndim(t) == 0 else (t * x).sum()
        return noise_argmax_expected_max(x[None], noise, scale=scale)[0] - inner

    return loss_of_classes(
        value,
        logits,
        target,
        axis=axis,
        mask=mask,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
    )
