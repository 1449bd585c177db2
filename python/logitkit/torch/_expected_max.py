"""The expected largest of noisy scores, with two derivatives."""

from collections.abc import Callable
from typing import Any

import torch

from ..distributions import _integrals
from ..losses._fenchel_young import law_of
from ._operator import registered
from ._tensors import as_array, as_tensor


def _operator(name: str, function: Callable[..., Any], tensors: str, reduced: bool) -> Any:
    """Return an operator for `function` of rows, the first tensor's, a law and a scale."""

    def shape(x: Any) -> Any:
        return x.shape[:-1] if reduced else x.shape

    def compute(*args: Any) -> Any:
        *given, noise, scale = args
        rows = [as_array(x).reshape(-1, x.shape[-1]) for x in given]
        return as_tensor(function(*rows, law_of(noise), scale)).reshape(shape(given[0]))

    schema = f"({tensors}, str noise, float scale) -> Tensor"
    return registered(name, schema, compute, lambda x, *_: x.new_empty(shape(x)))[1]


_expected_max = _operator("expected_max", _integrals.expected_max, "Tensor x", True)
_probabilities = _operator("noise_argmax_probs", _integrals.probs, "Tensor x", False)
_pullback = _operator("noise_argmax_vjp", _integrals.vjp, "Tensor x, Tensor g", False)


class _Node(torch.autograd.Function):
    """A function of scores, the name of a law, and a scale."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.noise, ctx.scale = inputs
        ctx.save_for_backward(*tensors)


class _ExpectedMax(_Node):
    @staticmethod
    def forward(x: Any, noise: Any, scale: Any) -> Any:
        return _expected_max(x, noise, scale)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g[..., None] * _Probabilities.apply(x, ctx.noise, ctx.scale), None, None


class _Probabilities(_Node):
    @staticmethod
    def forward(x: Any, noise: Any, scale: Any) -> Any:
        return _probabilities(x, noise, scale)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return _Pullback.apply(x, g.contiguous(), ctx.noise, ctx.scale), None, None


class _Pullback(_Node):
    @staticmethod
    def forward(x: Any, g: Any, noise: Any, scale: Any) -> Any:
        return _pullback(x, g, noise, scale)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        raise NotImplementedError("the Fenchel-Young loss has two derivatives, not three")


def differentiable_expected_max(x: Any, noise: str, scale: float) -> Any:
    """Return E max(x + scale * noise) of rows: its gradient is the probabilities."""
    return _ExpectedMax.apply(x.contiguous(), noise, scale)
