"""The pruned n x n product of the class check, beside the FMA peak and the plain product.

python bench/bench_self_witness.py

For rows with independent normal coordinates: the share of the n * n * r multiply-adds that
is left, their rate against the peak measured around them, and the rate that computing all
of them would have needed to take as long. One thread; times of the processor.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from numpy.typing import NDArray

from harness import print_machine
from logitkit import _cpu

SHAPES = [(6600, 120), (30000, 384), (50000, 768)]
ROUNDS = 5


def main() -> None:
    """Check and time every shape."""
    print_machine("numpy")
    print(
        f"{'n x r':<14}{'seconds [least, most]':>26}{'settled':>9}{'work left':>11}"
        f"{'of FMA peak':>13}{'as if GFLOP/s':>15}"
    )
    for n, r in SHAPES:
        z = np.random.default_rng(0).standard_normal((n, r), np.float32)
        z = z[np.argsort(np.linalg.norm(z, axis=1))]
        check(z[:: n // 2000])
        samples, peaks = [], []
        for _ in range(ROUNDS):
            before = fma_peak()
            start = time.process_time()
            slack, work = settle(z)
            samples.append(time.process_time() - start)
            peaks.append((before + fma_peak()) / 2)
        seconds = statistics.median(samples)
        share = statistics.median(work / t / peak for t, peak in zip(samples, peaks, strict=True))
        print(
            f"{f'{n} x {r}':<14}{f'{seconds:.3f} [{min(samples):.3f}, {max(samples):.3f}]':>26}"
            f"{np.mean(slack > 0):>9.2%}{work / n / n / r:>11.1%}{share:>13.0%}"
            f"{2e-9 * n * n * r / seconds:>15.0f}",
            flush=True,
        )


def settle(z: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Return the slack of every row and the multiply-adds that it took."""
    n, r = z.shape
    tails = np.empty((_cpu.witness_tails(r), n), np.float32)
    squares = np.empty(n, np.float32)
    slack = np.full(n, np.inf, np.float32)
    _cpu.prepare_self_witness(z, tails, squares, error=(r + 8) * 2.0**-24, threads=1)
    return slack, _cpu.self_witness(z, tails, squares, slack, begin=0, end=n, threads=1)


def check(z: NDArray[np.float32]) -> None:
    """Assert that a positive slack bounds the margin, and that none is missed."""
    slack, _ = settle(np.ascontiguousarray(z))
    products = z.astype(np.float64) @ z.astype(np.float64).T
    margins = np.diag(products)[:, None] - products
    np.fill_diagonal(margins, np.inf)
    settled = slack > 0
    assert np.all(slack[settled] <= margins.min(axis=1)[settled])
    assert np.all(settled[margins.min(axis=1) > 1e-3 * np.diag(products)])


def fma_peak() -> float:
    """Return the multiply-adds in a second of a loop without loads."""
    start = time.process_time()
    done = _cpu.multiply_add(2 * 10**9)
    return done / (time.process_time() - start)


if __name__ == "__main__":
    main()
