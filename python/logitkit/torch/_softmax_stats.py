"""Log-sum-exp, entropy, maximum and sum of squares of a softmax of tensors."""

from typing import Any

from torch import Tensor

from .. import _softmax_stats, cuda
from .._real_array import real_number
from ..reference import SoftmaxStats
from ._operator import operator
from ._softmax import log_softmax_op, probabilities
from ._tensors import as_array, as_tensor, compute_type, is_direct, kept, lines, result_type

_INF = float("inf")


class Stats:
    name = "softmax_stats"
    schema = "(Tensor x, SymInt[] dim, float scale) -> (Tensor, Tensor, Tensor, Tensor)"

    @staticmethod
    def compute(x: Any, dim: Any, scale: Any) -> Any:
        stats = _softmax_stats.softmax_stats(as_array(x), tuple(dim), scale=scale)
        shape = kept(x, dim)
        return tuple(as_tensor(result).reshape(shape).contiguous() for result in stats)

    @staticmethod
    def compute_on_gpu(x: Any, dim: Any, scale: Any) -> Any:
        stats = cuda.softmax_stats(x, tuple(dim), scale=scale)
        return tuple(result.reshape(kept(x, dim)).clone() for result in stats)

    @staticmethod
    def fake(x: Any, dim: Any, scale: Any) -> Any:
        return tuple(x.new_empty(kept(x, dim)) for _ in SoftmaxStats._fields)

    @staticmethod
    def pullback(x: Any, dim: Any, scale: Any, *cotangents: Any) -> Any:
        gradients = _gradients(x, dim, scale, [g is not None for g in cotangents])
        return sum(g * v for g, v in zip(cotangents, gradients, strict=True) if g is not None)

    @staticmethod
    def pushforward(x: Any, dim: Any, scale: Any, t: Any) -> Any:
        gradients = _gradients(x, dim, scale, [True] * len(SoftmaxStats._fields))
        t = t.masked_fill(x == -_INF, 0.0)  # which may be infinite there
        return tuple((v * t).sum(dim, keepdim=True) for v in gradients)


softmax_stats_op = operator(Stats)


def _gradients(x: Any, dim: Any, scale: float, wanted: list[bool]) -> list[Any]:
    """Return the gradient of each result with respect to `x`, or None if it is not wanted."""
    masked = x == -_INF
    z = (scale * x).masked_fill(masked, -_INF)  # for a scale of zero, too
    lse, entropy, top, squares = wanted
    gradients: list[Any] = [None] * len(wanted)
    if lse or entropy or squares:
        p = probabilities(z, dim)
        gradients[0] = scale * p
    if entropy:
        log_p = log_softmax_op(z, dim).masked_fill(masked, 0.0)
        gradients[1] = -scale * p * (log_p - (p * log_p).sum(dim, keepdim=True))
    if top:  # shared by equal elements
        largest = (z == (z.amax(dim, keepdim=True) if z.numel() else z)) & ~masked
        count = largest.sum(dim, keepdim=True).clamp(min=1)
        gradients[2] = scale * largest.to(z.dtype) / count
    if squares:
        gradients[3] = 2.0 * scale * p * (p - (p * p).sum(dim, keepdim=True))
    return gradients


def softmax_stats(
    x: Any, axis: int | tuple[int, ...] | None = -1, *, scale: float = 1.0
) -> SoftmaxStats:
    r"""
    Log-sum-exp, entropy, maximum and sum of squares of a softmax of a tensor, in one pass.

    .. math:: z = \lambda x, \quad p_i = \frac{e^{z_i}}{\sum_{j=1}^{n} e^{z_j}}

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        Logits, in nats: real numbers. ``-inf`` masks an element.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all; None stands for all of them.
    scale : float, optional
        Multiplies `x`: the :math:`\lambda` above, a constant.

    Returns
    -------
    SoftmaxStats
        A named tuple of tensors of the shape of `x` without `axis`, in the floating-point type
        of `x`, or in the default one, as ``logitkit.softmax_stats`` explains. The gradient of
        a maximum is shared by all elements that are equal to it.

    Raises
    ------
    TypeError
        If `x` is not a dense tensor of real numbers in main memory, or `scale` is a tensor.
    ValueError
        If `scale` is negative or not finite.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.softmax_stats : The same for arrays.

    Examples
    --------
    >>> import torch
    >>> from logitkit import softmax_stats
    >>> x = torch.tensor([1.0, 1.0, 2.0]).log().requires_grad_()
    >>> softmax_stats(x).sum_of_squares.item()
    0.375
    """
    if isinstance(scale, Tensor):
        raise TypeError("expected scale to be a number: multiply x by the tensor")
    if is_direct(x):
        stats = _softmax_stats.softmax_stats(as_array(x), axis, scale=scale)
        return SoftmaxStats(*map(as_tensor, stats))
    scale = real_number("scale", scale)
    if not 0.0 <= scale < _INF:
        raise ValueError(f"expected 0 <= scale < inf, not {scale}")
    dtype = result_type(x)
    if x.dtype != compute_type(dtype):
        stats = softmax_stats(x.to(compute_type(dtype)), axis, scale=scale)
        return SoftmaxStats(*(result.to(dtype) for result in stats))
    y, dim, _ = lines(x, axis)
    return SoftmaxStats(*(result.squeeze(dim) for result in softmax_stats_op(y, dim, scale)))
