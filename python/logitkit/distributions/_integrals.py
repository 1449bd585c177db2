"""What the integrals of argmax(logits + noise) are computed with: kernels, closed forms, NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _cpu, reference
from .._logsumexp import logsumexp
from .._softmax import log_softmax, softmax
from . import _reversed_exponential as reversed_exponential
from ._noise import (
    Cauchy,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    Noise,
    Normal,
    ReversedExponential,
    StudentT,
    Uniform,
)
from ._student_table import MOST_DF, student_table

# All functions take dense rows (r, n) of float32 or float64 and return arrays of their type.

_LAWS: dict[type[Any], _cpu.NoiseLaw] = {
    Normal: _cpu.NoiseLaw.normal,
    Logistic: _cpu.NoiseLaw.logistic,
    Laplace: _cpu.NoiseLaw.laplace,
    Cauchy: _cpu.NoiseLaw.cauchy,
    Uniform: _cpu.NoiseLaw.uniform,
    Exponential: _cpu.NoiseLaw.exponential,
}


def _law(noise: Noise) -> _cpu.NoiseLaw | None:
    if isinstance(noise, StudentT):
        return student_table(noise.df) if noise.df <= MOST_DF else None
    return _LAWS.get(type(noise))


def _shifted(x: Any, scale: float) -> Any:
    """Return rows in float64 and in units of the scale, their maximum zero."""
    x = x.astype(np.float64)
    return (x - np.max(x, axis=-1, keepdims=True)) / scale


def probs(x: Any, noise: Noise, scale: float) -> Any:
    """P(argmax = i)."""
    if (law := _law(noise)) is not None:
        out = np.empty_like(x)
        _cpu.noise_argmax_probs(x, law, scale, out)
        return out
    if isinstance(noise, Gumbel):
        return softmax(_shifted(x, scale), axis=-1).astype(x.dtype)
    return np.exp(log_probs(x.astype(np.float64), noise, scale)).astype(x.dtype)


def log_probs(x: Any, noise: Noise, scale: float) -> Any:
    """Log P(argmax = i)."""
    if (law := _law(noise)) is not None:
        out = np.empty_like(x)
        _cpu.noise_argmax_log_probs(x, law, scale, out)
        return out
    if isinstance(noise, Gumbel):
        return log_softmax(_shifted(x, scale), axis=-1).astype(x.dtype)
    if isinstance(noise, ReversedExponential):
        return reversed_exponential.log_probs(_shifted(x, scale)).astype(x.dtype)
    return reference.noise_argmax_log_probs(x, noise, scale=scale).astype(x.dtype)


def log_prob(x: Any, index: Any, noise: Noise, scale: float) -> Any:
    """Log P(argmax = index[row]), far into the tail."""
    if (law := _law(noise)) is not None:
        out = np.empty(len(x), x.dtype)
        _cpu.noise_argmax_log_prob(x, index, law, scale, out, None)
        return out
    if isinstance(noise, (Gumbel, ReversedExponential)):
        of_all = log_probs(x, noise, scale)
        return np.take_along_axis(of_all, index[:, None].astype(np.intp), axis=-1)[:, 0]
    index = index.astype(np.intp)
    return reference.noise_argmax_log_prob(x, index, noise, scale=scale).astype(x.dtype)


def score(x: Any, index: Any, noise: Noise, scale: float) -> Any:
    """Return the gradient of `log_prob`."""
    if (law := _law(noise)) is not None:
        gradients = np.empty_like(x)
        _cpu.noise_argmax_log_prob(x, index, law, scale, np.empty(len(x), x.dtype), gradients)
        return gradients
    one_hot = np.zeros(x.shape)
    np.put_along_axis(one_hot, index[:, None].astype(np.intp), 1.0, axis=-1)
    if isinstance(noise, Gumbel):
        return ((one_hot - softmax(_shifted(x, scale), axis=-1)) / scale).astype(x.dtype)
    log_p = log_prob(x.astype(np.float64), index, noise, scale)[:, None]
    if isinstance(noise, ReversedExponential):
        gradient = reversed_exponential.vjp(_shifted(x, scale), one_hot, log_p) / scale
        return gradient.astype(x.dtype)
    gradient = reference.noise_argmax_vjp(x, one_hot, noise, scale=scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(log_p > -np.inf, gradient / np.exp(log_p), 0.0).astype(x.dtype)


def vjp(x: Any, cotangent: Any, noise: Noise, scale: float) -> Any:
    """Return the gradient of the inner product of `probs` with `cotangent`."""
    if (law := _law(noise)) is not None:
        out = np.empty_like(x)
        _cpu.noise_argmax_vjp(x, cotangent, law, scale, out)
        return out
    if isinstance(noise, Gumbel):
        p = softmax(_shifted(x, scale), axis=-1)
        mean = np.sum(p * cotangent, axis=-1, keepdims=True)
        return (p * (cotangent - mean) / scale).astype(x.dtype)
    if isinstance(noise, ReversedExponential):
        shifted = _shifted(x, scale)
        return (reversed_exponential.vjp(shifted, cotangent, 0.0) / scale).astype(x.dtype)
    return reference.noise_argmax_vjp(x, cotangent, noise, scale=scale).astype(x.dtype)


def second_vjp(x: Any, cotangent: Any, direction: Any, noise: Noise, scale: float) -> Any:
    """Return the derivative of `vjp` along `direction`, in NumPy."""
    if isinstance(noise, ReversedExponential):
        shifted = _shifted(x, scale)
        result = reversed_exponential.second_vjp(shifted, cotangent, direction, 0.0) / scale**2
        return result.astype(x.dtype)
    return reference.noise_argmax_second_vjp(x, cotangent, direction, noise, scale=scale).astype(
        x.dtype
    )


def score_vjp(x: Any, index: Any, cotangent: Any, noise: Noise, scale: float) -> Any:
    """Return the product of the Jacobian of `score`, which is symmetric, in NumPy."""
    if not isinstance(noise, ReversedExponential):
        index = index.astype(np.intp)
        result = reference.noise_argmax_score_vjp(x, index, cotangent, noise, scale=scale)
        return result.astype(x.dtype)
    shifted, one_hot = _shifted(x, scale), np.zeros(x.shape)
    np.put_along_axis(one_hot, index[:, None].astype(np.intp), 1.0, axis=-1)
    log_p = log_prob(x.astype(np.float64), index, noise, scale)[:, None]
    possible = np.where(log_p > -np.inf, log_p, 0.0)
    slope = reversed_exponential.vjp(shifted, one_hot, possible)
    second = reversed_exponential.second_vjp(shifted, one_hot, cotangent, possible)
    result = second - slope * np.sum(slope * cotangent, axis=-1, keepdims=True)
    return (np.where(log_p > -np.inf, result, 0.0) / scale**2).astype(x.dtype)


def expected_max(x: Any, noise: Noise, scale: float) -> Any:
    """E max(logits + scale * noise)."""
    if (law := _law(noise)) is not None:
        out = np.empty(len(x), x.dtype)
        _cpu.noise_argmax_expected_max(x, law, scale, out)
        return out
    peak = np.max(x, axis=-1).astype(np.float64)
    if isinstance(noise, Gumbel):
        mean = logsumexp(_shifted(x, scale), axis=-1) + np.euler_gamma
        return (peak + scale * mean).astype(x.dtype)
    if isinstance(noise, ReversedExponential):
        mean = reversed_exponential.expected_max(_shifted(x, scale))
        return (peak + scale * mean).astype(x.dtype)
    return reference.noise_argmax_expected_max(x, noise, scale=scale).astype(x.dtype)
