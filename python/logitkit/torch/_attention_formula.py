"""Attention of tensors by its formula: the derivatives of its derivatives are made of it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

_INF = float("inf")


def attended(a: Any) -> tuple[Any, Any, Any]:
    """
    Return the output, log-sum-exp and entropy of rows, scores stored.

    `a` has the arguments of the operator, all of one type of float.
    """
    query, key, value = a.query, a.key, a.value
    if a.cu_seqlens_q is not None:  # one batch, where only rows of one sequence see each other
        query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in (query, key, value))
    visible, distance = _seen(a, len(query), query.shape[-2], key.shape[-2])
    seen_by_any = visible.flatten(0, 1).any(0).any(0)[:, None]  # the others may be infinite
    group = query.shape[1] // max(key.shape[1], 1)
    key, value = (
        x.masked_fill(~seen_by_any, 0.0).repeat_interleave(group, 1) for x in (key, value)
    )
    scale = a.scale.T.unsqueeze(0) if a.cu_seqlens_q is not None else a.scale
    z = scale.unsqueeze(-1) * (query @ key.mT)
    if a.softcap > 0.0:
        z = a.softcap * torch.tanh(z / a.softcap)
    if a.slopes is not None:
        z = z - a.slopes[:, None, None] * distance.abs()
    if a.bias is not None:
        z = z + a.bias.masked_fill(a.bias == -_INF, 0.0)
    z = z.masked_fill(~visible, -_INF)
    output, logsumexp, entropy = _softmax_rows(z, value, a.sinks)
    if a.cu_seqlens_q is None:
        return output, logsumexp, entropy
    return output[0].transpose(0, 1), logsumexp[0].T, entropy[0].T


def _softmax_rows(z: Any, value: Any, sinks: Any) -> tuple[Any, Any, Any]:
    """Return the results of P = softmax(Z), with a sink as one more column whose value is 0."""
    if sinks is not None:
        z = torch.cat([z, sinks[:, None, None].expand(*z.shape[:-1], 1)], -1)
        value = torch.nn.functional.pad(value, (0, 0, 0, 1))
    if z.shape[-1] == 0:
        rows = z.sum(-1)
        return z @ value, rows - _INF, rows
    top = z.detach().amax(-1, keepdim=True)
    shifted = z - top.masked_fill(top == -_INF, 0.0)
    weights = shifted.exp()
    total = weights.sum(-1, keepdim=True)
    empty = total == 0.0
    log_total = total.masked_fill(empty, 1.0).log()
    p = weights / total.masked_fill(empty, 1.0)
    hidden = z == -_INF
    log_p = (shifted.masked_fill(hidden, 0.0) - log_total).masked_fill(hidden, 0.0)
    logsumexp = (top + log_total).masked_fill(empty, -_INF)
    return p @ value, logsumexp.squeeze(-1), -(p * log_p).sum(-1)


def _seen(a: Any, batches: int, length: int, keys: int) -> tuple[Any, Any]:
    """Return what a row sees, (batch, heads, length, keys) or 1, and how far ahead each key is."""
    device = a.query.device
    row, column = (torch.arange(n, device=device) for n in (length, keys))
    same: Any = True
    if a.cu_seqlens_q is None:
        of_row = of_column = torch.arange(batches, device=device)[:, None]
        queries, lengths = length, torch.full((batches,), keys, device=device)
    else:  # the sequence of each row, and of each key
        starts, key_starts = a.cu_seqlens_q.contiguous(), a.cu_seqlens_k.contiguous()
        of_row = torch.searchsorted(starts, row, right=True)[None] - 1
        of_column = torch.searchsorted(key_starts, column, right=True)[None] - 1
        queries, lengths = starts.diff(), key_starts.diff()
        row, column = row - starts[of_row], column - key_starts[of_column]
        same = of_row[:, None, :, None] == of_column[:, None, None, :]
    lengths = lengths if a.key_lengths is None else a.key_lengths
    offsets = a.query_offsets
    if offsets is None:
        offsets = (lengths - queries) * int(a.lower_right)
    position = (row + offsets[of_row])[:, None, :, None]
    there = (column < lengths[of_column])[:, None, None, :]
    column = column.expand(len(there), -1)[:, None, None, :]
    distance = column - position
    seen = (distance >= -a.left) & (distance <= a.right) & there & same
    if a.mask is not None:
        seen = seen & a.mask
    if a.bias is not None:
        seen = seen & (a.bias != -_INF)
    return seen, distance


def pulled_back(
    function: Callable[..., Any], primals: Sequence[Any], cotangents: Sequence[Any]
) -> Any:
    """Return the product of `cotangents` with the transposed Jacobian of `function`."""
    return torch.func.vjp(function, *primals)[1](tuple(cotangents))


def pushed_forward(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> Any:
    """
    Return the product of the Jacobian J with `tangents` t.

    It is the gradient of <t, J^T u> with respect to any u: PyTorch's own forward mode cannot be
    nested.
    """
    anywhere = [torch.zeros_like(x) for x in function(*primals)]
    return pulled_back(lambda *u: pulled_back(function, primals, u), anywhere, tangents)
