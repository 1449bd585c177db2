"""The distribution of the class whose logit is largest under noise that classes share in part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._backend import bridge_for
from .._lines import compute_type, result_type
from .._real_array import real_array, whole_number
from ..random import as_philox
from . import _sampling
from ._class_arguments import (
    check_classes,
    check_logits,
    cotangent_of,
    shape_of_sample,
    shape_with_batch,
)
from ._factor_integrals import FactorIntegrals
from ._given_factors import EqualScale, GivenFactors, NormalScales
from ._noise import Cauchy, Gumbel, Logistic, Noise, Normal, StudentT, law_or_normal
from ._outer_integral import GRID_RANK, OuterMeans, OuterRule

if TYPE_CHECKING:
    from ..random import Philox

_ANALYTIC = (Cauchy, Gumbel, Logistic, Normal, StudentT)
_BLOCK = 2**22  # elements of logits at a time
_FACTOR_DRAWS = 1  # tag of the generator that draws the factors


class ProbsWithError(NamedTuple):
    """
    Probabilities, and how far off they may be.

    Parameters
    ----------
    probs : ndarray, shape (..., n)
        The probabilities of all classes.
    error : ndarray, shape (...)
        For the worst class: an estimate of the error of a grid, 1e-9 at least, or one standard
        error of a lattice.
    """

    probs: Any
    error: Any


class CorrelatedGradients(NamedTuple):
    """
    Derivatives of a function of probabilities.

    Parameters
    ----------
    logits : ndarray, shape (..., n)
        With respect to the logits.
    factor : ndarray, shape of the factor
        With respect to the factor, summed over the batch elements that share it.
    scale : ndarray, shape of the scale
        With respect to the scale, summed over the batch.
    """

    logits: Any
    factor: Any
    scale: Any


@dataclass(frozen=True, init=False, eq=False)
class CorrelatedArgmaxNoise:
    r"""
    The law of :math:`\arg\max_i (\mu_i + \sum_k B_{ik} z_k + \sigma_i \varepsilon_i)`.

    What `ArgmaxNoise` is with independent noise, this is with a part of it in common: z is
    standard normal of `r` components, and B says how much of each a class takes. With normal
    noise its covariance is :math:`D + B B^\top`, D being the diagonal of :math:`\sigma_i^2`: a
    probit model with factors. With Gumbel noise it is a mixed logit model.

    .. math:: p_i = \operatorname{E}_z \, p_i^{\text{independent}}(\mu + B z)

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n)
        The logits, as those of `ArgmaxNoise`.
    factor : array_like or Tensor, shape (n, r) or (..., n, r)
        The factor B, finite, in units of the logits.
    noise : Noise, optional
        The law of the independent noise; normal by default.
    scale : float or array_like or Tensor of shape (n,), optional
        Its scale, positive and finite. One for each class needs normal noise, and work
        that grows with the square of the classes.
    points : int, optional
        How many values of z there may be.
    rng : int or logitkit.random.Philox, optional
        A seed, or a generator, for random shifts of a lattice of `points` values of z. It is
        needed for more than three factors; without it z runs over grids.

    Raises
    ------
    TypeError
        If an argument does not hold numbers of the kind that is expected.
    ValueError
        If shapes do not fit, or an argument is out of range.

    See Also
    --------
    ArgmaxNoise : Independent noise.
    logitkit.reference.correlated_argmax_probs : The integral by another rule, in NumPy.

    Notes
    -----
    The integral over z is one of the trapezoidal rule, whose step is halved until nothing
    changes by more than 1e-9 or a finer grid would exceed `points`; what it comes to is
    in `probs_with_error`. Noise of much smaller a scale than the factors needs more points. A
    class of small probability wins for other z than the rest, so `log_prob` has nodes of its
    own, around the maximum of its integrand, and keeps digits far into the tail, for noise
    with a log-concave density.

    A lattice converges like 1 / points at least, in any number of components. The same `rng`
    gives the same nodes for all elements of a batch: results do not depend on the batch.

    References
    ----------
    .. [1] K. Train, "Discrete choice methods with simulation", Cambridge University Press,
       2009, chapters 5 and 6.
    .. [2] L. N. Trefethen and J. A. C. Weideman, "The exponentially convergent trapezoidal
       rule", SIAM Review 56, 2014.

    Examples
    --------
    Two of three equal classes move together, and so take from each other:

    >>> from logitkit.distributions import CorrelatedArgmaxNoise
    >>> buses = CorrelatedArgmaxNoise([0.0, 0.0, 0.0], [[2.0], [2.0], [0.0]])
    >>> buses.probs.round(6)
    array([0.296607, 0.296607, 0.406785])
    >>> float(buses.log_prob(2).round(6))
    -0.89947
    """

    logits: Any
    factor: Any
    noise: Noise
    scale: Any
    points: int
    rng: Philox | None

    def __new__(
        cls,
        logits: Any,
        factor: Any = None,  # not in a copy, which has its members from the original
        noise: Noise | None = None,
        scale: Any = 1.0,
        *,
        points: int = 2**14,
        rng: int | Philox | None = None,
    ) -> Any:
        """Return the class for tensors if `logits` is one."""
        bridge = bridge_for(logits) if cls is CorrelatedArgmaxNoise else None
        return object.__new__(cls if bridge is None else bridge.CorrelatedArgmaxNoise)

    def __getnewargs__(self) -> tuple[Any]:
        """Return what `__new__` needs when a copy is made."""
        return (self.logits,)

    def __init__(
        self,
        logits: Any,
        factor: Any,
        noise: Noise | None = None,
        scale: Any = 1.0,
        *,
        points: int = 2**14,
        rng: int | Philox | None = None,
    ) -> None:
        array = np.atleast_1d(real_array("logits", logits))
        if compute_type(result_type(array)) is None:
            raise TypeError(f"expected logits of at most 64 bits, not {array.dtype}")
        check_logits(array)
        own = law_or_normal(noise)
        b, sigma = _checked_factor(factor, array), _checked_scale(scale, array, own)
        if rng is None and b.shape[-1] > GRID_RANK:
            raise ValueError(
                f"expected a factor of at most {GRID_RANK} columns for a grid, not {b.shape[-1]}: "
                "pass rng, a seed, for a lattice"
            )
        generator = None if rng is None else as_philox(rng)
        for name, value in (
            ("logits", array),
            ("factor", b),
            ("noise", own),
            ("scale", sigma),
            ("points", whole_number("points", points)),
            ("rng", generator),
        ):
            object.__setattr__(self, name, value)
        self.rule()  # raises an error if there are too few points

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of `logits` without the classes."""
        shape: tuple[int, ...] = self.logits.shape[:-1]
        return shape

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return int(self.logits.shape[-1])

    @property
    def rank(self) -> int:
        """The number of common factors."""
        return int(self.factor.shape[-1])

    @property
    def probs(self) -> Any:
        """The probabilities of all classes, in the shape and floating-point type of `logits`."""
        return self.probs_with_error().probs

    def probs_with_error(self) -> ProbsWithError:
        """
        Return the probabilities of all classes, and how far off they may be.

        Returns
        -------
        ProbsWithError
            A named tuple of `probs`, in the shape and type of `logits`, and `error`, one number
            for each element of the batch.
        """
        found = self.probs_means()
        probs = found.values.reshape(self.logits.shape).astype(self._dtype)
        return ProbsWithError(probs, found.errors.reshape(self.batch_shape))

    def probs_means(self) -> OuterMeans:
        """
        Return the probabilities of all rows, and the levels of nodes that they took.

        Returns
        -------
        OuterMeans
            Probabilities (rows, n), their errors, and numbers of levels.
        """
        integrals = self.integrals()
        return integrals.means(
            lambda x, z, weights, _: weights @ integrals.given.probs(x), self.num_classes
        )

    @property
    def mode(self) -> Any:
        """The most probable class, which need not be that of the largest logit."""
        return np.argmax(self.probs, axis=-1)

    def entropy(self) -> Any:
        """
        Return the entropy.

        Returns
        -------
        ndarray or scalar, shape of the batch
            In nats, from 0 to ``log(n)``.
        """
        p = self.probs.astype(np.float64)
        logs = np.log(np.where(p > 0.0, p, 1.0))
        return (-np.sum(p * logs, axis=-1)).astype(self._dtype)[()]

    def expected_max(self) -> Any:
        r"""
        Return the expected largest sum of logit and noise.

        Returns
        -------
        ndarray or scalar, shape of the batch
            Its gradient is `probs`; infinite for Cauchy noise.
        """
        integrals = self.integrals()
        values = integrals.means(
            lambda x, z, weights, _: weights @ integrals.given.expected_max(x)[..., None], 1
        ).values
        return values.reshape(self.batch_shape).astype(self._dtype)[()]

    def vjp(self, cotangent: Any) -> CorrelatedGradients:
        r"""
        Return the product of a cotangent with the Jacobian of `probs`.

        Parameters
        ----------
        cotangent : array_like, shape (..., n)
            One number g for each probability, or what broadcasts to that.

        Returns
        -------
        CorrelatedGradients
            The derivatives of :math:`\sum_i g_i p_i` with respect to `logits`, `factor` and
            `scale`.

        Raises
        ------
        ValueError
            If `cotangent` does not broadcast to the shape of the logits.
        """
        g = cotangent_of(self.logits.shape, cotangent)
        g = g.reshape(-1, self.num_classes).astype(np.float64)
        size = np.maximum(np.max(np.abs(g), axis=-1, initial=0.0), np.finfo(np.float64).tiny)
        n, rank, integrals = self.num_classes, self.rank, self.integrals()

        def sums(x: Any, z: Any, weights: Any, rows: Any) -> Any:
            of_x, of_scale = integrals.given.vjp(x, g[rows] / size[rows, None])
            weighted = np.swapaxes(weights[:, None] * of_x, 1, 2)  # (rows, n, k)
            of_factor = (weighted @ z).reshape(len(x), n * rank)
            return np.concatenate([weights @ of_x, of_factor, weights @ of_scale], axis=-1)

        spread = 1 if np.ndim(self.scale) == 0 else n
        found = integrals.means(sums, n * (1 + rank) + spread).values * size[:, None]
        of_x, of_factor, of_scale = np.split(found, [n, n * (1 + rank)], axis=-1)
        of_factor = of_factor.reshape(*self.batch_shape, n, rank)
        return CorrelatedGradients(
            of_x.reshape(self.logits.shape).astype(self._dtype),
            _summed_to(of_factor, self.factor.shape).astype(self._dtype),
            of_scale.sum(0).reshape(np.shape(self.scale)).astype(self._dtype)[()],
        )

    def log_prob(self, value: Any) -> Any:
        r"""
        Return the logarithm of the probability of classes.

        Parameters
        ----------
        value : array_like of int
            Classes, from 0 to ``n - 1``, of a shape that fits that of the batch.

        Returns
        -------
        ndarray or scalar, shape of `value` and the batch
            :math:`\log p_i`, in nats; -inf for a class that cannot win.

        Raises
        ------
        TypeError
            If `value` does not hold integers.
        ValueError
            If one of them is not a class.
        """
        rows, classes, shape = self.pairs(value)
        result = np.empty(len(rows))
        for at, nodes in self.integrals().class_nodes(rows, classes):
            result[at] = np.logaddexp.reduce(nodes.log_weights + nodes.log_values, axis=-1)
        return result.reshape(shape).astype(self._dtype)[()]

    def score(self, value: Any) -> Any:
        r"""
        Return the gradient of `log_prob` with respect to the logits.

        Parameters
        ----------
        value : array_like of int
            Classes, from 0 to ``n - 1``, of a shape that fits that of the batch.

        Returns
        -------
        ndarray, shape of `value` and the batch, then (n,)
            :math:`\partial \log p_i / \partial \mu_j`; zero for a class that cannot win.

        Raises
        ------
        TypeError
            If `value` does not hold integers.
        ValueError
            If one of them is not a class.
        """
        rows, classes, shape = self.pairs(value)
        integrals, result = self.integrals(), np.zeros((len(rows), self.num_classes))
        for at, nodes in integrals.class_nodes(rows, classes):
            logs = nodes.log_weights + nodes.log_values
            totals = np.logaddexp.reduce(logs, axis=-1, keepdims=True)
            shares = np.exp(logs - np.where(totals > -np.inf, totals, 0.0))
            scores = integrals.scores(nodes.z, rows[at], classes[at])
            scores = np.where(totals[..., None] > -np.inf, scores, 0.0)
            result[at] = (shares[:, None] @ scores)[:, 0]
        return result.reshape(*shape, self.num_classes).astype(self._dtype)

    def sample(self, sample_shape: int | Sequence[int] = (), *, rng: int | Philox) -> Any:
        """
        Draw classes.

        Parameters
        ----------
        sample_shape : int or tuple of ints, optional
            The shape of what is drawn for each element of the batch.
        rng : int or logitkit.random.Philox
            A seed, or a generator: a draw depends on it, on its place in the result, and on the
            logits and the factor there alone.

        Returns
        -------
        ndarray of int64 or scalar, shape (*sample_shape, *batch_shape)
            Classes, from 0 to ``n - 1``.
        """
        shape, generator = shape_of_sample(sample_shape), as_philox(rng)
        rows, b = self._flat()
        draws = np.empty(math.prod(shape) * len(rows), np.int64)
        size = max(1, _BLOCK // self.num_classes)
        for begin in range(0, len(draws), size):
            ids = np.arange(begin, min(begin + size, len(draws)))
            z = generator.fold_in(_FACTOR_DRAWS).normal(ids, self.rank)
            common = np.einsum("kir,kr->ki", b[ids % len(rows)], z)
            own = _sampling.draw(self.noise, generator, ids, self.num_classes, np.float64)
            draws[ids] = np.argmax(rows[ids % len(rows)] + common + self.scale * own, axis=-1)
        return draws.reshape((*shape, *self.batch_shape))[()]

    @property
    def _dtype(self) -> np.dtype[Any]:
        return result_type(self.logits)

    def _given(self) -> GivenFactors:
        if np.ndim(self.scale):
            return NormalScales(self.scale)
        return EqualScale(self.noise, float(self.scale))

    def rule(self) -> OuterRule:
        """
        Return the rule that has the nodes z.

        Returns
        -------
        OuterRule
            That of a grid or a lattice.
        """
        analytic = isinstance(self.noise, _ANALYTIC)
        return OuterRule(self.rank, self.points, self.rng, analytic=analytic)

    def integrals(self) -> FactorIntegrals:
        """
        Return the integrals over z, for all rows.

        Returns
        -------
        FactorIntegrals
            What all results but draws are computed with.
        """
        concave = not isinstance(self.noise, (Cauchy, StudentT))
        return FactorIntegrals(*self._flat(), self._given(), self.rule(), concave)

    def _flat(self) -> tuple[Any, Any]:
        """Return the logits (rows, n) and the factors (rows, n, r) in float64."""
        n, rank = self.num_classes, self.rank
        b = np.broadcast_to(self.factor, (*self.batch_shape, n, rank)).reshape(-1, n, rank)
        return self.logits.reshape(-1, n).astype(np.float64), b

    def pairs(self, value: Any) -> tuple[Any, Any, tuple[int, ...]]:
        """
        Return a row and a class for each element of a result.

        Parameters
        ----------
        value : array_like of int
            Classes, of a shape that fits that of the batch.

        Returns
        -------
        rows, classes : ndarray of int, shape (pairs,)
            Rows, counted through, and classes.
        shape : tuple of ints
            The shape of the result.
        """
        classes = check_classes(value, self.num_classes)
        rows = np.arange(math.prod(self.batch_shape)).reshape(self.batch_shape)
        shape_with_batch(classes.shape, self.batch_shape)
        rows, classes = np.broadcast_arrays(rows, classes)
        return rows.ravel(), classes.ravel().astype(np.intp), rows.shape


def _checked_factor(factor: Any, logits: Any) -> Any:
    b = real_array("factor", factor).astype(np.float64)
    if b.ndim < 2 or b.shape[-2] != logits.shape[-1] or b.shape[-1] == 0:
        raise ValueError(
            f"expected a factor of shape (..., {logits.shape[-1]}, r), a row for each class, "
            f"not {b.shape}"
        )
    if b.shape[:-2] not in ((), logits.shape[:-1]):
        raise ValueError(
            f"expected a factor for all, or one for each row of {logits.shape[:-1]}, "
            f"not {b.shape[:-2]}"
        )
    if not np.isfinite(b).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(b))[0]))
        raise ValueError(f"expected a factor that is finite, not {b[at]} at {at}")
    return b


def _checked_scale(scale: Any, logits: Any, noise: Noise) -> Any:
    sigma = real_array("scale", scale).astype(np.float64)
    if sigma.shape not in ((), logits.shape[-1:]):
        raise ValueError(
            f"expected one scale, or one for each of {logits.shape[-1]} classes, not scales of "
            f"shape {sigma.shape}"
        )
    wrong = ~((sigma > 0.0) & (sigma < math.inf))
    if wrong.any():
        at = tuple(map(int, np.argwhere(wrong)[0])) if sigma.ndim else ()
        raise ValueError(f"expected 0 < scale < inf, not {sigma[at]}" + (f" at {at}" if at else ""))
    if sigma.ndim and not isinstance(noise, Normal):
        raise ValueError(f"expected normal noise with a scale for each class, not {noise!r}")
    return sigma[()]


def _summed_to(x: Any, shape: tuple[int, ...]) -> Any:
    return x.reshape(-1, *shape).sum(0) if x.ndim > len(shape) else x
