"""Ties in a box: classes whose best margin there is 0, which no enclosure can show."""

from __future__ import annotations

import numpy as np

from ._box_rays import BoxRays
from ._problem import FloatArray, IndexArray, Problem

LARGEST = 1 << 17  # weights of a layer that is looked at for ties
MOST_FEATURES = 32


def best_average(problem: Problem, box: BoxRays, i: int) -> tuple[IndexArray, FloatArray] | None:
    """
    Return the support and the weights of the average that class `i` is furthest behind.

    They are the dual solution, at a vertex, of the linear program

        maximise m  subject to  (w_i - w_j) x + b_i - b_j >= m,  lo <= x <= hi.

    Layers of small integers have vertices of small fractions, which `_box_proof` finds again.
    None is returned where the layer is large, or the program fails.
    """
    n, d = problem.n, problem.d
    if n * d > LARGEST or d > MOST_FEATURES or n == 1:
        return None
    from scipy.optimize import linprog

    others = np.delete(np.arange(n), i)
    difference = problem.rows(np.array([i])) - problem.rows(others)
    bias = problem.biases() * problem.scale
    solved = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack([-difference, np.ones(n - 1)]),
        b_ub=bias[i] - bias[others],
        bounds=[*zip(box.lo, box.hi, strict=True), (None, None)],
        method="highs-ds",
    )
    if solved.status != 0:
        return None
    weights: FloatArray = np.maximum(-solved.ineqlin.marginals, 0.0)
    named = weights > 2.0**-40
    return (others[named], weights[named]) if named.any() else None
