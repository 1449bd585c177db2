"""Who is still open, and what has been proved about the others.

Nothing that a solver claims is a verdict: a witness counts when `witness_margins`
certifies it on the original weights, a support when `prove_unargmaxable` proves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ._box_rays import BoxRays
from ._box_ties import best_average
from ._problem import FloatArray, IndexArray, Problem
from ._proof import (
    prove_unargmaxable,
    prove_unargmaxable_in_box,
    rounding_loss_in_box,
    witness_margins,
)
from ._verdict import Certificate, Proof


class Ledger:
    """Evidence by class, in terms of the original layer."""

    def __init__(
        self,
        problem: Problem,
        *,
        rounding: tuple[float, float] | None,
        on_settled: Callable[[int], None],
        box: BoxRays | None = None,
    ) -> None:
        self.problem = problem
        self.rounding = rounding
        self.on_settled = on_settled
        self.box = box
        self.open: set[int] = set()
        self.nominees: dict[int, FloatArray] = {}  # open classes with an uncertified witness
        self.witnesses: dict[int, FloatArray] = {}
        self.margins: dict[int, float] = {}
        self.certificates: dict[int, Certificate] = {}
        self.reasons: dict[int, str] = {}

    def settle(self, classes: Iterable[int]) -> None:
        """Close `classes`."""
        closed = self.open.intersection(classes)
        self.open -= closed
        self.on_settled(len(closed))

    def settled(self) -> IndexArray:
        """Return the classes with a witness or a certificate."""
        return np.array([*self.witnesses, *self.certificates], np.int64)

    def move_into(self, box: BoxRays) -> None:
        """Shorten the witnesses so that they lie in the box, and drop those that then lose."""
        if not self.witnesses:
            return
        classes = np.array(list(self.witnesses), np.int64)
        x = np.array(list(self.witnesses.values()))
        x *= box.shrunk(x)[:, None]
        margins = witness_margins(self.problem.weight, self.problem.bias, classes, x)
        kept = (margins > 0.0) & (box.clip(x) == x).all(axis=1)
        self.witnesses = {int(classes[q]): x[q] for q in np.flatnonzero(kept)}
        self.margins = {int(classes[q]): float(margins[q]) for q in np.flatnonzero(kept)}

    def update(self, other: Ledger) -> None:
        """Add what another search has found out."""
        self.witnesses.update(other.witnesses)
        self.margins.update(other.margins)
        self.certificates.update(other.certificates)
        self.reasons = other.reasons

    def nominate(self, i: int, x: FloatArray) -> bool:
        """Propose the feature vector `x` as a witness of class `i`."""
        if self.box is not None:
            x = self.box.clip(x)
        if not np.isfinite(x).all():
            return False
        self.nominees[i] = x
        return True

    def certify(self) -> list[int]:
        """Certify the nominees; return the open ones that fail."""
        if not self.nominees:
            return []
        classes = np.array(list(self.nominees))
        x = np.array(list(self.nominees.values()))
        self.nominees.clear()
        margins = witness_margins(self.problem.weight, self.problem.bias, classes, x)
        won = margins > 0.0
        for q in np.flatnonzero(won).tolist():
            self.witnesses[int(classes[q])] = x[q]
            self.margins[int(classes[q])] = float(margins[q])
        self.settle(classes[won].tolist())
        # A simplex may have covered a nominee in the meantime.
        return [i for i in classes[~won].tolist() if i in self.open]

    def prove(self, classes: IndexArray, support: IndexArray) -> None:
        """Record the `classes` that `support` proves unargmaxable."""
        unit_roundoff, half_step = self.rounding or (None, 0.0)
        proved = prove_unargmaxable(
            self.problem.weight,
            self.problem.bias,
            classes,
            support,
            unit_roundoff=unit_roundoff,
            half_step=half_step,
        )
        shown = np.flatnonzero(proved.proof)
        for g in shown.tolist():
            self.certificates[int(classes[g])] = Certificate(
                support=support,
                coefficients=proved.coefficients[g],
                residual=float(proved.residual[g]),
                slack=float(proved.slack[g]),
                depth=float(proved.depth[g]),
                bias_depth=float(proved.slack[g]),
                below_rounding=bool(proved.below_rounding[g]),
                proof=Proof(int(proved.proof[g])),
            )
        self.settle(classes[shown].tolist())

    def prove_in_box(self, i: int, support: IndexArray, weights: FloatArray) -> None:
        """Record class `i` if the weighted `support` proves it unargmaxable in the box."""
        assert self.box is not None
        problem = self.problem
        layer = (problem.weight, problem.bias, self.box.lo, self.box.hi, i, support)
        value, proof = prove_unargmaxable_in_box(*layer, weights)
        if proof == Proof.NONE:
            return
        below = False
        if self.rounding is not None:
            unit_roundoff, half_step = self.rounding
            loss = rounding_loss_in_box(*layer, unit_roundoff=unit_roundoff, half_step=half_step)
            below = not -value >= loss
        rows = problem.weight[support].astype(np.float64)
        bias = problem.biases()
        self.certificates[i] = Certificate(
            support=support,
            coefficients=weights,
            residual=float(np.abs(weights @ (rows - problem.weight[i].astype(np.float64))).max()),
            slack=float(weights @ (bias[support] - bias[i])),
            depth=0.0,
            bias_depth=max(-value, 0.0),
            below_rounding=below,
            proof=proof,
        )
        self.settle([i])

    def give_up(self, i: int, why: str) -> None:
        """Close class `i` as undecided, unless it ties in the box."""
        average = None if self.box is None else best_average(self.problem, self.box, i)
        if average is not None:
            self.prove_in_box(i, *average)
            if i in self.certificates:
                return
        self.reasons[i] = why
        self.settle([i])
