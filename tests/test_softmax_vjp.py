"""Vector-Jacobian products of the softmax family against definitions and differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from logitkit import (
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    logsumexp_vjp,
    reference,
    softmax,
    softmax_vjp,
)

INF, NAN = np.inf, np.nan
NUMBERS = st.floats(-20, 20, width=32)
U = {np.float32: 2.0**-24, np.float64: 2.0**-53}


@st.composite
def cases(draw):
    """Draw logits, a cotangent of their shape, and an axis, axes or None."""
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=5))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    x, g = (draw(arrays(dtype, shape, elements=NUMBERS)) for _ in range(2))
    one = st.integers(-x.ndim, x.ndim - 1)
    some = st.lists(one, unique_by=lambda i: i % x.ndim).map(tuple)
    return x, g, draw(st.none() | one | some)


def differences(loss, x):
    """Return the gradient of a loss at `x` by central differences, which err by about 1e-9."""
    step = 1e-6
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        shifted = np.zeros_like(x)
        shifted[i] = step
        gradient[i] = (loss(x + shifted) - loss(x - shifted)) / (2 * step)
    return gradient


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), ()])
def test_gradients_are_those_of_the_functions(axis):
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, 3, 2, 4))
    for function, vjp in ((softmax, softmax_vjp), (log_softmax, log_softmax_vjp)):
        expected = differences(lambda z, f=function: np.sum(g * f(z, axis=axis)), x)
        np.testing.assert_allclose(vjp(function(x, axis=axis), g, axis=axis), expected, atol=1e-7)
    for keepdims in (False, True):
        h = rng.normal(size=np.sum(x, axis=axis, keepdims=keepdims).shape)
        expected = differences(
            lambda z, h=h, keep=keepdims: np.sum(h * logsumexp(z, axis, keepdims=keep)), x
        )
        actual = logsumexp_vjp(x, h, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(actual, expected, atol=1e-7)


@given(cases())
def test_softmax_vjp_is_within_contract(case):
    x, g, axis = case
    y = softmax(x, axis=axis)
    actual = softmax_vjp(y, g, axis=axis)
    assert (actual.dtype, actual.shape) == (x.dtype, x.shape)
    wide = y.astype(np.longdouble), g.astype(np.longdouble)
    expected = reference.softmax_vjp(*wide, axis=axis)
    magnitude = y * (np.abs(g) + np.sum(np.abs(wide[0] * wide[1]), axis=axis, keepdims=True))
    terms = 4 if x.dtype == np.float32 else 4 + x.size
    bound = terms * U[x.dtype.type] * magnitude + np.finfo(x.dtype).smallest_subnormal * x.size
    assert np.all(np.abs(actual - expected) <= bound)


@given(cases())
def test_log_softmax_vjp(case):
    x, g, axis = case
    y = log_softmax(x, axis=axis)
    actual = log_softmax_vjp(y, g, axis=axis)
    assert (actual.dtype, actual.shape) == (x.dtype, x.shape)
    expected = reference.log_softmax_vjp(y, g, axis=axis)
    total = np.sum(np.abs(g, dtype=np.float64), axis=axis, keepdims=True)
    error = np.abs(actual - expected)
    # NumPy's exp errs by up to 4 ulp in float32.
    assert np.all(error <= (x.size + 10) * U[x.dtype.type] * (np.abs(g) + np.exp(y) * total))


@given(cases(), st.booleans())
def test_logsumexp_vjp(case, keepdims):
    x, g, axis = case
    h = np.asarray(np.max(g, axis=axis, keepdims=keepdims))
    actual = logsumexp_vjp(x, h, axis=axis, keepdims=keepdims)
    assert (actual.dtype, actual.shape) == (x.dtype, x.shape)
    expected = reference.logsumexp_vjp(x, h, axis=axis, keepdims=keepdims)
    # Two units in the last place of the softmax, and those of the reference and the product.
    tiny = np.finfo(x.dtype).smallest_subnormal * (4 + 4 * np.abs(g).max())
    np.testing.assert_allclose(actual, expected, rtol=50 * U[x.dtype.type], atol=tiny)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masked_elements_and_lines(dtype):
    x = np.array([[-INF, 0.0, 0.0], [-INF, -INF, -INF], [0.0, INF, 0.0], [0.0, NAN, 0.0]], dtype)
    g = np.array([4.0, 4.0, 4.0, 4.0], dtype)
    expected = [[0.0, 2.0, 2.0], [0.0, 0.0, 0.0], [NAN, NAN, NAN], [NAN, NAN, NAN]]
    for function in (logsumexp_vjp, reference.logsumexp_vjp):
        np.testing.assert_array_equal(function(x, g, axis=1), expected)
    y = np.array([[0.0, 0.5, 0.5], [0.0, 0.0, 0.0], [NAN, NAN, NAN]], dtype)
    g = np.array([[1.0, 2.0, 4.0]] * 3, dtype)
    expected = [[0.0, -0.5, 0.5], [0.0, 0.0, 0.0], [NAN, NAN, NAN]]
    for function in (softmax_vjp, reference.softmax_vjp):
        np.testing.assert_array_equal(function(y, g, axis=1), expected)
    y = np.array([[-INF, 0.0, -INF], [-INF, -INF, -INF], [NAN, NAN, NAN]], dtype)
    expected = [[1.0, -5.0, 4.0], [0.0, 0.0, 0.0], [NAN, NAN, NAN]]
    for function in (log_softmax_vjp, reference.log_softmax_vjp):
        np.testing.assert_array_equal(function(y, g, axis=1), expected)


def test_long_sums_accumulate_in_double():
    # Along axis 0 a million products of float32, which naive sums would leave four digits.
    n = 10**6
    y, g = np.full((n, 1), 1 / n, np.float32), np.full((n, 1), 1.1, np.float32)
    actual = softmax_vjp(y, g, axis=0)
    expected = reference.softmax_vjp(y, g, axis=0)
    assert np.abs(actual - expected).max() <= 8 * 2.0**-24 * y[0, 0] * g[0, 0]


def test_types_promote():
    y, g = np.float32([0.5, 0.5]), np.array([1.0, 0.0])
    assert softmax_vjp(y, g).dtype == np.float64
    assert log_softmax_vjp(y.astype(np.float16), np.float16([1, 0])).dtype == np.float16
    assert logsumexp_vjp([1, 2], 1).dtype == np.float64
    assert softmax_vjp(1.0, 3.0) == 0.0
    assert logsumexp_vjp(1.0, 3.0) == 3.0


def test_arguments_are_left_alone():
    x, g = np.zeros((2, 3)), np.ones((2, 3))
    for vjp in (softmax_vjp, log_softmax_vjp):
        vjp(x, g, axis=1)
    logsumexp_vjp(x, g[:, 0], axis=1)
    np.testing.assert_array_equal(x, 0.0)
    np.testing.assert_array_equal(g, 1.0)


def test_bad_arguments_are_errors():
    x = np.zeros((2, 3))
    for vjp in (softmax_vjp, log_softmax_vjp):
        with pytest.raises(ValueError, match=r"g of shape \(2, 3\).*not \(3,\)"):
            vjp(x, x[0])
        with pytest.raises(TypeError, match="not complex128"):
            vjp(x * 1j, x)
        with pytest.raises(np.exceptions.AxisError):
            vjp(x, x, axis=2)
    with pytest.raises(ValueError, match=r"g of shape \(2,\).*not \(2, 1\)"):
        logsumexp_vjp(x, np.zeros((2, 1)), axis=1)
    with pytest.raises(TypeError, match="not complex128"):
        logsumexp_vjp(x * 1j, 1.0)
