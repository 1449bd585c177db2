"""What is left once common factors are given: classes with independent noise, for many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from . import _integrals
from ._noise import Noise
from ._normal_argmax import class_log_probability


class GivenFactors(Protocol):
    """Integrals for rows (k, n) of logits, in float64, that include the factors."""

    def probs(self, x: Any) -> Any:
        """P(argmax = i), (k, n)."""

    def log_prob(self, x: Any, index: int) -> Any:
        """Log P(argmax = index), (k,)."""

    def score(self, x: Any, index: int) -> Any:
        """Return the gradient of `log_prob` with respect to the logits, (k, n)."""

    def vjp(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Return the gradients of sum_i g_i p_i for the logits, (k, n), and for the scale."""

    def expected_max(self, x: Any) -> Any:
        """E max, (k,)."""


@dataclass(frozen=True)
class EqualScale:
    """Noise of one scale, of any law: the kernels."""

    noise: Noise
    scale: float

    def probs(self, x: Any) -> Any:
        """P(argmax = i), (k, n)."""
        return _integrals.probs(x, self.noise, self.scale)

    def log_prob(self, x: Any, index: int) -> Any:
        """Log P(argmax = index), (k,)."""
        indices = np.full(len(x), index, np.uintp)
        return _integrals.log_prob(x, indices, self.noise, self.scale)

    def score(self, x: Any, index: int) -> Any:
        """Return the gradient of `log_prob` with respect to the logits, (k, n)."""
        return _integrals.score(x, np.full(len(x), index, np.uintp), self.noise, self.scale)

    def vjp(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Return the gradients for the logits and for the scale: p depends on x / scale alone."""
        g = np.ascontiguousarray(np.broadcast_to(g, x.shape))
        of_x = _integrals.vjp(x, g, self.noise, self.scale)
        kept = np.where(x > -np.inf, x - np.max(x, axis=-1, keepdims=True), 0.0)
        return of_x, -np.sum(kept * of_x, axis=-1, keepdims=True) / self.scale

    def expected_max(self, x: Any) -> Any:
        """E max, (k,)."""
        return _integrals.expected_max(x, self.noise, self.scale)


@dataclass(frozen=True)
class NormalScales:
    """Normal noise of a scale for each class: in NumPy, one class after the other."""

    scale: Any

    def probs(self, x: Any) -> Any:
        """P(argmax = i), (k, n)."""
        return np.exp(np.stack([self.log_prob(x, i) for i in range(x.shape[-1])], axis=-1))

    def log_prob(self, x: Any, index: int) -> Any:
        """Log P(argmax = index), (k,)."""
        return class_log_probability(x, self.scale, index, slopes=False)[0]

    def score(self, x: Any, index: int) -> Any:
        """Return the gradient of `log_prob` with respect to the logits, (k, n)."""
        return class_log_probability(x, self.scale, index, slopes=True)[1]

    def vjp(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Return the gradients of sum_i g_i p_i for the logits and for the scales, (k, n)."""
        of_x, of_scale = np.zeros(x.shape), np.zeros(x.shape)
        for i, of_class in enumerate(np.moveaxis(np.broadcast_to(g, x.shape), -1, 0)):
            log_p, dx, dscale = class_log_probability(x, self.scale, i, slopes=True)
            factor = (of_class * np.exp(log_p))[:, None]
            of_x += factor * dx
            of_scale += factor * dscale
        return of_x, of_scale

    def expected_max(self, x: Any) -> Any:
        """E max = sum_i x_i p_i + scale_i^2 dp_i/dx_i, by parts, (k,)."""
        total = np.zeros(len(x))
        for i in map(int, np.flatnonzero(x[0] > -np.inf)):
            log_p, dx, _ = class_log_probability(x, self.scale, i, slopes=True)
            total += np.exp(log_p) * (x[:, i] + self.scale[i] ** 2 * dx[:, i])
        return total
