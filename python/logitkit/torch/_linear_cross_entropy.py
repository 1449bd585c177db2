"""Cross-entropy of a linear layer as operators of PyTorch."""

from typing import Any

import torch

from ..cuda import _linear_cross_entropy as on_gpu
from ..losses._layer_kernel import (
    LayerArrays,
    LayerNumbers,
    RowStats,
    row_stats,
    row_values,
    values_and_gradients,
)
from ..losses._linear_cross_entropy import LayerTerms
from ..reference.losses._classes import class_formula, logarithm_phi
from ._operator import registered
from ._tensors import as_array, as_tensor, is_memory, readable, result_type

_LAYER = "Tensor input, Tensor weight, Tensor? bias"
_TARGET = "Tensor labels, Tensor? targets, Tensor? class_weight"
_NUMBERS = "float softcap, float label_smoothing, float z_loss"


def computing(arrays: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return tensors in the type to compute in, and the type of results."""
    dtype = result_type(*arrays.values())
    return {name: readable(x, dtype).contiguous() for name, x in arrays.items()}, dtype


def layer_stats(arrays: LayerArrays, numbers: LayerNumbers) -> RowStats:
    """Return the statistics of the rows, constants."""
    if arrays.input.is_cuda:
        return on_gpu.row_stats(LayerArrays(*map(_constant, arrays)), numbers, aux=True)
    stats = row_stats(_as_arrays(*arrays), numbers, aux=True)
    return RowStats(*(None if x is None else as_tensor(x) for x in stats))


def layer_loss(terms: LayerTerms) -> Any:
    """Return the loss, with gradients that come from the pass that computes it if they can."""
    layer, weighting = terms.arrays[:3], terms.weighting
    rest = *terms.arrays[3:], *terms.numbers
    argnums = [i for i, x in zip((0, 1, 3), layer, strict=True) if x is not None and _varies(x)]
    if callable(weighting.reduction) or weighting.reduction == "none" or not argnums:
        return weighting.reduced(values_op(*layer, *rest).reshape(terms.shape))
    ones = layer[0].new_ones(terms.shape)
    g = ones * weighting.kept_weight(ones)
    if weighting.reduction == "mean":
        g = g / weighting.divisor(ones)
    return total_op(*layer, g.reshape(-1), *rest, argnums)[0]


def _varies(x: Any) -> bool:
    return bool(x.requires_grad and torch.is_grad_enabled())


def _constant(x: Any) -> Any:
    return None if x is None else x.detach()


def _as_arrays(*tensors: Any) -> LayerArrays:
    return LayerArrays(*(None if x is None else as_array(x) for x in tensors))


def _formula(layer: Any, rest: Any) -> Any:
    """Return the values of the rows by their definition, which stores the logits."""
    x, weight, bias = layer
    labels, targets, class_weight, softcap, label_smoothing, z_loss = rest
    z = x @ weight.T
    z = z if bias is None else z + bias
    z = softcap * torch.tanh(z / softcap) if softcap else z
    z = torch.where((labels < 0)[:, None], torch.zeros_like(z), z)
    target = labels if targets is None else targets
    values = class_formula(torch, logarithm_phi, z, target, class_weight, label_smoothing, z_loss)
    return torch.where(labels < 0, torch.zeros_like(values), values)


def _values(*args: Any) -> Any:
    values = row_values(_as_arrays(*args[:6]), LayerNumbers(*args[6:9]))
    return as_tensor(values).to(args[0].dtype)


def _values_on_gpu(*args: Any) -> Any:
    values = on_gpu.row_values(LayerArrays(*args[:6]), LayerNumbers(*args[6:9]))
    return values.to(args[0].dtype)


def _total(*args: Any) -> Any:
    """Return the sum of values times `g`, the values, and gradients, empty if not wanted."""
    layer, g, rest, argnums = args[:3], args[3], args[4:10], args[10]
    arrays = _as_arrays(*layer, *rest[:3])
    values, gradients = values_and_gradients(
        arrays, LayerNumbers(*rest[3:]), as_array(g), tuple(argnums)
    )
    total = as_tensor((values * as_array(g)).sum()).to(g.dtype)
    found = (
        as_tensor(gradients[i]) if i in gradients else layer[0].new_empty(0) for i in (0, 1, 3)
    )
    return total, as_tensor(values).to(g.dtype), *found


def _total_on_gpu(*args: Any) -> Any:
    layer, g, rest, argnums = args[:3], args[3], args[4:10], args[10]
    arrays = LayerArrays(*layer, *rest[:3])
    values, gradients = on_gpu.values_and_gradients(
        arrays, LayerNumbers(*rest[3:]), g, tuple(argnums)
    )
    found = (gradients[i] if i in gradients else layer[0].new_empty(0) for i in (0, 1, 3))
    return (values * g).sum().to(g.dtype), values.to(g.dtype), *found


def _fake_total(*args: Any) -> Any:
    layer, argnums = args[:3], args[10]
    found = (
        x.new_empty(x.shape) if i in argnums else layer[0].new_empty(0)
        for i, x in zip((0, 1, 3), layer, strict=True)
    )
    return layer[0].new_empty(()), layer[0].new_empty(layer[0].shape[:1]), *found


def _keep_values(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.numbers = inputs[6:]


def _values_backward(ctx: Any, g: Any) -> Any:
    layer, target = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
    argnums = [i for i, k in ((0, 0), (1, 1), (3, 2)) if ctx.needs_input_grad[k]]
    _, _, *found = total_op(*layer, g.contiguous(), *target, *ctx.numbers, argnums)
    gradients = (x if i in argnums else None for i, x in zip((0, 1, 3), found, strict=True))
    return *gradients, *(None,) * 6


def _keep_total(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:7], *output[1:])
    ctx.others = inputs[7:]
    ctx.set_materialize_grads(False)


def _total_backward(ctx: Any, v: Any, *of_results: Any) -> Any:
    """
    Return gradients: of the total times `v`, and of its gradients times `of_results`.

    The results after the total are its gradients, those of `g` being the values.
    """
    layer, g, target = ctx.saved_tensors[:3], ctx.saved_tensors[3], ctx.saved_tensors[4:7]
    values, *found = ctx.saved_tensors[7:]
    argnums = ctx.others[-1]
    wanted = [0 in argnums, 1 in argnums, 3 in argnums, ctx.needs_input_grad[3]]
    gradients: list[Any] = [None] * 4
    if v is not None:
        for k, x in enumerate((*found, values)):
            if wanted[k]:
                gradients[k] = _scaled(v, x)
    cotangents = (*of_results[1:], of_results[0])
    if any(u is not None for u in cotangents):
        moved = _second_order((*layer, g), (*target, *ctx.others[:-1]), wanted, cotangents)
        for k, x in moved:
            gradients[k] = x if gradients[k] is None else gradients[k] + x
    return *gradients, *(None,) * 7


def _scaled(v: Any, x: Any) -> Any:
    """Return ``v * x``, without a pass over memory where `v` is known to be 1."""
    if is_memory(v) and not torch.is_grad_enabled() and v.item() == 1.0:
        return x
    return v * x


def _second_order(primals: Any, rest: Any, wanted: Any, cotangents: Any) -> Any:
    """Return the Hessian of the total times `cotangents`, with respect to what is wanted."""
    moving = [
        k for k, x in enumerate(primals) if x is not None and (wanted[k] or k == len(primals) - 1)
    ]

    def total(*given: Any) -> Any:
        every = list(primals)
        for k, x in zip(moving, given, strict=True):
            every[k] = x
        return (_formula(every[:3], rest) * every[3]).sum()

    start = tuple(primals[k] for k in moving)
    given = tuple(
        torch.zeros_like(primals[k]) if cotangents[k] is None else cotangents[k] for k in moving
    )
    slopes = torch.func.grad(total, tuple(range(len(moving))))
    moved = torch.func.vjp(slopes, *start)[1](given)  # it is symmetric
    return [(k, x) for k, x in zip(moving, moved, strict=True) if wanted[k]]


def _operator(
    name: str, schema: str, compute: Any, compute_on_gpu: Any, fake: Any, backward: Any, keep: Any
) -> Any:
    op, overload = registered(name, schema, compute, fake, compute_on_gpu)
    op.register_autograd(backward, setup_context=keep)
    return overload


values_op = _operator(
    "linear_cross_entropy",
    f"({_LAYER}, {_TARGET}, {_NUMBERS}) -> Tensor",
    _values,
    _values_on_gpu,
    lambda *args: args[0].new_empty(args[0].shape[:1]),
    _values_backward,
    _keep_values,
)
total_op = _operator(
    "linear_cross_entropy_total",
    f"({_LAYER}, Tensor g, {_TARGET}, {_NUMBERS}, int[] argnums)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _total,
    _total_on_gpu,
    _fake_total,
    _total_backward,
    _keep_total,
)
