"""Maps from logits to probabilities beside softmax, by their definitions."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows import floating
from ._softmax import softmax


def entmax(x: Any, /, axis: int = -1, *, alpha: float = 1.5) -> NDArray[np.float64]:
    """Entmax: ``max((alpha - 1) x - tau, 0)^(1 / (alpha - 1))`` that sums to 1, by bisection."""
    if alpha == 1.0:
        return np.asarray(softmax(x, axis=axis))
    z = (alpha - 1.0) * floating(x)
    upper = z.max(axis=axis, keepdims=True)
    lower = upper - 1.0
    for _ in range(200):
        tau = 0.5 * (lower + upper)
        p = np.maximum(z - tau, 0.0) ** (1.0 / (alpha - 1.0))
        enough = p.sum(axis=axis, keepdims=True) >= 1.0
        lower, upper = np.where(enough, tau, lower), np.where(enough, upper, tau)
    return np.asarray(p)


def sparsemax(x: Any, /, axis: int = -1) -> NDArray[np.float64]:
    """Sparsemax: entmax with alpha = 2."""
    return entmax(x, axis, alpha=2.0)


def entmax15(x: Any, /, axis: int = -1) -> NDArray[np.float64]:
    """Entmax with alpha = 1.5."""
    return entmax(x, axis, alpha=1.5)


def taylor_softmax(x: Any, /, axis: int = -1, *, order: int = 2) -> NDArray[np.float64]:
    """Softmax with the polynomial of that order in place of the exponential."""
    x = floating(x)
    f = np.sum([x**degree / math.factorial(degree) for degree in range(order + 1)], axis=0)
    return np.asarray(f / f.sum(axis=axis, keepdims=True))


def top_k_softmax(x: Any, /, axis: int = -1, *, k: int) -> NDArray[np.float64]:
    """Softmax of the `k` largest logits, the first ones of equal ones; 0 elsewhere."""
    x = np.moveaxis(floating(x), axis, -1)
    order = np.argsort(-x, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return np.moveaxis(softmax(np.where(rank < k, x, -np.inf), axis=-1), -1, axis)


def margin_softmax(
    x: Any, target: Any, /, axis: int = -1, *, margin: float = 0.35
) -> NDArray[np.float64]:
    """Softmax with the logit of the target lowered by a margin."""
    x = np.moveaxis(floating(x), axis, -1)
    lowered = x - margin * (np.arange(x.shape[-1]) == np.asarray(target)[..., np.newaxis])
    return np.moveaxis(softmax(lowered, axis=-1), -1, axis)


def gradient_top_k(x: Any, /, axis: int = -1, *, k: int) -> NDArray[np.float64]:
    """Probability to be in a set of `k` classes, over all such sets."""
    x = np.moveaxis(floating(x), axis, -1)
    sets = list(combinations(range(x.shape[-1]), k))
    member = np.array([[i in chosen for i in range(x.shape[-1])] for chosen in sets])
    logits = np.stack([x[..., list(chosen)].sum(axis=-1) for chosen in sets], axis=-1)
    return np.moveaxis(softmax(logits, axis=-1) @ member, -1, axis)


def threshold_top_k(
    x: Any, /, axis: int = -1, *, k: int, cdf: str = "laplace"
) -> NDArray[np.float64]:
    """Distribution function of logits above a threshold with the sum `k`, by bisection."""
    x = floating(x)
    lower = x.min(axis=axis, keepdims=True) - 800.0
    upper = x.max(axis=axis, keepdims=True) + 800.0
    for _ in range(200):
        middle = 0.5 * (lower + upper)
        t = x - middle
        if cdf == "laplace":
            p = 0.5 * (1.0 - np.sign(t) * np.expm1(-np.abs(t)))
        else:
            p = 0.5 * (1.0 + np.tanh(0.5 * t))
        enough = p.sum(axis=axis, keepdims=True) >= k
        lower, upper = np.where(enough, middle, lower), np.where(enough, upper, middle)
    return np.asarray(p)


def iterative_top_k(x: Any, /, axis: int = -1, *, k: int) -> NDArray[np.float64]:
    """Sum of `k` softmaxes of what those before have left of ``x - min(x)``."""
    x = floating(x)
    above = x - x.min(axis=axis, keepdims=True)
    total = np.zeros_like(above)
    for _ in range(k):
        total = total + softmax((1.0 - total) * above, axis=axis)
    return np.asarray(total)
