"""Values and gradients of the cross-entropy of a linear layer, of arrays on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..losses._layer_kernel import LayerArrays, LayerNumbers, RowStats
from ._arrays import dense, empty, namespace_of, queue, workspace
from ._device import kernels

# The arrays of a layer are of one type that the kernels read: float16, bfloat16, float32 or
# float64. Statistics and values are float64, and gradients are of the type of the arrays. Nothing
# looks at labels, as that would wait for the GPU: one that is no class gives the value NaN.


class _Shares(NamedTuple):
    """Of the target of each row: the sum, the part of its class or probabilities, the rest."""

    mass: Any
    peak: Any
    spread: float


def _wide(x: Any) -> Any:
    xp = namespace_of(x)
    return xp.astype(x, xp.float64)


def _shares(arrays: LayerArrays, numbers: LayerNumbers) -> _Shares:
    n, keep = arrays.weight.shape[0], 1.0 - numbers.label_smoothing
    weight, labels = arrays.class_weight, arrays.labels
    xp = namespace_of(arrays.input)
    spread = numbers.label_smoothing / n
    rest = spread * (n if weight is None else xp.sum(_wide(weight)))
    ones = xp.ones(tuple(labels.shape), dtype=xp.float64, device=arrays.input.device)
    if arrays.targets is not None:
        targets = _wide(arrays.targets)
        mass = xp.sum(targets if weight is None else targets * _wide(weight), axis=-1)
        return _Shares(keep * mass + rest, keep * ones, spread)
    peak = keep * ones
    if weight is not None:
        peak = keep * xp.take(_wide(weight), xp.clip(labels, 0, n - 1), axis=0)
    return _Shares(peak + rest, peak, spread)


def _layer(arrays: LayerArrays) -> LayerArrays:
    return LayerArrays(*(None if x is None else dense(x) for x in arrays))


def row_stats(arrays: LayerArrays, numbers: LayerNumbers, *, aux: bool = False) -> RowStats:
    """Return the statistics of the rows, of arrays on a GPU."""
    of = _layer(arrays)
    rows, classes = of.input.shape[0], of.weight.shape[0]
    xp = namespace_of(of.input)

    def zeros(dtype: str = "float64") -> Any:  # what a row that takes no part keeps
        return xp.zeros((rows,), dtype=getattr(xp, dtype), device=of.input.device)

    stats = RowStats(
        zeros(),
        zeros(),
        zeros() if numbers.label_smoothing else None,
        zeros() if aux else None,
        zeros("int64") if aux else None,
    )
    queue(
        kernels().linear_cross_entropy,
        of.input,
        of.weight,
        of.labels,
        workspace(kernels().linear_cross_entropy_workspace(rows, classes), of.input),
        of.bias,
        numbers.softcap,
        of.targets,
        of.class_weight,
        stats.logsumexp,
        stats.entropy,
        stats.target,
        stats.total,
        stats.best,
    )
    return stats


def row_values(arrays: LayerArrays, numbers: LayerNumbers, stats: RowStats | None = None) -> Any:
    """Return the values of the rows, in float64."""
    stats = row_stats(arrays, numbers) if stats is None else stats
    return _values(arrays, numbers, stats, _shares(arrays, numbers))


def _values(arrays: LayerArrays, numbers: LayerNumbers, stats: RowStats, shares: _Shares) -> Any:
    xp = namespace_of(arrays.input)
    zero = xp.zeros_like(stats.logsumexp)
    own = xp.where(shares.peak == 0.0, zero, shares.peak * stats.target)
    if numbers.label_smoothing:
        own = own + shares.spread * stats.total
    value = shares.mass * stats.logsumexp - own
    if numbers.z_loss:
        value = value + numbers.z_loss * stats.logsumexp**2
    return xp.where(arrays.labels < 0, zero, value)


def values_and_gradients(
    arrays: LayerArrays,
    numbers: LayerNumbers,
    g: Any,
    argnums: tuple[int, ...],
    *,
    chunk_bytes: int = 2**28,
) -> tuple[Any, dict[int, Any]]:
    """Return the values, and the gradients of their sum times `g`, by chunks of classes."""
    of, shares = _layer(arrays), _shares(arrays, numbers)
    rows, depth = of.input.shape
    classes = of.weight.shape[0]
    stats = row_stats(of, numbers)
    g = _wide(g)
    parts = {0: of.input, 1: of.weight, 3: of.bias}
    xp = namespace_of(of.input)
    gradients = {i: xp.empty_like(parts[i]) for i in argnums}
    size = kernels().linear_cross_entropy_gradient_workspace(rows, classes, depth, chunk_bytes)
    queue(
        kernels().linear_cross_entropy_gradient,
        of.input,
        of.weight,
        of.labels,
        empty((size,), "uint8", of.input),
        dense(g * shares.mass),
        dense(2.0 * numbers.z_loss * g),
        dense(g * shares.peak),
        dense(g * shares.spread) if numbers.label_smoothing else None,
        stats.logsumexp,
        of.bias,
        numbers.softcap,
        of.targets,
        of.class_weight,
        gradients.get(0),
        gradients.get(1),
        gradients.get(3),
        chunk_bytes=chunk_bytes,
    )
    return _values(of, numbers, stats, shares), gradients
