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
    CorrelatedArgmaxNoise,
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


def correlated() -> None:
    """Time noise with common factors against as good an answer by draws, as far as one can."""
    rng = np.random.default_rng(4)
    print("\ncommon factors, normal noise: one row, probabilities; the same by 1e6 draws")
    for n, rank, seed in ((5, 1, None), (5, 2, None), (5, 3, None), (5, 8, 0), (1000, 1, None)):
        x, b = rng.normal(size=n), 0.7 * rng.normal(size=(n, rank))
        d = CorrelatedArgmaxNoise(x, b, rng=seed)
        p, error = d.probs_with_error()
        assert abs(p.sum() - 1.0) <= 1e-8
        draws = 10_000 if n > 5 or QUICK else 1_000_000
        chunks = [rng.normal(size=(draws // 10, rank)) for _ in range(10)]

        def simulated(x: np.ndarray = x, b: np.ndarray = b, chunks: list = chunks) -> np.ndarray:
            sums = (x + z @ b.T + rng.normal(size=(len(z), len(x))) for z in chunks)
            return sum(np.bincount(s.argmax(1), minlength=len(x)) for s in sums)

        spread = np.max(np.abs(simulated() / draws - p)) if n == 5 else np.nan
        times = cpu_times({"ours": lambda d=d: d.probs, "draws": simulated}, rounds=3)
        ours, peer = (np.median(seconds) * 1e3 for seconds in times.values())
        peer *= 1_000_000 / draws
        print(
            f"  {n:>5} classes, rank {rank}: {ours:8.1f} ms, error {float(error):.0e};"
            f" {peer:9.0f} ms, error {spread:.0e}"
        )


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


def genz(
    deltas: torch.Tensor, uniforms: torch.Tensor, *, gradient: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Return P(X_j < deltas[..., j] for all j), X ~ N(0, I + 11^T), and its gradient.

    The sequential conditioning of A. Genz, "Numerical computation of multivariate normal
    probabilities", 1992, with the Cholesky factor in closed form, as the paper on EXACT
    (arXiv 2205.09615) has it: 16 samples; coordinates in ascending order; draws clipped at 5; a
    chain more for each coordinate of the gradient, in which that one stays at its limit and
    contributes its density. `uniforms` is (j, ..., samples): the batch may
    share it.
    """
    m, order = deltas.sort(dim=-1)
    size = m.shape[-1]
    chains = size + 1 if gradient else 1  # the last one is the probability itself
    draws = torch.zeros(*m.shape[:-1], chains, uniforms.shape[-1], dtype=m.dtype)
    weights = torch.ones_like(draws)
    variance = 1.0  # of the common part, given the coordinates before
    for j in range(size):
        diagonal = (1.0 + variance) ** 0.5
        t = (m[..., j, None, None] - draws) / diagonal
        e = torch.special.ndtr(t)
        y = torch.special.ndtri(e * uniforms[j]).clamp_(-5.0, 5.0)
        if gradient:
            density = torch.exp(-0.5 * t[..., j, :] ** 2) / (diagonal * (2 * np.pi) ** 0.5)
            y[..., j, :] = t[..., j, :]
            e[..., j, :] = density
        weights *= e
        draws.add_(y, alpha=variance / diagonal)
        variance = variance / (1.0 + variance)
    means = weights.mean(dim=-1)
    if not gradient:
        return means[..., 0], None
    return means[..., size], torch.empty_like(m).scatter_(-1, order, means[..., :size])


def labelled(rows: int, n: int, seed: int, *, best: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return normal logits, and as labels the best classes or random ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, n))
    return x, np.argmax(x, axis=1) if best else rng.integers(0, n, rows)


def leads(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the lead of the label over each other class."""
    others = [np.delete(row, label) for row, label in zip(x, labels, strict=True)]
    return x[np.arange(len(x)), labels][:, None] - np.array(others)


def genz_error() -> None:
    """
    Print how far 16 samples spread, beside an earlier measurement of unknown logits.

    Of a row it is the root mean square of the relative error over repetitions; it depends on the
    logits and on the label, so that its range over rows is what can be compared.
    """
    rows, repetitions = (4, 50) if QUICK else (16, 400)
    print(f"\nGenz's algorithm, 16 samples: relative spread of P, median [range] of {rows} rows")
    print(f"{'':10}{'random label':>24}{'best label':>24}{'earlier':>12}")
    generator = torch.Generator().manual_seed(1)
    for n, earlier in ((3, 0.021), (10, 0.10), (100, 0.32), (1000, 0.86)):
        cells = []
        for best in (False, True):
            x, labels = labelled(rows, n, n, best=best)
            exact = reference_probability(x, labels)
            deltas = torch.tensor(leads(x, labels))
            found = []
            for row, p in zip(deltas, exact, strict=True):
                shape = (n - 1, repetitions, 1, 16)
                uniforms = torch.rand(shape, generator=generator, dtype=torch.float64)
                each, _ = genz(row.expand(repetitions, -1), uniforms, gradient=False)
                found.append(float(((each / p - 1.0) ** 2).mean().sqrt()))
            cells.append(f"{np.median(found):.1%} [{min(found):.1%}, {max(found):.1%}]")
        print(f"{n:>8}  {cells[0]:>24}{cells[1]:>24}{earlier:>12.1%}")


def reference_probability(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return P(the label's noisy logit is the largest)."""
    return np.array([ArgmaxNoise(row).probs[i] for row, i in zip(x, labels, strict=True)])


def best_batch(n: int) -> int:
    """Return the number of rows at a time for which Genz's algorithm is fastest by the row."""
    print(f"\nGenz's algorithm, {n} classes, torch, float32: time of a row by the batch")
    seconds = {}
    for rows in (1, 2) if QUICK else (1, 2, 4, 8, 16):
        deltas = torch.tensor(leads(*labelled(rows, n, 3, best=True))).float()
        uniforms = torch.rand(n - 1, 16, generator=torch.Generator().manual_seed(0))
        times = cpu_times({"peer": lambda d=deltas, u=uniforms: genz(d, u)}, rounds=2)["peer"]
        seconds[rows] = float(times.min()) / rows
        print(f"  {rows:>4}{seconds[rows] * 1e3:>10.1f} ms")
    return min(seconds, key=seconds.__getitem__)


def expected_accuracy() -> None:
    """Time P(the label's noisy logit is the largest) and its gradient."""
    n = 1000
    rows = 2 if torch is None else best_batch(n)
    x, labels = labelled(rows, n, 3, best=True)
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
    deltas = torch.tensor(leads(x, labels)).float()
    generator = torch.Generator().manual_seed(0)

    def peer() -> torch.Tensor:
        return genz(deltas, torch.rand(n - 1, 16, generator=generator))[0]

    estimates = np.stack([peer().numpy() for _ in range(3 if QUICK else 8)])
    errors = np.abs(estimates / expected - 1.0)
    spread = np.sqrt(np.mean(errors**2))
    print(
        f"  relative error of Genz's algorithm, 16 samples: {spread:.0%}, up to {errors.max():.0%}"
    )
    times = cpu_times({"logitkit": ours, "Genz, 16 samples, torch": peer}, rounds=3)
    report(f"{rows} x {n}: expected accuracy and gradient", times)


if __name__ == "__main__":
    print_machine("numpy", "scipy", "torch")
    accuracy()
    many_classes()
    batch()
    correlated()
    expected_accuracy()
    if torch is not None:
        genz_error()
