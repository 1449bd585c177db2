"""Time grids: the falling times that a sampler goes through, as float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._gaussian import Gaussian
from ._parameters import check_count, check_number, check_process

Grid = NDArray[np.float64]


def uniform(
    process: Any, steps: int, *, start: float | None = None, end: float | None = None
) -> Grid:
    """
    Return times at equal distances.

    Parameters
    ----------
    process : Process
        The process, whose span the times cover.
    steps : int
        Number of steps.
    start, end : float, optional
        First and last time, if not those of the span of the process.

    Returns
    -------
    ndarray of float64, shape (steps + 1,)
        Falling times.

    Raises
    ------
    ValueError
        If `steps` is less than 1.

    Examples
    --------
    >>> from logitkit.diffusion import Gaussian, StraightPath, uniform
    >>> uniform(Gaussian(StraightPath()), 4)
    array([1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    count = _counted(steps)
    first, last = _ends(process, start, end)
    return np.linspace(first, last, count + 1)


def trailing(process: Any, steps: int, *, counted: bool = False) -> Grid:
    """
    Return times at equal distances, for a network that was trained with counted times.

    Parameters
    ----------
    process : Process
        The process, with counted times from 0, clean data, to T.
    steps : int
        Number of steps.
    counted : bool, default False
        Whether to round to whole times, for a network that takes no others. Each step goes to
        the time that the next one begins at, also where T is not a multiple of `steps`.

    Returns
    -------
    ndarray of float64, shape (steps + 1,)
        Falling times, from T to 0.

    Raises
    ------
    ValueError
        If `steps` is less than 1, or more than there are whole times.

    References
    ----------
    .. [1] S. Lin et al., "Common diffusion noise schedules and sample steps are flawed",
       WACV 2024, arXiv:2305.08891.

    Examples
    --------
    >>> from logitkit.diffusion import Gaussian, linear, trailing
    >>> trailing(Gaussian(linear()), 3, counted=True)
    array([1000.,  667.,  333.,    0.])
    """
    times = uniform(process, steps)
    if not counted:
        return times
    if steps > process.span[1] - process.span[0]:
        raise ValueError(f"expected at most {process.span[1]:.0f} steps, not {steps}")
    return np.rint(times)


def uniform_log_snr(
    process: Gaussian,
    steps: int,
    *,
    start: float | None = None,
    end: float | None = None,
    clean: bool = True,
) -> Grid:
    """
    Return times at equal distances of log(alpha / sigma).

    Parameters
    ----------
    process : Gaussian
        The process.
    steps : int
        Number of steps.
    start, end : float, optional
        First and last time of the equal distances. Default: where less than a hundredth of
        x_t is data, and where a thousandth is noise, or the nearest times of a table.
    clean : bool, default True
        Whether the last step goes from `end` to clean data, and the first from the begin of
        the process to `start` where the latter is earlier.

    Returns
    -------
    ndarray of float64, shape (steps + 1,)
        Falling times.

    Raises
    ------
    ValueError
        If there are too few steps, or `start` or `end` is at the end of the span, where
        log(alpha / sigma) is infinite.

    References
    ----------
    .. [1] C. Lu et al., "DPM-Solver", NeurIPS 2022, arXiv:2206.00927.

    Examples
    --------
    >>> from logitkit.diffusion import Gaussian, VarianceExploding, uniform_log_snr
    >>> uniform_log_snr(Gaussian(VarianceExploding(8.0)), 3, end=0.5, clean=False)
    array([8.        , 3.1748021 , 1.25992105, 0.5       ])
    """
    return _along(process, steps, start, end, clean, lambda sigma: np.log(sigma), np.exp)


def exponential(
    process: Gaussian,
    steps: int,
    *,
    start: float | None = None,
    end: float | None = None,
    clean: bool = True,
) -> Grid:
    """
    Return times of exponentially falling sigma / alpha: `uniform_log_snr` by another name.

    Parameters
    ----------
    process : Gaussian
        The process.
    steps : int
        Number of steps.
    start, end : float, optional
        First and last time of the equal distances, as in `uniform_log_snr`.
    clean : bool, default True
        Whether the last step goes from `end` to clean data.

    Returns
    -------
    ndarray of float64, shape (steps + 1,)
        Falling times.

    Examples
    --------
    >>> from logitkit.diffusion import Gaussian, VarianceExploding, exponential
    >>> exponential(Gaussian(VarianceExploding(8.0)), 4, end=1.0).round(6)
    array([8., 4., 2., 1., 0.])
    """
    return uniform_log_snr(process, steps, start=start, end=end, clean=clean)


def karras(
    process: Gaussian,
    steps: int,
    *,
    rho: float = 7.0,
    start: float | None = None,
    end: float | None = None,
    clean: bool = True,
) -> Grid:
    r"""
    Return times at equal distances of the root of sigma / alpha.

    .. math:: r_i = \bigl(r_0^{1/\rho} + \tfrac{i}{n}
        (r_n^{1/\rho} - r_0^{1/\rho})\bigr)^\rho, \qquad r = \sigma / \alpha

    Parameters
    ----------
    process : Gaussian
        The process.
    steps : int
        Number of steps.
    rho : float, default 7.0
        Which root.
    start, end : float, optional
        First and last time of the equal distances, as in `uniform_log_snr`.
    clean : bool, default True
        Whether the last step goes from `end` to clean data.

    Returns
    -------
    ndarray of float64, shape (steps + 1,)
        Falling times.

    Raises
    ------
    ValueError
        If there are too few steps, `rho` is not above 0, or `start` or `end` is at the end of
        the span.

    References
    ----------
    .. [1] T. Karras et al., "Elucidating the design space of diffusion-based generative
       models", NeurIPS 2022, arXiv:2206.00364. Equation 5.

    Examples
    --------
    >>> from logitkit.diffusion import Gaussian, VarianceExploding, karras
    >>> karras(Gaussian(VarianceExploding(9.0)), 3, rho=2.0, end=1.0).round(6)
    array([9., 4., 1., 0.])
    """
    check_number("rho", rho, 0.0, open_low=True)
    return _along(
        process, steps, start, end, clean, lambda r: r ** (1.0 / rho), lambda root: root**rho
    )


def shifted(times: Any, shift: float) -> Grid:
    r"""
    Move times between 0 and 1 towards noise, as for images of more pixels.

    .. math:: t' = \frac{m t}{1 + (m - 1) t}

    Parameters
    ----------
    times : array_like
        Times of the straight path.
    shift : float
        The factor `m` by which sigma / alpha grows: more than 1 spends more steps on noise.

    Returns
    -------
    ndarray of float64, shape of `times`
        The shifted times.

    Raises
    ------
    ValueError
        If a time is not from 0 to 1, or `shift` not above 0.

    References
    ----------
    .. [1] P. Esser et al., "Scaling rectified flow transformers for high-resolution image
       synthesis", ICML 2024, arXiv:2403.03206. Equation 23.

    Examples
    --------
    >>> from logitkit.diffusion import shifted
    >>> shifted([1.0, 0.5, 0.0], 3.0)
    array([1.  , 0.75, 0.  ])
    """
    check_number("shift", shift, 0.0, open_low=True)
    t = np.asarray(times, np.float64)
    if not ((t >= 0.0) & (t <= 1.0)).all():
        raise ValueError(f"expected times from 0 to 1, the span of the straight path, not {times}")
    return shift * t / (1.0 + (shift - 1.0) * t)


def _counted(steps: int) -> int:
    try:
        return check_count("steps", steps)
    except ValueError:
        raise ValueError(f"expected at least one step, a whole number, not {steps!r}") from None


def _ends(process: Any, start: float | None, end: float | None) -> tuple[float, float]:
    check_process(process)
    clean, noisy = process.span
    first = float(noisy if start is None else start)
    last = float(clean if end is None else end)
    if not clean <= last < first <= noisy:
        raise ValueError(
            f"expected times that fall inside the span {process.span}, not from {first} to {last}"
        )
    return first, last


def _along(
    process: Gaussian, steps: int, start: Any, end: Any, clean: bool, scale: Any, back: Any
) -> Grid:
    """Return the times at equal distances of a function of r = sigma / alpha."""
    check_process(process, "schedule")
    schedule = process.schedule
    first, last = _ends(process, start, end)
    zero, noise = schedule.span
    if end is None:
        last = _default_end(schedule)
    if start is None and not np.isfinite(schedule.log_snr(first)):
        first = schedule.time(-np.log(100.0))
    enter, leave = clean and start is None and first < noise, clean and last > zero
    inner = _counted(steps) - enter - leave
    levels = np.array([schedule.log_snr(first), schedule.log_snr(last)])
    if inner < (1 if not (enter or leave) else 0) or not np.isfinite(levels).all():
        raise ValueError(
            f"expected more than {steps} steps, and times from {first} to {last} at which "
            "log(alpha / sigma) is finite"
        )
    low, high = scale(np.exp(-levels))
    times = np.atleast_1d(schedule.time(-np.log(back(np.linspace(low, high, inner + 1)))))
    times[0], times[-1] = first, last if inner else first
    return np.concatenate([[noise] * enter, times, [zero] * leave])


def _default_end(schedule: Any) -> float:
    """Return the first step of a table, or the time with a thousandth of noise."""
    table = getattr(schedule, "betas", None)
    return 1.0 if table is not None else float(schedule.time(np.log(1000.0)))
