"""logitkit.softmax_stats against its definition, and the kernel."""

import numpy as np
import pytest

from logitkit import SoftmaxStats, logsumexp, reference, softmax_stats

INF, NAN = np.inf, np.nan
TYPES = [np.float32, np.float64]
E = {np.float32: 2.0**-22, np.float64: 2.0**-51}  # of the contract


def normal(*shape, spread=1.0, dtype=np.float32):
    return np.random.default_rng(shape[-1]).normal(scale=spread, size=shape).astype(dtype)


def exact(x, axis, scale=1.0):
    """Return the statistics in extended precision, where the machine has it."""
    return reference.softmax_stats(x.astype(np.longdouble), axis, scale=scale)


def assert_within_contract(actual, x, axis, scale=1.0):
    expected = exact(x, axis, scale)
    largest = np.max(np.abs(x, dtype=np.float64) * scale, axis=axis, initial=0.0)
    e = E[x.dtype.type]
    error = SoftmaxStats(*(np.abs(a - b) for a, b in zip(actual, expected, strict=True)))
    assert np.all(error.logsumexp <= e * np.maximum(1.0, largest))
    assert np.all(error.entropy <= e * (1.0 + largest))
    assert np.all(error.sum_of_squares <= e * (1.0 + largest) * expected.sum_of_squares)
    assert np.all(error.max <= e * largest)  # which errs by the product alone


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (4, 16), (3, 65), (2, 1000), (1000, 3)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 3.0, 60.0])
@pytest.mark.parametrize("scale", [0.0, 0.125, 1.0, 3.0])
def test_is_within_contract(shape, axis, spread, scale, dtype):
    x = normal(*shape, spread=spread, dtype=dtype)
    assert_within_contract(softmax_stats(x, axis=axis, scale=scale), x, axis, scale)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [2, 16, 17, 1500])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_specials(axis, n, scale, dtype):
    x = normal(7, n, dtype=dtype)
    x[0, :] = -INF
    x[1, 1] = INF
    x[2, 0] = NAN
    x[3, : n // 2] = -INF
    x[4, [0, 1]] = INF, NAN
    x[5, 1:] = -INF
    stats = softmax_stats(x if axis == 1 else x.T.copy(), axis=axis, scale=scale)
    np.testing.assert_array_equal([value[0] for value in stats], [-INF, 0.0, -INF, 0.0])
    np.testing.assert_array_equal([value[1] for value in stats], [INF, NAN, INF, NAN])
    for row in (2, 4):
        np.testing.assert_array_equal([value[row] for value in stats], np.full(4, NAN))
    one = dtype(scale) * x[5, 0]
    np.testing.assert_array_equal([value[5] for value in stats], [one, 0.0, one, 1.0])
    masked = softmax_stats(x[3, n // 2 :].copy(), scale=scale)
    for value, alone in zip(stats, masked, strict=True):
        np.testing.assert_allclose(value[3], alone, rtol=0, atol=E[dtype] * 10)


@pytest.mark.parametrize("dtype", TYPES)
def test_laws(dtype):
    x = normal(50, 60, spread=4.0, dtype=dtype)
    stats = softmax_stats(x)
    tolerance = E[dtype] * (1.0 + np.abs(x).max())
    np.testing.assert_allclose(stats.logsumexp, logsumexp(x, axis=1), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(stats.max, x.max(axis=1))
    assert np.all(stats.entropy >= -tolerance)
    assert np.all(stats.entropy <= np.log(60) + tolerance)
    # Renyi's entropies fall with their order: 1, 2 and infinity here.
    assert np.all(-np.log(stats.sum_of_squares) <= stats.entropy + 2 * tolerance)
    assert np.all(stats.logsumexp - stats.max <= -np.log(stats.sum_of_squares) + 2 * tolerance)
    uniform = softmax_stats(x, scale=0.0)
    np.testing.assert_allclose(uniform.entropy, np.log(60), atol=tolerance)
    np.testing.assert_allclose(uniform.sum_of_squares, 1 / 60, rtol=tolerance)


def test_entropy_falls_with_the_scale():
    x = normal(20, 100)
    entropies = [softmax_stats(x, scale=scale).entropy for scale in np.linspace(0.0, 8.0, 30)]
    assert np.all(np.diff(entropies, axis=0) < E[np.float32] * 40)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (2, 1), (), 1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, bool])
def test_axis_and_type(axis, dtype):
    x = normal(3, 4, 5).astype(dtype)
    stats = softmax_stats(x, axis)
    assert isinstance(stats, SoftmaxStats)
    expected = reference.softmax_stats(x, axis)
    result = np.dtype(dtype if np.issubdtype(dtype, np.floating) else np.float64)
    for actual, value in zip(stats, expected, strict=True):
        assert actual.dtype == result
        assert actual.shape == np.sum(x, axis=axis).shape
        np.testing.assert_allclose(actual, value, rtol=0, atol=10 * np.finfo(result).eps)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_empty(shape):
    stats = softmax_stats(np.zeros(shape, np.float32))
    for value, expected in zip(stats, [-INF, 0.0, -INF, 0.0], strict=True):
        np.testing.assert_array_equal(value, np.full(shape[:-1], expected))


def test_number():
    assert softmax_stats(2.0, scale=3.0) == (6.0, 0.0, 6.0, 1.0)


@pytest.mark.parametrize("scale", [-1.0, INF, NAN])
def test_bad_scale_is_an_error(scale):
    with pytest.raises(ValueError, match=f"0 <= scale < inf, not {scale}"):
        softmax_stats(np.zeros(3), scale=scale)


@pytest.mark.parametrize("x", [np.zeros(2, complex), ["a"], np.zeros(2, object)])
def test_other_types_are_an_error(x):
    with pytest.raises(TypeError, match="not (complex128|<U1|object)".replace("(", r"(")):
        softmax_stats(x)


def test_bad_axis_is_an_error():
    with pytest.raises(np.exceptions.AxisError):
        softmax_stats(np.zeros((2, 3)), axis=2)
