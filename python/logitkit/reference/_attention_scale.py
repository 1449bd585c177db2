"""How much a row's scores are multiplied by, from the number of keys that the row can see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


class AttentionScale:
    """
    A schedule: the factor of a row's scores as a function of the keys that the row can see.

    Its subclasses are what :func:`logitkit.attention` takes as `scale`; one of your own
    overrides `row_scale`, and `pull_back` if it has something to learn. Where the queries are
    tensors of PyTorch, `n` is one too and `row_scale` returns one; PyTorch then differentiates it
    by itself, with respect to a parameter that is a tensor.

    See Also
    --------
    logitkit.EntropyInvariant : In proportion to log n.
    logitkit.LogBase : The same, told by the length at which nothing changes.
    logitkit.LogClip : The same beyond the training length only.
    logitkit.YaRN : A slower growth.
    """

    def row_scale(self, n: Any, head_dim: int) -> Any:
        """
        Return the factor of every row.

        Parameters
        ----------
        n : ndarray of int, shape (..., heads, length)
            The number of keys that each row can see, after all masks; may be 0.
        head_dim : int
            The number of elements of a query.

        Returns
        -------
        ndarray, shape (..., heads, length)
            What ``query @ key.T`` is multiplied by; finite, also where `n` is 0.
        """
        return self._factor(n, head_dim)

    def pull_back(self, gradient: Any, n: Any, head_dim: int) -> Any:
        """
        Return the gradient of the schedule's parameter.

        Parameters
        ----------
        gradient : ndarray, shape (..., heads, length)
            The gradient of each row's factor.
        n : ndarray of int, shape (..., heads, length)
            As for `row_scale`.
        head_dim : int
            As for `row_scale`.

        Returns
        -------
        ndarray or None
            In the shape of the parameter, or None if there is none to learn.
        """
        return self._pull_back(gradient, n, head_dim)

    def _factor(self, n: Any, head_dim: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no row_scale")

    def _pull_back(self, gradient: Any, n: Any, head_dim: int) -> Any:
        return None


# Schedules are in the arithmetic that arrays and tensors have in common, but for the following.


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "requires_grad")


def _log(n: Any, least: float = 1) -> Any:
    """Logarithm of a number of keys; of nothing visible as of one key, so that 0 comes out."""
    if _is_tensor(n):
        return n.double().clamp(min=least).log()
    return np.log(np.maximum(np.asarray(n, np.float64), least))


def _like(x: Any, n: Any) -> Any:
    """Return `x` as an array, or as a tensor if `n` is one."""
    if _is_tensor(x):
        return x if _is_tensor(n) else np.asarray(x)
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected a parameter of scale as real numbers, not {x!r}")
    return n.double().new_tensor(array.tolist()) if _is_tensor(n) else array


def _per_head(parameter: Any, n: Any) -> Any:
    """Return a parameter, scalar or one for each head, so that it multiplies (..., heads, n)."""
    parameter = _like(parameter, n)
    if not parameter.ndim:
        return parameter
    if n.ndim > 1 and parameter.shape != (1,) and n.shape[-2] not in (1, *parameter.shape):
        raise ValueError(
            f"expected a parameter of scale for each of {n.shape[-2]} heads, not of shape "
            f"{tuple(parameter.shape)}"
        )
    return parameter[..., None]


@dataclass(frozen=True)
class EntropyInvariant(AttentionScale):
    r"""
    Entropy-invariant scale: the attention of a long sequence is as sharp as that of a short one.

    .. math:: \lambda_n = \kappa \frac{\log n}{d}

    The mean-field entropy of softmax attention is :math:`\log n - \lambda (s_{max} - \bar s)`,
    which a factor in proportion to :math:`\log n` holds constant as `n` grows.

    Parameters
    ----------
    kappa : float or array_like of shape (heads,), optional
        The factor, for all heads or for each. Default: ``sqrt(head_dim) / log(512)``, which
        is the usual ``1 / sqrt(head_dim)`` at 512 keys.

    See Also
    --------
    logitkit.LogBase : The same, told by the length at which nothing changes.
    logitkit.estimate_kappa : `kappa` from queries and keys.

    Notes
    -----
    The law holds for scores that are about normal, as those of independent queries and keys
    are, and fails for others: uniform scores need a factor in proportion to `n`.

    References
    ----------
    .. [1] J. Su, "Entropy invariance of softmax operation", https://kexue.fm/archives/9034.
    .. [2] D. Chiang and P. Cholak, "Overcoming a theoretical limitation of self-attention",
       arXiv:2202.12172, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import EntropyInvariant
    >>> EntropyInvariant().row_scale(np.array([1, 512]), 64)
    array([0.   , 0.125])
    """

    kappa: Any = None

    def _factor(self, n: Any, head_dim: int) -> Any:
        if self.kappa is None:
            return _log(n) / (math.log(512) * math.sqrt(head_dim))
        return _per_head(self.kappa, n) * _log(n) / head_dim

    def _pull_back(self, gradient: Any, n: Any, head_dim: int) -> Any:
        terms = gradient * _log(n) / head_dim
        if self.kappa is None or np.ndim(self.kappa) == 0:
            return _like(terms.sum(), terms)
        per_head = terms.sum(tuple(k for k in range(terms.ndim) if k != terms.ndim - 2))
        # One parameter in an array of one belongs to all heads.
        return per_head if len(self.kappa) > 1 else per_head.sum()[None]


@dataclass(frozen=True)
class LogBase(AttentionScale):
    r"""
    Logarithmic scale: :math:`\lambda_n = \log n / (\log B \sqrt d)`.

    Parameters
    ----------
    base : float
        The number of keys `B` at which the factor is the usual ``1 / sqrt(head_dim)``, such
        as the training length; above 1.
    least : int
        Rows that see fewer keys than this are taken as if they saw so many. 16 with a base
        of 512 is kinder to short sequences, which do worse with the plain schedule.

    See Also
    --------
    logitkit.EntropyInvariant : The same for ``kappa = sqrt(head_dim) / log(base)``.

    References
    ----------
    .. [1] J. Su, https://kexue.fm/archives/8823 and https://kexue.fm/archives/9444.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import LogBase
    >>> LogBase(256).row_scale(np.array([16, 256]), 4)
    array([0.25, 0.5 ])
    """

    base: float = 512
    least: int = 1

    def __post_init__(self) -> None:
        if not self.base > 1:
            raise ValueError(f"expected a base above 1, at which log(base) > 0, not {self.base}")
        if self.least < 1:
            raise ValueError(f"expected least >= 1, not {self.least}")

    def _factor(self, n: Any, head_dim: int) -> Any:
        return _log(n, self.least) / (math.log(self.base) * math.sqrt(head_dim))


@dataclass(frozen=True)
class LogClip(AttentionScale):
    r"""
    Logarithmic scale beyond the training length: :math:`\max(1, \log_{n_t} n) / \sqrt d`.

    Parameters
    ----------
    n_train : int
        The training length, above 1; up to it the usual ``1 / sqrt(head_dim)`` holds.

    References
    ----------
    .. [1] J. Su, https://kexue.fm/archives/9948.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import LogClip
    >>> LogClip(16).row_scale(np.array([4, 16, 256]), 4)
    array([0.5, 0.5, 1. ])
    """

    n_train: int

    def __post_init__(self) -> None:
        if not self.n_train > 1:
            raise ValueError(f"expected a training length above 1, not {self.n_train}")

    def _factor(self, n: Any, head_dim: int) -> Any:
        return (_log(n) / math.log(self.n_train)).clip(1.0) / math.sqrt(head_dim)


@dataclass(frozen=True)
class Natural(AttentionScale):
    r"""
    Natural logarithm: :math:`\lambda_n = \log n / \sqrt d`.

    Scores become so large that gradients vanish in training; it is here to be compared with.

    References
    ----------
    .. [1] D. Chiang and P. Cholak, "Overcoming a theoretical limitation of self-attention",
       arXiv:2202.12172, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import Natural
    >>> Natural().row_scale(np.array([1]), 64)
    array([0.])
    """

    def _factor(self, n: Any, head_dim: int) -> Any:
        return _log(n) / math.sqrt(head_dim)


@dataclass(frozen=True)
class YaRN(AttentionScale):
    r"""
    The temperature of YaRN: :math:`(1 + 0.1 \log(n / n_t))^2 / \sqrt d` beyond length `n_t`.

    Parameters
    ----------
    n_train : int
        The training length, at least 1; up to it the usual ``1 / sqrt(head_dim)`` holds.

    References
    ----------
    .. [1] B. Peng et al., "YaRN: efficient context window extension of large language
       models", arXiv:2309.00071, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import YaRN
    >>> YaRN(1024).row_scale(np.array([1, 1024]), 64)
    array([0.125, 0.125])
    """

    n_train: int

    def __post_init__(self) -> None:
        if not self.n_train >= 1:
            raise ValueError(f"expected a training length of at least 1, not {self.n_train}")

    def _factor(self, n: Any, head_dim: int) -> Any:
        longer = _log(n, self.n_train) - math.log(self.n_train)
        return (1.0 + 0.1 * longer) ** 2 / math.sqrt(head_dim)


@dataclass(frozen=True)
class GradientMaximal(AttentionScale):
    r"""
    The scale at which softmax of normal scores passes the most gradient on.

    :math:`\alpha_n / \sqrt d`, where :math:`\alpha_n = \sqrt{W_0(\sqrt e\, n / 2) - 1/2}`
    maximises :math:`\alpha (1 - e^{\alpha^2} / n)`, which is the size of the gradient for
    :math:`n` standard normal scores times :math:`\alpha`; `W_0` is Lambert's function.

    References
    ----------
    .. [1] J. Su, https://kexue.fm/archives/9812, which fits 0.84 sqrt(log n).

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import GradientMaximal
    >>> GradientMaximal().row_scale(np.array([1, 512]), 1).round(5)
    array([0.     , 2.00839])
    """

    def _factor(self, n: Any, head_dim: int) -> Any:
        # w + log w = log x by Newton's method, which converges from any w > 0 as the left-hand
        # side is concave and the first step lands below the root.
        log_x = _log(n) + 0.5 - math.log(2.0)
        w = 0.0 * log_x + 0.5
        for _ in range(8):
            w = w * (1.0 + log_x - _log(w, 0.0)) / (1.0 + w)
        return (w - 0.5).clip(0.0) ** 0.5 / math.sqrt(head_dim)


@dataclass(frozen=True)
class Cosine(AttentionScale):
    r"""
    Logarithmic scale of cosines: :math:`\lambda_n = c \log n`, for queries and keys of norm 1.

    Parameters
    ----------
    c : float
        The factor; 3.5 passes about the most gradient on for a `head_dim` of 128.

    References
    ----------
    .. [1] J. Su, https://kexue.fm/archives/9812 and https://kexue.fm/archives/9859.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import Cosine
    >>> Cosine(3.5).row_scale(np.array([1]), 128)
    array([0.])
    """

    c: float

    def _factor(self, n: Any, head_dim: int) -> Any:
        return _like(self.c, n) * _log(n)


@dataclass(frozen=True)
class AtLengths(AttentionScale):
    """
    A schedule with the number of keys given, instead of counted after the masks.

    Parameters
    ----------
    schedule : AttentionScale
        What to compute.
    n : array_like of int
        The lengths, in a shape that broadcasts to ``(..., heads, length)``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import AtLengths, LogBase
    >>> AtLengths(LogBase(16), 256).row_scale(np.array([[1, 2]]), 4)
    array([[1., 1.]])
    """

    schedule: AttentionScale
    n: Any

    def _factor(self, n: Any, head_dim: int) -> Any:
        return self.schedule.row_scale(self._given(n), head_dim)

    def _pull_back(self, gradient: Any, n: Any, head_dim: int) -> Any:
        return self.schedule.pull_back(gradient, self._given(n), head_dim)

    def _given(self, n: Any) -> Any:
        given = _like(self.n, n)
        pairs = zip(reversed(given.shape), reversed(n.shape), strict=False)
        if given.ndim > n.ndim or any(size not in (1, full) for size, full in pairs):
            raise ValueError(
                f"expected n of AtLengths that broadcasts to {tuple(n.shape)}, not of shape "
                f"{tuple(given.shape)}"
            )
        return given.expand(n.shape) if _is_tensor(given) else np.broadcast_to(given, n.shape)
