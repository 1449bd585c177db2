"""What proves a verdict. It uses NumPy only and shares nothing with the solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._error_free import OUTWARD, TINY, gamma
from ._exact import LARGEST_PYTHON_SUPPORT, combine_exactly, load_flint
from ._margins import exact_margin, witness_margins
from ._rows import bias_as_float64, row_blocks, rows_as_float64
from ._simplex import Enclosure, Simplex, factorise
from ._verdict import Proof

__all__ = [
    "SupportProof",
    "exact_margin",
    "prove_unargmaxable",
    "prove_unargmaxable_in_box",
    "witness_margins",
]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# A residual or slack that is this small against the terms that cancel in it counts as
# numerically zero: 2^9 units in the last place.
NUMERICAL_TOLERANCE = 2.0**-44
# Centres that are tried for the classes of one support before it counts as hopeless.
_CENTRES = 8


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
    below_rounding : ndarray of bool, shape (g,)
        As in `Certificate`; False where no rounding was given.
    proof : ndarray of int8, shape (g,)
        `Proof` values; NONE where nothing is proved.
    """

    coefficients: Array
    residual: Array
    slack: Array
    depth: Array
    below_rounding: NDArray[np.bool_]
    proof: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class _Group:
    """The float64 rows and biases of a support (k, d) and of its classes (g, d)."""

    vertices: Array
    points: Array
    vertex_bias: Array
    point_bias: Array

    def part(self, keep: Any) -> _Group:
        return _Group(self.vertices, self.points[keep], self.vertex_bias, self.point_bias[keep])


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
    ModuleNotFoundError
        If `exact` is asked for without python-flint.

    Examples
    --------
    >>> w = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> proved = prove_unargmaxable(w, None, np.array([4]), np.array([0, 2]))
    >>> proved.coefficients.tolist(), Proof(proved.proof[0]).name
    ([[0.5, 0.5]], 'EXACT')
    """
    flint = load_flint() if exact else None
    classes, support = np.asarray(classes, np.int64), np.asarray(support, np.int64)
    g, k, d = classes.size, support.size, weight.shape[1]
    result = SupportProof(
        np.full((g, k), np.nan),
        np.full(g, np.nan),
        np.full(g, np.nan),
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
        group = _Group(vertices, points, b, point_bias)
        if k == 1:
            _prove_duplicates(group, members, result)
            continue
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            rounding = None if unit_roundoff is None else (unit_roundoff, half_step, largest_bias)
            left = _prove_by_intervals(group, members, result, rounding)
        if flint is not None:
            result.proof[members] = Proof.NONE  # rational proofs only
            _prove_exactly(group, members, result, flint)
            continue
        if k <= LARGEST_PYTHON_SUPPORT and left.size:
            _prove_exactly(group.part(left), members[left], result, None)
            left = left[result.proof[members[left]] == Proof.NONE]
        _prove_numerically(group.part(left), members[left], result)
    return result


def _prove_duplicates(group: _Group, members: Index, result: SupportProof) -> None:
    same = (group.points == group.vertices[0]).all(axis=1)
    proved = same & (group.vertex_bias[0] >= group.point_bias)
    # Rounding is monotone: equal rows stay equal, and the order of the biases stays.
    result.coefficients[members[same]] = 1.0
    result.residual[members[same]] = 0.0
    result.slack[members[same]] = (group.vertex_bias[0] - group.point_bias)[same]
    result.below_rounding[members[proved]] = False
    result.proof[members[proved]] = Proof.EXACT


def _prove_by_intervals(
    group: _Group, members: Index, result: SupportProof, rounding: tuple[float, float, float] | None
) -> Index:
    """
    Enclose the coefficients of a simplex that as many equations determine.

    Returns the positions in `members` of the classes that stay open: neither proved nor
    refuted by a coefficient or a slack that is certainly negative.
    """
    k, d = group.vertices.shape
    keep = _distinct_equations(group) if k < d + 1 else np.arange(d)
    open_ = np.arange(members.size)
    if keep.size != k - 1:
        return open_
    vertices, points = group.vertices[:, keep], group.points[:, keep]
    unresolved: list[int] = []
    for attempt in range(_CENTRES):
        if not open_.size:
            break
        # Small coordinates are accurate where the centre is close: it is the first open
        # class, whose own coordinates are hence as accurate as they can be.
        simplex = factorise(vertices, points[open_[0]])
        if simplex is None and attempt:
            break
        for careful in (False, True):
            if simplex is None or not open_.size:
                break
            part = group.part(open_)
            enclosed = simplex.coordinates(points[open_], careful=careful)
            slack, error = _slack(part, enclosed)
            refuted = (enclosed.value + enclosed.radius < 0).any(axis=1) | (slack + error < 0)
            # The rough enclosure only counts if it leaves the coefficients accurate.
            least = enclosed.value - enclosed.radius * (1.0 if careful else 1024.0)
            inside = (least > 0).all(axis=1)
            proved = inside & (slack - error >= 0)
            result.proof[members[open_[proved]]] = Proof.INTERVAL
            result.slack[members[open_[proved]]] = (slack - error)[proved]
            if inside.any():
                chosen = Enclosure(enclosed.value[inside], enclosed.radius[inside])
                done = members[open_[inside]]
                _set_coefficients(part.part(inside), done, result, chosen.value)
                if k == d + 1:  # a smaller one is flat: any step out of its plane breaks it
                    _set_depth(part.part(inside), done, result, simplex, chosen, rounding)
            open_ = open_[~(proved | refuted)]
        if open_.size:
            unresolved.append(int(open_[0]))
            open_ = open_[1:]
    return np.concatenate([np.array(unresolved, np.int64), open_])


def _distinct_equations(group: _Group) -> Index:
    """Leave out coordinates that are constant, or a power of two times another one."""
    columns = np.vstack([group.vertices, group.points])
    columns, low = columns - columns[0], columns
    exact = np.array_equal(columns + low[0], low)  # differences that rounded: keep all
    varying = np.flatnonzero((low != low[0]).any(axis=0))
    if not exact:
        return varying
    columns = columns[:, varying]
    first = columns[(columns != 0).argmax(axis=0), np.arange(varying.size)]
    columns = np.ldexp(columns * np.sign(first), -np.frexp(first)[1])
    _, where = np.unique(columns, axis=1, return_index=True)
    return varying[np.sort(where)]


def _slack(group: _Group, enclosed: Enclosure) -> tuple[Array, Array]:
    """Return the slack of each class and a bound of its error."""
    k = group.vertex_bias.size
    gap = group.vertex_bias - group.point_bias[:, None]
    slack = np.einsum("ij,ij->i", enclosed.value, gap)
    error = np.einsum("ij,ij->i", enclosed.radius, np.abs(gap))
    error += gamma(k + 2) * np.einsum("ij,ij->i", np.abs(enclosed.value), np.abs(gap))
    # The coefficients sum to one: with equal gaps nothing is left to chance.
    same = (group.vertex_bias == group.vertex_bias[0]).all()
    if same:
        return gap[:, 0], np.zeros_like(error)
    return slack, np.where(gap.any(axis=1), error * OUTWARD + TINY, 0.0)


def _set_depth(
    group: _Group,
    members: Index,
    result: SupportProof,
    simplex: Simplex,
    enclosed: Enclosure,
    rounding: tuple[float, float, float] | None,
) -> None:
    """Store how far each class is inside the simplex, and whether rounding is further."""
    d = group.vertices.shape[1]
    norms = simplex.gradient_norms()
    depth = ((enclosed.value - enclosed.radius) / norms).min(axis=1) / OUTWARD
    result.depth[members] = depth
    if rounding is None:
        return
    # Rows that move by at most delta together keep coordinate k within delta times its
    # gradient while delta < depth.
    unit, half_step, largest_bias = rounding
    longest = np.linalg.norm(group.vertices, axis=1).max()
    delta = unit * (np.linalg.norm(group.points, axis=1) + longest)
    delta = (delta + 2 * half_step * np.sqrt(d)) * OUTWARD
    gap = np.abs(group.vertex_bias - group.point_bias[:, None])
    lost = (delta * (gap @ norms) + 2 * unit * largest_bias) * OUTWARD
    all_equal = (gap == 0).all(axis=1)
    safe = (delta < depth) & (all_equal | (result.slack[members] - lost >= 0))
    result.below_rounding[members] = ~safe


def _set_coefficients(
    group: _Group, members: Index, result: SupportProof, coefficients: Array
) -> None:
    """Store coefficients scaled to sum one, and what they leave of the equations."""
    coefficients = coefficients / coefficients.sum(axis=1, keepdims=True)
    result.coefficients[members] = coefficients
    if members.size:
        centre = group.points[0]
        left = coefficients @ (group.vertices - centre) - (group.points - centre)
        result.residual[members] = np.abs(left).max(axis=1, initial=0.0)


def _prove_exactly(group: _Group, members: Index, result: SupportProof, flint: Any) -> None:
    if not members.size:
        return
    exact = combine_exactly(
        group.vertices, group.points, group.vertex_bias, group.point_bias, flint=flint
    )
    proved = np.flatnonzero(exact.proved)
    done = members[proved]
    result.proof[done] = Proof.EXACT
    result.slack[done] = exact.slack[proved]
    _set_coefficients(group.part(proved), done, result, exact.coefficients[proved])


def _prove_numerically(group: _Group, members: Index, result: SupportProof) -> None:
    """Accept what holds to within `NUMERICAL_TOLERANCE`, under its own name."""
    for i, member in enumerate(members):
        # Scaled to unit length, so that vertices of a cluster count as much as far ones.
        difference = group.vertices - group.points[i]
        length = np.abs(difference).max(axis=1)
        length[length == 0] = 1.0
        total = length.min()
        system = np.hstack([difference, np.full((length.size, 1), total)]) / length[:, None]
        side = np.append(np.zeros(difference.shape[1]), total)
        try:
            scaled = np.linalg.lstsq(system.T, side, rcond=None)[0]
        except np.linalg.LinAlgError:
            continue  # no singular values, no coefficients: the class stays unproved
        coefficients = np.maximum(scaled / length, 0.0)
        if not coefficients.sum() > 0:
            continue
        coefficients /= coefficients.sum()
        gap = group.vertex_bias - group.point_bias[i]
        residual = np.abs(coefficients @ difference).max(initial=0.0)
        slack = float(coefficients @ gap)
        terms = (coefficients @ np.abs(difference)).max(initial=0.0)
        if residual <= NUMERICAL_TOLERANCE * terms and slack >= -NUMERICAL_TOLERANCE * float(
            coefficients @ np.abs(gap)
        ):
            result.proof[member] = Proof.NUMERICAL
            result.slack[member] = slack
            _set_coefficients(group.part([i]), members[i : i + 1], result, coefficients[None])


def prove_unargmaxable_in_box(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    lo: Array,
    hi: Array,
    cls: int,
    support: Index,
    coefficients: Array,
) -> tuple[float, Proof]:
    r"""
    Bound the best margin of a class in a box of features by a convex combination.

    No `x` in the box lets the margins over the support average to more than

    .. math:: \max_{lo \le x \le hi} \sum_j \lambda_j \bigl((w_i - w_j) x + b_i - b_j\bigr)

    Parameters
    ----------
    weight, bias
        As in `prove_unargmaxable`.
    lo, hi : ndarray of float64, shape (d,)
        Finite bounds.
    cls : int
        The class `i`.
    support : ndarray of int64, shape (k,)
        Classes `j`, all other than `i`.
    coefficients : ndarray of float64, shape (k,)
        Weights of the average: not negative, not all zero. Any such numbers will do.

    Returns
    -------
    value : float
        Upper bound of that maximum, in logits, rounding included (``inf`` if the
        arguments do not qualify).
    proof : Proof
        INTERVAL if the value is not positive: the class is unargmaxable in the box.

    Examples
    --------
    >>> w = np.array([[1.0], [0.0]])
    >>> b = np.array([0.0, 2.0])
    >>> one = np.ones(1)
    >>> value, proof = prove_unargmaxable_in_box(w, b, -one, one, 0, np.array([1]), one)
    >>> round(value, 9), proof.name
    (-1.0, 'INTERVAL')
    """
    support = np.asarray(support, np.int64)
    coefficients = np.asarray(coefficients, np.float64)
    valid = np.isfinite(coefficients).all() and (coefficients >= 0).all() and coefficients.any()
    if not valid or (support == cls).any() or support.size != coefficients.size:
        return np.inf, Proof.NONE
    d = weight.shape[1]
    index = np.append(support, cls)
    w = rows_as_float64(weight, index)
    b = bias_as_float64(None if bias is None else np.asarray(bias)[index], index.size)
    difference, gap = w[-1] - w[:-1], b[-1] - b[:-1]
    with np.errstate(over="ignore", invalid="ignore"):
        slope, height = coefficients @ difference, float(coefficients @ gap)
        # Each difference is rounded once, each sum of k products k times.
        bound = OUTWARD * gamma(support.size + 2)
        slope_error = bound * (coefficients @ np.abs(difference)) + TINY
        height_error = bound * float(coefficients @ np.abs(gap)) + TINY
        largest = np.maximum(np.abs(lo), np.abs(hi))
        top = np.maximum(slope * lo, slope * hi)
        value = float(top.sum()) + height
        error = float(slope_error @ largest) + height_error
        error += gamma(d + 4) * (float(np.abs(slope) @ largest) + abs(height))
        value = float(np.nextafter(value + error * OUTWARD, np.inf))
    return value, Proof.INTERVAL if value <= 0 else Proof.NONE


def rounding_loss_in_box(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    lo: Array,
    hi: Array,
    cls: int,
    support: Index,
    *,
    unit_roundoff: float,
    half_step: float = 0.0,
) -> float:
    """
    Bound how far rounding of a layer raises the value of `prove_unargmaxable_in_box`.

    A certificate with a value of at most minus this bound survives the rounding. The
    arguments are those of `prove_unargmaxable_in_box` and `prove_unargmaxable`.
    """
    rows = rows_as_float64(weight, np.append(np.asarray(support, np.int64), cls))
    lengths = np.linalg.norm(rows, axis=1)
    delta = unit_roundoff * (lengths[-1] + lengths[:-1].max(initial=0.0))
    delta += 2 * half_step * np.sqrt(weight.shape[1])
    reach = float(np.linalg.norm(np.maximum(np.abs(lo), np.abs(hi))))
    largest_bias = 0.0 if bias is None else float(np.abs(bias_as_float64(bias, 0)).max())
    return float(delta * reach + 2 * unit_roundoff * largest_bias) * OUTWARD
