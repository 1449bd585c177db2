r"""
The quadrature of the article that this distribution is from, with nodes at quantiles of the noise.

    p_i = 1/K sum_k prod_{j != i} F(mu_i - mu_j + e_k),    e_k = F^{-1}(k / (K + 1))

Its error is about 0.4 / K and its probabilities do not sum to one; it is here for comparison.
J. Su, "Constructing discrete probability distributions from reparameterization" (in Chinese),
https://kexue.fm/archives/9085, 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._noise import Noise


def _terms(mu: Any, noise: Noise, nodes: int) -> tuple[Any, Any]:
    """Return mu_i - mu_j + e_k, (k, i, j), and log prod_{j != i} F of it, (k, i)."""
    e = np.asarray(noise.ppf(np.arange(1.0, nodes + 1.0) / (nodes + 1.0)))
    x = mu[:, None] - mu + e[:, None, None]
    own = np.eye(len(mu), dtype=bool)
    with np.errstate(divide="ignore"):
        return x, np.sum(np.where(own, 0.0, noise.log_cdf(x)), axis=-1)


def probs(x: Any, noise: Noise, scale: float, nodes: int) -> Any:
    """Return what the rule makes of each row."""
    rows = (x.astype(np.float64) / scale)[:, None]
    return np.array([np.exp(_terms(mu, noise, nodes)[1]).mean(0) for (mu,) in rows])


def vjp(x: Any, cotangent: Any, noise: Noise, scale: float, nodes: int) -> Any:
    """Return the derivative of what the rule makes of each row."""
    results = []
    for mu, g in zip(x.astype(np.float64) / scale, cotangent, strict=True):
        differences, logs = _terms(mu, noise, nodes)
        log_ratio = noise.log_pdf(differences) - noise.log_cdf(differences)
        # dp_i/dmu_j = -A_ij for j != i, and rows sum to zero.
        a = np.exp(logs[..., None] + log_ratio).mean(0)
        np.fill_diagonal(a, 0.0)
        results.append(g * a.sum(-1) - g @ a)
    return np.array(results) / scale
