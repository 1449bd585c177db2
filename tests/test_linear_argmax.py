"""csrc/gemm, csrc/linear_argmax and the public functions against logitkit.reference."""

import numpy as np
import pytest

from logitkit import _cpu, linear_argmax, linear_topk, reference

INF, NAN = np.inf, np.nan

# Around the panels (8, 24, 32, 48 rows), the groups of panels, and the tile (64 rows of weight).
ROWS = [0, 1, 7, 8, 9, 23, 24, 25, 31, 32, 33, 47, 48, 49, 192, 400]
CLASSES = [1, 2, 3, 7, 8, 9, 63, 64, 65, 127, 128, 129, 200]
# Around the widths of the vectors, in which rows are transposed, the blocks of tile registers,
# and so many that the sum is cut.
COLUMNS = [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 120, 128, 300, 1057]


@pytest.fixture(params=_cpu.supported_isas(), ids=lambda isa: isa.name)
def isa(request):
    """Each instruction set of this machine in turn, tile registers too."""
    return request.param


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def argmax(x, weight, bias, isa, threads=1):
    values, indices = np.full(len(x) + 2, 5, np.float32), np.full(len(x) + 2, -5)
    _cpu.linear_argmax(x, weight, bias, values[1:-1], indices[1:-1], threads=threads, isa=isa)
    assert values[0] == values[-1] == 5
    assert indices[0] == indices[-1] == -5
    return values[1:-1], indices[1:-1]


def topk(x, weight, bias, k, isa, threads=1):
    values, indices = np.full((len(x) + 2, k), 5, np.float32), np.full((len(x) + 2, k), -5)
    _cpu.linear_topk(x, weight, bias, values[1:-1], indices[1:-1], threads=threads, isa=isa)
    assert np.all(values[[0, -1]] == 5)
    assert np.all(indices[[0, -1]] == -5)
    return values[1:-1], indices[1:-1]


def scores_and_error(x, weight, bias):
    """Return the exact scores and the contract of csrc/linear_argmax/linear_argmax.h."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    d = x.shape[1]
    error = d * 2.0**-24 / (1 - d * 2.0**-24) * (np.abs(x) @ np.abs(weight).T) + d * 2.0**-149
    scores = x @ weight.T
    if bias is not None:
        scores += bias
        error += np.spacing((np.abs(scores) + error).astype(np.float32)) / 2
    return scores, error


def assert_within_contract(values, indices, x, weight, bias):
    """Assert that (m, k) results are right as far as the error of the scores can tell."""
    scores, error = scores_and_error(x, weight, bias)
    rows = np.arange(len(x))[:, None]
    assert np.all(np.abs(values - scores[rows, indices]) <= error[rows, indices])
    left_out = scores - error
    np.put_along_axis(left_out, indices, -INF, axis=1)
    assert np.all(left_out.max(axis=1, initial=-INF, keepdims=True) <= values)
    assert np.all(np.diff(values, axis=1) <= 0)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("m", "n", "d"),
    [(m, 70, 17) for m in ROWS] + [(50, n, 17) for n in CLASSES] + [(50, 70, d) for d in COLUMNS],
)
def test_matches_reference(isa, m, n, d, with_bias):
    x, weight, bias = normal(m, d), normal(n, d, seed=1), normal(n) if with_bias else None
    values, indices = argmax(x, weight, bias, isa)
    assert_within_contract(values[:, None], indices[:, None], x, weight, bias)
    for k in {1, min(n, 2), min(n, 65), n}:
        assert_within_contract(*topk(x, weight, bias, k, isa), x, weight, bias)


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e18])
def test_extreme_scales(isa, scale):
    x, weight = normal(20, 40) * np.float32(scale), normal(99, 40, seed=1) * np.float32(scale)
    values, indices = argmax(x, weight, None, isa)
    assert_within_contract(values[:, None], indices[:, None], x, weight, None)


HARD = {
    "exponents from -45 to 45": lambda x: x * np.exp2(np.round(20 * normal(*x.shape, seed=2))),
    "numbers on both sides of the range of parts": lambda x: (
        x * np.exp2(30 * np.round(normal(*x.shape, seed=2)))
    ),
    "denormals": lambda x: np.where(normal(*x.shape, seed=2) > 1, 1e-41 * x, x),
    "few digits": lambda x: np.round(x),
    "numbers just above bfloat16": lambda x: np.round(x * 128) / 128 * (1 + 2.0**-8),
}


@pytest.mark.parametrize("d", [40, 300])
@pytest.mark.parametrize("hard", HARD)
def test_hard_numbers(isa, hard, d):
    x, weight = (
        HARD[hard](normal(m, d, seed=m)).astype(np.float32).clip(-1e17, 1e17) for m in (70, 150)
    )
    values, indices = argmax(x, weight, None, isa)
    assert_within_contract(values[:, None], indices[:, None], x, weight, None)
    assert_within_contract(*topk(x, weight, None, 7, isa), x, weight, None)


@pytest.mark.parametrize("d", [64, 1100])
def test_cancellation(isa, d):
    # All but a part in 1e6 cancels, in neighbours and far apart.
    x, weight = normal(70, d), normal(150, d, seed=1)
    x[:, d // 2 :] = x[:, : d // 2] * np.float32(1 + 1e-6)
    weight[:, d // 2 :] = -weight[:, : d // 2]
    values, indices = argmax(x, weight, None, isa)
    assert_within_contract(values[:, None], indices[:, None], x, weight, None)


@pytest.mark.parametrize("d", [33, 130, 1100])
def test_equal_rows_have_equal_scores(isa, d):
    x, weight = np.repeat(normal(31, d), 7, axis=0), np.tile(normal(1, d, seed=1), (150, 1))
    # Rows that are not plain among them change nothing.
    weight[5], weight[70] = NAN, 1e30
    x[[3, 60]] = 1e-30
    values, indices = topk(x, weight, None, 150, isa)
    plain = np.delete(np.arange(len(x)), [3, 60])
    classes = np.delete(np.arange(150), [5, 70])
    for i in plain:
        of = dict(zip(indices[i].tolist(), values[i].tolist(), strict=True))
        assert len({of[j] for j in classes}) == 1
        assert [j for j in indices[i] if j in classes] == list(classes)
    for row in range(31):
        assert len(set(values[plain[plain // 7 == row], -1].tolist())) == 1


def test_overflow_is_that_of_floats(isa):
    x, weight = np.full((3, 64), 1e25, np.float32), np.full((5, 64), 1e25, np.float32)
    weight[1:3] = -weight[1:3]
    values, indices = topk(x, weight, None, 5, isa)
    np.testing.assert_array_equal(values, np.tile([INF, INF, INF, -INF, -INF], (3, 1)))
    np.testing.assert_array_equal(indices, np.tile([0, 3, 4, 1, 2], (3, 1)))


def test_integers_are_exact_and_ties_go_to_the_first(isa):
    random = np.random.default_rng(0)
    x = random.integers(-3, 4, size=(100, 6)).astype(np.float32)
    weight = random.integers(-1, 2, size=(300, 6)).astype(np.float32)
    bias = random.integers(-1, 2, size=300).astype(np.float32)
    for actual, expected in [
        (argmax(x, weight, bias, isa), reference.linear_argmax(x, weight, bias)),
        (topk(x, weight, bias, 40, isa), reference.linear_topk(x, weight, bias, k=40)),
    ]:
        np.testing.assert_array_equal(actual[0], expected.values)
        np.testing.assert_array_equal(actual[1], expected.indices)


@pytest.mark.parametrize("place", [0, 5, 63, 64, 149])
@pytest.mark.parametrize("special", [INF, -INF, NAN])
@pytest.mark.parametrize("everywhere", [-INF, -2.0, 3.0])
@pytest.mark.parametrize("d", [4, 40])
def test_special_scores(isa, place, special, everywhere, d):
    # Scores are 0 * weight + bias, so the bias alone decides; the place repeats further on.
    x, weight = np.zeros((50, d), np.float32), normal(150, d)
    bias = np.full(150, everywhere, np.float32)
    bias[[place, 140]] = special
    for actual, expected in [
        (argmax(x, weight, bias, isa), reference.linear_argmax(x, weight, bias)),
        (topk(x, weight, bias, 5, isa), reference.linear_topk(x, weight, bias, k=5)),
    ]:
        np.testing.assert_array_equal(actual[0], expected.values)
        np.testing.assert_array_equal(actual[1], expected.indices)


@pytest.mark.parametrize("d", [8, 80])
def test_a_row_of_nan_or_infinity_stays_alone(isa, d):
    x, weight = normal(60, d), normal(130, d, seed=1)
    clean = argmax(x, weight, None, isa)
    x[[3, 50]] = NAN
    x[17] = INF  # inf - inf and inf * 0 are NaN
    values, indices = argmax(x, weight, None, isa)
    assert np.all(np.isnan(values[[3, 50, 17]]) | np.isinf(values[[3, 50, 17]]))
    assert np.all(indices[[3, 50]] == 0)
    others = np.delete(np.arange(60), [3, 17, 50])
    np.testing.assert_array_equal(values[others], clean[0][others])
    np.testing.assert_array_equal(indices[others], clean[1][others])


@pytest.mark.parametrize("d", [33, 1100])
def test_same_bits_for_any_threads_and_any_batch(isa, d):
    x, weight, bias = normal(500, d), normal(300, d, seed=1), normal(300)
    x[20:40:3, 5], weight[::7, 3] = 1e-30, 1e20  # of which there are no parts
    values, indices = argmax(x, weight, bias, isa)
    for threads in (2, 3):
        again = argmax(x, weight, bias, isa, threads)
        np.testing.assert_array_equal(again[0], values)
        np.testing.assert_array_equal(again[1], indices)
        best = topk(x, weight, bias, 3, isa, threads)
        np.testing.assert_array_equal(best[0][:, 0], values)
        np.testing.assert_array_equal(best[1][:, 0], indices)
    for begin, end in [(0, 1), (13, 100), (499, 500)]:
        part = argmax(x[begin:end], weight, bias, isa)
        np.testing.assert_array_equal(part[0], values[begin:end])
        np.testing.assert_array_equal(part[1], indices[begin:end])


@pytest.mark.parametrize(
    ("m", "n", "d"), [(1, 1, 1), (5, 66, 7), (49, 9, 17), (48, 64, 16), (7, 9, 33), (49, 70, 79)]
)
def test_reads_nothing_beyond(isa, guarded, m, n, d):
    x, weight, bias = guarded(normal(m, d)), guarded(normal(n, d)), guarded(normal(n))
    values, indices = guarded(np.zeros(m, np.float32)), guarded(np.zeros(m, np.int64))
    _cpu.linear_argmax(x, weight, bias, values, indices, isa=isa)
    assert_within_contract(values[:, None], indices[:, None], x, weight, bias)
    values, indices = guarded(np.zeros((m, 1), np.float32)), guarded(np.zeros((m, 1), np.int64))
    _cpu.linear_topk(x, weight, bias, values, indices, isa=isa)
    assert_within_contract(values, indices, x, weight, bias)


def test_peak_is_counted(isa):
    assert 1000 <= _cpu.multiply_add(1000, isa=isa) < 2000


def test_kernel_refuses_what_it_would_have_to_copy():
    x, out, index = np.zeros((2, 3), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64)
    with pytest.raises(TypeError):
        _cpu.linear_argmax(x.astype(np.float64), x, None, out, index)
    with pytest.raises(TypeError):
        _cpu.linear_argmax(x, x, out.astype(np.float64), out, index)
    with pytest.raises(TypeError):
        _cpu.linear_argmax(x, x, None, out, index.astype(np.int32))
    with pytest.raises(ValueError, match="expected values"):
        _cpu.linear_argmax(x, x, None, out[:1], index)
    with pytest.raises(ValueError, match="rows of weight"):
        _cpu.linear_argmax(x, x[:0], None, out, index)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_public_functions_and_their_types(dtype):
    x, weight = (8 * normal(90, 12)).astype(dtype), (8 * normal(110, 12, seed=1)).astype(dtype)
    bias = normal(110).astype(dtype)
    result = np.dtype(np.float64 if dtype == np.int64 else dtype)
    for actual, expected in [
        (linear_argmax(x, weight, bias, threads=2), reference.linear_argmax(x, weight, bias)),
        (linear_topk(x, weight, bias, k=4), reference.linear_topk(x, weight, bias, k=4)),
    ]:
        assert actual.values.dtype == result
        assert actual.indices.dtype == np.int64
        rtol = 1e-12 if result == np.float64 else 1e-3 if result == np.float16 else 1e-5
        np.testing.assert_allclose(actual.values, expected.values, rtol=rtol)


def test_float64_goes_by_blocks(monkeypatch):
    monkeypatch.setattr("logitkit._linear_argmax._BLOCK", 1000)
    x, weight = normal(70, 5).astype(np.float64), normal(300, 5, seed=1).astype(np.float64)
    expected = reference.linear_argmax(x, weight)
    actual = linear_argmax(x, weight)
    np.testing.assert_array_equal(actual.indices, expected.indices)
    np.testing.assert_allclose(actual.values, expected.values, rtol=1e-14)
    assert linear_argmax(x[:0], weight).values.shape == (0,)
    assert linear_topk(x[:0], weight, k=2).values.shape == (0, 2)


def test_strided_arrays_are_understood():
    x, weight = normal(30, 9), normal(9, 40, seed=1)
    np.testing.assert_array_equal(
        linear_argmax(x[::-2], weight.T).values,
        linear_argmax(x[::-2].copy(), weight.T.copy()).values,
    )


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [((2, 3), (4, 2), None), ((2, 3), (0, 3), None), ((3,), (4, 3), None), ((2, 3), (4, 3), (3,))],
)
def test_shapes_that_do_not_fit(x, weight, bias):
    bias = None if bias is None else np.zeros(bias)
    with pytest.raises(ValueError, match=r"weight of shape \(n, d\).*not x of shape"):
        linear_argmax(np.zeros(x), np.zeros(weight), bias)


def test_bad_arguments():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match="complex64"):
        linear_argmax(x, x.astype(np.complex64))
    with pytest.raises(ValueError, match="threads"):
        linear_argmax(x, x, threads=0)
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"not {k}"):
            linear_topk(x, x, k=k)
