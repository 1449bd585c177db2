"""The usual schedules of a fixed number of steps, and the shift that ends one in pure noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._parameters import check_count, check_number
from ._variance_preserving import StepTable


def linear(steps: int = 1000, *, start: float = 1e-4, end: float = 0.02) -> StepTable:
    """
    Schedule of DDPM: shares of new noise that rise linearly.

    Parameters
    ----------
    steps : int, default 1000
        Number of steps.
    start, end : float, default 1e-4 and 0.02
        Share of the variance that the first and the last step replace by noise.

    Returns
    -------
    StepTable
        The schedule, for times from 0 to `steps`.

    References
    ----------
    .. [1] J. Ho, A. Jain and P. Abbeel, "Denoising diffusion probabilistic models",
       NeurIPS 2020, arXiv:2006.11239.

    Examples
    --------
    >>> from logitkit.diffusion import linear
    >>> round(linear().alpha(1000.0), 5)
    0.00635
    """
    return StepTable(np.linspace(start, end, check_count("steps", steps)))


def scaled_linear(steps: int = 1000, *, start: float = 0.00085, end: float = 0.012) -> StepTable:
    """
    Schedule of latent diffusion: shares of new noise whose square roots rise linearly.

    Parameters
    ----------
    steps : int, default 1000
        Number of steps.
    start, end : float, default 0.00085 and 0.012
        Share of the variance that the first and the last step replace by noise.

    Returns
    -------
    StepTable
        The schedule, for times from 0 to `steps`.

    References
    ----------
    .. [1] R. Rombach et al., "High-resolution image synthesis with latent diffusion models",
       CVPR 2022, arXiv:2112.10752.

    Examples
    --------
    >>> from logitkit.diffusion import scaled_linear
    >>> round(scaled_linear().alpha(1000.0), 4)
    0.0683
    """
    count = check_count("steps", steps)
    check_number("start", start, 0.0)
    check_number("end", end, 0.0)
    return StepTable(np.linspace(math.sqrt(start), math.sqrt(end), count) ** 2)


def cosine(steps: int = 1000, *, offset: float = 0.008, most: float = 0.999) -> StepTable:
    """
    Cosine schedule as a table, with a cap on the noise of one step.

    Parameters
    ----------
    steps : int, default 1000
        Number of steps.
    offset : float, default 0.008
        Keeps the first steps from being too small.
    most : float, default 0.999
        Largest share of the variance that one step may replace by noise.

    Returns
    -------
    StepTable
        The schedule, for times from 0 to `steps`.

    See Also
    --------
    Cosine : In continuous time, without the cap.

    References
    ----------
    .. [1] A. Nichol and P. Dhariwal, "Improved denoising diffusion probabilistic models",
       ICML 2021, arXiv:2102.09672.

    Examples
    --------
    >>> from logitkit.diffusion import cosine
    >>> round(cosine().alpha(500.0), 4)
    0.7027
    """
    steps = check_count("steps", steps)
    angle = 0.5 * math.pi * (np.arange(steps + 1) / steps + offset) / (1.0 + offset)
    square = np.cos(angle) ** 2
    return StepTable(np.minimum(1.0 - square[1:] / square[:-1], most))


def sigmoid(steps: int = 1000, *, start: float = 1e-4, end: float = 0.02) -> StepTable:
    """
    Schedule whose shares of new noise rise as a sigmoid.

    Parameters
    ----------
    steps : int, default 1000
        Number of steps.
    start, end : float, default 1e-4 and 0.02
        What the sigmoid of -6 to 6 is scaled between.

    Returns
    -------
    StepTable
        The schedule, for times from 0 to `steps`.

    See Also
    --------
    Sigmoid : The other sigmoid schedule, whose signal falls as a sigmoid.

    Examples
    --------
    >>> from logitkit.diffusion import sigmoid
    >>> round(sigmoid().alpha(1000.0), 4)
    0.0063
    """
    return StepTable(
        start + (end - start) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, check_count("steps", steps))))
    )


def su(steps: int = 1000, *, end: float = 0.02) -> StepTable:
    r"""
    Schedule of Su's articles: step `t` of `T` replaces a share of 0.02 t / T by noise.

    .. math:: \alpha(t)^2 = \prod_{i=1}^{t} \bigl(1 - 0.02 \, i / T\bigr)

    Parameters
    ----------
    steps : int, default 1000
        Number `T` of steps.
    end : float, default 0.02
        Share of the variance that the last step replaces by noise.

    Returns
    -------
    StepTable
        The schedule, for times from 0 to `steps`.

    References
    ----------
    .. [1] J. Su, on denoising diffusion as demolition and construction (in Chinese),
       kexue.fm/archives/9119, 2022.

    Examples
    --------
    >>> from logitkit.diffusion import su
    >>> round(su().alpha(1000.0), 5)
    0.00648
    """
    steps = check_count("steps", steps)
    return StepTable(end * np.arange(1, steps + 1) / steps)


def zero_terminal_snr(table: StepTable, /) -> StepTable:
    r"""
    Shift and stretch a schedule so that its last step leaves no data.

    .. math:: \alpha'(t) = \frac{\alpha(1)}{\alpha(1) - \alpha(T)}
        \bigl(\alpha(t) - \alpha(T)\bigr), \qquad t = 1, \ldots, T

    Parameters
    ----------
    table : StepTable
        The schedule.

    Returns
    -------
    StepTable
        The schedule with alpha(T) = 0. A prediction of the noise says nothing about the
        data there: use ``"v"`` or ``"x0"``.

    References
    ----------
    .. [1] S. Lin et al., "Common diffusion noise schedules and sample steps are flawed",
       WACV 2024, arXiv:2305.08891.

    Examples
    --------
    >>> from logitkit.diffusion import linear, zero_terminal_snr
    >>> zero_terminal_snr(linear()).alpha(1000.0)
    0.0
    """
    steps = np.arange(1.0, table.span[1] + 1.0)
    alpha: NDArray[Any] = np.asarray(table.alpha(steps))
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    square = np.concatenate([[1.0], alpha**2])
    return StepTable(1.0 - square[1:] / square[:-1])
