"""The softmax family against SciPy, torch and the reference: speed on one thread.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 LOGITKIT_NUM_THREADS=1 taskset -c 1 \
    python bench/bench_softmax.py [--quick]

All candidates of a line run in turn, many times; each figure is the median over the rounds of
a ratio within a round, and behind it its 10th and 90th percentile. Results are compared with
the reference before they are timed.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import scipy.special

import logitkit
from harness import Ratio, paired_times, print_machine
from logitkit import _cpu, reference

try:
    import torch
except ModuleNotFoundError:
    torch = None

QUICK = "--quick" in sys.argv
ROUNDS = 3 if QUICK else 15
MEMORY = np.zeros(2**21 if QUICK else 2**24, np.float32)  # 64 MiB: read and copied beside
COPY = np.empty_like(MEMORY)

# (shape, axis), by the bytes of float32: 40 MB and more, then 4 to 25 MB, then short rows.
LARGE = [((1, 10**7), 1), ((4096, 4096), 1), ((4096, 4096), 0), ((256, 50257), 1)]
MIDDLE = [((1000, 1000), 1), ((1000, 1000), 0), ((64, 10**5), 1), ((10**5, 64), 0)]
SHORT = [((10**5, 64), 1), ((10**5, 16), 1), ((10**5, 5), 1)]


def read_memory() -> object:
    """Read all of MEMORY; how fast, is the read bandwidth."""
    return np.dot(MEMORY, MEMORY) if torch is None else _TENSOR.sum()


if torch is not None:
    torch.set_num_threads(1)
    _TENSOR = torch.from_numpy(MEMORY)


def normal(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return logits of spread 2, the first rows of which repeat."""
    some = np.random.default_rng(0).normal(scale=2.0, size=min(10**6, int(np.prod(shape))))
    return np.resize(some, shape).astype(dtype)


def bench_logsumexp(shape: tuple[int, ...], axis: int, dtype: type) -> None:
    """Print one line: ours over torch, SciPy, the reference and the read bandwidth."""
    if QUICK:
        shape = tuple(-(-n // 10) for n in shape)
    x = normal(shape, dtype)
    exact = reference.logsumexp(x, axis=axis)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(logitkit.logsumexp(x, axis=axis), exact, rtol=2 * eps, atol=16 * eps)
    calls = {
        "ours": partial(logitkit.logsumexp, x, axis=axis),
        "scipy": partial(scipy.special.logsumexp, x, axis=axis),
        "reference": partial(reference.logsumexp, x, axis=axis),
        "read": read_memory,
        "stats": partial(logitkit.softmax_stats, x, axis=axis),
    }
    if torch is not None:
        calls["torch"] = partial(torch.logsumexp, torch.from_numpy(x), axis)
    times = paired_times(calls, rounds=ROUNDS)
    rate = Ratio(times["read"] * x.nbytes, times["ours"] * MEMORY.nbytes)
    columns = [
        Ratio(times[name], times["ours"])
        for name in ("torch", "scipy", "reference")
        if name in times
    ]
    stats = Ratio(times["stats"], times["ours"])
    gigabytes = x.nbytes / np.median(times["ours"]) / 1e9
    print(
        f"  {shape!s:>15} axis {axis} {np.dtype(dtype).name} {gigabytes:6.1f} GB/s",
        *columns,
        rate.percent(),
        stats,
        sep="  ",
    )


def bench_softmax(name: str, shape: tuple[int, ...], axis: int, dtype: type) -> None:
    """Print one line for softmax or log_softmax, which write to an array that is there."""
    if QUICK:
        shape = tuple(-(-n // 10) for n in shape)
    x = normal(shape, dtype)
    y, tensor = np.empty_like(x), np.empty_like(x)
    exact = getattr(reference, name)(x, axis=axis)
    ours = getattr(logitkit, name)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(ours(x, axis=axis, out=y), exact, rtol=6 * eps, atol=0)
    calls = {
        "ours": partial(ours, x, axis=axis, out=y),
        "scipy": partial(getattr(scipy.special, name), x, axis=axis),
        "reference": partial(getattr(reference, name), x, axis=axis),
        "copy": partial(np.copyto, COPY, MEMORY),
    }
    if torch is not None:
        theirs = getattr(torch, name)
        calls["torch"] = partial(theirs, torch.from_numpy(x), axis, out=torch.from_numpy(tensor))
    times = paired_times(calls, rounds=ROUNDS)
    rate = Ratio(times["copy"] * x.nbytes, times["ours"] * MEMORY.nbytes)
    columns = [
        Ratio(times[peer], times["ours"])
        for peer in ("torch", "scipy", "reference")
        if peer in times
    ]
    gigabytes = 2 * x.nbytes / np.median(times["ours"]) / 1e9
    print(
        f"  {shape!s:>15} axis {axis} {np.dtype(dtype).name} {gigabytes:6.1f} GB/s",
        *columns,
        rate.percent(),
        sep="  ",
    )


def bench_calls() -> None:
    """Print what a call costs where there is next to nothing to compute."""
    x = normal((1, 16), np.float32)
    out, many = np.empty(1, np.float32), 200
    calls = {
        "ours": partial(logitkit.logsumexp, x, axis=1),
        "binding": partial(_cpu.logsumexp, x, 1, out),
        "scipy": partial(scipy.special.logsumexp, x, axis=1),
    }
    repeated = {name: partial(_repeat, call, many) for name, call in calls.items()}
    times = paired_times(repeated, rounds=5 * ROUNDS)
    for name in calls:
        print(f"  {name:10} {np.median(times[name]) / many * 1e6:8.2f} us")
    print("  scipy over ours", Ratio(times["scipy"], times["ours"]))


def _repeat(call: partial[object], times: int) -> None:
    for _ in range(times):
        call()


def bench_denormals() -> None:
    """Print how much slower calls are whose terms or results are denormal."""
    x = normal((1000, 1000), np.float32)
    wide, tiny = np.float32(40) * x, np.float32(1e-40) * x
    y = np.empty_like(x)
    for name in ("logsumexp", "softmax", "log_softmax"):
        call = getattr(logitkit, name)
        out = None if name == "logsumexp" else y
        times = paired_times(
            {
                "usual": partial(call, x, axis=1, out=out),
                "results": partial(call, wide, axis=1, out=out),
                "operands": partial(call, tiny, axis=1, out=out),
            },
            rounds=5 * ROUNDS,
        )
        print(
            f"  {name:12} results that underflow",
            Ratio(times["results"], times["usual"]),
            " denormal operands",
            Ratio(times["operands"], times["usual"]),
        )


def main() -> None:
    """Print all tables."""
    print_machine("numpy", "scipy", "torch")
    times = paired_times(
        {"read": read_memory, "copy": partial(np.copyto, COPY, MEMORY)}, rounds=ROUNDS
    )
    print(
        f"read {MEMORY.nbytes / np.median(times['read']) / 1e9:.1f} GB/s, "
        f"copy {2 * MEMORY.nbytes / np.median(times['copy']) / 1e9:.1f} GB/s read and written"
    )
    peers = ["torch", "scipy", "reference"] if torch is not None else ["scipy", "reference"]
    print("\nlogsumexp: time of", *peers, "over ours; share of read bandwidth; stats over ours")
    for group in (LARGE, MIDDLE, SHORT):
        for dtype in (np.float32, np.float64):
            for shape, axis in group:
                bench_logsumexp(shape, axis, dtype)
    for name in ("softmax", "log_softmax"):
        print(f"\n{name}: time of", *peers, "over ours; share of copy bandwidth")
        for dtype in (np.float32, np.float64):
            for shape, axis in (*LARGE[1:3], *MIDDLE, *SHORT[:2]):
                bench_softmax(name, shape, axis, dtype)
    print("\nlogsumexp of 1 x 16 float32")
    bench_calls()
    print("\ntime over that of usual logits")
    bench_denormals()


if __name__ == "__main__":
    main()
