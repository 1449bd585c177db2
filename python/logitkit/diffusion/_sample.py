"""The loop that takes all steps, for one batch or for many at once."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..random import Philox
from ._arrays import Array, as_time, check_array, namespace
from ._diffusers import SamplerSetup
from ._draws import Draws
from ._parameters import check_count, check_function, check_guidance, check_process
from ._predictions import Kind
from ._predictor import PredictionError, Predictor
from ._process import illegality
from ._solver import Solver, State, solver_of_each


def sample(
    process: Any,
    predict: Callable[..., Array],
    *,
    solver: Solver | Sequence[Solver] | None = None,
    times: Sequence[Any] | NDArray[Any] | None = None,
    shape: tuple[int, ...] | None = None,
    initial: Array | State | None = None,
    prediction: Kind | None = None,
    rng: int | Philox = 0,
    guidance: Any = None,
    condition: Any = None,
    callback: Callable[[State], object] | None = None,
    progress: bool = False,
    executor: Executor | None = None,
    like: Array | None = None,
    first: int = 0,
) -> Array:
    """
    Draw samples: begin with noise, take a step from each time to the next.

    Parameters
    ----------
    process : Process or SamplerSetup
        The forward process that the network was trained to revert; or one with a solver, times
        and what the network predicts, which then are the defaults, as `from_diffusers` makes.
    predict : callable, (x, t) -> array or (x, t, condition) -> array
        The network; see `Predictor`.
    solver : Solver, or sequence of them of length steps
        How a step is taken: all of them, or each.
    times : array_like, shape (steps + 1,) or (steps + 1, n)
        Falling times, one row for each state; with a column for each sample, where samples
        have times of their own.
    shape : tuple of ints, optional
        Shape (n, ...) of the samples, to begin with noise of the process.
    initial : array, shape (n, ...), or State, optional
        Samples at the first of the times; or a state of an earlier run with the same
        arguments, which is resumed.
    prediction : {"eps", "x0", "v", "score", "flow", "logits"}, optional
        What the network predicts. Default: the noise, ``"eps"``.
    rng : int or logitkit.random.Philox, default 0
        Seed, or generator.
    guidance : Guidance, optional
        How predictions with and without the condition become one.
    condition : object, optional
        What the samples shall be. An array with an entry for each sample is split with them
        for an executor, also inside tuples, lists and dicts.
    callback : callable, (state) -> object, optional
        Called after each step.
    progress : bool, default False
        Whether to count the steps on the standard error stream.
    executor : concurrent.futures.Executor, optional
        Runs parts of the batch side by side: threads, processes or machines.
    like : array, optional
        An array of the library, device and type to begin with. Default: NumPy and float64.
    first : int, default 0
        Number of the first sample. A sample depends on the seed and on its number alone, not
        on its batch.

    Returns
    -------
    array, shape (n, ...)
        Samples at the last of the times.

    Raises
    ------
    ValueError
        If the times do not fall, or leave the span of the process; if neither or both of
        `shape` and `initial` are given; if the guidance needs a condition.
    TypeError
        If the solver needs what the process lacks.
    PredictionError
        At the step where a prediction has a wrong shape or type, or holds NaN.

    See Also
    --------
    trajectory : All states on the way.
    invert : The way back, from data to noise.
    illegality : Why a solver cannot be used with a process.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import DPMpp, Gaussian, VariancePreserving, sample
    >>> from logitkit.diffusion import uniform_log_snr
    >>> process = Gaussian(VariancePreserving())
    >>> def predict(x, t):  # data from N(3, 1): the mean of eps given x
    ...     return process.schedule.sigma(t) * (x - 3 * process.schedule.alpha(t))
    >>> x = sample(process, predict, solver=DPMpp(2), times=uniform_log_snr(process, 20),
    ...            shape=(1000, 1))
    >>> bool(abs(x.mean() - 3) < 0.1 and abs(x.std() - 1) < 0.1)
    True
    """
    process, predict, solver, times, prediction = _set_up(
        process, predict, solver, times, prediction
    )
    if executor is not None:
        if callback is not None or progress or isinstance(initial, State):
            raise ValueError("expected no callback, progress or state to resume with an executor")
        run = partial(
            sample, process, predict, solver=solver, prediction=prediction, rng=rng,
            guidance=guidance, like=like,
        )  # fmt: skip
        return _in_parts(run, executor, times, shape, initial, condition, first)
    states = trajectory(
        process, predict, solver=solver, times=times, shape=shape, initial=initial,
        prediction=prediction, rng=rng, guidance=guidance, condition=condition, like=like,
        first=first,
    )  # fmt: skip
    state = next(states)
    done, total = state.step, len(times) - 1
    for state in states:
        done += 1
        if callback is not None:
            callback(state)
        if progress:
            end = "\n" if done == total else ""
            print(f"\rstep {done} of {total}", end=end, file=sys.stderr, flush=True)
    return state.x


def trajectory(
    process: Any,
    predict: Callable[..., Array],
    *,
    solver: Solver | Sequence[Solver] | None = None,
    times: Sequence[Any] | NDArray[Any] | None = None,
    shape: tuple[int, ...] | None = None,
    initial: Array | State | None = None,
    prediction: Kind | None = None,
    rng: int | Philox = 0,
    guidance: Any = None,
    condition: Any = None,
    like: Array | None = None,
    first: int = 0,
) -> Iterator[State]:
    """
    Yield the states on the way from noise to samples, the one to begin with first.

    Parameters
    ----------
    process : Process or SamplerSetup
        The forward process that the network was trained to revert; or one with a solver, times
        and what the network predicts, which then are the defaults, as `from_diffusers` makes.
    predict : callable, (x, t) -> array or (x, t, condition) -> array
        The network; see `Predictor`.
    solver : Solver, or sequence of them of length steps
        How a step is taken: all of them, or each.
    times : array_like, shape (steps + 1,) or (steps + 1, n)
        Falling times, one row for each state.
    shape : tuple of ints, optional
        Shape (n, ...) of the samples, to begin with noise of the process.
    initial : array, shape (n, ...), or State, optional
        Samples at the first of the times, or a state to resume.
    prediction : {"eps", "x0", "v", "score", "flow", "logits"}, optional
        What the network predicts. Default: the noise, ``"eps"``.
    rng : int or logitkit.random.Philox, default 0
        Seed, or generator.
    guidance : Guidance, optional
        How predictions with and without the condition become one.
    condition : object, optional
        What the samples shall be.
    like : array, optional
        An array of the library, device and type to begin with. Default: NumPy and float64.
    first : int, default 0
        Number of the first sample.

    Yields
    ------
    State
        The samples at each of the times, from the first, or from that of the state resumed.

    Raises
    ------
    ValueError
        As in `sample`.
    TypeError
        If the solver needs what the process lacks.
    PredictionError
        At the step where a prediction has a wrong shape or type, or holds NaN.

    See Also
    --------
    sample : The last of these states.

    Examples
    --------
    >>> from logitkit.diffusion import DDIM, Gaussian, StraightPath, trajectory
    >>> states = trajectory(Gaussian(StraightPath()), lambda x, t: 0 * x, solver=DDIM(),
    ...                     times=[1.0, 0.5, 0.0], shape=(1, 1), prediction="x0")
    >>> [(state.step, state.t) for state in states]
    [(0, 1.0), (1, 0.5), (2, 0.0)]
    """
    process, predict, solver, times, prediction = _set_up(
        process, predict, solver, times, prediction
    )
    check_process(process)
    grid = checked_times(times, process.span)
    solvers = solver_of_each(solver, len(grid) - 1)
    for used in {id(used): used for used in solvers}.values():
        if reason := illegality(used, process):
            raise TypeError(reason)
        if guidance is not None:
            check_guidance("guidance", guidance)
            guidance.check(condition, used)
    predictor = Predictor(process, predict, prediction, condition, guidance)
    state = _first_state(process, grid, shape, initial, rng, like, first)
    if guidance is not None and not isinstance(initial, State):
        state = state._replace(memory=guidance.begin())
    yield state
    for index in range(state.step, len(grid) - 1):
        t, s, now = as_time(grid[index]), as_time(grid[index + 1]), solvers[index]
        if index and now.remembers != solvers[index - 1].remembers:
            state = state._replace(history=())
        try:
            state = now.step(state, predictor, t, s, process=process, rng=rng)
        except PredictionError as error:
            where = f"step {index + 1} of {len(grid) - 1}, from t={t} to {s}"
            raise PredictionError(f"{where}: {error}") from error
        yield state


@dataclass(frozen=True)
class _AtNetworkTime:
    """A network that is called with the times that it was trained with."""

    network: Callable[..., Array]
    setup: SamplerSetup

    def __call__(self, x: Array, t: Any, *condition: Any) -> Array:
        return self.network(x, self.setup.network_time(t), *condition)


def _set_up(
    process: Any,
    predict: Callable[..., Array],
    solver: Solver | Sequence[Solver] | None,
    times: Any,
    prediction: Kind | None,
) -> tuple[Any, Callable[..., Array], Solver | Sequence[Solver], Any, Kind]:
    """Return the arguments with what a `SamplerSetup` has in the place of those left out."""
    if isinstance(process, SamplerSetup):
        solver, times = solver or process.solver, process.times if times is None else times
        prediction = prediction or process.prediction
        process, predict = process.process, _AtNetworkTime(predict, process)
    check_function("predict", predict)
    if solver is None or times is None:
        raise TypeError("expected `solver` and `times`: only a SamplerSetup has its own")
    return process, predict, solver, times, prediction or "eps"


def checked_times(times: Any, span: tuple[float, float]) -> NDArray[np.float64]:
    """Return times that fall and stay in the span of a process, or say where they do not."""
    grid = np.asarray(times, np.float64)
    if grid.ndim not in (1, 2) or not len(grid):
        raise ValueError(
            f"expected times of shape (steps + 1,) or (steps + 1, n), not {grid.shape}"
        )
    rising = ~(np.diff(grid, axis=0) < 0.0)
    if rising.any():
        index = int(np.argwhere(rising)[0][0])
        raise ValueError(
            f"expected falling times, not {grid[index]} followed by {grid[index + 1]} "
            f"(entries {index} and {index + 1})"
        )
    slack = 1e-9 * abs(span[1] - span[0])  # for a last time that rounding has pushed out
    if np.min(grid) < span[0] - slack or np.max(grid) > span[1] + slack:
        raise ValueError(
            f"expected times from {span[0]} to {span[1]}, the span of the process, not from "
            f"{np.min(grid)} to {np.max(grid)}"
        )
    return np.clip(grid, *span)


def _first_state(
    process: Any,
    grid: NDArray[np.float64],
    shape: tuple[int, ...] | None,
    initial: Any,
    rng: int | Philox,
    like: Array | None,
    first: int,
) -> State:
    """Return the state to begin with: a given one, given samples, or noise."""
    if (shape is None) == (initial is None):
        raise ValueError("expected either `shape` or `initial`, to know what to begin with")
    if isinstance(initial, State):
        return initial
    t = as_time(grid[0])
    if initial is not None:
        check_array("initial", initial)
        count = initial.shape[0] if initial.ndim else 0
    else:
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"expected a shape (n, ...), a tuple of whole numbers, not {shape!r}")
        for size in shape:
            check_count("each entry of shape", size, 0)
        count = shape[0] if shape else 0
    if not count or (isinstance(t, np.ndarray) and len(t) != count):
        raise ValueError(
            f"expected at least one sample along the first axis, and as many as the times have "
            f"columns, not {count}"
        )
    rows = np.arange(first, first + count)
    if initial is not None:
        return State(initial, t, rows)
    prior = getattr(process, "prior", None)
    if prior is None:
        raise TypeError("the process has no `prior`: pass `initial`, samples to begin with")
    like = np.empty(0) if like is None else like
    check_array("like", like)
    assert shape is not None
    return State(prior(tuple(shape[1:]), t, Draws(rng, 0, rows), like), t, rows)


def _in_parts(
    run: Callable[..., Array],
    executor: Executor,
    times: Any,
    shape: tuple[int, ...] | None,
    initial: Array | None,
    condition: Any,
    first: int,
) -> Array:
    """Run equal parts of the batch and put them together: the same numbers as in one."""
    if (shape is None) == (initial is None):
        raise ValueError("expected either `shape` or `initial`, to know what to begin with")
    if initial is not None:
        check_array("initial", initial)
    count = initial.shape[0] if initial is not None else (shape or (0,))[0]
    workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    edges = np.linspace(0, count, min(count, workers) + 1).astype(int).tolist()
    grid = np.asarray(times, np.float64)
    futures = [
        executor.submit(
            run,
            times=grid if grid.ndim == 1 else grid[:, low:high],
            shape=None if shape is None else (high - low, *shape[1:]),
            initial=None if initial is None else initial[low:high, ...],
            condition=_part(condition, low, high, count),
            first=first + low,
        )
        for low, high in itertools.pairwise(edges)
    ]
    parts = [future.result() for future in futures]
    return namespace(parts[0]).concat(parts, axis=0)


def _part(condition: Any, low: int, high: int, count: int) -> Any:
    """Return what of a condition belongs to the samples from `low` to `high`."""
    if isinstance(condition, dict):
        return {key: _part(value, low, high, count) for key, value in condition.items()}
    if isinstance(condition, (tuple, list)):
        return type(condition)([_part(value, low, high, count) for value in condition])
    shape: tuple[int, ...] = getattr(condition, "shape", ())
    return condition[low:high] if len(shape) and shape[0] == count else condition
