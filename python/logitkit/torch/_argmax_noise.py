"""The distribution of the class with the largest logit and noise, over tensors of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from .. import cuda
from ..cuda._noise_sample import noise_sums
from ..distributions import _argmax_noise, _class_arguments, _sampling
from ..distributions._noise import Noise
from ..losses._fenchel_young import is_named, name_of
from ._noise_argmax import expected_max, log_probability, probabilities, score, vjp
from ._tensors import as_array, as_tensor, compute_type, elements, is_memory, result_type

_ARRAYS = {torch.float32: np.float32, torch.float64: np.float64}


class _FirstOrder(torch.autograd.Function):
    """
    What a distribution of arrays computes, with its first derivative.

    For laws that an operator knows no name of, and for the rule of the article.
    """

    @staticmethod
    def forward(ctx: Any, logits: Any, value: Any, pullback: Any) -> Any:
        ctx.pullback, ctx.shape = pullback, logits.shape
        return as_tensor(value())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        return ctx.pullback(g).sum_to_size(ctx.shape), None, None


class ArgmaxNoise(_argmax_noise.ArgmaxNoise):
    r"""
    The law of the class with the largest logit and noise, for a tensor of logits.

    What `logitkit.distributions.ArgmaxNoise` is for such logits. `probs`, `log_prob`,
    `expected_max`, `entropy`, `cross_entropy`, `kl_divergence` and `rsample` have derivatives
    with respect to them: two, but one alone for a law of the user's own; the other results have
    none. The second ones are computed in NumPy; where those of a law have a kink, at equal logits,
    they are one-sided.

    Parameters
    ----------
    logits : Tensor, shape (..., n)
        The logits, in main memory or on a GPU. There results have one derivative, laws are those
        that `logitkit.cuda` has kernels for, and classes out of range give NaN.
    noise : Noise, optional
        The law of the noise; normal by default.
    scale : float, optional
        The scale of the noise, positive and finite.
    rule : {"adaptive", "quantile"}, optional
        How to integrate; the second has derivatives of `probs` alone.
    nodes : int, optional
        The number of nodes of the second rule.

    See Also
    --------
    logitkit.distributions.ArgmaxNoise : The same for arrays, with explanations.

    Examples
    --------
    >>> import torch
    >>> from logitkit.distributions import ArgmaxNoise
    >>> logits = torch.zeros(2, requires_grad=True)
    >>> ArgmaxNoise(logits).log_prob(0).backward()
    >>> logits.grad
    tensor([ 0.5642, -0.5642])
    """

    _tensor: Any

    def __init__(
        self,
        logits: Any,
        noise: Noise | None = None,
        scale: float = 1.0,
        *,
        rule: Literal["adaptive", "quantile"] = "adaptive",
        nodes: int = 32,
    ) -> None:
        tensor = torch.atleast_1d(logits).to(compute_type(result_type(logits)))
        if is_memory(tensor):  # what a compiler or a transform is at work on is not looked at
            _class_arguments.check_logits(as_array(tensor))
        self._set(logits, noise, scale, rule, nodes)
        object.__setattr__(self, "_tensor", tensor)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of `logits` without the classes."""
        return tuple(self._tensor.shape[:-1])

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return int(self._tensor.shape[-1])

    @property
    def _is_on_gpu(self) -> bool:
        return bool(self._tensor.is_cuda)

    @property
    def _arrays(self) -> Any:
        """The same distribution of arrays."""
        if self._is_on_gpu:
            raise TypeError(
                f"this has no CUDA kernel for {self.noise} noise and rule={self.rule!r}: pass "
                "logits.cpu()"
            )
        array = np.ascontiguousarray(elements("logits", self._tensor))
        return _argmax_noise.ArgmaxNoise(
            array, self.noise, self.scale, rule=self.rule, nodes=self.nodes
        )

    @property
    def _named(self) -> str | None:
        """The name by which operators know the law of the noise."""
        return None if self.rule == "quantile" or not is_named(self.noise) else name_of(self.noise)

    @property
    def probs(self) -> Any:
        """The probabilities of all classes, in the shape and type of `logits`."""
        if (name := self._named) is not None:
            return self._typed(probabilities(self._tensor, name, self.scale))
        arrays = self._arrays

        def pullback(g: Any) -> Any:
            return as_tensor(arrays.vjp(as_array(g.contiguous())))

        return self._typed(_FirstOrder.apply(self._tensor, lambda: arrays.probs, pullback))

    @property
    def mode(self) -> Any:
        """The most probable class."""
        return self._tensor.argmax(dim=-1)

    def _typed(self, result: Any) -> Any:
        return result.to(result_type(self.logits))

    def log_prob(self, value: Any) -> Any:
        """Return the logarithm of the probability of classes, a tensor or an array of integers."""
        if self.rule == "quantile" and self._tensor.requires_grad:
            raise RuntimeError("log_prob has no derivative with rule='quantile': pass 'adaptive'")
        if not isinstance(value, torch.Tensor):
            value = as_tensor(_class_arguments.check_classes(value, self.num_classes))
        elif is_memory(value):
            _class_arguments.check_classes(as_array(value), self.num_classes)
        if (name := self._named) is not None:
            shape = _class_arguments.shape_with_batch(tuple(value.shape), self.batch_shape)
            rows = self._tensor.expand(*shape, self.num_classes)
            classes = value.to(torch.int64).expand(shape)
            return self._typed(log_probability(rows, classes, name, self.scale))
        arrays, classes = self._arrays, as_array(value)

        def pullback(g: Any) -> Any:
            return g[..., None] * as_tensor(arrays.score(classes))

        log_prob = _FirstOrder.apply(self._tensor, lambda: arrays.log_prob(classes), pullback)
        return self._typed(log_prob)

    def score(self, value: Any) -> Any:
        """Return the gradient of `log_prob` with respect to the logits."""
        if self._is_on_gpu and (name := self._named) is not None:
            value = torch.as_tensor(value, dtype=torch.int64, device=self._tensor.device)
            shape = torch.broadcast_shapes(value.shape, self._tensor.shape[:-1])
            rows = self._tensor.detach().expand(*shape, self.num_classes)
            return self._typed(score(rows, value.expand(shape), name, self.scale))
        return self._typed(as_tensor(self._arrays.score(np.asarray(value))))

    def vjp(self, cotangent: Any) -> Any:
        """Return the product of a cotangent with the Jacobian of `probs`."""
        if self._is_on_gpu and (name := self._named) is not None:
            g = torch.as_tensor(cotangent).to(self._tensor).expand(self._tensor.shape)
            return self._typed(vjp(self._tensor.detach(), g, name, self.scale))
        if isinstance(cotangent, torch.Tensor):
            cotangent = as_array(cotangent.detach().to(self._tensor.dtype))
        return self._typed(as_tensor(self._arrays.vjp(cotangent)))

    def expected_max(self) -> Any:
        """Return the expected maximum of logits and noise."""
        if (name := self._named) is not None:
            return self._typed(expected_max(self._tensor, name, self.scale))
        arrays = self._arrays

        def pullback(g: Any) -> Any:
            return g[..., None] * as_tensor(arrays.probs)

        return self._typed(_FirstOrder.apply(self._tensor, arrays.expected_max, pullback))

    def _expected(self, other: Any, term: Any) -> Any:
        _class_arguments.check_same_classes(self, other, _argmax_noise.ArgmaxNoise)
        p, q = torch.broadcast_tensors(_double_probs(self), _double_probs(other))
        # Classes that cannot win count nothing, and have no gradient.
        possible = p > 0.0
        one = torch.ones_like(p)
        log_p = torch.where(possible, p, one).log()
        if other.rule != "adaptive" or not (is_memory(p) and is_memory(q)):
            return self._typed((p * term(log_p, torch.where(possible, q, one).log())).sum(dim=-1))
        # What all classes share keeps the smallest probabilities as 0, and this would be inf.
        far = (p > _argmax_noise.LEAST_THAT_COUNTS) & (q == 0.0)
        log_q = torch.where(possible & ~far, q, one).log()
        if far.any():
            parts = _argmax_noise.log_prob_of_pairs(other, as_array(far))
            log_q = log_q.index_put(
                far.nonzero(as_tuple=True), torch.cat(list(map(_double, parts)))
            )
        return self._typed((p * term(log_p, log_q)).sum(dim=-1))

    def kl_divergence(self, other: Any) -> Any:
        """Return the Kullback-Leibler divergence of this distribution from another."""
        return self._expected(other, lambda log_p, log_q: log_p - log_q)

    def top_k_inclusion(self, k: int) -> Any:
        """Return the probabilities that classes are among the `k` largest, without derivatives."""
        return self._typed(as_tensor(self._arrays.top_k_inclusion(k)))

    def sample(self, sample_shape: int | Sequence[int] = (), *, rng: Any) -> Any:
        """Draw classes."""
        if self._is_on_gpu:
            return cuda.noise_argmax_sample(
                self._tensor.detach(), self.noise, rng, sample_shape, scale=self.scale
            )
        return as_tensor(self._arrays.sample(sample_shape, rng=rng))

    def sample_k(self, k: int, sample_shape: int | Sequence[int] = (), *, rng: Any) -> Any:
        """Draw classes without replacement."""
        if self._is_on_gpu:
            return cuda.noise_argmax_sample(
                self._tensor.detach(), self.noise, rng, sample_shape, k=k, scale=self.scale
            )
        return as_tensor(self._arrays.sample_k(k, sample_shape, rng=rng))

    def rsample(
        self,
        sample_shape: int | Sequence[int] = (),
        *,
        rng: Any,
        temperature: float = 1.0,
        straight_through: bool = False,
    ) -> Any:
        """Draw relaxed one-hot vectors; with `straight_through` hard ones of the same gradient."""
        temperature = _class_arguments.temperature_of_sample(temperature)
        shape = _class_arguments.shape_of_sample(sample_shape)
        if self._is_on_gpu:
            zeros = torch.zeros_like(self._tensor).detach().reshape(-1, self.num_classes)
            noise = noise_sums(zeros, math.prod(shape), self.noise, self.scale, rng)
        else:
            # Not from a tensor: inside of torch.func that would be one without elements.
            rows = (math.prod(self.batch_shape), self.num_classes)
            zeros = np.zeros(rows, _ARRAYS[self._tensor.dtype])
            noise = as_tensor(_sampling.sums(zeros, math.prod(shape), *self._law, rng))
        sums = self._tensor + noise.reshape(*shape, *self._tensor.shape)
        # From the largest, which keeps its place however small the temperature is.
        gaps = (sums - sums.detach().amax(dim=-1, keepdim=True)).double()
        y = torch.softmax(gaps / temperature, dim=-1).to(sums.dtype)
        if straight_through:
            hard = torch.zeros_like(y).scatter_(-1, sums.argmax(dim=-1, keepdim=True), 1.0)
            y = hard + (y - y.detach())
        return self._typed(y)


def _double(x: Any) -> Any:
    """Return a tensor or an array, or a number, as a tensor of float64."""
    return (x if isinstance(x, torch.Tensor) else as_tensor(x)).to(torch.float64)


def _double_probs(d: Any) -> Any:
    """Return the probabilities of a distribution of tensors or of arrays in float64."""
    if isinstance(d, ArgmaxNoise) and (name := d._named) is not None:
        return probabilities(_double(d._tensor), name, d.scale)
    return _double(d.probs)
