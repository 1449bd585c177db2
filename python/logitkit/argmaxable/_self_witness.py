"""Self-witnesses: most classes win at x = s C^-1 (w_i - center), all in one product.

In whitened coordinates that is y = z_i, and class i wins there when z_i.z_i > z_j.z_i for
all j != i. csrc/self_witness bounds the difference from below without ever storing the
product; a long enough x then wins against any bias.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _cpu
from ._box_rays import BoxRays
from ._lifted import LiftedClasses
from ._problem import FloatArray, IndexArray

CALL_SECONDS = 0.3  # of kernel time between two looks at the keyboard
GPU_ROWS = 16384  # of a product between two looks at it
ROUNDED_DOWN = 1.0 - 2.0**-50


@dataclass(eq=False)
class SelfWitnesses:
    """Lengths and margins of the self-witnesses, by class; a length of 0 stands for none."""

    lifted: LiftedClasses
    slack: FloatArray  # lower bound of min_j (z_i.z_i - z_j.z_i), in whitened units
    scale: FloatArray  # the length s
    margins: FloatArray  # lower bound, in logits

    def left(self, classes: IndexArray) -> IndexArray:
        """Return those of `classes` that have none."""
        return np.compress(self.scale[classes] == 0.0, classes)

    def move_into(self, box: BoxRays) -> None:
        """Shorten them so that they lie in the box, and drop those that then lose."""
        behind = _behind(self.lifted)
        for block in self.lifted.problem.slices():
            own = np.flatnonzero(self.scale[block] > 0.0) + block.start
            x = self.scale[own, None] * self.lifted.self_witnesses(own)
            error = self.scale[own, None] * self.lifted.self_witness_error(own)
            shorter = self.scale[own] * box.shrunk(x, error)
            self.margins[own] = (shorter * self.slack[own] - behind[own]) * ROUNDED_DOWN
            self.scale[own] = np.where(self.margins[own] > 0.0, shorter, 0.0)


def find_self_witnesses(
    lifted: LiftedClasses,
    wanted: IndexArray,
    *,
    threads: int,
    on_settled: Callable[[int], None],
) -> SelfWitnesses:
    """Try the self-witness of every class; of a few classes none, as products are cheaper."""
    n = lifted.problem.n
    slack = np.zeros(n)
    if lifted.whitening.rank > 0 and n > 1 and 4 * len(wanted) >= n:
        slack = _bound_slack(lifted, wanted, threads, on_settled)
    behind = _behind(lifted)
    scale = np.zeros(n)
    settled = slack > 0.0
    scale[settled] = np.maximum(1.0, 2.0 * behind[settled] / slack[settled])
    margins = (scale * slack - behind) * ROUNDED_DOWN
    scale[~(np.isfinite(scale) & (margins > 0.0))] = 0.0
    return SelfWitnesses(lifted, slack, scale, margins)


def _behind(lifted: LiftedClasses) -> FloatArray:
    """Return how far the bias of each class is behind the largest one."""
    bias = lifted.problem.biases()
    behind: FloatArray = bias.max() - bias
    return behind


def _bound_slack(
    lifted: LiftedClasses, wanted: IndexArray, threads: int, on_settled: Callable[[int], None]
) -> FloatArray:
    n = lifted.problem.n
    is_wanted = np.zeros(n, bool)
    is_wanted[wanted] = True

    def settle(begin: int, end: int, found: NDArray[Any]) -> None:
        won = is_wanted[lifted.order[begin:end]] & (found[begin:end] > 0.0)
        on_settled(int(np.count_nonzero(won)))

    found = _found_on_gpu(lifted, settle) if lifted.gpu else _found(lifted, threads, settle)
    # The rows themselves are off by whitening_error each.
    lost = 1.01 * lifted.whitening_error * (lifted.norms[-1] + 3.0 * lifted.norms)
    slack = np.empty(n)
    slack[lifted.order] = np.maximum(found - lost, 0.0)
    return slack


def _found(
    lifted: LiftedClasses, threads: int, settle: Callable[[int, int, NDArray[Any]], None]
) -> NDArray[Any]:
    """Return a bound for each row of `lifted.z`, in their order."""
    n = lifted.problem.n
    tails = np.empty((_cpu.witness_tails(lifted.whitening.rank), n), np.float32)
    squares = np.empty(n, np.float32)
    found = np.full(n, np.inf, np.float32)
    _cpu.prepare_self_witness(lifted.z, tails, squares, error=lifted.product_error, threads=threads)
    begin, rows = 0, 192
    while begin < n:
        start = time.perf_counter()
        end = min(n, begin + rows)
        _cpu.self_witness(lifted.z, tails, squares, found, begin=begin, end=end, threads=threads)
        settle(begin, end, found)  # rows before `end` have met every other row
        begin = end
        if time.perf_counter() - start < CALL_SECONDS / 2:
            rows *= 2
    return found


def _found_on_gpu(
    lifted: LiftedClasses, settle: Callable[[int, int, NDArray[Any]], None]
) -> NDArray[Any]:
    """
    Return the same by whole products, of which a GPU finds the two largest of each row.

    With the largest computed product s of z_i and another row, and e the bound of its relative
    error and that of the rows, z_i.z_i - z_j.z_i >= z_i.z_i - s - e |z_i| max |z_j|.
    """
    assert lifted.gpu is not None
    n, rank = lifted.z.shape
    found = np.zeros(n)
    rows = GPU_ROWS
    for begin in range(0, n, rows):
        block = slice(begin, min(n, begin + rows))
        z, norms = lifted.z[block], lifted.norms[block]
        scores, index = lifted.gpu.largest(z, None, 2)
        wide = z.astype(np.float64)
        squares = np.einsum("ij,ij->i", wide, wide) * (1.0 - (rank + 2) * 2.0**-52)
        error = lifted.product_error * norms * lifted.norms[-1]
        slack = (squares - scores[:, 1] - error) * ROUNDED_DOWN
        wins = index[:, 0] == np.arange(block.start, block.stop)
        found[block] = np.where(wins, np.maximum(slack, 0.0), 0.0)
        settle(block.start, block.stop, found)
    return found
