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

from ._elementary import exp, expm1

Weights = list[Any]  # p floats, or arrays with those of each sample

_NODES, _GAUSS = np.polynomial.legendre.leggauss(16)
_U, _MASS = (0.5 * (_NODES + 1.0)).tolist(), (0.5 * _GAUSS).tolist()


def moments(growth: Any, count: int) -> Weights:
    """
    Return g int_0^1 e^{g (u - 1)} u^k du for k < count.

    By quadrature where |g| is small, whose error is that of the rounding up to |g| = 8; else
    by the recursion of integration by parts, which loses no digits there.
    """
    if isinstance(growth, float):
        return _by_parts(growth, count) if abs(growth) > 8.0 else _by_quadrature(growth, count)
    near = _by_quadrature(np.clip(growth, -8.0, 8.0), count)
    large = np.abs(growth) > 8.0
    far = _by_parts(np.where(large, growth, 9.0), count)
    return [np.where(large, *pair) for pair in zip(far, near, strict=True)]


def _by_quadrature(g: Any, count: int) -> Weights:
    terms = [mass * exp(g * (u - 1.0)) for u, mass in zip(_U, _MASS, strict=True)]
    result = []
    for _ in range(count):
        result.append(g * sum(terms))
        terms = [term * u for term, u in zip(terms, _U, strict=True)]
    return result


def _by_parts(g: Any, count: int) -> Weights:
    result = [-expm1(-g)]
    for order in range(1, count):
        result.append(1.0 - order / g * result[-1])
    return result


def polynomial_weights(nodes: list[Any], growth: Any) -> Weights:
    """
    Return the weights of the predictions at `nodes`, where the step goes from 0 to 1.

    Solve sum_j w_j u_j^k = moments_k. Nodes are floats, or arrays of one for each sample.
    """
    return solved(nodes, moments(growth, len(nodes)))


def solved(nodes: list[Any], right: Weights) -> Weights:
    """Return the w_j with sum_j w_j u_j^k = right_k: by the polynomials of Lagrange."""
    weights = []
    for j, here in enumerate(nodes):
        product, scale = [1.0], 1.0  # of u - u_i, the lowest power first; and of u_j - u_i
        for other in nodes[:j] + nodes[j + 1 :]:
            product = [
                below - other * same
                for below, same in zip([0.0, *product], [*product, 0.0], strict=True)
            ]
            scale = scale * (here - other)
        weights.append(sum(c * m for c, m in zip(product, right, strict=True)) / scale)
    return weights


def midpoint_weights(node: Any, growth: Any) -> Weights:
    """
    Return the weights of two predictions in DPM-Solver++(2M) and UniPC: 1/2 for the slope.

    (1 - e^{-g}) (x_0 + (x_0' - x_0) / (2 u)), with the second prediction x_0' at u = `node`.
    """
    total = -expm1(-growth)
    slope = total / (2.0 * node)
    return [total - slope, slope]


def halved_weights(nodes: list[Any], growth: Any) -> Weights:
    """
    Return the weights of three predictions in DPM-Solver++(3M) as its authors' code has them.

    The polynomial is x_0 + D_1 u + D_2 u^2, and the weight of D_2 is half of its integral.
    """
    total, first, second = moments(growth, 3)
    return solved(nodes, [total, first, 0.5 * second])
