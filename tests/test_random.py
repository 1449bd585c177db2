"""logitkit.random against the published generator, and against its laws."""

import pickle

import numpy as np
import pytest

from logitkit import _cpu, reference
from logitkit.random import Philox, as_philox, gumbel_argmax, gumbel_top_k
from logitkit.reference._philox import philox_4x32

# Random123, tests/kat_vectors, "philox4x32 10": counter, key, words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip
LAWS = ["uniform", "exponential", "gumbel", "normal"]
TYPES = [np.float32, np.float64]
E = {np.float32: 2.0**-21, np.float64: 2.0**-50}  # of the contract
IDS = np.array([0, 5, -3, 2**40 + 7])


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, expected):
    np.testing.assert_array_equal(philox_4x32(words(counter), words(key)), words(expected))


def test_bits_are_laid_out_as_documented():
    """Counter (block, row, step), key seed; the low word of an element first."""
    row, step, seed = 2**33 + 5, 7, 2**34 + 3
    expected = philox_4x32([[0, 5, 2, 7], [1, 5, 2, 7]], [3, 4]).astype(np.uint64)
    low, high = expected.reshape(2, 2, 2)[..., 0], expected.reshape(2, 2, 2)[..., 1]
    bits = Philox(seed, step=step).bits([row], 4)
    np.testing.assert_array_equal(bits, (low + (high << np.uint64(32))).reshape(1, 4))


@pytest.mark.parametrize("law", ["bits", *LAWS])
@pytest.mark.parametrize("shape", [(), 1, 2, 3, (2, 5), (0,), (3, 1, 2), 40])
def test_numbers_depend_on_seed_step_row_and_position_alone(law, shape):
    rng = Philox(2**63 + 5, step=9)
    draw = getattr(rng, law)
    sizes = (shape,) if isinstance(shape, int) else shape
    ids = np.array([3, -1, 0, 2**40, 7])
    together = draw(ids, shape)
    assert together.shape == (5, *sizes)
    for i, row in enumerate(ids):
        np.testing.assert_array_equal(draw([row], shape)[0], together[i])
    np.testing.assert_array_equal(draw(4, shape), draw(np.arange(4), shape))
    count = int(np.prod(sizes))
    longer = draw(ids, count + 7)
    np.testing.assert_array_equal(longer[:, :count], together.reshape(5, count))


@pytest.mark.parametrize("law", LAWS)
def test_float32_is_float64_rounded(law):
    draw = getattr(Philox(1), law)
    wide, narrow = draw(4, 1000), draw(4, 1000, np.float32)
    assert narrow.dtype == np.float32
    # The contract of float32: 2^-21 (1 + |x|).
    np.testing.assert_array_less(np.abs(narrow - wide), 2.0**-21 * (1.0 + np.abs(wide)))


def test_streams_differ():
    rng = Philox(1)
    others = [Philox(2), rng.at(1), rng.fold_in(0), rng.fold_in(1), rng.at(1).fold_in(0)]
    drawn = [other.bits(1, 100) for other in (rng, *others)]
    assert len(np.unique(drawn)) == 600


def test_is_a_value():
    rng = Philox(5, step=2)
    assert rng == Philox(5, step=2) == rng.at(2) == rng.at(0).advanced(2)
    assert pickle.loads(pickle.dumps(rng)) == rng
    assert hash(rng) == hash(Philox(5, step=2))
    with pytest.raises(AttributeError):
        rng.seed = 3
    assert as_philox(rng) is rng
    assert as_philox(np.int64(5)) == Philox(5)
    assert rng.fold_in(1).step == 2


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_bad_seed_is_an_error(seed):
    with pytest.raises(ValueError, match=f"expected seed from 0 to {2**64 - 1}, not {seed}"):
        Philox(seed)


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match="expected step from 0 to 4294967294, not 4294967295"):
        Philox(0, step=2**32 - 1)
    with pytest.raises(ValueError, match="not -1"):
        Philox(0).advanced(-1)
    with pytest.raises(TypeError, match="seed to be an integer, not a float"):
        Philox(1.0)
    with pytest.raises(TypeError, match="Philox, not a Generator"):
        as_philox(np.random.default_rng(0))
    with pytest.raises(TypeError, match="float32 or float64, not float16"):
        Philox(0).normal(1, 2, np.float16)
    with pytest.raises(ValueError, match="not negative, not -2"):
        Philox(0).normal(-2)
    with pytest.raises(TypeError, match=r"type float64 and shape \(2,\)"):
        Philox(0).normal([0.0, 1.0])
    with pytest.raises(ValueError, match=r"shape \(2, -1\)"):
        Philox(0).normal(1, (2, -1))
    with pytest.raises(ValueError, match=r"at most 2\*\*33"):
        Philox(0).normal(0, 2**33 + 1)


def test_tails_have_64_bits(monkeypatch):
    """The smallest and the largest bits give what the docstrings say, and no infinity."""
    ends = np.array([[0, 2**64 - 1, 2**63 - 1, 2**63]], np.uint64)
    monkeypatch.setattr(reference.Philox, "bits", lambda *_: ends)
    rng = reference.Philox(0)
    np.testing.assert_array_equal(rng.uniform(1, 4)[0, :2], [2.0**-65, 1 - 2.0**-53])
    np.testing.assert_array_equal(rng.uniform(1, 4, np.float32)[0, 1], np.float32(1 - 2.0**-24))
    np.testing.assert_allclose(rng.uniform(1, 4)[0, 2:], 0.5, rtol=2.0**-53)
    np.testing.assert_allclose(rng.exponential(1, 4)[0, :2], [65 * np.log(2), 2.0**-65], rtol=1e-15)
    np.testing.assert_allclose(
        rng.gumbel(1, 4)[0, :2], [-np.log(65 * np.log(2)), 65 * np.log(2)], rtol=1e-15
    )
    assert np.all(np.abs(rng.normal(1, 4)) < 9.5)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17, 31, 32, 33, 34, 65, 2000])
def test_kernels_are_within_contract(isa, law, dtype, count):
    out = np.empty((4, count), dtype)
    getattr(_cpu, f"random_{law}")(2**35 + 1, 3, IDS, out, isa=isa)
    expected = getattr(reference.Philox(2**35 + 1, 3), law)(IDS, count)
    assert np.all(np.abs(out - expected) <= E[dtype] * (1.0 + np.abs(expected)))
    if law == "exponential":  # relative, however small
        np.testing.assert_allclose(out, expected, rtol=E[dtype])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", TYPES)
def test_instruction_sets_give_the_same_bits(law, dtype):
    drawn = []
    for isa in _cpu.supported_isas():
        out = np.empty((4, 20_001), dtype)
        getattr(_cpu, f"random_{law}")(1, 0, IDS, out, isa=isa)
        drawn.append(out)
    for other in drawn[1:]:
        np.testing.assert_array_equal(other, drawn[0])


@pytest.mark.parametrize("count", [1, 2, 7, 16, 17, 100])
def test_kernel_bits(isa, count):
    out = np.empty((4, count), np.uint64)
    _cpu.random_bits(2**35 + 1, 3, IDS, out, isa=isa)
    np.testing.assert_array_equal(out, reference.Philox(2**35 + 1, 3).bits(IDS, count))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 100_001), (50_000, 3), (1, 16_385)])
def test_threads_do_not_change_a_bit(isa, shape, dtype):
    ids = np.arange(shape[0])
    logits = np.random.default_rng(0).normal(size=shape).astype(dtype)
    k = min(3, shape[1])
    results = []
    for threads in (1, 2, 5):
        out = np.empty(shape, dtype)
        _cpu.random_normal(1, 0, ids, out, threads=threads, isa=isa)
        top, values = np.empty((shape[0], k), np.int64), np.empty((shape[0], k), dtype)
        _cpu.gumbel_top_k(logits, 1, 0, ids, values, top, threads=threads, isa=isa)
        argmax = np.empty(shape[0], np.int64)
        _cpu.gumbel_argmax(logits, 1, 0, ids, argmax, threads=threads, isa=isa)
        results.append((out, values, top, argmax))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2, 17, 33, 64])
def test_reads_and_writes_stay_inside(isa, dtype, count, guarded):
    ids = guarded(IDS)
    logits = guarded(np.zeros((4, count), dtype))
    out, indices = guarded(np.zeros((4, count), dtype)), guarded(np.zeros(4, np.int64))
    bits, top = guarded(np.zeros((4, count), np.uint64)), guarded(np.zeros((4, count), np.int64))
    _cpu.random_bits(0, 0, ids, bits, isa=isa)
    for law in LAWS:
        getattr(_cpu, f"random_{law}")(0, 0, ids, out, isa=isa)
    _cpu.gumbel_argmax(logits, 0, 0, ids, indices, isa=isa)
    _cpu.gumbel_top_k(logits, 0, 0, ids, out, top, isa=isa)
    np.testing.assert_array_equal(indices, top[:, 0])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 33, 1000, 40_000])
def test_gumbel_kernels_are_the_reference(isa, dtype, count):
    logits = np.random.default_rng(count).normal(scale=3.0, size=(4, count)).astype(dtype)
    logits[1, : count // 2] = -np.inf
    k = min(count, 7)
    values, top = np.empty((4, k), dtype), np.empty((4, k), np.int64)
    argmax = np.empty(4, np.int64)
    _cpu.gumbel_top_k(logits, 9, 4, IDS, values, top, isa=isa)
    _cpu.gumbel_argmax(logits, 9, 4, IDS, argmax, isa=isa)
    expected = reference.gumbel_top_k(logits, k, Philox(9, step=4), rows=IDS)
    np.testing.assert_array_equal(top, expected.indices)
    np.testing.assert_array_equal(argmax, expected.indices[:, 0])
    finite = expected.values > -np.inf
    scale = (
        1.0 + 2.0 * np.abs(expected.values[finite]) + 3.0 * np.abs(logits[logits > -np.inf]).max()
    )
    assert np.all(np.abs(values[finite] - expected.values[finite]) <= E[dtype] * scale)
    assert np.all(values[~finite] == -np.inf)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gumbel_axis_type_and_rows(axis, dtype):
    logits = np.random.default_rng(0).normal(scale=3.0, size=(5, 6, 7)).astype(dtype)
    rng = Philox(3, step=1)
    argmax, top = gumbel_argmax(logits, rng, axis), gumbel_top_k(logits, 3, rng, axis)
    np.testing.assert_array_equal(argmax, reference.gumbel_argmax(logits, rng, axis))
    np.testing.assert_array_equal(argmax, top.indices.take(0, axis))
    np.testing.assert_array_equal(top.indices, reference.gumbel_top_k(logits, 3, rng, axis).indices)
    assert top.values.dtype == (dtype if np.dtype(dtype).kind == "f" else np.float64)
    rows = np.arange(argmax.size).reshape(argmax.shape)
    again = gumbel_argmax(logits, rng, axis, rows=rows)
    np.testing.assert_array_equal(again, argmax)
    # A part of the batch, by its ids, draws what it drew in the whole.
    if axis != 0:
        np.testing.assert_array_equal(
            gumbel_argmax(logits[2:4], rng, axis, rows=rows[2:4]), argmax[2:4]
        )
    assert isinstance(gumbel_argmax(logits[0, 0], 1), np.int64)


def test_gumbel_errors():
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="k from 1 to the 3 classes, not 4"):
        gumbel_top_k(logits, 4, 0)
    with pytest.raises(ValueError, match=r"shape \(2,\), that of logits without axis 1"):
        gumbel_argmax(logits, 0, rows=[1])
    with pytest.raises(ValueError, match="at least one class"):
        gumbel_argmax(np.zeros((2, 0)), 0)
    for value in (np.nan, np.inf):
        bad = logits.copy()
        bad[1, 2] = value
        with pytest.raises(ValueError, match=rf"not {value} as class 2 of line \(1,\)"):
            gumbel_argmax(bad, 0)
        with pytest.raises(ValueError, match=rf"not {value} as class 2 of line \(1,\)"):
            gumbel_top_k(bad, 1, 0)
    bad = logits.copy()
    bad[1] = -np.inf
    with pytest.raises(ValueError, match=r"not masked: line \(1,\) of the logits is -inf"):
        gumbel_argmax(bad, 0)
    drawn = gumbel_top_k(bad, 2, 0)
    np.testing.assert_array_equal(drawn.indices[1], [-1, -1])
    np.testing.assert_array_equal(drawn.values[1], [-np.inf, -np.inf])
    assert gumbel_argmax(np.zeros((0, 3)), 0).shape == (0,)


def test_not_finite_anywhere_is_seen(isa):
    """In each lane, and in the tail."""
    for count in (1, 16, 47):
        for j in range(count):
            for value in (np.nan, np.inf):
                logits = np.zeros((1, count), np.float32)
                logits[0, j] = value
                index, top = np.empty(1, np.int64), np.empty((1, 1), np.int64)
                _cpu.gumbel_argmax(logits, 0, 0, IDS[:1], index, isa=isa)
                _cpu.gumbel_top_k(logits, 0, 0, IDS[:1], logits[:, :1].copy(), top, isa=isa)
                assert index[0] == top[0, 0] == -1


def test_argmax_draws_from_the_softmax():
    from scipy import stats

    logits = np.array([0.0, -1.0, -2.0, 1.5, -np.inf, -6.0])
    p = np.exp(logits) / np.exp(logits).sum()
    drawn = gumbel_argmax(np.broadcast_to(logits.astype(np.float32), (1_000_000, 6)), 5)
    counts = np.bincount(drawn, minlength=6)
    assert counts[4] == 0
    assert stats.chisquare(counts[p > 0], 1e6 * p[p > 0]).pvalue > 1e-4


def test_top_k_draws_without_replacement():
    """By the law of Plackett and Luce: p_i p_j / (1 - p_i)."""
    from scipy import stats

    p = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = gumbel_top_k(np.broadcast_to(np.log(p), (1_000_000, 4)), 2, 6).indices
    counts = np.bincount(4 * drawn[:, 0] + drawn[:, 1], minlength=16).reshape(4, 4)
    law = p[:, None] * p / (1.0 - p[:, None])
    different = ~np.eye(4, dtype=bool)
    assert np.all(counts[~different] == 0)
    assert stats.chisquare(counts[different], 1e6 * law[different]).pvalue > 1e-4


def neighbours():
    """Yield pairs of numbers that differ in one part of the counter or of the key by one."""
    rng = Philox(8)
    drawn = rng.normal(1001, 1001)
    yield "pair", drawn[:, 0:1000:2], drawn[:, 1:1000:2]
    yield "block", drawn[:, :-2], drawn[:, 2:]
    yield "row", drawn[:-1], drawn[1:]
    yield "high word of the row", drawn, rng.normal(np.arange(1001) + 2**32, 1001)
    yield "step", drawn, rng.advanced().normal(1001, 1001)
    yield "seed", drawn, Philox(9).normal(1001, 1001)
    yield "folded", drawn, rng.fold_in(0).normal(1001, 1001)


def test_neighbours_are_independent():
    from scipy import stats

    edges = stats.norm.ppf(np.linspace(0, 1, 17)[1:-1])
    for name, first, second in neighbours():
        cells = 16 * np.searchsorted(edges, first) + np.searchsorted(edges, second)
        assert stats.chisquare(np.bincount(cells.ravel(), minlength=256)).pvalue > 1e-4, name
        assert np.max(np.abs(first)) > 4.5


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", TYPES)
def test_laws_by_chi_square(law, dtype):
    from scipy import stats

    frozen = {
        "uniform": stats.uniform(),
        "exponential": stats.expon(),
        "gumbel": stats.gumbel_r(),
        "normal": stats.norm(),
    }[law]
    drawn = getattr(Philox(11), law)(1000, 1000, dtype).ravel()
    edges = frozen.ppf(np.linspace(0, 1, 257)[1:-1])
    counts = np.bincount(np.searchsorted(edges, drawn), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4  # the seed is fixed: this cannot fail by chance


def test_tensors():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    tensor = torch.from_numpy(logits).requires_grad_()
    argmax, top = gumbel_argmax(tensor, 3), gumbel_top_k(tensor, 2, 3, axis=0)
    assert isinstance(argmax, torch.Tensor)
    assert not argmax.requires_grad
    np.testing.assert_array_equal(argmax.numpy(), gumbel_argmax(logits, 3))
    expected = gumbel_top_k(logits, 2, 3, axis=0)
    np.testing.assert_array_equal(top.indices.numpy(), expected.indices)
    np.testing.assert_array_equal(top.values.numpy(), expected.values)
    half = gumbel_top_k(tensor.detach().to(torch.bfloat16), 2, 3)
    assert half.values.dtype == torch.bfloat16
