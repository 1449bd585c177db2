"""Classes with equal rows: of each group only the one of largest bias can win."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._problem import IndexArray, Problem
from ._rows import row_blocks

_WORDS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def find_duplicates(problem: Problem, classes: IndexArray) -> dict[int, IndexArray]:
    """
    Find the classes that an equal row kills.

    Parameters
    ----------
    problem : Problem
        The output layer.
    classes : ndarray of int64
        Where to look: killers and killed are among these.

    Returns
    -------
    dict
        {class j: the classes that `j` kills}: rows equal to that of `j`, and a bias that
        is not larger. A group that shares its largest bias dies whole.
    """
    if len(classes) < 2:
        return {}
    checksums = _checksums(problem, classes)
    order = np.argsort(checksums, kind="stable")
    starts = np.flatnonzero(np.diff(checksums[order], prepend=~checksums[order[:1]]))
    sizes = np.diff(starts, append=len(order))
    bias = problem.biases()
    killed: dict[int, IndexArray] = {}
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        left = np.sort(classes[order[start : start + size]])
        while len(left) > 1:  # more than one turn only where checksums collide
            rows = problem.weight[left]
            equal = (rows == rows[0]).all(axis=1)
            group, left = left[equal], left[~equal]
            if len(group) > 1:
                _kill(group, bias, killed)
    return killed


def _kill(group: IndexArray, bias: NDArray[np.float64], killed: dict[int, IndexArray]) -> None:
    best = int(np.argmax(bias[group]))
    killer = int(group[best])
    others = np.delete(group, best)
    killed[killer] = others
    tied = others[bias[others] == bias[killer]]
    if len(tied):
        killed[int(tied[0])] = np.array([killer])


def _checksums(problem: Problem, classes: IndexArray) -> NDArray[np.uint64]:
    """Multiply the bits of each row by odd constants, modulo 2^64."""
    checksums = np.empty(len(classes), np.uint64)
    multipliers = np.random.Generator(np.random.Philox(0)).integers(
        0, 2**63, size=problem.d, dtype=np.uint64
    ) * np.uint64(2) + np.uint64(1)
    for block in row_blocks(len(classes), problem.d):
        rows = problem.weight[classes[block]]
        rows = np.ascontiguousarray(rows) + problem.weight.dtype.type(0)  # no -0
        words = rows.view(_WORDS[rows.dtype.itemsize])
        checksums[block] = (words * multipliers).sum(axis=1, dtype=np.uint64)
    return checksums
