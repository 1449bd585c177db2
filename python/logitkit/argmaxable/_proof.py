"""What proves a verdict. It uses NumPy only and shares nothing with the solver."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._box_proof import prove_unargmaxable_in_box, rounding_loss_in_box
from ._certificates import Group, SupportProof, set_coefficients
from ._enclosure_proof import CENTRES, Rounding, prove_by_enclosure
from ._exact import LARGEST_PYTHON_SUPPORT, combine_exactly, load_flint
from ._margins import exact_margin, witness_margins
from ._rows import bias_as_float64, row_blocks, rows_as_float64
from ._verdict import Proof

__all__ = [
    "SupportProof",
    "exact_margin",
    "holds_numerically",
    "prove_unargmaxable",
    "prove_unargmaxable_in_box",
    "rounding_loss_in_box",
    "witness_margins",
]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# A residual or slack that is this small against the terms that cancel in it counts as
# numerically zero: 2^9 units in the last place.
NUMERICAL_TOLERANCE = 2.0**-44


def prove_unargmaxable(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    classes: Index,
    support: Index,
    *,
    unit_roundoff: float | None = None,
    half_step: float = 0.0,
    exact: bool = False,
) -> SupportProof:
    """
    Prove that classes are convex combinations of a support.

    Only the support is taken from the caller; the coefficients are solved for here.

    Parameters
    ----------
    weight : ndarray, shape (n, d)
        Output layer: finite, of any float dtype.
    bias : ndarray, shape (n,), or None
        Its bias.
    classes : ndarray of int64, shape (g,)
        Classes that share the support. A class that belongs to it is not proved.
    support : ndarray of int64, shape (k,)
        Distinct classes, at most ``d + 1``.
    unit_roundoff, half_step : float
        Rounding of the deployed dtype: it moves a weight by at most
        ``unit_roundoff * abs(w) + half_step``, and a bias by ``unit_roundoff * abs(b)``.
        None asks for no `below_rounding`.
    exact : bool
        Accept rational proofs only, with python-flint for supports of any size.

    Returns
    -------
    SupportProof
        INTERVAL where the errors of a float64 solution are enclosed. EXACT by comparison
        for a single duplicate, and by rational arithmetic for supports of up to 32
        classes that enclosures cannot decide. NUMERICAL where the equations only hold to
        2^-44 of the terms that cancel in them.

    Raises
    ------
    IndexError
        If the layer has no such class.
    ModuleNotFoundError
        If `exact` is asked for without python-flint.

    Examples
    --------
    >>> w = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> proved = prove_unargmaxable(w, None, np.array([4]), np.array([0, 2]))
    >>> proved.coefficients.tolist(), Proof(proved.proof[0]).name
    ([[0.5, 0.5]], 'INTERVAL')
    """
    flint = load_flint() if exact else None
    classes, support = np.asarray(classes, np.int64), np.asarray(support, np.int64)
    g, k, (n, d) = classes.size, support.size, weight.shape
    for name, index in (("class", classes), ("support", support)):
        wrong = index[(index < 0) | (index >= n)]
        if wrong.size:
            raise IndexError(f"{name} {wrong[0]}: the layer has classes 0 to {n - 1}")
    result = SupportProof(
        np.full((g, k), np.nan),
        np.full(g, np.nan),
        np.full(g, np.nan),
        np.zeros(g),
        np.zeros(g),
        np.full(g, unit_roundoff is not None),
        np.zeros(g, np.int8),
    )
    if not 1 <= k <= d + 1 or np.unique(support).size != k:
        return result
    vertices = rows_as_float64(weight, support)
    b = bias_as_float64(None if bias is None else np.asarray(bias)[support], k)
    allowed = np.flatnonzero(~np.isin(classes, support))
    largest_bias = 0.0 if bias is None else float(np.abs(bias_as_float64(bias, 0)).max())
    for block in row_blocks(allowed.size, max(k, d)):
        members = allowed[block]
        points = rows_as_float64(weight, classes[members])
        point_bias = bias_as_float64(
            None if bias is None else np.asarray(bias)[classes[members]], members.size
        )
        group = Group(vertices, points, b, point_bias)
        if k == 1:
            _prove_duplicates(group, members, result)
            continue
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            rounding = (
                None if unit_roundoff is None else Rounding(unit_roundoff, half_step, largest_bias)
            )
            left = prove_by_enclosure(group, members, result, rounding)
        if flint is not None:
            result.proof[members] = Proof.NONE  # rational proofs only
            _prove_exactly(group, members, result, flint)
            continue
        if k <= LARGEST_PYTHON_SUPPORT and left.size:
            refuted = _prove_exactly(group.part(left), members[left], result, None)
            left = left[(result.proof[members[left]] == Proof.NONE) & ~refuted]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            _prove_numerically(group.part(left), members[left], result)
    return result


def _prove_duplicates(group: Group, members: Index, result: SupportProof) -> None:
    same = (group.points == group.vertices[0]).all(axis=1)
    proved = same & (group.vertex_bias[0] >= group.point_bias)
    # Rounding is monotone: equal rows stay equal, and the order of the biases stays.
    result.coefficients[members[same]] = 1.0
    result.residual[members[same]] = 0.0
    result.slack[members[same]] = (group.vertex_bias[0] - group.point_bias)[same]
    result.below_rounding[members[proved]] = False
    result.proof[members[proved]] = Proof.EXACT


def _prove_exactly(
    group: Group, members: Index, result: SupportProof, flint: ModuleType | None
) -> NDArray[np.bool_]:
    """Store rational proofs; return which classes rational arithmetic refutes."""
    exact = combine_exactly(
        group.vertices, group.points, group.vertex_bias, group.point_bias, flint=flint
    )
    proved = np.flatnonzero(exact.proved)
    done = members[proved]
    result.proof[done] = Proof.EXACT
    result.slack[done] = exact.slack[proved]
    result.slack_width[done] = 0.0
    set_coefficients(group.part(proved), done, result, exact.coefficients[proved])
    return exact.refuted


def _prove_numerically(group: Group, members: Index, result: SupportProof) -> None:
    """Accept what holds to within `NUMERICAL_TOLERANCE`, under its own name."""
    open_ = np.arange(members.size)
    for _ in range(CENTRES):
        if not open_.size:
            return
        part = group.part(open_)
        coefficients = _least_squares(part)
        solved = np.array(
            [
                holds_numerically(part.vertices - point, part.vertex_bias - bias, c)
                for point, bias, c in zip(part.points, part.point_bias, coefficients, strict=True)
            ]
        )
        done = members[open_[solved]]
        result.proof[done] = Proof.NUMERICAL
        gap = group.vertex_bias - part.point_bias[solved, None]
        result.slack[done] = (coefficients[solved] * gap).sum(axis=1)
        set_coefficients(part.part(solved), done, result, coefficients[solved])
        solved[0] = True  # it was its own centre: nothing more can be done for it
        open_ = open_[~solved]


def _least_squares(group: Group) -> Array:
    """Convex coefficients that solve the equations best, around the first class."""
    centre = group.points[0]
    difference = group.vertices - centre
    # Scaled to unit length, so that vertices of a cluster count as much as far ones.
    length = np.abs(difference).max(axis=1)
    length[length == 0] = 1.0
    total = length.min()
    system = np.hstack([difference, np.full((length.size, 1), total)]).T / length
    sides = np.hstack([group.points - centre, np.full((len(group.points), 1), total)]).T
    try:
        q, r = np.linalg.qr(system)
        scaled = np.linalg.solve(r, q.T @ sides)
        scaled += np.linalg.solve(r, q.T @ (sides - system @ scaled))
    except np.linalg.LinAlgError:
        scaled = np.linalg.lstsq(system, sides, rcond=None)[0]
    coefficients = np.maximum(scaled.T / length, 0.0)
    coefficients /= np.maximum(coefficients.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.where(np.isfinite(coefficients), coefficients, 0.0)


def holds_numerically(difference: Array, gap: Array, coefficients: Array) -> bool:
    """
    Tell whether the equations of one class hold, and its slack is not negative, so far.

    Parameters
    ----------
    difference : ndarray, shape (k, d)
        Rows of the support, less that of the class.
    gap : ndarray, shape (k,)
        Their biases, less that of the class.
    coefficients : ndarray, shape (k,)
        Convex coefficients.

    Returns
    -------
    bool
        Whether they do, to within `NUMERICAL_TOLERANCE` of the terms that cancel.
    """
    if not coefficients.any():
        return False
    residual = np.abs(coefficients @ difference).max(initial=0.0)
    terms = (coefficients @ np.abs(difference)).max(initial=0.0)
    lost = NUMERICAL_TOLERANCE * float(coefficients @ np.abs(gap))
    return bool(residual <= NUMERICAL_TOLERANCE * terms) and float(coefficients @ gap) >= -lost
