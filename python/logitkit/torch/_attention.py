"""Scaled softmax attention of tensors."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._attention import _forward, _profile
from .._attention._layout import check_shapes
from .._attention._problem import check_numbers
from .._attention._profile import EntropyProfile, KappaEstimate, profile_of
from .._attention._visible import check_broadcast, window_limits
from ..reference import AttentionGradients, AttentionResult
from ..reference._attention_scale import AttentionScale
from ._attention_operator import (
    DIFFERENTIABLE,
    TENSOR_COUNT,
    Arguments,
    attention_op,
    attention_vjp_op,
    from_memory,
    memory,
    visible_keys_op,
)
from ._tensors import compute_type, is_memory, result_type

_INF = float("inf")
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def attention(query: Any, key: Any, value: Any, /, **options: Any) -> Any:
    r"""
    Scaled softmax attention of tensors.

    .. math:: o_i = \sum_j p_{ij} v_j, \quad p_i = \operatorname{softmax}_j\big(
              \lambda_i \langle q_i, k_j \rangle + b_{ij}\big)

    Parameters
    ----------
    query, key, value : Tensor
        In main memory, of ``float16``, ``bfloat16``, ``float32`` or ``float64``, in the shapes
        that :func:`logitkit.attention` takes.
    **options
        The keyword arguments of :func:`logitkit.attention`. `mask`, `bias`, `scale`, `sinks`
        and the parameter of :class:`logitkit.EntropyInvariant` may be tensors; all but a bool
        `mask` are differentiated, like `query`, `key` and `value`.

    Returns
    -------
    Tensor, shape (..., heads, length, value_dim)
        In the type of `query`.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor in main memory, or not of the right type.
    ValueError
        If shapes do not fit each other, or a length, window or threshold is out of range.

    See Also
    --------
    logitkit.attention : The same for arrays; its notes hold here too.

    Notes
    -----
    Derivatives of second and higher order store the scores.

    Examples
    --------
    >>> import torch
    >>> from logitkit import EntropyInvariant, attention
    >>> x = torch.eye(2, requires_grad=True)
    >>> kappa = torch.tensor(1.0, requires_grad=True)
    >>> attention(x, x, x, is_causal=True, scale=EntropyInvariant(kappa)).sum().backward()
    >>> x.grad.shape
    torch.Size([2, 2])
    """
    if _are_direct(query, key, value, options):
        arrays, given = _arrays((query, key, value), options)
        return from_memory(_forward.attention(*arrays, **given))
    lowered = _lowered(query, key, value, **options)
    return lowered.raised(attention_op(*lowered.arguments)[0], dims=1)


def attention_with_stats(query: Any, key: Any, value: Any, /, **options: Any) -> AttentionResult:
    """
    Attention of tensors, and for each row its log-sum-exp, entropy, largest logit and count.

    Parameters
    ----------
    query, key, value : Tensor
        As for :func:`logitkit.torch.attention`.
    **options
        As for :func:`logitkit.torch.attention`.

    Returns
    -------
    AttentionResult
        A named tuple of tensors, as :func:`logitkit.attention_with_stats` explains. `output`,
        `logsumexp` and `entropy` have derivatives, `max_logit` and `n_visible` have none.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor in main memory, or not of the right type.
    ValueError
        If shapes do not fit each other, or a length, window or threshold is out of range.

    See Also
    --------
    logitkit.attention_with_stats : The same for arrays.

    Examples
    --------
    >>> import torch
    >>> from logitkit import attention_with_stats
    >>> x = torch.zeros(3, 2, requires_grad=True)
    >>> attention_with_stats(x, x, x, is_causal=True).entropy.exp().round().tolist()
    [1.0, 2.0, 3.0]
    """
    if _are_direct(query, key, value, options):
        arrays, given = _arrays((query, key, value), options)
        return AttentionResult(
            *(from_memory(x) for x in _forward.attention_with_stats(*arrays, **given))
        )
    lowered = _lowered(query, key, value, **options)
    counts = visible_keys_op(*_constants(lowered.arguments))
    output, logsumexp, entropy, max_logit = attention_op(*lowered.arguments)
    return AttentionResult(
        lowered.raised(output, dims=1),
        *(lowered.raised(x) for x in (logsumexp, entropy, max_logit.detach(), counts)),
    )


def attention_vjp(
    query: Any,
    key: Any,
    value: Any,
    grad_output: Any,
    /,
    *,
    grad_logsumexp: Any = None,
    grad_entropy: Any = None,
    result: AttentionResult | None = None,
    **options: Any,
) -> AttentionGradients:
    """
    Gradient of attention of tensors with respect to all that goes into it.

    Parameters
    ----------
    query, key, value : Tensor
        As for :func:`logitkit.torch.attention`.
    grad_output : Tensor, shape of the output
        The gradient that comes in.
    grad_logsumexp, grad_entropy : Tensor, shape of the output without its last axis, optional
        Those of two statistics. Default: 0.
    result : AttentionResult, optional
        What :func:`logitkit.attention_with_stats` gave for the same arguments. Default: it is
        computed once more.
    **options
        As for :func:`logitkit.torch.attention`.

    Returns
    -------
    AttentionGradients
        A named tuple of tensors in the shapes and types of the arguments. `scale` is that of
        `scale`, or of the `kappa` of its schedule if that is a tensor.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor in main memory, or not of the right type.
    ValueError
        If shapes do not fit each other, or a length, window or threshold is out of range.

    See Also
    --------
    logitkit.attention_vjp : The same for arrays.

    Examples
    --------
    >>> import torch
    >>> from logitkit import attention_vjp
    >>> x = torch.eye(2)
    >>> attention_vjp(x, x, x, torch.ones(2, 2)).sinks is None
    True
    """
    scale = options.get("scale")
    lowered = _lowered(query, key, value, **options)
    a = lowered.arguments
    if result is None:
        results = attention_op(*a)[:3]
    else:
        results = [lowered.of_rows(result[0], 1), *(lowered.of_rows(x) for x in result[1:3])]
    incoming = [lowered.of_rows(grad_output, 1).to(query.dtype)]
    incoming += [None if g is None else lowered.of_rows(g) for g in (grad_logsumexp, grad_entropy)]
    point = {"query": query, "key": key, "value": value}
    for name in ("bias", "sinks"):
        if options.get(name) is not None:
            point[name] = _tensor(options[name])
    if scale is not None and not isinstance(scale, AttentionScale):
        point["scale"] = _tensor(scale)

    def arguments(*tensors: Any) -> Any:
        given = {**options, "scale": None, **dict(zip(point, tensors, strict=True))}
        arrays = [given.pop(name) for name in ("query", "key", "value")]
        lowered_given = _lowered(*arrays, **given).arguments
        return tuple(getattr(lowered_given, name) for name in point)

    gradients = attention_vjp_op(
        *(*a[:TENSOR_COUNT], *results, *incoming), *a[TENSOR_COUNT:], "bias" in point
    )
    by_name = dict(zip(DIFFERENTIABLE, gradients, strict=True))
    _, pull_back = torch.func.vjp(arguments, *point.values())
    found = dict(zip(point, pull_back(tuple(by_name[name] for name in point)), strict=True))
    if isinstance(scale, AttentionScale):
        rows, counts = by_name["scale"].double(), visible_keys_op(*_constants(a))
        if a.cu_seqlens_q is not None:
            rows, counts = rows.T, counts.T
        found["scale"] = scale.pull_back(rows, counts, query.shape[-1])
    return AttentionGradients(*(found.get(name) for name in AttentionGradients._fields))


def merge_attention(parts: Sequence[AttentionResult]) -> AttentionResult:
    """
    Attention over all keys, from its results over disjoint parts of them.

    Parameters
    ----------
    parts : sequence of AttentionResult
        Of tensors; at least one.

    Returns
    -------
    AttentionResult
        What the whole would have given, in the types of the first part, differentiable.

    Raises
    ------
    ValueError
        If there is no part, or if their shapes differ.

    See Also
    --------
    logitkit.merge_attention : The same for arrays.

    Examples
    --------
    >>> import torch
    >>> from logitkit import attention_with_stats, merge_attention
    >>> query, key, value = torch.randn(3, 100, 8)
    >>> halves = [slice(0, 50), slice(50, 100)]
    >>> merged = merge_attention([attention_with_stats(query, key[h], value[h]) for h in halves])
    >>> torch.allclose(merged.output, attention_with_stats(query, key, value).output, atol=1e-5)
    True
    """
    shapes = [tuple(part.output.shape) for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"expected parts of one shape, not {', '.join(map(str, shapes))}")
    first = parts[0]

    def stacked(field: str) -> Any:
        return torch.stack([getattr(part, field).double() for part in parts])

    logsumexps = stacked("logsumexp")
    hidden = logsumexps == -_INF  # rows that see nothing of a part
    empty = hidden.all(0)
    terms = logsumexps.masked_fill(empty, 0.0)
    total = torch.logsumexp(terms, 0)
    log_weights = terms - total
    weights = log_weights.exp().masked_fill(hidden, 0.0)
    surprise = log_weights.masked_fill(hidden, 0.0)
    entropy = (weights * (stacked("entropy") - surprise)).sum(0)
    output = (weights.unsqueeze(-1) * stacked("output")).sum(0)
    kind = first.logsumexp.dtype
    return AttentionResult(
        output.to(first.output.dtype),
        total.masked_fill(empty, -_INF).to(kind),
        entropy.to(kind),
        stacked("max_logit").amax(0).to(kind),
        torch.stack([part.n_visible for part in parts]).sum(0),
    )


def attention_entropy_profile(
    query: Any,
    key: Any,
    /,
    *,
    is_causal: bool = True,
    least: int = 16,
    groups_per_octave: int = 1,
    **options: Any,
) -> EntropyProfile:
    """
    Entropy of the attention of tensors against the number of visible keys, for each head.

    Parameters
    ----------
    query, key : Tensor
        As for :func:`logitkit.torch.attention`.
    is_causal, least, groups_per_octave
        As for :func:`logitkit.attention_entropy_profile`.
    **options
        As for :func:`logitkit.torch.attention`.

    Returns
    -------
    EntropyProfile
        Of arrays, without derivatives.

    Raises
    ------
    ValueError
        If fewer than two groups of lengths are left, as a slope needs two.

    See Also
    --------
    logitkit.attention_entropy_profile : The same for arrays.
    """
    with torch.no_grad():
        nothing = key.new_zeros((*key.shape[:-1], 1))
        result = attention_with_stats(query, key, nothing, is_causal=is_causal, **options)
    entropy, n_visible = result.entropy.double().numpy(), result.n_visible.numpy()
    return profile_of(entropy, n_visible, least, groups_per_octave)


def estimate_kappa(query: Any, key: Any, /, **options: Any) -> KappaEstimate:
    """
    Factor of the entropy-invariant scale that suits queries and keys.

    Parameters
    ----------
    query, key : Tensor
        As for :func:`logitkit.estimate_kappa`.
    **options
        The keyword arguments of that function.

    Returns
    -------
    KappaEstimate
        Of arrays, without derivatives; :class:`logitkit.EntropyInvariant` takes its `kappa`.

    Raises
    ------
    ValueError
        If `lengths` are not from 2 to the number of keys, or no scale has that entropy.

    See Also
    --------
    logitkit.estimate_kappa : The same for arrays.
    """
    return _profile.estimate_kappa(*(x.detach().double().numpy() for x in (query, key)), **options)


class _Lowered(NamedTuple):
    """The arguments of the operators, and the way back to the caller's shapes."""

    arguments: Arguments
    rows: tuple[Any, ...]  # the caller's shape of a number for each row

    def raised(self, x: Any, dims: int = 0) -> Any:
        """Return a result in the caller's shape; `dims` of its axes are no rows."""
        return x.reshape(*self.rows, *x.shape[x.dim() - dims :])

    def of_rows(self, x: Any, dims: int = 0) -> Any:
        """Return the way there."""
        return x.reshape(*self.arguments.query.shape[:-1], *x.shape[x.dim() - dims :])


def _lowered(
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
) -> _Lowered:
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
        x = _of_scores(name, _tensor(x), full, lead, packed or paged)
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
        sinks=None if sinks is None else _tensor(sinks).to(compute),
        slopes=_slopes(alibi_slopes, compute),
        **{name: _integers(x) for name, x in where.items()},
        left=left,
        right=min(right, 0) if is_causal else right,
        lower_right=causal_alignment == "lower_right",
        softcap=float(softcap or 0.0),
        threads=threads or 0,
    )
    return _Lowered(arguments._replace(scale=_row_scale(arguments, scale, rows)), rows)


def _checked_type(query: Any, key: Any, value: Any) -> Any:
    types = [result_type(x) and x.dtype for x in (query, key, value)]
    if types[0] not in _TYPES:
        raise TypeError(f"expected query of {', '.join(map(str, _TYPES))}, not {types[0]}")
    if types != types[:1] * 3:
        raise TypeError(
            f"expected query, key and value of one type, not {types[0]}, {types[1]} and {types[2]}"
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
        counts = visible_keys_op(*_constants(a))
        factor = scale.row_scale(counts.T if packed else counts, dim)
        return (factor.T if packed else factor).to(compute).expand(shape)
    scale = _tensor(1.0 / math.sqrt(dim) if scale is None else scale)
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


def _tensor(x: Any) -> Any:
    """Return `x` as a tensor; numbers keep all their digits, whatever the default type is."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, float):
        return torch.full((), x, dtype=torch.float64)
    return torch.as_tensor(np.asarray(x))


def _slopes(x: Any, compute: torch.dtype) -> Any:
    if x is None:
        return None
    x = _tensor(x)
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("alibi_slopes have no gradient: pass them detached, or as a bias")
    return x.to(compute)


def _integers(x: Any) -> Any:
    """Return lengths as a tensor; the kernels refuse those that are no integers."""
    if x is None:
        return None
    x = _tensor(x)
    return x if x.is_floating_point() else x.to(torch.int64)


def _constants(a: Arguments) -> Any:
    return (x.detach() if isinstance(x, Tensor) else x for x in a)


def _are_direct(query: Any, key: Any, value: Any, options: dict[str, Any]) -> bool:
    """Return whether the kernels can read the tensors at once, with no derivative wanted."""
    tensors = [x for x in (query, key, value, *options.values()) if isinstance(x, Tensor)]
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


def _arrays(tensors: Any, options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the memory of all tensors; options of bfloat16, which NumPy has not, are widened."""
    given = {
        name: memory(x.float() if x.dtype == torch.bfloat16 else x) if isinstance(x, Tensor) else x
        for name, x in options.items()
    }
    return [memory(x) for x in tensors], given
