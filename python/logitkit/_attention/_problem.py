"""The arguments of attention, checked, as the kernels take them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backend import as_array
from .._real_array import real_number, whole_number
from ..reference._attention_scale import AttentionScale
from ._layout import Layout, lay_out
from ._visible import Visible, count_visible, what_is_visible


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

    def batch(self, b: int) -> Problem:
        """Return the problem of one batch alone."""
        mask, terms = (
            [x if len(x) == 1 else x[b : b + 1] for x in xs]
            for xs in ([] if self.visible.mask is None else [self.visible.mask], self.visible.terms)
        )
        visible = self.visible._replace(mask=mask[0] if mask else None, terms=terms)
        layout, scale = self.layout.batch(b), self.scale[b : b + 1]
        return replace(self, layout=layout, visible=visible, scale=scale)


def prepared(
    query: Any, key: Any, value: Any, options: dict[str, Any], *, counted: bool
) -> Problem:
    """Check everything; `counted` says that the number of visible keys is wanted."""
    alignment, threads = options["causal_alignment"], options["threads"]
    softcap, scale = options["softcap"], options["scale"]
    check_numbers(alignment, softcap, threads)
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


def check_numbers(causal_alignment: Any, softcap: Any, threads: Any) -> None:
    """Raise an error if one of these is not what it may be."""
    if causal_alignment not in ("upper_left", "lower_right"):
        raise ValueError(
            f"expected causal_alignment 'upper_left' or 'lower_right', not {causal_alignment!r}"
        )
    if softcap is not None and not 0 < real_number("softcap", softcap) < math.inf:
        raise ValueError(f"expected a positive softcap or None, not {softcap}")
    if threads is not None and whole_number("threads", threads) < 1:
        raise ValueError(f"expected threads >= 1 or None, not {threads}")


def _row_scale(layout: Layout, scale: Any, n_visible: NDArray[np.int64] | None) -> NDArray[Any]:
    _, heads, _ = layout.rows
    if scale is None:
        scale = 1.0 / math.sqrt(layout.query.shape[3])
    if isinstance(scale, AttentionScale):
        assert n_visible is not None
        rows = np.asarray(scale.row_scale(n_visible, layout.query.shape[3]), layout.compute)
        if rows.ndim == 3 and rows.shape[1] not in (1, heads):
            raise ValueError(
                f"expected a parameter of scale for each of {heads} heads, not of shape "
                f"{rows.shape[1:2]}"
            )
        return np.broadcast_to(rows, layout.rows)
    scale = as_array(scale)
    if scale.dtype.kind not in "iuf":
        raise TypeError(f"expected scale of real numbers or an AttentionScale, not {scale.dtype}")
    scale = scale.astype(layout.compute, copy=False)
    if scale.ndim == 0:  # in a fifth of the time of broadcast_to()
        return np.ndarray(layout.rows, layout.compute, scale, strides=(0, 0, 0))
    if scale.ndim < 2:
        if scale.ndim == 1 and len(scale) not in (1, heads):
            raise ValueError(
                f"expected scale for each of {heads} heads, not of shape {scale.shape}"
            )
        return np.broadcast_to(scale[:, None], layout.rows)
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
