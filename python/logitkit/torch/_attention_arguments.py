"""The arguments of attention of tensors, brought to what its operators take."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._attention._arguments import Arguments
from .._attention._layout import check_shapes
from .._attention._problem import check_numbers
from .._attention._visible import window_limits
from .._shapes import check_broadcast
from ..reference._attention_scale import AttentionScale
from ._attention_operator import memory, visible_keys_op
from ._tensors import compute_type, is_memory, result_type

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Lowered(NamedTuple):
    """The arguments of the operators, and the way back to the caller's shapes."""

    arguments: Arguments
    rows: tuple[Any, ...]  # the caller's shape of a number for each row

    def raised(self, x: Any, dims: int = 0) -> Any:
        """Return a result in the caller's shape; `dims` of its axes are no rows."""
        return x.reshape(*self.rows, *x.shape[x.dim() - dims :])

    def of_rows(self, name: str, x: Any, dims: int = 0) -> Any:
        """Return the way there, for an argument in the caller's shape."""
        wanted = (*self.rows, *(self.arguments.value.shape[-1:] if dims else ()))
        if not isinstance(x, Tensor):
            raise TypeError(f"expected {name} as a tensor, as query is, not {type(x).__name__}")
        if tuple(x.shape) != wanted:
            raise ValueError(f"expected {name} of shape {wanted}, not {tuple(x.shape)}")
        return x.reshape(*self.arguments.query.shape[:-1], *x.shape[x.dim() - dims :])


def lowered_arguments(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    is_causal: bool = False,
    causal_alignment: str = "upper_left",
    window: Any = None,
    scale: Any = None,
    softcap: float | None = None,
    alibi_slopes: Any = None,
    sinks: Any = None,
    query_offsets: Any = None,
    key_lengths: Any = None,
    cu_seqlens_q: Any = None,
    cu_seqlens_k: Any = None,
    block_table: Any = None,
    threads: int | None = None,
) -> Lowered:
    """Bring the arguments of attention to what the operators take, by differentiable functions."""
    dtype = _checked_type(query, key, value)
    check_numbers(causal_alignment, softcap, threads)
    packed, paged = cu_seqlens_q is not None, block_table is not None
    check_shapes(tuple(query.shape), tuple(key.shape), tuple(value.shape), packed, paged)
    left, right = window_limits(window)
    query, key, value, rows, lead = _laid_out(query, key, value, packed, paged)
    full = (*rows, key.shape[-2])
    compute = compute_type(dtype)
    visible, terms = None, []
    for name, x in (("mask", mask), ("bias", bias)):
        if x is None:
            continue
        x = _of_scores(name, tensor_of(name, x, query), full, lead, packed or paged)
        if x.dtype == torch.bool:
            visible = x
        else:
            terms.append(x.to(compute))
    where = {
        "query_offsets": query_offsets,
        "key_lengths": key_lengths,
        "cu_seqlens_q": cu_seqlens_q,
        "cu_seqlens_k": cu_seqlens_k,
        "block_table": block_table,
    }
    arguments = Arguments(
        query=query,
        key=key,
        value=value,
        mask=visible,
        bias=sum(terms[1:], terms[0]) if terms else None,
        scale=torch.ones((), dtype=compute, device=query.device).expand(query.shape[:-1]),
        sinks=None if sinks is None else tensor_of("sinks", sinks, query).to(compute),
        slopes=_slopes(alibi_slopes, query, compute),
        **{name: _integers(name, x, query) for name, x in where.items()},
        left=left,
        right=min(right, 0) if is_causal else right,
        lower_right=causal_alignment == "lower_right",
        softcap=float(softcap or 0.0),
        threads=threads or 0,
    )
    return Lowered(arguments._replace(scale=_row_scale(arguments, scale, rows)), rows)


def _checked_type(query: Any, key: Any, value: Any) -> Any:
    types = [result_type(x) and x.dtype for x in (query, key, value)]
    if types[0] not in _TYPES:
        raise TypeError(f"expected query of {', '.join(map(str, _TYPES))}, not {types[0]}")
    if types != types[:1] * 3:
        raise TypeError(
            f"expected query, key and value of one type, not {types[0]}, {types[1]} and {types[2]}"
        )
    if not query.device == key.device == value.device:
        raise TypeError(
            f"expected query, key and value on one device, not {query.device}, {key.device} and "
            f"{value.device}"
        )
    return types[0]


def _laid_out(query: Any, key: Any, value: Any, packed: bool, paged: bool) -> Any:
    """Return the arrays as the operators take them, the shape of rows, and of batches."""
    if packed:
        return query, key, value, tuple(query.shape[:-1]), ()
    single = query.dim() == 2
    query = query.unsqueeze(0) if single else query
    if not paged:
        key, value = (x.unsqueeze(0) if x.dim() == 2 else x for x in (key, value))
    leads = [x.shape[:-3] for x in ((query,) if paged else (query, key))]
    try:
        lead = tuple(torch.broadcast_shapes(*leads))
    except RuntimeError:
        raise ValueError(
            f"expected batches that broadcast, not query of shape {tuple(query.shape)} and key of "
            f"shape {tuple(key.shape)}"
        ) from None
    rows = (*lead, *query.shape[-2 if single else -3 : -1])
    query = _flat(query, lead)
    return query, *((key, value) if paged else (_flat(key, lead), _flat(value, lead))), rows, lead


def _flat(x: Any, lead: tuple[Any, ...]) -> Any:
    """Return `x` with one axis of batches in place of several."""
    return x.expand(*lead, *x.shape[-3:]).reshape(math.prod(lead), *x.shape[-3:])


def _of_scores(name: str, x: Any, full: Any, lead: Any, shapeless: bool) -> Any:
    """Return a mask or bias as (batch, head, row, key), or 1."""
    if shapeless:
        raise ValueError(f"expected no {name} for a packed or paged batch, which has no shape")
    if not (x.is_floating_point() or (name == "mask" and x.dtype == torch.bool)):
        kinds = "bool or floats" if name == "mask" else "floats"
        raise TypeError(f"expected {name} of {kinds}, not {x.dtype}")
    check_broadcast(name, tuple(x.shape), full)
    if len(full) == len(lead) + 2 and x.dim() > 1:  # one head, without an axis
        x = x.unsqueeze(-3)
    x = x.reshape(*(1 for _ in range(3 - x.dim())), *x.shape)
    return x.reshape(1, *x.shape[-3:]) if math.prod(x.shape[:-3]) == 1 else _flat(x, lead)


def _row_scale(a: Arguments, scale: Any, rows: tuple[Any, ...]) -> Any:
    """Return what the scores of each row are multiplied by."""
    shape, dim, compute = a.query.shape[:-1], a.query.shape[-1], a.scale.dtype
    packed = a.cu_seqlens_q is not None
    if isinstance(scale, AttentionScale):
        counts = visible_keys_op(*constants(a))
        factor = scale.row_scale(counts.T if packed else counts, dim)
        return (factor.T if packed else factor).to(compute).expand(shape)
    scale = tensor_of("scale", 1.0 / math.sqrt(dim) if scale is None else scale, a.query)
    if scale.is_complex() or scale.dtype == torch.bool:
        raise TypeError(f"expected scale of real numbers or an AttentionScale, not {scale.dtype}")
    scale = scale.to(compute)
    if scale.dim() >= 2:
        check_broadcast("scale", tuple(scale.shape), rows)
        return scale.expand(rows).reshape(shape)
    heads = shape[1]
    if scale.dim() == 1:
        if len(scale) not in (1, heads):
            raise ValueError(
                f"expected scale for each of {heads} heads, not of shape {tuple(scale.shape)}"
            )
        scale = scale if packed else scale[:, None]
    return scale.expand(shape)


def tensor_of(name: str, x: Any, like: Any) -> Any:
    """
    Return `x` as a tensor on the device of `like`; only a number comes there from elsewhere.

    Numbers keep all their digits, whatever the default type is.
    """
    if isinstance(x, Tensor):
        if x.device == like.device:
            return x
        if x.dim() == 0:
            return x.to(like.device)
        raise TypeError(
            f"expected {name} on {like.device} like query, not on {x.device}: pass "
            f"{name}.to({str(like.device)!r})"
        )
    if isinstance(x, float):
        return torch.full((), x, dtype=torch.float64, device=like.device)
    return torch.as_tensor(np.asarray(x), device=like.device)


def _slopes(x: Any, query: Any, compute: torch.dtype) -> Any:
    if x is None:
        return None
    x = tensor_of("alibi_slopes", x, query)
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("alibi_slopes have no gradient: pass them detached, or as a bias")
    return x.to(compute)


def _integers(name: str, x: Any, query: Any) -> Any:
    """Return lengths as a tensor; the kernels refuse those that are no integers."""
    if x is None:
        return None
    x = tensor_of(name, x, query)
    return x if x.is_floating_point() else x.to(torch.int64)


def constants(a: Arguments) -> Any:
    return (x.detach() if isinstance(x, Tensor) else x for x in a)


def is_differentiated(a: Arguments) -> bool:
    """Return whether gradients are wanted, as far as may be seen."""
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in a)


def are_direct(query: Any, key: Any, value: Any, options: dict[str, Any]) -> bool:
    """Return whether the kernels can read the tensors at once, with no derivative wanted."""
    # Asking what None is an instance of takes as long as all the rest.
    given = (x for x in options.values() if x is not None)
    tensors = [x for x in (query, key, value, *given) if isinstance(x, Tensor)]
    return (
        isinstance(key, Tensor)
        and isinstance(value, Tensor)
        and isinstance(query, Tensor)
        and all(is_memory(x) for x in tensors)
        and query.dtype in _TYPES
        and query.dtype == key.dtype == value.dtype
        and not isinstance(options.get("scale"), AttentionScale)  # which may hold tensors
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
        and forward_ad._current_level < 0
    )


def as_arrays(tensors: Any, options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the memory of all tensors; options of bfloat16, which NumPy has not, are widened."""
    given = {
        name: memory(x.float() if x.dtype == torch.bfloat16 else x)
        for name, x in options.items()
        if x is not None and isinstance(x, Tensor)
    }
    return [memory(x) for x in tensors], {**options, **given}
