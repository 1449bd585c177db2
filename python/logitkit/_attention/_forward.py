"""Scaled softmax attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._backend import as_array
from ..reference import AttentionResult
from ..reference._attention_scale import AttentionScale
from ._layout import Layout, lay_out
from ._visible import Visible, count_visible, what_is_visible

Window = tuple[int | None, int | None]


@dataclass
class Problem:
    """All arguments of attention, checked, as the kernels take them."""

    layout: Layout
    visible: Visible
    scale: NDArray[Any]  # (batch, head, row)
    softcap: float
    slopes: NDArray[Any] | None
    sinks: NDArray[Any] | None
    n_visible: NDArray[np.int64] | None  # where somebody needs it
    threads: int


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
    if dropout_p != 0.0:
        raise ValueError(
            f"expected dropout_p = 0, not {dropout_p}: there is no dropout in inference, and "
            "none here"
        )
    if attn_mask is not None and is_causal:
        raise ValueError("expected attn_mask or is_causal, not both: lay the causal mask over it")
    heads = [np.shape(x)[-3:-2] for x in (query, key)]
    if not enable_gqa and heads[0] != heads[1] and (1,) not in heads:
        raise ValueError(
            f"expected query and key of as many heads without enable_gqa, not of shapes "
            f"{np.shape(query)} and {np.shape(key)}"
        )
    return attention(query, key, value, mask=attn_mask, is_causal=is_causal, scale=scale)


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
    options = _options(locals())
    problem = prepared(query, key, value, options, counted=False)
    return _run(problem, stats=False).output


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
    options = _options(locals())
    problem = prepared(query, key, value, options, counted=True)
    return _run(problem, stats=True)


def _options(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: x for k, x in arguments.items() if k not in ("query", "key", "value")}


def prepared(
    query: Any, key: Any, value: Any, options: dict[str, Any], *, counted: bool
) -> Problem:
    """Check everything; `counted` says that the number of visible keys is wanted."""
    alignment, threads = options["causal_alignment"], options["threads"]
    if alignment not in ("upper_left", "lower_right"):
        raise ValueError(
            f"expected causal_alignment 'upper_left' or 'lower_right', not {alignment!r}"
        )
    if threads is not None and threads < 1:
        raise ValueError(f"expected threads >= 1 or None, not {threads}")
    where = ("query_offsets", "key_lengths", "cu_seqlens_q", "cu_seqlens_k", "block_table")
    layout = lay_out(
        query,
        key,
        value,
        lower_right=alignment == "lower_right",
        **{name: options[name] for name in where},
    )
    visible = what_is_visible(
        layout, options["mask"], options["bias"], options["is_causal"], options["window"]
    )
    softcap, scale = options["softcap"], options["scale"]
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"expected a positive softcap or None, not {softcap}")
    needs_count = counted or isinstance(scale, AttentionScale)
    n_visible = count_visible(layout, visible) if needs_count else None
    return Problem(
        layout,
        visible,
        _row_scale(layout, scale, n_visible),
        softcap or 0.0,
        _per_head(layout, "alibi_slopes", options["alibi_slopes"]),
        _per_head(layout, "sinks", options["sinks"]),
        n_visible,
        threads or 0,
    )


def _row_scale(layout: Layout, scale: Any, n_visible: NDArray[np.int64] | None) -> NDArray[Any]:
    _, heads, _ = layout.rows
    if scale is None:
        scale = 1.0 / math.sqrt(layout.query.shape[3])
    if isinstance(scale, AttentionScale):
        assert n_visible is not None
        rows = np.asarray(scale.row_scale(n_visible, layout.query.shape[3]), layout.compute)
        return np.broadcast_to(rows, layout.rows)
    scale = as_array(scale)
    if scale.dtype.kind not in "iuf":
        raise TypeError(f"expected scale of real numbers or an AttentionScale, not {scale.dtype}")
    scale = scale.astype(layout.compute, copy=False)
    if scale.ndim < 2:
        if scale.ndim == 1 and len(scale) not in (1, heads):
            raise ValueError(
                f"expected scale for each of {heads} heads, not of shape {scale.shape}"
            )
        return np.broadcast_to(scale[:, None] if scale.ndim else scale, layout.rows)
    try:
        return layout.kernel_rows(scale)
    except ValueError:
        raise ValueError(
            f"expected scale that broadcasts to the rows of query {layout.rows}, not of shape "
            f"{scale.shape}"
        ) from None


def _per_head(layout: Layout, name: str, x: Any) -> NDArray[Any] | None:
    if x is None:
        return None
    x, heads = as_array(x), layout.rows[1]
    if x.dtype.kind not in "iuf" or x.shape != (heads,):
        raise ValueError(
            f"expected {name} of {heads} real numbers, one a head, not {x.dtype} of shape {x.shape}"
        )
    return np.ascontiguousarray(x, layout.compute)


def as_bits(x: NDArray[Any]) -> NDArray[Any]:
    """Return bfloat16, which pybind11 does not know, as the integers it is stored in."""
    return x.view(np.uint16) if x.dtype.name == "bfloat16" else x


def _run(problem: Problem, *, stats: bool) -> AttentionResult:
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
    n_visible: Any = None
    if stats:
        assert problem.n_visible is not None
        n_visible = layout.user_rows(problem.n_visible)
    logsumexp, entropy, max_logit = results
    return AttentionResult(output, logsumexp, entropy, max_logit, n_visible)
