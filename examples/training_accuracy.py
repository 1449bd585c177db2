"""
Training for accuracy itself: three points that cross-entropy gets wrong, and what decides.

Runs in a few seconds, on the processor:

    pip install . && python examples/training_accuracy.py
"""

import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar

from logitkit import losses

POINTS, LABELS = np.array([-0.25, 0.0, 0.25]), np.array([0, 0, 1])
cross_entropy = losses.stretched(losses.smooth_accuracy)


def headline(text: str) -> None:
    """Print a title with a line under it."""
    print(f"\n{text}\n{'-' * len(text)}")


def logits(b: float, k: float = 1.0) -> np.ndarray:
    """Return those of the model k (x - b), whose only parameter is b."""
    f = k * (POINTS - b)
    return np.stack([np.zeros(3), f], 1)


def best(loss: Callable[[float], float]) -> float:
    """Return the b of least loss."""
    grid = np.linspace(-1.0, 3.0, 401)
    start = grid[np.argmin([loss(b) for b in grid])]
    near = (start - 0.02, start + 0.02)
    return minimize_scalar(loss, bounds=near, method="bounded", options={"xatol": 1e-9}).x


def three_points() -> None:
    """Fit the model by several losses; b between 0 and 1/4 tells all three points apart."""
    headline("x = -1/4, 0 and 1/4, the last one positive; model x - b")
    candidates: list[tuple[str, Callable[[float], float]]] = [
        ("cross-entropy", lambda b: cross_entropy(logits(b), LABELS)),
    ]
    for k in (2.0, 4.0, 16.0):
        candidates.append(
            (f"cross-entropy of {k:g} (x - b)", lambda b, k=k: cross_entropy(logits(b, k), LABELS))
        )
    for sigma in (0.5, 0.3, 0.2, 0.1):
        candidates.append(
            (
                f"expected accuracy, noise {sigma}",
                lambda b, s=sigma: losses.expected_accuracy(logits(b), LABELS, scale=s),
            )
        )
    for t in (0.3, 0.1):
        candidates.append(
            (
                f"smooth accuracy, temperature {t}",
                lambda b, t=t: losses.smooth_accuracy(logits(b, 1.0 / t), LABELS),
            )
        )
    print(f"  {'loss':32s} {'best b':>8s}  points right")
    for name, loss in candidates:
        b = best(loss)
        right = int(((b < POINTS) == LABELS).sum())
        print(f"  {name:32s} {b:8.4f}  {right} of 3")
    print("It is the temperature that decides, not the loss.")


def sampled() -> None:
    """Compare the published sampling with the quadrature, in error and in processor time."""
    headline("Probability of one of n equal classes: 16 samples of Genz against quadrature")
    print("      n   relative spread   error of quadrature   seconds: samples, quadrature")
    for n in (3, 10, 100, 300):
        x = np.zeros((1, n))
        estimates = [
            1.0 - losses.expected_accuracy(x, [0], method="genz", seed=seed) for seed in range(50)
        ]
        exact = 1.0 - losses.expected_accuracy(x, [0])
        seconds = []
        for method in ("genz", "quadrature"):
            start = time.process_time()
            losses.value_and_grad(losses.expected_accuracy)(x, [0], method=method)
            seconds.append(time.process_time() - start)
        print(
            f"  {n:5d}   {np.std(estimates) * n:15.1%}   {abs(exact * n - 1.0):19.0e}"
            f"   {seconds[0]:17.3f}, {seconds[1]:.3f}"
        )


def schedules() -> None:
    """Show the weights with which a metric comes in after cross-entropy."""
    headline("Noise that shrinks, and a metric that comes in late")
    noise, weight = losses.GeometricSchedule(10.0, 0.01), losses.CrossEntropyFirst(0.5, 0.25)
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        print(f"  {progress:4.0%}   noise {noise(progress):7.4f}   metric {weight(progress):.2f}")


if __name__ == "__main__":
    three_points()
    sampled()
    schedules()
