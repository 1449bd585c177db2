"""Results of attention over parts of the keys, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._backend import as_array, bridge_for
from ..reference import AttentionResult


def merge_attention(parts: Sequence[AttentionResult]) -> AttentionResult:
    r"""
    Attention over all keys, from its results over disjoint parts of them.

    With the weight :math:`w_p = e^{L_p - L}` of part `p`, where :math:`L` is the log-sum-exp of
    the :math:`L_p`:

    .. math:: o = \sum_p w_p o_p, \quad H = \sum_p w_p (H_p + L - L_p)

    So a long context can be split over threads, processes or machines, and only the results
    have to meet.

    Parameters
    ----------
    parts : sequence of AttentionResult
        What :func:`logitkit.attention_with_stats` gave for the same queries and each part of
        the keys; at least one. A sink belongs to one part only, and positions are told by
        `query_offsets`.

    Returns
    -------
    AttentionResult
        What the whole would have given: exact, but for rounding, in the types of the first part.

    Raises
    ------
    ValueError
        If there is no part, or if their shapes differ.

    See Also
    --------
    logitkit.attention_with_stats : Makes the parts.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import attention_with_stats, merge_attention
    >>> query, key, value = np.random.default_rng(0).normal(size=(3, 100, 8))
    >>> halves = [slice(0, 50), slice(50, 100)]
    >>> merged = merge_attention([attention_with_stats(query, key[h], value[h]) for h in halves])
    >>> whole = attention_with_stats(query, key, value)
    >>> all(np.allclose(a, b) for a, b in zip(merged, whole))
    True
    """
    if not parts:
        raise ValueError("expected at least one part to merge")
    for part in parts:
        if not hasattr(part, "output"):
            raise TypeError(
                f"expected parts that attention_with_stats returned, not {type(part).__name__}"
            )
    if (bridge := bridge_for(parts[0].output)) is not None:
        merged: AttentionResult = bridge.merge_attention(parts)
        return merged
    shapes = [np.shape(part.output) for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"expected parts of one shape, not {', '.join(map(str, shapes))}")
    first = parts[0]
    logsumexps = _stacked([part.logsumexp for part in parts])
    top = np.max(logsumexps, axis=0)
    shift = np.where(np.isfinite(top), top, 0.0)  # -inf - -inf would be NaN
    with np.errstate(divide="ignore"):  # rows that see nothing
        total = shift + np.log(np.sum(np.exp(logsumexps - shift), axis=0))
    safe = np.where(np.isfinite(total), total, 0.0)
    weights = np.exp(logsumexps - safe)
    outputs = _stacked([part.output for part in parts])
    surprise = np.where(weights > 0, safe - np.where(weights > 0, logsumexps, 0.0), 0.0)
    entropy = np.sum(weights * (_stacked([part.entropy for part in parts]) + surprise), axis=0)
    kind = as_array(first.logsumexp).dtype
    return AttentionResult(
        np.sum(weights[..., None] * outputs, axis=0).astype(as_array(first.output).dtype),
        total.astype(kind),
        entropy.astype(kind),
        np.max(_stacked([part.max_logit for part in parts]), axis=0).astype(kind),
        np.sum([part.n_visible for part in parts], axis=0),
    )


def _stacked(arrays: list[Any]) -> Any:
    return np.stack([as_array(x).astype(np.float64) for x in arrays])
