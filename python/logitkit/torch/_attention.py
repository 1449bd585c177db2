"""Scaled softmax attention of tensors."""

from collections.abc import Sequence
from typing import Any

import torch

from .._attention import _forward
from .._attention._profile import (
    EntropyProfile,
    KappaEstimate,
    estimate_of,
    profile_of,
    sampled,
)
from ..reference import AttentionGradients, AttentionResult
from ..reference._attention_scale import AttentionScale
from ._attention_arguments import (
    are_direct,
    as_arrays,
    constants,
    is_differentiated,
    lowered_arguments,
    tensor_of,
)
from ._attention_operator import (
    DIFFERENTIABLE,
    TENSOR_COUNT,
    attention_op,
    attention_output_op,
    attention_vjp_op,
    attention_with_logsumexp_op,
    from_memory,
    visible_keys_op,
)

_INF = float("inf")


def attention(query: Any, key: Any, value: Any, /, **options: Any) -> Any:
    r"""
    Scaled softmax attention of tensors.

    .. math:: o_i = \sum_j p_{ij} v_j, \quad p_i = \operatorname{softmax}_j\big(
              \lambda_i \langle q_i, k_j \rangle + b_{ij}\big)

    Parameters
    ----------
    query, key, value : Tensor
        In main memory or on a CUDA device, of ``float16``, ``bfloat16``, ``float32`` or
        ``float64``, in the shapes that :func:`logitkit.attention` takes.
    **options
        The keyword arguments of :func:`logitkit.attention`. `mask`, `bias`, `scale`, `sinks`
        and the parameter of :class:`logitkit.EntropyInvariant` may be tensors on the device of
        `query`; all but a bool `mask` are differentiated, like `query`, `key` and `value`.

    Returns
    -------
    Tensor, shape (..., heads, length, value_dim)
        In the type of `query`.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor, not of the right type, or on another device than
        `query`.
    ValueError
        If shapes do not fit each other, or a length, window or threshold is out of range.

    See Also
    --------
    logitkit.attention : The same for arrays; its notes hold here too.

    Notes
    -----
    Derivatives of second and higher order store the scores.

    On a GPU nothing looks at lengths, offsets and blocks before the kernel does, as that would
    wait for the GPU: those out of range are no error there but are cut to what there is.
    `threads` means nothing there. The bias's gradient sums scores that are stored 2**26 at a time.

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
    if are_direct(query, key, value, options):
        arrays, given = as_arrays((query, key, value), options)
        return from_memory(_forward.attention(*arrays, **given))
    lowered = lowered_arguments(query, key, value, **options)
    if query.device.type == "cpu":
        return lowered.raised(attention_op(*lowered.arguments)[0], dims=1)
    if is_differentiated(lowered.arguments):
        return lowered.raised(attention_with_logsumexp_op(*lowered.arguments)[0], dims=1)
    return lowered.raised(attention_output_op(*lowered.arguments), dims=1)


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
        If an argument is not a dense tensor, not of the right type, or on another device than
        `query`.
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
    if are_direct(query, key, value, options):
        arrays, given = as_arrays((query, key, value), options)
        return AttentionResult(
            *(from_memory(x) for x in _forward.attention_with_stats(*arrays, **given))
        )
    lowered = lowered_arguments(query, key, value, **options)
    counts = visible_keys_op(*constants(lowered.arguments))
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
        If an argument is not a dense tensor, not of the right type, or on another device than
        `query`.
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
    lowered = lowered_arguments(query, key, value, **options)
    a = lowered.arguments
    if result is None:
        results = attention_op(*a)[:3]
    else:
        results = [lowered.of_rows("output", result[0], 1)]
        results += [lowered.of_rows("logsumexp", result[1]), lowered.of_rows("entropy", result[2])]
    incoming = [lowered.of_rows("grad_output", grad_output, 1).to(query.dtype)]
    for name, g in (("grad_logsumexp", grad_logsumexp), ("grad_entropy", grad_entropy)):
        incoming.append(None if g is None else lowered.of_rows(name, g))
    point = {"query": query, "key": key, "value": value}
    for name in ("bias", "sinks"):
        if options.get(name) is not None:
            point[name] = tensor_of(name, options[name], query)
    if scale is not None and not isinstance(scale, AttentionScale):
        point["scale"] = tensor_of("scale", scale, query)

    def arguments(*tensors: Any) -> Any:
        given = {**options, "scale": None, **dict(zip(point, tensors, strict=True))}
        arrays = [given.pop(name) for name in ("query", "key", "value")]
        lowered_given = lowered_arguments(*arrays, **given).arguments
        return tuple(getattr(lowered_given, name) for name in point)

    gradients = attention_vjp_op(
        *(*a[:TENSOR_COUNT], *results, *incoming), *a[TENSOR_COUNT:], "bias" in point
    )
    by_name = dict(zip(DIFFERENTIABLE, gradients, strict=True))
    _, pull_back = torch.func.vjp(arguments, *point.values())
    found = dict(zip(point, pull_back(tuple(by_name[name] for name in point)), strict=True))
    if isinstance(scale, AttentionScale):
        rows, counts = by_name["scale"].double(), visible_keys_op(*constants(a))
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
        Of arrays in main memory, without derivatives.

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
    entropy, n_visible = result.entropy.double().cpu().numpy(), result.n_visible.cpu().numpy()
    return profile_of(entropy, n_visible, least, groups_per_octave)


def estimate_kappa(
    query: Any,
    key: Any,
    /,
    *,
    entropy: Any = None,
    lengths: Sequence[int] | None = None,
    rows: int = 64,
) -> KappaEstimate:
    """
    Factor of the entropy-invariant scale that suits queries and keys.

    Parameters
    ----------
    query, key : Tensor
        As for :func:`logitkit.estimate_kappa`. The work is done where they lie, in ``float64``.
    entropy, lengths, rows
        As for :func:`logitkit.estimate_kappa`.

    Returns
    -------
    KappaEstimate
        Of arrays in main memory, without derivatives; :class:`logitkit.EntropyInvariant` takes
        its `kappa`.

    Raises
    ------
    ValueError
        If `lengths` are not from 2 to the number of keys, or no scale has that entropy.

    See Also
    --------
    logitkit.estimate_kappa : The same for arrays.
    """
    if isinstance(entropy, torch.Tensor):
        entropy = entropy.detach().cpu().numpy()
    if not isinstance(key, torch.Tensor):
        raise TypeError(f"expected key as a tensor, as query is, not {type(key).__name__}")
    sample, sizes = sampled(tuple(query.shape), tuple(key.shape), lengths, rows)
    heads, key_heads, dim = query.shape[-3], key.shape[-3], key.shape[-1]
    some = query.detach()[..., torch.from_numpy(sample).to(query.device), :].double()
    of_keys = some.unflatten(-3, (key_heads, heads // key_heads)).flatten(-3, -2)
    scores = of_keys @ key.detach().double().transpose(-1, -2)
    scores = scores.reshape(-1, heads, len(sample), key.shape[-2])

    def mean_entropy(n: int, scale: Any) -> Any:
        z = torch.from_numpy(scale).to(scores.device)[:, None, None] * scores[..., :n]
        z = z - z.amax(-1, keepdim=True)
        p = z.exp()
        total = p.sum(-1)
        rows_of_head = total.log() - (p * z).sum(-1) / total
        return rows_of_head.mean((0, 2)).cpu().numpy()

    return estimate_of(mean_entropy, sizes, heads, dim, entropy)
