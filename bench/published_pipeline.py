"""The published way to find unargmaxable classes, written anew from its description.

A. Grivas, N. Bogoychev and A. Lopez, "Low-rank softmax can have unargmaxable classes in theory
but rarely in practice", ACL 2022, arXiv:2203.06462: each class by itself, a heuristic first, then
a linear program. Features lie in the box [-100, 100]^d.
"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

PATIENCE = 2500  # reflections of a class
BOX = 100.0
SMALLEST_RADIUS = 1e-8  # of a ball of feature vectors

Float32 = NDArray[np.float32]
Classes = NDArray[np.int64]


def wins_by_reflection(i: int, weight: Float32, bias: Float32) -> bool:
    """
    Whether reflections find features for which class `i` wins.

    From x = w_i, reflect x across the plane on which class i ties with the winner, until
    class i is the winner: one product with all classes a step, in the dtype of the weights,
    and one more to check the features that were found.
    """
    own, x = weight[i], weight[i]
    winner = int(np.argmax(weight @ x + bias))
    for _ in range(PATIENCE):
        if winner == i:
            break
        normal = own - weight[winner]
        square = normal @ normal
        if square == 0.0:  # a twin: there is no plane to reflect across
            return False
        x = x - (2 * (normal @ x + bias[i] - bias[winner]) / square) * normal
        winner = int(np.argmax(weight @ x + bias))
    if winner != i or np.abs(x).max() > BOX:
        return False
    assert np.argmax(weight @ x + bias) == i
    return True


def is_feasible(i: int, weight: Float32, bias: Float32) -> bool:
    """
    Whether class `i` wins all over a ball of features, whose centre is in the box, by HiGHS.

    The Chebyshev centre: the largest r with (w_j - w_i) . x + r |w_j - w_i| <= b_i - b_j for
    every other j. Whatever keeps the solver from an optimum counts as "no", as published.
    """
    d = weight.shape[1]
    others = np.arange(len(weight)) != i
    planes = np.empty((len(weight) - 1, d + 1))
    planes[:, :d] = weight[others].astype(np.float64) - weight[i]
    planes[:, d] = np.linalg.norm(planes[:, :d], axis=1)
    found = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=planes,
        b_ub=bias[i].astype(np.float64) - bias[others],
        bounds=[(-BOX, BOX)] * d + [(SMALLEST_RADIUS, None)],
        method="highs",
    )
    return bool(found.status == 0)


class Samples(NamedTuple):
    """How many live classes, dead classes, and linear programs are timed."""

    live: int
    dead: int
    programs: int


class Published:
    """The pipeline on random samples of the classes, a part of them each round."""

    def __init__(
        self, weight: Float32, bias: Float32 | None, dead: Classes, *, samples: Samples, rounds: int
    ) -> None:
        self.weight = weight
        self.bias = np.zeros(len(weight), np.float32) if bias is None else bias
        self.dead = dead
        random = np.random.default_rng(0)
        live = np.setdiff1d(np.arange(len(weight)), dead)
        self.live_count = len(live)
        self.live_queue = random.permutation(live)[: samples.live].tolist()
        self.dead_queue = random.permutation(dead)[: samples.dead].tolist()
        self.lp_queue = random.permutation(dead)[: samples.programs].tolist()
        self.shares = Samples(*(-(-size // rounds) for size in samples))
        self.live_seconds: list[float] = []
        self.dead_seconds: list[float] = []
        self.lp_seconds: list[float] = []
        self.missed = 0  # live classes of the sample that reflection does not find

    def run_part(self) -> None:
        """Take and time one round's share of the samples."""
        for _ in range(min(self.shares.live, len(self.live_queue))):
            i = self.live_queue.pop()
            if not self._reflect(i, self.live_seconds):
                self.missed += 1
                self.lp_queue.append(i)
        for _ in range(min(self.shares.dead, len(self.dead_queue))):
            assert not self._reflect(self.dead_queue.pop(), self.dead_seconds)
        for _ in range(min(self.shares.programs, len(self.lp_queue))):
            i = self.lp_queue.pop()
            start = time.process_time()
            feasible = is_feasible(i, self.weight, self.bias)
            self.lp_seconds.append(time.process_time() - start)
            assert not (feasible and i in self.dead)  # the box may kill, nothing may revive

    def _reflect(self, i: int, times: list[float]) -> bool:
        start = time.process_time()
        found = wins_by_reflection(i, self.weight, self.bias)
        times.append(time.process_time() - start)
        return found

    def print_total(self) -> float:
        """Print and return the time of all classes, with the standard error of the sample."""
        left = len(self.dead) + self.live_count * self.missed / max(1, len(self.live_seconds))
        total = 0.0
        for name, times, count in (
            ("reflection, live classes", self.live_seconds, self.live_count),
            ("reflection, dead classes", self.dead_seconds, len(self.dead)),
            ("linear programs on the rest", self.lp_seconds, left),
        ):
            if not times:
                continue
            mean = statistics.mean(times)
            error = statistics.stdev(times) / len(times) ** 0.5 if len(times) > 1 else np.nan
            total += mean * count
            print(
                f"  published: {name:<29}{mean * count:>8.1f} s +- {error * count:.1f}"
                f"   ({len(times)} of {count:.0f} classes, {mean * 1e3:.2f} ms each)"
            )
        return total
