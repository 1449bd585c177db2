"""Random numbers and the update of a sampler against NumPy and torch: speed on one thread.

OMP_NUM_THREADS=1 LOGITKIT_NUM_THREADS=1 python bench/bench_random.py [--quick]

All candidates of a line run in turn, many times, in processor time; each figure is the median
over the rounds of a ratio within a round, and behind it its 10th and 90th percentile. Results are
compared with the reference before they are timed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from harness import Ratio, print_machine
from logitkit import reference
from logitkit._diffusion_update import diffusion_update
from logitkit.random import Philox, gumbel_argmax, gumbel_top_k

try:
    import torch

    torch.set_num_threads(1)
except ModuleNotFoundError:
    torch = None

ROUNDS = 3 if "--quick" in sys.argv else 15
TYPES = [np.float32, np.float64]
RNG = Philox(1)


def paired(calls: Mapping[str, Callable[[], object]], repeat: int = 1) -> dict[str, np.ndarray]:
    """Return the processor times of all candidates, in seconds, round by round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call()  # what it reads is where it leaves it
            start = time.process_time()
            for _ in range(repeat):
                call()
            times[name].append((time.process_time() - start) / repeat)
    return {name: np.array(seconds) for name, seconds in times.items()}


def line(title: str, size: int, times: dict[str, np.ndarray]) -> None:
    """Print the time of an element and the ratios to all others."""
    print(f"  {title:<40}{np.median(times['ours']) / size * 1e9:7.2f} ns an element", end="")
    ratios = (f"{name} {Ratio(times[name], times['ours'])}" for name in times if name != "ours")
    print("", *ratios, sep="   ")


def bench_law(law: str, dtype: type) -> None:
    """Print one line: a law by Philox, by NumPy's generator and by torch's."""
    size = 2**17
    expected = getattr(reference.Philox(RNG.seed), law)(1, size)
    tolerance = 2.0**-21 if dtype == np.float32 else 2.0**-50
    error = np.abs(getattr(RNG, law)(1, size, dtype) - expected)
    assert np.all(error <= tolerance * (1.0 + np.abs(expected)))
    calls = {"ours": partial(getattr(RNG, law), 1, size, dtype)}
    generator, out = np.random.default_rng(1), np.empty(size, dtype)
    if law == "normal":
        calls["numpy"] = partial(generator.standard_normal, out=out, dtype=dtype)
    elif law == "exponential":
        calls["numpy"] = partial(generator.standard_exponential, out=out, dtype=dtype)
    elif law == "uniform":
        calls["numpy"] = partial(generator.random, out=out, dtype=dtype)
    else:
        calls["numpy"] = partial(generator.gumbel, size=size)
    if torch is not None and law == "normal":
        calls["torch"] = torch.from_numpy(out).normal_
    line(f"{law} {np.dtype(dtype).name}", size, paired(calls, repeat=3))


def bench_choice(n: int) -> None:
    """Print two lines: a class from a softmax over `n`, and 64 of them without replacement."""
    logits = np.random.default_rng(0).normal(size=(2**20 // n, n)).astype(np.float32)
    np.testing.assert_array_equal(
        gumbel_top_k(logits, 64, RNG).indices, reference.gumbel_top_k(logits, 64, RNG).indices
    )
    generator = np.random.default_rng(1)
    calls = {
        "ours": partial(gumbel_argmax, logits, RNG),
        "numpy": lambda: np.argmax(logits + generator.gumbel(size=logits.shape), axis=1),
    }
    if torch is not None:
        tensor = torch.from_numpy(logits)
        calls["torch multinomial"] = lambda: torch.multinomial(torch.softmax(tensor, 1), 1)
    line(f"argmax of {n} classes", logits.size, paired(calls))
    calls = {"ours": partial(gumbel_top_k, logits, 64, RNG)}
    if torch is not None:
        calls["torch multinomial"] = lambda: torch.multinomial(torch.softmax(tensor, 1), 64)
    line(f"64 of {n} classes", logits.size, paired(calls))


def bench_update(shape: tuple[int, ...], dtype: type, noisy: bool) -> None:
    """Print one line: a x + b y (+ c noise) here, in NumPy and torch with out=, and a copy."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, *shape)).astype(dtype)
    out, other = np.empty_like(x), np.empty_like(x)
    a, b, c = 0.9, 0.3, 0.1 if noisy else 0.0
    expected = reference.diffusion_update(x, y, a=a, b=b, c=c, rng=RNG)
    eps = 2.0**-20 if dtype == np.float32 else 2.0**-49
    np.testing.assert_allclose(
        diffusion_update(x, y, a=a, b=b, c=c, rng=RNG), expected, rtol=0, atol=8 * eps
    )

    def by_numpy() -> None:
        np.multiply(x, dtype(a), out=out)
        np.multiply(y, dtype(b), out=other)
        np.add(out, other, out=out)
        if noisy:
            rng.standard_normal(out=other, dtype=dtype)
            np.multiply(other, dtype(c), out=other)
            np.add(out, other, out=out)

    def by_torch() -> None:
        torch.mul(tensors[0], a, out=tensors[2])
        torch.add(tensors[2], tensors[1], alpha=b, out=tensors[2])
        if noisy:
            torch.add(tensors[2], tensors[3].normal_(), alpha=c, out=tensors[2])

    calls = {
        "ours": partial(diffusion_update, x, y, a=a, b=b, c=c, rng=RNG, out=out),
        "numpy": by_numpy,
    }
    if torch is not None:
        tensors = [torch.from_numpy(array) for array in (x, y, out, other)]
        calls["torch"] = by_torch
    if not noisy:
        calls["copy"] = partial(np.copyto, out, x)
    times = paired(calls, repeat=max(1, 2**20 // x.size))
    if not noisy:  # a copy moves two arrays, the update three
        times["of copy bandwidth"] = 1.5 * times.pop("copy")
    name = "a x + b y + c noise" if noisy else "a x + b y"
    line(f"{name} {shape} {np.dtype(dtype).name}", x.size, times)


if __name__ == "__main__":
    print_machine("numpy", "torch")
    print("\nLaws, 131072 numbers")
    for law in ("uniform", "exponential", "gumbel", "normal"):
        for dtype in TYPES:
            bench_law(law, dtype)
    print("\nDraws from a softmax, 2**20 logits in float32")
    for n in (1024, 32768):
        bench_choice(n)
    print("\nUpdates")
    for noisy in (False, True):
        for shape in ((4, 3, 8, 8), (8, 4, 64, 64), (16, 2**20)):
            for dtype in TYPES:
                bench_update(shape, dtype, noisy)
