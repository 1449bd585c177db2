"""The counter-based generator as a value: a seed and a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _cpu
from ..reference._philox import philox_4x32

_STEPS = 2**32 - 1  # the last one is that of fold_in


@dataclass(frozen=True)
class Philox:
    r"""
    Random numbers that depend on a seed, a step, a row and a position alone.

    A frozen value without a hidden state: the same call always draws the same numbers, for any
    batch, chunk, order and number of threads. Who draws twice asks for another `step`, or for
    another generator by `fold_in`.

    Parameters
    ----------
    seed : int
        Which stream, from 0 to ``2**64 - 1``.
    step : int, optional
        Which part of it, from 0 to ``2**32 - 2``: the step of a sampler, for example.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If it is out of range.

    See Also
    --------
    as_philox : What functions do with their argument ``rng``.
    logitkit.reference.Philox : The same in NumPy and ``float64``.

    Notes
    -----
    The generator is Philox 4x32-10 [1]_. Its key is `seed`, the low word first. Its counter is
    ``(block, low word of the row's id, high word of it, step)``, where a block gives the four
    words of the elements ``2 * block`` and ``2 * block + 1`` of the row, in the order of C: two
    words each, the low one first. All laws and both types draw on these 64 bits, so that a
    uniform number ``(bits + 1/2) / 2**64`` reaches ``2**-65`` and a Gumbel one 45, and
    ``float32`` sees the numbers of ``float64``, rounded.

    References
    ----------
    .. [1] J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as
       easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> from logitkit.random import Philox
    >>> rng = Philox(7)
    >>> both = rng.normal(2, 3)
    >>> bool((both[1] == rng.normal([1], 3)).all())
    True
    >>> rng.advanced()
    Philox(seed=7, step=1)
    """

    seed: int
    step: int = 0

    def __init__(self, seed: int, *, step: int = 0) -> None:
        object.__setattr__(self, "seed", _integer("seed", seed, 2**64))
        object.__setattr__(self, "step", _integer("step", step, _STEPS))

    def at(self, step: int) -> Philox:
        """
        Return the generator of the same seed at another step.

        Parameters
        ----------
        step : int
            From 0 to ``2**32 - 2``.

        Returns
        -------
        Philox
            Its numbers are independent of those at other steps.
        """
        return Philox(self.seed, step=step)

    def advanced(self, steps: int = 1) -> Philox:
        """
        Return the generator some steps on.

        Parameters
        ----------
        steps : int, optional
            How many; may be negative.

        Returns
        -------
        Philox
            That at ``step + steps``.
        """
        return self.at(self.step + index(steps))

    def fold_in(self, tag: int) -> Philox:
        """
        Return a generator of another seed, for draws of another purpose at the same steps.

        Parameters
        ----------
        tag : int
            Which purpose, from 0 to ``2**64 - 1``.

        Returns
        -------
        Philox
            At the same step, with a seed that depends on `tag` and on this one's seed alone.
        """
        tag = _integer("tag", tag, 2**64)
        counter = [0, tag & 0xFFFFFFFF, tag >> 32, _STEPS]
        words = philox_4x32(counter, [self.seed & 0xFFFFFFFF, self.seed >> 32])
        return Philox(int(words[0]) | int(words[1]) << 32, step=self.step)

    def bits(self, rows: ArrayLike, shape: int | Sequence[int] = ()) -> NDArray[np.uint64]:
        """
        Draw integers of 64 bits.

        Parameters
        ----------
        rows : int or array_like of int64, shape (r,)
            The ids of the rows, or how many, whose ids are then 0, 1, and so on.
        shape : int or tuple of ints, optional
            The shape of what is drawn for each row: at most ``2**33`` elements.

        Returns
        -------
        numpy.ndarray of uint64, shape (r, *shape)
            Uniform on 0 to ``2**64 - 1``.
        """
        ids, sizes = _request(rows, shape)
        out = np.empty((len(ids), math.prod(sizes)), np.uint64)
        _cpu.random_bits(self.seed, self.step, ids, out)
        return out.reshape(len(ids), *sizes)

    def uniform(
        self, rows: ArrayLike, shape: int | Sequence[int] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """
        Draw from the uniform law on the open interval (0, 1).

        Parameters
        ----------
        rows : int or array_like of int64, shape (r,)
            The ids of the rows, or how many, whose ids are then 0, 1, and so on.
        shape : int or tuple of ints, optional
            The shape of what is drawn for each row: at most ``2**33`` elements.
        dtype : data-type, optional
            ``float32`` or ``float64``.

        Returns
        -------
        numpy.ndarray, shape (r, *shape)
            From ``2**-65`` to the largest number below 1.
        """
        return self._draw(_cpu.random_uniform, rows, shape, dtype)

    def exponential(
        self, rows: ArrayLike, shape: int | Sequence[int] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """
        Draw from the exponential law of mean 1.

        Parameters
        ----------
        rows : int or array_like of int64, shape (r,)
            The ids of the rows, or how many, whose ids are then 0, 1, and so on.
        shape : int or tuple of ints, optional
            The shape of what is drawn for each row: at most ``2**33`` elements.
        dtype : data-type, optional
            ``float32`` or ``float64``.

        Returns
        -------
        numpy.ndarray, shape (r, *shape)
            ``-log(u)`` for the numbers of `uniform`, from ``2**-65`` to 45.06.
        """
        return self._draw(_cpu.random_exponential, rows, shape, dtype)

    def gumbel(
        self, rows: ArrayLike, shape: int | Sequence[int] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """
        Draw from the standard Gumbel law.

        Parameters
        ----------
        rows : int or array_like of int64, shape (r,)
            The ids of the rows, or how many, whose ids are then 0, 1, and so on.
        shape : int or tuple of ints, optional
            The shape of what is drawn for each row: at most ``2**33`` elements.
        dtype : data-type, optional
            ``float32`` or ``float64``.

        Returns
        -------
        numpy.ndarray, shape (r, *shape)
            ``-log(-log(u))`` for the numbers of `uniform`, from -3.81 to 45.06.
        """
        return self._draw(_cpu.random_gumbel, rows, shape, dtype)

    def normal(
        self, rows: ArrayLike, shape: int | Sequence[int] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """
        Draw from the standard normal law.

        Parameters
        ----------
        rows : int or array_like of int64, shape (r,)
            The ids of the rows, or how many, whose ids are then 0, 1, and so on.
        shape : int or tuple of ints, optional
            The shape of what is drawn for each row: at most ``2**33`` elements.
        dtype : data-type, optional
            ``float32`` or ``float64``.

        Returns
        -------
        numpy.ndarray, shape (r, *shape)
            From -9.5 to 9.5, by the method of Box and Muller: elements ``2 * i`` and
            ``2 * i + 1`` of a row share their bits.
        """
        return self._draw(_cpu.random_normal, rows, shape, dtype)

    def _draw(
        self,
        fill: Callable[..., None],
        rows: ArrayLike,
        shape: int | Sequence[int],
        dtype: DTypeLike,
    ) -> NDArray[Any]:
        ids, sizes = _request(rows, shape)
        out = np.empty((len(ids), math.prod(sizes)), _real(dtype))
        fill(self.seed, self.step, ids, out)
        return out.reshape(len(ids), *sizes)


def as_philox(rng: int | Philox) -> Philox:
    """
    Return the generator that an argument ``rng`` means.

    Parameters
    ----------
    rng : int or Philox
        A seed, or a generator.

    Returns
    -------
    Philox
        `rng` itself, or the generator of that seed at step 0.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If the seed is not from 0 to ``2**64 - 1``.

    Examples
    --------
    >>> from logitkit.random import as_philox
    >>> as_philox(3)
    Philox(seed=3, step=0)
    """
    if isinstance(rng, Philox):
        return rng
    if isinstance(rng, bool) or not hasattr(rng, "__index__"):
        raise TypeError(
            f"expected rng to be an integer or a logitkit.random.Philox, not a "
            f"{type(rng).__name__}: no generator with a hidden state is used"
        )
    return Philox(rng)


def _integer(name: str, value: int, end: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"expected {name} to be an integer, not a {type(value).__name__}")
    value = index(value)
    if not 0 <= value < end:
        raise ValueError(f"expected {name} from 0 to {end - 1}, not {value}")
    return value


def _real(dtype: DTypeLike) -> np.dtype[Any]:
    real = np.dtype(dtype)
    if real not in (np.float32, np.float64):
        raise TypeError(f"expected dtype float32 or float64, not {real}")
    return real


def _request(
    rows: ArrayLike, shape: int | Sequence[int]
) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Return the ids of the rows and the shape of what is drawn for each."""
    ids = np.asarray(rows)
    if (ids.dtype.kind not in "iu" and ids.size > 0) or ids.ndim > 1:
        raise TypeError(
            "expected rows to be a count or a one-dimensional array of integers, not an array "
            f"of type {ids.dtype} and shape {ids.shape}"
        )
    if ids.ndim == 0:
        if ids < 0:
            raise ValueError(f"expected a count of rows that is not negative, not {ids}")
        ids = np.arange(int(ids))
    sizes = (index(shape),) if hasattr(shape, "__index__") else tuple(map(index, shape))
    if any(size < 0 for size in sizes):
        raise ValueError(f"expected sizes that are not negative, not the shape {sizes}")
    if (count := math.prod(sizes)) > 2**33:
        raise ValueError(f"expected at most 2**33 elements in a row, not the {count} of {sizes}")
    return np.ascontiguousarray(ids, np.int64), sizes
