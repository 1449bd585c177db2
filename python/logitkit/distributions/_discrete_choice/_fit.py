"""Coefficients of linear utilities by maximum likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _integrals
from .._noise import law_or_normal
from ._design import (
    Array,
    Columns,
    Design,
    chosen_from_array,
    chosen_from_table,
    from_arrays,
    from_table,
    is_table,
)
from ._likelihood import Likelihood

if TYPE_CHECKING:
    from .._noise import Noise

_ITERATIONS, _HALVINGS = 100, 30
_CONVERGED = 1e-10  # the gain in log-likelihood that a Newton step promises, for each observation
_LARGEST = 1e3  # coefficient of a feature of unit spread
_VANISHED = 1e-7  # information of a choice
_SMALLEST = 1e-9  # share of the largest eigenvalue of the information


@dataclass(frozen=True)
class ChoiceFit:
    """
    What `fit` returns: estimated coefficients of utilities, and what is known of their error.

    Parameters
    ----------
    names : tuple of str
        The names of the coefficients.
    coefficients : ndarray, shape (k,)
        The estimates, in units of the noise.
    covariance : ndarray, shape (k, k)
        That of the estimates: the inverse of the observed information.
    robust_covariance : ndarray, shape (k, k)
        The same without assuming that the noise is of this law.
    log_likelihood : float
        At the estimates, in nats.
    null_log_likelihood : float
        Where all coefficients are zero.
    observations : int
        How many choices.
    noise : Noise
        The law of the noise.
    columns : object
        What the columns of a table mean, for `predict_proba`.
    """

    names: tuple[str, ...]
    coefficients: Array
    covariance: Array
    robust_covariance: Array
    log_likelihood: float
    null_log_likelihood: float
    observations: int
    noise: Noise
    columns: Columns

    @property
    def standard_errors(self) -> Array:
        """The standard errors of the coefficients."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def robust_standard_errors(self) -> Array:
        """The same without assuming that the noise is of this law."""
        return np.sqrt(np.diag(self.robust_covariance))

    @property
    def pseudo_r2(self) -> float:
        """The share of the log-likelihood at zero that the utilities explain."""
        return 1.0 - self.log_likelihood / self.null_log_likelihood

    def predict_proba(self, design: Any, *, available: ArrayLike | None = None) -> Array:
        """
        Predict the probabilities of the alternatives of other choices.

        Parameters
        ----------
        design : array_like, shape (n, J, k), or data frame
            The features, as `fit` takes them.
        available : array_like of bool, shape (n, J), optional
            Which alternatives there are. Default: all, or those with a row in the table.

        Returns
        -------
        ndarray, shape (n, J)
            In the order of the alternatives, and in that of the sorted ids of the choices of a
            table; 0 for what is not available.
        """
        new = _design(design, available, self.columns)
        result = np.zeros(new.available.shape)
        patterns, group = np.unique(new.available, axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            members = np.flatnonzero(group.reshape(-1) == i)
            utilities = new.features[members][:, pattern] @ self.coefficients
            p = _integrals.probs(np.ascontiguousarray(utilities), self.noise, 1.0)
            result[np.ix_(members, pattern)] = p
        return result

    def __str__(self) -> str:
        """Return a table of the coefficients."""
        errors = self.standard_errors
        width = max(map(len, self.names))
        head = f"{'':{width}}  {'estimate':>11} {'std. error':>11} {'z':>9}"
        lines = [
            f"{name:{width}}  {b:11.5g} {e:11.5g} {b / e:9.3f}"
            for name, b, e in zip(self.names, self.coefficients, errors, strict=True)
        ]
        tail = (
            f"{self.observations} choices, log-likelihood {self.log_likelihood:.4f}, "
            f"pseudo R2 {self.pseudo_r2:.4f}, noise {self.noise!r}"
        )
        return "\n".join([head, *lines, tail])


def fit(
    design: Any,
    choice: Any,
    *,
    noise: Noise | None = None,
    columns: Sequence[str] | None = None,
    observation: str | None = None,
    alternative: str | None = None,
    available: ArrayLike | None = None,
    constants: bool = False,
    weights: ArrayLike | None = None,
) -> ChoiceFit:
    r"""
    Estimate the utilities that discrete choices reveal.

    .. math:: y_i = \arg\max_j \, (x_{ij}^T \beta + \varepsilon_{ij})

    with noise that is independent over alternatives: normal for the independent probit, Gumbel
    for the logit. The coefficients :math:`\beta` are those of the largest likelihood.

    Parameters
    ----------
    design : array_like, shape (n, J, k), or data frame
        The features of each alternative of each choice; or a table in long form, one row for
        each alternative of each choice.
    choice : array_like of int, shape (n,), or str
        The chosen alternatives, from 0 to ``J - 1``; or the column of the table that is 1 in
        their rows and 0 in others.
    noise : Noise, optional
        The law of the noise. Default: ``Normal()``.
    columns : sequence of str, optional
        The columns of features of a table; or names for the features of an array.
    observation, alternative : str, optional
        The columns of a table that say which choice a row belongs to, and which alternative it
        is.
    available : array_like of bool, shape (n, J), optional
        Which alternatives there are. Default: all, or those with a row in the table.
    constants : bool, optional
        Whether each alternative but the first has a constant of its own.
    weights : array_like, shape (n,), optional
        How often each choice counts. Default: once.

    Returns
    -------
    ChoiceFit
        The coefficients with their standard errors; its string is a table of them.

    Raises
    ------
    ValueError
        If shapes do not fit, a feature is not finite, a choice is out of range or not
        available, or a coefficient is not determined: its feature is the same for all
        alternatives of each choice, or a combination of others.
    RuntimeError
        If the likelihood has no maximum: some utilities explain all choices.

    See Also
    --------
    ChoiceFit.predict_proba : Probabilities of other choices.

    Notes
    -----
    Newton's method with exact gradients and their differences, on features of unit spread. The
    likelihood is concave for normal, Gumbel, logistic and Laplace noise. Probabilities far in a
    tail have a finite logarithm, so that no start is needed.

    References
    ----------
    .. [1] K. E. Train, "Discrete choice methods with simulation", 2nd ed., Cambridge University
       Press, 2009, chapters 3, 5 and 8.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit.distributions import fit
    >>> from logitkit.random import Philox
    >>> rng = Philox(1)
    >>> x = rng.normal(2000, (3, 2))
    >>> utilities = x @ [1.0, -0.5] + rng.at(1).normal(2000, 3)
    >>> result = fit(x, utilities.argmax(axis=1))
    >>> bool(np.all(np.abs(result.coefficients - [1.0, -0.5]) < 3 * result.standard_errors))
    True
    """
    noise = law_or_normal(noise)
    if is_table(design):
        if available is not None:
            raise ValueError("expected no available with a table: leave out rows instead")
        if not isinstance(choice, str):
            raise TypeError(
                f"expected the name of a column of choices, not {type(choice).__name__}"
            )
        asked = Columns(tuple(columns or ()), observation, alternative, constants=constants)
        data, place = from_table(design, asked)
        chosen = chosen_from_table(design[choice], place, data)
    else:
        data = from_arrays(design, available, columns, constants)
        chosen = chosen_from_array(choice, data)
    counts = np.ones(len(chosen)) if weights is None else np.asarray(weights, np.float64)
    if counts.shape != chosen.shape or not np.all(np.isfinite(counts) & (counts >= 0.0)):
        raise ValueError(f"expected {len(chosen)} weights, finite and not negative")

    spread = _spread(data)
    scaled = data._replace(features=data.features / spread)
    likelihood = Likelihood(scaled, chosen, noise, counts)
    estimate, information = _maximum(likelihood, data.columns.names)
    scores = likelihood.scores(estimate)
    covariance = np.linalg.inv(information)
    unit = np.outer(spread, spread)
    return ChoiceFit(
        names=data.columns.names,
        coefficients=estimate / spread,
        covariance=covariance / unit,
        robust_covariance=covariance @ (scores.T @ scores) @ covariance / unit,
        log_likelihood=likelihood.value(estimate),
        null_log_likelihood=likelihood.without_utilities(),
        observations=len(chosen),
        noise=noise,
        columns=data.columns,
    )


def _design(design: Any, available: ArrayLike | None, columns: Columns) -> Design:
    if is_table(design):
        return from_table(design, columns)[0]
    new = from_arrays(design, available, columns.features, columns.constants)
    if new.available.shape[1] != len(columns.alternatives):
        raise ValueError(
            f"expected {len(columns.alternatives)} alternatives, not {new.available.shape[1]}"
        )
    return new


def _spread(design: Design) -> Array:
    """Return the standard deviation of each feature over the alternatives of a choice."""
    there = design.available[..., np.newaxis]
    count = there.sum(axis=1, keepdims=True)
    mean = design.features.sum(axis=1, keepdims=True) / count
    spread: Array = np.sqrt(np.mean(np.where(there, design.features - mean, 0.0) ** 2, axis=(0, 1)))
    size = np.sqrt(np.mean(design.features**2, axis=(0, 1)))
    if (flat := spread <= 1e-12 * size).any():
        name = design.columns.names[int(np.argmax(flat))]
        raise ValueError(
            f"the coefficient of {name!r} is not determined: it is the same for all alternatives "
            "of each choice"
        )
    return spread


def _maximum(likelihood: Likelihood, names: tuple[str, ...]) -> tuple[Array, Array]:
    """Return the coefficients of the largest likelihood, and the information there."""
    estimate = np.zeros(len(names))
    value = likelihood.value(estimate)
    for _ in range(_ITERATIONS):
        scores, information = likelihood.scores(estimate), likelihood.information(estimate)
        gradient = scores.sum(axis=0)
        curvature = np.linalg.eigvalsh(information)
        if curvature[0] <= _SMALLEST * max(curvature[-1], 1.0):
            # Not concave here, or flat: the outer products of scores are never negative.
            information = scores.T @ scores
            _check_determined(information, names)
        step = np.linalg.solve(information, gradient)
        promised = float(gradient @ step)
        if promised <= _CONVERGED * len(likelihood.choice):
            estimate = estimate + step
            information = likelihood.information(estimate)
            if np.linalg.eigvalsh(information)[0] > _VANISHED * likelihood.weights.sum():
                return estimate, information
            break  # where the likelihood ends, not at a maximum
        for _ in range(_HALVINGS):
            following = likelihood.value(estimate + step)
            if following >= value + 1e-4 * promised:
                break
            step, promised = 0.5 * step, 0.5 * promised
        estimate, value = estimate + step, following
        if np.max(np.abs(estimate)) > _LARGEST:
            break
    name = names[int(np.argmax(np.abs(estimate)))]
    raise RuntimeError(
        f"the likelihood has no maximum within reach: the coefficient of {name!r} grows without "
        "bound; its feature may tell all choices apart, so leave it out or collect more choices"
    )


def _check_determined(outer: Array, names: tuple[str, ...]) -> None:
    values, vectors = np.linalg.eigh(outer)
    if values[0] <= _SMALLEST * values[-1]:
        combined = [names[i] for i in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
        raise ValueError(
            f"the coefficients of {', '.join(map(repr, combined))} are not determined: a "
            "combination of these features is the same for all alternatives of each choice"
        )
