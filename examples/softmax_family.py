"""
Six things that go wrong with logits, and the functions that put them right.

Runs in a few seconds, on the processor:

    pip install . && python examples/softmax_family.py
"""

import math
from decimal import Context, Decimal, localcontext

import numpy as np
from scipy import special

from logitkit import (
    bounds,
    entropy_temperature,
    log1mexp,
    logaddexp,
    logsubexp,
    logsumexp,
    smooth_max,
    softmax,
)


def headline(text: str) -> None:
    """Print a title with a line under it."""
    print(f"\n{text}\n{'-' * len(text)}")


def cancellation(rng: np.random.Generator) -> None:
    """Normalise what is normalised already: the result is zero but for rounding of the input."""
    headline("Log-probabilities that sum to one")
    p = rng.dirichlet(np.ones(1000))
    log_p = np.log(p)
    print("Log of the total mass of 1000 log-probabilities. Each is rounded, so it is not 0:")
    print(f"  exactly rounded  {exact_log_sum(log_p):.6e}")
    print(f"  logitkit         {logsumexp(log_p):.6e}")
    print(f"  SciPy            {special.logsumexp(log_p):.6e}")
    x1, x2 = math.log(0.3), math.log(0.7)
    print("And of two, log(0.3) and log(0.7):")
    print(f"  logitkit         {logaddexp(x1, x2):.6e}")
    print(f"  NumPy            {np.logaddexp(x1, x2):.6e}")


def exact_log_sum(log_p: np.ndarray) -> float:
    """Return log-sum-exp in 60 decimal digits, rounded once."""
    with localcontext(Context(prec=60)):
        return float(sum(Decimal(float(x)).exp() for x in log_p).ln())


def sums_in_float32(rng: np.random.Generator) -> None:
    """Sum many rows down an axis, where float32 piles up rounding errors."""
    headline("float32 along the first axis of 100,000 x 64")
    x = rng.normal(size=(100_000, 64)).astype(np.float32)
    exact = logsumexp(x.astype(np.float64), axis=0)
    for name, function in (("logitkit", logsumexp), ("SciPy", special.logsumexp)):
        off = np.abs(function(x, axis=0) - exact) / np.spacing(exact.astype(np.float32))
        print(f"  {name:8s} off by at most {off.max():6.2f} units in the last place")


def surprise() -> None:
    """Ask for the complement of a probability that float64 cannot tell from one."""
    headline("The rest of a probability")
    log_p = -1e-20
    print(f"log(1 - p) for log(p) = {log_p}:")
    with np.errstate(divide="ignore"):
        print(f"  as written  {np.log(1.0 - np.exp(log_p))}")
    print(f"  log1mexp    {log1mexp(log_p):.6f}")
    print(f"What e^1000 has beyond e^999: e^{logsubexp(1000.0, 999.0):.6f}")


def temperatures(rng: np.random.Generator) -> None:
    """Give rows of any scale the same entropy."""
    headline("One entropy for rows of any scale")
    x = rng.normal(size=(4, 100)) * [[0.1], [1.0], [10.0], [100.0]]
    tau = entropy_temperature(x, math.log(10.0))
    p = softmax(x / tau[:, None], axis=1)
    before = np.exp(bounds.entropy(0.0 * x, softmax(x, axis=1)).lower)  # 0 + entropy
    after = np.exp(bounds.entropy(0.0 * x, p).lower)
    print("Effective number of entries, e^entropy of 100, before and after:")
    for row in range(4):
        print(f"  {before[row]:8.3f} -> {after[row]:.6f} at the temperature {tau[row]:.4f}")


def smooth_maxima() -> None:
    """Watch a smooth maximum close in on the maximum, as its bounds say."""
    headline("A smooth maximum and its bounds")
    x = [1.0, 2.0, 3.0]
    for tau in (1.0, 0.3, 0.1, 0.01):
        lower, upper = bounds.tempered(x, tau=tau)
        print(f"  tau {tau:<5} {lower:.3f} <= {smooth_max(x, tau=tau):.6f} <= {upper:.3f}")


def certificates(rng: np.random.Generator) -> None:
    """Certify log-sum-exps, and catch one that is wrong in its last digits."""
    headline("Is this log-sum-exp right?")
    x = (3.0 * rng.normal(size=(1000, 50))).astype(np.float32)
    p = softmax(x.astype(np.float64), axis=1)
    print(bounds.certify(x, y=x + np.float32(0.5), p=p, t=3.0))
    value = logsumexp(x, axis=1)
    value[417] -= 3.0 * np.spacing(value[417])
    worst = bounds.certify(x, p=p, logsumexp=value).worst
    print("\nWith one of the 1000 results three units in the last place lower:")
    print(f"  row {worst.row} violates {worst.name}: {worst.value:.7f} < {worst.lower:.7f}")


def main() -> None:
    """Show each in turn."""
    rng = np.random.default_rng(0)
    cancellation(rng)
    sums_in_float32(rng)
    surprise()
    temperatures(rng)
    smooth_maxima()
    certificates(rng)


if __name__ == "__main__":
    main()
