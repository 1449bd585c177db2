"""Decides the classes that no simple witness settles.

For a class i this looks for a direction y with y.(g_i - g_j) > 0 for every j. A
working set of competitors grows lazily: least distance programming
(csrc/least_distance) gives either the best direction against the working set,
and one product with all classes finds who still beats i there, or weights that
show i inside the hull of the working set. Nothing here is a verdict: a witness
counts when `_proof.witness_margins` certifies it on the original weights, a
support when `_proof.prove_unargmaxable` proves it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from .. import _cpu
from ._box_rays import BoxRays
from ._duplicates import find_duplicates
from ._lifted import LiftedClasses
from ._problem import FloatArray, IndexArray
from ._proof import (
    prove_unargmaxable,
    prove_unargmaxable_in_box,
    rounding_loss_in_box,
    witness_margins,
)
from ._verdict import Certificate, Proof

FIRST_COMPETITORS = 48  # of each first direction
MORE_COMPETITORS = 32  # a round
CERTIFIED_TOGETHER = 256  # witnesses: each product reads all weights
FLIGHT_BYTES = 128 << 20  # of solver state for the classes in work at a time
STEP_MULTIPLY_ADDS = 1e9  # of the solver between two looks at the keyboard
FIRST_FLIGHT = 16
NEIGHBOURS = 2
BIAS_RAY = -1  # label of the constraint t >= 0

Status = _cpu.LeastDistance.Status


@dataclass
class Outcome:
    """What was shown, in terms of the original layer, and what was not."""

    witnesses: dict[int, FloatArray] = field(default_factory=dict)
    margins: dict[int, float] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def settled(self) -> IndexArray:
        """Return the classes with a witness or a certificate."""
        return np.array([*self.witnesses, *self.certificates], np.int64)

    def update(self, other: Outcome) -> None:
        """Add what another search has found out."""
        self.witnesses.update(other.witnesses)
        self.margins.update(other.margins)
        self.certificates.update(other.certificates)
        self.reasons = other.reasons


class HardClasses:
    """The search, one class of which may settle many others."""

    def __init__(
        self,
        lifted: LiftedClasses,
        *,
        rounding: tuple[float, float] | None,
        threads: int,
        on_settled: Callable[[int], None],
        box: BoxRays | None = None,
    ) -> None:
        self.lifted = lifted
        self.box = box
        self.rounding = rounding
        self.threads = threads
        self.on_settled = on_settled
        self.outcome = Outcome()
        self.competitors: dict[int, IndexArray] = {}  # a first working set
        self.open: set[int] = set()
        self.nominees: dict[int, FloatArray] = {}  # open classes with an uncertified witness
        self.solved: list[int] = []  # classes with an optimal working set ...
        self.active: list[IndexArray] = []  # ... and who was active in it

    def decide(self, classes: IndexArray) -> Outcome:
        """Settle `classes`, each as far as float64 allows."""
        self.open = set(classes.tolist())
        if self.box is None:
            self._settle_trivial_classes()
        classes = np.array(sorted(self.open), np.int64)
        for begin in range(0, len(classes), 1024):
            self._try_first_directions(classes[begin : begin + 1024])
        left = np.array(sorted(self.open), np.int64)
        if len(left):
            self._search(left)
        return self.outcome

    def _settle_trivial_classes(self) -> None:
        problem = self.lifted.problem
        for killer, killed in find_duplicates(problem).items():
            twins = killed[np.isin(killed, np.fromiter(self.open, np.int64, len(self.open)))]
            if len(twins):
                self._record_proofs(twins, np.array([killer]))
        if problem.n == 1 and self.open:
            self.nominees = {0: np.zeros(problem.d)}
            self._certify()

    # Witnesses.

    def _try_first_directions(self, classes: IndexArray) -> None:
        """Try C^-1 (w_i - center) and w_i - center, and keep who beats them."""
        lifted = self.lifted
        g = lifted.points(classes)
        rank = lifted.whitening.rank
        variance = lifted.whitening.variance
        k = min(FIRST_COMPETITORS + 1, lifted.problem.n)
        found = []
        for weight in (np.ones(rank), variance / variance.max(initial=1e-300)):
            y = np.zeros_like(g)
            y[:, :rank] = g[:, :rank] * weight
            values, index = lifted.best_scores(y, k, self.threads)
            values[index == classes[:, None]] = -np.inf
            slack = np.einsum("ij,ij->i", y, g) - values.max(axis=1, initial=-np.inf)
            self._nominate(classes, y, slack, lifted.score_error(y))
            self._certify()
            found.append(index)
        for i, index in zip(classes.tolist(), np.hstack(found), strict=True):
            if i in self.open:
                self.competitors[i] = np.setdiff1d(index, [i])

    def _nominate(
        self, classes: IndexArray, y: FloatArray, slack: FloatArray, error: FloatArray
    ) -> set[int]:
        """Make witnesses, yet to be certified, of the directions that seem to win."""
        likely = np.flatnonzero(slack > -error)
        likely = likely[[int(i) in self.open for i in classes[likely]]]
        if len(likely) == 0:
            return set()
        lifted = self.lifted
        y, slack = y[likely].copy(), np.maximum(slack[likely], 0.5 * error[likely])
        if lifted.with_bias:
            # With t = 0 the bias does not count; a t that costs half of the slack is safe.
            length = np.linalg.norm(y, axis=1)
            length[length == 0.0] = 1.0
            cost = 2.0 * (lifted.beta.max() - lifted.beta[classes[likely]])
            smallest = np.divide(slack, cost, out=length.copy(), where=cost * length > slack)
            y[:, -1] = np.where(y[:, -1] > 0.0, y[:, -1], smallest)
        x = lifted.feature_vectors(y)
        if self.box is not None:
            x = self.box.clip(x)
        nominated = set()
        for i, vector in zip(classes[likely].tolist(), x, strict=True):
            if np.isfinite(vector).all():
                self.nominees[i] = vector
                nominated.add(i)
        if len(self.nominees) >= CERTIFIED_TOGETHER:
            self._certify()
        return nominated

    def _certify(self) -> None:
        """Certify the nominees on the original weights; those that fail stay open."""
        if not self.nominees:
            return
        classes = np.array(list(self.nominees))
        x = np.array(list(self.nominees.values()))
        problem = self.lifted.problem
        margins = witness_margins(problem.weight, problem.bias, classes, x)
        for i, vector, margin in zip(classes.tolist(), x, margins.tolist(), strict=True):
            if margin > 0.0 and i in self.open:
                self.outcome.witnesses[i] = vector
                self.outcome.margins[i] = margin
                self._settle([i])
        self.nominees.clear()

    # Certificates.

    def _prove(self, i: int, support: IndexArray) -> bool:
        """Prove class `i` dead by `support`, and whomever else it covers."""
        covered = set(self._covered(support).tolist()) & self.open
        self._record_proofs(np.array([i, *sorted(covered - {i})], np.int64), support)
        return i not in self.open

    def _record_proofs(self, classes: IndexArray, support: IndexArray) -> None:
        problem = self.lifted.problem
        unit_roundoff, half_step = self.rounding or (None, 0.0)
        proved = prove_unargmaxable(
            problem.weight,
            problem.bias,
            classes,
            support,
            unit_roundoff=unit_roundoff,
            half_step=half_step,
        )
        shown = np.flatnonzero(proved.proof)
        for g in shown.tolist():
            self.outcome.certificates[int(classes[g])] = Certificate(
                support=support,
                coefficients=proved.coefficients[g],
                residual=float(proved.residual[g]),
                slack=float(proved.slack[g]),
                depth=float(proved.depth[g]),
                bias_depth=float(proved.slack[g]),
                below_rounding=bool(proved.below_rounding[g]),
                proof=Proof(int(proved.proof[g])),
            )
        self._settle(classes[shown].tolist())

    def _prove_in_box(self, i: int, support: IndexArray, weights: FloatArray) -> bool:
        assert self.box is not None
        problem = self.lifted.problem
        layer = (problem.weight, problem.bias, self.box.lo, self.box.hi, i, support)
        value, proof = prove_unargmaxable_in_box(*layer, weights)
        if proof == Proof.NONE:
            return False
        below = False
        if self.rounding is not None:
            unit_roundoff, half_step = self.rounding
            loss = rounding_loss_in_box(*layer, unit_roundoff=unit_roundoff, half_step=half_step)
            below = not -value >= loss
        rows = problem.weight[support].astype(np.float64)
        bias = problem.biases()
        self.outcome.certificates[i] = Certificate(
            support=support,
            coefficients=weights,
            residual=float(np.abs(weights @ (rows - problem.weight[i].astype(np.float64))).max()),
            slack=float(weights @ (bias[support] - bias[i])),
            depth=0.0,
            bias_depth=max(-value, 0.0),
            below_rounding=below,
            proof=proof,
        )
        self._settle([i])
        return True

    def _covered(self, support: IndexArray) -> IndexArray:
        """Return open classes that seem to lie in the simplex `support`, below its bias."""
        lifted = self.lifted
        rank = lifted.whitening.rank
        candidates = np.fromiter(self.open, np.int64, len(self.open))
        if len(support) != rank + 1:
            return candidates[:0]
        vertices, points = lifted.points(support), lifted.points(candidates)
        matrix = np.vstack([vertices[:, :rank].T, np.ones(rank + 1)])
        try:
            coordinates = np.linalg.solve(
                matrix, np.vstack([points[:, :rank].T, np.ones(len(candidates))])
            )
        except np.linalg.LinAlgError:  # flat to working precision: it covers nothing safely
            return candidates[:0]
        inside = coordinates.min(axis=0) > 0.0
        if lifted.with_bias:
            inside &= vertices[:, -1] @ coordinates >= points[:, -1]
        return np.compress(inside, candidates)

    def _below_facet(self, support: IndexArray, i: int) -> IndexArray:
        """Drop one of rank + 2 classes so that class `i` stays inside, and below.

        The lifted point lies in the simplex of rank + 2 points; the ray towards a
        larger bias leaves that simplex through a facet of rank + 1 points, which
        lies above it.
        """
        lifted = self.lifted
        rank = lifted.whitening.rank
        if len(support) != rank + 2:
            return support
        g = lifted.points(support)
        matrix = np.vstack([g.T, np.ones(rank + 2)])
        # Barycentric coordinates, and how they change along the ray.
        right = np.zeros((rank + 2, 2))
        right[: rank + 1, 0] = lifted.points(np.array([i]))[0]
        right[rank + 1, 0] = 1.0
        right[rank, 1] = 1.0
        try:
            coordinates, change = np.linalg.solve(matrix, right).T
        except np.linalg.LinAlgError:
            return support
        falling = change < 0.0
        if not falling.any():
            return support
        steps = np.full(rank + 2, np.inf)
        steps[falling] = np.maximum(coordinates[falling], 0.0) / -change[falling]
        return np.delete(support, int(np.argmin(steps)))

    # The search.

    def _settle(self, classes: Iterable[int]) -> None:
        for i in classes:
            if i in self.open:
                self.open.remove(i)
                self.competitors.pop(i, None)
                self.on_settled(1)

    def _start(self, i: int) -> _cpu.LeastDistance:
        lifted = self.lifted
        problem = _cpu.LeastDistance(lifted.dim)
        if lifted.with_bias:
            ray = np.zeros((1, lifted.dim))
            ray[0, -1] = 1.0
            problem.add_rays(ray, np.array([BIAS_RAY]))
        first = np.unique(np.concatenate([self.competitors[i], *self._neighbours(i)]))
        self._add(problem, i, first[first != i])
        return problem

    def _neighbours(self, i: int) -> list[IndexArray]:
        """Return the active competitors of the nearest classes that are solved."""
        if not self.solved:
            return []
        lifted = self.lifted
        gap = lifted.points(np.array(self.solved)) - lifted.points(np.array([i]))
        nearest = np.argsort(np.einsum("ij,ij->i", gap, gap), kind="stable")[:NEIGHBOURS]
        return [self.active[p] for p in nearest]

    def _remember(self, i: int, problem: _cpu.LeastDistance) -> None:
        labels = problem.active_labels
        self.solved.append(i)
        self.active.append(labels[labels >= 0])

    def _add(self, problem: _cpu.LeastDistance, i: int, others: IndexArray) -> int:
        lifted = self.lifted
        center = lifted.points(np.array([i]))[0]
        if self.box is not None:
            center += self.box.raised_by
        return problem.add_points(center, lifted.points(others), others)

    def _capacity(self) -> int:
        height = self.lifted.dim + 1
        return int(np.clip(FLIGHT_BYTES / (8 * 6 * height**2), 4, 256))

    def _search(self, classes: IndexArray) -> None:
        waiting = _clusters(self.lifted.points(classes), classes)
        queue = deque(waiting)
        flight: dict[int, _cpu.LeastDistance] = {}
        while queue or flight or waiting or self.nominees:
            # The first few teach the others.
            capacity = min(self._capacity(), FIRST_FLIGHT + len(self.solved))
            while queue and len(flight) < capacity:
                i = queue.popleft()
                if i in self.open and i not in flight:
                    flight[i] = self._start(i)
            if flight:
                flight = self._round(flight)
            elif self.nominees:
                doubtful = list(self.nominees)
                self._certify()
                for i in doubtful:
                    if i in self.open:
                        self._give_up(i, 0.0, "its best witness fails in float64")
            # Who stood behind a leader comes when that is solved, and learns from it.
            for leader in [i for i in waiting if i not in flight and i not in queue]:
                queue.extend(j for j in waiting.pop(leader).tolist() if j in self.open)

    def _round(self, flight: dict[int, _cpu.LeastDistance]) -> dict[int, _cpu.LeastDistance]:
        """Solve all working sets, look for violators, and return who is still open."""
        height = self.lifted.dim + 1
        budget = max(8, int(STEP_MULTIPLY_ADDS / (len(flight) * 8 * height**2)))
        status = _cpu.solve_least_distances(
            list(flight.values()), max_iterations=budget, threads=self.threads
        )
        going = {}
        candidates = []
        for (i, problem), state in zip(flight.items(), status, strict=True):
            if i not in self.open:
                continue
            if state == Status.infeasible:
                self._infeasible(i, problem)
            elif state == Status.feasible:
                candidates.append(i)
            elif state == Status.paused:
                going[i] = problem
            else:
                self._give_up(i, problem.margin, "the active-set solver made no more progress")
        candidates = [i for i in candidates if i in self.open]
        if candidates:
            going.update(self._price(candidates, flight))
        return {i: problem for i, problem in going.items() if i in self.open}

    def _infeasible(self, i: int, problem: _cpu.LeastDistance) -> None:
        self._remember(i, problem)
        labels = problem.active_labels
        if self.box is not None:
            named = labels >= 0
            if not self._prove_in_box(i, labels[named], problem.active_weights[named]):
                self._give_up(i, problem.margin, "its certificate fails in float64")
            return
        support = np.sort(self._below_facet(labels[labels >= 0], i))
        if not self._prove(i, support):
            self._give_up(i, problem.margin, "float64 cannot tell it from a tie")

    def _price(
        self, classes: list[int], flight: dict[int, _cpu.LeastDistance]
    ) -> dict[int, _cpu.LeastDistance]:
        """Find who beats each class at its direction; return the problems that grew."""
        lifted = self.lifted
        y = np.array([flight[i].direction for i in classes])
        if lifted.with_bias:
            y[:, -1] = np.maximum(y[:, -1], 0.0)
        k = min(MORE_COMPETITORS + 1, lifted.problem.n)
        values, index = lifted.best_scores(y, k, self.threads)
        error = lifted.score_error(y)
        own = np.einsum("ij,ij->i", y, lifted.points(np.array(classes)))
        values[index == np.array(classes)[:, None]] = -np.inf
        slack = own - values.max(axis=1, initial=-np.inf)
        for row in np.flatnonzero(np.abs(slack) <= error).tolist():
            # Too close for float32: the best few once more in float64.
            others = index[row][np.isfinite(values[row])]
            slack[row] = own[row] - (lifted.points(others) @ y[row]).max()
            error[row] = 0.0
        if self.box is not None:
            outside = [len(self.box.violated(direction)[1]) > 0 for direction in y]
            slack[outside] = -np.inf
        nominated = self._nominate(np.array(classes), y, slack, error)
        going = {}
        for row, i in enumerate(classes):
            if i in nominated:
                self._remember(i, flight[i])
                continue
            others = index[row][values[row] > own[row] - error[row]]
            grown = self._add(flight[i], i, others[others != i])
            if self.box is not None:
                grown += flight[i].add_rays(*self.box.violated(y[row]))
            if grown:
                going[i] = flight[i]
            else:
                self._give_up(i, flight[i].margin, "its margin is below the resolution of float64")
        return going

    def _give_up(self, i: int, margin: float, why: str) -> None:
        self.outcome.reasons[i] = f"{why} (sine of the widest margin found: {margin:.2e})"
        self._settle([i])


def _clusters(points: FloatArray, classes: IndexArray) -> dict[int, IndexArray]:
    """Group classes around leaders: {leader: the others within a tenth of its length}."""
    points = points.astype(np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    free = np.ones(len(classes), bool)
    groups: dict[int, IndexArray] = {}
    for p in range(len(classes)):
        if not free[p]:
            continue
        free[p] = False
        rest = np.flatnonzero(free)
        distance = squares[rest] + squares[p] - 2.0 * (points[rest] @ points[p])
        near = rest[distance <= 0.01 * squares[p]]
        free[near] = False
        groups[int(classes[p])] = classes[near]
    return groups
