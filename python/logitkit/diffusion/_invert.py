"""The way back, from data to noise, and mixes of noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, as_time, check_array
from ._parameters import check_function, check_guidance, check_process
from ._predictions import Kind
from ._predictor import Predictor
from ._process import illegality
from ._sample import checked_times
from ._solver import Solver, State, solver_of_each


def invert(
    process: Any,
    predict: Callable[..., Array],
    x0: Array,
    *,
    solver: Solver,
    times: Sequence[Any] | NDArray[Any],
    prediction: Kind = "eps",
    condition: Any = None,
    guidance: Any = None,
) -> Array:
    """
    Carry data back to the noise that a deterministic solver would make it from.

    Parameters
    ----------
    process : Process
        The forward process.
    predict : callable, (x, t) -> array or (x, t, condition) -> array
        The network; see `Predictor`.
    x0 : array, shape (n, ...)
        Data: samples at the last of the times.
    solver : Solver
        A solver without noise of its own, such as `DDIM`.
    times : array_like, shape (steps + 1,) or (steps + 1, n)
        Falling times, as for `sample`; they are gone through from the last to the first.
    prediction : {"eps", "x0", "v", "score", "flow"}, default "eps"
        What the network predicts. At clean data only ``"eps"``, ``"v"`` and ``"flow"`` say
        what the noise is: with others, end the times before.
    condition : object, optional
        What the data are.
    guidance : Guidance, optional
        How predictions with and without the condition become one.

    Returns
    -------
    array, shape (n, ...)
        Samples at the first of the times.

    Raises
    ------
    ValueError
        If the times do not fall, or the solver draws noise.

    See Also
    --------
    sample : The way forth: ``sample(..., initial=invert(...))`` is near the data.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import DDIM, Gaussian, VariancePreserving, invert, sample
    >>> process = Gaussian(VariancePreserving())
    >>> def predict(x, t):  # data from N(0, 1)
    ...     return process.schedule.sigma(t) * x
    >>> times = np.linspace(1.0, 0.0, 101)
    >>> z = invert(process, predict, np.array([[0.5]]), solver=DDIM(), times=times)
    >>> back = sample(process, predict, solver=DDIM(), times=times, initial=z)
    >>> bool(abs(back.item() - 0.5) < 0.03)
    True
    """
    check_process(process)
    check_function("predict", predict)
    check_array("x0", x0)
    solver_of_each(solver, 1)
    if not solver.deterministic:
        raise ValueError(f"expected a solver without noise of its own, not {solver}")
    if reason := illegality(solver, process):
        raise TypeError(reason)
    if guidance is not None:
        check_guidance("guidance", guidance)
    grid = checked_times(times, process.span)[::-1]
    predictor = Predictor(process, predict, prediction, condition, guidance)
    memory = None if guidance is None else guidance.begin()
    state = State(x0, as_time(grid[0]), np.arange(x0.shape[0]), memory=memory)
    for t, s in pairwise(grid):
        state = solver.step(state, predictor, t, s, process=process, rng=0)
    return state.x


def interpolate(z1: Array, z2: Array, /, weight: float) -> Array:
    r"""
    Mix two samples of noise so that the mix is noise again.

    .. math:: z = z_1 \cos\tfrac{\pi w}{2} + z_2 \sin\tfrac{\pi w}{2}

    Parameters
    ----------
    z1, z2 : array, shape (...)
        Independent standard normal noise.
    weight : float
        The weight `w` of `z2`, from 0 to 1.

    Returns
    -------
    array, shape (...)
        Standard normal noise.

    References
    ----------
    .. [1] J. Su, on DDIM (in Chinese), kexue.fm/archives/9181, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import interpolate
    >>> interpolate(np.array([1.0]), np.array([1.0]), 0.5).round(3)
    array([1.414])
    """
    angle = 0.5 * np.pi * weight
    return float(np.cos(angle)) * z1 + float(np.sin(angle)) * z2
