"""Cross-entropy of a linear layer against PyTorch's in chunks: processor time, and memory."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from harness import Ratio, print_machine
from logitkit import losses
from logitkit.reference import losses as reference

CHUNKS = (256, 512, 1024)


def problem(options: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an input, a weight and classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.rows, options.columns), np.float32) * np.float32(0.1)
    weight = rng.standard_normal((options.classes, options.columns), np.float32)
    y = rng.integers(0, options.classes, options.rows)
    return torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(y)


def candidates(names: list[str]) -> dict[str, Callable[..., torch.Tensor]]:
    """Return the functions to compare: ours, and PyTorch's with chunks of some rows."""
    peer = torch.nn.functional.linear_cross_entropy
    chunked = {
        f"torch {n}": partial(peer, options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=n))
        for n in CHUNKS
    }
    every = {"logitkit": losses.linear_cross_entropy, **chunked}
    return {name: every[name] for name in names or every}


def check(x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor) -> None:
    """Check what is timed against the definition in float64."""
    some = slice(0, 96)
    values = losses.linear_cross_entropy(x[some], weight, y[some], reduction="none").numpy()
    expected = reference.linear_cross_entropy(
        x[some].numpy(), weight.numpy(), y[some].numpy(), reduction="none"
    )
    size = (abs(x[some]) @ abs(weight.T)).amax(1).numpy()
    bound = 2.0**-24 * (4 * x.shape[1] ** 0.5 * size + 128 + 4 * abs(expected))
    assert np.all(abs(values - expected) <= bound)
    layers = [[a.detach().to(t).requires_grad_() for a in (x[some], weight)]
              for t in (torch.float32, torch.float64)]  # fmt: skip
    losses.linear_cross_entropy(*layers[0], y[some]).backward()
    torch.nn.functional.linear_cross_entropy(*layers[1], y[some]).backward()
    for ours, exact in zip(*layers, strict=True):
        assert (ours.grad - exact.grad).abs().max() <= 1e-5 * exact.grad.abs().max()


def forward(function: Callable[..., torch.Tensor], *args: torch.Tensor) -> None:
    """Compute a loss."""
    with torch.no_grad():
        function(*args)


def both(function: Callable[..., torch.Tensor], *args: torch.Tensor) -> None:
    """Compute a loss and its gradients."""
    layer = [a.detach().requires_grad_() for a in args[:2]]
    function(*layer, args[2]).backward()


def seconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call, which other work on the machine does not count in."""
    start = time.process_time()
    call()
    return time.process_time() - start


def timed(run: Callable[..., None], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return times of all candidates round by round, after one round that does not count."""
    args = problem(options)
    every = candidates([]).items()
    times = [
        {name: seconds(partial(run, f, *args)) for name, f in every}
        for _ in range(options.rounds + 1)
    ]
    return {name: np.array([of[name] for of in times[1:]]) for name in times[0]}


def peak_kib() -> int:
    """Return the largest memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return int(next(s for s in status.splitlines() if s.startswith("VmHWM")).split()[1])


def measure_memory(options: argparse.Namespace) -> None:
    """Print the memory that a call takes beyond what was there, and beyond gradients."""
    run = {"forward": forward, "both": both}[options.memory]
    function = candidates([options.only])[options.only]
    args = problem(options)
    run(function, *(a[:64] for a in args[:1]), args[1][:256], args[2][:64] % 256)
    gradients = sum(a.nbytes for a in args[:2]) if options.memory == "both" else 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what there is now
    before = peak_kib()
    run(function, *args)
    print(f"{(peak_kib() - before) / 1024 - gradients / 2**20:.1f}")


def memory_of(name: str, kind: str, options: argparse.Namespace) -> str:
    """Return the output of measure_memory() in a process of its own."""
    sizes = [f"--{key}={getattr(options, key)}" for key in ("rows", "columns", "classes")]
    call = [sys.executable, __file__, f"--memory={kind}", f"--only={name}", *sizes]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Print times, rates, memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", choices=["forward", "both"], help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["LOGITKIT_NUM_THREADS"] = "1"
    if options.memory:
        measure_memory(options)
        return
    print_machine("numpy", "torch")
    check(*problem(options))
    flops = 2.0 * options.rows * options.columns * options.classes
    print(f"linear_cross_entropy, {options.rows} x {options.columns} x {options.classes} float32")
    for kind, run, products in (("forward", forward, 1), ("both", both, 3)):
        times = timed(run, options)
        title = "forward" if kind == "forward" else "forward and backward"
        print(f"{title}, one thread; MiB beyond the arguments and gradients")
        for name, of in times.items():
            rate = products * flops / np.median(of) / 1e9
            memory = memory_of(name, kind, options)
            print(f"  {name:<12}{np.median(of):8.3f} s{rate:8.1f} GFLOP/s{memory:>9} MiB")
        best = min((np.median(of), name) for name, of in times.items() if name != "logitkit")[1]
        print(f"  x {best}: {Ratio(times[best], times['logitkit'])}")


if __name__ == "__main__":
    main()
