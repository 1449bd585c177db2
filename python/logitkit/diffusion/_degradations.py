"""Processes that degrade continuous data otherwise than by Gaussian noise, and their composition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, Time, namespace, placed, spread
from ._documented import documented_by
from ._draws import Draws
from ._parameters import check_count, check_number
from ._process import FullProcess, no_noise, predicted_data
from ._schedules import Schedule
from ._update import update


class _PredictedData:
    """A process whose network predicts the data."""

    def restore(self, prediction: Any, draws: Draws) -> Array:
        return predicted_data(prediction, draws)

    restore.__doc__ = FullProcess.restore.__doc__


class _Cold(_PredictedData):
    """A process without noise."""

    cold = True

    def noise(self, draws: Draws, like: Array) -> None:
        return no_noise(draws, like)

    noise.__doc__ = FullProcess.noise.__doc__


@lru_cache(maxsize=32)
def _cosine_transform(size: int) -> NDArray[np.float64]:
    """Return the orthonormal matrix of the cosine transform II, one frequency a row."""
    k, i = np.arange(size)[:, None], np.arange(size)
    matrix = np.sqrt(2.0 / size) * np.cos(math.pi * k * (i + 0.5) / size)
    matrix[0] /= math.sqrt(2.0)
    return np.asarray(matrix)


@documented_by(FullProcess)
@dataclass(frozen=True)
class Blur(_Cold):
    r"""
    Blur by the heat equation, with reflecting borders: each frequency decays at its own rate.

    .. math:: x_t = C^{-1} e^{-\lambda (w t)^2 / 2} C x_0, \qquad \lambda_k = (\pi k / N)^2

    Parameters
    ----------
    width : float
        Standard deviation `w` of the blur at t = 1, in pixels.
    axes : {1, 2}, default 2
        How many of the last axes are blurred.

    See Also
    --------
    Compose : ``Compose(Blur(...), Gaussian(...))`` adds noise, which makes it invertible.

    Notes
    -----
    `C` is the cosine transform. A blur loses what is below rounding, and nothing else.

    References
    ----------
    .. [1] S. Rissanen, M. Heinonen and A. Solin, "Generative modelling with inverse heat
       dissipation", ICLR 2023, arXiv:2206.13397.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Blur
    >>> x = Blur(2.0, axes=1).forward(np.eye(1, 5, 2), None, 1.0)
    >>> bool(abs(x.sum() - 1.0) < 1e-12)
    True
    """

    width: float
    axes: int = 2
    span = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_number("width", self.width, 0.0, open_low=True)
        check_count("axes", self.axes)

    def forward(self, x0: Array, eps: None, t: Time) -> Array:
        xp = namespace(x0)
        for axis in range(-self.axes, 0):
            size = x0.shape[axis]
            transform = placed(_cosine_transform(size), x0)
            rate = 0.5 * (math.pi * np.arange(size) / size) ** 2
            decay = np.exp(-np.square(self.width * np.asarray(t))[..., None] * rate)
            decay = decay.reshape(np.shape(t)[:1] + (1,) * (x0.ndim - 2) + (size,))
            moved = xp.moveaxis(x0, axis, -1)
            moved = xp.matmul(moved, xp.matrix_transpose(transform)) * placed(decay, x0)
            x0 = xp.moveaxis(xp.matmul(moved, transform), -1, axis)
        return x0


@documented_by(FullProcess)
@dataclass(frozen=True)
class Pool(_Cold):
    """
    Average blocks of pixels, and show each block as one.

    Parameters
    ----------
    sizes : tuple of ints, default (2, 4, 8)
        Edge of the blocks at times 1, 2, and so on; it must divide that of the data.
    axes : {1, 2}, default 2
        How many of the last axes are pooled.

    Notes
    -----
    The time is counted; between two counts it is the earlier one.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Pool
    >>> Pool((2,), axes=1).forward(np.array([[1.0, 3.0, 5.0, 5.0]]), None, 1.0)
    array([[2., 2., 5., 5.]])
    """

    sizes: tuple[int, ...] = (2, 4, 8)
    axes: int = 2

    @property
    def span(self) -> tuple[float, float]:
        """The times of clean data and of the largest blocks."""
        return (0.0, float(len(self.sizes)))

    def forward(self, x0: Array, eps: None, t: Time) -> Array:
        if isinstance(t, np.ndarray):
            parts = [self.forward(x0[i : i + 1, ...], None, float(t[i])) for i in range(len(t))]
            return namespace(x0).concat(parts, axis=0)
        index = math.floor(t)
        for axis in range(x0.ndim - self.axes, x0.ndim) if index else ():
            x0 = self._pooled(x0, axis, self.sizes[index - 1])
        return x0

    @staticmethod
    def _pooled(x: Array, axis: int, size: int) -> Array:
        if x.shape[axis] % size:
            raise ValueError(f"expected a multiple of {size} pixels, not the {x.shape[axis]} of x")
        xp, shape = namespace(x), tuple(x.shape)
        blocks = xp.reshape(x, (*shape[:axis], shape[axis] // size, size, *shape[axis + 1 :]))
        mean = xp.mean(blocks, axis=axis + 1, keepdims=True)
        return xp.reshape(xp.broadcast_to(mean, blocks.shape), shape)


@documented_by(FullProcess)
@dataclass(frozen=True)
class Masking(_PredictedData):
    """
    Hide values of continuous data, more of them the later: each one at a random time.

    Parameters
    ----------
    fill : float, default 0.0
        What is shown for a hidden value. No value of the data should equal it.
    shared : tuple of ints, default ()
        Axes of the samples, counted from 1, along which values are hidden together, such as
        the channels of an image.

    See Also
    --------
    Hole : A mask that grows in a given order, for inpainting.

    Notes
    -----
    The noise is uniform: a value is hidden at the times above it. Given x_t and the data, it
    is uniform again, below or above t, which is what `encode` draws.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Masking
    >>> Masking().forward(np.array([[3.0, 4.0]]), np.array([[0.2, 0.7]]), 0.5)
    array([[0., 4.]])
    """

    fill: float = 0.0
    shared: tuple[int, ...] = ()
    span = (0.0, 1.0)

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        xp = namespace(x0)
        return xp.where(eps < spread(t, eps), xp.full_like(x0, self.fill), x0)

    def noise(self, draws: Draws, like: Array) -> Array:
        return draws.uniform(self._shape(like), like)

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Array:
        xp = namespace(x)
        hidden = x == self.fill
        for axis in self.shared:
            hidden = xp.all(hidden, axis=axis, keepdims=True)
        u, at = self.noise(draws, x), spread(t, x)
        return xp.where(hidden, u * at, at + u * (1.0 - at))

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        like = namespace(like).empty((len(draws.rows), *shape), dtype=like.dtype)
        if np.any(np.asarray(t) < 1.0):
            raise ValueError(f"expected to begin at t=1, where all is hidden, not at t={t}")
        return namespace(like).full_like(like, self.fill)

    def _shape(self, like: Array) -> tuple[int, ...]:
        shape = like.shape[1:]
        return tuple(1 if axis + 1 in self.shared else size for axis, size in enumerate(shape))


@documented_by(FullProcess)
@dataclass(frozen=True, eq=False)
class Hole(_Cold):
    """
    Hide values in a given order, for inpainting: what is never hidden stays.

    Parameters
    ----------
    at : ndarray, shape of a sample
        Time at which each value is hidden, from 0 to 1; inf for one that is known.
    fill : float, default 0.0
        What is shown for a hidden value.

    See Also
    --------
    Masking : Values hidden at random.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Hole
    >>> hole = Hole(np.array([0.2, 0.8, np.inf]))
    >>> hole.forward(np.array([[1.0, 2.0, 3.0]]), None, 0.5)
    array([[0., 2., 3.]])
    """

    at: NDArray[np.float64]
    fill: float = 0.0
    span = (0.0, 1.0)

    def forward(self, x0: Array, eps: None, t: Time) -> Array:
        xp = namespace(x0)
        hidden = placed(np.asarray(self.at)[None], x0) < spread(t, x0)
        return xp.where(hidden, xp.full_like(x0, self.fill), x0)


@documented_by(FullProcess)
@dataclass(frozen=True, eq=False)
class Mixing(_PredictedData):
    r"""
    Mix data with other data, as one kind of picture turns into another.

    .. math:: x_t = \alpha(t) x_0 + \sigma(t) \varepsilon, \qquad
        \varepsilon \text{ drawn from } \{o_1, \ldots, o_m\}

    Parameters
    ----------
    others : ndarray, shape (m, ...)
        The other data.
    path : Schedule
        The factors of both.

    References
    ----------
    .. [1] A. Bansal et al., "Cold diffusion", NeurIPS 2023, arXiv:2208.09392.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Mixing, StraightPath
    >>> mixing = Mixing(np.array([[4.0]]), StraightPath())
    >>> mixing.forward(np.array([[0.0]]), np.array([[4.0]]), 0.25)
    array([[1.]])
    """

    others: NDArray[Any]
    path: Schedule

    @property
    def span(self) -> tuple[float, float]:
        """The times of the data and of the other data."""
        return self.path.span

    def forward(self, x0: Array, eps: Array, t: Time) -> Array:
        return update(self.path.alpha(t), x0, self.path.sigma(t), eps)

    def noise(self, draws: Draws, like: Array) -> Array:
        u = draws.uniform(())
        pick = np.minimum((u * len(self.others)).astype(np.int64), len(self.others) - 1)
        return placed(self.others[pick], like)

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Array:
        sigma = self.path.sigma(t)
        return update(1.0 / sigma, x, -self.path.alpha(t) / sigma, x0)

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        eps = self.noise(draws, like)
        return spread(self.path.sigma(t), eps) * eps


@documented_by(FullProcess)
@dataclass(frozen=True, eq=False)
class Compose(_PredictedData):
    r"""
    One process after another.

    .. math:: x_t = G_t(F_t(x_0, \varepsilon_1), \varepsilon_2)

    Parameters
    ----------
    first, second : Process
        The processes F and G. Where the first has no noise, as a blur, the second's `encode`
        serves both.

    Examples
    --------
    >>> from logitkit.diffusion import Blur, Compose, Gaussian, VarianceExploding, capabilities
    >>> process = Compose(Blur(3.0), Gaussian(VarianceExploding(1.0)))
    >>> capabilities(process)["encode"]
    True
    """

    first: Any
    second: Any

    @property
    def span(self) -> tuple[float, float]:
        """The times of clean data and of the most degradation."""
        clean, noisy = self.second.span
        return (max(clean, self.first.span[0]), min(noisy, self.first.span[1]))

    @property
    def encode(self) -> Callable[[Array, Array, Time, Draws], Any] | None:
        """The noise that leads from data to a sample, where only the second process has some."""
        known = getattr(self.second, "encode", None) is not None
        return self._encode if known and getattr(self.first, "cold", False) else None

    def _encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Any:
        return self.second.encode(x, self.first.forward(x0, None, t), t, draws)

    def forward(self, x0: Array, eps: Any, t: Time) -> Array:
        if getattr(self.first, "cold", False):
            return self.second.forward(self.first.forward(x0, None, t), eps, t)
        return self.second.forward(self.first.forward(x0, eps[0], t), eps[1], t)

    def noise(self, draws: Draws, like: Array) -> Any:
        if getattr(self.first, "cold", False):
            return self.second.noise(draws, like)
        return self.first.noise(draws, like), self.second.noise(draws, like)
