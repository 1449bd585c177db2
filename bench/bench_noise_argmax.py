"""Probabilities of argmax(logits + noise), and the expected accuracy, against NumPy and torch.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python bench/bench_noise_argmax.py [--quick]

One thread, in its processor time, for others may be at work on the machine. Results are compared
with the float64 reference, or with a sum that is known, before anything is timed, on the same
calls. A ratio is the median over rounds of that within a round, with its 10th and 90th percentile.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy.special import log_ndtr

from harness import Ratio, print_machine
from logitkit import _cpu, reference
from logitkit.distributions import (
    ArgmaxNoise,
    Cauchy,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    Normal,
    ReversedExponential,
    Uniform,
)

try:
    import torch
except ModuleNotFoundError:
    torch = None
else:
    torch.set_num_threads(1)

QUICK = "--quick" in sys.argv
NODES = 64
NOISES = [
    Normal(),
    Logistic(),
    Laplace(),
    Gumbel(),
    Uniform(),
    Exponential(),
    ReversedExponential(),
    Cauchy(),
]


def cpu_times(calls: dict[str, object], *, rounds: int) -> dict[str, np.ndarray]:
    """Return the processor times of this thread, round by round, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(-1, 2 if QUICK else rounds):  # the first one warms the caches up
        for name, call in calls.items():
            start = time.thread_time()
            call()
            if round_ >= 0:
                times[name].append(time.thread_time() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


def report(title: str, times: dict[str, np.ndarray]) -> None:
    """Print the times of candidates, the first of which is ours."""
    print(f"\n{title}")
    ours = next(iter(times.values()))
    for name, seconds in times.items():
        print(f"  {name:<34}{np.median(seconds) * 1e3:10.2f} ms{Ratio(seconds, ours)!s:>26}x")


def normal_log_cdf(x: np.ndarray) -> np.ndarray:
    """Return log Phi in the type of x."""
    return log_ndtr(x)


def numpy_rule(x: np.ndarray) -> np.ndarray:
    """Integrate with 64 shared nodes of the trapezoidal rule: the reference, vectorised."""
    u, step = np.linspace(x.max() - 6.0, x.max() + 9.0, NODES, dtype=x.dtype, retstep=True)
    log_cdf = normal_log_cdf(u[:, None] - x)
    log_g = log_cdf.sum(axis=1, dtype=np.float64)
    log_r = -0.5 * np.square(u[:, None] - x) - log_cdf - np.float32(0.918938533)
    return (step * np.exp(log_g)).astype(x.dtype) @ np.exp(log_r)


def relative_error(p: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error of probabilities above 1e-30."""
    counts = expected > 1e-30
    return float(np.max(np.abs(p[counts] / expected[counts] - 1.0)))


def accuracy() -> None:
    """Print errors of the default call, for every law."""
    print(f"\n{'relative error where p > 1e-30':<34}{'float64':>10}{'float32':>10}")
    rng = np.random.default_rng(0)
    for noise in NOISES:
        spread = 0.3 if isinstance(noise, Uniform) else 1.5
        for n in (2, 10, 100):
            x = rng.normal(scale=spread, size=(1, n)).astype(np.float32)
            expected = reference.noise_argmax_probs(x, noise)
            errors = [
                relative_error(ArgmaxNoise(x.astype(dtype), noise).probs, expected)
                for dtype in (np.float64, np.float32)
            ]
            name = f"  {type(noise).__name__}, n = {n}"
            print(f"{name:<34}{errors[0]:>10.1e}{errors[1]:>10.1e}")
        n = 50_000
        p = ArgmaxNoise(np.zeros(n), noise).probs
        single = ArgmaxNoise(np.zeros(n, np.float32), noise).probs
        errors = [relative_error(q, np.full(n, 1.0 / n)) for q in (p, single)]
        name = f"  {type(noise).__name__}, {n} equal"
        print(f"{name:<34}{errors[0]:>10.1e}{errors[1]:>10.1e}")


def many_classes() -> None:
    """Time the probabilities of 50,000 classes."""
    x = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    p = ArgmaxNoise(x).probs
    assert abs(p.sum(dtype=np.float64) - 1.0) <= 1e-6
    assert np.max(np.abs(p - numpy_rule(x))) <= 1e-4 * p.max()
    calls = {
        "logitkit, float32": lambda: ArgmaxNoise(x).probs,
        "logitkit, float64": lambda: ArgmaxNoise(x.astype(np.float64)).probs,
        f"NumPy, {NODES} nodes, float32": lambda: numpy_rule(x),
    }
    report("50,000 classes, normal noise: probabilities", cpu_times(calls, rounds=7))
    calls = {
        type(noise).__name__: lambda noise=noise: ArgmaxNoise(x, noise).probs for noise in NOISES
    }
    report("50,000 classes, float32: probabilities by law", cpu_times(calls, rounds=5))


def torch_rule(x: torch.Tensor) -> torch.Tensor:
    """Write the same quadrature as one would in torch."""
    top = x.detach().amax(dim=1, keepdim=True)
    offsets = torch.linspace(-6.0, 9.0, NODES)
    z = (top + offsets)[:, :, None] - x[:, None, :]
    log_cdf = torch.special.log_ndtr(z)
    log_g = log_cdf.sum(dim=2, keepdim=True)
    log_r = -0.5 * z.square() - log_cdf - 0.918938533
    return (15.0 / (NODES - 1)) * (log_g + log_r).exp().sum(dim=1)


def batch() -> None:
    """Time probabilities and their vector-Jacobian product for a batch."""
    rng = np.random.default_rng(2)
    x, g = rng.normal(size=(2, 256, 1000)).astype(np.float32)
    d = ArgmaxNoise(x)
    rows = slice(0, 2)
    expected = reference.noise_argmax_vjp(x[rows], g[rows], Normal())
    assert np.max(np.abs(d.vjp(g)[rows] - expected)) <= 2e-6 * np.max(np.abs(g))

    def ours() -> None:
        _ = d.probs
        d.vjp(g)

    calls: dict[str, object] = {"logitkit": ours}
    if torch is not None:
        tensor, cotangent = torch.tensor(x, requires_grad=True), torch.tensor(g)

        def peer() -> None:
            tensor.grad = None
            torch_rule(tensor).backward(cotangent)

        peer()
        assert np.max(np.abs(tensor.grad.numpy() - d.vjp(g))) <= 1e-3 * np.max(np.abs(g))
        calls[f"torch, {NODES} nodes"] = peer
    report("256 x 1,000, float32: probabilities and gradient", cpu_times(calls, rounds=3))


def genz(deltas: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return P(X_j < deltas[..., j] for all j), X ~ N(0, I + 11^T), and its gradient.

    The sequential conditioning of A. Genz, "Numerical computation of multivariate normal
    probabilities", 1992, with the Cholesky factor in closed form, as the paper on EXACT
    (arXiv 2205.09615) has it: 16 samples; coordinates in ascending order; draws clipped at 5; a
    chain more for each coordinate of the gradient, in which that one stays at its limit and
    contributes its density. `uniforms` is (j, samples).
    """
    m, order = deltas.sort(dim=-1)
    size = m.shape[-1]
    draws = torch.zeros(*m.shape[:-1], size + 1, uniforms.shape[1])  # (..., chains, samples)
    weights = torch.ones_like(draws)
    variance = 1.0  # of the common part, given the coordinates before
    for j in range(size):
        diagonal = (1.0 + variance) ** 0.5
        t = (m[..., j, None, None] - draws) / diagonal
        e = torch.special.ndtr(t)
        y = torch.special.ndtri(e * uniforms[j]).clamp(-5.0, 5.0)
        factor = e.clone()
        factor[..., j, :] = torch.exp(-0.5 * t[..., j, :] ** 2) / (diagonal * (2 * np.pi) ** 0.5)
        y[..., j, :] = t[..., j, :]
        weights *= factor
        draws += variance / diagonal * y
        variance = variance / (1.0 + variance)
    means = weights.mean(dim=-1)
    gradient = torch.empty_like(m).scatter_(-1, order, means[..., :size])
    return means[..., size], gradient


def expected_accuracy() -> None:
    """Time P(the label's noisy logit is the largest) and its gradient."""
    n, rows = 1000, 2
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, n))
    labels = np.argmax(x, axis=1)
    law = _cpu.NoiseLaw.normal
    index = labels.astype(np.uintp)
    log_p, gradients = np.empty(rows), np.empty_like(x)

    def ours() -> None:
        _cpu.noise_argmax_log_prob(x, index, law, 1.0, log_p, gradients, threads=1)

    ours()
    expected = reference.noise_argmax_probs(x, Normal())[np.arange(rows), labels]
    error = np.max(np.abs(np.exp(log_p) / expected - 1.0))
    print(f"\nexpected accuracy, {n} classes: our relative error {error:.1e}")
    assert error <= 1e-9
    if torch is None:
        return
    others = [np.delete(row, label) for row, label in zip(x, labels, strict=True)]
    deltas = torch.tensor(x[np.arange(rows), labels][:, None] - np.array(others)).float()
    generator = torch.Generator().manual_seed(0)

    def peer() -> torch.Tensor:
        return genz(deltas, torch.rand(n - 1, 16, generator=generator))[0]

    estimates = np.stack([peer().numpy() for _ in range(3 if QUICK else 8)])
    spread = np.sqrt(np.mean((estimates / expected - 1.0) ** 2))
    print(f"  relative error of Genz's algorithm, 16 samples: {spread:.0%}")
    times = cpu_times({"logitkit": ours, "Genz, 16 samples, torch": peer}, rounds=3)
    report(f"{rows} x {n}: expected accuracy and gradient", times)


if __name__ == "__main__":
    print_machine("numpy", "scipy", "torch")
    accuracy()
    many_classes()
    batch()
    expected_accuracy()
