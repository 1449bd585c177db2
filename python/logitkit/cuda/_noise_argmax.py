"""The distribution of argmax(logits + noise) on a GPU: `logitkit.reference` with kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..distributions import (
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
from ..distributions._student_table import MOST_DF, student_polynomials
from . import _reversed_exponential as reversed_exponential
from ._arrays import (
    as_floating,
    dense,
    dtype_name,
    empty,
    lasting,
    namespace_of,
    queue,
    with_wide_types,
    workspace,
)
from ._device import kernels
from ._softmax import log_softmax, logsumexp, softmax

_LAWS: dict[type[Any], str] = {
    Normal: "normal",
    Logistic: "logistic",
    Laplace: "laplace",
    Cauchy: "cauchy",
    Uniform: "uniform",
    Exponential: "exponential",
}
_EULER_GAMMA = 0.5772156649015329
_LEAST = 1e-299  # the least probability that counts


@with_wide_types
def noise_argmax_probs(logits: Any, noise: Noise, *, scale: float = 1.0) -> Any:
    """
    Return the probabilities that classes have the largest logit and noise, on a GPU.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n)
        Logits. ``-inf`` leaves a class out.
    noise : Noise
        A law with a kernel or a closed form: `Normal`, `Logistic`, `Laplace`, `Cauchy`, `Uniform`,
        `Exponential`, `StudentT` of at most 10,000 degrees of freedom, `Gumbel` or
        `ReversedExponential`.
    scale : float, optional
        The scale of the noise, positive and finite.

    Returns
    -------
    array, shape of `logits`
        In the type of `logits`, or ``float64`` for integers: within 1e-9 of themselves in
        ``float64`` and 1e-5 in ``float32`` where they are above 1e-30. NaN in rows with NaN or
        ``+inf``, or with ``-inf`` alone.

    Raises
    ------
    TypeError
        If `logits` does not hold real numbers, or there is nothing for this noise on a GPU.
    ValueError
        If `scale` is out of range, or there is no class.

    See Also
    --------
    logitkit.distributions.ArgmaxNoise.probs : The same in main memory.
    """
    return _probabilities(logits, noise, scale, is_log=False)


@with_wide_types
def noise_argmax_log_probs(logits: Any, noise: Noise, *, scale: float = 1.0) -> Any:
    """
    Return the logarithms of `noise_argmax_probs`, ``-inf`` below ``log(1e-299)``.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n)
        Logits. ``-inf`` leaves a class out.
    noise : Noise
        The law, as in `noise_argmax_probs`.
    scale : float, optional
        The scale of the noise, positive and finite.

    Returns
    -------
    array, shape of `logits`
        In nats.

    Raises
    ------
    TypeError, ValueError
        As `noise_argmax_probs` does.
    """
    return _probabilities(logits, noise, scale, is_log=True)


@with_wide_types
def noise_argmax_vjp(logits: Any, cotangent: Any, noise: Noise, *, scale: float = 1.0) -> Any:
    """
    Return the product of a cotangent with the Jacobian of `noise_argmax_probs`, which is symmetric.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n)
        Logits. ``-inf`` leaves a class out.
    cotangent : array on the same GPU, shape (..., n)
        One number for each probability.
    noise : Noise
        The law, as in `noise_argmax_probs`.
    scale : float, optional
        The scale of the noise, positive and finite.

    Returns
    -------
    array, shape of `logits`
        Within 2e-9 ``max(abs(cotangent)) / scale`` in ``float64``, 2e-6 in ``float32``.

    Raises
    ------
    TypeError, ValueError
        As `noise_argmax_probs` does.
    """
    x, shape = _rows(logits, scale)
    xp = namespace_of(x)
    g = dense(xp.astype(xp.broadcast_to(cotangent, shape), x.dtype)).reshape(x.shape)
    if isinstance(noise, Gumbel):
        p = softmax(_shifted(x, scale), axis=-1)
        mean = xp.sum(p * g, axis=-1, keepdims=True)
        return (p * (g - mean) / scale).reshape(shape)
    if isinstance(noise, ReversedExponential):
        mu, good = _wide(x, scale)
        found = reversed_exponential.vjp(mu, xp.astype(g, xp.float64), 0.0) / scale
        return _narrow(found, good, x).reshape(shape)
    out = empty(tuple(x.shape), dtype_name(x), x)
    if x.shape[0]:
        law, polynomials = law_and_table(noise, x)
        queue(
            kernels().noise_argmax_vjp,
            x,
            g,
            law,
            float(scale),
            out,
            _memory(x),
            polynomials=polynomials,
        )
    return out.reshape(shape)


@with_wide_types
def noise_argmax_expected_max(logits: Any, noise: Noise, *, scale: float = 1.0) -> Any:
    """
    Return the expected maximum of logits and noise, on a GPU; its gradient is `noise_argmax_probs`.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n)
        Logits. ``-inf`` leaves a class out.
    noise : Noise
        The law, as in `noise_argmax_probs`; infinite for Cauchy noise, and Student's with one
        degree of freedom or less.
    scale : float, optional
        The scale of the noise, positive and finite.

    Returns
    -------
    array, shape of `logits` without its last axis
        Within 1e-9 ``(scale + abs(result))`` in ``float64``, 1e-6 in ``float32``.

    Raises
    ------
    TypeError, ValueError
        As `noise_argmax_probs` does.
    """
    x, shape = _rows(logits, scale)
    if isinstance(noise, Gumbel):
        xp = namespace_of(x)
        peak = xp.max(x, axis=-1)
        mean = logsumexp(_shifted(x, scale), axis=-1) + _EULER_GAMMA
        return (peak + scale * mean).reshape(shape[:-1])
    if isinstance(noise, ReversedExponential):
        mu, good = _wide(x, scale)
        xp = namespace_of(x)
        peak = xp.astype(xp.max(x, axis=-1), xp.float64)
        mean = reversed_exponential.expected_max(mu)
        return _narrow(peak + scale * mean, good[:, 0], x).reshape(shape[:-1])
    out = empty((x.shape[0],), dtype_name(x), x)
    if x.shape[0]:
        law, polynomials = law_and_table(noise, x)
        queue(
            kernels().noise_argmax_expected_max,
            x,
            law,
            float(scale),
            out,
            _memory(x),
            polynomials=polynomials,
        )
    return out.reshape(shape[:-1])


@with_wide_types
def noise_argmax_log_prob(
    logits: Any, index: Any, noise: Noise, *, scale: float = 1.0, return_gradient: bool = False
) -> Any:
    """
    Return the logarithm of the probability of one class of each row, far into the tail, on a GPU.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n)
        Logits. ``-inf`` leaves a class out.
    index : array of int64 on the same GPU, shape (...,)
        The classes, from 0 to ``n - 1``; NaN results from any other number.
    noise : Noise
        The law, as in `noise_argmax_probs`.
    scale : float, optional
        The scale of the noise, positive and finite.
    return_gradient : bool, optional
        Whether to return the gradient with respect to the logits too.

    Returns
    -------
    result : array, shape of `index`
        In nats: within 1e-12 ``max(1, abs(result))`` in ``float64`` down to -1e4, 2e-6 in
        ``float32``; ``-inf`` for a class that cannot win.
    gradient : array, shape of `logits`
        Only with `return_gradient`. Zero for a class that cannot win.

    Raises
    ------
    TypeError, ValueError
        As `noise_argmax_probs` does.
    """
    x, shape = _rows(logits, scale)
    xp = namespace_of(x)
    index = dense(xp.asarray(index, dtype=xp.int64, device=x.device)).reshape((-1,))
    if index.shape[0] != x.shape[0]:
        raise ValueError(f"expected an index for each of {x.shape[0]} rows, not {index.shape[0]}")
    if isinstance(noise, Gumbel):
        z = _shifted(x, scale)
        is_class = xp.arange(x.shape[1], device=x.device)[None, :] == index[:, None]
        of_all = xp.where(is_class, log_softmax(z, axis=-1), -math.inf)
        out = xp.where(xp.any(is_class, axis=-1), xp.max(of_all, axis=-1), math.nan)
        gradient = (xp.astype(is_class, x.dtype) - softmax(z, axis=-1)) / scale
    elif isinstance(noise, ReversedExponential):
        mu, good = _wide(x, scale)
        is_class = xp.arange(x.shape[1], device=x.device)[None, :] == index[:, None]
        good = good & xp.any(is_class, axis=-1, keepdims=True)
        of_class = reversed_exponential.log_prob(mu, is_class)
        possible = (of_class > -math.inf)[:, None]
        divisor = xp.where(possible, of_class[:, None], xp.zeros_like(mu[:, :1]))
        slope = reversed_exponential.vjp(mu, xp.astype(is_class, xp.float64), divisor) / scale
        out = _narrow(of_class, good[:, 0], x)
        gradient = _narrow(xp.where(possible, slope, xp.zeros_like(slope)), good, x)
    else:
        out = empty((x.shape[0],), dtype_name(x), x)
        gradient = empty(tuple(x.shape), dtype_name(x), x) if return_gradient else None
        if x.shape[0]:
            law, polynomials = law_and_table(noise, x)
            queue(
                kernels().noise_argmax_log_prob,
                x,
                index,
                law,
                float(scale),
                out,
                gradient,
                _memory(x),
                polynomials=polynomials,
            )
    out = out.reshape(shape[:-1])
    return (out, gradient.reshape(shape)) if return_gradient else out


def _probabilities(logits: Any, noise: Noise, scale: float, *, is_log: bool) -> Any:
    x, shape = _rows(logits, scale)
    if isinstance(noise, Gumbel):
        of = log_softmax if is_log else softmax
        return of(_shifted(x, scale), axis=-1).reshape(shape)
    if isinstance(noise, ReversedExponential):
        mu, good = _wide(x, scale)
        found = reversed_exponential.probs(mu)
        xp = namespace_of(x)
        found = xp.where(found < _LEAST, xp.zeros_like(found), found)
        return _narrow(xp.log(found) if is_log else found, good, x).reshape(shape)
    out = empty(tuple(x.shape), dtype_name(x), x)
    if x.shape[0]:
        law, polynomials = law_and_table(noise, x)
        queue(
            kernels().noise_argmax_probs,
            x,
            law,
            float(scale),
            out,
            _memory(x),
            is_log=is_log,
            polynomials=polynomials,
        )
    return out.reshape(shape)


def law_and_table(noise: Noise, x: Any) -> tuple[str | tuple[float, ...], Any]:
    """Return the law as the kernels take it, and the polynomials of its table, where it has one."""
    if isinstance(noise, StudentT) and noise.df <= MOST_DF:
        table = student_polynomials(noise.df)
        # Bytes: JAX has no doubles unless it is told to.
        polynomials = lasting(
            (StudentT, noise.df), lambda: _bytes(table.log_cdf, table.log_ratio), x
        )
        return table[:4], polynomials
    if type(noise) not in _LAWS:
        what = f"{noise} noise" if isinstance(noise, StudentT) else f"{type(noise).__name__} noise"
        raise TypeError(f"{what} has no CUDA kernel: pass logits in main memory")
    return _LAWS[type(noise)], None


def _bytes(*arrays: Any) -> Any:
    return np.stack(arrays).reshape(-1).view(np.uint8)


def _rows(logits: Any, scale: float) -> tuple[Any, tuple[int, ...]]:
    """Return the logits as dense rows, and their shape."""
    if not 0.0 < scale < math.inf:
        raise ValueError(f"expected 0 < scale < inf, not {scale}")
    x = as_floating(logits)
    shape = tuple(x.shape)
    if not shape or shape[-1] == 0:
        raise ValueError(f"expected logits of at least one class, not of shape {shape}")
    return dense(x).reshape((math.prod(shape[:-1]), shape[-1])), shape


def _shifted(x: Any, scale: float) -> Any:
    """Return rows in units of the scale, their maximum zero."""
    return (x - namespace_of(x).max(x, axis=-1, keepdims=True)) / scale


def _wide(x: Any, scale: float) -> tuple[Any, Any]:
    """Return rows in float64 and units of the scale, maximum zero, and which of them have one."""
    xp = namespace_of(x)
    x = xp.astype(x, xp.float64)
    peak = xp.max(x, axis=-1, keepdims=True)
    good = xp.isfinite(peak)
    return xp.where(good, (x - peak) / scale, xp.zeros_like(x)), good


def _narrow(found: Any, good: Any, x: Any) -> Any:
    """Return results in the type of `x`, NaN in rows without a meaning."""
    xp = namespace_of(x)
    return xp.astype(xp.where(good, found, xp.full_like(found, math.nan)), x.dtype)


def _memory(x: Any) -> Any:
    return workspace(kernels().noise_argmax_workspace(*x.shape), x)
