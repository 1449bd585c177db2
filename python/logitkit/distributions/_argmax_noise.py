"""The distribution of the class whose logit is largest once noise has been added."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._backend import bridge_for
from .._lines import compute_type, result_type
from .._real_array import real_array, real_number, whole_number
from .._softmax import softmax
from . import _integrals, _quantile_rule, _sampling
from ._class_arguments import (
    check_classes,
    check_logits,
    check_same_classes,
    cotangent_of,
    shape_of_sample,
    shape_with_batch,
    temperature_of_sample,
)
from ._noise import Gumbel, Noise, Normal, law_or_normal
from ._top_k_inclusion import top_k_inclusion

if TYPE_CHECKING:
    from ..random import Philox


@dataclass(frozen=True, init=False, eq=False)
class ArgmaxNoise:
    r"""
    The law of :math:`\arg\max_i (\mu_i + \sigma \varepsilon_i)` for independent noise.

    A distribution over `n` classes from logits :math:`\mu`: a softmax if the noise is that of
    Gumbel, a probit model if it is normal, and one more for every other law of noise. Its
    methods have the names of those of ``torch.distributions``, and batches any shape.

    .. math:: p_i = \int \frac{f}{F}(u - \mu_i) \prod_{j=1}^{n} F(u - \mu_j) \, du

    Parameters
    ----------
    logits : array_like or Tensor, shape (..., n)
        The logits: real numbers of at most 64 bits, of which rows have one at least that is
        finite. ``-inf`` leaves a class out. With a tensor, results are tensors, with
        derivatives.
    noise : Noise, optional
        The law of the noise, or any object with the members of `Noise`.
    scale : float, optional
        The scale :math:`\sigma` of the noise, positive and finite.
    rule : {"adaptive", "quantile"}, optional
        How to integrate. The second is the rule of the article [1]_, with nodes at quantiles of
        the noise, for comparison: its error is about ``0.4 / nodes``.
    nodes : int, optional
        The number of nodes of the second rule.

    Raises
    ------
    TypeError
        If `logits` are not real numbers of at most 64 bits in main memory.
    ValueError
        If logits are NaN or ``+inf``, a row has no finite one, or another argument is out of
        range.

    See Also
    --------
    Probit : Normal noise.
    Softmax : Gumbel noise.
    logitkit.reference.noise_argmax_probs : The integrals in NumPy and ``float64``.

    Notes
    -----
    All classes share their nodes, and classes with logits close to each other are integrated as
    few points of an expansion, so that the work hardly exceeds a few passes over the logits [2]_.
    Probabilities above 1e-30 are within 1e-9 of themselves in ``float64`` and 1e-5 in
    ``float32``, in which half types are computed too. `log_prob` has nodes for its own class: it
    is within 1e-12 and 2e-6 of ``max(1, -log_prob)``, down to -1e4. With heavy tails, those of
    `Cauchy` and `StudentT`, this holds for logits that differ by 1e7 times the scale at most;
    larger differences add 2^-50 times themselves, and beyond 2^50 they count as 2^50.

    Gumbel and reversed exponential noise have closed forms, all other laws of this module
    kernels. A law of the user's own, and a `StudentT` of more than 10,000 degrees of freedom, is
    integrated in NumPy, which is slow and needs memory.

    References
    ----------
    .. [1] J. Su, "Constructing discrete probability distributions from reparameterization" (in
       Chinese), https://kexue.fm/archives/9085, 2022.
    .. [2] K. Train, "Discrete choice methods with simulation", Cambridge University Press, 2009.

    Examples
    --------
    >>> from logitkit.distributions import ArgmaxNoise, Laplace, Normal
    >>> probit = ArgmaxNoise([0.7, -0.3, 0.1, 0.55, -1.2], Normal())
    >>> probit.probs.round(6)
    array([0.391738, 0.093036, 0.174184, 0.324223, 0.01682 ])
    >>> round(float(probit.expected_max()), 6)
    1.397241
    >>> ArgmaxNoise([0.0, 200.0], Laplace(), scale=0.5).log_prob(0).round(6)
    np.float64(-395.389842)
    """

    logits: Any
    noise: Noise
    scale: float
    rule: Literal["adaptive", "quantile"]
    nodes: int

    def __new__(
        cls,
        logits: Any,
        noise: Noise | None = None,
        scale: float = 1.0,
        *,
        rule: Literal["adaptive", "quantile"] = "adaptive",
        nodes: int = 32,
    ) -> Any:
        """Return the class for tensors if `logits` is one."""
        bridge = bridge_for(logits) if cls is ArgmaxNoise else None
        return object.__new__(cls if bridge is None else bridge.ArgmaxNoise)

    def __getnewargs__(self) -> tuple[Any]:
        """Return what `__new__` needs when a copy is made."""
        return (self.logits,)

    def __init__(
        self,
        logits: Any,
        noise: Noise | None = None,
        scale: float = 1.0,
        *,
        rule: Literal["adaptive", "quantile"] = "adaptive",
        nodes: int = 32,
    ) -> None:
        array = np.atleast_1d(real_array("logits", logits))
        if compute_type(result_type(array)) is None:
            raise TypeError(f"expected logits of at most 64 bits, not {array.dtype}")
        check_logits(array)
        self._set(array, noise, scale, rule, nodes)

    def _set(self, logits: Any, noise: Any, scale: Any, rule: Any, nodes: Any) -> None:
        """Check the arguments other than the logits, and keep all."""
        if getattr(scale, "ndim", 0) or isinstance(scale, (list, tuple)):
            raise TypeError(f"expected one number as the scale, not {scale}: divide logits by it")
        scale = real_number("scale", scale)
        if not 0.0 < scale < math.inf:
            raise ValueError(f"expected 0 < scale < inf, not {scale}")
        if rule not in ("adaptive", "quantile"):
            raise ValueError(f"expected rule 'adaptive' or 'quantile', not {rule!r}")
        if (nodes := whole_number("nodes", nodes)) < 1:
            raise ValueError(f"expected one node at least, not {nodes}")
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "noise", law_or_normal(noise))
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "rule", rule)
        object.__setattr__(self, "nodes", nodes)

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
    def probs(self) -> Any:
        """The probabilities of all classes, in the shape and floating-point type of `logits`."""
        if self.rule == "quantile":
            return self._delivered(_quantile_rule.probs(self._rows, *self._law, self.nodes))
        return self._delivered(_integrals.probs(self._rows, *self._law))

    @property
    def mode(self) -> Any:
        """The most probable class: that of the largest logit, whatever the noise."""
        return np.argmax(self.logits, axis=-1)

    @property
    def _law(self) -> tuple[Noise, float]:
        return self.noise, self.scale

    @property
    def _dtype(self) -> np.dtype[Any]:
        return result_type(self.logits)

    @property
    def _rows(self) -> Any:
        """The logits as the kernels take them."""
        rows = self.logits.reshape(-1, self.num_classes)
        return np.ascontiguousarray(rows, compute_type(self._dtype))

    def _delivered(self, result: Any, *shape: int) -> Any:
        """Return an array of the classes, or of `shape`, for each element of the batch."""
        sizes = shape or (self.num_classes,)
        return result.reshape((*self.batch_shape, *sizes)).astype(self._dtype, copy=False)

    def _log_probs(self) -> Any:
        """Log-probabilities of all classes, for sums over classes."""
        if self.rule == "quantile":
            with np.errstate(divide="ignore"):
                return np.log(self.probs.astype(np.float64))
        rows = self._rows.astype(np.float64)
        return _integrals.log_probs(rows, *self._law).reshape(self.logits.shape)

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
        if self.rule == "quantile":
            logs = np.broadcast_to(self._log_probs(), (*self._value_shape(value), self.num_classes))
            value = np.broadcast_to(check_classes(value, self.num_classes), logs.shape[:-1])
            return np.take_along_axis(logs, value[..., None], -1)[..., 0].astype(self._dtype)[()]
        rows, classes, shape = self._pairs(value)
        result = _integrals.log_prob(rows, classes, *self._law)
        return result.reshape(shape).astype(self._dtype, copy=False)[()]

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
        rows, classes, shape = self._pairs(value)
        result = _integrals.score(rows, classes, *self._law)
        return result.reshape(*shape, self.num_classes).astype(self._dtype, copy=False)

    def vjp(self, cotangent: Any) -> Any:
        r"""
        Return the product of a cotangent with the Jacobian of `probs`.

        Parameters
        ----------
        cotangent : array_like, shape (..., n)
            One number for each probability, or what broadcasts to that.

        Returns
        -------
        ndarray, shape of the logits
            :math:`\sum_i g_i \, \partial p_i / \partial \mu_j`. The Jacobian is symmetric, and
            positive semi-definite: `probs` is the gradient of `expected_max`.

        Raises
        ------
        ValueError
            If `cotangent` does not broadcast to the shape of the logits.
        """
        g = cotangent_of(self.logits.shape, cotangent)
        rows = self._rows
        g = np.ascontiguousarray(g.reshape(rows.shape), rows.dtype)
        if self.rule == "quantile":
            return self._delivered(_quantile_rule.vjp(rows, g, *self._law, self.nodes))
        return self._delivered(_integrals.vjp(rows, g, *self._law))

    def expected_max(self) -> Any:
        r"""
        Return the expected maximum of logits and noise: the surplus of discrete choice.

        Returns
        -------
        ndarray or scalar, shape of the batch
            :math:`\Omega(\mu) = E \max_i (\mu_i + \sigma \varepsilon_i)`. For Gumbel noise of
            scale 1 it is the log-sum-exp and Euler's constant; for Cauchy noise it is infinite.
        """
        result = _integrals.expected_max(self._rows, *self._law)
        return result.reshape(self.batch_shape).astype(self._dtype, copy=False)[()]

    def entropy(self) -> Any:
        """
        Return the entropy.

        Returns
        -------
        ndarray or scalar, shape of the batch
            In nats, from 0 to ``log(n)``.
        """
        return self.cross_entropy(self)

    def cross_entropy(self, other: ArgmaxNoise) -> Any:
        r"""
        Return the cross-entropy of another distribution relative to this one.

        Parameters
        ----------
        other : ArgmaxNoise
            Of as many classes, with a batch that fits.

        Returns
        -------
        ndarray or scalar, shape of both batches
            :math:`-\sum_i p_i \log q_i` with the probabilities q of `other`, in nats.

        Raises
        ------
        ValueError
            If `other` has another number of classes.
        """
        return self._expected(other, lambda _, log_q: -log_q)

    def kl_divergence(self, other: ArgmaxNoise) -> Any:
        r"""
        Return the Kullback-Leibler divergence of this distribution from another.

        Parameters
        ----------
        other : ArgmaxNoise
            Of as many classes, with a batch that fits.

        Returns
        -------
        ndarray or scalar, shape of both batches
            :math:`\sum_i p_i (\log p_i - \log q_i)`, in nats; infinite where `other` excludes a
            class that is possible here.

        Raises
        ------
        ValueError
            If `other` has another number of classes.
        """
        return np.maximum(self._expected(other, lambda log_p, log_q: log_p - log_q), 0.0)

    def _expected(self, other: ArgmaxNoise, term: Any) -> Any:
        check_same_classes(self, other, ArgmaxNoise)
        log_p, log_q = np.broadcast_arrays(self._log_probs(), other._log_probs())
        p = np.exp(log_p)
        # What all classes share keeps the smallest probabilities as 0, and this would be inf.
        far = (p > LEAST_THAT_COUNTS) & (log_q == -np.inf)
        if other.rule == "adaptive" and far.any():
            log_q = log_q.copy()
            log_q[far] = np.concatenate(list(log_prob_of_pairs(other, far)))
        terms = np.zeros(p.shape)
        possible = p > 0.0
        terms[possible] = p[possible] * term(log_p[possible], log_q[possible])
        return terms.sum(axis=-1).astype(np.result_type(self._dtype, other._dtype))[()]

    def top_k_inclusion(self, k: int) -> Any:
        r"""
        Return the probabilities that classes are among the `k` largest.

        Parameters
        ----------
        k : int
            From 1 to `n`.

        Returns
        -------
        ndarray, shape of the logits
            Their sum is `k`, or the number of classes that are not left out if that is smaller.
            They are within 1e-10, and the work is O(n k) for each of some hundred nodes.

        Raises
        ------
        ValueError
            If `k` is out of range.

        Examples
        --------
        >>> from logitkit.distributions import Softmax
        >>> Softmax([1.0, 0.0, -1.0]).top_k_inclusion(2).round(4)
        array([0.9466, 0.7553, 0.2981])
        """
        k = self._count(k)
        return self._delivered(top_k_inclusion(self._rows, k, *self._law))

    def sample(self, sample_shape: int | Sequence[int] = (), *, rng: int | Philox) -> Any:
        """
        Draw classes.

        Parameters
        ----------
        sample_shape : int or tuple of ints, optional
            The shape of what is drawn for each element of the batch.
        rng : int or logitkit.random.Philox
            A seed, or a generator: a draw depends on it, on its place in the result and on the
            logits there alone.

        Returns
        -------
        ndarray of int64 or scalar, shape (*sample_shape, *batch_shape)
            Classes, from 0 to ``n - 1``.
        """
        shape = shape_of_sample(sample_shape)
        draws = _sampling.largest(self._rows, math.prod(shape), 1, *self._law, rng)
        return draws.reshape((*shape, *self.batch_shape))[()]

    def sample_k(self, k: int, sample_shape: int | Sequence[int] = (), *, rng: int | Philox) -> Any:
        """
        Draw classes without replacement: those of the `k` largest sums, in their order.

        Parameters
        ----------
        k : int
            How many, from 1 to `n`. With Gumbel noise they follow the law of Plackett and Luce.
        sample_shape : int or tuple of ints, optional
            The shape of what is drawn for each element of the batch.
        rng : int or logitkit.random.Philox
            A seed, or a generator.

        Returns
        -------
        ndarray of int64, shape (*sample_shape, *batch_shape, k)
            Classes, from 0 to ``n - 1``, the one of the largest sum first.

        Raises
        ------
        ValueError
            If `k` is out of range.
        """
        k = self._count(k)
        shape = shape_of_sample(sample_shape)
        draws = _sampling.largest(self._rows, math.prod(shape), k, *self._law, rng)
        return draws.reshape(*shape, *self.batch_shape, k)

    def rsample(
        self,
        sample_shape: int | Sequence[int] = (),
        *,
        rng: int | Philox,
        temperature: float = 1.0,
        straight_through: bool = False,
    ) -> Any:
        r"""
        Draw relaxed one-hot vectors: the softmax of logits and noise.

        .. math:: y = \operatorname{softmax}((\mu + \sigma \varepsilon) / \tau)

        Parameters
        ----------
        sample_shape : int or tuple of ints, optional
            The shape of what is drawn for each element of the batch.
        rng : int or logitkit.random.Philox
            A seed, or a generator. The same noise as in `sample`.
        temperature : float, optional
            The temperature :math:`\tau`, positive: towards zero y is the one-hot vector of
            `sample`.
        straight_through : bool, optional
            Return that one-hot vector itself, whose gradient is to be taken as that of y.

        Returns
        -------
        ndarray, shape (*sample_shape, *batch_shape, n)
            Vectors that sum to one.

        Raises
        ------
        ValueError
            If `temperature` is not positive and finite.
        """
        temperature = temperature_of_sample(temperature)
        shape = (*shape_of_sample(sample_shape), *self.batch_shape, self.num_classes)
        rows = self._rows
        draws = math.prod(shape[: len(shape) - self.logits.ndim])
        sums = _sampling.sums(rows, draws, *self._law, rng)
        if straight_through:
            y = np.zeros(sums.shape, rows.dtype)
            np.put_along_axis(y, np.argmax(sums, axis=-1)[:, None], 1.0, axis=-1)
        else:
            # From the largest, which keeps its place however small the temperature is.
            with np.errstate(over="ignore", under="ignore"):
                gaps = sums.astype(np.float64) - sums.max(axis=-1, keepdims=True)
                y = softmax(gaps / temperature, axis=-1)
        return y.reshape(shape).astype(self._dtype, copy=False)

    def _count(self, k: int) -> int:
        if not 1 <= (k := whole_number("k", k)) <= self.num_classes:
            raise ValueError(f"expected 1 <= k <= {self.num_classes} classes, not k = {k}")
        return k

    def _value_shape(self, value: Any) -> tuple[int, ...]:
        return shape_with_batch(np.shape(value), self.batch_shape)

    def _pairs(self, value: Any) -> tuple[Any, Any, tuple[int, ...]]:
        """Return a row of logits and a class for each element of the result, and its shape."""
        classes = check_classes(value, self.num_classes)
        shape = self._value_shape(classes)
        n = self.num_classes
        rows = np.broadcast_to(self._rows.reshape(self.logits.shape), (*shape, n))
        classes = np.broadcast_to(classes, shape).reshape(-1).astype(np.uintp)
        return np.ascontiguousarray(rows).reshape(-1, n), classes, shape


# A class that is less probable than this adds nothing to a sum over classes.
LEAST_THAT_COUNTS = 1e-30


def log_prob_of_pairs(d: ArgmaxNoise, where: Any) -> Iterator[Any]:
    """Yield parts of `log_prob` of rows and classes that are marked, each on its own nodes."""
    *rows, classes = np.nonzero(where)
    tensor = bridge_for(d.logits) is not None
    full = d.logits.expand(where.shape) if tensor else np.broadcast_to(d.logits, where.shape)
    step = max(1, 2**22 // d.num_classes)
    for start in range(0, len(classes), step):
        part = slice(start, start + step)
        chosen = full[tuple(i[part] for i in rows)].reshape(-1, d.num_classes)
        yield ArgmaxNoise(chosen, d.noise, d.scale).log_prob(classes[part])


def Probit(logits: Any, scale: float = 1.0) -> ArgmaxNoise:
    r"""
    Return the probit model with independent noise: `ArgmaxNoise` of normal noise.

    Parameters
    ----------
    logits : array_like, shape (..., n)
        The means of the classes: real numbers of at most 64 bits.
    scale : float, optional
        The standard deviation of the noise, positive.

    Returns
    -------
    ArgmaxNoise
        The distribution of the class with the largest sum.

    Examples
    --------
    >>> from logitkit.distributions import Probit
    >>> Probit([0.0, 1.0]).probs.round(6)
    array([0.23975, 0.76025])
    """
    return ArgmaxNoise(logits, Normal(), scale)


def Softmax(logits: Any, scale: float = 1.0) -> ArgmaxNoise:
    r"""
    Return the softmax of logits as a distribution: `ArgmaxNoise` of Gumbel noise.

    Parameters
    ----------
    logits : array_like, shape (..., n)
        The logits, in nats: real numbers of at most 64 bits.
    scale : float, optional
        The temperature, positive.

    Returns
    -------
    ArgmaxNoise
        The distribution of the class with the largest sum.

    Examples
    --------
    >>> from logitkit.distributions import Softmax
    >>> Softmax([0.0, 1.0]).probs.round(6)
    array([0.268941, 0.731059])
    """
    return ArgmaxNoise(logits, Gumbel(), scale)
