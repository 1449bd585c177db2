"""Certificates of the classes that share a support, while they are being proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SupportProof:
    """
    Certificates of `g` classes that share a support of `k` classes.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (g, k)
        Convex coefficients (nan where there are none).
    residual, slack, depth : ndarray of float64, shape (g,)
        As in `Certificate`.
    slack_width : ndarray of float64, shape (g,)
        How much more than `slack`, a lower bound, the slack of an enclosure may be; else 0.
    below_rounding : ndarray of bool, shape (g,)
        As in `Certificate`; False where no rounding was given.
    proof : ndarray of int8, shape (g,)
        `Proof` values; NONE where nothing is proved.
    """

    coefficients: Array
    residual: Array
    slack: Array
    slack_width: Array
    depth: Array
    below_rounding: NDArray[np.bool_]
    proof: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Group:
    """The float64 rows and biases of a support (k, d) and of its classes (g, d)."""

    vertices: Array
    points: Array
    vertex_bias: Array
    point_bias: Array

    def part(self, keep: Any) -> Group:
        return Group(self.vertices, self.points[keep], self.vertex_bias, self.point_bias[keep])


def set_coefficients(
    group: Group, members: Index, result: SupportProof, coefficients: Array
) -> None:
    """Store coefficients scaled to sum one, and what they leave of the equations."""
    coefficients = coefficients / coefficients.sum(axis=1, keepdims=True)
    result.coefficients[members] = coefficients
    if members.size:
        centre = group.points[0]
        left = coefficients @ (group.vertices - centre) - (group.points - centre)
        result.residual[members] = np.abs(left).max(axis=1, initial=0.0)
