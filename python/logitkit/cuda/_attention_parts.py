"""Attention of one query to many keys on a GPU: to parts of the keys first, which are then merged."""

from __future__ import annotations

from typing import Any

from ._arrays import compute_name, dtype_name, empty, namespace_of, queue
from ._attention_sequences import Placed, by_head, sequences_of
from ._device import kernels

# `a` below is logitkit._attention._arguments.Arguments.

# Of a part, and a multiple of what the kernel reads at a time. Where parts end depends on nothing
# else, so that bits depend neither on the batch nor on how many keys there is room for.
_KEYS = 512


def suits(a: Any, at: Placed) -> bool:
    """Return whether parts of the keys keep more of the GPU busy than all of them together."""
    laid_over = (a.cu_seqlens_q, a.mask, a.bias)
    alone = at.query.shape[2] == 1 and all(x is None for x in laid_over)
    return alone and (at.capacity > _KEYS or a.sinks is not None)


def attention_in_parts(
    a: Any, at: Placed, found: tuple[Any, ...], options: dict[str, Any], sinks: Any
) -> None:
    """Write the output and statistics; `options` are those of the kernel for all keys."""
    xp, kind = namespace_of(at.query), compute_name(at.query)
    batches, heads, _ = at.shape
    keys, table = _KEYS, None
    if at.block_table is not None:
        blocks = max(1, -(-_KEYS // max(1, at.key.shape[2])))
        keys, table = blocks * at.key.shape[2], _cut_table(at.block_table, blocks)
    count = max(1, -(-at.capacity // max(1, keys)))
    rows = (batches, heads, count)
    parts = (
        empty((*rows, found[0].shape[-1]), dtype_name(at.query), at.query),
        empty(rows, kind, at.query),
        *(None if x is None else empty(rows, kind, at.query) for x in found[2:]),
    )
    given = {name: x for name, x in options.items() if name != "offset"}
    given["sequences"] = _parts_of(a, at, keys, count)
    given["longest"] = (1, keys)
    queue(
        kernels().attention,
        xp.broadcast_to(at.query, (*rows, at.query.shape[-1])),
        at.key,
        at.value,
        xp.broadcast_to(by_head(a.scale, a), rows),
        parts[0],
        **given,
        block_table=table,
        logsumexp=parts[1],
        entropy=parts[2],
        max_logit=parts[3],
    )
    queue(kernels().merge_attention, *parts, sinks, *found)


def _cut_table(table: Any, blocks: int) -> Any:
    """Return a block table with a row of `blocks` for each part."""
    xp = namespace_of(table)
    batches, width = table.shape
    count = max(1, -(-width // blocks))
    more = xp.zeros((batches, count * blocks - width), dtype=table.dtype, device=table.device)
    return xp.concat([table, more], axis=1).reshape((batches * count, blocks))


def _parts_of(a: Any, at: Placed, keys: int, count: int) -> Any:
    """Return the rows of logitkit::Sequence of the parts, whose results lie one after the other."""
    xp, whole = namespace_of(at.query), sequences_of(a, at)
    batch, part = whole[:, 0, None], xp.arange(count, dtype=xp.int64, device=whole.device)[None, :]
    begin = part * keys
    paged = at.block_table is not None
    columns = [
        batch + 0 * part,
        0 * batch + part,
        xp.ones_like(batch + part),
        batch * count + part if paged else whole[:, 3, None] + 0 * part,
        0 * (batch + part) if paged else whole[:, 4, None] + begin,
        (whole[:, 5, None] - begin).clip(0, keys),
        whole[:, 6, None] - begin,
    ]
    return xp.stack(columns, axis=-1).reshape((-1, len(columns)))
