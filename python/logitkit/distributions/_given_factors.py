"""What is left once common factors are given: classes with independent noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from . import _integrals
from ._noise import Noise
from ._normal_argmax import class_log_probability


class GivenFactors(Protocol):
    """
    Integrals for logits (rows, k, n), in float64, that include k values of the factors.

    Each row of results depends on its own logits alone.
    """

    def probs(self, x: Any) -> Any:
        """P(argmax = i), (rows, k, n)."""

    def log_prob(self, x: Any, index: Any) -> Any:
        """Log P(argmax = index) for one class of each row, (rows, k)."""

    def score(self, x: Any, index: Any) -> Any:
        """Return the gradient of `log_prob` with respect to the logits, (rows, k, n)."""

    def vjp(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Return the gradients of sum_i g_i p_i, g (rows, n), for logits and scale, (rows, k, .)."""

    def expected_max(self, x: Any) -> Any:
        """E max, (rows, k)."""


@dataclass(frozen=True)
class EqualScale:
    """Noise of one scale, of any law: the kernels."""

    noise: Noise
    scale: float

    def probs(self, x: Any) -> Any:
        """P(argmax = i), (rows, k, n)."""
        return self._flat(_integrals.probs, x).reshape(x.shape)

    def log_prob(self, x: Any, index: Any) -> Any:
        """Log P(argmax = index) for one class of each row, (rows, k)."""
        return self._flat(_integrals.log_prob, x, _repeated(index, x)).reshape(x.shape[:2])

    def score(self, x: Any, index: Any) -> Any:
        """Return the gradient of `log_prob` with respect to the logits, (rows, k, n)."""
        return self._flat(_integrals.score, x, _repeated(index, x)).reshape(x.shape)

    def vjp(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Return the gradients for the logits and for the scale: p depends on x / scale alone."""
        g = np.repeat(g, x.shape[1], axis=0)
        of_x = self._flat(_integrals.vjp, x, g).reshape(x.shape)
        kept = np.where(x > -np.inf, x - np.max(x, axis=-1, keepdims=True), 0.0)
        return of_x, -np.sum(kept * of_x, axis=-1, keepdims=True) / self.scale

    def expected_max(self, x: Any) -> Any:
        """E max, (rows, k)."""
        return self._flat(_integrals.expected_max, x).reshape(x.shape[:2])

    def _flat(self, function: Callable[..., Any], x: Any, *others: Any) -> Any:
        return function(x.reshape(-1, x.shape[-1]), *others, self.noise, self.scale)


def _repeated(index: Any, x: Any) -> Any:
    return np.repeat(index.astype(np.uintp), x.shape[1])


@dataclass(frozen=True)
class NormalScales:
    """Normal noise of a scale for each class: in NumPy, one row and class after the other."""

    scale: Any

    def probs(self, x: Any) -> Any:
        """P(argmax = i), (rows, k, n)."""
        classes = np.arange(x.shape[-1])
        logs = [self.log_prob(x, np.full(len(x), i)) for i in classes]
        return np.exp(np.stack(logs, axis=-1))

    def log_prob(self, x: Any, index: Any) -> Any:
        """Log P(argmax = index) for one class of each row, (rows, k)."""
        result = np.empty(x.shape[:2])
        for i, (row, own) in enumerate(zip(x, index, strict=True)):
            result[i] = self._of_class(row, own, slopes=False)[0]
        return result

    def score(self, x: Any, index: Any) -> Any:
        """Return the gradient of `log_prob` with respect to the logits, (rows, k, n)."""
        result = np.empty(x.shape)
        for i, (row, own) in enumerate(zip(x, index, strict=True)):
            result[i] = self._of_class(row, own, slopes=True)[1]
        return result

    def vjp(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Return the gradients of sum_i g_i p_i for the logits and for the scales, (rows, k, n)."""
        of_x, of_scale = np.zeros(x.shape), np.zeros(x.shape)
        for row, (each, of_classes) in enumerate(zip(x, g, strict=True)):
            for i, of_class in enumerate(of_classes):
                log_p, dx, dscale = self._of_class(each, i, slopes=True)
                factor = of_class * np.exp(log_p)[:, None]
                of_x[row] += factor * dx
                of_scale[row] += factor * dscale
        return of_x, of_scale

    def expected_max(self, x: Any) -> Any:
        """E max = sum_i x_i p_i + scale_i^2 dp_i/dx_i, by parts, (rows, k)."""
        total = np.zeros(x.shape[:2])
        for row, each in enumerate(x):
            for i in map(int, np.flatnonzero(each[0] > -np.inf)):
                log_p, dx, _ = self._of_class(each, i, slopes=True)
                total[row] += np.exp(log_p) * (each[:, i] + self.scale[i] ** 2 * dx[:, i])
        return total

    def _of_class(self, x: Any, i: Any, *, slopes: bool) -> tuple[Any, Any, Any]:
        return class_log_probability(x, self.scale, int(i), slopes=slopes)
