"""The softmax family against SciPy, torch and the reference: speed on one thread.

taskset -c 1 python bench/bench_softmax.py [--quick]

All candidates of a line run in turn, many times; each figure is the median over the rounds of
a ratio within a round, and behind it its 10th and 90th percentile. Results are held to their
contracts before they are timed. Lines that miss what was aimed at end with the aim.
"""

from __future__ import annotations

import os
import sys
from functools import partial

for variable in ("OMP", "OPENBLAS", "MKL", "LOGITKIT"):
    os.environ[f"{variable}_NUM_THREADS"] = "1"  # read when they are imported

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

# (shape, axis), by the bytes of float32: 40 MB and more, then 4 to 25 MB, then short rows.
LARGE = [((1, 10**7), 1), ((4096, 4096), 1), ((4096, 4096), 0), ((256, 50257), 1)]
MIDDLE = [((1000, 1000), 1), ((1000, 1000), 0), ((64, 10**5), 1), ((10**5, 64), 0)]
SHORT = [((10**5, 64), 1), ((10**5, 16), 1), ((10**5, 5), 1)]


if torch is not None:
    torch.set_num_threads(1)
PEERS = ["scipy", "reference"] if torch is None else ["torch", "scipy", "reference"]


def normal(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return logits of spread 2, the first rows of which repeat."""
    some = np.random.default_rng(0).normal(scale=2.0, size=min(10**6, int(np.prod(shape))))
    return np.resize(some, shape).astype(dtype)


def movers(x: np.ndarray, limit: str) -> dict[str, partial[object]]:
    """
    Return calls that read, or copy, as many bytes as `x` has, in memory of their own.

    The memory was written to: pages of fresh zeros would all be one page, in the cache.
    """
    memory, other = (np.ones(x.nbytes // 4, np.float32) for _ in range(2))
    if limit == "copy":
        return {"numpy.copyto": partial(np.copyto, other, memory)}
    readers = {"numpy.dot": partial(np.dot, memory, memory)}
    if torch is not None:
        readers["torch.sum"] = partial(torch.sum, torch.from_numpy(other))
    return readers


def check(name: str, x: np.ndarray, axis: int, actual: np.ndarray) -> None:
    """Assert that the results of some items are within their contract."""
    items = x.shape[1 - axis]
    some = np.linspace(0, items - 1, min(items, 1 + 2**20 // x.shape[axis])).astype(np.intp)
    exact = getattr(reference, name)(np.take(x, some, 1 - axis).astype(np.longdouble), axis=axis)
    results = actual[some] if name == "logsumexp" else np.take(actual, some, 1 - axis)
    ulp = np.spacing(np.abs(exact).astype(x.dtype))
    slack = 8 * np.abs(exact) * np.finfo(np.longdouble).eps + 2.0**-60  # of what is exact here
    error = np.abs(results - exact)
    assert np.all(error <= (1 if name == "logsumexp" else 2) * ulp + slack), np.max(error / ulp)


def aims_for(name: str, x: np.ndarray, axis: int) -> dict[str, float]:
    """Return the ratios and the share of the bandwidth that are aimed at."""
    terms, double = x.shape[axis], x.dtype == np.float64
    if QUICK:
        return {}
    if name != "logsumexp":
        return {"torch": 1.25, "scipy": 4.0, "copy": 0.75}
    if terms < 1000:
        return {"torch": 4.0, "scipy": 15.0} if terms == 64 else {}
    if x.nbytes < 40e6:
        return {"torch": 5.0, "scipy": 15.0} if double else {"torch": 5.0}
    if double:
        return {"torch": 8.0, "scipy": 15.0, "read": 0.8}
    return {"torch": 8.0, "scipy": 20.0, "read": 0.85}


def bench(name: str, shape: tuple[int, ...], axis: int, dtype: type) -> None:
    """Print one line: ours over torch, SciPy, the reference and the bandwidth."""
    if QUICK:
        shape = tuple(-(-n // 10) for n in shape)
    x = normal(shape, dtype)
    ours, theirs = getattr(logitkit, name), getattr(torch, name, None)
    limit, outs, torch_outs = "read", {}, {}
    if name != "logsumexp":  # which write to an array that is there
        limit, outs = "copy", {"out": np.empty_like(x)}
        torch_outs = {"out": torch.from_numpy(np.empty_like(x))} if torch is not None else {}
    check(name, x, axis, ours(x, axis=axis, **outs))
    calls = {
        "ours": partial(ours, x, axis=axis, **outs),
        "scipy": partial(getattr(scipy.special, name), x, axis=axis),
        "reference": partial(getattr(reference, name), x, axis=axis),
    }
    fastest = movers(x, limit)
    if theirs is not None:
        calls["torch"] = partial(theirs, torch.from_numpy(x), axis, **torch_outs)
    if name == "logsumexp":
        calls["stats"] = partial(logitkit.softmax_stats, x, axis=axis)
    times = paired_times({**calls, **fastest}, rounds=ROUNDS)
    times[limit] = np.minimum.reduce([times[mover] for mover in fastest])
    ratios = {peer: Ratio(times[peer], times["ours"]) for peer in [*PEERS, limit]}
    columns = [ratios[limit].percent() if peer == limit else str(ratios[peer]) for peer in ratios]
    missed = [
        f"{aim:.0%} of {peer}" if peer == limit else f"{aim:g} {peer}"
        for peer, aim in aims_for(name, x, axis).items()
        if peer in ratios and ratios[peer].median < aim
    ]
    if "stats" in times:
        stats = Ratio(times["stats"], times["ours"])
        columns.append(str(stats))
        missed += ["1.3 stats"] if stats.median > 1.3 and not QUICK else []
    moved = x.nbytes * (1 if limit == "read" else 2) / 1e9
    rates = [f"{moved / np.median(times[who]):6.1f}" for who in ("ours", limit)]
    print(
        f"  {shape!s:>15} axis {axis} {x.dtype.name} {rates[0]} of {rates[1]} GB/s",
        *columns,
        f"< {', '.join(missed)}" if missed else "",
        sep="  ",
        flush=True,
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
    ratio = Ratio(times["scipy"], times["ours"])
    print("  scipy over ours", ratio, "" if ratio.median >= 15 else "< 15 scipy")
    beside = np.median(times["ours"] - times["binding"]) / many * 1e6
    print(f"  ours less the binding {beside:.2f} us", "" if beside <= 3 else "> 3 us")


def _repeat(call: partial[object], times: int) -> None:
    for _ in range(times):
        call()


def bench_denormals() -> None:
    """Print how much slower calls are whose terms or results are denormal."""
    for shape in ((1000, 1000), (15_000, 64)):
        x = normal(shape, np.float32)
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
            results = Ratio(times["results"], times["usual"])
            operands = Ratio(times["operands"], times["usual"])
            print(
                f"  {name:12} {shape!s:>12} results that underflow {results}",
                f" denormal operands {operands}",
                "" if max(results.median, operands.median) <= 2 else "> 2",
            )


def main() -> None:
    """Print all tables."""
    print_machine("numpy", "scipy", "torch")
    print("\nlogsumexp: time of", *PEERS, "over ours; share of read bandwidth; stats over ours")
    for group in (LARGE, MIDDLE, SHORT):
        for dtype in (np.float32, np.float64):
            for shape, axis in group:
                bench("logsumexp", shape, axis, dtype)
    for name in ("softmax", "log_softmax"):
        print(f"\n{name}: time of", *PEERS, "over ours; share of copy bandwidth")
        for dtype in (np.float32, np.float64):
            for shape, axis in (*LARGE[1:3], *MIDDLE, *SHORT[:2]):
                bench(name, shape, axis, dtype)
    print("\nlogsumexp of 1 x 16 float32")
    bench_calls()
    print("\ntime over that of usual logits, float32")
    bench_denormals()


if __name__ == "__main__":
    main()
