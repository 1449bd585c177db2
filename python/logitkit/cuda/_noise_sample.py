"""Draws of argmax(logits + noise) on a GPU, of the noise that is drawn in main memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

from ..distributions._class_arguments import shape_of_sample
from ..distributions._noise import (
    Cauchy,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    Noise,
    Normal,
    ReversedExponential,
    Uniform,
)
from ..random import as_philox
from ._arrays import (
    as_floating,
    compute_name,
    dense,
    dtype_name,
    empty,
    namespace_of,
    queue,
    with_wide_types,
)
from ._device import kernels
from ._noise_argmax import law_and_table

if TYPE_CHECKING:
    from ..random import Philox

_CHUNK = 2**24  # elements of noise at a time
_STREAMS: dict[Any, str] = {
    Normal: "normal",
    Gumbel: "gumbel",
    Exponential: "exponential",
    ReversedExponential: "exponential",
}


@with_wide_types
def noise_argmax_sample(
    logits: Any,
    noise: Noise,
    rng: int | Philox,
    sample_shape: int | Sequence[int] = (),
    *,
    k: int | None = None,
    scale: float = 1.0,
) -> Any:
    """
    Draw classes with the largest logits and noise, on a GPU.

    Parameters
    ----------
    logits : array on a GPU, shape (..., n)
        Logits. ``-inf`` leaves a class out. Nobody looks whether a row has a finite maximum; one
        that has none draws some class.
    noise : Noise
        The law, one of those of `logitkit.distributions`; Student's of at most 10,000 degrees of
        freedom.
    rng : int or Philox
        A seed, or a generator: a draw depends on it, on its place in the result and on the logits
        there alone.
    sample_shape : int or tuple of ints, optional
        The shape of what is drawn for each row.
    k : int, optional
        Draw so many classes without replacement, from 1 to `n`. Default: one.
    scale : float, optional
        The scale of the noise, positive and finite.

    Returns
    -------
    array of int64, shape (*sample_shape, ...), with `k` (*sample_shape, ..., k)
        Classes, from 0 to ``n - 1``, that of the largest sum first: those that
        ``ArgmaxNoise(logits, noise, scale).sample`` draws in main memory, but where sums are equal
        or differ by rounding of noise that is not normal, Gumbel's or exponential.

    Raises
    ------
    TypeError
        If `logits` does not hold real numbers, `rng` is neither an integer nor a `Philox`, or
        `noise` is not drawn on a GPU.
    ValueError
        If `scale` is not positive and finite, or there are no `k` classes.

    See Also
    --------
    logitkit.distributions.ArgmaxNoise.sample : The same in main memory, with explanations.
    """
    x, shape = as_floating(logits), shape_of_sample(sample_shape)
    if x.ndim == 0 or not 1 <= index(1 if k is None else k) <= x.shape[-1]:
        wanted = "at least one class" if k is None else f"k = {k} classes or more"
        raise ValueError(f"expected logits of {wanted}, not of shape {tuple(x.shape)}")
    xp, batch, n = namespace_of(x), tuple(x.shape[:-1]), x.shape[-1]
    rows = dense(xp.astype(x, getattr(xp, compute_name(x)))).reshape((math.prod(batch), n))
    found = [
        xp.argmax(sums, axis=-1)
        if k is None
        else xp.argsort(sums, axis=-1, descending=True, stable=True)[:, :k]
        for sums in _chunks(rows, math.prod(shape), noise, scale, rng)
    ]
    last = () if k is None else (k,)
    if not found:
        return empty((*shape, *batch, *last), "int64", x)
    return xp.astype(xp.concat(found, axis=0), xp.int64).reshape((*shape, *batch, *last))


def noise_sums(rows: Any, draws: int, noise: Noise, scale: float, rng: int | Philox) -> Any:
    """Return logits plus noise, (draws * r, n), for dense rows (r, n) of float32 or float64."""
    parts = list(_chunks(rows, draws, noise, scale, rng))
    return namespace_of(rows).concat(parts, axis=0) if parts else rows[:0]


def _chunks(rows: Any, draws: int, noise: Noise, scale: float, rng: int | Philox) -> Iterator[Any]:
    """Yield logits plus noise of draws, whose number is the id of their row of noise."""
    if not 0.0 < scale < math.inf:
        raise ValueError(f"expected 0 < scale < inf, not {scale}")
    philox, xp, (count, n) = as_philox(rng), namespace_of(rows), rows.shape
    size = max(1, _CHUNK // n)
    for begin in range(0, draws * count, size):
        end = min(begin + size, draws * count)
        ids = xp.arange(begin, end, dtype=xp.int64, device=rows.device)
        numbers = _draw(noise, philox, ids, rows)
        yield xp.take(rows, ids % count, axis=0) + scale * numbers


def _draw(noise: Noise, philox: Philox, ids: Any, like: Any) -> Any:
    """Return noise of the type of `like`, with as many columns: a row for each id."""
    shape = (ids.shape[0], like.shape[1])
    if (stream := _STREAMS.get(type(noise))) is not None:
        numbers = empty(shape, dtype_name(like), like)
        queue(getattr(kernels(), f"random_{stream}"), numbers, philox.seed, philox.step, ids)
        return -numbers if isinstance(noise, ReversedExponential) else numbers
    quantile, xp = _QUANTILES.get(type(noise)), namespace_of(like)
    numbers = empty(shape, "float64", like)
    queue(kernels().random_uniform, numbers, philox.seed, philox.step, ids)
    if quantile is not None:
        numbers = quantile(xp, numbers)
    else:
        queue(kernels().noise_quantiles, numbers, *law_and_table(noise, like))
    return xp.astype(numbers, like.dtype)


def _of_laplace(xp: Any, q: Any) -> Any:
    return xp.where(q < 0.5, xp.log(2.0 * q), -xp.log(2.0 * (1.0 - q)))


_QUANTILES: dict[Any, Callable[[Any, Any], Any]] = {
    Logistic: lambda xp, q: xp.log(q) - xp.log1p(-q),
    Laplace: _of_laplace,
    Cauchy: lambda xp, q: xp.tan(math.pi * (q - 0.5)),
    Uniform: lambda _, q: q - 0.5,
}
