"""Softmax and its logarithm, of tensors."""

from collections.abc import Callable
from typing import Any

import torch

from .. import _softmax, cuda
from ._operator import operator
from ._tensors import (
    as_array,
    as_tensor,
    complex_arrays,
    is_direct,
    is_memory,
    lines,
    readable,
    refuse_derivatives,
    result_type,
    written,
)

_INF = float("inf")


class Softmax:
    name, schema = "softmax", "(Tensor x, SymInt[] dim) -> Tensor"

    @staticmethod
    def compute(x: Any, dim: Any) -> Any:
        return _with_strides(_softmax.softmax, x, dim)

    @staticmethod
    def compute_on_gpu(x: Any, dim: Any) -> Any:
        return _like(x, cuda.softmax(x, tuple(dim)))

    @staticmethod
    def fake(x: Any, dim: Any) -> Any:
        return torch.empty_like(x)

    @staticmethod
    def pullback(x: Any, dim: Any, g: Any) -> Any:
        p, g = _visible(x, dim, g)
        if len(dim) == 1:  # the same in one pass
            return torch.ops.aten._softmax_backward_data(g, p, dim[0], x.dtype)
        return p * (g - (p * g).sum(dim, keepdim=True))

    pushforward = pullback  # the Jacobian is symmetric


class LogSoftmax:
    name, schema = "log_softmax", "(Tensor x, SymInt[] dim) -> Tensor"

    @staticmethod
    def compute(x: Any, dim: Any) -> Any:
        return _with_strides(_softmax.log_softmax, x, dim)

    @staticmethod
    def compute_on_gpu(x: Any, dim: Any) -> Any:
        return _like(x, cuda.log_softmax(x, tuple(dim)))

    @staticmethod
    def fake(x: Any, dim: Any) -> Any:
        return torch.empty_like(x)

    @staticmethod
    def pullback(x: Any, dim: Any, g: Any) -> Any:
        p, g = _visible(x, dim, g)
        return torch.addcmul(g, p, g.sum(dim, keepdim=True), value=-1.0)

    @staticmethod
    def pushforward(x: Any, dim: Any, t: Any) -> Any:
        p, t = _visible(x, dim, t)
        return (t - (p * t).sum(dim, keepdim=True)).masked_fill(x == -_INF, 0.0)


softmax_op, log_softmax_op = operator(Softmax), operator(LogSoftmax)


def _with_strides(function: Callable[..., Any], x: Any, dim: Any) -> Any:
    """Return what `function` makes of `x`, in the order of memory that the fake has."""
    if len(dim) == 1 and x.is_contiguous() and x.numel():  # the shortest way
        return as_tensor(function(as_array(x), dim[0]))
    out = torch.empty_like(x)
    if x.numel():
        function(as_array(x), tuple(dim), out=out.numpy())
    return out


def _like(x: Any, y: Any) -> Any:
    """Return `y` in the order of memory that the fake has, that of `x`."""
    out = torch.empty_like(x)
    return y if y.stride() == out.stride() else out.copy_(y)


def probabilities(x: Any, dim: Any) -> Any:
    """Return the softmax that gradients are made of: zero in lines that are fully masked."""
    p = softmax_op(x, dim)
    return p if _is_unmasked(x) else p.masked_fill(x == -_INF, 0.0)


def _visible(x: Any, dim: Any, v: Any) -> tuple[Any, Any]:
    """Return `probabilities`, and `v` with zeros where `x` is masked: it may be infinite there."""
    p = softmax_op(x, dim)
    if _is_unmasked(x):
        return p, v
    masked = x == -_INF
    return p.masked_fill(masked, 0.0), v.masked_fill(masked, 0.0)


def _is_unmasked(x: Any) -> bool:
    """Return whether `x` has no -inf, as far as may be seen: masks cost more than all the rest."""
    return is_memory(x) and x.numel() > 0 and bool(x.detach().amin() > -_INF)


def softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Any = None) -> Any:
    r"""
    Softmax of a tensor.

    .. math:: \operatorname{softmax}(x)_i = \frac{e^{x_i}}{\sum_{j=1}^{n} e^{x_j}}

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        Logits, in nats: real numbers, or complex ones in main memory, which have no derivative.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all that sum to one. Default: all of them.
    out : Tensor, optional
        Where to write the result: a tensor of its shape and type, which is also returned. It
        may be `x` itself. Derivatives are refused.

    Returns
    -------
    Tensor, shape of `x`
        Probabilities, in the floating-point type of `x`, or in the default one. They are NaN
        along lines with NaN or ``+inf``, or with ``-inf`` alone.

    Raises
    ------
    TypeError
        If `x` is not a dense tensor of numbers, or `out` is not one of the result's type.
    ValueError
        If `n` is zero, or `out` has another shape than `x`.
    RuntimeError
        If `out` is given and an argument requires grad, or `x` is complex and does.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.softmax : The same for arrays; its notes on errors hold here too.

    Examples
    --------
    >>> import torch
    >>> from logitkit import softmax
    >>> x = torch.tensor([0.0, 0.0, -torch.inf], requires_grad=True)
    >>> p = softmax(x)
    >>> p.tolist()
    [0.5, 0.5, 0.0]
    >>> (p[0] - p[1]).backward()
    >>> x.grad.tolist()
    [0.5, -0.5, 0.0]
    """
    return _along(_softmax.softmax, softmax_op, x, axis, out)


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Any = None) -> Any:
    r"""
    Logarithm of the softmax of a tensor, which does not underflow.

    .. math:: \operatorname{log\_softmax}(x)_i = x_i - \log \sum_{j=1}^{n} e^{x_j}

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        Logits, in nats: real numbers, or complex ones in main memory, which have no derivative.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all whose exponentials sum to one. Default:
        all of them.
    out : Tensor, optional
        Where to write the result: a tensor of its shape and type, which is also returned. It
        may be `x` itself. Derivatives are refused.

    Returns
    -------
    Tensor, shape of `x`
        Log-probabilities, in nats, in the floating-point type of `x`, or in the default one.

    Raises
    ------
    TypeError
        If `x` is not a dense tensor of numbers, or `out` is not one of the result's type.
    ValueError
        If `n` is zero, or `out` has another shape than `x`.
    RuntimeError
        If `out` is given and an argument requires grad, or `x` is complex and does.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.log_softmax : The same for arrays; its notes hold here too.

    Examples
    --------
    >>> import torch
    >>> from logitkit import log_softmax
    >>> log_softmax(torch.tensor([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    return _along(_softmax.log_softmax, log_softmax_op, x, axis, out)


def _along(
    function: Callable[..., Any], op: Callable[..., Any], x: Any, axis: Any, out: Any
) -> Any:
    if is_direct(x):
        if out is None:
            return as_tensor(function(as_array(x), axis))
        if is_direct(out):
            function(as_array(x), axis, out=as_array(out))
            return out
    if out is not None:
        refuse_derivatives(function.__name__, x, out)
        return written(_along(function, op, x, axis, None), out)
    if (arrays := complex_arrays(function.__name__, x)) is not None:
        return as_tensor(function(*arrays, axis))
    dtype = result_type(x)
    if (y := readable(x, dtype)) is not x:
        return _along(function, op, y, axis, None).to(dtype)
    y, dim, added = lines(x, axis)
    if any(y.shape[i] == 0 for i in dim):
        raise ValueError(f"expected lines of at least one element, not x of shape {tuple(x.shape)}")
    result = op(y, dim)
    return result.squeeze(-1) if added else result
