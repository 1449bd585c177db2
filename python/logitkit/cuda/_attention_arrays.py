"""Attention of arrays on a GPU, of the arguments that `logitkit.attention` has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..reference import AttentionResult
from . import _attention
from ._arrays import compute_name, dtype_name, empty, namespace_of, queue, with_wide_types
from ._attention_arguments import lowered_arguments
from ._device import kernels


@with_wide_types
def attention(query: Any, key: Any, value: Any, /, **options: Any) -> Any:
    """
    Scaled softmax attention of arrays on a GPU, without derivatives.

    Parameters
    ----------
    query, key, value : array on a GPU
        Of ``float16``, ``bfloat16``, ``float32`` or ``float64``, in the shapes that
        :func:`logitkit.attention` takes. Packed ones of JAX are copied into another order.
    **options
        The keyword arguments of :func:`logitkit.attention`. `mask` and `bias` are arrays on the
        GPU too; the others may be numbers and sequences of numbers. `threads` means nothing.

    Returns
    -------
    array, shape (..., heads, length, value_dim)
        In the type of `query`.

    Raises
    ------
    TypeError
        If an argument is not of the right type.
    ValueError
        If shapes do not fit each other, or a window or threshold is out of range.

    See Also
    --------
    logitkit.attention : The same for arrays in main memory.
    logitkit.torch.attention : The same for tensors, with derivatives.

    Notes
    -----
    Nothing looks at lengths, offsets and blocks before the kernel does, as that would wait for the
    GPU: those out of range are no error but are cut to what there is.
    """
    lowered = lowered_arguments(query, key, value, **options)
    output = _attention.attention(lowered.arguments, stats=()).output
    return output.reshape((*lowered.rows, output.shape[-1]))


@with_wide_types
def attention_with_stats(query: Any, key: Any, value: Any, /, **options: Any) -> AttentionResult:
    """
    Attention of arrays on a GPU, and for each row what it saw, without derivatives.

    Parameters
    ----------
    query, key, value : array on a GPU
        As for `attention`.
    **options
        As for `attention`.

    Returns
    -------
    AttentionResult
        A named tuple of arrays, as :func:`logitkit.attention_with_stats` explains.

    Raises
    ------
    TypeError, ValueError
        As `attention` does.

    See Also
    --------
    logitkit.attention_with_stats : The same for arrays in main memory.
    """
    lowered = lowered_arguments(query, key, value, **options)
    found = _attention.attention(lowered.arguments)
    counts = _attention.visible_keys(lowered.arguments)
    rows = lowered.rows
    return AttentionResult(
        found.output.reshape((*rows, found.output.shape[-1])),
        *(x.reshape(rows) for x in (found.logsumexp, found.entropy, found.max_logit, counts)),
    )


def merge_attention(parts: Sequence[AttentionResult]) -> AttentionResult:
    """
    Merge attention over parts of the keys into that over all of them, of arrays on a GPU.

    Parameters
    ----------
    parts : sequence of AttentionResult
        What `attention_with_stats` gave for the parts; at least one.

    Returns
    -------
    AttentionResult
        What the whole would have given, but for rounding, in the types of the first part.

    Raises
    ------
    ValueError
        If there is no part, or if their shapes differ.

    See Also
    --------
    logitkit.merge_attention : The same for arrays in main memory.
    """
    if not parts:
        raise ValueError("expected at least one part to merge")
    shapes = [tuple(part.output.shape) for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"expected parts of one shape, not {', '.join(map(str, shapes))}")
    return AttentionResult(*_merged(parts[0].output, parts))


@with_wide_types
def _merged(first: Any, parts: Sequence[AttentionResult]) -> tuple[Any, ...]:
    xp, rows, kind = namespace_of(first), tuple(first.shape[:-1]), compute_name(first)
    numbers = [
        xp.stack([x.reshape((-1, 1)) for x in of], axis=-1)  # (row, head, part)
        for of in list(zip(*parts, strict=True))[1:4]
    ]
    values = xp.stack([part.output.reshape((-1, 1, first.shape[-1])) for part in parts], axis=2)
    count = numbers[0].shape[0]
    output = empty((count, 1, 1, first.shape[-1]), dtype_name(first), first)
    stats = [empty((count, 1, 1), kind, first) for _ in numbers]
    queue(kernels().merge_attention, values, *numbers, None, output, *stats)
    visible = sum((part.n_visible for part in parts[1:]), parts[0].n_visible)
    return output.reshape((*rows, first.shape[-1])), *(x.reshape(rows) for x in stats), visible
