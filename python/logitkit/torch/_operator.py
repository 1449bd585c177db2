"""How a function of NumPy's arrays becomes an operator of PyTorch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._tensors import is_memory


def registered(
    name: str,
    schema: str,
    compute: Callable[..., Any],
    fake: Callable[..., Any],
    compute_on_gpu: Callable[..., Any] | None = None,
) -> tuple[Any, Any]:
    """
    Register an operator for tensors in main memory; return it, and what calls it.

    Without `compute_on_gpu` it refuses tensors on a GPU.
    """
    op = torch.library.custom_op(
        f"logitkit::{name}", compute, mutates_args=(), device_types="cpu", schema=schema
    )
    op.register_fake(fake)
    op.register_kernel("cuda", compute_on_gpu or _refusal(name))
    return op, getattr(torch.ops.logitkit, name).default


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*args: Any) -> Any:
        device = next(x.device for x in args if isinstance(x, Tensor))
        raise TypeError(
            f"expected a tensor in main memory, not on {device}, where {name} has no kernel: pass "
            "x.cpu()"
        )

    return refuse


def operator(definition: Any) -> Callable[..., Any]:
    """
    Return the differentiable function of tensors that `definition`, a class, defines.

    Its arguments are tensors, some of which may be None, then numbers. It is registered as
    ``torch.ops.logitkit.<name>``. `definition` has a `name`, a `schema`, which says the same to
    PyTorch, and these static methods of the same arguments:

    - `compute` returns the results for tensors in main memory;
    - `fake` returns tensors of the same shapes, types and strides, without values;
    - `pullback`, also given a cotangent for each result, or None, returns a gradient for each
      tensor: the product with the transposed Jacobian;
    - `pushforward`, also given a tangent for each tensor, or None, returns one for each
      result: the product with the Jacobian.

    The last two consist of differentiable functions, so that derivatives of any order exist.

    The first of the numbers is `dim`, the axes along which lines of the tensors run, and results
    keep these axes, with length one if they are reduced; a `definition` for which that is not so
    has one more method, `mapped`, which is its rule for ``vmap``: of the function to call, the
    size of the mapped axis, where each argument has it, and the arguments. One with
    ``needs_results = True`` has a `pullback` that is given two things more before the
    cotangents: the results, as constants, and for each tensor whether its gradient is wanted.
    One with a kernel for GPUs has a method `compute_on_gpu`.
    """
    op, overload = registered(
        definition.name,
        definition.schema,
        definition.compute,
        definition.fake,
        getattr(definition, "compute_on_gpu", None),
    )
    differentiable = _differentiable(definition, overload)

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            if not _is_differentiated():
                return overload(*args)
            # What follows runs without the compiler; with fullgraph=True this is an error.
            torch._dynamo.graph_break(
                msg="logitkit cannot be compiled inside transforms of torch.func that "
                "differentiate: compile what they are applied to, or without fullgraph=True"
            )
        if _are_memory(args):
            # What `apply` does first is for transforms, and takes longer than all the rest.
            return super(torch.autograd.Function, differentiable).apply(*args)
        return differentiable.apply(*args)

    differentiable.vmap = staticmethod(_mapped(definition, call))
    op.register_autograd(differentiable.backward, setup_context=differentiable.setup_context)
    op.register_vmap(_mapped(definition, overload))
    return call


def _differentiable(definition: Any, overload: Any) -> Any:
    """
    Return `overload` with derivatives in every mode.

    The derivatives that PyTorch registers with an operator are what the compiler needs, but
    they fail under torch.func (pytorch/pytorch issue 168393, seen in 2.13), and in forward mode
    are taken to be zero, without a word. An ``autograd.Function`` can do both.
    """
    needs_results = getattr(definition, "needs_results", False)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return definition.compute(*args) if _are_memory(args) else overload(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.count = _count_tensors(inputs)
            tensors, ctx.others = inputs[: ctx.count], inputs[ctx.count :]
            ctx.save_for_backward(*tensors, *(output if needs_results else ()))
            ctx.save_for_forward(*tensors)
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:
            tensors, results = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
            gradients: Any = (None,) * ctx.count
            if any(g is not None for g in cotangents):
                more: tuple[Any, ...] = ()
                if needs_results:
                    constants = tuple(result.detach() for result in results)
                    more = (constants, ctx.needs_input_grad[: ctx.count])
                gradients = definition.pullback(*tensors, *ctx.others, *more, *cotangents)
            gradients = (gradients,) if isinstance(gradients, Tensor) else gradients
            return (*gradients, *(None for _ in ctx.others))

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            # An outer derivative in forward mode is one of this code, at the tensors without
            # the tangents that it is given. PyTorch would switch it off, and get zero.
            with forward_ad._set_fwd_grad_enabled(True):
                primals = [
                    x if x is None else forward_ad.unpack_dual(x).primal
                    for x in ctx.saved_tensors[: ctx.count]
                ]
                return definition.pushforward(*primals, *ctx.others, *tangents[: len(primals)])

    Differentiable.__name__ = definition.__name__
    return Differentiable


def _are_memory(args: Any) -> bool:
    return all(is_memory(arg) for arg in args if isinstance(arg, Tensor))


def _count_tensors(args: Any) -> int:
    """Return how many of the arguments are tensors or None, which all come first."""
    return next(
        (i for i, x in enumerate(args) if not (x is None or isinstance(x, Tensor))), len(args)
    )


def _mapped(definition: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    if hasattr(definition, "mapped"):
        return lambda info, in_dims, *args: definition.mapped(call, info.batch_size, in_dims, *args)

    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        """Map over one axis of all tensors: there where the first has it, without a copy."""
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        dim, *others = args[len(tensors) :]
        at = next(i for i in in_dims[: len(tensors)] if i is not None)
        tensors = [
            x.unsqueeze(at).expand(*x.shape[:at], info.batch_size, *x.shape[at:])
            if i is None
            else x.movedim(i, at)
            for x, i in zip(tensors, in_dims, strict=False)
        ]
        ndim = tensors[0].dim() - 1
        results = call(*tensors, [i % ndim + (i % ndim >= at) for i in dim], *others)
        return results, at if isinstance(results, Tensor) else (at,) * len(results)

    return vmap


@torch.compiler.assume_constant_result
def _is_differentiated() -> bool:
    """Return whether a transform of torch.func other than vmap is at work."""
    transforms = torch._C._functorch.get_interpreter_stack() or ()
    return any(t.key() != torch._C._functorch.TransformType.Vmap for t in transforms)
