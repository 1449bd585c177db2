"""Tensors as memory that NumPy reads, and what PyTorch may want of a tensor beyond that."""

from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function_unary

from .._lines import normalized

_COMPUTE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


def _key_bits(*names: str) -> int:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.Undefined)
    for name in names:
        keys = keys | torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name))
    return int(keys.raw_repr())


# PyTorch's dispatcher has a set of keys for each tensor and one for each thread. Whatever makes
# a tensor more than memory adds a key to one of them: another device or layout, a subclass, a
# fake tensor, lazy negation; a transform of torch.func, a dispatch mode, tracing. So the keys of
# a common tensor and of an idle thread replace a list of what to look for, and what is unknown
# counts as special.
_MEMORY_KEYS = _key_bits("CPU", "ADInplaceOrView", "AutogradCPU", "AutocastCPU")
_IDLE_KEYS = _key_bits("BackendSelect", "ADInplaceOrView")


def is_memory(x: Any) -> bool:
    """Return whether `x` is a tensor in main memory that may be read unseen by PyTorch."""
    return (
        not torch.compiler.is_compiling()
        and isinstance(x, Tensor)
        and not has_torch_function_unary(x)  # of a subclass or of a mode
        and not torch._C._dispatch_keys(x).raw_repr() & ~_MEMORY_KEYS
        and not torch._C._dispatch_tls_local_include_set().raw_repr() & ~_IDLE_KEYS
    )


def is_direct(x: Any) -> bool:
    """Return whether a kernel can read `x` at once: nothing to convert, no derivative wanted."""
    return (
        is_memory(x)
        and (x.dtype is torch.float32 or x.dtype is torch.float64)
        and not (x.requires_grad and torch.is_grad_enabled())
        and forward_ad._current_level < 0
    )


def as_array(x: Any) -> Any:
    """Return the memory of `x` as an array."""
    return (x.detach() if x.requires_grad else x).numpy()


def elements(name: str, x: Any) -> Any:
    """Return the elements of `x` as an array without derivatives, or say why they are unknown."""
    x = x.detach()
    if not (is_memory(x) or torch.compiler.is_compiling()):
        elsewhere = "" if x.device.type == "cpu" else f", not on {x.device}"
        raise TypeError(
            f"expected {name} as a tensor whose elements can be read: in main memory{elsewhere}, "
            "and outside of torch.vmap and the transforms of torch.func"
        )
    return as_array(x)


def as_tensor(x: Any) -> Any:
    """Return the memory of `x`, an array or one of NumPy's scalars, as a tensor."""
    return torch.from_numpy(np.asarray(x))


def result_type(*tensors: Any) -> torch.dtype:
    """Return the type of a function of `tensors`; raise an error if there can be none."""
    for x in tensors:
        if not isinstance(x, Tensor):
            raise TypeError(f"expected a tensor, not {type(x).__module__}.{type(x).__qualname__}")
        if x.layout is not torch.strided:
            raise TypeError(f"expected a dense tensor, not one of layout {x.layout}")
        if x.device.type not in ("cpu", "cuda", "meta"):
            raise TypeError(
                f"expected a tensor in main memory or on a CUDA device, not on {x.device}: pass "
                "x.cpu()"
            )
    dtype = reduce(torch.promote_types, (x.dtype for x in tensors))
    if not (dtype.is_floating_point or dtype.is_complex):
        dtype = torch.get_default_dtype()
    if dtype not in _COMPUTE:
        raise TypeError(f"expected real numbers of 16, 32 or 64 bits, or integers, not {dtype}")
    return dtype


def complex_arrays(name: str, *tensors: Any) -> Any:
    """Return the memory of `tensors` in their common type, or None if that is not complex."""
    if not any(isinstance(x, Tensor) and x.is_complex() for x in tensors):
        return None
    if not all(isinstance(x, Tensor) and x.layout is torch.strided for x in tensors):
        return None
    dtype = reduce(torch.promote_types, (x.dtype for x in tensors))
    dense = [x.to(dtype).resolve_conj().resolve_neg() for x in tensors]
    if dtype not in (torch.complex64, torch.complex128) or not all(map(is_memory, dense)):
        return None
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        raise RuntimeError(
            f"{name}() of complex numbers has no derivative: pass x.detach(), or call it under "
            "torch.no_grad()"
        )
    return [as_array(x) for x in dense]


def compute_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which results of type `dtype` are computed."""
    return _COMPUTE[dtype]


def readable(x: Any, dtype: torch.dtype) -> Any:
    """Return `x` as kernels read it for results of type `dtype`: on a GPU also half types."""
    if x.is_cuda and x.dtype == dtype:
        return x
    return x.to(compute_type(dtype))


def lines(x: Any, axis: Any) -> tuple[Any, tuple[int, ...], bool]:
    """Return `x`, the axes that `axis` stands for, at least one, and whether it was added."""
    dim = normalized(axis, max(x.dim(), 1))
    if x.dim() and dim:
        return x, dim, False
    return x.unsqueeze(-1), dim or (x.dim(),), True


def kept(x: Any, dim: Any) -> list[int]:
    """Return the shape of `x` with length one along `dim`."""
    reduced = {i % x.dim() for i in dim}
    return [1 if i in reduced else n for i, n in enumerate(x.shape)]


def refuse_derivatives(name: str, *tensors: Any) -> None:
    """Raise an error if a derivative is wanted of a function that writes into ``out=``."""
    if torch.is_grad_enabled() and any(getattr(x, "requires_grad", False) for x in tensors):
        raise RuntimeError(
            f"{name}(): functions with out=... do not support automatic differentiation, but an "
            "argument requires grad: leave out= away, or call it under torch.no_grad()"
        )


def written(result: Any, out: Any) -> Any:
    """Return `out`, after it was given the values of `result`."""
    if not isinstance(out, Tensor):
        raise TypeError(f"expected out to be a tensor, not a {type(out).__name__}")
    if out.dtype != result.dtype:
        raise TypeError(f"expected out of type {result.dtype}, not {out.dtype}")
    if out.shape != result.shape:
        raise ValueError(f"expected out of shape {tuple(result.shape)}, not {tuple(out.shape)}")
    return out.copy_(result)
