"""Random numbers that belong to samples, so that no result depends on who shares their batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .._backend import gpu_functions_for
from ..random import Philox, as_philox
from ._arrays import Array, namespace, placed

_DRAWS_PER_STEP = 64  # of the 2**32 that a generator has
_STEPS = 2**32 - 1  # of a generator
_generator = lru_cache(maxsize=64)(as_philox)


@dataclass(slots=True)
class Draws:
    """
    The random numbers of some samples in one step.

    Each call gives new numbers. They depend on the seed, the step, the number of calls
    before, and for each sample on its row alone.

    Parameters
    ----------
    rng : int or logitkit.random.Philox
        Seed, or generator.
    step : int
        Number of the step, from 0.
    rows : ndarray of int64, shape (n,)
        Number of each sample, in all batches together.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Draws
    >>> batch = Draws(7, step=0, rows=np.arange(4)).normal((3,))
    >>> alone = Draws(7, step=0, rows=np.array([2])).normal((3,))
    >>> bool((batch[2] == alone[0]).all())
    True
    """

    rng: int | Philox
    step: int
    rows: NDArray[np.int64]
    _calls: int = field(default=0, init=False, repr=False)

    def normal(self, shape: tuple[int, ...], like: Array | None = None) -> Array:
        """
        Draw from the standard normal distribution.

        Parameters
        ----------
        shape : tuple of ints
            Shape of a sample.
        like : array, optional
            An array of the library, device and floating-point type to draw for. Default:
            NumPy and float64.

        Returns
        -------
        array, shape (n, *shape)
            The numbers.
        """
        return self._draw("normal", shape, like)

    def uniform(self, shape: tuple[int, ...], like: Array | None = None) -> Array:
        """
        Draw from the uniform distribution between 0 and 1.

        Parameters
        ----------
        shape : tuple of ints
            Shape of a sample.
        like : array, optional
            An array of the library, device and floating-point type to draw for. Default:
            NumPy and float64.

        Returns
        -------
        array, shape (n, *shape)
            The numbers.
        """
        return self._draw("uniform", shape, like)

    def gumbel(self, shape: tuple[int, ...], like: Array | None = None) -> Array:
        """
        Draw from the standard Gumbel distribution: argmax(logits + gumbel) is a draw of a token.

        Parameters
        ----------
        shape : tuple of ints
            Shape of a sample.
        like : array, optional
            An array of the library, device and floating-point type to draw for. Default:
            NumPy and float64.

        Returns
        -------
        array, shape (n, *shape)
            The numbers.
        """
        return self._draw("gumbel", shape, like)

    def advance(self) -> Philox:
        """
        Give the generator of the next draw, for what draws by itself.

        Returns
        -------
        Philox
            The generator, whose step no other draw has.

        Raises
        ------
        RuntimeError
            If a step has used up its draws.
        """
        seed, step = self.address()
        self._calls += 1
        return Philox(seed, step=step)

    def skip(self) -> None:
        """Leave out a draw, which was taken at its `address`."""
        self._calls += 1

    def address(self) -> tuple[int, int]:
        """
        Give the seed and the step of the next draw, without taking it.

        Returns
        -------
        tuple of two ints
            Those of the generator that `advance` returns.

        Raises
        ------
        RuntimeError
            If a step has used up its draws.
        """
        if self._calls == _DRAWS_PER_STEP:
            raise RuntimeError(f"expected at most {_DRAWS_PER_STEP} draws in a step")
        philox = _generator(self.rng)
        step = philox.step + self.step * _DRAWS_PER_STEP + self._calls
        return philox.seed, step if step < _STEPS else philox.at(step).step  # says what is wrong

    def _draw(self, law: str, shape: tuple[int, ...], like: Array | None) -> Array:
        philox = self.advance()
        if like is None:
            return getattr(philox, law)(self.rows, shape)
        xp = namespace(like)
        double = like.dtype == xp.float64
        functions = gpu_functions_for(like)
        if functions is not None and not functions.is_immutable(like):  # as arrays of JAX are
            memory = xp.empty(
                (len(self.rows), *shape),
                dtype=xp.float64 if double else xp.float32,
                device=like.device,
            )
            values = getattr(functions, f"random_{law}")(philox, memory, rows=self.rows)
            return xp.astype(values, like.dtype, copy=False)
        values = getattr(philox, law)(self.rows, shape, np.float64 if double else np.float32)
        return placed(values, like)
