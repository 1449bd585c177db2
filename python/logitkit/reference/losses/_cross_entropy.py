"""Cross-entropy, of logits and of a linear layer, by its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._classes import logarithm_phi, of_classes


def _information(xp: Any, information: Any) -> Any:
    """-log(p)."""
    return logarithm_phi(xp, information)


cross_entropy = of_classes(_information)


def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    softcap: float | None = None,
    **common: Any,
) -> Any:
    """Cross-entropy of z = input @ linear_weight.T + bias, or of softcap * tanh(z / softcap)."""
    return cross_entropy(
        linear_logits(input, linear_weight, linear_bias, softcap), target, **common
    )


def linear_logits(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, softcap: float | None
) -> Any:
    """Return the logits of a linear layer, in float64."""
    z = np.asarray(input, np.float64) @ np.asarray(weight, np.float64).T
    if bias is not None:
        z = z + np.asarray(bias, np.float64)
    return z if softcap is None else softcap * np.tanh(z / softcap)
