"""Scaled softmax attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._backend import bridge_for
from ..reference import AttentionResult
from ..reference._attention_scale import AttentionScale
from ._problem import Problem, prepared

Window = tuple[int | None, int | None]


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    r"""
    Attention with the arguments of ``torch.nn.functional.scaled_dot_product_attention``.

    .. math:: \operatorname{softmax}(\lambda Q K^T + M) V

    Parameters
    ----------
    query : array_like, shape (..., heads, length, head_dim)
        Queries, of ``float16``, ``bfloat16``, ``float32`` or ``float64`` like `key` and
        `value`.
    key : array_like, shape (..., heads, keys, head_dim)
        Keys. The axes before the last two are broadcast.
    value : array_like, shape (..., heads, keys, value_dim)
        Values.
    attn_mask : array_like, optional
        Of bool, where true means that the query may see the key; or of floats, which are added.
        It broadcasts to (..., heads, length, keys).
    dropout_p : float
        Must be 0.
    is_causal : bool
        Whether query `i` sees the keys up to `i` only, of those that `attn_mask` leaves.
    scale : float, optional
        The factor of the scores. Default: ``1 / sqrt(head_dim)``.
    enable_gqa : bool
        Whether `key` and `value` may have fewer heads, each for a group of those of `query`;
        also one fewer than the other.

    Returns
    -------
    ndarray, shape (..., heads, length, value_dim)
        In the type of `query`. Rows that see nothing are 0.

    Raises
    ------
    TypeError
        If the arrays are not of one of the types, all the same, in main memory.
    ValueError
        If shapes do not fit each other, or `dropout_p` is not 0.

    See Also
    --------
    logitkit.attention : The same with everything that torch's function lacks.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import scaled_dot_product_attention
    >>> x = np.eye(2, dtype=np.float32)
    >>> scaled_dot_product_attention(x, x, x, is_causal=True).round(3)
    array([[1.  , 0.  ],
           [0.33, 0.67]], dtype=float32)
    """
    if dropout_p != 0.0:
        raise ValueError(
            f"expected dropout_p = 0, not {dropout_p}: there is no dropout in inference, and "
            "none here"
        )
    if enable_gqa:
        key, value = _with_one_number_of_heads(key, value)
    else:
        query, key, value = _broadcast(query, key, value)
    return attention(query, key, value, mask=attn_mask, is_causal=is_causal, scale=scale)


def _broadcast(query: Any, key: Any, value: Any) -> tuple[Any, ...]:
    """Broadcast what `attention` does not: key against value, and one head of queries."""
    shapes = q, k, v = tuple(tuple(np.shape(x)) for x in (query, key, value))
    if q[:-2] == k[:-2] == v[:-2] or min(len(q), len(k), len(v)) < 2:
        return query, key, value  # nothing to do, or what attention reports
    try:
        lead = np.broadcast_shapes(k[:-2], v[:-2])
        heads = np.broadcast_shapes(q[-3:-2], lead[-1:])
    except ValueError:
        raise ValueError(
            f"expected as many heads without enable_gqa, and batches that broadcast, not query of "
            f"shape {q}, key {k} and value {v}"
        ) from None
    shared = lead[-1:] == (1,) and len(q) > 2  # one head of keys serves all those of queries
    leads = (q[:-2] if shared else (*q[:-3], *heads), lead, lead)
    return tuple(
        x if shape[:-2] == lead else _expanded(x, (*lead, *shape[-2:]))
        for x, shape, lead in zip((query, key, value), shapes, leads, strict=True)
    )


def _with_one_number_of_heads(key: Any, value: Any) -> tuple[Any, ...]:
    """Repeat heads until keys and values have as many; most often they have."""
    counts = [np.shape(x)[-3] if len(np.shape(x)) > 2 else 1 for x in (key, value)]
    most = math.lcm(*counts)
    if most == 0:  # which attention reports
        return key, value
    return tuple(
        x if count == most else _namespace_of(x).repeat(x, most // count, axis=-3)
        for x, count in zip((key, value), counts, strict=True)
    )


def _expanded(x: Any, shape: tuple[int, ...]) -> Any:
    return _namespace_of(x).broadcast_to(x, shape)


def _namespace_of(x: Any) -> Any:
    if bridge_for(x) is None:
        return np
    from array_api_compat import array_namespace

    return array_namespace(x)


def attention(
    query: Any,
    key: Any,
    value: Any,
    /,
    *,
    mask: Any = None,
    bias: Any = None,
    is_causal: bool = False,
    causal_alignment: Literal["upper_left", "lower_right"] = "upper_left",
    window: Window | None = None,
    scale: float | ArrayLike | AttentionScale | None = None,
    softcap: float | None = None,
    alibi_slopes: ArrayLike | None = None,
    sinks: ArrayLike | None = None,
    query_offsets: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    key_lengths: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    cu_seqlens_q: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    cu_seqlens_k: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    block_table: Any = None,
    threads: int | None = None,
) -> Any:
    r"""
    Scaled softmax attention, exact and without ever storing the scores.

    .. math:: o_i = \sum_j p_{ij} v_j, \quad p_i = \operatorname{softmax}_j\big(
              \lambda_i \langle q_i, k_j \rangle + b_{ij}\big)

    Parameters
    ----------
    query : array_like, shape (..., heads, length, head_dim)
        Queries, of ``float16``, ``bfloat16``, ``float32`` or ``float64`` like `key` and
        `value`. With `cu_seqlens_q`: shape (total, heads, head_dim).
    key : array_like, shape (..., key_heads, keys, head_dim)
        Keys. `key_heads` divides `heads`, and each key head serves as many consecutive heads of
        queries; the axes before are broadcast. With `cu_seqlens_k`: shape (total_keys, key_heads,
        head_dim). With `block_table`: shape (blocks, block_size, key_heads, head_dim).
    value : array_like, shape (..., key_heads, keys, value_dim)
        Values, like `key` but for the last axis.
    mask : array_like, optional
        Of bool, where true means that the query may see the key; or of floats, which are added
        to the logits, and where ``-inf`` hides. It broadcasts to (..., heads, length, keys).
    bias : array_like, optional
        Floats that are added to the logits like a float `mask`.
    is_causal : bool
        Whether a query sees no key after its own position.
    causal_alignment : {'upper_left', 'lower_right'}
        Where the first query stands: at the first key, as in torch; or so that the last query
        stands at the last key, as in flash-attention.
    window : tuple of int or None, optional
        ``(left, right)``: a query sees so many keys before its position and after it; None is
        no limit.
    scale : float, array_like or AttentionScale, optional
        What ``query @ key.T`` is multiplied by: one number, one for each head, one for each row
        (in the shape of the statistics, at least two axes), or a schedule, which finds it from
        the number of keys that the row sees after all masks. Default: ``1 / sqrt(head_dim)``.
    softcap : float, optional
        Bounds the scaled scores: ``softcap * tanh(score / softcap)``.
    alibi_slopes : array_like, shape (heads,), optional
        Slope times the distance of query and key is subtracted from the logits.
    sinks : array_like, shape (heads,), optional
        The logit of one more key, which is always visible and whose value is 0.
    query_offsets : array_like of int, shape (batch,), optional
        The position of each sequence's first query among its keys, instead of what
        `causal_alignment` says.
    key_lengths : array_like of int, shape (batch,), optional
        How many of each sequence's keys there are; the others are not read.
    cu_seqlens_q : array_like of int, shape (batch + 1,), optional
        Where the sequences begin in a packed `query`, and its length.
    cu_seqlens_k : array_like of int, shape (batch + 1,), optional
        The same for `key` and `value`.
    block_table : array_like of int, shape (batch, max_blocks), optional
        Where the keys of each sequence lie in a paged cache; needs `key_lengths`.
    threads : int, optional
        At most so many threads. Default: one for each processor that this process may use,
        or ``LOGITKIT_NUM_THREADS``.

    Returns
    -------
    ndarray, shape (..., heads, length, value_dim)
        In the type of `query`; with `cu_seqlens_q` of shape (total, heads, value_dim). Rows that
        see nothing are 0.

    Raises
    ------
    TypeError
        If the arrays are not of one of the types, all the same, in main memory.
    ValueError
        If shapes do not fit each other, or a length, window or threshold is out of range; the
        message names the shapes.

    See Also
    --------
    logitkit.attention_with_stats : The same with what it saw.
    logitkit.scaled_dot_product_attention : The arguments of torch's function.
    logitkit.reference.attention : The same in NumPy and ``float64``.
    logitkit.torch.attention : The same for tensors of PyTorch, which may be passed here too.

    Notes
    -----
    Scores pass through registers and the first-level cache, 48 queries by 64 keys at a time, by
    the online softmax [1]_ [2]_; tiles that nothing sees are skipped. Memory beyond the result
    is about half a MiB for each thread. Half types are computed in ``float32``. Results are the
    same, bit by bit, for any number of threads and any batch.

    What a row does not see does not reach it, be it infinite or NaN. Denormal numbers count as
    0.

    References
    ----------
    .. [1] M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax",
       arXiv:1805.02867, 2018.
    .. [2] T. Dao, D. Y. Fu, S. Ermon, A. Rudra and C. Re, "FlashAttention: fast and
       memory-efficient exact attention with IO-awareness", arXiv:2205.14135, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import EntropyInvariant, attention
    >>> rng = np.random.default_rng(0)
    >>> query, key, value = rng.normal(size=(3, 2, 8, 1000, 64)).astype(np.float32)
    >>> attention(query, key, value, is_causal=True, scale=EntropyInvariant()).shape
    (2, 8, 1000, 64)
    """
    options = options_of(locals())
    if (bridge := bridge_for(query)) is not None:
        return bridge.attention(query, key, value, **options)
    problem = prepared(query, key, value, options, counted=False)
    return computed(problem, stats=False).output


def attention_with_stats(
    query: Any,
    key: Any,
    value: Any,
    /,
    *,
    mask: Any = None,
    bias: Any = None,
    is_causal: bool = False,
    causal_alignment: Literal["upper_left", "lower_right"] = "upper_left",
    window: Window | None = None,
    scale: float | ArrayLike | AttentionScale | None = None,
    softcap: float | None = None,
    alibi_slopes: ArrayLike | None = None,
    sinks: ArrayLike | None = None,
    query_offsets: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    key_lengths: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    cu_seqlens_q: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    cu_seqlens_k: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    block_table: Any = None,
    threads: int | None = None,
) -> AttentionResult:
    r"""
    Attention, and for each row its log-sum-exp, entropy, largest logit and visible keys.

    .. math:: L_i = \log \sum_j e^{z_{ij}}, \quad H_i = -\sum_j p_{ij} \log p_{ij}

    Parameters
    ----------
    query : array_like, shape (..., heads, length, head_dim)
        Queries, of ``float16``, ``bfloat16``, ``float32`` or ``float64`` like `key` and
        `value`. With `cu_seqlens_q`: shape (total, heads, head_dim).
    key : array_like, shape (..., key_heads, keys, head_dim)
        Keys. `key_heads` divides `heads`, and each key head serves as many consecutive heads of
        queries; the axes before are broadcast. With `cu_seqlens_k`: shape (total_keys, key_heads,
        head_dim). With `block_table`: shape (blocks, block_size, key_heads, head_dim).
    value : array_like, shape (..., key_heads, keys, value_dim)
        Values, like `key` but for the last axis.
    mask : array_like, optional
        Of bool, where true means that the query may see the key; or of floats, which are added
        to the logits, and where ``-inf`` hides. It broadcasts to (..., heads, length, keys).
    bias : array_like, optional
        Floats that are added to the logits like a float `mask`.
    is_causal : bool
        Whether a query sees no key after its own position.
    causal_alignment : {'upper_left', 'lower_right'}
        Where the first query stands: at the first key, as in torch; or so that the last query
        stands at the last key, as in flash-attention.
    window : tuple of int or None, optional
        ``(left, right)``: a query sees so many keys before its position and after it; None is
        no limit.
    scale : float, array_like or AttentionScale, optional
        What ``query @ key.T`` is multiplied by: one number, one for each head, one for each row
        (in the shape of the statistics, at least two axes), or a schedule, which finds it from
        the number of keys that the row sees after all masks. Default: ``1 / sqrt(head_dim)``.
    softcap : float, optional
        Bounds the scaled scores: ``softcap * tanh(score / softcap)``.
    alibi_slopes : array_like, shape (heads,), optional
        Slope times the distance of query and key is subtracted from the logits.
    sinks : array_like, shape (heads,), optional
        The logit of one more key, which is always visible and whose value is 0.
    query_offsets : array_like of int, shape (batch,), optional
        The position of each sequence's first query among its keys, instead of what
        `causal_alignment` says.
    key_lengths : array_like of int, shape (batch,), optional
        How many of each sequence's keys there are; the others are not read.
    cu_seqlens_q : array_like of int, shape (batch + 1,), optional
        Where the sequences begin in a packed `query`, and its length.
    cu_seqlens_k : array_like of int, shape (batch + 1,), optional
        The same for `key` and `value`.
    block_table : array_like of int, shape (batch, max_blocks), optional
        Where the keys of each sequence lie in a paged cache; needs `key_lengths`.
    threads : int, optional
        At most so many threads. Default: one for each processor that this process may use,
        or ``LOGITKIT_NUM_THREADS``.

    Returns
    -------
    AttentionResult
        A named tuple. `output` is that of :func:`logitkit.attention`. `logsumexp`, `entropy`
        and `max_logit`, in nats, and `n_visible`, ``int64``, have its shape without the last
        axis; they are ``float64`` if `query` is, otherwise ``float32``. The first two are
        those of the softmax with its sink, the others do not count it. A row that sees nothing
        has ``-inf``, 0, ``-inf`` and 0. A row with a logit that is NaN, such as one of a key with
        NaN or infinity, has a NaN as `logsumexp`; its `max_logit` may be that of its other keys.

    Raises
    ------
    TypeError
        If the arrays are not of one of the types, all the same, in main memory.
    ValueError
        If shapes do not fit each other, or a length, window or threshold is out of range; the
        message names the shapes.

    See Also
    --------
    logitkit.merge_attention : Put results over parts of the keys together.
    logitkit.attention_entropy_profile : Entropy against visible length.
    logitkit.reference.attention_with_stats : The same in NumPy and ``float64``.
    logitkit.torch.attention_with_stats : The same for tensors, which may be passed here too.

    Notes
    -----
    The statistics cost one more operation for each score. The error of `logsumexp` is at most
    ``4 sqrt(head_dim) 2**-24 max_j sum_d abs(q_d k_jd) scale`` in ``float32``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import attention_with_stats
    >>> x = np.zeros((3, 2))
    >>> attention_with_stats(x, x, x, is_causal=True).entropy.round(3)
    array([0.   , 0.693, 1.099])
    """
    options = options_of(locals())
    if (bridge := bridge_for(query)) is not None:
        result: AttentionResult = bridge.attention_with_stats(query, key, value, **options)
        return result
    problem = prepared(query, key, value, options, counted=True)
    return computed(problem, stats=True)


def options_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments among all of them."""
    return {k: x for k, x in arguments.items() if k not in ("query", "key", "value")}


def as_bits(x: NDArray[Any]) -> NDArray[Any]:
    """Return bfloat16, which pybind11 does not know, as the integers it is stored in."""
    return x if x.dtype.char in "efd" else x.view(np.uint16)


def computed(problem: Problem, *, stats: bool) -> AttentionResult:
    """Call the kernel."""
    layout, visible = problem.layout, problem.visible
    output, output_view = layout.new(layout.value.shape[3], layout.dtype)
    results: list[Any] = [None, None, None]
    views: list[Any] = [None, None, None]
    if stats:
        pairs = [layout.new() for _ in range(3)]
        results, views = [list(x) for x in zip(*pairs, strict=True)]
    _cpu.attention(
        as_bits(layout.query),
        as_bits(layout.key),
        as_bits(layout.value),
        as_bits(output_view),
        layout.sequences,
        problem.scale,
        left=visible.left,
        right=visible.right,
        softcap=problem.softcap,
        slopes=problem.slopes,
        sinks=problem.sinks,
        mask=visible.mask,
        terms=visible.terms[0] if visible.terms else None,
        more_terms=visible.terms[1] if len(visible.terms) > 1 else None,
        block_table=layout.block_table,
        logsumexp=views[0],
        entropy=views[1],
        max_logit=views[2],
        threads=problem.threads,
    )
    counts = problem.n_visible
    n_visible: Any = layout.user_rows(counts) if stats and counts is not None else None
    logsumexp, entropy, max_logit = results
    return AttentionResult(output, logsumexp, entropy, max_logit, n_visible)
