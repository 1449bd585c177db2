"""Cross-entropy of logits against PyTorch, forward, and with its gradient; processor time."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from harness import Ratio, print_machine
from logitkit import _cpu, losses
from logitkit.reference import losses as reference


def seconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call, which other work on the machine does not count in."""
    start = time.process_time()
    call()
    return time.process_time() - start


def paired(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Return the times of all candidates round by round, after one round that does not count."""
    times = [{name: seconds(call) for name, call in candidates.items()} for _ in range(rounds + 1)]
    return {name: np.array([of[name] for of in times[1:]]) for name in candidates}


def check(x: np.ndarray, y: np.ndarray) -> None:
    """Check what is timed against the reference, with the bounds of the docstring."""
    values, gradient = losses.value_and_grad(losses.cross_entropy)(x, y, reduction="none")
    expected = reference.cross_entropy(x, y, reduction="none")
    assert np.all(abs(values - expected) <= 2.0**-22 * (1 + expected) + 2.0**-23 * expected)
    given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.cross_entropy(given, torch.tensor(y), reduction="sum").backward()
    assert np.all(abs(gradient - given.grad.numpy()) <= 2.0**-22)


def with_gradient(function: Callable[..., torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
    """Compute a loss and its gradient."""
    x.grad = None
    function(x, y).backward()


def main() -> None:
    """Print times, rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["LOGITKIT_NUM_THREADS"] = "1"
    print_machine("numpy", "torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.rows, options.classes), np.float32) * np.float32(3.0)
    y = rng.integers(0, options.classes, options.rows)
    check(x[:64], y[:64])
    values, labels = np.empty(len(x)), torch.tensor(y)
    tensor = torch.from_numpy(x)
    moving = tensor.detach().requires_grad_()
    peer = torch.nn.functional.cross_entropy
    print(f"cross_entropy, {options.rows} x {options.classes} float32, one thread")
    forward = paired(
        {
            "logitkit": lambda: _cpu.cross_entropy(x, y, values, threads=1),
            "torch": lambda: peer(tensor, labels),
            "read": tensor.sum,
            "reference": lambda: reference.cross_entropy(x[:16], y[:16]),
        },
        options.rounds,
    )
    forward["reference"] *= len(x) / 16
    backward = paired(
        {
            "logitkit": partial(with_gradient, losses.cross_entropy, moving, labels),
            "torch": partial(with_gradient, peer, moving, labels),
        },
        max(2, options.rounds // 2),
    )
    for name, times in forward.items():
        rate = x.nbytes / np.median(times) / 1e9
        print(f"  forward {name:<12} {np.median(times) * 1e3:9.1f} ms {rate:7.2f} GB/s")
    for name, times in backward.items():
        print(f"  forward and backward {name:<9} {np.median(times) * 1e3:9.1f} ms")
    print(f"  forward, x torch: {Ratio(forward['torch'], forward['logitkit'])}")
    print(f"  forward, of the time of a sum: {Ratio(forward['read'], forward['logitkit'])}")
    print(f"  forward and backward, x torch: {Ratio(backward['torch'], backward['logitkit'])}")


if __name__ == "__main__":
    main()
