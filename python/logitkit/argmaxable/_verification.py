"""Checks the evidence in a report again, from the original weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._deployed import rounding_of
from ._error_free import UNIT
from ._features import Box
from ._margins import certified_margins
from ._proof import (
    NUMERICAL_TOLERANCE,
    SupportProof,
    holds_numerically,
    prove_unargmaxable,
    prove_unargmaxable_in_box,
    rounding_loss_in_box,
)
from ._rows import bias_as_float64, fingerprint, row_blocks, rows_as_float64
from ._verdict import Proof, Verdict

if TYPE_CHECKING:
    from ._report import ArgmaxableReport

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# Stated bounds may exceed those found here by this factor: other products round otherwise.
_AGREEMENT = 1.0 + 2.0**-20
_STRENGTH = {Proof.NONE: 0, Proof.NUMERICAL: 1, Proof.INTERVAL: 2, Proof.EXACT: 2}


def feature_vectors(
    report: ArgmaxableReport, positions: Index, weight: NDArray[Any] | None
) -> Array:
    """Return the witnesses at `positions` in `report.classes`, shape (q, d); nan for none."""
    x = np.full((positions.size, report.shape[1]), np.nan)
    scale = report.self_scale[positions]
    own = np.flatnonzero(scale > 0)
    if own.size and weight is not None:
        rows = rows_as_float64(weight, report.classes[positions[own]])
        # Of a damaged report these numbers may be anything; what is not finite proves nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            x[own] = scale[own, None] * (((rows - report.center) @ report.metric) @ report.metric.T)
    row = report.witness_row[positions]
    stored = np.flatnonzero(~(scale > 0) & (row >= 0))
    x[stored] = report.witnesses[row[stored]]
    return x


def inconsistency(report: ArgmaxableReport) -> str | None:
    """Return the first contradiction between the parts of a report, None if there is none."""
    n, d = report.shape
    m, q = report.classes.size, len(report.witnesses)
    dead = int(np.count_nonzero(report.verdicts == Verdict.UNARGMAXABLE))
    total = report.support.size
    r = report.metric.shape[1] if report.metric.ndim == 2 else 0
    shapes: dict[str, tuple[int, ...]] = {"classes": (m,), "witnesses": (q, d), "support": (total,)}
    shapes |= dict.fromkeys(("verdicts", "margins", "self_scale", "witness_row"), (m,))
    shapes |= {"center": (d,), "metric": (d, r), "support_offsets": (dead + 1,)}
    shapes |= {"coefficients": (total,)}
    per_dead = ("residual", "slack", "depth", "bias_depth", "below_rounding", "proof")
    shapes |= dict.fromkeys(per_dead, (dead,))
    for name, shape in shapes.items():
        if getattr(report, name).shape != shape:
            return f"{name} has shape {getattr(report, name).shape}, expected {shape}"
    offsets = report.support_offsets
    conditions = {
        "classes are not ascending indices of the layer": m == 0
        or bool((np.diff(report.classes, prepend=-1, append=n) > 0).all()),
        "verdicts holds an unknown value": bool(np.isin(report.verdicts, list(Verdict)).all()),
        "proof holds an unknown value": bool(np.isin(report.proof, list(Proof)).all()),
        "witness_row points outside witnesses": bool(
            ((report.witness_row >= -1) & (report.witness_row < q)).all()
        ),
        "support_offsets do not cut up support": bool(
            offsets[0] == 0 and offsets[-1] == total and (np.diff(offsets) >= 0).all()
        ),
        "support names a class outside the layer": bool(
            ((report.support >= 0) & (report.support < n)).all()
        ),
    }
    return next((text for text, holds in conditions.items() if not holds), None)


def faults(
    report: ArgmaxableReport,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    *,
    exact: bool = False,
) -> Iterator[str]:
    """
    Yield what is wrong with a report, one sentence each; nothing if all of it holds.

    Raises
    ------
    ValueError
        If the weights are not those that the report is about.
    """
    if fingerprint(weight, bias) != report.fingerprint:
        raise ValueError(
            "the weights or the bias are not those that the report is about: the SHA-256 of their "
            f"shape, dtype and bytes differs from {report.fingerprint}"
        )
    wrong = inconsistency(report)
    if wrong is not None:
        yield wrong
        return
    yield from _faults_of_witnesses(report, weight, bias)
    if report.features is None:
        yield from _faults_of_certificates(report, weight, bias, exact)
    else:
        yield from _faults_of_box_certificates(report, report.features, weight, bias, exact)


def _faults_of_witnesses(
    report: ArgmaxableReport, weight: NDArray[Any], bias: NDArray[Any] | None
) -> Iterator[str]:
    live = np.flatnonzero(report.verdicts == Verdict.ARGMAXABLE)
    d = report.shape[1]
    for block in row_blocks(live.size, d, limit=1 << 25):
        at = live[block]
        classes, stated = report.classes[at], report.margins[at]
        x = feature_vectors(report, at, weight)
        if report.features is not None:
            lo, hi = report.features.bounds(d)
            for i in classes[~((x >= lo) & (x <= hi)).all(axis=1)]:
                yield f"class {i}: the witness lies outside the box"
        found = certified_margins(weight, bias, classes, x, at_least=stated / _AGREEMENT)
        for i in classes[~(found > 0)]:
            yield f"class {i}: the witness is not proved to win"
        for i in classes[(found > 0) & ~((stated > 0) & (stated <= found * _AGREEMENT))]:
            yield f"class {i}: the margin of the witness is not the one stated"


def _rounding(report: ArgmaxableReport, weight: NDArray[Any]) -> tuple[float | None, float]:
    if report.deployed_dtype is None:
        return None, 0.0
    return rounding_of(report.deployed_dtype, weight)


def _groups(report: ArgmaxableReport) -> Iterator[tuple[Index, Index, Array]]:
    """Yield (positions among the dead, sorted support, coefficients) of each support."""
    groups: dict[bytes, list[int]] = {}
    offsets = report.support_offsets
    orders = []
    for k in range(offsets.size - 1):
        own = report.support[offsets[k] : offsets[k + 1]]
        orders.append(np.argsort(own, kind="stable"))
        groups.setdefault(own[orders[k]].tobytes(), []).append(k)
    for members in groups.values():
        first = members[0]
        support = report.support[offsets[first] : offsets[first + 1]][orders[first]]
        coefficients = np.stack(
            [report.coefficients[offsets[k] : offsets[k + 1]][orders[k]] for k in members]
        )
        yield np.array(members), support, coefficients


def _faults_of_certificates(
    report: ArgmaxableReport, weight: NDArray[Any], bias: NDArray[Any] | None, exact: bool
) -> Iterator[str]:
    unit, half_step = _rounding(report, weight)
    dead = report.unargmaxable
    for members, support, coefficients in _groups(report):
        found = prove_unargmaxable(
            weight,
            bias,
            dead[members],
            support,
            unit_roundoff=unit,
            half_step=half_step,
            exact=exact,
        )
        stated = _stated(report, members, coefficients)
        for k, text in _differences(stated, found, weight, bias, dead[members], support):
            yield f"class {dead[members[k]]}: {text}"
        # For all feature vectors, the bias may rise by the slack.
        high = report.bias_depth[members] > np.maximum(stated.slack, 0.0) * _AGREEMENT
        for i in dead[members[high | ~(report.bias_depth[members] >= 0)]]:
            yield f"class {i}: bias_depth is not the slack"


def _stated(report: ArgmaxableReport, members: Index, coefficients: Array) -> SupportProof:
    return SupportProof(
        coefficients,
        report.residual[members],
        report.slack[members],
        np.zeros(members.size),
        report.depth[members],
        report.below_rounding[members],
        report.proof[members],
    )


def _differences(
    stated: SupportProof,
    found: SupportProof,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    classes: Index,
    support: Index,
) -> Iterator[tuple[int, str]]:
    """Yield (position in the group, what does not hold) for one support."""
    vertices = rows_as_float64(weight, support)
    vertex_bias = bias_as_float64(None if bias is None else np.asarray(bias)[support], support.size)
    for k, i in enumerate(classes.tolist()):
        kind, proved = Proof(int(stated.proof[k])), Proof(int(found.proof[k]))
        own = stated.coefficients[k]
        difference = vertices - rows_as_float64(weight, np.array([i]))
        gap = vertex_bias - (0.0 if bias is None else float(bias[i]))
        slack = found.slack[k] + found.slack_width[k]
        if (
            proved == Proof.NONE
            and kind == Proof.NUMERICAL
            and holds_numerically(difference, gap, own)
        ):
            # Which coefficients least squares finds depends on the classes solved together.
            proved, slack = kind, own @ gap
        if proved == Proof.NONE or _STRENGTH[proved] < _STRENGTH[kind]:
            yield k, f"its support proves {proved.name}, the report states {kind.name}"
            continue
        if kind == Proof.NONE:
            yield k, "the report states no proof"
        # Two convex combinations within the numerical tolerance of the equations.
        residual = np.abs(own @ difference).max(initial=0.0)
        allowed = 16 * NUMERICAL_TOLERANCE * (np.abs(own) @ np.abs(difference)).max(initial=0.0)
        # ... or within the rounding of the rows themselves, which is more in a cluster.
        # The coefficients of an enclosure are those of the centre of its group: their errors
        # count by the largest row of the support.
        size = np.abs(vertices) if proved == Proof.NUMERICAL else np.abs(vertices).max(initial=0.0)
        allowed += 64 * UNIT * (np.abs(own) @ (size + np.zeros_like(vertices))).max(initial=0.0)
        if not ((own >= 0).all() and abs(own.sum() - 1.0) <= 16 * NUMERICAL_TOLERANCE):
            yield k, "the coefficients are not convex"
        elif not (residual <= allowed and residual <= stated.residual[k] + allowed):
            yield k, "the coefficients do not give the row of the class"
        elif (
            proved != Proof.NUMERICAL
            and not (
                np.abs(own - found.coefficients[k]) <= 2.0**-8 * found.coefficients[k] + 2.0**-60
            ).all()
        ):
            yield k, "the coefficients are not those of the support"
        loss = 16 * NUMERICAL_TOLERANCE * float(np.abs(own) @ np.abs(gap))
        if not stated.slack[k] <= slack + loss or (
            stated.slack[k] < (-loss if kind == Proof.NUMERICAL else 0.0)
        ):
            yield k, "the slack is not the one stated"
        if not 0 <= stated.depth[k] <= found.depth[k] * (1.0 + 2.0**-10):
            yield k, "the depth is less than stated"
        if found.below_rounding[k] and not stated.below_rounding[k]:
            yield k, "rounding may break the certificate, the report denies it"


def _faults_of_box_certificates(
    report: ArgmaxableReport,
    box: Box,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    exact: bool,
) -> Iterator[str]:
    lo, hi = box.bounds(report.shape[1])
    unit, half_step = _rounding(report, weight)
    dead = report.unargmaxable
    for members, support, coefficients in _groups(report):
        unbounded = prove_unargmaxable(
            weight,
            bias,
            dead[members],
            support,
            unit_roundoff=unit,
            half_step=half_step,
            exact=exact,
        )
        stated = _stated(report, members, coefficients)
        for k, member in enumerate(members.tolist()):
            i = int(dead[member])
            value, proof = prove_unargmaxable_in_box(
                weight, bias, lo, hi, i, support, coefficients[k]
            )
            everywhere = Proof(int(unbounded.proof[k]))
            if proof == Proof.NONE and everywhere == Proof.NONE:
                yield f"class {i}: its certificate proves nothing in the box"
                continue
            strength = max(_STRENGTH[proof], _STRENGTH[everywhere])
            if not 0 < _STRENGTH[Proof(int(stated.proof[k]))] <= strength:
                yield f"class {i}: the proof is not as strong as stated"
            slack = unbounded.slack[k] + unbounded.slack_width[k]
            rise = max(-value, slack if everywhere != Proof.NONE else 0.0, 0.0)
            if not 0 <= report.bias_depth[member] <= rise * _AGREEMENT:
                yield f"class {i}: bias_depth is not the one stated"
            if not 0 <= stated.depth[k] <= unbounded.depth[k] * (1.0 + 2.0**-10):
                yield f"class {i}: the depth is less than stated"
            if unit is not None and not stated.below_rounding[k]:
                loss = rounding_loss_in_box(
                    weight, bias, lo, hi, i, support, unit_roundoff=unit, half_step=half_step
                )
                safe = everywhere != Proof.NONE and not unbounded.below_rounding[k]
                if not (safe or -value >= loss):
                    yield f"class {i}: rounding may break the certificate, the report denies it"
