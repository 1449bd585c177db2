"""python/logitkit/_lines.py, and the softmax family on arrays of any shape, layout and type."""

import warnings

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import logitkit
from logitkit import reference
from logitkit._lines import Lines

INF, NAN = np.inf, np.nan
NUMBERS = st.floats(-30, 30, width=16) | st.sampled_from([0.0, -0.0, INF, -INF, NAN, 1e4, -1e4])
TYPES = ["f2", "f4", "f8", ">f4", ">f8"]


def release(module):
    return tuple(int(part) for part in module.__version__.split(".")[:2])


def dense_layouts(x):
    """Yield copies of `x` whose axes have several orders in memory."""
    yield x.copy()
    yield x.copy(order="F")
    for shift in range(1, x.ndim):
        order = np.roll(range(x.ndim), shift)
        yield x.transpose(order).copy().transpose(np.argsort(order))


def layouts(x):
    """Yield arrays of the shape of `x` in the ways that memory can be strange."""
    yield from dense_layouts(x)
    wide = np.ones([2 * n for n in x.shape], x.dtype)
    yield wide[(..., *(slice(None, None, 2) for _ in x.shape))]
    yield wide[(..., *(slice(None, None, -2) for _ in x.shape))]
    yield np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)  # not aligned
    yield x.astype(x.dtype.newbyteorder())


@st.composite
def strange_arrays(draw, types=TYPES):
    """Draw an array in any layout, and an axis, axes or None."""
    shape = draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    dtype = np.dtype(draw(st.sampled_from(types)))
    elements = st.integers(0, 40) if dtype.kind in "iu" else NUMBERS
    x = draw(arrays(dtype, shape, elements=elements))
    strange = draw(st.sampled_from(list(layouts(x))))
    strange[...] = x
    strange.flags.writeable = draw(st.booleans())
    ndim = len(shape)
    if ndim == 0:
        return strange, draw(st.sampled_from([None, 0, -1]))
    one = st.integers(-ndim, ndim - 1)
    some = st.lists(one, unique_by=lambda i: i % ndim).map(tuple)
    return strange, draw(st.none() | one | some)


def tolerances(x):
    """Those of the contracts, and what the reference in float64 leaves of cancelling digits."""
    eps = max(np.finfo(x.dtype).eps, np.finfo(np.float64).eps)
    magnitudes = np.abs(x[np.isfinite(x)], dtype=np.float64)
    return {"rtol": 4 * eps, "atol": 4 * 2.0**-52 * max(1.0, magnitudes.max(initial=0.0))}


def assert_same(actual, expected, x, **contract):
    assert np.shape(actual) == np.shape(expected)
    assert type(actual) is (np.ndarray if np.ndim(actual) else x.dtype.type)
    assert actual.dtype == x.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):
        expected = np.asarray(expected).astype(x.dtype)
    np.testing.assert_allclose(actual, expected, **(tolerances(x) | contract))


@given(strange_arrays(), st.booleans())
def test_logsumexp(array_and_axis, keepdims):
    x, axis = array_and_axis
    expected = reference.logsumexp(x, axis=axis, keepdims=keepdims)
    assert_same(logitkit.logsumexp(x, axis=axis, keepdims=keepdims), expected, x)
    if x.ndim:
        out = np.empty(np.shape(expected), x.dtype.newbyteorder("="), order="F")
        logitkit.logsumexp(x, axis=axis, keepdims=keepdims, out=out)
        assert_same(out[()], expected, x)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(array_and_axis=strange_arrays())
def test_softmax(name, array_and_axis):
    x, axis = array_and_axis
    function = getattr(logitkit, name)
    try:
        expected = getattr(reference, name)(x, axis=axis)
    except ValueError:
        with pytest.raises(ValueError, match="at least one element"):
            function(x, axis=axis)
        return
    assert_same(function(x, axis=axis), expected, x)
    out = np.empty(x.shape, x.dtype.newbyteorder("="), order="F")
    function(x, axis=axis, out=out)
    assert_same(out[()], expected, x)


@given(strange_arrays(), st.sampled_from([1.0, 0.0, 0.25]))
def test_softmax_stats(array_and_axis, scale):
    x, axis = array_and_axis
    expected = reference.softmax_stats(x, axis=axis, scale=scale)
    actual = logitkit.softmax_stats(x, axis=axis, scale=scale)
    e = 2.0**-48 if x.dtype.itemsize == 8 else 2.0**-22  # of the contract
    finite = np.abs(x[np.isfinite(x)], dtype=np.float64).max(initial=0.0)
    for got, value in zip(actual, expected, strict=True):
        assert_same(got, value, x, atol=e * (1.0 + scale * finite + np.log(x.size + 1.0)))


@pytest.mark.skipif(
    release(np) < (2, 0) or release(scipy) < (1, 16),
    reason="we follow SciPy 1.16 and NumPy 2, before which types were others",
)
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@given(array_and_axis=strange_arrays([*TYPES, "i4", "i8", "u8", "D"]))
def test_scipy_agrees(name, array_and_axis):
    x, axis = array_and_axis
    if x.size == 0 or (x.dtype.kind == "u" and name != "logsumexp"):
        return  # where SciPy raises errors of its own; where its differences wrap around
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = getattr(scipy.special, name)(x, axis=axis)
    actual = getattr(logitkit, name)(x, axis=axis)
    assert type(actual) is type(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    # SciPy sums in the type that it is given, over 625 elements at most.
    eps = np.finfo(expected.dtype).eps
    scale = np.abs(x[np.isfinite(x)]).max(initial=1.0)
    np.testing.assert_allclose(actual, expected, rtol=100 * eps, atol=100 * eps * float(scale))


@given(strange_arrays())
def test_lines_hold_what_is_reduced(array_and_axis):
    x, axis = array_and_axis
    x = np.atleast_1d(x)
    axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis).astype(int) % x.ndim)
    lines = Lines.of(x, axes, np.float64)
    assert lines.array.flags.c_contiguous
    np.testing.assert_array_equal(lines.unfold(lines.array, x.shape), x)
    expected = np.max(x, axis=axes, keepdims=True, initial=-INF)
    largest = lines.unfold(np.max(lines.array, axis=1, initial=-INF), expected.shape)
    np.testing.assert_array_equal(largest, expected)


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 1, 3, 2), (1, 1, 7), (6,)])
def test_dense_arrays_are_not_copied(shape):
    for x in dense_layouts(np.zeros(shape)):
        for axis in range(x.ndim):
            lines = Lines.of(x, (axis,), x.dtype)
            assert np.shares_memory(lines.array, x)
            assert np.shares_memory(lines.fold(x, in_place=True), x)
            assert lines.fold(x) is None
            result = logitkit.softmax(x, axis=axis)
            assert [s for s, n in zip(result.strides, shape, strict=True) if n > 1] == [
                s for s, n in zip(x.strides, shape, strict=True) if n > 1
            ]
        assert np.shares_memory(Lines.of(x, tuple(range(x.ndim)), x.dtype).array, x)


def test_adjacent_axes_are_merged_without_a_copy():
    x = np.zeros((2, 3, 4, 5)).transpose(0, 3, 1, 2)  # in memory: 0, 2, 3, 1
    lines = Lines.of(x, (2, 3), x.dtype)
    assert np.shares_memory(lines.array, x)
    assert lines.array.shape == (2, 12, 5)
    assert not np.shares_memory(Lines.of(x, (0, 3), x.dtype).array, x)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_bfloat16(name):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(bfloat16)
    actual = getattr(logitkit, name)(x, axis=1)
    assert actual.dtype == bfloat16
    expected = getattr(reference, name)(x, axis=1).astype(np.float32).astype(bfloat16)
    np.testing.assert_array_equal(actual, expected)
    if name != "logsumexp":
        out = np.empty((5, 3), bfloat16).T
        assert getattr(logitkit, name)(x, axis=1, out=out) is out
        np.testing.assert_array_equal(out, expected)
    else:
        log, sign = logitkit.logsumexp(x, axis=1, b=x, return_sign=True)
        assert log.dtype == sign.dtype == bfloat16
