"""Maps from logits to probabilities beside softmax, and smooth forms of the top k, of tensors."""

import math
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import ArrayLike

from .. import _probability_maps as maps
from .._lines import one_axis
from .._probability_maps._rows import checked_k
from .._probability_maps._smooth_top_k import checked_law
from .._probability_maps._softmax_forms import checked_margin, checked_order
from .._real_array import real_number
from ._operator import operator
from ._softmax import softmax
from ._tensors import as_array, is_memory, result_type

_INF = float("inf")
_NOTHING = -1e30  # the logarithm of a sum without terms, whose derivative is a number


class _OneTensor:
    """A map computed as for arrays, whose result is like its argument."""

    name: str

    @classmethod
    def compute(cls, x: Any, dim: Any, *options: Any) -> Any:
        out = torch.empty_like(x)
        out.numpy()[...] = cls.of_array(as_array(x), dim[0], *options)
        return out

    @staticmethod
    def of_array(x: Any, axis: int, *options: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def fake(x: Any, dim: Any, *options: Any) -> Any:
        return torch.empty_like(x)


class _Threshold(_OneTensor):
    """A map with ``p = F(x - t)`` of constant sum; its Jacobian is symmetric."""

    @staticmethod
    def op(x: Any, dim: Any, *options: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def slope(p: Any, *options: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def pullback(cls, x: Any, dim: Any, *options_and_g: Any) -> Any:
        *options, g = options_and_g
        masked = x == -_INF
        slope = cls.slope(cls.op(x, dim, *options), *options).masked_fill(masked, 0.0)
        g = g.masked_fill(masked, 0.0)
        total = slope.sum(dim, keepdim=True)
        mean = (slope * g).sum(dim, keepdim=True) / total.masked_fill(total == 0.0, 1.0)
        return slope * (g - mean)

    @classmethod
    def pushforward(cls, *args: Any) -> Any:
        return cls.pullback(*args)


class Entmax(_Threshold):
    name, schema = "entmax", "(Tensor x, SymInt[] dim, float alpha) -> Tensor"

    @staticmethod
    def of_array(x: Any, axis: int, alpha: Any) -> Any:
        exact = {1.5: maps.entmax15, 2.0: maps.sparsemax}.get(alpha)
        return exact(x, axis) if exact is not None else maps.entmax(x, axis, alpha=alpha)

    @staticmethod
    def slope(p: Any, alpha: Any) -> Any:
        outside = p == 0.0
        return p.masked_fill(outside, 1.0).pow(2.0 - alpha).masked_fill(outside, 0.0)


class ThresholdTopK(_Threshold):
    name, schema = "threshold_top_k", "(Tensor x, SymInt[] dim, SymInt k, str cdf) -> Tensor"

    @staticmethod
    def of_array(x: Any, axis: int, k: Any, cdf: Any) -> Any:
        return maps.threshold_top_k(x, axis, k=k, cdf=cdf)

    @staticmethod
    def slope(p: Any, k: Any, cdf: Any) -> Any:
        return p * (1.0 - p) if cdf == "logistic" else torch.minimum(p, 1.0 - p)


class TopKSoftmax(_Threshold):
    name, schema = "top_k_softmax", "(Tensor x, SymInt[] dim, SymInt k) -> Tensor"

    @staticmethod
    def of_array(x: Any, axis: int, k: Any) -> Any:
        return maps.top_k_softmax(x, axis, k=k)

    @staticmethod
    def slope(p: Any, k: Any) -> Any:
        return p


class TaylorSoftmax(_OneTensor):
    name, schema = "taylor_softmax", "(Tensor x, SymInt[] dim, SymInt order) -> Tensor"

    @staticmethod
    def of_array(x: Any, axis: int, order: Any) -> Any:
        return maps.taylor_softmax(x, axis, order=order)

    @staticmethod
    def pullback(x: Any, dim: Any, order: Any, g: Any) -> Any:
        p, slope, g = _taylor_parts(x, dim, order, g)
        return slope * p * (g - (p * g).sum(dim, keepdim=True))

    @staticmethod
    def pushforward(x: Any, dim: Any, order: Any, t: Any) -> Any:
        p, slope, t = _taylor_parts(x, dim, order, t)
        return p * (slope * t - (p * slope * t).sum(dim, keepdim=True))


entmax_op, threshold_top_k_op = operator(Entmax), operator(ThresholdTopK)
top_k_softmax_op, taylor_softmax_op = operator(TopKSoftmax), operator(TaylorSoftmax)
Entmax.op, ThresholdTopK.op, TopKSoftmax.op = (  # type: ignore[method-assign]
    staticmethod(entmax_op),
    staticmethod(threshold_top_k_op),
    staticmethod(top_k_softmax_op),
)


def _taylor_parts(x: Any, dim: Any, order: int, v: Any) -> tuple[Any, Any, Any]:
    """Return the probabilities, f_{m-1}(x) / f_m(x), and `v` without what is masked."""
    masked = x == -_INF
    finite = x.masked_fill(masked, 0.0)
    scale = finite.abs().clamp(min=1.0).detach()  # which cancels

    def polynomial(degree: int) -> Any:
        ratio = finite / scale
        return sum(ratio**j * scale ** (j - degree) / math.factorial(j) for j in range(degree + 1))

    slope = polynomial(order - 1) / polynomial(order) / scale
    return taylor_softmax_op(x, dim, order), slope, v.masked_fill(masked, 0.0)


def _apply(function: Callable[..., Any], x: Any, axis: int) -> Any:
    """Return `function` of `x` and the axis, half types and integers by way of float64."""
    dtype = result_type(x)
    dim = (one_axis(axis, x.dim()),)
    if x.dtype in (torch.float32, torch.float64):
        return function(x, dim)
    return function(x.to(torch.float64), dim).to(dtype)


def sparsemax(x: Any, /, axis: int = -1) -> Any:
    """Find the probabilities nearest to a tensor, as ``maps.sparsemax`` explains."""
    return entmax(x, axis, alpha=2.0)


def entmax15(x: Any, /, axis: int = -1) -> Any:
    """Entmax with alpha = 1.5 of a tensor."""
    return entmax(x, axis, alpha=1.5)


def entmax(x: Any, /, axis: int = -1, *, alpha: float = 1.5) -> Any:
    """Entmax of a tensor, for a number alpha of at least 1."""
    alpha = real_number("alpha", alpha)
    if not 1.0 <= alpha < _INF:
        raise ValueError(f"expected 1 <= alpha < inf, not {alpha}")
    return _apply(lambda y, dim: entmax_op(y, dim, alpha), x, axis)


def taylor_softmax(x: Any, /, axis: int = -1, *, order: int = 2) -> Any:
    """Softmax of a tensor with a polynomial of an even order in place of the exponential."""
    order = checked_order(order)
    return _apply(lambda y, dim: taylor_softmax_op(y, dim, order), x, axis)


def top_k_softmax(x: Any, /, axis: int = -1, *, k: int) -> Any:
    """Softmax of the `k` largest elements of a tensor along an axis; 0 elsewhere."""
    k = _checked_k(x, axis, k)
    return _apply(lambda y, dim: top_k_softmax_op(y, dim, k), x, axis)


def threshold_top_k(x: Any, /, axis: int = -1, *, k: int, cdf: str = "laplace") -> Any:
    """Apply a distribution function above a threshold that makes the sum `k`."""
    k, cdf = _checked_k(x, axis, k), checked_law(cdf)
    return _apply(lambda y, dim: threshold_top_k_op(y, dim, k, cdf), x, axis)


def margin_softmax(x: Any, target: ArrayLike, /, axis: int = -1, *, margin: float = 0.35) -> Any:
    """Softmax of a tensor with the logit of the target lowered by a margin."""
    dim = one_axis(axis, x.dim())
    if not isinstance(target, torch.Tensor) or is_memory(target):
        known = as_array(target) if isinstance(target, torch.Tensor) else target
        checked_margin(tuple(x.shape), known, dim, margin)
    classes = torch.as_tensor(target, device=x.device).to(torch.int64).unsqueeze(dim)
    shape = [-1 if i == dim else 1 for i in range(x.dim())]
    own = classes == torch.arange(x.shape[dim], device=x.device).reshape(shape)
    return softmax(x - margin * own.to(result_type(x)), dim)


def gradient_top_k(x: Any, /, axis: int = -1, *, k: int) -> Any:
    """Probability of each class to be in a random set of `k`; by PyTorch's own operators."""
    k = _checked_k(x, axis, k)
    return _apply(lambda y, dim: _subsets(y.movedim(dim[0], -1), k).movedim(-1, dim[0]), x, axis)


def iterative_top_k(x: Any, /, axis: int = -1, *, k: int) -> Any:
    """Sum `k` softmaxes, each of what those before have left; by PyTorch's own operators."""
    k = _checked_k(x, axis, k)

    def of_tensor(y: Any, dim: Any) -> Any:
        masked = y == -_INF
        lowest = y.masked_fill(masked, _INF).min(dim[0], keepdim=True).values
        above = (y - lowest).masked_fill(masked, 0.0)
        total = torch.zeros_like(above)
        for _ in range(k):
            rest = ((1.0 - total) * above).masked_fill(masked, -_INF)
            total = total + torch.softmax(rest, dim[0])
        return total

    return _apply(of_tensor, x, axis)


def _subsets(x: Any, k: int) -> Any:
    """Return inclusion probabilities along the last axis, by polynomials before and after."""
    y = x.clamp(min=_NOTHING)
    n = y.shape[-1]
    before, after = _polynomials(y.unbind(-1), k), _polynomials(y.flip(-1).unbind(-1), k)
    total = before[n][..., k]
    logs = [
        torch.logsumexp(before[i][..., :k] + after[n - 1 - i][..., :k].flip(-1), -1)
        for i in range(n)
    ]
    return (y + torch.stack(logs, -1) - total.unsqueeze(-1)).exp()


def _polynomials(x: Any, k: int) -> list[Any]:
    """Return the logarithms of the symmetric polynomials 0 .. k of the first i elements."""
    zero = torch.zeros_like(x[0]).unsqueeze(-1)
    log = torch.cat([zero, torch.full_like(zero.expand(*zero.shape[:-1], k), _NOTHING)], -1)
    logs = [log]
    for element in x:
        taken = log[..., :-1] + element.unsqueeze(-1)
        # Not by logaddexp, whose second derivative is NaN where one term is next to nothing.
        log = torch.cat([zero, torch.stack([log[..., 1:], taken]).logsumexp(0)], -1)
        logs.append(log)
    return logs


def _checked_k(x: Any, axis: int, k: int) -> int:
    """Return `k` if each line has so many classes that are not masked."""
    dim = one_axis(axis, x.dim())
    return checked_k(k, x.shape[dim])
