"""csrc/diffusion_update against its definition, and its noise against logitkit.random."""

import numpy as np
import pytest

from logitkit import _cpu, reference
from logitkit._diffusion_update import diffusion_update
from logitkit.random import Philox

INF, NAN = np.inf, np.nan
TYPES = [np.float32, np.float64]
RNG = Philox(2**40 + 1, step=3)


def samples(n, *shape, dtype=np.float64):
    x, y = np.random.default_rng(n).normal(size=(2, n, *shape)).astype(dtype)
    return x, y


def run(x, y, a, b, c, isa, *, rows=None, lower=-INF, upper=INF, threads=1):
    out = np.full_like(x, NAN)
    n, dtype = len(x), x.dtype
    a, b = (np.broadcast_to(np.asarray(v, dtype), n).copy() for v in (a, b))
    c = None if c is None else np.broadcast_to(np.asarray(c, dtype), n).copy()
    rows = np.arange(n) if rows is None else rows
    _cpu.diffusion_update(
        x, y, a, b, c, lower, upper, RNG.seed, RNG.step, rows, out, threads=threads, isa=isa
    )
    return out


def assert_within_contract(actual, x, y, a, b, c, **options):
    """One unit in the last place for each term, and the contract of the noise."""
    a, b, c = (np.asarray(v, x.dtype) for v in (a, b, 0.0 if c is None else c))
    expected = reference.diffusion_update(x, y, a=a, b=b, c=c, rng=RNG, **options)
    columns = (slice(None),) + (None,) * (x.ndim - 1)
    a, b, c = (np.abs(np.broadcast_to(v, len(x)).astype(np.float64))[columns] for v in (a, b, c))
    noise = 2.0**-21 if x.dtype == np.float32 else 2.0**-50
    z = 10.0 * c
    terms = a * np.abs(x) + (0.0 if y is None else b * np.abs(y)) + z
    tolerance = np.finfo(x.dtype).eps * terms + noise * (c + z)
    assert np.all(np.abs(actual - expected) <= tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 63, 64, 65, 129, 1000, 16_385])
@pytest.mark.parametrize("two", [True, False])
@pytest.mark.parametrize("c", [None, 0.7])
def test_is_within_contract(isa, dtype, count, two, c):
    x, y = samples(3, count, dtype=dtype)
    y = y if two else None
    actual = run(x, y, [0.9, -1.0, 2.0], 0.3, c, isa)
    assert_within_contract(actual, x, y, [0.9, -1.0, 2.0], 0.3, c)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 7, 32, 33, 20_000])
def test_noise_is_that_of_philox_bit_by_bit(isa, dtype, count):
    zero, rows = np.zeros((3, count), dtype), np.array([5, -1, 2**40])
    actual = run(zero, None, 0.0, 0.0, 1.0, isa, rows=rows)
    np.testing.assert_array_equal(actual, RNG.normal(rows, count, dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("c", [None, 0.7])
def test_results_depend_on_neither_isa_nor_batch_nor_threads(dtype, c):
    x, y = samples(5, 40_001, dtype=dtype)
    whole = run(x, y, 0.9, 0.3, c, _cpu.Isa.scalar)
    for isa in _cpu.supported_isas():
        for threads in (1, 3):
            np.testing.assert_array_equal(run(x, y, 0.9, 0.3, c, isa, threads=threads), whole)
        part = run(x[2:4], y[2:4], 0.9, 0.3, c, isa, rows=np.array([2, 3]))
        np.testing.assert_array_equal(part, whole[2:4])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_large_results_are_the_same(isa, dtype, offset):
    """Those that are written around the caches, at any address."""
    n = 2**21 + 77
    x = np.random.default_rng(0).normal(size=(1, n)).astype(dtype)
    out = np.empty(n + 5, dtype)[offset : offset + n].reshape(1, n)
    a, none = np.full(1, 0.9, dtype), np.empty(0, np.int64)
    _cpu.diffusion_update(x, x, a, a, None, -INF, INF, 0, 0, none, out, isa=isa)
    small = run(x[:, :1000], x[:, :1000], 0.9, 0.9, None, isa)
    np.testing.assert_array_equal(out[:, :1000], small)
    assert_within_contract(out, x, x, 0.9, 0.9, None)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 16, 17, 67])
@pytest.mark.parametrize("noisy", [False, True])
def test_reads_and_writes_stay_inside(isa, dtype, count, noisy, guarded):
    x, y = (guarded(v) for v in samples(2, count, dtype=dtype))
    a, out, ids = guarded(np.ones(2, dtype)), guarded(np.zeros_like(x)), guarded(np.arange(2))
    _cpu.diffusion_update(
        x, y, a, a, a if noisy else None, -INF, INF, RNG.seed, RNG.step, ids, out, isa=isa
    )
    np.testing.assert_array_equal(out, run(x, y, 1.0, 1.0, 1.0 if noisy else None, isa))


@pytest.mark.parametrize("dtype", TYPES)
def test_bounds_and_specials(isa, dtype):
    x = np.tile(np.array([NAN, INF, -INF, 5.0, -5.0, 0.5, -0.0], dtype), (1, 9))
    bounded = np.tile(np.array([NAN, 1.0, -2.0, 1.0, -2.0, 0.5, -0.0], dtype), (1, 9))
    np.testing.assert_array_equal(run(x, None, 1.0, 0.0, None, isa, lower=-2.0, upper=1.0), bounded)
    np.testing.assert_array_equal(run(x, None, 1.0, 0.0, None, isa), x)
    noisy = run(x, None, 1.0, 0.0, 0.1, isa, lower=-2.0, upper=1.0)
    np.testing.assert_array_equal(noisy[0, :5], bounded[0, :5])


@pytest.mark.parametrize("dtype", TYPES)
def test_public_form(dtype):
    x, y = samples(3, 4, 5, dtype=dtype)
    options = {"a": [1.0, 0.5, 0.0], "b": 0.25, "c": np.array([0.0, 1.0, 2.0]), "rng": RNG}
    expected = diffusion_update(x, y, **options, lower=-1.0, upper=1.5)
    assert_within_contract(expected, x, y, options["a"], 0.25, options["c"], lower=-1.0, upper=1.5)
    for out in (np.empty_like(x), x.copy(), y.copy()):
        first, second = (out if np.array_equal(out, v) else v for v in (x, y))
        result = diffusion_update(first, second, **options, lower=-1.0, upper=1.5, out=out)
        assert result is out
        np.testing.assert_array_equal(out, expected)
    strided = np.repeat(x, 2, axis=2)[..., ::2]
    np.testing.assert_array_equal(
        diffusion_update(strided, y, **options, lower=-1.0, upper=1.5), expected
    )
    part = diffusion_update(x[1:], y[1:], a=[0.5, 0.0], b=0.25, c=[1.0, 2.0], rng=RNG, rows=[1, 2],
                            lower=-1.0, upper=1.5)  # fmt: skip
    np.testing.assert_array_equal(part, expected[1:])
    assert diffusion_update(x[:0], y[:0], a=1.0).shape == (0, 4, 5)


def test_errors():
    x = np.zeros((2, 3))
    with pytest.raises(TypeError, match="not float16 of shape"):
        diffusion_update(x.astype(np.float16), a=1.0)
    with pytest.raises(TypeError, match="expected y of type float64, that of x, not float32"):
        diffusion_update(x, x.astype(np.float32), a=1.0)
    with pytest.raises(ValueError, match=r"expected y of shape \(2, 3\)"):
        diffusion_update(x, x[:1], a=1.0)
    with pytest.raises(ValueError, match=r"expected c to be a number or of shape \(2,\), not \(3"):
        diffusion_update(x, a=1.0, c=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"lower <= upper, not 1\.0 and 0\.0"):
        diffusion_update(x, a=1.0, lower=1.0, upper=0.0)
    with pytest.raises(ValueError, match="lower <= upper"):
        diffusion_update(x, a=1.0, lower=NAN)
    with pytest.raises(ValueError, match="rows of 2 integers"):
        diffusion_update(x, a=1.0, c=1.0, rows=[1])
    memory = np.zeros(10)
    with pytest.raises(ValueError, match="overlaps"):
        diffusion_update(memory[:6].reshape(2, 3), a=1.0, out=memory[1:7].reshape(2, 3))


def test_tensors():
    torch = pytest.importorskip("torch")
    x, y = samples(3, 4, dtype=np.float32)
    expected = diffusion_update(x, y, a=0.5, b=2.0, c=0.1, rng=RNG)
    out = torch.empty(3, 4)
    result = diffusion_update(*map(torch.from_numpy, (x, y)), a=0.5, b=2.0, c=0.1, rng=RNG, out=out)
    assert result is out
    np.testing.assert_array_equal(out.numpy(), expected)
    result = diffusion_update(
        torch.from_numpy(x), torch.from_numpy(y), a=0.5, b=2.0, c=0.1, rng=RNG
    )
    assert torch.equal(result, out)
    with pytest.raises(RuntimeError, match="has no derivatives"):
        diffusion_update(torch.from_numpy(x).requires_grad_(), a=0.5)


# --- sums of several arrays, as solvers take them -------------------------------------------------


def sum_of_terms(arrays, factors, c, rows, dtype):
    """Return the sum in float64, and the sizes of its terms."""
    column = (slice(None),) + (None,) * (arrays[0].ndim - 1)
    spread = [np.broadcast_to(np.asarray(f, dtype), len(rows))[column] for f in (*factors, c)]
    noise = RNG.normal(rows, arrays[0].shape[1:], dtype)
    terms = [
        f.astype(np.float64) * x for f, x in zip(spread, (*arrays, noise), strict=True)
    ]  # fmt: skip
    return sum(terms), sum(np.abs(term) for term in terms)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("terms", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 16, 65, 16_385])
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("c", [None, 0.4])
def test_combine(isa, dtype, terms, count, by_row, c):
    rows = np.array([4, -7, 2**33])
    arrays = tuple(np.random.default_rng(1).normal(size=(terms, 3, count)).astype(dtype))
    factors = tuple(np.random.default_rng(2).normal(size=(terms, 3) if by_row else terms).tolist())
    factors = tuple(np.array(f) for f in factors) if by_row else factors
    given = (arrays, factors, c, RNG.seed, RNG.step, rows)
    whole = _cpu.combine_with_noise(*given, threads=1, isa=isa)
    expected, size = sum_of_terms(arrays, factors, 0.0 if c is None else c, rows, dtype)
    assert whole.dtype == dtype
    assert np.all(np.abs(whole - expected) <= terms * np.finfo(dtype).eps * size)
    scalar = _cpu.combine_with_noise(*given, threads=3, isa=_cpu.Isa.scalar)
    np.testing.assert_array_equal(scalar, whole)
    part = tuple(x[1:2] for x in arrays), tuple(f[1:2] for f in factors) if by_row else factors
    alone = _cpu.combine_with_noise(*part, c, RNG.seed, RNG.step, rows[1:2], isa=isa)
    np.testing.assert_array_equal(alone, whole[1:2])
    if c is None:
        np.testing.assert_array_equal(_cpu.combine(arrays, factors), whole)


def test_combine_takes_plain_memory_only():
    x = np.ones((4, 6))

    class Kind(np.ndarray):
        pass

    for other in (
        x[:, ::2], np.asfortranarray(x), x.astype(np.float16), x.astype(">f8"), np.ones(()),
        np.ones((0, 3)), np.ones((4, 6), int), x.view(Kind), [[1.0]], None,
    ):  # fmt: skip
        assert _cpu.combine((other,), (1.0,)) is None
    for other in (x[:, ::2], x.astype(np.float16), x.astype(">f8"), np.ones((4, 6), int), None):
        assert not _cpu.fits(other, other)
    assert _cpu.combine((x, x.astype(np.float32)), (1.0, 1.0)) is None
    assert _cpu.combine((x, x[:3]), (1.0, 1.0)) is None
    np.testing.assert_array_equal(_cpu.combine((x, x), (1, np.float32(2.0))), 3.0 * x)
    for arrays, factors, message in (
        ((), (), "from 1 to 8"), ((x,) * 9, (1.0,) * 9, "from 1 to 8"), ((x,), (1.0, 2.0), "a factor"),
        ((x,), (np.ones(3),), "for each sample"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            _cpu.combine(arrays, factors)
    with pytest.raises(ValueError, match="for each row"):
        _cpu.combine_with_noise((x,), (1.0,), 1.0, 0, 0, np.arange(3))


def test_combine_on_tensors():
    torch = pytest.importorskip("torch")
    x = torch.arange(6.0).reshape(2, 3)
    result = _cpu.combine((x, x), (2.0, np.array([1.0, -1.0])))
    assert type(result) is torch.Tensor
    assert torch.equal(result, torch.tensor([[0.0, 3.0, 6.0], [3.0, 4.0, 5.0]]))
    result += 1.0  # its memory is its own
    assert torch.equal(x, torch.arange(6.0).reshape(2, 3))
    assert torch.equal(_cpu.combine((x[1:],), (2.0,)), 2.0 * x[1:])  # with an offset
    lazy = torch.imag(torch.tensor([[2.0 + 3.0j]]).conj())  # -3, by a sign yet to be changed
    for other in (
        x.clone().requires_grad_(), x.T, x.half(), x.to_sparse(), torch.nn.Parameter(x), lazy,
        torch.empty(2, 3, device="meta"), torch.tensor(1.0),
    ):  # fmt: skip
        assert _cpu.combine((other,), (1.0,)) is None
    assert _cpu.fits(x, x.clone().requires_grad_())  # which only reads it
    assert not _cpu.fits(x, x.double())
    seen = []
    torch.func.grad(lambda y: seen.append(_cpu.combine((y,), (1.0,))) or y.sum())(x)
    assert seen == [None]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [0, 1, 7, 16, 63, 64, 65, 130])
def test_nan_is_found_at_any_place(isa, dtype, count):
    x = np.full(count, INF, dtype)
    x[::2] = -INF
    assert not _cpu.has_nan(x, isa=isa)
    for place in range(count):
        x[place], kept = NAN, x[place]
        assert _cpu.has_nan(x, isa=isa)
        x[place] = kept


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_short_way_is_the_long_one(dtype, kind):
    """Plain memory and factors for all rows take one call; ids and arrays of factors do not."""
    x, y = samples(3, 5, 7, dtype=dtype)
    if kind == "torch":
        x, y = map(pytest.importorskip("torch").from_numpy, (x, y))
    for c in (0.0, 0.7):
        numbers = {"a": 0.9, "b": -0.3, "c": c, "rng": RNG, "lower": -0.5, "upper": 0.8}
        arrays = {name: np.full(3, numbers[name]) for name in "abc"}
        short = diffusion_update(x, y, **numbers)
        long = diffusion_update(x, y, **{**numbers, **arrays}, rows=np.arange(3))
        assert type(short) is type(long) is type(x)
        np.testing.assert_array_equal(short, long)
        out = x * 0
        assert diffusion_update(x, y, **numbers, out=out) is out
        np.testing.assert_array_equal(out, long)
        in_place = x + 0
        diffusion_update(in_place, y, **numbers, out=in_place)
        np.testing.assert_array_equal(in_place, long)
