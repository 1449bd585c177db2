r"""
Weights of exponential multistep methods, on any grid of l = log(alpha / sigma).

With the data predicted, the probability flow and its random relatives are, exactly,

    x_s = (sigma_s / sigma_t) e^{-eta h} x_t + alpha_s (1 + eta) int_t^s e^{(1+eta)(l - l_s)} x_0 dl
          + sigma_s sqrt(1 - e^{-2 eta h}) z,

and with the noise predicted, x_s = (alpha_s / alpha_t) x_t - sigma_s int_t^s e^{l_s - l} eps dl.
A method of order p puts the polynomial through p predictions in the place of the curve.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]  # shape (p,), or (n, p) with those of each sample

_NODES, _GAUSS = np.polynomial.legendre.leggauss(16)
_U, _MASS = 0.5 * (_NODES + 1.0), 0.5 * _GAUSS


def moments(growth: Any, count: int) -> Weights:
    """
    Return g int_0^1 e^{g (u - 1)} u^k du for k < count, along a new last axis.

    By quadrature where |g| is small, whose error is that of the rounding up to |g| = 8; else
    by the recursion of integration by parts, which loses no digits there.
    """
    g = np.asarray(growth, np.float64)[..., None]
    near = np.clip(g, -8.0, 8.0)
    integrand = np.exp(near * (_U - 1.0))[..., None] * _U[:, None] ** np.arange(count)
    by_quadrature = near * np.einsum("i,...ik->...k", _MASS, integrand)
    if np.all(np.abs(g) <= 8.0):
        return np.asarray(by_quadrature)
    far = [-np.expm1(-g[..., 0])]
    for order in range(1, count):
        far.append(1.0 - order / g[..., 0] * far[-1])
    return np.where(np.abs(g) > 8.0, np.stack(far, axis=-1), by_quadrature)


def polynomial_weights(nodes: list[Any], growth: Any) -> Weights:
    """
    Return the weights of the predictions at `nodes`, where the step goes from 0 to 1.

    Solve sum_j w_j u_j^k = moments_k. Nodes are floats, or arrays of one for each sample.
    """
    return solved(nodes, moments(growth, len(nodes)))


def solved(nodes: list[Any], right: Weights) -> Weights:
    """Return the w_j with sum_j w_j u_j^k = right_k."""
    if len(nodes) == 1:
        return right
    u = np.stack(np.broadcast_arrays(*nodes), axis=-1).astype(np.float64)
    powers = u[..., None, :] ** np.arange(len(nodes))[:, None]
    return np.asarray(np.linalg.solve(powers, right[..., None])[..., 0])


def midpoint_weights(node: Any, growth: Any) -> Weights:
    """
    Return the weights of two predictions in DPM-Solver++(2M) and UniPC: 1/2 for the slope.

    (1 - e^{-g}) (x_0 + (x_0' - x_0) / (2 u)), with the second prediction x_0' at u = `node`.
    """
    total = -np.expm1(-np.asarray(growth, np.float64))
    slope = total / (2.0 * np.asarray(node, np.float64))
    return np.stack([total - slope, slope], axis=-1)
