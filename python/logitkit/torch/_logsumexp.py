"""Log-sum-exp of tensors, with and without weights."""

from collections.abc import Callable
from typing import Any

import torch

from .. import _logsumexp, cuda
from ._operator import operator
from ._softmax import probabilities
from ._tensors import (
    as_array,
    as_tensor,
    complex_arrays,
    compute_type,
    is_direct,
    kept,
    lines,
    readable,
    refuse_derivatives,
    result_type,
    written,
)

_INF, _NAN = float("inf"), float("nan")


class LogSumExp:
    name, schema = "logsumexp", "(Tensor x, SymInt[] dim) -> Tensor"

    @staticmethod
    def compute(x: Any, dim: Any) -> Any:
        value = _logsumexp.logsumexp(as_array(x), tuple(dim), keepdims=True)
        return as_tensor(value).contiguous()

    @staticmethod
    def compute_on_gpu(x: Any, dim: Any) -> Any:
        return cuda.logsumexp(x, tuple(dim), keepdims=True)

    @staticmethod
    def fake(x: Any, dim: Any) -> Any:
        return x.new_empty(kept(x, dim))

    @staticmethod
    def pullback(x: Any, dim: Any, g: Any) -> Any:
        return g * probabilities(x, dim)

    @staticmethod
    def pushforward(x: Any, dim: Any, t: Any) -> Any:
        t = t.masked_fill(x == -_INF, 0.0)  # which may be infinite there
        return (probabilities(x, dim) * t).sum(dim, keepdim=True)


class WeightedLogSumExp:
    name = "weighted_logsumexp"
    schema = "(Tensor a, Tensor b, SymInt[] dim) -> (Tensor, Tensor)"

    @staticmethod
    def compute(a: Any, b: Any, dim: Any) -> Any:
        results = _logsumexp.logsumexp(
            as_array(a), tuple(dim), as_array(b), keepdims=True, return_sign=True
        )
        return tuple(as_tensor(result).contiguous() for result in results)

    @staticmethod
    def fake(a: Any, b: Any, dim: Any) -> Any:
        return a.new_empty(kept(a, dim)), a.new_empty(kept(a, dim))

    @staticmethod
    def pullback(a: Any, b: Any, dim: Any, g: Any, g_sign: Any) -> Any:
        if g is None:  # the sign is constant
            return None, None
        slopes = g * _slopes(a, b, dim)
        return b * slopes, slopes

    @staticmethod
    def pushforward(a: Any, b: Any, dim: Any, t: Any, u: Any) -> Any:
        change = 0.0 if u is None else u
        if t is not None:
            change = change + b * t.masked_fill(a == -_INF, 0.0)
        tangent = (_slopes(a, b, dim) * change).sum(dim, keepdim=True)
        return tangent, torch.zeros_like(tangent)


logsumexp_op, weighted_logsumexp_op = operator(LogSumExp), operator(WeightedLogSumExp)


def _slopes(a: Any, b: Any, dim: Any) -> Any:
    """
    Return the gradient with respect to the weights, exp(a_j) / sum_k b_k exp(a_k).

    It is zero for terms that drop out of the sum, and in lines without any other.
    """
    value, sign = weighted_logsumexp_op(a, b, dim)
    empty = ((b == 0.0) | (a == -_INF)).all(dim, keepdim=True)
    dropped = (a == -_INF) | ((b == 0.0) & ~a.isfinite()) | empty
    # Masked before the exponential and after it: the derivative of one that is infinite or
    # NaN would be NaN, even if nothing comes of it.
    value = value.masked_fill(value == _INF, _NAN).masked_fill(empty, 0.0)
    slopes = sign * (a.masked_fill(dropped, -_INF) - value).exp()
    return slopes.masked_fill(dropped, 0.0)


def logsumexp(
    a: Any,
    axis: int | tuple[int, ...] | None = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    out: Any = None,
) -> Any:
    r"""
    Logarithm of a sum of exponentials of a tensor, without overflow.

    .. math:: \operatorname{logsumexp}(a, b) = \log \sum_{j=1}^{n} b_j e^{a_j}

    Parameters
    ----------
    a : Tensor, shape (..., n, ...)
        Log-weights, in nats: real numbers, or complex ones in main memory, which have no
        derivative.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all that are summed over. Default: all of
        them.
    b : Tensor or number, optional
        Weights of the terms, broadcast against `a`; negative ones subtract. A weight of zero
        drops its term, even an infinite one or NaN. Default: all are one.
    keepdims : bool, optional
        Whether the axes that are summed over stay, with length one.
    return_sign : bool, optional
        Whether to return the logarithm of the absolute value of the sum, and its sign.
        Without it the logarithm of a negative sum is NaN, and so are its derivatives.
    out : Tensor, optional
        Where to write the result: a tensor of its shape and type, which is also returned.
        Derivatives are refused.

    Returns
    -------
    result : Tensor, shape of `a` and `b` without `axis`
        Log of the total weight, in nats, in the floating-point type of `a` and `b`, or in the
        default one.
    sign : Tensor, shape of `result`
        Only with `return_sign`: 1, 0 or -1, or NaN, a constant.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor of numbers, or `out` is not one of the result's type.
    ValueError
        If `out` has another shape than the result.
    RuntimeError
        If `b` cannot be broadcast against `a`, or an argument requires grad and `out` is given or
        one is complex.
    numpy.exceptions.AxisError
        If `a` has no such `axis`.

    See Also
    --------
    logitkit.logsumexp : The same for arrays; its notes on errors hold here too.

    Notes
    -----
    The gradient with respect to `b` is ``sign * exp(a - result)``, also where a weight is zero;
    there it is zero if `a` is not finite, as the term is dropped. Both gradients are zero in
    lines without any term, and NaN or infinite where terms cancel to zero.

    Examples
    --------
    >>> import torch
    >>> from logitkit import logsumexp
    >>> x = torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]], requires_grad=True)
    >>> y = logsumexp(x, 1)
    >>> y[0].exp()
    tensor(2., grad_fn=<ExpBackward0>)
    >>> y.sum().backward()
    >>> x.grad.tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """
    if out is not None:
        refuse_derivatives("logsumexp", a, b, out)
        result = logsumexp(a, axis, b, keepdims, return_sign)
        return (written(result[0], out), result[1]) if return_sign else written(result, out)
    is_complex = isinstance(a, torch.Tensor) and (a.is_complex() or isinstance(b, complex))
    if is_complex and isinstance(b, (int, float, complex)):
        b = torch.as_tensor(b, dtype=torch.result_type(a, b))
    if (arrays := complex_arrays("logsumexp", a, *(() if b is None else (b,)))) is not None:
        array, of_b = (*arrays, None)[:2]
        result = _logsumexp.logsumexp(array, axis, of_b, keepdims, return_sign)
        return tuple(map(as_tensor, result)) if return_sign else as_tensor(result)
    if b is None:
        value = reduced(_logsumexp.logsumexp, logsumexp_op, a, axis, keepdims)
        if not return_sign:
            return value
        positive = (value > -_INF).to(value.dtype)
        return value, torch.where(value.isnan(), value, positive).detach()
    value, sign = _weighted(a, axis, b, keepdims)
    if return_sign:
        return value, sign
    return value * torch.ones_like(sign).masked_fill(sign < 0.0, _NAN)


def reduced(
    function: Callable[..., Any], op: Callable[..., Any], a: Any, axis: Any, keepdims: bool
) -> Any:
    """Return what `function`, or `op` if derivatives are wanted, makes of lines of `a`."""
    if is_direct(a):
        return as_tensor(function(as_array(a), axis, keepdims=keepdims))
    dtype = result_type(a)
    if (x := readable(a, dtype)) is not a:
        return reduced(function, op, x, axis, keepdims).to(dtype)
    x, dim, added = lines(a, axis)
    return _squeezed(op(x, dim), a, dim, added, keepdims)


def _weighted(a: Any, axis: Any, b: Any, keepdims: bool) -> tuple[Any, Any]:
    if isinstance(b, (int, float)):  # does not widen the type, as everywhere in PyTorch
        b = torch.as_tensor(b, dtype=result_type(a))
    dtype = result_type(a, b)
    compute = compute_type(dtype)
    a, b = torch.broadcast_tensors(a.to(compute), b.to(compute))
    if is_direct(a) and is_direct(b):
        results = _logsumexp.logsumexp(
            as_array(a), axis, as_array(b), keepdims=keepdims, return_sign=True
        )
        value, sign = map(as_tensor, results)
    else:
        (x, dim, added), (weights, _, _) = lines(a, axis), lines(b, axis)
        results = weighted_logsumexp_op(x, weights, dim)
        value, sign = (_squeezed(result, a, dim, added, keepdims) for result in results)
    return value.to(dtype), sign.to(dtype).detach()


def _squeezed(result: Any, a: Any, dim: Any, added: bool, keepdims: bool) -> Any:
    """Return `result` without the axes `dim`, if they were added or shall not be kept."""
    if keepdims and (not added or a.dim() == 0):  # SciPy keeps the axis of a scalar
        return result
    return result.squeeze(dim)
