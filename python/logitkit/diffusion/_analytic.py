"""The variance of the data given x_t, from how large the predicted noise is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..random import Philox
from ._arrays import Array, Time, namespace
from ._draws import Draws
from ._gaussian import Gaussian
from ._predictions import Kind
from ._predictor import Predictor
from ._schedules import plain


@dataclass(frozen=True, eq=False)
class AnalyticStd:
    r"""
    Standard deviation of the data given x_t, as Analytic-DPM has it.

    .. math:: \bar\sigma_t^2 = \frac{\sigma_t^2}{\alpha_t^2}
        \Bigl(1 - \frac{E \|\hat\varepsilon\|^2}{d}\Bigr)

    Parameters
    ----------
    process : Gaussian
        The process.
    times : array_like, shape (m,)
        Rising times at which the noise was measured.
    mean_squares : array_like, shape (m,)
        Mean over samples and their `d` values of the square of the predicted noise.
    data_range : float, default inf
        Width of the interval that holds the data: half of it bounds the standard deviation.

    See Also
    --------
    estimate_analytic : Measures it.
    DDIM, UDM : Take it as ``x0_std``.

    Notes
    -----
    Between the times the mean square is interpolated linearly.

    References
    ----------
    .. [1] F. Bao et al., "Analytic-DPM", ICLR 2022, arXiv:2201.06503.
    .. [2] J. Su, on the optimal diffusion variance (in Chinese), kexue.fm/archives/9245, 2022.

    Examples
    --------
    >>> from logitkit.diffusion import AnalyticStd, Gaussian, StraightPath
    >>> std = AnalyticStd(Gaussian(StraightPath()), [0.0, 1.0], [0.75, 0.75])
    >>> std(0.5)
    0.5
    """

    process: Gaussian
    times: ArrayLike
    mean_squares: ArrayLike
    data_range: float = np.inf

    def __post_init__(self) -> None:
        times, squares = np.asarray(self.times), np.asarray(self.mean_squares)
        if times.ndim != 1 or times.shape != squares.shape or not (np.diff(times) > 0.0).all():
            raise ValueError(
                f"expected rising times and as many mean squares, not {times} and {squares}"
            )

    def __call__(self, t: Time) -> Any:
        """Return the standard deviation at a time."""
        share = np.clip(1.0 - np.interp(t, self.times, self.mean_squares), 0.0, 1.0)  # type: ignore[arg-type]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.divide(self.process.schedule.sigma(t), self.process.schedule.alpha(t))
            return plain(np.minimum(ratio * np.sqrt(share), 0.5 * self.data_range))


def estimate_analytic(
    process: Gaussian,
    predict: Callable[..., Array],
    x0: Array,
    times: ArrayLike,
    *,
    prediction: Kind = "eps",
    rng: int | Philox = 0,
    data_range: float = np.inf,
) -> AnalyticStd:
    """
    Measure the standard deviation of the data given x_t, on data.

    Parameters
    ----------
    process : Gaussian
        The process.
    predict : callable, (x, t) -> array
        The network.
    x0 : array, shape (n, ...)
        Data: a few hundred values in all are enough.
    times : array_like, shape (m,)
        Rising times, without that of clean data.
    prediction : {"eps", "x0", "v", "score", "flow"}, default "eps"
        What the network predicts.
    rng : int or logitkit.random.Philox, default 0
        Seed, or generator.
    data_range : float, default inf
        Width of the interval that holds the data.

    Returns
    -------
    AnalyticStd
        The standard deviation as a function of the time.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Gaussian, StraightPath, estimate_analytic
    >>> process, x0 = Gaussian(StraightPath()), np.zeros((100, 4))
    >>> estimate_analytic(process, lambda x, t: x / t, x0, [0.5])(0.5) < 0.3
    True
    """
    predictor = Predictor(process, predict, prediction)
    squares = []
    for step, t in enumerate(np.asarray(times, np.float64).tolist()):
        draws = Draws(rng, step, np.arange(x0.shape[0]))
        x = process.forward(x0, process.noise(draws, x0), t)
        eps = process.convert(predictor(x, t), "eps")
        squares.append(float(namespace(eps).mean(eps * eps)))
    return AnalyticStd(process, times, squares, data_range)
