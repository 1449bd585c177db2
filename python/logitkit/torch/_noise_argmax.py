"""
The integrals of argmax(logits + noise) as operators of PyTorch, with two derivatives or more.

Each is the derivative of the one before: the expected maximum, the probabilities, their product
with a vector, which is symmetric, and that one's. The last have no derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import cuda
from ..distributions import _integrals
from ..losses._fenchel_young import law_of
from ._operator import operator
from ._tensors import as_array, as_tensor


def _rows(x: Any) -> Any:
    return np.ascontiguousarray(as_array(x).reshape(-1, x.shape[-1]))


def _law(rest: Any) -> tuple[Any, float]:
    noise, scale = rest[-2:]
    return law_of(noise), scale


def _mapped(call: Callable[..., Any], size: int, in_dims: Any, *args: Any) -> tuple[Any, int]:
    """Map over one more axis of rows, the first."""
    tensors = [
        x.unsqueeze(0).expand(size, *x.shape) if i is None else x.movedim(i, 0)
        for x, i in zip(args[:-2], in_dims, strict=False)
    ]
    return call(*tensors, *args[-2:]), 0


def _refused(*_: Any) -> Any:
    raise NotImplementedError("probabilities of noisy logits have two derivatives, not three")


class _ExpectedMax:
    name = "expected_max"
    schema = "(Tensor x, str noise, float scale) -> Tensor"
    mapped = staticmethod(_mapped)

    @staticmethod
    def compute(x: Any, *rest: Any) -> Any:
        return as_tensor(_integrals.expected_max(_rows(x), *_law(rest))).reshape(x.shape[:-1])

    @staticmethod
    def compute_on_gpu(x: Any, *rest: Any) -> Any:
        noise, scale = _law(rest)
        return cuda.noise_argmax_expected_max(x, noise, scale=scale)

    @staticmethod
    def fake(x: Any, *rest: Any) -> Any:
        return x.new_empty(x.shape[:-1])

    @staticmethod
    def pullback(x: Any, noise: str, scale: float, g: Any) -> Any:
        return g[..., None] * probabilities(x, noise, scale)

    @staticmethod
    def pushforward(x: Any, noise: str, scale: float, t: Any) -> Any:
        return (probabilities(x, noise, scale) * t).sum(-1)


class _OfAll:
    """What has a value for each class."""

    mapped = staticmethod(_mapped)

    @staticmethod
    def fake(x: Any, *rest: Any) -> Any:
        return x.new_empty(x.shape)


class _Probabilities(_OfAll):
    name = "noise_argmax_probs"
    schema = "(Tensor x, str noise, float scale) -> Tensor"

    @staticmethod
    def compute(x: Any, *rest: Any) -> Any:
        return as_tensor(_integrals.probs(_rows(x), *_law(rest))).reshape(x.shape)

    @staticmethod
    def compute_on_gpu(x: Any, *rest: Any) -> Any:
        noise, scale = _law(rest)
        return cuda.noise_argmax_probs(x, noise, scale=scale)

    @staticmethod
    def pullback(x: Any, noise: str, scale: float, g: Any) -> Any:
        return vjp(x, g, noise, scale)

    pushforward = pullback  # the Jacobian is symmetric


class _Vjp(_OfAll):
    name = "noise_argmax_vjp"
    schema = "(Tensor x, Tensor g, str noise, float scale) -> Tensor"

    @staticmethod
    def compute(x: Any, g: Any, *rest: Any) -> Any:
        return as_tensor(_integrals.vjp(_rows(x), _rows(g), *_law(rest))).reshape(x.shape)

    @staticmethod
    def compute_on_gpu(x: Any, g: Any, *rest: Any) -> Any:
        noise, scale = _law(rest)
        return cuda.noise_argmax_vjp(x, g, noise, scale=scale)

    @staticmethod
    def pullback(x: Any, g: Any, noise: str, scale: float, h: Any) -> Any:
        return _second_vjp(x, g, h, noise, scale), vjp(x, h, noise, scale)

    @staticmethod
    def pushforward(x: Any, g: Any, noise: str, scale: float, of_x: Any, of_g: Any) -> Any:
        change: Any = 0.0
        if of_x is not None:
            change = _second_vjp(x, g, of_x, noise, scale)
        return change if of_g is None else change + vjp(x, of_g, noise, scale)


class _SecondVjp(_OfAll):
    name = "noise_argmax_second_vjp"
    schema = "(Tensor x, Tensor g, Tensor h, str noise, float scale) -> Tensor"
    pullback = pushforward = staticmethod(_refused)

    @staticmethod
    def compute(x: Any, g: Any, h: Any, *rest: Any) -> Any:
        result = _integrals.second_vjp(_rows(x), _rows(g), _rows(h), *_law(rest))
        return as_tensor(result).reshape(x.shape)


def _index(index: Any) -> Any:
    return as_array(index).reshape(-1).astype(np.uintp)


class _LogProb:
    name = "noise_argmax_log_prob"
    schema = "(Tensor x, Tensor index, str noise, float scale) -> Tensor"
    mapped = staticmethod(_mapped)

    @staticmethod
    def compute(x: Any, index: Any, *rest: Any) -> Any:
        result = _integrals.log_prob(_rows(x), _index(index), *_law(rest))
        return as_tensor(result).reshape(index.shape)

    @staticmethod
    def compute_on_gpu(x: Any, index: Any, *rest: Any) -> Any:
        noise, scale = _law(rest)
        return cuda.noise_argmax_log_prob(x, index, noise, scale=scale)

    @staticmethod
    def fake(x: Any, index: Any, *rest: Any) -> Any:
        return x.new_empty(index.shape)

    @staticmethod
    def pullback(x: Any, index: Any, noise: str, scale: float, g: Any) -> Any:
        return g[..., None] * score(x, index, noise, scale), None

    @staticmethod
    def pushforward(x: Any, index: Any, noise: str, scale: float, t: Any, _: Any) -> Any:
        return (score(x, index, noise, scale) * t).sum(-1)


class _Score(_OfAll):
    name = "noise_argmax_score"
    schema = "(Tensor x, Tensor index, str noise, float scale) -> Tensor"

    @staticmethod
    def compute(x: Any, index: Any, *rest: Any) -> Any:
        return as_tensor(_integrals.score(_rows(x), _index(index), *_law(rest))).reshape(x.shape)

    @staticmethod
    def compute_on_gpu(x: Any, index: Any, *rest: Any) -> Any:
        noise, scale = _law(rest)
        return cuda.noise_argmax_log_prob(x, index, noise, scale=scale, return_gradient=True)[1]

    @staticmethod
    def pullback(x: Any, index: Any, noise: str, scale: float, g: Any) -> Any:
        return _score_vjp(x, index, g, noise, scale), None

    @staticmethod
    def pushforward(x: Any, index: Any, noise: str, scale: float, t: Any, _: Any) -> Any:
        return _score_vjp(x, index, t, noise, scale)


class _ScoreVjp(_OfAll):
    name = "noise_argmax_score_vjp"
    schema = "(Tensor x, Tensor index, Tensor g, str noise, float scale) -> Tensor"
    pullback = pushforward = staticmethod(_refused)

    @staticmethod
    def compute(x: Any, index: Any, g: Any, *rest: Any) -> Any:
        result = _integrals.score_vjp(_rows(x), _index(index), _rows(g), *_law(rest))
        return as_tensor(result).reshape(x.shape)


_second_vjp = operator(_SecondVjp)
vjp = operator(_Vjp)
probabilities = operator(_Probabilities)
expected_max = operator(_ExpectedMax)
_score_vjp = operator(_ScoreVjp)
score = operator(_Score)
log_probability = operator(_LogProb)
