"""csrc/softmax_stats and logitkit.softmax_stats against their definition."""

import numpy as np
import pytest

from logitkit import SoftmaxStats, _cpu, logsumexp, reference, softmax_stats

INF, NAN = np.inf, np.nan
TYPES = [np.float32, np.float64]
E = {np.float32: 2.0**-22, np.float64: 2.0**-50}  # of the contract


def normal(*shape, spread=1.0, dtype=np.float32):
    return np.random.default_rng(shape[-1]).normal(scale=spread, size=shape).astype(dtype)


def run(x, axis, scale, isa, threads=1):
    """Run the kernel alone, fenced: a read past x gives NaN."""
    fenced = np.full(x.size + 64, NAN, x.dtype)
    inside = fenced[32 : 32 + x.size].reshape(x.shape)
    inside[...] = x
    results = np.empty((4, x.shape[1 - axis]), x.dtype)
    _cpu.softmax_stats(inside, axis, scale, *results, threads=threads, isa=isa)
    return SoftmaxStats(*results)


def exact(x, axis, scale=1.0):
    """Return the statistics in extended precision, where the machine has it."""
    return reference.softmax_stats(x.astype(np.longdouble), axis, scale=scale)


def assert_within_contract(actual, x, axis, scale=1.0):
    expected = exact(x, axis, scale)
    finite = np.where(np.isfinite(x), x, 0.0).astype(np.float64)
    largest = np.max(np.abs(finite) * scale, axis=axis, initial=0.0)
    e = E[x.dtype.type] * (1.0 + largest + np.log(x.shape[axis]))
    error = SoftmaxStats(*(np.abs(a - b) for a, b in zip(actual, expected, strict=True)))
    assert np.all(error.logsumexp <= e)
    assert np.all(error.entropy <= e)
    assert np.all(error.sum_of_squares <= e * expected.sum_of_squares)
    assert np.all(error.max <= E[x.dtype.type] * largest)  # which errs by the product alone


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (4, 16), (3, 65), (2, 1000), (1000, 3)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 3.0, 60.0])
@pytest.mark.parametrize("scale", [0.0, 0.125, 1.0, 3.0])
def test_is_within_contract(isa, shape, axis, spread, scale, dtype):
    x = normal(*shape, spread=spread, dtype=dtype)
    assert_within_contract(run(x, axis, scale, isa), x, axis, scale)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [1, 3, 8, 15, 17, 64, 130, 1025])
def test_reads_and_writes_stay_inside(isa, dtype, axis, n, guarded):
    x = normal(*((n, 5) if axis == 0 else (5, n)), dtype=dtype)
    results = [guarded(np.zeros(5, dtype)) for _ in SoftmaxStats._fields]
    _cpu.softmax_stats(guarded(x), axis, 1.0, *results, isa=isa)
    np.testing.assert_array_equal(results, run(x, axis, 1.0, isa))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(1, 300_000), (1000, 333), (100_000, 3)])
def test_threads_do_not_change_a_bit(isa, shape, axis, dtype):
    x = normal(*shape, dtype=dtype)
    one = run(x, axis, 1.0, isa)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(run(x, axis, 1.0, isa, threads), one)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [2, 16, 17, 1500])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_specials(isa, axis, n, scale, dtype):
    x = normal(7, n, dtype=dtype)
    x[0, :] = -INF
    x[1, 1] = INF
    x[2, 0] = NAN
    x[3, : n // 2] = -INF
    x[4, [0, 1]] = INF, NAN
    x[5, 1:] = -INF
    stats = run(x if axis == 1 else x.T, axis, scale, isa)
    np.testing.assert_array_equal([value[0] for value in stats], [-INF, 0.0, -INF, 0.0])
    infinite = [INF, NAN, INF, NAN] if scale else [NAN] * 4  # as 0 * inf
    np.testing.assert_array_equal([value[1] for value in stats], infinite)
    for row in (2, 4):
        np.testing.assert_array_equal([value[row] for value in stats], np.full(4, NAN))
    one, masked = x[5, :1], x[3, n // 2 :]
    assert_within_contract(SoftmaxStats(*(value[5] for value in stats)), one, 0, scale)
    assert_within_contract(SoftmaxStats(*(value[3] for value in stats)), masked, 0, scale)


@pytest.mark.parametrize("dtype", TYPES)
def test_laws(dtype):
    x = normal(50, 60, spread=4.0, dtype=dtype)
    stats = softmax_stats(x)
    tolerance = E[dtype] * (1.0 + np.abs(x).max() + np.log(60))
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_terms_that_rise_to_the_end_of_their_range(isa, dtype):
    # Squares of terms far above the first ones overflow: nothing may be lost.
    top = 43.9 if dtype == np.float32 else 354.5
    x = np.concatenate([np.zeros((2, 4096)), np.full((2, 4096), top)], axis=1).astype(dtype)
    x[1] = x[1, ::-1]
    outs = [np.empty(2, dtype) for _ in range(4)]
    _cpu.softmax_stats(x, 1, 1.0, *outs, isa=isa)
    expected = reference.softmax_stats(x.astype(np.float64), axis=1)
    e = 2.0**-22 if dtype == np.float32 else 2.0**-50
    bound = e * (1 + top + np.log(x.shape[1]))
    for actual, exact in zip(outs, expected, strict=True):
        np.testing.assert_allclose(actual, exact, rtol=0.0, atol=bound)
    np.testing.assert_allclose(outs[3], expected.sum_of_squares, rtol=bound)
