"""The distribution of argmax(logits + factor @ z + scale * noise), by its integral over z."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._noise_argmax import noise_argmax_probs

if TYPE_CHECKING:
    from ..distributions import Noise


def correlated_argmax_probs(
    logits: Any, factor: Any, noise: Noise, *, scale: Any = 1.0, nodes: int = 32
) -> Any:
    """P(argmax = i) = E_z p_i(logits + factor z), z normal, by a product of Gauss-Hermite rules."""
    mu, b = np.asarray(logits, np.float64), np.asarray(factor, np.float64)
    z, weights = _product_rule(b.shape[-1], nodes)
    x = mu[..., None, :] + np.einsum("kr,...ir->...ki", z, b)
    p = noise_argmax_probs(x, noise, scale=scale) if np.ndim(scale) == 0 else _normal(x, scale)
    return np.einsum("k,...ki->...i", weights, p)


def _product_rule(rank: int, nodes: int) -> tuple[Any, Any]:
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    z = np.stack(np.meshgrid(*[x] * rank, indexing="ij"), axis=-1).reshape(-1, rank)
    weights = np.prod(np.meshgrid(*[w / w.sum()] * rank, indexing="ij"), axis=0)
    return z, weights.ravel()


def _normal(x: Any, scale: Any) -> Any:
    """p_i = E_e prod_{j != i} Phi((x_i + scale_i e - x_j) / scale_j), e normal."""
    from scipy.special import ndtr

    sigma, n = np.asarray(scale, np.float64), x.shape[-1]
    e, weights = np.polynomial.hermite_e.hermegauss(96)
    largest = (x + sigma * e.reshape(-1, *[1] * x.ndim))[..., None]
    factors = ndtr((largest - x[..., None, :]) / sigma)
    of_others = np.prod(np.where(np.eye(n, dtype=bool), 1.0, factors), axis=-1)
    return np.tensordot(weights / weights.sum(), of_others, 1)
