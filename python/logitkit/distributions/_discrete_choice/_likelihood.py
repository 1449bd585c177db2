"""The likelihood of choices among noisy utilities, with its first and second derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _integrals
from ._design import Array, Design

if TYPE_CHECKING:
    from .._noise import Noise

_STEP = 1e-4  # of the differences of exact gradients, in units of a utility: errs by 1e-8


class _Group(NamedTuple):
    """Observations with the same alternatives: a dense design."""

    members: NDArray[np.int64]
    features: Array
    choice: NDArray[np.uint64]


@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood of linear utilities as a function of their coefficients."""

    design: Design
    choice: NDArray[np.int64]
    noise: Noise
    weights: Array

    def value(self, coefficients: Array) -> float:
        """Return the log-likelihood, in nats."""
        total = 0.0
        for members, features, choice in self._groups:
            log_p = _integrals.log_prob(features @ coefficients, choice, self.noise, 1.0)
            total += float(self.weights[members] @ log_p)
        return total

    def scores(self, coefficients: Array) -> Array:
        """Return the gradient of each observation, shape (n, k)."""
        scores = np.zeros((len(self.choice), len(coefficients)))
        for members, features, choice in self._groups:
            slopes = _integrals.score(features @ coefficients, choice, self.noise, 1.0)
            weights = self.weights[members, np.newaxis]
            scores[members] = weights * np.einsum("nj,njk->nk", slopes, features)
        return scores

    def information(self, coefficients: Array) -> Array:
        """Return the negative matrix of second derivatives, by differences of gradients."""
        k = len(coefficients)
        hessian = np.empty((k, k))
        for i, step in enumerate(_STEP * np.eye(k)):
            above, below = self.scores(coefficients + step), self.scores(coefficients - step)
            hessian[i] = (above - below).sum(axis=0) / (2.0 * _STEP)
        return -0.5 * (hessian + hessian.T)

    def without_utilities(self) -> float:
        """Return the value if all alternatives are equal: the same for any noise."""
        return float(-self.weights @ np.log(self.design.available.sum(axis=1)))

    @cached_property
    def _groups(self) -> list[_Group]:
        patterns, group = np.unique(self.design.available, axis=0, return_inverse=True)
        groups = []
        for i, pattern in enumerate(patterns):
            if pattern.sum() < 2:  # a choice of one says nothing
                continue
            members = np.flatnonzero(group.reshape(-1) == i)
            position = np.cumsum(pattern) - 1
            features = np.ascontiguousarray(self.design.features[members][:, pattern])
            groups.append(
                _Group(members, features, position[self.choice[members]].astype(np.uint64))
            )
        return groups
