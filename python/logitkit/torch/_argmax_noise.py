"""The distribution of the class with the largest logit and noise, over tensors of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ..distributions import _argmax_noise, _sampling
from ..distributions._noise import Noise
from ._tensors import as_array, as_tensor, compute_type, result_type


class _Probs(torch.autograd.Function):
    """Probabilities; their Jacobian is symmetric."""

    @staticmethod
    def forward(ctx: Any, logits: Any, law: Any) -> Any:
        ctx.law = law
        return as_tensor(law.probs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        return as_tensor(ctx.law.vjp(as_array(g.contiguous()))), None


class _LogProb(torch.autograd.Function):
    """Logarithms of the probabilities of classes; the gradient comes of a second call."""

    @staticmethod
    def forward(ctx: Any, logits: Any, law: Any, value: Any) -> Any:
        ctx.law, ctx.value = law, value
        return as_tensor(law.log_prob(value))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        gradient = g[..., None] * as_tensor(ctx.law.score(ctx.value))
        return gradient.sum_to_size(ctx.law.logits.shape), None, None


class _ExpectedMax(torch.autograd.Function):
    """The expected maximum, whose gradient is the probabilities."""

    @staticmethod
    def forward(ctx: Any, logits: Any, law: Any) -> Any:
        ctx.law = law
        return as_tensor(law.expected_max())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        return g[..., None] * as_tensor(ctx.law.probs), None


class ArgmaxNoise(_argmax_noise.ArgmaxNoise):
    r"""
    The law of the class with the largest logit and noise, for a tensor of logits.

    What `logitkit.distributions.ArgmaxNoise` is for such logits. `probs`, `log_prob`,
    `expected_max`, `entropy`, `cross_entropy`, `kl_divergence` and `rsample` have first
    derivatives with respect to them; the other results have none.

    Parameters
    ----------
    logits : Tensor, shape (..., n)
        The logits, in main memory.
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
    _arrays: Any

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
        array = as_array(tensor.contiguous())
        super().__init__(array, noise, scale, rule=rule, nodes=nodes)
        twin = _argmax_noise.ArgmaxNoise(array, noise, scale, rule=rule, nodes=nodes)
        for name, value in [("logits", logits), ("_tensor", tensor), ("_arrays", twin)]:
            object.__setattr__(self, name, value)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of `logits` without the classes."""
        return self._arrays.batch_shape  # type: ignore[no-any-return]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self._arrays.num_classes  # type: ignore[no-any-return]

    @property
    def probs(self) -> Any:
        """The probabilities of all classes, in the shape and type of `logits`."""
        return self._typed(_Probs.apply(self._tensor, self._arrays))

    @property
    def mode(self) -> Any:
        """The most probable class."""
        return as_tensor(self._arrays.mode)

    def _typed(self, result: Any) -> Any:
        return result.to(result_type(self.logits))

    def log_prob(self, value: Any) -> Any:
        """Return the logarithm of the probability of classes, a tensor or an array of integers."""
        value = np.asarray(value)
        if self.rule == "quantile" and self._tensor.requires_grad:
            raise RuntimeError("log_prob has no derivative with rule='quantile': pass 'adaptive'")
        return self._typed(_LogProb.apply(self._tensor, self._arrays, value))

    def score(self, value: Any) -> Any:
        """Return the gradient of `log_prob` with respect to the logits."""
        return self._typed(as_tensor(self._arrays.score(np.asarray(value))))

    def vjp(self, cotangent: Any) -> Any:
        """Return the product of a cotangent with the Jacobian of `probs`."""
        cotangent = as_array(torch.as_tensor(cotangent).to(self._tensor.dtype))
        return self._typed(as_tensor(self._arrays.vjp(cotangent)))

    def expected_max(self) -> Any:
        """Return the expected maximum of logits and noise."""
        return self._typed(_ExpectedMax.apply(self._tensor, self._arrays))

    def _expected(self, other: Any, term: Any) -> Any:
        if other.num_classes != self.num_classes:
            raise ValueError(
                f"expected a distribution over {self.num_classes} classes, not {other.num_classes}"
            )
        p, q = (torch.as_tensor(d.probs).to(self._tensor.dtype) for d in (self, other))
        # Classes that cannot win count nothing, and have no gradient.
        possible = p > 0.0
        one = torch.ones_like(p)
        logs = [torch.where(possible, x, one).log() for x in torch.broadcast_tensors(p, q)]
        return self._typed((p * term(*logs)).sum(dim=-1))

    def kl_divergence(self, other: Any) -> Any:
        """Return the Kullback-Leibler divergence of this distribution from another."""
        return self._expected(other, lambda log_p, log_q: log_p - log_q)

    def top_k_inclusion(self, k: int) -> Any:
        """Return the probabilities that classes are among the `k` largest, without derivatives."""
        return self._typed(as_tensor(self._arrays.top_k_inclusion(k)))

    def sample(self, sample_shape: int | Sequence[int] = (), *, rng: Any) -> Any:
        """Draw classes."""
        return as_tensor(self._arrays.sample(sample_shape, rng=rng))

    def sample_k(self, k: int, sample_shape: int | Sequence[int] = (), *, rng: Any) -> Any:
        """Draw classes without replacement."""
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
        if not 0.0 < temperature < math.inf:
            raise ValueError(f"expected 0 < temperature < inf, not {temperature}")
        shape = _argmax_noise.shape_of_sample(sample_shape)
        zeros = np.zeros_like(self._arrays._rows)
        noise = as_tensor(_sampling.sums(zeros, math.prod(shape), *self._law, rng))
        sums = self._tensor + noise.reshape(*shape, *self._tensor.shape)
        y = torch.softmax(sums / temperature, dim=-1)
        if straight_through:
            hard = torch.zeros_like(y).scatter_(-1, sums.argmax(dim=-1, keepdim=True), 1.0)
            y = hard + (y - y.detach())
        return self._typed(y)
