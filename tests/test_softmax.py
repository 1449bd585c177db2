"""csrc/softmax, logitkit.softmax and logitkit.log_softmax against their definitions."""

from functools import cache

import exact
import numpy as np
import pytest

from logitkit import _cpu, log_softmax, logsumexp, reference, softmax

INF, NAN = np.inf, np.nan
ULP = 2.0  # the contract
TYPES = [np.float32, np.float64]
FUNCTIONS = [softmax, log_softmax]


def normal(*shape, spread=1.0, dtype=np.float32):
    return np.random.default_rng(shape[-1]).normal(scale=spread, size=shape).astype(dtype)


def definition(function):
    return getattr(reference, function.__name__)


def run(function, x, axis, isa, threads=1):
    """Run the kernel alone, fenced: a read past x gives NaN, a write past the result is seen."""
    fenced = np.full(x.size + 64, NAN, x.dtype)
    inside = fenced[32 : 32 + x.size].reshape(x.shape)
    inside[...] = x
    out = np.full(x.size + 2, 123.0, x.dtype)
    kernel = getattr(_cpu, function.__name__)
    kernel(inside, axis, out[1:-1].reshape(x.shape), threads=threads, isa=isa)
    assert out[0] == out[-1] == 123.0
    np.testing.assert_array_equal(inside, x)
    return out[1:-1].reshape(x.shape)


@cache
def with_exact_lines(function, shape, axis, spread, dtype):
    """Return an array of normal numbers, and the exact results of its lines."""
    x = normal(*shape, spread=spread, dtype=dtype)
    return x, [getattr(exact, function.__name__)(row) for row in np.moveaxis(x, axis, -1)]


def assert_within_contract(actual, axis, lines):
    smallest = 4.0 * float(np.finfo(actual.dtype).tiny)  # log_softmax may be zero below
    for result, line in zip(np.moveaxis(actual, axis, -1), lines, strict=True):
        for value, y, error in zip(result, line, exact.errors(result, line), strict=True):
            assert error <= ULP or (y < 0 and -y < smallest), f"{value!r} is {error} ulp from {y}"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1), (4, 2), (2, 4), (20, 16), (65, 3), (3, 1000), (1000, 2)])
@pytest.mark.parametrize("spread", [1e-3, 5.0, 40.0, 1000.0])
def test_is_within_contract(isa, function, shape, axis, spread, dtype):
    x, lines = with_exact_lines(function, shape, axis, spread, dtype)
    assert_within_contract(run(function, x, axis, isa), axis, lines)


@pytest.mark.parametrize("dtype", TYPES)
def test_log_softmax_of_what_dominates_keeps_its_digits(isa, dtype):
    x = np.array([[0.0, -20.0, -30.0]], dtype)  # -exp(-20) is far below the resolution of 1
    assert_within_contract(run(log_softmax, x, 1, isa), 1, [exact.log_softmax(x[0])])


@pytest.mark.parametrize("dtype", TYPES)
def test_probabilities_do_not_exceed_one(isa, dtype):
    x = normal(1000, 1, spread=100.0, dtype=dtype)
    np.testing.assert_array_equal(run(softmax, x, 1, isa), np.ones(x.shape))
    np.testing.assert_array_equal(run(log_softmax, x, 1, isa), np.zeros(x.shape))
    assert np.all(run(softmax, normal(1000, 3, spread=40.0, dtype=dtype), 1, isa) <= 1.0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [1, 3, 8, 15, 17, 64, 130, 1025])
def test_reads_and_writes_stay_inside(isa, function, dtype, axis, n, guarded):
    x = normal(*((n, 5) if axis == 0 else (5, n)), dtype=dtype)
    out, kernel = guarded(np.zeros_like(x)), getattr(_cpu, function.__name__)
    kernel(guarded(x), axis, out, isa=isa)
    np.testing.assert_array_equal(out, run(function, x, axis, isa))
    same = guarded(x)
    kernel(same, axis, same, isa=isa)
    np.testing.assert_array_equal(same, out)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(1, 300_000), (1000, 333), (100_000, 3)])
def test_threads_do_not_change_a_bit(isa, function, shape, axis, dtype):
    x = normal(*shape, dtype=dtype)
    one = run(function, x, axis, isa)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(run(function, x, axis, isa, threads), one)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("n", [1, 2, 16, 17, 1500])
@pytest.mark.parametrize(
    "special", [(-INF,), (INF,), (INF, INF), (INF, -INF), (NAN,), (NAN, INF), (NAN, -INF)]
)
@pytest.mark.parametrize("dtype", TYPES)
def test_specials_among_zeros(isa, function, n, special, dtype):
    x = np.zeros(n + len(special), dtype)
    x[-len(special) :] = special
    for given in (x, x[::-1].copy()):
        expected = definition(function)(given)
        for axis, shape in ((0, (-1, 1)), (1, (1, -1)), (1, (1, -1, 1))):
            actual = run(function, given.reshape(shape), axis, isa).ravel()
            np.testing.assert_allclose(actual, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("n", [1, 2, 16, 17, 1500])
@pytest.mark.parametrize("dtype", TYPES)
def test_fully_masked_lines_have_no_result(function, n, dtype):
    x = np.full((3, n), -INF, dtype)
    x[1] = 0.0
    assert np.all(np.isnan(function(x, axis=1)) == [[True], [False], [True]])
    assert np.all(np.isnan(function(x.T.copy(), axis=0)) == [True, False, True])


@pytest.mark.parametrize("dtype", TYPES)
def test_extreme_numbers(dtype):
    largest = np.finfo(dtype).max
    x = np.array([[largest, -largest], [-largest, -largest], [largest, largest]])
    np.testing.assert_array_equal(softmax(x, axis=1), [[1, 0], [0.5, 0.5], [0.5, 0.5]])
    log = log_softmax(x, axis=1)
    assert log[0, 0] == 0.0
    assert log[0, 1] == -INF  # -2 max
    np.testing.assert_array_equal(log[1:], np.log(dtype(0.5)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_laws(dtype, axis):
    x = normal(60, 70, spread=5.0, dtype=dtype)
    p, log_p = softmax(x, axis=axis), log_softmax(x, axis=axis)
    eps = np.finfo(dtype).eps
    # Each term errs by 2 ulp, at most 2 eps of it, and so does their sum.
    np.testing.assert_allclose(p.astype(np.longdouble).sum(axis=axis), 1.0, rtol=2 * eps)
    # exp turns the absolute error of log_p into a relative one of p.
    np.testing.assert_allclose(p, np.exp(log_p.astype(np.float64)), rtol=2 * eps * 40)
    assert np.abs(log_p).max() < 40
    lse = logsumexp(x, axis=axis, keepdims=True)
    np.testing.assert_allclose(log_p, x - lse.astype(np.float64), rtol=0, atol=2 * eps * 40)
    shifted = softmax(np.round(x * 64) / 64 + dtype(32), axis=axis)  # both of which are exact
    np.testing.assert_allclose(shifted, softmax(np.round(x * 64) / 64, axis=axis), rtol=4 * eps)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, (0, 2), (1, 2), (2, 0, 1), ()])
def test_axis(function, dtype, axis):
    x = normal(3, 4, 5, dtype=dtype)
    actual = function(x, axis)
    assert (actual.shape, actual.dtype) == (x.shape, x.dtype)
    np.testing.assert_allclose(actual, definition(function)(x, axis), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("given", "returned"),
    [(t, t) for t in ("f2", "f4", "f8", "g", "F", "D")]
    + [(">f4", "f4"), (">f8", "f8"), (">f2", "f2")]
    + [(t, "f8") for t in ("?", "i1", "u1", "i2", "i4", "u8")],
)
def test_type_in_is_type_out(function, given, returned):
    x = np.array([[1, 0], [0, 0]], given)  # where unsigned differences would wrap around
    actual = function(x, axis=1)
    assert actual.dtype == np.dtype(returned)
    expected = definition(function)(np.array([[1.0, 0.0], [0.0, 0.0]]), axis=1)
    np.testing.assert_allclose(actual, expected, rtol=4 * max(np.finfo(returned).eps, 1e-16))


def test_half_accumulates_in_single():
    x = np.zeros(5000, np.float16)  # in half precision the sum would stop at 2048
    np.testing.assert_array_equal(softmax(x), np.full(5000, np.float16(1 / 5000)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_complex(function):
    x = normal(4, 5, dtype=np.float64) + 1j * normal(4, 5, spread=2.0, dtype=np.float64)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    actual = function(x, axis=1)
    np.testing.assert_allclose(np.exp(actual) if function is log_softmax else actual, p, 1e-14)
    single = function(x.astype(np.complex64), axis=1)
    assert single.dtype == np.complex64
    np.testing.assert_allclose(single, actual, rtol=0, atol=100 * 2.0**-23)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (3, 0, 2)])
def test_empty(function, shape):
    x = np.zeros(shape, np.float32)
    for axis in (None, *range(x.ndim)):
        if axis is None or x.shape[axis] == 0:  # as in SciPy, there is no maximum
            with pytest.raises(ValueError, match="at least one element"):
                function(x, axis=axis)
        else:
            assert function(x, axis=axis).shape == shape


@pytest.mark.parametrize("function", FUNCTIONS)
def test_number(function):
    for x in (3, 2.5, np.float32(1), np.array(4.0)):
        for axis in (None, 0, -1):
            result = function(x, axis=axis)
            assert isinstance(result, np.floating)
            assert result == (1.0 if function is softmax else 0.0)
    with pytest.raises(np.exceptions.AxisError):
        function(3.0, axis=1)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("given", ["f2", "f4", "f8", "D"])
def test_out(function, axis, given):
    x = normal(6, 5).astype(given)
    expected = function(x, axis=axis)
    for out in (
        np.empty((6, 5), given),
        np.empty((6, 5), given, order="F"),
        np.empty((12, 5), given)[::-2],
        x.copy(),
    ):
        assert function(x, axis=axis, out=out) is out
        np.testing.assert_array_equal(out, expected)
    same = x.copy()
    assert function(same, axis=axis, out=same) is same
    np.testing.assert_array_equal(same, expected)
    same = np.asfortranarray(x)
    assert function(same, axis=axis, out=same) is same
    np.testing.assert_allclose(same, expected, rtol=4 * np.finfo(given).eps)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_out_that_overlaps_its_input(function):
    memory = normal(9, 5)
    x, out = memory[:8], memory[1:]
    expected = function(x, axis=1)
    np.testing.assert_array_equal(function(x, axis=1, out=out), expected)
    square = normal(5, 5)
    expected = function(square, axis=1)
    np.testing.assert_array_equal(function(square, axis=1, out=square.T), expected)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        ([0.0, 0.0], TypeError, "not a list"),
        (np.zeros(2, np.float64), TypeError, "float32.*not float64"),
        (np.zeros((2, 1), np.float32), ValueError, r"\(2,\).*not \(2, 1\)"),
        (np.broadcast_to(np.float32(0), 2), ValueError, "writeable"),
    ],
)
def test_out_that_does_not_fit_is_an_error(function, out, error, words):
    with pytest.raises(error, match=words):
        function(np.zeros(2, np.float32), out=out)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("axis", "error"),
    [(2, np.exceptions.AxisError), ((0, -2), ValueError), (1.0, TypeError), ([0], TypeError)],
)
def test_bad_axis_is_an_error(function, axis, error):
    with pytest.raises(error):
        function(np.zeros((2, 3), np.float32), axis=axis)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("x", ["a", None, np.datetime64("2020-01-01")])
def test_other_types_are_an_error(function, x):
    with pytest.raises(TypeError, match=r"not (<U1|object|datetime64)"):
        function(x)
