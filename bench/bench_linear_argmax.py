"""Row maxima of A B^T + b against NumPy and PyTorch, one thread, beside the FMA peak.

python bench/bench_linear_argmax.py [--quick]

Every round measures the peak between any two candidates, so each sample is quoted as a
share of the peak around it; ratios are of times in the same round. Times are those of the
processor, not of the wall: a machine that others use delays them, but adds less to them.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"  # read when NumPy and PyTorch are imported

import numpy as np
import torch
from numpy.typing import NDArray

from harness import Call, print_machine
from logitkit import _cpu, linear_argmax, linear_topk, reference

torch.set_num_threads(1)
PEAK_WORK = 10**9  # multiply-adds in one look at the peak: ten milliseconds
SAMPLE_WORK = 4 * 10**9  # and, at least, in one sample: small calls are repeated

# m rows of A, n rows of B, d columns.
SHAPES = [
    (2048, 2048, 120),
    (2048, 2048, 256),
    (4096, 4096, 128),
    (2048, 32000, 128),
    (2048, 8192, 512),
    (2048, 8192, 768),
    (2048, 4096, 2048),
]
QUICK = SHAPES[:2]


def main(shapes: list[tuple[int, int, int]], rounds: int) -> None:
    """Check and time every shape."""
    print_machine("numpy", "torch")
    print("one thread; medians [quartiles] over rounds; ratios are other / linear_argmax")
    print(
        f"{'m x n x d':<20}{'candidate':<15}{'ms':>8}{'GFLOP/s':>9}{'of FMA peak':>20}{'ratio':>22}"
    )
    for m, n, d in shapes:
        random = np.random.default_rng(0)
        x, weight, bias = (
            random.standard_normal(shape, np.float32) for shape in ((m, d), (n, d), (n,))
        )
        candidates = candidates_for(x, weight, bias)
        check(x, weight, bias)
        work = m * n * d
        times, peaks = measure(candidates, rounds, repeats=-(-SAMPLE_WORK // work))
        for name, samples in times.items():
            shares = [work / t / peak for t, peak in zip(samples, peaks[name], strict=True)]
            ratios = [t / ours for t, ours in zip(samples, times["linear_argmax"], strict=True)]
            t = statistics.median(samples)
            print(
                f"{f'{m} x {n} x {d}':<20}{name:<15}{t * 1e3:>8.1f}{2e-9 * work / t:>9.1f}"
                f"{spread(shares):>20}{spread(ratios):>22}",
                flush=True,
            )


def candidates_for(
    x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> dict[str, Call]:
    """Return what is timed, by name."""
    x_torch, weight_torch, bias_torch = map(torch.from_numpy, (x, weight, bias))
    return {
        "linear_argmax": lambda: linear_argmax(x, weight, bias, threads=1),
        "linear_topk 5": lambda: linear_topk(x, weight, bias, k=5, threads=1),
        "numpy": lambda: np.argmax(x @ weight.T + bias, axis=1),
        "torch": lambda: torch.argmax(
            torch.nn.functional.linear(x_torch, weight_torch, bias_torch), dim=1
        ),
        "reference": lambda: reference.linear_argmax(x, weight, bias),
    }


def check(x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Assert that what is timed is within its contract."""
    exact = reference.linear_topk(x, weight, bias, k=5)
    d = x.shape[1]
    size = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(weight, axis=1).max()
    bound = 1.01 * d * 2.0**-24 * size + np.spacing(np.float32(np.abs(bias).max() + size.max()))
    top = linear_topk(x, weight, bias, k=5, threads=1)
    first = linear_argmax(x, weight, bias, threads=1)
    assert np.all(np.abs(top.values - exact.values) <= bound)
    assert np.mean(top.indices == exact.indices) > 0.999  # all but near ties
    np.testing.assert_array_equal(first.values, top.values[:, 0])
    np.testing.assert_array_equal(first.indices, top.indices[:, 0])


def measure(
    candidates: dict[str, Call], rounds: int, repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds of a call in each candidate's samples, and the peak around each."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    peaks: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        before = fma_peak()
        for name, call in candidates.items():
            start = time.process_time()
            for _ in range(repeats):
                call()
            times[name].append((time.process_time() - start) / repeats)
            after = fma_peak()
            peaks[name].append((before + after) / 2)
            before = after
    return times, peaks


def fma_peak() -> float:
    """Return the multiply-adds in a second of a loop without loads."""
    start = time.process_time()
    done = _cpu.multiply_add(PEAK_WORK)
    return done / (time.process_time() - start)


def spread(samples: list[float]) -> str:
    """Format the median and the quartiles."""
    low, middle, high = statistics.quantiles(samples, n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    quick = "--quick" in sys.argv[1:]
    main(QUICK if quick else SHAPES, rounds=7 if quick else 11)
