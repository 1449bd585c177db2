"""Losses of rows as operators of PyTorch, made of their definition."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..cuda._cross_entropy import cross_entropy_rows
from ..losses._row_loss import RowLoss, spread
from ..losses._row_losses import ROW_LOSSES
from ._operator import registered
from ._tensors import as_array, as_tensor, compute_type, is_memory, result_type

# Types that PyTorch stores, but neither compares nor adds.
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def floating(x: Any) -> tuple[Any, Any]:
    """Return `x` in the type to compute in, and the type of results."""
    dtype = result_type(x)
    return x.to(compute_type(dtype)), dtype


def like(x: Any, other: Any) -> Any:
    """Return `x` as a tensor beside `other`; numbers with a fraction take its type."""
    if not isinstance(x, Tensor):
        x = torch.as_tensor(np.asarray(x), device=other.device)  # numbers in all their digits
    if x.dtype in _UNSIGNED:
        return x.to(torch.int64)
    return x.to(other.dtype) if x.is_floating_point() else x


def is_known(x: Any) -> bool:
    """Return whether Python may look at the elements of `x`."""
    return is_memory(x)


def row_loss(loss: RowLoss) -> Callable[..., Any]:
    """Return the differentiable function of tensors that `loss` defines: of arrays, then numbers."""
    return _FUNCTIONS[loss.name]


def _function(loss: RowLoss) -> Callable[..., Any]:
    """
    Make the operator of `loss`, and return the function that calls it.

    The operator ``torch.ops.logitkit.<name>`` takes these and ``argnums``, and returns the
    values of the rows, and for each differentiable array its slopes, empty unless its number is
    in ``argnums``. They come from the kernel, and the first backward pass multiplies them by
    what arrives at the values. Derivatives of the slopes are those of the formula.
    """
    op, overload = registered(
        loss.name,
        _schema(loss),
        lambda *args: _compute(loss, *args),
        lambda *args: _fake(loss, *args),
        lambda *args: _on_gpu(loss, *args),
    )
    differentiable = _differentiable(loss, overload)
    op.register_autograd(differentiable.backward, setup_context=differentiable.setup_context)
    op.register_vmap(_mapped(loss, overload))

    def values(*args: Any) -> Any:
        argnums = [i for i in range(loss.differentiable) if _may_vary(args[i])]
        if torch.compiler.is_compiling():
            return overload(*args, argnums)[0]
        return differentiable.apply(*args, argnums)[0]

    differentiable.vmap = staticmethod(_mapped(loss, differentiable.apply))
    return values


def _schema(loss: RowLoss) -> str:
    tensors = [
        f"Tensor? {name[:-1]}" if name[-1] == "?" else f"Tensor {name}" for name in loss.arrays
    ]
    numbers = [f"{kind} {name}" for name, kind in loss.numbers]
    results = ", ".join(["Tensor"] * (1 + loss.differentiable))
    return f"({', '.join([*tensors, *numbers, 'int[] argnums'])}) -> ({results})"


def _compute(loss: RowLoss, *args: Any) -> tuple[Any, ...]:
    arrays = [None if x is None else as_array(x) for x in args[: len(loss.arrays)]]
    numbers = _numbers(loss, args)
    values, slopes = loss.computed(*arrays, argnums=tuple(args[-1]), **numbers)
    found = dict(zip(args[-1], slopes, strict=True))
    results = [as_tensor(values).contiguous()]
    for i in range(loss.differentiable):
        results.append(as_tensor(found[i]).contiguous() if i in found else args[0].new_empty(0))
    return tuple(results)


def _on_gpu(loss: RowLoss, *args: Any) -> tuple[Any, ...]:
    if loss.name == "cross_entropy" and 1 not in args[-1]:
        return _cross_entropy_on_gpu(*args)
    return _by_formula(loss, *args)


def _cross_entropy_on_gpu(
    x: Any, target: Any, weight: Any, label_smoothing: float, z_loss: float, argnums: Any
) -> tuple[Any, ...]:
    """Return what the kernel does, with no slopes of the target."""
    rows = x.reshape(-1, x.shape[-1])
    hard = target.dim() < x.dim()
    found = cross_entropy_rows(
        rows,
        target.reshape(-1).long() if hard else target.new_zeros(len(rows), dtype=torch.int64),
        targets=None if hard else target.reshape(rows.shape).to(x.dtype),
        class_weight=weight,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        with_gradient=0 in argnums,
    )
    values = found.values.to(x.dtype).reshape(x.shape[:-1])
    empty = x.new_empty(0)
    return values, empty if found.gradient is None else found.gradient.reshape(x.shape), empty


def _by_formula(loss: RowLoss, *args: Any) -> tuple[Any, ...]:
    """Return what the kernel does, by PyTorch's own functions, for tensors on a GPU."""
    arrays, argnums, numbers = list(args[: len(loss.arrays)]), args[-1], _numbers(loss, args)

    def total(*moving: Any) -> Any:
        for i, x in zip(argnums, moving, strict=True):
            arrays[i] = x
        values = loss.formula(torch, *arrays, **numbers)
        return values.sum(), values

    moving = tuple(arrays[i] for i in argnums)
    with _device_of(args[0]):
        if moving:
            slopes, values = torch.func.grad(total, tuple(range(len(moving))), has_aux=True)(
                *moving
            )
        else:
            slopes, values = (), total()[1]
    found = dict(zip(argnums, slopes, strict=True))
    results = [values.contiguous()]
    for i in range(loss.differentiable):
        results.append(found[i].contiguous() if i in found else args[0].new_empty(0))
    return tuple(results)


def _device_of(x: Any) -> Any:
    """Return the context in which what a formula makes lies where `x` does."""
    return nullcontext() if x.device.type == "cpu" else x.device


def _fake(loss: RowLoss, *args: Any) -> tuple[Any, ...]:
    first = args[0]
    slopes = (
        args[i].new_empty(args[i].shape) if i in args[-1] else first.new_empty(0)
        for i in range(loss.differentiable)
    )
    return first.new_empty(first.shape[: first.dim() - loss.core]), *slopes


def _numbers(loss: RowLoss, args: Any) -> dict[str, Any]:
    given = args[len(loss.arrays) : -1]
    return {name: x for (name, _), x in zip(loss.numbers, given, strict=True)}


def _may_vary(x: Any) -> bool:
    """Return whether a derivative with respect to `x` may be wanted."""
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        return False
    if torch.compiler.is_compiling():
        return bool(x.requires_grad)
    return bool(
        (x.requires_grad and torch.is_grad_enabled())
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def _differentiable(loss: RowLoss, overload: Any) -> Any:
    """Return `overload` with derivatives in every mode; see ``_operator._differentiable``."""
    count = len(loss.arrays)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return overload(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            kept = *inputs[:count], *output[1:]
            ctx.save_for_backward(*kept)
            ctx.save_for_forward(*kept)
            ctx.others = inputs[count:]
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:
            arrays, slopes = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
            g, of_slopes = cotangents[0], cotangents[1:]
            gradients: list[Any] = [None] * (count + len(ctx.others))
            for i in ctx.others[-1]:
                if g is not None:
                    gradients[i] = spread(g, slopes[i]) * slopes[i]
            if any(u is not None for u in of_slopes):
                second = _second_order(loss, arrays, ctx.others, of_slopes)
                for i, change in second:
                    gradients[i] = change if gradients[i] is None else gradients[i] + change
            return tuple(gradients)

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            with forward_ad._set_fwd_grad_enabled(True):
                saved: list[Any] = [
                    None if x is None else forward_ad.unpack_dual(x).primal
                    for x in ctx.saved_tensors
                ]
                arrays, slopes = saved[:count], saved[count:]
                change: Any = 0.0
                for i in ctx.others[-1]:
                    if tangents[i] is not None:
                        within = tuple(range(arrays[0].dim() - loss.core, arrays[i].dim()))
                        along = slopes[i] * tangents[i]
                        change = change + (along.sum(within) if within else along)
                moved = dict(_second_order(loss, arrays, ctx.others, tangents))
                return change, *(
                    moved.get(i, torch.zeros_like(slope)) for i, slope in enumerate(slopes)
                )

    Differentiable.__name__ = loss.name
    return Differentiable


def _second_order(loss: RowLoss, arrays: Any, others: Any, vectors: Any) -> list[tuple[int, Any]]:
    """Return the Hessian of the sum of the values times `vectors`, by the formula."""
    argnums = others[-1]
    numbers = dict(zip((name for name, _ in loss.numbers), others[:-1], strict=True))

    def gradients(*moving: Any) -> Any:
        def total(*inner: Any) -> Any:
            all_arrays = list(arrays)
            for i, x in zip(argnums, inner, strict=True):
                all_arrays[i] = x
            return loss.formula(torch, *all_arrays, **numbers).sum()

        with _device_of(arrays[0]):
            return torch.func.grad(total, tuple(range(len(moving))))(*moving)

    primals = tuple(arrays[i] for i in argnums)
    given = tuple(
        torch.zeros_like(x) if vectors[i] is None else vectors[i]
        for i, x in zip(argnums, primals, strict=True)
    )
    moved = torch.func.vjp(gradients, *primals)[1](given)  # it is symmetric
    return list(zip(argnums, moved, strict=True))


def _mapped(loss: RowLoss, call: Callable[..., Any]) -> Callable[..., Any]:
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        """Map over the first axis of all tensors: one more axis of rows."""
        tensors = [
            x
            if not isinstance(x, Tensor)
            else x.unsqueeze(0).expand(info.batch_size, *x.shape)
            if i is None
            else x.movedim(i, 0)
            for x, i in zip(args, in_dims, strict=True)
        ]
        results = call(*tensors)
        # Slopes that nobody asked for are empty.
        return results, (0, *(0 if i in args[-1] else None for i in range(loss.differentiable)))

    return vmap


# All at once, when this is imported: a compiler that reads a call cannot make operators.
_FUNCTIONS = {loss.name: _function(loss) for loss in ROW_LOSSES}
