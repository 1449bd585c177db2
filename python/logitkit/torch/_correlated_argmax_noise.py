"""The class with the largest logit under noise that is shared in part, over tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..distributions import _correlated_argmax_noise
from ..distributions._correlated_argmax_noise import ProbsWithError
from ..distributions._noise import Noise
from ..losses._expected_accuracy import LOG_EXPECTED_ACCURACY
from ..losses._fenchel_young import name_of
from ._losses import row_loss
from ._noise_argmax import expected_max, log_probability, probabilities
from ._tensors import as_array, as_tensor, compute_type, elements, result_type

_BLOCK = 2**22  # elements of logits at a time


class CorrelatedArgmaxNoise(_correlated_argmax_noise.CorrelatedArgmaxNoise):
    r"""
    The law of the class with the largest logit under noise of covariance D + B B^T.

    What `logitkit.distributions.CorrelatedArgmaxNoise` is for a tensor of logits. `probs`,
    `log_prob`, `entropy` and `expected_max` have the derivatives of `ArgmaxNoise`, with respect to the
    logits, the factor and the scale: whichever of them are tensors.

    Parameters
    ----------
    logits : Tensor, shape (..., n)
        The logits, in main memory.
    factor : array_like or Tensor, shape (n, r) or (..., n, r)
        The factor B.
    noise : Noise, optional
        The law of the independent noise, one of this package; normal by default.
    scale : float or array_like or Tensor of shape (n,), optional
        Its scale.
    points : int, optional
        How many values of the common noise there may be.
    rng : int or logitkit.random.Philox, optional
        What shifts a lattice.

    See Also
    --------
    logitkit.distributions.CorrelatedArgmaxNoise : The same for arrays, with explanations.

    Examples
    --------
    >>> import torch
    >>> from logitkit.distributions import CorrelatedArgmaxNoise
    >>> factor = torch.tensor([[1.0], [0.0]], requires_grad=True)
    >>> CorrelatedArgmaxNoise(torch.tensor([1.0, 0.0]), factor).probs[0].backward()
    >>> factor.grad
    tensor([[-0.0650],
            [ 0.0650]])
    """

    _arrays: Any
    _tensors: tuple[Any, Any, Any]

    def __init__(
        self,
        logits: Any,
        factor: Any,
        noise: Noise | None = None,
        scale: Any = 1.0,
        *,
        points: int = 2**14,
        rng: Any = None,
    ) -> None:
        dtype = compute_type(result_type(logits))
        given = torch.atleast_1d(logits), factor, scale
        tensors = [
            x if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x, np.float64))
            for x in given
        ]
        x, b, sigma = (
            np.ascontiguousarray(elements(name, x.to(torch.float64))).reshape(x.shape)
            for name, x in zip(("logits", "factor", "scale"), tensors, strict=True)
        )
        arrays = _correlated_argmax_noise.CorrelatedArgmaxNoise(
            x, b, noise, sigma, points=points, rng=rng
        )
        name_of(arrays.noise)  # raises an error for a law that operators do not know
        for name, value in (
            ("logits", logits),
            ("factor", factor),
            ("noise", arrays.noise),
            ("scale", scale),
            ("points", arrays.points),
            ("rng", arrays.rng),
            ("_arrays", arrays),
            ("_tensors", tuple(x.to(dtype) for x in tensors)),
        ):
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
    def rank(self) -> int:
        """The number of common factors."""
        return self._arrays.rank  # type: ignore[no-any-return]

    @property
    def probs(self) -> Any:
        """The probabilities of all classes, in the shape and type of the logits."""
        return self.probs_with_error().probs

    def probs_with_error(self) -> ProbsWithError:
        """Return the probabilities of all classes, and how far off they may be."""
        found = self._arrays.probs_means()
        probs = self._means(found.levels, self._given_probs).reshape(self._tensors[0].shape)
        errors = as_tensor(found.errors.reshape(self.batch_shape))
        return ProbsWithError(probs.to(result_type(self.logits)), errors)

    @property
    def mode(self) -> Any:
        """The most probable class."""
        return self.probs.detach().argmax(dim=-1)

    def entropy(self) -> Any:
        """Return the entropy."""
        p = self.probs
        logs = torch.where(p > 0.0, p, torch.ones_like(p)).log()
        return -(p * logs).sum(dim=-1)

    def expected_max(self) -> Any:
        """Return the expected largest sum of logit and noise."""
        if self._tensors[2].ndim:
            raise NotImplementedError("expected_max of tensors needs one scale for all classes")
        name, sigma = name_of(self.noise), self._tensors[2]
        levels = self._arrays.probs_means().levels
        found = self._means(levels, lambda x: expected_max(x / sigma, name, 1.0)[..., None])
        return (sigma * found).reshape(self.batch_shape).to(result_type(self.logits))

    def log_prob(self, value: Any) -> Any:
        """Return the logarithm of the probability of classes, a tensor or an array of integers."""
        rows, classes, shape = self._arrays.pairs(np.asarray(value))
        places, results = [], []
        for at, nodes in self._arrays.integrals().class_nodes(rows, classes):
            logs = self._given_log_prob(self._sums(nodes.z, rows[at]), classes[at])
            places.append(at)
            results.append(torch.logsumexp(self._tensor(nodes.log_weights) + logs, -1))
        return self._placed(places, results, ()).reshape(shape).to(result_type(self.logits))

    def score(self, value: Any) -> Any:
        """Return the gradient of `log_prob` with respect to the logits."""
        return as_tensor(self._arrays.score(np.asarray(value))).to(result_type(self.logits))

    def vjp(self, cotangent: Any) -> Any:
        """Return the product of a cotangent with the Jacobian of `probs`, as tensors."""
        if isinstance(cotangent, torch.Tensor):
            cotangent = as_array(cotangent)
        found = self._arrays.vjp(cotangent)
        return type(found)(*(as_tensor(x).to(result_type(self.logits)) for x in found))

    def sample(self, sample_shape: int | Sequence[int] = (), *, rng: Any) -> Any:
        """Draw classes."""
        return as_tensor(self._arrays.sample(sample_shape, rng=rng))

    def _tensor(self, x: Any) -> Any:
        return as_tensor(x).to(self._tensors[0].dtype)

    def _means(self, levels: Any, values: Any) -> Any:
        """Return the means over z of values (rows, k, m) of mu + B z, in the order of the rows."""
        places, results = [], []
        for count in np.unique(levels):
            z, weights = self._arrays.rule().nodes(int(count))
            rows = np.flatnonzero(levels == count)
            most = max(1, _BLOCK // (len(z) * self.num_classes))
            for part in (rows[i : i + most] for i in range(0, len(rows), most)):
                places.append(part)
                results.append(self._tensor(weights) @ values(self._sums(z, part)))
        return self._placed(places, results, (self.num_classes,))

    def _placed(self, places: list[Any], results: list[Any], shape: tuple[int, ...]) -> Any:
        """Return the rows of some results in the order of their places."""
        if not results:
            return self._tensors[0].new_empty((0, *shape))
        order = torch.from_numpy(np.argsort(np.concatenate(places)))
        return torch.cat(results)[order]

    def _sums(self, z: Any, rows: Any) -> Any:
        """Return mu + B z for nodes (k, rank) or (rows, k, rank), (rows, k, n)."""
        x, b, _ = self._tensors
        n, rank = self.num_classes, self.rank
        at = torch.from_numpy(rows)
        own = b.expand(*self.batch_shape, n, rank).reshape(-1, n, rank)[at]
        return x.reshape(-1, n)[at, None] + self._tensor(z) @ own.mT

    def _given_probs(self, x: Any) -> Any:
        sigma = self._tensors[2]
        if sigma.ndim == 0:
            return probabilities(x / sigma, name_of(self.noise), 1.0)
        classes = np.arange(self.num_classes)
        logs = [self._given_log_prob(x, np.full(len(x), i)) for i in classes]
        return torch.stack(logs, -1).exp()

    def _given_log_prob(self, x: Any, classes: Any) -> Any:
        """Return the logarithms of the probabilities of one class of each row, (rows, k)."""
        sigma = self._tensors[2]
        index = torch.from_numpy(classes)[:, None].expand(x.shape[:-1])
        if sigma.ndim == 0:
            return log_probability(x / sigma, index, name_of(self.noise), 1.0)
        loss = row_loss(LOG_EXPECTED_ACCURACY)
        return -loss(x, sigma.expand(x.shape), index, math.inf, 0, 0)
