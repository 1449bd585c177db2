"""logitkit.log1mexp and its relatives against 60 digits, and as laws."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitkit
from logitkit import log1mexp, logaddexp, logmeanexp, logsubexp, logsumexp, reference, smooth_max

INF, NAN = np.inf, np.nan
NEAR_ZERO = {np.float32: Decimal(0), np.float64: Decimal(2) ** -100}  # the error of logsumexp
UNIT = {np.float32: Decimal(2) ** -24, np.float64: Decimal(2) ** -53}


@pytest.fixture(autouse=True)
def digits():
    with localcontext() as context:
        context.prec = 60
        yield context


def exact_logsumexp(values):
    values = [Decimal(float(v)) for v in values]
    top = max(values)
    return sum((v - top).exp() for v in values).ln() + top


def exact_log1mexp(x):
    with localcontext() as context:
        context.prec = 400  # 1 - exp(-1e-300)
        return (1 - Decimal(float(x)).exp()).ln()


def ulp(exact, dtype):
    """One unit in the last place of a type at an exact value."""
    return Decimal(float(np.spacing(abs(dtype(float(exact))))))


def error(actual, exact):
    return abs(Decimal(float(actual)) - exact)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_log1mexp_is_within_its_contract(dtype):
    in_float64 = 3 if np.__version__.startswith("1.") else 2
    most = 1 if dtype == np.float32 else in_float64
    ln2 = math.log(2.0)
    rng = np.random.default_rng(0)
    x = -np.concatenate(
        [
            np.geomspace(1e-30 if dtype == np.float32 else 1e-300, 80.0, 150),
            rng.uniform(0.5, 1.0, 150),
            ln2 * (1.0 + np.linspace(-1e-7, 1e-7, 11)),
            [ln2, np.nextafter(ln2, 0.0), 36.0, 100.0 if dtype == np.float32 else 700.0],
        ]
    ).astype(dtype)
    for value, result in zip(x, log1mexp(x), strict=True):
        exact = exact_log1mexp(value)
        assert error(result, exact) <= most * ulp(exact, dtype), value


def test_log1mexp_special_values():
    x = np.array([0.0, -0.0, -INF, 1.0, INF, NAN, -1e4, 5e-324, -5e-324])
    expected = [-INF, -INF, 0.0, NAN, NAN, NAN, 0.0, NAN, math.log(5e-324)]
    np.testing.assert_array_equal(log1mexp(x), expected)


@given(st.floats(-30.0, -1e-9))
def test_log1mexp_is_its_own_inverse(x):
    # The complement of the complement; the condition number is that of the map.
    y = float(log1mexp(x))
    sensitivity = math.exp(y) / -math.expm1(y)
    assert float(log1mexp(y)) == pytest.approx(x, rel=1e-15, abs=4e-16 * (1 + sensitivity * abs(y)))


def log_odds(p):
    return np.log(p), np.log1p(-p)


PAIRS = {
    "normal": lambda rng: (rng.normal(size=200), rng.normal(size=200)),
    "far": lambda rng: (30.0 * rng.normal(size=200), 30.0 * rng.normal(size=200)),
    "large": lambda rng: 1e4 + rng.normal(size=(2, 200)),
    "zero and below": lambda rng: (np.zeros(200), -rng.exponential(20.0, 200)),
    "sums to one": lambda rng: log_odds(rng.uniform(0.01, 0.99, 200)),
    "nearly sums to one": lambda rng: (
        -rng.uniform(1.0, 2.0, 200) * 1e-9,
        np.log(rng.uniform(1.0, 2.0, 200) * 1e-9),
    ),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", PAIRS)
def test_logaddexp_is_within_its_contract(name, dtype):
    x1, x2 = (np.asarray(v, dtype) for v in PAIRS[name](np.random.default_rng(1)))
    for a, b, result in zip(x1, x2, logaddexp(x1, x2), strict=True):
        exact = exact_logsumexp([a, b])
        assert error(result, exact) <= ulp(exact, dtype) + NEAR_ZERO[dtype]


def test_logaddexp_is_where_numpy_is_not():
    # That is why it exists: where the weights sum to one, NumPy's is off by its own rounding.
    x1, x2 = PAIRS["sums to one"](np.random.default_rng(2))
    exact = [exact_logsumexp(pair) for pair in zip(x1, x2, strict=True)]
    for result, of_numpy, e in zip(logaddexp(x1, x2), np.logaddexp(x1, x2), exact, strict=True):
        assert error(result, e) <= ulp(e, np.float64) + NEAR_ZERO[np.float64]
        assert error(of_numpy, e) > 1000 * ulp(e, np.float64)


@pytest.mark.parametrize(
    ("x1", "x2"),
    [(INF, INF), (INF, -INF), (-INF, -INF), (-INF, 1.0), (INF, 1.0), (NAN, 1.0), (NAN, INF)],
)
def test_logaddexp_has_the_special_values_of_numpy(x1, x2):
    for a, b in ((x1, x2), (x2, x1)):
        with np.errstate(invalid="ignore"):  # NumPy's warns of a NaN
            expected = np.logaddexp(a, b)
        np.testing.assert_array_equal(logaddexp(a, b), expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", PAIRS)
def test_logsubexp_is_within_its_contract(name, dtype):
    pair = np.stack([np.asarray(v, dtype) for v in PAIRS[name](np.random.default_rng(3))])
    low, high = np.sort(pair, axis=0)
    close = np.nextafter(high, dtype(-INF))
    for x2 in (low, close, high - dtype(1e-3)):
        x2 = np.where(x2 < high, x2, close)
        for a, b, result in zip(high, x2, logsubexp(high, x2), strict=True):
            with localcontext() as context:
                context.prec = 400
                top = Decimal(float(a))
                exact = top + (1 - (Decimal(float(b)) - top).exp()).ln()
            allowed = 4 * UNIT[np.float64] * (1 + abs(top) + abs(exact))
            if dtype == np.float32:
                allowed += ulp(exact, dtype) / 2
            assert error(result, exact) <= allowed


def test_logsubexp_special_values():
    nothing = [(1.0, 1.0), (-INF, -INF), (0.0, -0.0), (1e300, 1e300)]
    for a, b in nothing:
        assert logsubexp(a, b) == -INF
    for a, b in [
        (0.0, 1.0),
        (-INF, 0.0),
        (INF, INF),
        (0.0, INF),
        (-INF, INF),
        (NAN, 0.0),
        (0.0, NAN),
    ]:
        assert np.isnan(logsubexp(a, b)), (a, b)
    assert logsubexp(2.5, -INF) == 2.5
    assert logsubexp(INF, 2.5) == INF
    assert logsubexp(INF, -INF) == INF
    assert logsubexp(1e308, -1e308) == 1e308


@given(st.floats(-100.0, 100.0), st.floats(-100.0, 100.0))
def test_logsubexp_undoes_logaddexp(a, b):
    total = logaddexp(a, b)
    left = float(logsubexp(total, b))
    # A unit in the last place of the total is this much of a.
    lost = 2.0**-50 * (1.0 + max(abs(a), abs(b))) * (1.0 + math.exp(min(b - a, 30.0)))
    if lost < 0.1:
        assert left == pytest.approx(a, abs=4.0 * lost)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_logmeanexp_is_within_its_contract(n, dtype):
    a = (5.0 * np.random.default_rng(n).normal(size=(4, n))).astype(dtype)
    a[0] = 0.25
    for row, result in zip(a, logmeanexp(a, axis=1), strict=True):
        total, log_n = exact_logsumexp(row), Decimal(n).ln()
        exact = total - log_n
        allowed = ulp(total, dtype) + NEAR_ZERO[dtype] + ulp(log_n, np.float64) / 2
        assert error(result, exact) <= allowed + ulp(exact, dtype) / 2


def test_logmeanexp_special_values():
    assert logmeanexp([1000.0, 1000.0]) == 1000.0
    assert logmeanexp([-INF, -INF]) == -INF
    assert logmeanexp([INF, 0.0]) == INF
    assert np.isnan(logmeanexp([NAN, INF]))
    assert logmeanexp([0.0, -INF]) == pytest.approx(-math.log(2.0), rel=1e-15)
    assert np.isnan(logmeanexp([]))
    np.testing.assert_array_equal(logmeanexp(np.zeros((2, 0)), axis=1), [NAN, NAN])
    assert logmeanexp(np.zeros((2, 0)), axis=0).shape == (0,)


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("function", ["logmeanexp", "smooth_max"])
def test_reductions_over_axes(function, axis, keepdims):
    a = np.random.default_rng(4).normal(size=(2, 3, 4))
    options = {"tau": 0.5} if function == "smooth_max" else {}
    result = getattr(logitkit, function)(a, axis, keepdims=keepdims, **options)
    expected = getattr(reference, function)(a, axis, keepdims=keepdims, **options)
    assert np.shape(result) == np.shape(np.sum(a, axis=axis, keepdims=keepdims))
    np.testing.assert_allclose(result, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("tau", [1e-300, 1e-30, 1e-3, 0.3, 1.0, 7.0, 1e4, 1e40])
@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_smooth_max_is_within_its_contract(n, tau, dtype):
    x = np.random.default_rng(n).normal(size=(4, n))
    x = (x * [[1.0], [30.0], [1e-3], [1.0]] + [[0.0], [0.0], [0.0], [1e5]]).astype(dtype)
    for row, result in zip(x, smooth_max(x, axis=1, tau=tau), strict=True):
        t, top = Decimal(tau), Decimal(float(row.max()))
        exact = t * sum(((Decimal(float(v)) - top) / t).exp() for v in row).ln() + top
        allowed = 3 * t * Decimal(n).ln() + abs(exact)
        if dtype == np.float32 and abs(exact) > Decimal(float(np.finfo(dtype).max)):
            assert np.isinf(result)
        else:
            second_order = 1 + 4 * UNIT[dtype]
            assert error(result, exact) <= UNIT[dtype] * allowed * second_order


def test_smooth_max_special_values():
    assert smooth_max([], tau=1.0) == -INF
    assert smooth_max([-INF, -INF], tau=1.0) == -INF
    assert smooth_max([INF, 0.0], tau=1.0) == INF
    assert np.isnan(smooth_max([NAN, INF], tau=1.0))
    assert smooth_max([-INF, 2.5], tau=1.0) == 2.5
    assert smooth_max([1e300, -1e300], tau=1e-300) == 1e300
    assert smooth_max(np.float32([3e38, -3e38]), tau=1e-45) == np.float32(3e38)
    assert smooth_max([1e308, -1e308], tau=1e307) == pytest.approx(1e308, rel=1e-8)


@given(
    st.lists(st.floats(-100.0, 100.0), min_size=1, max_size=10),
    st.floats(1e-3, 1e3),
    st.floats(1.0, 10.0),
)
def test_smooth_max_rises_with_the_temperature(x, tau, factor):
    cold, hot = smooth_max(x, tau=tau), smooth_max(x, tau=factor * tau)
    slack = 1e-13 * (1.0 + abs(hot) + factor * tau * math.log(len(x)))
    assert max(x) <= cold + slack
    assert cold <= hot + slack
    log_n = math.log(len(x))
    assert hot - factor * tau * log_n <= cold - tau * log_n + slack


@pytest.mark.parametrize("tau", [0.0, -1.0, NAN, INF])
def test_smooth_max_refuses_other_temperatures(tau):
    with pytest.raises(ValueError, match=f"tau > 0 and finite, not {tau}"):
        smooth_max([0.0], tau=tau)


UNARY = {
    "log1mexp": log1mexp,
    "logmeanexp": logmeanexp,
    "smooth_max": lambda x: smooth_max(x, tau=2.0),
}
BINARY = {"logaddexp": logaddexp, "logsubexp": logsubexp}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_unary_types(name, dtype):
    x = -np.array([[0.5, 1.0], [2.0, 3.0]], dtype)
    result = UNARY[name](x)
    assert result.dtype == dtype
    exact = getattr(reference, name)(x, **({"tau": 2.0} if name == "smooth_max" else {}))
    np.testing.assert_allclose(result, exact, rtol=4 * np.finfo(dtype).eps)
    swapped = UNARY[name](x.astype(x.dtype.newbyteorder()))
    np.testing.assert_array_equal(swapped, result)
    np.testing.assert_array_equal(UNARY[name](np.repeat(x, 2, axis=1)[:, ::2]), result)


@pytest.mark.parametrize("name", UNARY)
def test_unary_integers_scalars_and_errors(name):
    for x in (-1, [-1, -2], np.array([-1, -2], np.int8), np.array([False])):
        assert UNARY[name](x).dtype == np.float64
    assert np.ndim(UNARY[name](-1.0)) == 0
    assert np.ndim(UNARY[name](np.float32(-1.0))) == 0
    for bad in ([1j], ["a"], np.array([1.0], np.longdouble)):
        with pytest.raises(TypeError, match="of real numbers of at most 64 bits, not"):
            UNARY[name](bad)


@pytest.mark.parametrize("name", BINARY)
def test_binary_types_are_those_of_numpy(name):
    f32, f64, i8 = np.float32([1.0, 2.0]), np.float64([1.0, 2.0]), np.int8([1, 2])
    for a, b in [(f32, f32), (f32, f64), (f64, f32), (f32, 0.5), (0.5, f32), (f64, 0.5), (f32, 0)]:
        assert BINARY[name](a, b).dtype == np.logaddexp(a, b).dtype, (a, b)
    assert BINARY[name](i8, i8).dtype == np.float64
    assert BINARY[name](1, 0).dtype == np.float64
    assert BINARY[name](f32.astype(np.float16), np.float16(0.5)).dtype == np.float16


@pytest.mark.parametrize("name", BINARY)
def test_binary_broadcasting(name):
    x1, x2 = np.arange(12.0).reshape(3, 4), np.array([[-1.0], [-2.0], [-3.0]])
    expected = getattr(reference, name)(x1, x2)
    result = BINARY[name](x1, x2)
    np.testing.assert_allclose(result, expected, rtol=1e-14)
    assert np.ndim(BINARY[name](2.0, 1.0)) == 0
    assert BINARY[name](np.zeros((0, 3)), np.zeros(3)).shape == (0, 3)
    with pytest.raises(ValueError, match="shape"):
        BINARY[name](np.zeros(2), np.zeros(3))
    with pytest.raises(TypeError, match="x2 of real numbers of at most 64 bits, not complex128"):
        BINARY[name](1.0, 1j)


def test_logaddexp_is_logsumexp_of_two():
    x = np.random.default_rng(5).normal(size=(2, 1000)).astype(np.float32)
    np.testing.assert_array_equal(logaddexp(*x), logsumexp(x, axis=0))
