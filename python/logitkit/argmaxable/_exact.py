"""Convex combinations in rational arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = list[list[int]]

# Fraction-free elimination of larger systems takes more than about 0.1 s in Python.
LARGEST_PYTHON_SUPPORT = 32


@dataclass(frozen=True, eq=False)
class ExactCombination:
    """
    What exact arithmetic says about the classes that share a support.

    Attributes
    ----------
    proved : ndarray of bool, shape (g,)
        Whether the class is a convex combination of the support with slack >= 0.
    refuted : ndarray of bool, shape (g,)
        Whether the only coefficients that solve the equations show a negative one, or a
        negative slack.
    coefficients : ndarray of float64, shape (g, k)
        The exact coefficients, each rounded once (nan where there are none).
    slack : ndarray of float64, shape (g,)
        The exact slack, rounded once (nan where there are no coefficients).
    """

    proved: NDArray[np.bool_]
    refuted: NDArray[np.bool_]
    coefficients: Array
    slack: Array


def load_flint() -> ModuleType:
    """Import python-flint, or say how to get it."""
    try:
        import flint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "exact=True needs python-flint: pip install logitkit[exact]", name="flint"
        ) from error
    module: ModuleType = flint
    return module


def combine_exactly(
    vertices: Array,
    points: Array,
    vertex_bias: Array,
    point_bias: Array,
    *,
    flint: ModuleType | None = None,
) -> ExactCombination:
    """
    Solve ``sum_j lambda_j v_j = p`` and ``sum_j lambda_j = 1`` in rational numbers.

    Parameters
    ----------
    vertices : ndarray, shape (k, m)
        Rows of the support.
    points : ndarray, shape (g, m)
        Rows of the classes.
    vertex_bias, point_bias : ndarray, shape (k,) and (g,)
        Their biases.
    flint : module, optional
        python-flint. Without it Python integers do the work: for small supports only.

    Returns
    -------
    ExactCombination
        Nothing is proved where the support is affinely dependent: the coefficients are
        not unique then, and a smaller support exists.
    """
    k, g = len(vertices), len(points)
    result = ExactCombination(
        np.zeros(g, bool), np.zeros(g, bool), np.full((g, k), np.nan), np.full(g, np.nan)
    )
    equations = _independent_coordinates(vertices)
    if equations is None:
        return result
    whole = _integers(np.vstack([vertices, points]).T)
    # Subtract the first vertex: k - 1 unknowns, lambda_0 = 1 - (the others).
    matrix = [[row[j] - row[0] for j in range(1, k)] for row in whole]
    sides = [[value - row[0] for value in row[k:]] for row in whole]
    solve = _solve_python if flint is None else flint_solver(flint)
    solution: tuple[Integers, list[int]] | None = ([], [1] * g)  # of no equations
    if equations and g:
        solution = solve([matrix[r] for r in equations], [sides[r] for r in equations])
    if solution is None:
        return result
    numerators, denominators = solution
    biases = _integers(np.concatenate([vertex_bias, point_bias])[None])[0]
    others = sorted(set(range(len(whole))) - set(equations))
    scale = _scale(np.concatenate([vertex_bias, point_bias]))
    for i in range(g):
        # lambda = tops / bottom, with bottom > 0.
        bottom, tops = denominators[i], [row[i] for row in numerators]
        if bottom < 0:
            bottom, tops = -bottom, [-top for top in tops]
        if any(sum(map(int.__mul__, matrix[r], tops)) != bottom * sides[r][i] for r in others):
            continue  # another equation contradicts: not a combination at all
        tops = [bottom - sum(tops), *tops]
        slack = sum(map(int.__mul__, biases[:k], tops)) - bottom * biases[k + i]
        result.coefficients[i] = [top / bottom for top in tops]
        result.slack[i] = _ratio(slack, bottom, scale)
        result.proved[i] = min(tops) >= 0 and slack >= 0
        result.refuted[i] = not result.proved[i]
    return result


def _ratio(numerator: int, denominator: int, exponent: int) -> float:
    """Round ``numerator / denominator * 2**exponent`` to a float, inf where too large."""
    if exponent < 0:
        denominator <<= -exponent
    else:
        numerator <<= exponent
    try:
        return numerator / denominator
    except OverflowError:
        return math.copysign(math.inf, numerator)


def _scale(values: Array) -> int:
    """Return the largest exponent `e` such that all `values` are integers times ``2**e``."""
    mantissa, exponent = np.frexp(values[values != 0])
    whole = (mantissa * 2.0**53).astype(np.int64)
    trailing = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return int((exponent - 53 + trailing).min(initial=1 << 16)) if whole.size else 0


def _integers(rows: Array) -> Integers:
    """Scale each row by a power of two so that its binary fractions become integers."""
    result = []
    for row in rows:
        mantissa, exponent = np.frexp(row)
        whole = (mantissa * 2.0**53).astype(np.int64).tolist()
        shift = (exponent - 53 - _scale(row)).tolist()
        result.append([w << s if s >= 0 else w >> -s for w, s in zip(whole, shift, strict=True)])
    return result


def _independent_coordinates(vertices: Array) -> list[int] | None:
    """Choose k - 1 coordinates in which the vertices are affinely independent."""
    # Elimination with complete pivoting: which equations are chosen only matters for
    # whether the exact system is regular, so that rounding here can do no harm.
    difference = (vertices[1:] - vertices[0]).T
    rest = np.ldexp(difference, -np.frexp(np.abs(difference).max(axis=0, initial=0.0))[1])
    chosen: list[int] = []
    for _ in range(len(vertices) - 1):
        if not rest.size:
            return None
        r, j = np.unravel_index(int(np.abs(rest).argmax()), rest.shape)
        pivot = rest[r, j]
        if not abs(pivot) > 0:
            return None
        chosen.append(int(r))
        rest = rest - np.outer(rest[:, j] / pivot, rest[r])
        rest[r] = 0.0
        rest[:, j] = 0.0
    return chosen


def _solve_python(matrix: Integers, sides: Integers) -> tuple[Integers, list[int]] | None:
    """Solve by fraction-free elimination (E. H. Bareiss, Math. Comp. 22, 1968)."""
    m = len(matrix)
    rows = [[*a, *b] for a, b in zip(matrix, sides, strict=True)]
    g = len(sides[0])
    previous = 1
    # Gauss-Jordan variant: it leaves det * I, so that the sides become det * solution.
    for p in range(m):
        pivot_row = next((r for r in range(p, m) if rows[r][p]), None)
        if pivot_row is None:
            return None
        rows[p], rows[pivot_row] = rows[pivot_row], rows[p]
        top, pivot = rows[p], rows[p][p]
        for r in range(m):
            if r != p:
                row, factor = rows[r], rows[r][p]
                rows[r] = [
                    (pivot * x - factor * y) // previous for x, y in zip(row, top, strict=True)
                ]
        previous = pivot
    return [row[m:] for row in rows], [previous] * g


def flint_solver(flint: ModuleType) -> Any:
    """Return a solver with the signature of `_solve_python` that uses python-flint."""

    def solve(matrix: Integers, sides: Integers) -> tuple[Integers, list[int]] | None:
        try:
            solution = flint.fmpz_mat(matrix).solve(flint.fmpz_mat(sides))
        except ZeroDivisionError:
            return None
        m, g = len(sides), len(sides[0])
        numerators = [[0] * g for _ in range(m)]
        denominators = []
        for i in range(g):
            column = [solution[r, i] for r in range(m)]
            bottom = math.lcm(*(int(value.q) for value in column))
            denominators.append(bottom)
            for r, value in enumerate(column):
                numerators[r][i] = int(value.p) * (bottom // int(value.q))
        return numerators, denominators

    return solve
