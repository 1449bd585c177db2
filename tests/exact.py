"""The softmax family in decimal arithmetic of 60 digits, and errors in units of the last place."""

import math
from decimal import Context, Decimal, localcontext

import numpy as np

DIGITS = Context(prec=60, Emin=-(10**9), Emax=10**9)


def logsumexp(row):
    """Return log(sum(exp(row))) of numbers below infinity, one of them finite."""
    return weighted_logsumexp(row, [1.0] * len(row))[0]


def weighted_logsumexp(row, weights):
    """
    Return log|t| and the sign of t, the sum of weights * exp(row), and its condition.

    That is the sum of the absolute values, divided by that of the sum.
    """
    with localcontext(DIGITS):
        shift = max(Decimal(float(x)) for x in row)
        terms = [
            Decimal(float(w)) * (Decimal(float(x)) - shift).exp()
            for w, x in zip(weights, row, strict=True)
        ]
        total, magnitude = sum(terms), sum(map(abs, terms))
        if total == 0:
            return Decimal("-Infinity"), 0, math.inf
        sign = 1 if total > 0 else -1
        return shift + abs(total).ln(), sign, float(magnitude / abs(total))


def log_softmax(row):
    """Return row - log(sum(exp(row))), with all digits near zero."""
    with localcontext(DIGITS):
        terms = [Decimal(float(x)) for x in row]
        shift = max(terms)
        largest = terms.index(shift)
        rest = sum((x - shift).exp() for i, x in enumerate(terms) if i != largest) + Decimal(0)
        small = rest < Decimal("1e-25")  # 1 + rest would lose digits; the series errs by rest^3
        log = rest - rest * rest / 2 if small else (1 + rest).ln()
        return [(x - shift) - log for x in terms]


def softmax(row):
    """Return exp(row) / sum(exp(row))."""
    with localcontext(DIGITS):
        return [y.exp() for y in log_softmax(row)]


def ulp(exact, dtype):
    """Return the unit in the last place of a number: the distance of its neighbours."""
    info = np.finfo(dtype)
    if not np.isfinite(float(exact)) or exact == 0:
        return float(info.smallest_subnormal)
    _, exponent = math.frexp(float(exact))
    return max(math.ldexp(1.0, exponent - info.nmant - 1), float(info.smallest_subnormal))


def errors(actual, exact):
    """Return the errors of an array, in ulp of the exact values, a list of the same length."""
    with localcontext(DIGITS):
        return [
            0.0
            if Decimal(float(a)) == e
            else float(abs(Decimal(float(a)) - e) / Decimal(ulp(e, actual.dtype)))
            for a, e in zip(np.ravel(actual), exact, strict=True)
        ]


def assert_logsumexp_contract(actual, exact):
    """Assert an error of at most 1 ulp; in float64, of 2^-100 more below 1e-3."""
    for a, e, error in zip(np.ravel(actual), exact, errors(actual, exact), strict=True):
        near_zero = actual.dtype == np.float64 and abs(e) < Decimal("1e-3")
        slack = 2.0**-100 / ulp(e, np.float64) if near_zero else 0.0
        assert error <= 1.0 + slack, f"{a!r} is {error:.3f} ulp from {e}"
