"""What the kernels of attention take of tensors, and of arrays on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple


class Arguments(NamedTuple):
    """
    The arguments of the kernels: tensors or arrays, then numbers.

    Dense queries, keys and values, `mask` and `bias` are (batch, head, row, key or dim), the
    last two also 1 along any axis; packed and paged ones are what `logitkit.attention` takes.
    `scale` is one for each row; `scale`, `bias`, `sinks` and `slopes` are of the type that is
    computed in.
    """

    query: Any
    key: Any
    value: Any
    mask: Any
    bias: Any
    scale: Any
    sinks: Any
    slopes: Any
    query_offsets: Any
    key_lengths: Any
    cu_seqlens_q: Any
    cu_seqlens_k: Any
    block_table: Any
    left: Any
    right: Any
    lower_right: Any
    softcap: Any  # 0: none
    threads: Any  # 0: as many as there may be
