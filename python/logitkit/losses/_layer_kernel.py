"""Values and gradients of the cross-entropy of a linear layer, of arrays."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import _cpu


class LayerNumbers(NamedTuple):
    """The numbers that a value depends on; `softcap` is 0 for none."""

    softcap: float
    label_smoothing: float
    z_loss: float


class LayerArrays(NamedTuple):
    """
    What a value depends on, in the type to compute in.

    Parameters
    ----------
    input : array or Tensor, shape (m, d)
        Features of the rows.
    weight : array or Tensor, shape (n, d)
        A row for each class.
    bias : array or Tensor, shape (n,), optional
        Added to the logits.
    labels : array or Tensor of int64, shape (m,)
        The class of each row, -1 for rows that are left out; any class with `targets`.
    targets : array or Tensor, shape (m, n), optional
        Probabilities of the classes in place of labels.
    class_weight : array or Tensor, shape (n,), optional
        Weights of the classes.
    """

    input: Any
    weight: Any
    bias: Any
    labels: Any
    targets: Any
    class_weight: Any


class RowStats(NamedTuple):
    """The statistics of rows that kernels write; those that are not wanted are None."""

    logsumexp: Any
    target: Any
    total: Any
    entropy: Any
    best: Any


class _Shares(NamedTuple):
    """Of the target of each row: the sum, the part of its class or probabilities, the rest."""

    mass: Any
    peak: Any
    spread: float


def _stats(count: int, numbers: LayerNumbers, *, aux: bool = False) -> RowStats:
    empty = partial(np.zeros, count)
    return RowStats(
        empty(),
        empty(),
        empty() if numbers.label_smoothing else None,
        empty() if aux else None,
        empty(np.int64) if aux else None,
    )


def _shares(arrays: LayerArrays, numbers: LayerNumbers) -> _Shares:
    n, keep = len(arrays.weight), 1.0 - numbers.label_smoothing
    weight, labels = arrays.class_weight, arrays.labels
    spread = numbers.label_smoothing / n
    rest = spread * (n if weight is None else weight.sum(dtype=np.float64))
    if arrays.targets is not None:
        of_classes = np.ones(n) if weight is None else weight
        mass = np.einsum("ij,j->i", arrays.targets, of_classes, dtype=np.float64)
        return _Shares(keep * mass + rest, np.full(len(labels), keep), spread)
    peak = keep * (1.0 if weight is None else weight.astype(np.float64)[np.maximum(labels, 0)])
    return _Shares(peak + rest, peak, spread)


def _given(arrays: LayerArrays, numbers: LayerNumbers) -> dict[str, Any]:
    return {
        "bias": arrays.bias,
        "softcap": numbers.softcap,
        "targets": arrays.targets,
        "class_weight": arrays.class_weight,
    }


def row_stats(arrays: LayerArrays, numbers: LayerNumbers, *, aux: bool = False) -> RowStats:
    """Return the statistics of the rows, of arrays."""
    stats = _stats(len(arrays.input), numbers, aux=aux)
    _cpu.linear_cross_entropy(
        arrays.input, arrays.weight, arrays.labels, **_given(arrays, numbers), **stats._asdict()
    )
    return stats


def row_values(arrays: LayerArrays, numbers: LayerNumbers, stats: RowStats | None = None) -> Any:
    """Return the values of the rows, in float64."""
    stats = row_stats(arrays, numbers) if stats is None else stats
    shares = _shares(arrays, numbers)
    with np.errstate(invalid="ignore"):
        own = np.where(shares.peak == 0.0, 0.0, shares.peak * stats.target)
        if numbers.label_smoothing:
            own = own + shares.spread * stats.total
        value = shares.mass * stats.logsumexp - own
        if numbers.z_loss:
            value = value + numbers.z_loss * stats.logsumexp**2
    return np.where(arrays.labels < 0, 0.0, value)


def values_and_gradients(
    arrays: LayerArrays, numbers: LayerNumbers, g: Any, argnums: tuple[int, ...]
) -> tuple[Any, dict[int, Any]]:
    """Return the values, and the gradients of their sum times `g`, by one pass."""
    shares, stats = _shares(arrays, numbers), _stats(len(arrays.input), numbers)
    g = np.asarray(g, np.float64)
    parts = {0: arrays.input, 1: arrays.weight, 3: arrays.bias}
    gradients = {i: np.empty_like(parts[i]) for i in argnums}
    _cpu.linear_cross_entropy_gradient(
        arrays.input,
        arrays.weight,
        arrays.labels,
        base=g * shares.mass,
        slope=2.0 * numbers.z_loss * g,
        peak=g * shares.peak,
        spread=g * shares.spread if numbers.label_smoothing else None,
        grad_input=gradients.get(0),
        grad_weight=gradients.get(1),
        grad_bias=gradients.get(3),
        **_given(arrays, numbers),
        **stats._asdict(),
    )
    return row_values(arrays, numbers, stats), gradients
