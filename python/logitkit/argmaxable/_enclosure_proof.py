"""Proofs that enclose the coefficients of a certificate in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._certificates import Group, SupportProof, set_coefficients
from ._error_free import OUTWARD, TINY, gamma, power_of_two_above, two_difference
from ._simplex import Enclosure, Simplex, factorise
from ._verdict import Proof

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# Centres that are tried for the classes of one support before it counts as hopeless.
CENTRES = 8


@dataclass(frozen=True)
class Rounding:
    """
    What a deployed dtype does: weights move by at most ``unit * abs(w) + half_step``.

    Biases move by at most ``unit * largest_bias``.
    """

    unit: float
    half_step: float
    largest_bias: float


def prove_by_enclosure(
    group: Group, members: Index, result: SupportProof, rounding: Rounding | None
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
    for attempt in range(CENTRES):
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
            result.slack_width[members[open_[proved]]] = OUTWARD * (2 * error)[proved]
            if inside.any():
                chosen = Enclosure(enclosed.value[inside], enclosed.radius[inside])
                done = members[open_[inside]]
                set_coefficients(part.part(inside), done, result, chosen.value)
                if k == d + 1:  # a smaller one is flat: any step out of its plane breaks it
                    _set_depth(part.part(inside), done, result, simplex, chosen, rounding)
            open_ = open_[~(proved | refuted)]
        if open_.size:
            unresolved.append(int(open_[0]))
            open_ = open_[1:]
    return np.concatenate([np.array(unresolved, np.int64), open_])


def _distinct_equations(group: Group) -> Index:
    """Leave out coordinates that are constant, or a power of two times another one."""
    rows = np.vstack([group.vertices, group.points])
    varying = np.flatnonzero((rows != rows[0]).any(axis=0))
    columns, low = two_difference(rows[:, varying], rows[0, varying])
    if low.any():
        columns = rows[:, varying]  # rounded differences may agree where rows do not
    first = columns[(columns != 0).argmax(axis=0), np.arange(varying.size)]
    columns = columns * np.sign(first)
    exponent = power_of_two_above(first)
    scaled = np.ldexp(columns, -exponent)
    if not np.array_equal(np.ldexp(scaled, exponent), columns):
        return varying  # scaling underflows: leave it
    _, where = np.unique(scaled, axis=1, return_index=True)
    return varying[np.sort(where)]


def _slack(group: Group, enclosed: Enclosure) -> tuple[Array, Array]:
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
    group: Group,
    members: Index,
    result: SupportProof,
    simplex: Simplex,
    enclosed: Enclosure,
    rounding: Rounding | None,
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
    longest = np.linalg.norm(group.vertices, axis=1).max()
    delta = rounding.unit * (np.linalg.norm(group.points, axis=1) + longest)
    delta = (delta + 2 * rounding.half_step * np.sqrt(d)) * OUTWARD
    gap = np.abs(group.vertex_bias - group.point_bias[:, None])
    lost = (delta * (gap @ norms) + 2 * rounding.unit * rounding.largest_bias) * OUTWARD
    all_equal = (gap == 0).all(axis=1)
    safe = (delta < depth) & (all_equal | (result.slack[members] - lost >= 0))
    result.below_rounding[members] = ~safe
