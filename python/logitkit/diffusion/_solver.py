"""What a solver is: a pure function from a state at one time to a state at the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..random import Philox
from ._arrays import Array, Time, as_time, spread
from ._draws import Draws
from ._predictions import Prediction
from ._update import update, update_with_noise

Rng: TypeAlias = int | Philox
Predict: TypeAlias = Callable[[Array, Time], Prediction]


class State(NamedTuple):
    """
    Samples on their way, and all that a solver remembers: it can be pickled and resumed.

    Parameters
    ----------
    x : array, shape (n, ...)
        The samples.
    t : float or ndarray, shape (n,)
        Their time.
    rows : ndarray of int64, shape (n,)
        Number of each sample among all batches: with the seed, its random numbers.
    step : int, default 0
        Number of steps taken.
    history : tuple, default ()
        What a multistep solver remembers of the steps before, the latest first.
    memory : object, optional
        What a guidance remembers of them, from what its `begin` returns on; None for nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import State
    >>> State(np.zeros((2, 3)), t=1.0, rows=np.arange(2)).step
    0
    """

    x: Array
    t: Time
    rows: NDArray[np.int64]
    step: int = 0
    history: tuple[Any, ...] = ()
    memory: Any = None

    def draws(self, rng: Rng) -> Draws:
        """
        Give the random numbers of the next step.

        Parameters
        ----------
        rng : int or logitkit.random.Philox
            Seed, or generator.

        Returns
        -------
        Draws
            Those of these samples: step 0 is that of the noise to begin with.
        """
        return Draws(rng, self.step + 1, self.rows)


class _Recorder:
    """Predictions of one step, by a guidance that remembers: the first one tells what."""

    def __init__(self, predict: Any, memory: Any) -> None:
        self._predict = replace(predict, memory=memory)
        self._asked = False
        self.memory = memory

    def __call__(self, x: Array, t: Time) -> Prediction:
        prediction: Prediction = self._predict(x, t)
        if not self._asked and prediction.memory is not None:
            self.memory = prediction.memory
        self._asked = True
        return prediction


# Without the function of a NamedTuple that sorts its arguments: a tenth of a small step.
_new_state: Callable[[tuple[Any, ...]], State] = partial(tuple.__new__, State)


class Solver(ABC):
    """
    A way to take one step of the reverse process.

    A subclass says what it `needs` of a process and has a method ``_advance``, which returns
    the samples at the end of the step and what the next step should remember.

    See Also
    --------
    illegality : Why a solver cannot be used with a process.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import DDIM, Gaussian, Predictor, State, StraightPath
    >>> process = Gaussian(StraightPath())
    >>> predict = Predictor(process, lambda x, t: np.ones_like(x), "x0")
    >>> state = State(np.array([[5.0]]), t=1.0, rows=np.arange(1))
    >>> DDIM().step(state, predict, 1.0, 0.5, process=process, rng=0).x
    array([[3.]])
    """

    needs: ClassVar[tuple[str, ...]] = ()
    honours_shift: ClassVar[bool] = False  # whether a guidance may shift the mean of its steps
    remembers = ""  # of what kind the predictions in its history are; another cannot go on from it

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise, so that it can also go from data to noise."""
        return True

    def step(
        self, state: State, predict: Predict, t: Time, s: Time, *, process: Any, rng: Rng
    ) -> State:
        """
        Carry samples from one time to another.

        Parameters
        ----------
        state : State
            Samples at `t`.
        predict : callable, (x, t) -> Prediction
            The prediction, called as often as the method needs; see `Predictor`.
        t, s : float or ndarray, shape (n,)
            Times, of which `t` has more noise; a deterministic solver can go back as well.
        process : Process
            The forward process.
        rng : int or logitkit.random.Philox
            Seed, or generator.

        Returns
        -------
        State
            Samples at `s`.
        """
        t = t if type(t) is float else as_time(t)
        s = s if type(s) is float else as_time(s)
        memory = state.memory
        if memory is None:
            x, history = self._advance(state, predict, t, s, process, rng)
        else:
            recorder = _Recorder(predict, memory)
            x, history = self._advance(state, recorder, t, s, process, rng)
            memory = recorder.memory
        return _new_state((x, s, state.rows, state.step + 1, history, memory))

    @abstractmethod
    def _advance(
        self, state: State, predict: Predict, t: Time, s: Time, process: Any, rng: Rng
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the samples at `s` and the history for the next step."""


def solver_of_each(solver: Solver | Sequence[Solver], steps: int) -> Sequence[Solver]:
    """Return the solvers of all steps, where one may be given for all of them."""
    given = solver if isinstance(solver, (tuple, list)) else (solver,)
    for each in given:
        if isinstance(each, type) or not hasattr(each, "needs"):
            raise TypeError(f"expected a solver such as DPMpp(2), not {each!r}")
    if not isinstance(solver, (tuple, list)):
        return [solver] * steps  # type: ignore[list-item]
    if len(solver) != steps:
        raise ValueError(
            f"expected one solver, or one for each of {steps} steps, not {len(solver)}"
        )
    return solver


def noisy(prediction: Prediction, a: Any, b: Any, std: Any, draws: Draws) -> Array:
    """Return a x + b prediction + std noise, its mean shifted where a guidance asks for it."""
    if prediction.shift is None:
        return update_with_noise(a, prediction.x, b, prediction.value, std, draws)
    mean = update(a, prediction.x, b, prediction.value)
    shift = prediction.shift(spread(np.square(std), mean), mean)
    return update_with_noise(1.0, mean, 1.0, shift, std, draws)
