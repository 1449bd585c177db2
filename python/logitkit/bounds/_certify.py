"""All bounds at once, with an allowance for rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .._log_arithmetic import smooth_max
from .._logsumexp import logsumexp as default_logsumexp
from .._real_array import epsilon, real_array, smallest_normal
from .._softmax import softmax
from . import _from_distribution as of_distribution
from . import _from_expansion as of_expansion
from . import _from_pair as of_pair
from . import _from_row as of_row
from . import _from_softmax as of_softmax
from . import _from_temperature as of_temperature
from ._report import Check, Report
from ._rows import (
    UNIT,
    Array,
    Rows,
    Sides,
    allowed_error,
    log_sum_exp,
    positive,
    quiet,
    read,
    summation,
)

_SOFTMAX_ULPS = 2.0  # the contract of softmax


@quiet
def certify(
    x: Any,
    *,
    y: Any = None,
    p: Any = None,
    t: float | None = None,
    tau: float | None = None,
    k: int = 1,
    weight: float = 0.5,
    axis: int = -1,
    logsumexp: Any = None,
    ulps: float = 1.0,
) -> Report:
    """
    Check a log-sum-exp against every bound that the arguments allow.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Log-weights, in nats; -inf masks an entry, +inf and NaN are values like others.
    y : array_like, shape of `x`, optional
        Other log-weights, finite or -inf, for the bounds from two rows. Scaled, they are also
        the direction `u` of the curvature, which is `x` without them.
    p : array_like, shape of `x`, optional
        Probabilities, for the bounds `entropy`, `cauchy` and `hoelder`.
    t : float, optional
        An order above 1 for `hoelder`, which is evaluated for ``inf`` in any case.
    tau : float, optional
        A temperature above 0, for `tempered`, `tempered_mean`, `tempered_difference`, `scaled`
        with ``s = 1 / tau`` and, with `y`, `quadratic`.
    k : int, default 1
        How many terms `top_k` sums.
    weight : float, default 0.5
        The weight of `x` in `convexity`.
    axis : int, default -1
        The axis of the `n` entries.
    logsumexp : array_like, shape of `x` without `axis`, optional
        The log-sum-exp of `x` to certify, from anywhere. Default: that of `logitkit.logsumexp`.
    ulps : float, default 1.0
        How far it may be off, in units in the last place of its value in the type of `x`.

    Returns
    -------
    Report
        Whether each bound holds, by how much, and a table as its text.

    Raises
    ------
    ValueError
        If an argument does not fit the rows, or is one that the bounds refuse.

    Notes
    -----
    The bounds hold for real numbers. Here each is evaluated in ``float64``, and counts as
    violated if the value lies outside by more than the sum of three errors: that of the value
    itself, `ulps` units in the last place and 2^-100 more in ``float64``; that of what else the
    quantity consists of, such as the log-sum-exp of `y`; and that of the side, a bound on its
    rounding in the course of its evaluation. The last is zero for a maximum, some units in the
    last place for a formula, and grows like the logarithm of `n` for a sum. So a wrong result
    is found where a bound is sharp: in rows of one entry, of equal entries, and with
    ``p = softmax(x)``.

    A row with NaN must have the log-sum-exp NaN. Bounds on quantities other than ``lse(x)`` are
    not evaluated on rows with NaN or +inf, or without a visible entry.

    Examples
    --------
    >>> from logitkit import bounds
    >>> report = bounds.certify([0.0, 0.0], logsumexp=0.7)
    >>> report.holds, report.worst.name, round(report.worst.upper, 3)
    (False, 'basic', 0.693)
    """
    case = _Case.of(x, y, p, axis, logsumexp, ulps)
    orders = [np.inf] if t is None else [of_distribution.order(t), np.inf]
    weight = of_pair.fraction(weight)
    some = case.rows.values.shape[-1] > 0  # softmax of nothing is an error
    checks = [*_checks_of_row(case)]
    if some:
        checks += [_check_of_top_k(case, k), *_checks_of_curvature(case)]
    if case.weights is not None:
        checks += _checks_of_distribution(case, case.weights, orders)
    if case.others is not None:
        checks += _checks_of_pair(case, case.others, weight)
        checks += _checks_of_softmax(case, case.others) if some else []
    if tau is not None:
        checks += _checks_of_temperature(case, positive("tau", tau))
    return Report(tuple(checks), case.rows.max.shape)


@dataclass(frozen=True)
class _Case:
    """The arguments, and the log-sum-exp that is under test."""

    x: Any  # as given, broadcast, with the axis last
    rows: Rows
    others: Rows | None
    weights: Array | None
    lse: Array
    error: Array  # that `lse` is allowed

    @classmethod
    def of(cls, x: Any, y: Any, p: Any, axis: int, lse: Any, ulps: float) -> _Case:
        """Read the arguments, and broadcast them."""
        given = {name: v for name, v in {"x": x, "y": y, "p": p}.items() if v is not None}
        read(axis, **given)  # says what does not fit
        x = real_array("x", x)
        x = np.broadcast_to(x, np.broadcast_shapes(*(np.shape(v) for v in given.values())))
        (rows,) = read(axis, x=x)
        others = None if y is None else of_pair.read_pair(x, y, axis)[1]
        weights = None if p is None else of_distribution.read_distribution(x, p, axis)[1]
        value = default_logsumexp(x, axis=axis) if lse is None else real_array("logsumexp", lse)
        try:
            value = np.broadcast_to(np.asarray(value, np.float64), rows.max.shape)
        except ValueError as error:
            raise ValueError(
                f"expected logsumexp of shape {rows.max.shape}, not {np.shape(value)}"
            ) from error
        allowed = allowed_error(value, rows.dtype, ulps)
        return cls(np.moveaxis(x, axis, -1), rows, others, weights, value, allowed)

    @cached_property
    def softmax(self) -> tuple[Array, float]:
        """Its softmax, in the type of `x`, and the relative error that it is allowed."""
        return np.asarray(softmax(self.x, axis=-1), np.float64), _SOFTMAX_ULPS * epsilon(
            self.rows.dtype
        )

    def check_lse(self, name: str, sides: Sides) -> Check:
        """Compare the log-sum-exp itself with its bounds."""
        return Check(name, "lse(x)", *_allowing(sides, self.lse, self.error))

    def check(self, name: str, quantity: str, sides: Sides, value: Array, error: Array) -> Check:
        """Compare another quantity with its bounds, in rows that have a softmax."""
        proper = np.isfinite(self.rows.max)
        if self.others is not None:
            proper = proper & np.isfinite(self.others.max)
        parts = _allowing(sides, value, error)
        return Check(name, quantity, *(np.where(proper, part, np.nan) for part in parts))


@quiet
def _allowing(sides: Sides, value: Array, error: Array) -> tuple[Array, ...]:
    """Return sides and value in the order of `Check`, with what rounding may have done."""
    lower, upper, lower_rounding, upper_rounding = sides
    return lower, value, upper, lower_rounding + error, upper_rounding + error


def _checks_of_row(case: _Case) -> Iterator[Check]:
    rows = case.rows
    yield case.check_lse("basic", of_row.basic_sides(rows))
    yield case.check_lse("mean", of_row.mean_sides(rows))
    place = np.where(np.isfinite(rows.max), rows.max, 0.0)
    yield case.check_lse("bouchard", of_row.bouchard_sides(rows, place))


def _check_of_top_k(case: _Case, k: int) -> Check:
    return case.check_lse(f"top_k k={k}", of_row.top_k_sides(case.rows, k))


@quiet
def _checks_of_curvature(case: _Case) -> list[Check]:
    """Return those of the variance of a direction under softmax(x)."""
    direction = case.rows if case.others is None else case.others
    u = np.where(case.rows.visible & np.isfinite(direction.values), direction.values, 0.0)
    _, exponent = np.frexp(np.max(np.abs(u), axis=-1, keepdims=True))
    u = np.ldexp(u, -exponent)  # below 1, so that no square overflows
    lowest = np.min(u, axis=-1, where=case.rows.visible, initial=np.inf, keepdims=True)
    above = np.where(case.rows.visible, u - lowest, 0.0)
    p, relative = case.softmax
    centred = np.where(p > 0.0, above - np.sum(p * above, axis=-1, keepdims=True), 0.0)
    value = np.sum(p * centred * centred, axis=-1)
    # Terms are off in proportion, and the mean by up to `off`, which adds its square.
    width, n = np.max(above, axis=-1, initial=0.0), u.shape[-1]
    off = 2.0 * (relative + summation(n))
    error = 2.0 * off * value + (off * width) ** 2
    error += 4.0 * n * smallest_normal(case.rows.dtype)  # what underflows
    bounds = {
        "variance": of_softmax.variance_sides,
        "boehning": of_softmax.boehning_sides,
        "hessian": of_softmax.hessian_sides,
    }
    return [
        case.check(bound, "Var_p(u)", f(case.rows, u), value, error) for bound, f in bounds.items()
    ]


def _checks_of_distribution(case: _Case, p: Array, orders: list[float]) -> Iterator[Check]:
    yield case.check_lse("entropy", of_distribution.hoelder_sides(case.rows, p, 1.0))
    yield case.check_lse("cauchy", of_distribution.hoelder_sides(case.rows, p, 2.0))
    for t in orders:
        sides = of_distribution.hoelder_sides(case.rows, p, t)
        yield case.check_lse(f"hoelder t={t:g}", sides)


def _checks_of_pair(case: _Case, others: Rows, weight: float) -> Iterator[Check]:
    rows = case.rows
    yield case.check_lse("tangent", of_expansion.tangent_sides(rows, others))
    yield case.check_lse("quadratic", of_expansion.quadratic_sides(rows, others, 1.0))

    lse_y, error_y = log_sum_exp(others.values)
    change = case.lse - lse_y
    error = case.error + error_y + UNIT * np.abs(change)
    quantity = "lse(x) - lse(y)"
    sides = of_pair.difference_sides(rows, others)
    yield case.check("difference", quantity, sides, change, error)
    yield case.check("lipschitz", quantity, of_pair.lipschitz_sides(rows, others), change, error)

    parts = weight * rows.values, (1.0 - weight) * others.values
    lse_mixed, error = log_sum_exp(parts[0] + parts[1])
    terms = weight * case.lse, (1.0 - weight) * lse_y
    gap = terms[0] + terms[1] - lse_mixed
    error += weight * case.error + (1.0 - weight) * error_y
    # Weights, products and sums: entries of the mixture are off like the terms of the gap.
    error += 4.0 * UNIT * (weight * rows.size + (1.0 - weight) * others.size)
    error += 4.0 * UNIT * (np.abs(terms[0]) + np.abs(terms[1]) + np.abs(gap))
    sides = of_pair.convexity_sides(rows, others, weight)
    yield case.check(f"convexity w={weight:g}", "gap of Jensen", sides, gap, error)


def _checks_of_softmax(case: _Case, others: Rows) -> Iterator[Check]:
    p, relative = case.softmax
    q = np.asarray(softmax(others.values, axis=-1), np.float64)
    change, n = p - q, p.shape[-1]
    error = np.full(case.rows.max.shape, 2.0 * relative + 2.0 * summation(n))
    for ord in (1, 2, np.inf):
        sides = of_softmax.softmax_lipschitz_sides(case.rows, others, ord)
        value = np.linalg.norm(change, ord, axis=-1)
        yield case.check(f"softmax_lipschitz ord={ord}", "|p - q|", sides, value, error)
    value = np.linalg.norm(change, 1, axis=-1) / 2.0
    sides = of_softmax.total_variation_sides(case.rows, others)
    yield case.check("total_variation", "|p - q| / 2", sides, value, error)


def _checks_of_temperature(case: _Case, tau: float) -> Iterator[Check]:
    rows, case_alone = case.rows, replace(case, others=None)
    value = np.asarray(smooth_max(rows.values, axis=-1, tau=tau))
    most = tau * rows.log_count
    error = 3.0 * UNIT * most + 2.0 * UNIT * np.abs(value)  # the contract of smooth_max
    at = f"tau={tau:g}"
    yield case_alone.check(
        f"tempered {at}", "tau lse(x/tau)", of_temperature.tempered_sides(rows, tau), value, error
    )
    sides = of_temperature.tempered_mean_sides(rows, tau)
    mean, more = value - most, UNIT * (3.0 * most + np.abs(value))
    yield case_alone.check(f"tempered_mean {at}", "tau lme(x/tau)", sides, mean, error + more)

    change, more = value - case.lse, case.error + UNIT * np.abs(value)
    sides = of_temperature.tempered_difference_sides(rows, tau, 1.0)
    quantity = "tau lse(x/tau) - lse(x)"
    yield case_alone.check(f"tempered_difference {at}", quantity, sides, change, error + more)

    s = 1.0 / tau
    multiple, more = log_sum_exp(s * rows.values)
    sides = of_temperature.scaled_sides(rows, s, case.lse, case.error)
    more = more + 2.0 * UNIT * s * rows.size
    yield case_alone.check(f"scaled s={s:g}", "lse(s x)", sides, multiple, more)

    if case.others is not None:
        sides = of_expansion.quadratic_sides(rows, case.others, tau)
        yield case.check(f"quadratic {at}", "tau lse(x/tau)", sides, value, error)
