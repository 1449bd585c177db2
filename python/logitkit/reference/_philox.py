"""Counter-based random numbers: the generator Philox 4x32-10 and the laws drawn from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_MASK = np.uint64(0xFFFFFFFF)
_HALF_WORD = np.uint64(32)


def philox_4x32(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """
    Philox 4x32-10: four random words for each counter.

    Parameters
    ----------
    counter : array_like of uint32, shape (..., 4)
        Any numbers, each of them used once.
    key : array_like of uint32, shape (..., 2)
        Which stream; broadcast against `counter`.

    Returns
    -------
    numpy.ndarray of uint32, shape (..., 4)
        The words, uniform on 0 to 2**32 - 1.

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
    1, 2, 3", SC 2011, section 3.3.
    """
    c = [word.astype(np.uint64) for word in np.moveaxis(np.asarray(counter, np.uint32), -1, 0)]
    k = [word.astype(np.uint64) for word in np.moveaxis(np.asarray(key, np.uint32), -1, 0)]
    for _ in range(10):
        first = np.uint64(0xD2511F53) * c[0]
        second = np.uint64(0xCD9E8D57) * c[2]
        c = [
            (second >> _HALF_WORD) ^ c[1] ^ k[0],
            second & _MASK,
            (first >> _HALF_WORD) ^ c[3] ^ k[1],
            first & _MASK,
        ]
        k = [(k[0] + np.uint64(0x9E3779B9)) & _MASK, (k[1] + np.uint64(0xBB67AE85)) & _MASK]
    return np.stack(np.broadcast_arrays(*c), axis=-1).astype(np.uint32)


@dataclass(frozen=True)
class Philox:
    """
    Random numbers that depend on a seed, a step, a row and a position alone.

    `logitkit.random.Philox` says what the arguments are; this one computes in ``float64``.
    """

    seed: int
    step: int = 0

    def bits(self, rows: ArrayLike, shape: int | tuple[int, ...] = ()) -> NDArray[np.uint64]:
        """
        Draw integers of 64 bits.

        With the position j = 2 b + h, h in {0, 1}, of an element in its row::

            words = philox_4x32((b, row mod 2^32, row / 2^32, step), (seed mod 2^32, seed / 2^32))
            bits  = words[2 h] + 2^32 words[2 h + 1]
        """
        ids = np.asarray(rows)
        ids = np.arange(int(ids)) if ids.ndim == 0 else ids
        ids = ids.astype(np.int64).view(np.uint64)[:, np.newaxis]
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        count = math.prod(shape)
        block = np.arange((count + 1) // 2, dtype=np.uint64)
        counter = np.broadcast_arrays(block, ids & _MASK, ids >> _HALF_WORD, np.uint64(self.step))
        key = [self.seed & 0xFFFFFFFF, self.seed >> 32]
        words = philox_4x32(np.stack(counter, axis=-1), key).astype(np.uint64)
        low, high = words[..., 0::2], words[..., 1::2]
        drawn = (low + (high << _HALF_WORD)).reshape(len(ids), 2 * len(block))
        return drawn[:, :count].reshape(len(ids), *shape)

    def uniform(
        self, rows: ArrayLike, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """
        Draw from the uniform law on (0, 1): u = (bits + 1/2) / 2^64.

        What would round to 1 is the largest number below.
        """
        below, above = _sides(self.bits(rows, shape))
        u: NDArray[Any] = np.where(below <= above, below, 1.0 - above).astype(dtype)
        below_one = 1.0 - np.finfo(u.dtype).epsneg
        np.minimum(u, u.dtype.type(below_one), out=u)
        return u

    def exponential(
        self, rows: ArrayLike, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Draw from the exponential law of mean 1: -log u."""
        return _exponential(self.bits(rows, shape)).astype(dtype)

    def gumbel(
        self, rows: ArrayLike, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Draw from the standard Gumbel law: -log(-log u)."""
        return (-np.log(_exponential(self.bits(rows, shape)))).astype(dtype)

    def normal(
        self, rows: ArrayLike, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """
        Draw from the standard normal law, by the method of Box and Muller.

        Elements 2 b and 2 b + 1 of a row are r cos(theta) and r sin(theta) for
        r = sqrt(-2 log u), u from the bits of element 2 b, and an angle theta from those of
        element 2 b + 1: the highest bit is the sign of the cosine, the second that of the sine,
        the third exchanges their sizes, and the rest is an angle below pi / 4.
        """
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        count = math.prod(shape)
        pairs = self.bits(rows, (count + count % 2) // 2 * 2)
        radius = np.sqrt(2.0 * _exponential(pairs[:, 0::2]))
        turn = pairs[:, 1::2]
        angle = ((turn & np.uint64(2**61 - 1)).astype(np.float64) + 0.5) * 2.0**-61 * (np.pi / 4)
        exchange = (turn >> np.uint64(61)) % 2 == 1
        cos = radius * np.where(exchange, np.sin(angle), np.cos(angle))
        sin = radius * np.where(exchange, np.cos(angle), np.sin(angle))
        cos = np.where(turn >> np.uint64(63) == 1, -cos, cos)
        sin = np.where((turn >> np.uint64(62)) % 2 == 1, -sin, sin)
        drawn = np.stack([cos, sin], axis=-1).reshape(pairs.shape)
        return drawn[:, :count].reshape(len(pairs), *shape).astype(dtype)


def _sides(bits: NDArray[np.uint64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return u and 1 - u, the smaller one to its last digit."""
    return (bits.astype(np.float64) + 0.5) * 2.0**-64, ((~bits).astype(np.float64) + 0.5) * 2.0**-64


def _exponential(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    below, above = _sides(bits)
    return np.where(below <= above, -np.log(below), -np.log1p(-np.minimum(above, 0.5)))
