"""Attention and its gradient as operators of PyTorch."""

from typing import Any

import numpy as np
import torch

from .._attention._arguments import Arguments
from .._attention._forward import computed
from .._attention._layout import BFLOAT16
from .._attention._problem import Problem, prepared
from .._attention._vjp import pulled_back as kernel_pulled_back
from ..cuda import _attention as on_gpu
from ..reference import AttentionResult
from ._attention_formula import attended, pulled_back, pushed_forward
from ._operator import operator
from ._tensors import as_array, as_tensor, compute_type

_TENSORS = (
    "Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? bias, Tensor scale, "
    "Tensor? sinks, Tensor? slopes, Tensor? query_offsets, Tensor? key_lengths, "
    "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? block_table"
)
_NUMBERS = "SymInt left, SymInt right, bool lower_right, float softcap, SymInt threads"
TENSOR_COUNT = _TENSORS.count("Tensor")  # the tensors come first
# What has a gradient, and how many of the results have: the last one of attention is a maximum.
DIFFERENTIABLE = ("query", "key", "value", "bias", "scale", "sinks")
_SMOOTH = 3


def memory(x: Any) -> Any:
    """Return the memory of `x` as an array, of bfloat16 too."""
    if x is None or x.dtype != torch.bfloat16:
        return x if x is None else as_array(x)
    return x.detach().view(torch.int16).numpy().view(BFLOAT16)


def from_memory(x: Any) -> Any:
    """Return an array as a tensor, the way back."""
    if x.dtype != BFLOAT16:
        return as_tensor(x)
    return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)


def problem_of(a: Arguments, *, counted: bool) -> Problem:
    """Return the arguments as the kernels take them."""
    arrays = [memory(x) for x in a[:TENSOR_COUNT]]
    query, key, value, mask, bias, scale, sinks, slopes, *where = arrays
    offsets, lengths, cu_q, cu_k, table = where
    options = {
        "mask": mask,
        "bias": bias,
        "is_causal": False,
        "causal_alignment": "lower_right" if a.lower_right else "upper_left",
        "window": (a.left, a.right),
        "scale": scale,
        "softcap": a.softcap or None,
        "alibi_slopes": slopes,
        "sinks": sinks,
        "query_offsets": offsets,
        "key_lengths": lengths,
        "cu_seqlens_q": cu_q,
        "cu_seqlens_k": cu_k,
        "block_table": table,
        "threads": a.threads or None,
    }
    return prepared(query, key, value, options, counted=counted)


class VisibleKeys:
    name = "attention_visible_keys"
    schema = f"({_TENSORS}, {_NUMBERS}) -> Tensor"

    @staticmethod
    def compute(*args: Any) -> Any:
        problem = problem_of(Arguments(*args), counted=True)
        assert problem.n_visible is not None
        return as_tensor(problem.layout.user_rows(problem.n_visible)).contiguous()

    @staticmethod
    def compute_on_gpu(*args: Any) -> Any:
        return on_gpu.visible_keys(Arguments(*args))

    @staticmethod
    def fake(*args: Any) -> Any:
        query = Arguments(*args).query
        return query.new_empty(query.shape[:-1], dtype=torch.int64)

    @staticmethod
    def pullback(*args: Any) -> Any:
        return (None,) * TENSOR_COUNT

    @staticmethod
    def pushforward(*args: Any) -> Any:
        return VisibleKeys.fake(*args[: len(Arguments._fields)]).zero_()

    @staticmethod
    def mapped(call: Any, size: int, in_dims: Any, *args: Any) -> Any:
        return _mapped(call, size, in_dims, args, Arguments._fields[:TENSOR_COUNT])


class Attention:
    name = "attention"
    schema = f"({_TENSORS}, {_NUMBERS}) -> (Tensor, Tensor, Tensor, Tensor)"
    needs_results = True

    @staticmethod
    def compute(*args: Any) -> Any:
        result = computed(problem_of(Arguments(*args), counted=False), stats=True)
        return tuple(from_memory(x) for x in result[:4])

    @staticmethod
    def compute_on_gpu(*args: Any) -> Any:
        return tuple(on_gpu.attention(Arguments(*args)))

    @staticmethod
    def fake(*args: Any) -> Any:
        a = Arguments(*args)
        rows = a.query.shape[:-1]
        stats = (a.query.new_empty(rows, dtype=compute_type(a.query.dtype)) for _ in range(3))
        return a.query.new_empty((*rows, a.value.shape[-1])), *stats

    @staticmethod
    def pullback(*args: Any) -> Any:
        count = len(Arguments._fields)
        a, (results, wanted), cotangents = Arguments(*args[:count]), args[count:-4], args[-4:]
        output, logsumexp, entropy, _ = results
        grad_output = torch.zeros_like(output) if cotangents[0] is None else cotangents[0]
        if all(g is None for g in cotangents[:_SMOOTH]):  # a maximum passes nothing on
            return (None,) * TENSOR_COUNT
        gradients = attention_vjp_op(
            *a[:TENSOR_COUNT],
            *(output, logsumexp, entropy, grad_output, *cotangents[1:_SMOOTH]),
            *a[TENSOR_COUNT:],
            a.bias is not None and wanted[Arguments._fields.index("bias")],
        )
        return _by_tensor(a, gradients)

    @staticmethod
    def pushforward(*args: Any) -> Any:
        count = len(Arguments._fields)
        a, tangents = Arguments(*args[:count]), args[count:]
        given = {name: t for name, t in zip(a._fields, tangents, strict=False) if t is not None}
        names = [name for name in given if name in DIFFERENTIABLE]
        results = pushed_forward(
            lambda *primals: _attended(a, names, primals),
            [getattr(a, name) for name in names],
            [given[name] for name in names],
        )
        return *results, torch.zeros_like(results[1])

    @staticmethod
    def mapped(call: Any, size: int, in_dims: Any, *args: Any) -> Any:
        return _mapped(call, size, in_dims, args, Arguments._fields[:TENSOR_COUNT])


class AttentionOutput:
    """Attention where no derivative is wanted: without statistics, which would be stored."""

    name = "attention_output"
    schema = f"({_TENSORS}, {_NUMBERS}) -> Tensor"

    @staticmethod
    def compute(*args: Any) -> Any:
        return from_memory(
            computed(problem_of(Arguments(*args), counted=False), stats=False).output
        )

    @staticmethod
    def compute_on_gpu(*args: Any) -> Any:
        return on_gpu.attention(Arguments(*args), stats=()).output

    @staticmethod
    def fake(*args: Any) -> Any:
        return Attention.fake(*args)[0]

    @staticmethod
    def pullback(*args: Any) -> Any:
        arguments, cotangents = args[:-1], (args[-1], None, None, None)
        results = tuple(x.detach() for x in attention_op(*arguments))
        return Attention.pullback(*arguments, results, (True,) * TENSOR_COUNT, *cotangents)

    @staticmethod
    def pushforward(*args: Any) -> Any:
        return Attention.pushforward(*args)[0]

    @staticmethod
    def mapped(call: Any, size: int, in_dims: Any, *args: Any) -> Any:
        return _mapped(call, size, in_dims, args, Arguments._fields[:TENSOR_COUNT])


class AttentionWithLogsumexp:
    """Attention and what the gradient of its output needs: less work than all statistics."""

    name = "attention_with_logsumexp"
    schema = f"({_TENSORS}, {_NUMBERS}) -> (Tensor, Tensor)"
    needs_results = True

    @staticmethod
    def compute(*args: Any) -> Any:
        return Attention.compute(*args)[:2]

    @staticmethod
    def compute_on_gpu(*args: Any) -> Any:
        return tuple(on_gpu.attention(Arguments(*args), stats=("logsumexp",))[:2])

    @staticmethod
    def fake(*args: Any) -> Any:
        return Attention.fake(*args)[:2]

    @staticmethod
    def pullback(*args: Any) -> Any:
        *arguments, (output, logsumexp), wanted, grad_output, grad_logsumexp = args
        nothing = torch.zeros_like(logsumexp)  # no entropy has a cotangent
        results = output, logsumexp, nothing, nothing
        return Attention.pullback(
            *arguments, results, wanted, grad_output, grad_logsumexp, None, None
        )

    @staticmethod
    def pushforward(*args: Any) -> Any:
        return Attention.pushforward(*args)[:2]

    @staticmethod
    def mapped(call: Any, size: int, in_dims: Any, *args: Any) -> Any:
        return _mapped(call, size, in_dims, args, Arguments._fields[:TENSOR_COUNT])


class AttentionVJP:
    """
    The gradient of attention, given its results, which are taken as constants.

    Gradients of what is not given are empty; so is that of `bias` unless `wants_bias`.
    """

    name = "attention_vjp"
    schema = (
        f"({_TENSORS}, Tensor output, Tensor logsumexp, Tensor entropy, Tensor grad_output, "
        f"Tensor? grad_logsumexp, Tensor? grad_entropy, {_NUMBERS}, bool wants_bias) -> "
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    )

    @staticmethod
    def compute(*args: Any) -> Any:
        a, results, incoming, wants_bias = _split(args)
        _refuse_pages(a)
        problem = problem_of(a, counted=False)
        output, logsumexp, entropy = (memory(x) for x in results)
        raw = kernel_pulled_back(
            problem,
            AttentionResult(output, logsumexp, entropy, None, None),
            *(memory(x) for x in incoming),
            bias=memory(a.bias) if wants_bias else None,
            wants_scale=True,
        )
        grads = [raw.query, raw.key, raw.value]
        if a.cu_seqlens_q is not None:
            grads = [x[0].swapaxes(0, 1) for x in grads]
        grads.append(problem.layout.user_rows(raw.scale))
        pair = [
            x.new_empty(0) if g is None else as_tensor(g).to(a.scale.dtype)
            for x, g in ((a.scale, raw.bias), (a.scale, raw.sinks))
        ]
        query, key, value, scale = (from_memory(np.ascontiguousarray(x)) for x in grads)
        return query, key, value, pair[0], scale, pair[1]

    @staticmethod
    def compute_on_gpu(*args: Any) -> Any:
        a, results, incoming, wants_bias = _split(args)
        _refuse_pages(a)
        gradients = on_gpu.attention_gradient(a, results, *incoming, wants_bias=wants_bias)
        return tuple(a.scale.new_empty(0) if g is None else g for g in gradients)

    @staticmethod
    def fake(*args: Any) -> Any:
        a, _, _, wants_bias = _split(args)
        bias = a.scale.new_empty(a.bias.shape if wants_bias else 0)
        sinks = a.scale.new_empty(0 if a.sinks is None else a.sinks.shape)
        arrays = [x.new_empty(x.shape) for x in (a.query, a.key, a.value)]
        return *arrays, bias, a.scale.new_empty(a.scale.shape), sinks

    @staticmethod
    def pullback(*args: Any) -> Any:
        args, cotangents = args[:-6], args[-6:]
        primals, names, function = _differentiable(args)
        outgoing = function(*primals)
        cotangents = tuple(
            torch.zeros_like(x) if g is None else g
            for x, g in zip(outgoing, cotangents, strict=True)
        )
        found = dict(zip(names, pulled_back(function, primals, cotangents), strict=True))
        return tuple(found.get(name) for name in _VJP_TENSORS)

    @staticmethod
    def pushforward(*args: Any) -> Any:
        count = len(_VJP_TENSORS)
        args, tangents = args[:-count], args[-count:]
        primals, names, function = _differentiable(args)
        given = dict(zip(_VJP_TENSORS, tangents, strict=True))
        moved = [
            torch.zeros_like(x) if given[name] is None else given[name]
            for name, x in zip(names, primals, strict=True)
        ]
        return pushed_forward(function, primals, moved)

    @staticmethod
    def mapped(call: Any, size: int, in_dims: Any, *args: Any) -> Any:
        return _mapped(call, size, in_dims, args, _VJP_TENSORS)


_INCOMING = ("grad_output", "grad_logsumexp", "grad_entropy")
_VJP_TENSORS = (*Arguments._fields[:TENSOR_COUNT], "output", "logsumexp", "entropy", *_INCOMING)

visible_keys_op, attention_op = operator(VisibleKeys), operator(Attention)
attention_output_op, attention_vjp_op = operator(AttentionOutput), operator(AttentionVJP)
attention_with_logsumexp_op = operator(AttentionWithLogsumexp)


def _split(args: Any) -> tuple[Arguments, Any, Any, Any]:
    """Return the arguments of attention, its results, what comes in and `wants_bias`."""
    end = len(_VJP_TENSORS)
    arguments = Arguments(*args[:TENSOR_COUNT], *args[end:-1])
    return arguments, args[TENSOR_COUNT : TENSOR_COUNT + 3], args[TENSOR_COUNT + 3 : end], args[-1]


def _refuse_pages(a: Arguments) -> None:
    if a.block_table is not None:
        raise ValueError("expected no block_table: a paged cache has no gradients")


def _by_tensor(a: Arguments, gradients: Any) -> Any:
    """Return the gradient of each tensor, None for what has none."""
    found = dict(zip(DIFFERENTIABLE, gradients, strict=True))
    for name in ("bias", "sinks"):
        argument = getattr(a, name)
        if argument is None or found[name].shape != argument.shape:
            found[name] = None
    return tuple(found.get(name) for name in Arguments._fields[:TENSOR_COUNT])


def _attended(a: Arguments, names: Any, primals: Any) -> Any:
    """Return the formula's results with `primals` in place of the arguments `names`."""
    _refuse_pages(a)
    given = a._replace(**dict(zip(names, primals, strict=True)))
    wide = {name: getattr(given, name).to(a.scale.dtype) for name in ("query", "key", "value")}
    output, logsumexp, entropy = attended(given._replace(**wide))
    return output.to(a.query.dtype), logsumexp, entropy


def _differentiable(args: Any) -> tuple[list[Any], list[str], Any]:
    """Return what the gradient can be differentiated with respect to, and it as a function."""
    a, _, incoming, wants_bias = _split(args)
    names = [name for name in DIFFERENTIABLE if getattr(a, name) is not None]
    cotangents = {n: g for n, g in zip(_INCOMING, incoming, strict=True) if g is not None}

    def function(*primals: Any) -> Any:
        given = dict(zip([*names, *cotangents], primals, strict=True))
        point = [given[name] for name in names]
        results = _attended(a, names, point)
        outgoing = [
            given.get(name, torch.zeros_like(x)) for name, x in zip(_INCOMING, results, strict=True)
        ]
        found = dict(
            zip(
                names,
                pulled_back(lambda *x: _attended(a, names, x), point, outgoing),
                strict=True,
            )
        )
        if not wants_bias:
            found.pop("bias", None)
        return tuple(found.get(name, a.scale.new_empty(0)) for name in DIFFERENTIABLE)

    primals = [getattr(a, name) for name in names] + list(cotangents.values())
    return primals, [*names, *cotangents], function


def _mapped(call: Any, size: int, in_dims: Any, args: Any, names: Any) -> Any:
    """Map over one axis of the tensors: as more batches if there is room for them."""
    given = dict(zip(names, zip(args, in_dims, strict=False), strict=False))
    fixed = [name for name in ("sinks", "slopes") if given[name][1] is not None]
    sums = "output" in given and (args[-1] or given["sinks"][0] is not None)  # over all batches
    laid_out = any(given[name][0] is not None for name in ("cu_seqlens_q", "block_table"))
    call_all = _one_by_one if fixed or sums or laid_out else _as_batches
    results = call_all(call, size, given, args[len(names) :])
    return results, 0 if isinstance(results, torch.Tensor) else (0,) * len(results)


def _one_by_one(call: Any, size: int, given: Any, others: Any) -> Any:
    rows = [
        call(*(x if dim is None else x.select(dim, i) for x, dim in given.values()), *others)
        for i in range(size)
    ]
    if isinstance(rows[0], torch.Tensor):
        return torch.stack(rows)
    return tuple(torch.stack(x) for x in zip(*rows, strict=True))


def _as_batches(call: Any, size: int, given: Any, others: Any) -> Any:
    query, dim = given["query"]
    batches = query.shape[0 if dim is None else 0 if dim % query.dim() else 1]

    def merged(name: str, x: Any, dim: int | None) -> Any:
        if x is None or name in ("sinks", "slopes"):
            return x
        if dim is None and name in ("mask", "bias") and len(x) == 1:
            return x
        x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        return x.expand(size, batches, *x.shape[2:]).flatten(0, 1)

    results = call(*(merged(name, *pair) for name, pair in given.items()), *others)
    if isinstance(results, torch.Tensor):
        return results.unflatten(0, (size, batches))
    return tuple(
        x.unflatten(0, (size, batches)) if x.dim() > 1 else x.expand(size, -1) for x in results
    )
