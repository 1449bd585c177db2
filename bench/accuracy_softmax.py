"""The softmax family against mpmath: largest errors in units in the last place (ulp).

pip install mpmath && python bench/accuracy_softmax.py

An ulp is the spacing of floating-point numbers at the exact result, rounded. Of logsumexp in
float64 below 1e-3 an error is given in units of 2^-100 if that is less.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import mpmath
import numpy as np
import scipy.special

import logitkit
from harness import print_machine
from logitkit import _cpu

try:
    import torch
except ModuleNotFoundError:
    torch = None

mpmath.mp.prec = 400
RNG = np.random.default_rng(0)


def normalised(n: int) -> np.ndarray:
    """Return rows of log-probabilities, whose log-sum-exp cancels but for their rounding."""
    x = RNG.normal(scale=3.0, size=(20, n))
    return x - scipy.special.logsumexp(x, axis=1, keepdims=True)


def pairs(n: int) -> np.ndarray:
    """Return rows of log(p), log(1 - p)."""
    p = RNG.uniform(1e-6, 1.0 - 1e-6, size=n)
    return np.stack([np.log(p), np.log1p(-p)], axis=1)


def two_levels(gap: float, n: int = 1000) -> np.ndarray:
    """Return rows with one large term and many that are each lost beside it."""
    x = np.full((20, n), -gap)
    x[:, RNG.integers(n)] = 0.0
    return x + np.linspace(-2.0, 6.0, 20)[:, None]


SUMS: dict[str, Callable[[], np.ndarray]] = {
    "normal, n = 10": lambda: RNG.normal(size=(200, 10)),
    "normal, n = 1000": lambda: RNG.normal(size=(20, 1000)),
    "spread 30, n = 257": lambda: RNG.normal(scale=30.0, size=(60, 257)),
    "spread 1e-3 about 300": lambda: 300.0 + RNG.normal(scale=1e-3, size=(60, 100)),
    "equal terms, n = 1 .. 60": lambda: np.repeat(RNG.normal(size=(60, 1)), 60, axis=1),
    "one above many, 17.3": lambda: two_levels(17.3),
    "one above many, 36.7": lambda: two_levels(36.7),
    "log p, log(1 - p)": lambda: pairs(300),
    "0, -t": lambda: np.stack([np.zeros(100), -np.linspace(1.0, 700.0, 100)], axis=1),
    "log-probabilities, n = 1000": lambda: normalised(1000),
}
MAPS: dict[str, Callable[[], np.ndarray]] = {
    "spread 5, n = 1000": lambda: RNG.normal(scale=5.0, size=(20, 1000)),
    "spread 1, n = 50": lambda: RNG.normal(size=(50, 50)),
    "spread 40, n = 300": lambda: RNG.normal(scale=40.0, size=(20, 300)),
    "one dominates": lambda: np.stack([np.zeros(30), -np.linspace(1.0, 80.0, 30)], axis=1),
}


def error(actual: float, exact: mpmath.mpf, dtype: np.dtype, *, sum_: bool) -> float:
    """Return the error of one result in ulp, or in units of 2^-100."""
    distance = abs(mpmath.mpf(float(actual)) - exact)
    ulps = float(distance / float(np.spacing(np.abs(dtype.type(float(exact))))))
    small = sum_ and dtype == np.float64 and abs(exact) < 1e-3
    return min(ulps, float(distance * 2**100)) if small else ulps


def exact_sum(row: np.ndarray) -> mpmath.mpf:
    """Return log-sum-exp in 400 bits."""
    return mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(float(v))) for v in row))


def kernel(name: str, isa: _cpu.Isa, x: np.ndarray) -> np.ndarray:
    """Run one instruction set along axis 1."""
    out = np.empty(len(x), x.dtype) if name == "logsumexp" else np.empty_like(x)
    getattr(_cpu, name)(x, 1, out, isa=isa)
    return out


def candidates(name: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what computes `name` along axis 1: our instruction sets, then the peers."""
    ours = {isa.name: partial(kernel, name, isa) for isa in _cpu.supported_isas()}
    theirs = {"scipy": partial(getattr(scipy.special, name), axis=1)}
    if torch is not None:
        theirs["torch"] = lambda x: getattr(torch, name)(torch.from_numpy(x), 1).numpy()
    return {**ours, **theirs}


def print_table(name: str, rows: dict[str, Callable[[], np.ndarray]]) -> None:
    """Print the largest error of each candidate on each kind of row."""
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        calls = candidates(name)
        print(f"\n{name} {dtype.name:12}" + "".join(f"{who:>11}" for who in calls))
        for title, make in rows.items():
            x = make().astype(dtype)
            logs = [exact_sum(row) for row in x]
            largest = []
            for call in calls.values():
                y = call(x)
                if name == "logsumexp":
                    errors = [error(a, e, dtype, sum_=True) for a, e in zip(y, logs, strict=True)]
                else:
                    errors = [
                        error(a, exact_value(name, v, e), dtype, sum_=False)
                        for row, results, e in zip(x, y, logs, strict=True)
                        for v, a in zip(row, results, strict=True)
                    ]
                largest.append(max(errors))
            print(f"  {title:28}" + "".join(f"{e:11.3g}" for e in largest), flush=True)


def exact_value(name: str, x: float, log_sum: mpmath.mpf) -> mpmath.mpf:
    """Return softmax or its logarithm of one term."""
    difference = mpmath.mpf(float(x)) - log_sum
    return difference if name == "log_softmax" else mpmath.exp(difference)


def print_columns() -> None:
    """Print the error of 64 sums of 100,000 float32 numbers each, along axis 0."""
    x = RNG.normal(size=(10**5, 64)).astype(np.float32)
    exact = np.array([logitkit.logsumexp(x[:, i].astype(np.float64)) for i in range(64)])
    ulp = np.spacing(exact.astype(np.float32))
    peers = {"logitkit": logitkit.logsumexp, "scipy": scipy.special.logsumexp}
    if torch is not None:
        peers["torch"] = lambda x, axis: torch.logsumexp(torch.from_numpy(x), axis).numpy()
    print("\n100,000 x 64 float32 along axis 0")
    for who, call in peers.items():
        print(f"  {who:10} {np.max(np.abs(call(x, axis=0) - exact) / ulp):8.2f}")


def main() -> None:
    """Print all tables."""
    print_machine("numpy", "scipy", "torch", "mpmath")
    print_table("logsumexp", SUMS)
    print_columns()
    print_table("softmax", MAPS)
    print_table("log_softmax", MAPS)


if __name__ == "__main__":
    main()
