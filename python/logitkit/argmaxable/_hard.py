"""Decides the classes that no self-witness settles."""

from __future__ import annotations

import numpy as np

from ._box_rays import BoxRays
from ._duplicates import find_duplicates
from ._ledger import Ledger
from ._lifted import LiftedClasses
from ._problem import IndexArray
from ._search import Search

DIRECTIONS_TOGETHER = 1024


def decide_hard(
    lifted: LiftedClasses,
    ledger: Ledger,
    classes: IndexArray,
    *,
    threads: int,
    all_were_tried: bool = False,
    box: BoxRays | None = None,
) -> None:
    """Settle `classes` in `ledger`, each as far as float64 allows."""
    ledger.open = set(classes.tolist())
    if box is None:
        # Self-witnesses settle no class that has a twin. If they were tried for all classes,
        # twins are among the hard ones.
        _settle_trivial_classes(ledger, classes if all_were_tried else np.arange(lifted.problem.n))
    if lifted.dim == 0:  # all rows agree to within rounding, and so do the biases
        for i in sorted(ledger.open):
            ledger.give_up(i, "its row differs from the others by less than float64 resolves")
        return
    search = Search(lifted, ledger, threads=threads, box=box)
    left = np.array(sorted(ledger.open), np.int64)
    for begin in range(0, len(left), DIRECTIONS_TOGETHER):
        search.try_first_directions(left[begin : begin + DIRECTIONS_TOGETHER])
    search.run()


def _settle_trivial_classes(ledger: Ledger, among: IndexArray) -> None:
    problem = ledger.problem
    for killer, killed in find_duplicates(problem, among).items():
        twins = np.array([j for j in killed.tolist() if j in ledger.open], np.int64)
        if len(twins):
            ledger.prove(twins, np.array([killer]))
    if problem.n == 1 and ledger.open:
        ledger.nominate(0, np.zeros(problem.d))
        ledger.certify()
