"""The search for a witness or a support, for classes that no simple witness settles.

For a class i this looks for a direction y with y.(g_i - g_j) > 0 for every j. A working
set of competitors grows lazily: least distance programming (csrc/least_distance) gives
either the best direction against the working set, and one product with all classes finds
who still beats i there, or weights that show i inside the hull of the working set.
"""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np

from .. import _cpu
from ._box_rays import BoxRays
from ._cover import Cover, affinely_independent, below_facet, clusters
from ._ledger import Ledger
from ._lifted import LiftedClasses
from ._problem import FloatArray, IndexArray

FIRST_COMPETITORS = 48  # of each first direction
MORE_COMPETITORS = 32  # a round
RELAXED_COMPETITORS = 8
RELAXED_MARGIN = 0.05  # aimed at, as the sine of an angle times sqrt(dim)
RELAXED_SHARE = 0.01  # a round that settles less is the last
FIRST_FLIGHT = 16  # classes that start before any is solved
NEIGHBOURS = 2  # solved classes whose competitors a new class inherits
# Competitors this close, relative to the distance from the mean, say more about the cluster
# than about the class: a simplex of distant ones proves the whole cluster. They join when
# no other violates as much as a tenth of the worst.
MATE = 0.1
VIOLATION_SHARE = 0.1
CERTIFIED_TOGETHER = 256  # witnesses: each certification reads all weights
FLIGHT_BYTES = 192 << 20  # of solver state for the classes in work at a time
STEP_MULTIPLY_ADDS = 1e9  # of the solver between two looks at the keyboard
BIAS_RAY = -1  # label of the constraint t >= 0

Status = _cpu.LeastDistance.Status


class Search:
    """Classes in flight, and what the solved ones have taught."""

    def __init__(
        self, lifted: LiftedClasses, ledger: Ledger, *, threads: int, box: BoxRays | None
    ) -> None:
        self.lifted = lifted
        self.ledger = ledger
        self.threads = threads
        self.box = box
        self.competitors: dict[int, IndexArray] = {}  # a first working set
        # Classes with an optimal working set: their points, and who was active in it.
        self.solved = np.zeros((0, lifted.dim), np.float32)
        self.active: list[IndexArray] = []
        self.queue: deque[int] = deque()
        self.flight: dict[int, _cpu.LeastDistance] = {}

    def try_first_directions(self, classes: IndexArray) -> None:
        """Try C^-1 (w_i - center) and w_i - center, then what relaxation makes of the first."""
        lifted = self.lifted
        rank = lifted.whitening.rank
        variance = lifted.whitening.variance
        g = lifted.points(classes)
        y = np.zeros_like(g)
        self.competitors.update(dict.fromkeys(classes.tolist(), classes[:0]))
        for weight in (variance / variance.max(initial=1e-300), np.ones(rank)):
            y[:, :rank] = g[:, :rank] * weight
            index = self._try(classes, y, FIRST_COMPETITORS)[0]
            for i, others in zip(classes.tolist(), index, strict=True):
                self.competitors[i] = np.union1d(self.competitors[i], others)
        self._relax(classes, y)

    def _try(
        self, classes: IndexArray, y: FloatArray, k: int
    ) -> tuple[IndexArray, FloatArray, set[int]]:
        """Nominate where `y` wins; return the `k` best others and how far they are ahead."""
        lifted = self.lifted
        values, index = lifted.best_scores(y, min(k + 1, lifted.problem.n), self.threads)
        own = np.einsum("ij,ij->i", y, lifted.points(classes))
        ahead = np.where(index == classes[:, None], -np.inf, values - own[:, None])
        slack = -ahead.max(axis=1, initial=-np.inf)
        return index, ahead, self._nominate(classes, y, slack, lifted.score_error(y))

    def _relax(self, classes: IndexArray, y: FloatArray) -> None:
        """
        Move each y over the hyperplanes of those who beat its class, all at once.

        The relaxation method for linear inequalities (Agmon 1954, Motzkin and Schoenberg
        1954), in Cimmino's simultaneous form. A round costs one product, and a few rounds
        settle most live classes; the search is for those that they do not.
        """
        lifted = self.lifted
        done = self.ledger.nominees
        left = np.flatnonzero([i in self.ledger.open and i not in done for i in classes.tolist()])
        if len(left) == 0:
            return
        classes, y = classes[left], y[left].copy()
        for turn in itertools.count():
            index, ahead, nominated = self._try(classes, y, RELAXED_COMPETITORS)
            going = np.array([i not in nominated for i in classes.tolist()])
            few = turn > 0 and np.count_nonzero(~going) < RELAXED_SHARE * len(classes)
            classes, y, index, ahead = classes[going], y[going], index[going], ahead[going]
            for i, others, lead in zip(classes.tolist(), index, ahead, strict=True):
                self.competitors[i] = np.union1d(self.competitors[i], others[lead > 0.0])
            if few or len(classes) == 0:
                return
            g = lifted.points(classes)
            normal = g[:, None, :] - lifted.points(index.ravel()).reshape(*index.shape, -1)
            square = np.einsum("ijk,ijk->ij", normal, normal)
            square[square == 0.0] = 1.0  # the class itself, or its twin: a step of length 0
            wanted = RELAXED_MARGIN * np.sqrt(square / lifted.dim)
            wanted *= np.linalg.norm(y, axis=1, keepdims=True)
            step = np.maximum(ahead + wanted, 0.0) / square
            y += np.einsum("ij,ijk->ik", step, normal)
            if lifted.with_bias:
                y[:, -1] = np.maximum(y[:, -1], 0.0)

    def run(self) -> None:
        """Settle every open class, or give it up."""
        ledger = self.ledger
        classes = np.array(sorted(ledger.open - set(ledger.nominees)), np.int64)
        self.cover = Cover(self.lifted, classes)
        waiting = clusters(self.lifted.points(classes), classes)  # they learn from their leader
        self.queue = deque(waiting)
        while self.queue or self.flight or ledger.nominees:
            self._start()
            if self.flight:
                self._round()
            else:
                self._certify()
            self.cover.keep(ledger.open)
            for leader in [
                i for i in waiting if i not in self.flight and i not in self.competitors
            ]:
                self.queue.extend(j for j in waiting.pop(leader).tolist() if j in ledger.open)

    def _nominate(
        self, classes: IndexArray, y: FloatArray, slack: FloatArray, error: FloatArray
    ) -> set[int]:
        """Make witnesses, yet to be certified, of the directions that seem to win."""
        likely = np.flatnonzero(slack > -error)
        likely = likely[[int(i) in self.ledger.open for i in classes[likely]]]
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
        nominated = {
            i
            for i, vector in zip(classes[likely].tolist(), x, strict=True)
            if self.ledger.nominate(i, vector)
        }
        if len(self.ledger.nominees) >= CERTIFIED_TOGETHER:
            self._certify()
        return nominated

    def _certify(self) -> None:
        """Certify the nominees; who fails is searched for, or was and is given up."""
        for i in self.ledger.certify():
            if i in self.competitors:
                self.queue.append(i)
            else:
                self.ledger.give_up(i, "its best witness fails in float64")

    # The classes in flight.

    def _start(self) -> None:
        """Let classes take off while there is room; the first few teach the others."""
        lifted = self.lifted
        height = lifted.dim + 1
        room = int(np.clip(FLIGHT_BYTES / (8 * 6 * height**2), 4, 256))
        room = min(room, FIRST_FLIGHT + len(self.active)) - len(self.flight)
        starting: list[int] = []
        while self.queue and len(starting) < room:
            i = self.queue.popleft()
            if i in self.ledger.open:
                starting.append(i)
            else:
                del self.competitors[i]
        if not starting:
            return
        inherited = self._neighbours(np.array(starting))
        ray = np.zeros((1, lifted.dim))
        ray[0, -1] = 1.0
        for i, labels in zip(starting, inherited, strict=True):
            problem = _cpu.LeastDistance(lifted.dim)
            if lifted.with_bias:
                problem.add_rays(ray, np.array([BIAS_RAY]))
            first = np.union1d(self.competitors.pop(i), labels)
            first = first[first != i]
            own = lifted.points(np.array([i]))
            gap = lifted.points(first) - own
            far = np.einsum("ij,ij->i", gap, gap) > MATE**2 * (own @ own.T)[0, 0]
            self.flight[i] = problem
            self._add(i, first[far] if far.any() else first)

    def _neighbours(self, classes: IndexArray) -> list[IndexArray]:
        """Return the active competitors of the nearest solved classes, for each class."""
        if not self.active:
            return [np.zeros(0, np.int64)] * len(classes)
        points = self.lifted.points(classes).astype(np.float32)
        known = self.solved[: len(self.active)]
        # |a - b|^2 but for |a|^2, which does not change the order.
        distance = np.einsum("ij,ij->i", known, known) - 2.0 * (points @ known.T)
        count = min(NEIGHBOURS, len(self.active))
        nearest = np.sort(np.argpartition(distance, count - 1, axis=1)[:, :count], axis=1)
        return [np.unique(np.concatenate([self.active[p] for p in row])) for row in nearest]

    def _remember(self, i: int) -> None:
        if len(self.active) == len(self.solved):
            more = np.empty((max(64, len(self.solved)), self.lifted.dim), np.float32)
            self.solved = np.vstack([self.solved, more])
        self.solved[len(self.active)] = self.lifted.points(np.array([i]))[0]
        labels = self.flight[i].active_labels
        self.active.append(labels[labels >= 0])

    def _add(self, i: int, others: IndexArray) -> int:
        center = self.lifted.points(np.array([i]))[0]
        if self.box is not None:
            center += self.box.raised_by
        return self.flight[i].add_points(center, self.lifted.points(others), others)

    def _round(self) -> None:
        """Solve all working sets, and look for violators of those that have a direction."""
        height = self.lifted.dim + 1
        budget = max(8, int(STEP_MULTIPLY_ADDS / (len(self.flight) * 8 * height**2)))
        status = _cpu.solve_least_distances(
            list(self.flight.values()), max_iterations=budget, threads=self.threads
        )
        states = dict(zip(self.flight, status, strict=True))
        for i, state in states.items():
            if i not in self.ledger.open:
                continue
            if state == Status.infeasible:
                self._infeasible(i)
            elif state == Status.stalled:
                self._give_up(i, "rounding stops the solver")
        self._price(
            [i for i, s in states.items() if s == Status.feasible and i in self.ledger.open]
        )
        for i in [i for i in self.flight if i not in self.ledger.open]:
            del self.flight[i]

    def _infeasible(self, i: int) -> None:
        self._remember(i)
        problem = self.flight[i]
        labels = problem.active_labels
        named = labels >= 0
        if self.box is not None:
            self.ledger.prove_in_box(i, labels[named], problem.active_weights[named])
        else:
            point = self.lifted.points(np.array([i]))[0]
            support = np.sort(below_facet(self.lifted, labels[named], point))
            covered = set(self.cover.inside(support).tolist()) & self.ledger.open
            self.ledger.prove(np.array([i, *sorted(covered - {i})], np.int64), support)
            if i in self.ledger.open:  # a tie: the rows may depend on each other
                weights = problem.active_weights[named]
                support = np.sort(affinely_independent(self.lifted, labels[named], weights))
                self.ledger.prove(np.array([i]), support)
        if i in self.ledger.open:
            self._give_up(i, "float64 cannot tell it from a tie")

    def _price(self, classes: list[int]) -> None:
        """Find who beats each class at its direction, and let the working sets grow."""
        if not classes:
            return
        lifted = self.lifted
        index_of = np.array(classes)
        y = np.array([self.flight[i].direction for i in classes])
        if lifted.with_bias:
            y[:, -1] = np.maximum(y[:, -1], 0.0)
        values, index = lifted.best_scores(
            y, min(MORE_COMPETITORS + 1, lifted.problem.n), self.threads
        )
        error = lifted.score_error(y)
        own = np.einsum("ij,ij->i", y, lifted.points(index_of))
        values[index == index_of[:, None]] = -np.inf
        slack = own - values.max(axis=1, initial=-np.inf)
        for row in np.flatnonzero(np.abs(slack) <= error).tolist():
            # Too close for float32: the best few once more in float64.
            others = index[row][np.isfinite(values[row])]
            slack[row] = own[row] - (lifted.points(others) @ y[row]).max()
            error[row] = 0.0
        if self.box is not None:
            outside = [len(self.box.violated(direction)[1]) > 0 for direction in y]
            slack[outside] = -np.inf
        nominated = self._nominate(index_of, y, slack, error)
        for row, i in enumerate(classes):
            if i in nominated:
                self._remember(i)
                del self.flight[i]
                continue
            behind = values[row] - own[row]
            worst = float(behind.max())
            grown = self._add(i, index[row][behind >= VIOLATION_SHARE * max(worst, 0.0)])
            if self.box is not None:
                grown += self.flight[i].add_rays(*self.box.violated(y[row]))
            if grown == 0:
                self._look_closer(i, y[row])

    def _look_closer(self, i: int, y: FloatArray) -> None:
        """Find who beats class `i` where float32 cannot tell, or nominate its direction."""
        scores = self.lifted.exact_scores(y)
        own = scores[i]
        scores[i] = -np.inf
        best = np.argsort(-scores, kind="stable")[: 4 * MORE_COMPETITORS]
        if self._add(i, best[scores[best] >= own]):
            return
        slack = np.array([own - scores[best[0]]])
        if slack[0] > 0.0 and self._nominate(np.array([i]), y[None], slack, np.zeros(1)):
            self._remember(i)
            del self.flight[i]
        else:
            self._give_up(i, "its margin is below the resolution of float64")

    def _give_up(self, i: int, why: str) -> None:
        margin = self.flight[i].margin
        self.ledger.give_up(i, f"{why} (sine of the widest margin found: {margin:.2e})")
