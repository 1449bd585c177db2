"""
What a forward process is: a function that turns data and noise into x_t, and a law of the noise.

Each further method that a process has opens solvers to it; `capabilities` names them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ._arrays import Array, Time
from ._draws import Draws
from ._parameters import check_function, check_span


class Process(Protocol):
    """
    A forward process, of continuous or discrete data, in real or counted time.

    Any object with these two methods and `span` is one. It may also have the methods and
    attributes that `capabilities` lists: each makes more solvers legal.

    Attributes
    ----------
    span : tuple of two floats
        The time of clean data and the time of the most noise.

    See Also
    --------
    from_function : A process from functions.
    capabilities : What else a process may have.

    Notes
    -----
    The earlier the time, the more of the data must be left; that is all that sampling needs.

    References
    ----------
    .. [1] J. Su, on the unified diffusion model (in Chinese), kexue.fm/archives/9262, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import Draws, Process
    >>> class Dim:
    ...     span = (0.0, 1.0)
    ...     def forward(self, x0, eps, t):
    ...         return (1 - t) * x0
    ...     def noise(self, draws, like):
    ...         return None
    >>> process: Process = Dim()
    >>> process.forward(np.array([2.0]), None, 0.5)
    array([1.])
    """

    def __init__(self) -> None: ...

    @property
    def span(self) -> tuple[float, float]: ...

    def forward(self, x0: Array, eps: Any, t: Time) -> Array:
        """
        Turn data and noise into a sample at a time.

        Parameters
        ----------
        x0 : array, shape (n, ...)
            Data.
        eps : array or None
            Noise, as `noise` draws it.
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        array, shape (n, ...)
            Samples at `t`.
        """

    def noise(self, draws: Draws, like: Array) -> Any:
        """
        Draw the noise of `forward`.

        Parameters
        ----------
        draws : Draws
            Random numbers of the samples.
        like : array, shape (n, ...)
            Data, or samples at any time, of the shape and type to draw for.

        Returns
        -------
        array or None
            The noise: what `forward` takes; None for a process without noise.
        """


class FullProcess(Process, Protocol):
    """What the processes of this package have in common, and the docstrings of their methods."""

    def encode(self, x: Array, x0: Array, t: Time, draws: Draws) -> Any:
        """
        Find noise that leads from data to a sample: forward(x0, eps, t) = x.

        Parameters
        ----------
        x : array, shape (n, ...)
            Samples at `t`.
        x0 : array, shape (n, ...)
            Data.
        t : float or ndarray, shape (n,)
            Time.
        draws : Draws
            Random numbers, for a process where more than one noise leads from `x0` to `x`.

        Returns
        -------
        array
            The noise; where there is a choice, a draw from its law given `x` and `x0`.
        """

    def prior(self, shape: tuple[int, ...], t: Time, draws: Draws, like: Array) -> Array:
        """
        Draw samples at a time so late that nothing of the data is left.

        Parameters
        ----------
        shape : tuple of ints
            Shape of one sample.
        t : float or ndarray, shape (n,)
            Time.
        draws : Draws
            Random numbers of the samples.
        like : array
            An array of the library, device and type to return.

        Returns
        -------
        array, shape (n, *shape)
            Samples at `t`.
        """

    def transition(self, x: Array, s: Time, t: Time, draws: Draws) -> Array:
        """
        Carry samples on to a later time: draw from the law of x_t given x_s.

        Parameters
        ----------
        x : array, shape (n, ...)
            Samples at `s`.
        s, t : float or ndarray, shape (n,)
            Times, of which `t` has more noise.
        draws : Draws
            Random numbers of the samples.

        Returns
        -------
        array, shape (n, ...)
            Samples at `t`.
        """

    def bridge(self, x: Array, x0: Array, t: Time, s: Time, draws: Draws) -> Array:
        """
        Draw from the law of x_s given x_t and the data.

        Parameters
        ----------
        x : array, shape (n, ...)
            Samples at `t`.
        x0 : array, shape (n, ...)
            Data.
        t, s : float or ndarray, shape (n,)
            Times, of which `t` has more noise.
        draws : Draws
            Random numbers of the samples.

        Returns
        -------
        array, shape (n, ...)
            Samples at `s`.
        """

    def log_prob(self, x: Array, x0: Array, t: Time) -> Array:
        """
        Logarithm of the density, or of the probability, of x_t given the data.

        Parameters
        ----------
        x : array, shape (n, ...)
            Samples at `t`.
        x0 : array, shape (n, ...)
            Data.
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        array, shape (n,)
            In nats.
        """

    def drift_diffusion(self, x: Array, t: Time) -> tuple[Array, Any]:
        """
        Drift and diffusion of the stochastic equation dx = drift dt + diffusion dw.

        Parameters
        ----------
        x : array, shape (n, ...)
            Samples at `t`.
        t : float or ndarray, shape (n,)
            Time.

        Returns
        -------
        drift : array, shape (n, ...)
            Per unit of time.
        diffusion : float or ndarray, shape (n,)
            Standard deviation of the noise that comes in, per root of the unit of time.
        """

    def convert(self, prediction: Any, to: str) -> Array:
        """
        Turn a prediction of one kind into one of another.

        Parameters
        ----------
        prediction : Prediction
            What is predicted, for which samples and at what time.
        to : {"x0", "eps", "v", "score", "flow", "logits"}
            The kind wanted.

        Returns
        -------
        array, shape (n, ...)
            The prediction of that kind.
        """

    def restore(self, prediction: Any, draws: Draws) -> Array:
        """
        Turn a prediction into data: the mean for continuous data, a draw of each token else.

        Parameters
        ----------
        prediction : Prediction
            What is predicted, for which samples and at what time.
        draws : Draws
            Random numbers of the samples.

        Returns
        -------
        array, shape (n, ...)
            An estimate of x_0.
        """


CAPABILITIES = {
    "forward": "x_t from data and noise",
    "noise": "a law of the noise",
    "restore": "data from a prediction",
    "encode": "the noise that leads from given data to x_t",
    "bridge": "the law of x_s given x_t and the data",
    "prior": "the law of x_t at a time when nothing of the data is left",
    "transition": "the law of a later x_t given x_s",
    "log_prob": "the density of x_t given the data",
    "drift_diffusion": "a stochastic differential equation",
    "convert": "one kind of prediction from another",
    "schedule": "x_t = alpha(t) x_0 + sigma(t) eps with normal eps",
    "posterior": "probabilities of the tokens at s given those predicted at t",
    "unmask": "tokens that are masked at random times",
}


def capabilities(process: Any, /) -> dict[str, bool]:
    """
    Tell what a process has, and so which solvers it can be used with.

    Parameters
    ----------
    process : Process
        The process.

    Returns
    -------
    dict of str to bool
        Whether it has each of the methods and attributes that solvers may need.

    See Also
    --------
    illegality : Why a solver cannot be used with a process.

    Examples
    --------
    >>> from logitkit.diffusion import Gaussian, StraightPath, capabilities
    >>> capabilities(Gaussian(StraightPath()))["drift_diffusion"]
    True
    """
    return {name: getattr(process, name, None) is not None for name in CAPABILITIES}


def illegality(solver: Any, process: Any, /) -> str:
    """
    Tell why a solver cannot be used with a process.

    Parameters
    ----------
    solver : Solver
        The solver.
    process : Process
        The process.

    Returns
    -------
    str
        What the solver needs and the process lacks; empty if the solver is legal.

    See Also
    --------
    capabilities : What a process has.

    Examples
    --------
    >>> from logitkit.diffusion import DDIM, UDM, from_function, illegality
    >>> process = from_function(lambda x0, eps, t: (1 - t) * x0)
    >>> illegality(UDM(), process)
    ''
    >>> illegality(DDIM(), process)[:18]
    'DDIM needs schedul'
    """
    if isinstance(solver, type) or not hasattr(solver, "needs"):
        raise TypeError(f"expected a solver such as DPMpp(2), not {solver!r}")
    has = capabilities(process)
    missing = [f"{name} ({CAPABILITIES[name]})" for name in solver.needs if not has[name]]
    if not missing:
        return ""
    return f"{type(solver).__name__} needs {', '.join(missing)}, which the process lacks"


def no_noise(draws: Draws, like: Array) -> None:
    """Draw nothing: the law of a process without noise."""


def predicted_data(prediction: Any, draws: Draws) -> Array:
    """Take a prediction of the data as it is: there is no other kind of it here."""
    if prediction.kind != "x0":
        raise ValueError(
            f"expected a prediction of the data, 'x0', not {prediction.kind!r}: the process has "
            "no method `convert`"
        )
    return prediction.value


@dataclass(frozen=True, eq=False)
class FunctionProcess:
    """A process whose methods are the functions it is given; None is a method it lacks."""

    forward: Callable[[Array, Any, Time], Array]
    noise: Callable[[Draws, Array], Any]
    span: tuple[float, float]
    encode: Callable[[Array, Array, Time, Draws], Any] | None = None
    bridge: Callable[[Array, Array, Time, Time, Draws], Array] | None = None
    prior: Callable[[tuple[int, ...], Time, Draws, Array], Array] | None = None
    restore: Callable[[Any, Draws], Array] = predicted_data

    @property
    def cold(self) -> bool:
        """Whether there is no noise."""
        return self.noise is no_noise


def from_function(
    forward: Callable[[Array, Any, Time], Array],
    /,
    *,
    noise: Callable[[Draws, Array], Any] | None = None,
    encode: Callable[[Array, Array, Time, Draws], Any] | None = None,
    bridge: Callable[[Array, Array, Time, Time, Draws], Array] | None = None,
    prior: Callable[[tuple[int, ...], Time, Draws, Array], Array] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> FunctionProcess:
    """
    Make a process of a function that degrades data.

    Parameters
    ----------
    forward : callable, (x0, eps, t) -> x_t
        The degradation.
    noise : callable, (draws, like) -> eps, optional
        The law of the noise. Default: there is none, as in cold diffusion.
    encode : callable, (x, x0, t, draws) -> eps, optional
        The noise that leads from `x0` to `x`.
    bridge : callable, (x, x0, t, s, draws) -> x_s, optional
        The law of x_s given x_t and the data.
    prior : callable, (shape, t, draws, like) -> x_t, optional
        The law of x_t when nothing of the data is left. Without it, `sample` must be given
        the samples to begin with.
    span : tuple of two floats, default (0.0, 1.0)
        The time of clean data and the time of the most noise.

    Returns
    -------
    Process
        The process, for predictions of the data.

    Raises
    ------
    TypeError
        If `forward` cannot be called.
    ValueError
        If `span` is not two rising times.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.diffusion import from_function
    >>> fade = from_function(lambda x0, eps, t: (1 - t) * x0)
    >>> fade.forward(np.array([2.0]), None, 0.25)
    array([1.5])
    """
    check_function("forward", forward)
    check_span(span)
    return FunctionProcess(forward, noise or no_noise, span, encode, bridge, prior)
