"""logitkit.attention against its reference, against torch's semantics, and by its laws."""

import os
import signal
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitkit
from logitkit import EntropyInvariant, LogBase, _cpu, attention, attention_with_stats, reference

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}

try:
    BFLOAT16 = np.dtype(__import__("ml_dtypes").bfloat16)
except ModuleNotFoundError:
    BFLOAT16 = None
needs_bfloat16 = pytest.mark.skipif(BFLOAT16 is None, reason="no ml_dtypes, which has bfloat16")
of_each_kind = pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(BFLOAT16, marks=needs_bfloat16)], ids=["float", "bfloat16"]
)


@pytest.fixture(params=_cpu.supported_isas(), ids=lambda isa: isa.name)
def isa(request):
    """Each instruction set of this machine in turn, tile registers and dot products too."""
    return request.param


def arrays(rng, *shapes, dtype=np.float32):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def largest(x):
    return np.max(np.abs(x), initial=0.0, where=np.isfinite(x))


def logit_error(query, key, n_visible, options):
    """Return s, the bound of csrc/attention/attention.h for the error of a logit."""
    scale = options.get("scale")
    if scale is None:
        scale = query.shape[-1] ** -0.5
    elif isinstance(scale, logitkit.AttentionScale):
        n = n_visible.T if "cu_seqlens_q" in options else n_visible
        scale = scale.row_scale(n, query.shape[-1])
    norms = [largest(np.linalg.norm(np.float64(x), axis=-1)) for x in (query, key)]
    terms = [options[name] for name in ("mask", "bias") if name in options]
    terms = sum(largest(x) for x in terms if np.asarray(x).dtype != bool)
    furthest = max(key.shape[-2], query.shape[-2]) + largest(options.get("query_offsets", 0))
    slopes = largest(options.get("alibi_slopes", 0.0)) * furthest
    product = np.sqrt(query.shape[-1]) * largest(scale) * norms[0] * norms[1]
    return UNIT[np.result_type(query, np.float32)] * 4 * (product + terms + slopes)


def check(query, key, value, **options):
    """Compare everything that attention_with_stats returns with the reference."""
    exact = reference.attention_with_stats(query, key, value, **options)
    result = attention_with_stats(query, key, value, **options)
    dtype = np.result_type(query, np.float32)
    unit, error = UNIT[dtype], logit_error(query, key, exact.n_visible, options)
    sums = (48 + largest(exact.n_visible) / 64) * unit
    assert result.output.dtype == query.dtype
    np.testing.assert_array_equal(result.n_visible, exact.n_visible)
    assert result.n_visible.dtype == np.int64
    # Outputs of half types are rounded, and with products of bfloat16 weights are, too.
    rounding = {BFLOAT16: 2.0**-8 + 2.0**-8, np.dtype(np.float16): 2.0**-11 + 2.0**-15}
    rounding = rounding.get(query.dtype, 0.0)
    bounds = {
        "output": (2 * error + sums + rounding) * largest(np.float64(value)),
        "logsumexp": error + 4 * unit * max(1.0, largest(exact.logsumexp)),
        "max_logit": error + 4 * unit * max(1.0, largest(exact.max_logit)),
        "entropy": (2 * error + sums) * (1 + np.log(np.maximum(exact.n_visible, 1))),
    }
    for name, bound in bounds.items():
        got, want = np.asarray(getattr(result, name)), getattr(exact, name)
        assert got.shape == want.shape
        assert got.dtype == (query.dtype if name == "output" else dtype)
        got = got.astype(np.result_type(got, np.float32))
        same = (got == want) | (np.abs(got - np.where(np.isfinite(want), want, 0.0)) <= bound)
        assert np.all(same), (name, np.max(np.abs(got - want)[~same]), np.max(bound))
    np.testing.assert_array_equal(attention(query, key, value, **options), result.output)
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keys", [64, 512, 4095])
def test_errors_of_one_sign(keys, dtype):
    # Every weight is rounded alike, and no sum crosses zero.
    query, key = np.zeros((1, 1, 200, 8), dtype), np.zeros((1, 1, keys, 8), dtype)
    value = np.ones((1, 1, keys, 1), dtype) * np.linspace(1.0, 2.0, 70, dtype=dtype)
    for bias in (0.0, 0.3, -1.1):
        check(query, key, value, bias=np.full((200, keys), bias, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    ("length", "keys"),
    [
        *[(1, 1), (1, 200), (7, 63), (15, 64), (16, 65), (17, 8), (48, 48), (49, 128)],
        *[(64, 129), (100, 9), (145, 300), (256, 256), (300, 145)],
    ],
)
def test_sizes(length, keys, is_causal, dtype):
    rng = np.random.default_rng(length + keys)
    shapes = (2, 3, length, 24), (2, 3, keys, 24), (2, 3, keys, 24)
    check(*arrays(rng, *shapes, dtype=dtype), is_causal=is_causal)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("head_dim", "value_dim"),
    [(1, 1), (2, 7), (8, 8), (15, 16), (17, 5), (64, 64), (65, 33), (96, 128), (257, 3)],
)
def test_head_dims(head_dim, value_dim, dtype):
    rng = np.random.default_rng(head_dim)
    shapes = (1, 2, 77, head_dim), (1, 2, 70, head_dim), (1, 2, 70, value_dim)
    check(*arrays(rng, *shapes, dtype=dtype))


@pytest.mark.parametrize("length", [1, 3, 8, 23, 24, 50])
@pytest.mark.parametrize("heads", [(8, 8), (8, 2), (6, 1)])
def test_groups_of_heads(heads, length):
    rng = np.random.default_rng(0)
    q, k, v = arrays(rng, (2, heads[0], length, 16), *2 * [(2, heads[1], 90, 16)])
    check(
        q, k, v, is_causal=True, causal_alignment="lower_right", alibi_slopes=rng.random(heads[0])
    )


OPTIONS = {
    "upper left": {"is_causal": True},
    "lower right": {"is_causal": True, "causal_alignment": "lower_right"},
    "window": {"window": (20, 9)},
    "causal window": {"window": (70, None), "is_causal": True},
    "window of one": {"window": (0, 0)},
    "window to the right": {"window": (None, 3)},
    "softcap": {"softcap": 1.5},
    "offsets": {"query_offsets": [3, -70], "is_causal": True},
    "offset beyond": {"query_offsets": [1000, 40], "window": (10, 0)},
    "key lengths": {"key_lengths": [130, 0]},
    "short keys": {"key_lengths": [64, 3], "is_causal": True, "causal_alignment": "lower_right"},
    "scale": {"scale": 0.1},
    "negative scale": {"scale": -0.3},
    "scale of each head": {"scale": np.array([0.1, 0.0, 1.0])},
    "entropy scale": {"scale": EntropyInvariant(), "is_causal": True},
    "kappa": {"scale": EntropyInvariant(np.array([1.0, 2.0, 3.0])), "window": (30, 0)},
    "short-length scale": {"scale": LogBase(least=16), "is_causal": True},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, dtype):
    rng = np.random.default_rng(3)
    q, k, v = arrays(rng, (2, 3, 110, 20), *2 * [(2, 3, 130, 20)], dtype=dtype)
    check(q, k, v, **OPTIONS[name])
    extra = {
        "sinks": rng.normal(size=3),
        "bias": rng.normal(size=(3, 110, 130)),
        "alibi_slopes": rng.random(3),
        "mask": rng.random((2, 1, 110, 130)) < 0.3,
    }
    check(q, k, v, **OPTIONS[name], **extra)


@pytest.mark.parametrize(
    "shape",
    [
        *[(60, 150), (1, 150), (60, 1), (1, 60, 150), (3, 60, 150), (2, 1, 1, 150)],
        *[(2, 3, 60, 150), (2, 3, 1, 1), (150,)],
    ],
)
@pytest.mark.parametrize("kind", ["bool", "float", "bias", "both"])
def test_masks_broadcast(shape, kind):
    rng = np.random.default_rng(5)
    q, k, v = arrays(rng, (2, 3, 60, 8), *2 * [(2, 3, 150, 8)])
    bools = rng.random(shape) < 0.5
    floats = np.where(rng.random(shape) < 0.3, -np.inf, rng.normal(size=shape))
    options = {
        "bool": {"mask": bools},
        "float": {"mask": floats},
        "bias": {"bias": floats.astype(np.float32)},
        "both": {"mask": bools, "bias": floats},
    }
    check(q, k, v, **options[kind], scale=EntropyInvariant())


def test_block_mask_and_the_lowest_number():
    rng = np.random.default_rng(6)
    q, k, v = arrays(rng, *3 * [(1, 2, 200, 8)])
    blocks = np.zeros((200, 200), bool)
    blocks[:100, 64:128] = blocks[100:, :50] = True
    check(q, k, v, mask=blocks)
    lowest = np.where(blocks, 0.0, np.finfo(np.float32).min).astype(np.float32)
    lowest[7] = np.finfo(np.float32).min  # a row where all are equally low is uniform
    result = attention(q, k, v, mask=lowest)
    np.testing.assert_allclose(result[0, :, 7], v[0].mean(1), atol=1e-6)
    np.testing.assert_array_equal(result[:, :, 100:], attention(q, k, v, mask=blocks)[:, :, 100:])


def test_rows_that_see_nothing():
    rng = np.random.default_rng(7)
    q, k, v = arrays(rng, (1, 2, 70, 8), *2 * [(1, 2, 66, 8)])
    mask = np.ones((70, 66), bool)
    mask[[0, 13, 69]] = False
    for options in ({"mask": mask}, {"mask": np.where(mask, 0.0, -np.inf)}):
        result = check(q, k, v, **options)
        assert np.all(result.output[:, :, [0, 13, 69]] == 0)
        assert np.all(result.logsumexp[:, :, [0, 13, 69]] == -np.inf)
        assert np.all(result.entropy[:, :, [0, 13, 69]] == 0)
        assert np.all(result.n_visible[:, :, [0, 13, 69]] == 0)
    sinks = np.array([0.5, -np.inf])
    result = check(q, k, v, mask=mask, sinks=sinks)
    assert np.all(result.logsumexp[0, 0, [0, 13, 69]] == 0.5)
    assert np.all(result.logsumexp[0, 1, [0, 13, 69]] == -np.inf)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["key", "value"])
@pytest.mark.parametrize("how", ["causal", "mask", "key lengths"])
def test_what_is_hidden_does_not_leak(bad, where, how):
    rng = np.random.default_rng(8)
    q, k, v = arrays(rng, *3 * [(1, 2, 150, 12)])
    clean = {"causal": 70, "mask": 150, "key lengths": 150}[how]
    mask = np.ones((150, 150), bool)
    mask[:, [3, 70, 149]] = False
    options = {
        "causal": {"is_causal": True},
        "mask": {"mask": mask},
        "key lengths": {"key_lengths": [140]},
    }[how]
    rows = {"causal": [70, 149], "mask": [3, 70, 149], "key lengths": [140, 149]}[how]
    expected = attention_with_stats(q, k, v, **options)
    {"key": k, "value": v}[where][:, :, rows, 5] = bad
    result = attention_with_stats(q, k, v, **options)
    for got, want in zip(result, expected, strict=True):
        np.testing.assert_array_equal(got[:, :, :clean], want[:, :, :clean])
    if how == "causal" and where == "value":
        with np.errstate(invalid="ignore"):
            exact = reference.attention(q, k, v, **options)
        np.testing.assert_array_equal(np.isnan(result.output), np.isnan(exact))
        np.testing.assert_array_equal(np.isinf(result.output), np.isinf(exact))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 4, 5, 40])
def test_long_cache(length, dtype):
    """Few queries are computed with dimensions as lanes, and long rows of keys in parts."""
    rng = np.random.default_rng(length)
    q, k, v = arrays(rng, (1, 2, length, 17), *2 * [(1, 2, 6001, 17)], dtype=dtype)
    lower = {"is_causal": True, "causal_alignment": "lower_right", "scale": EntropyInvariant()}
    result = check(q, k, v, **lower)
    again = attention_with_stats(q, k, v, **lower, threads=3)
    for got, want in zip(again, result, strict=True):
        np.testing.assert_array_equal(got, want)
    check(q, k, v, window=(100, 0), query_offsets=[5000])
    check(q, k, v, mask=rng.random((length, 6001)) < 0.5, sinks=rng.normal(size=2))
    check(q, k, v, bias=rng.normal(size=(2, length, 6001)), softcap=2.0)
    k[:, :, 6000], v[:, :, 5990:] = np.nan, np.inf
    hidden = attention_with_stats(q, k, v, key_lengths=[5990])
    check(q, k[:, :, :5990], v[:, :, :5990])
    shorter = attention_with_stats(q, k[:, :, :5990], v[:, :, :5990])
    np.testing.assert_array_equal(hidden.output, shorter.output)


def test_float16_is_computed_in_float32():
    """Few queries; of many the weights may be rounded, see test_many_queries()."""
    rng = np.random.default_rng(9)
    q, k, v = arrays(rng, (2, 4, 30, 20), *2 * [(2, 2, 130, 20)], dtype=np.float16)
    result = attention_with_stats(q, k, v, is_causal=True)
    wide = attention_with_stats(*(x.astype(np.float32) for x in (q, k, v)), is_causal=True)
    assert result.output.dtype == np.float16
    np.testing.assert_array_equal(result.output, wide.output.astype(np.float16))
    for got, want in zip(result[1:], wide[1:], strict=True):
        np.testing.assert_array_equal(got, want)


@needs_bfloat16
def test_bfloat16_is_computed_in_float32_but_where_it_is_multiplied(isa):
    rng = np.random.default_rng(9)
    halves = [x.astype(BFLOAT16) for x in arrays(rng, *3 * [(2, 2, 130, 20)])]
    out, *stats = kernel_call(*(x.view(np.uint16) for x in halves), isa)
    wide, *wide_stats = kernel_call(*(x.astype(np.float32) for x in halves), isa)
    same = np.array_equal(out.view(BFLOAT16), wide.astype(BFLOAT16))
    assert same == (isa.name not in ("avx512_bf16", "amx"))
    unit = 2.0**-24
    for got, want in zip(stats, wide_stats, strict=True):
        np.testing.assert_allclose(got, want, rtol=100 * unit, atol=100 * unit)


@needs_bfloat16
@pytest.mark.parametrize(
    ("length", "keys", "dim", "value_dim"),
    [
        *[(1, 300, 64, 64), (5, 1, 1, 1), (16, 15, 31, 17), (17, 16, 32, 16), (48, 64, 33, 15)],
        *[(49, 17, 64, 64), (97, 65, 40, 72), (130, 128, 128, 33), (50, 600, 2, 130)],
    ],
)
def test_bfloat16(length, keys, dim, value_dim):
    rng = np.random.default_rng(length)
    shapes = (2, 4, length, dim), (2, 2, keys, dim), (2, 2, keys, value_dim)
    q, k, v = (x.astype(BFLOAT16) for x in arrays(rng, *shapes))
    mask = rng.random((2, 1, length, keys)) < 0.6
    mask[0, 0, 0] = False
    for options in (
        {},
        {"is_causal": True},
        {"is_causal": True, "causal_alignment": "lower_right", "scale": EntropyInvariant()},
        {"window": (11, 3), "scale": -0.3},
        {"scale": 0.0, "sinks": rng.normal(size=4)},
        {"scale": rng.normal(size=4), "key_lengths": [keys // 2, keys]},
        {"mask": mask, "alibi_slopes": rng.random(4)},
        {"mask": np.where(mask, rng.normal(size=mask.shape), -np.inf), "is_causal": True},
        {"bias": rng.normal(size=(4, length, keys)), "softcap": 2.0},
    ):
        check(q, k, v, **options)


@needs_bfloat16
def test_bfloat16_of_one_size():
    """The errors of rounded weights have no chance to cancel."""
    rng = np.random.default_rng(32)
    q, k, v = arrays(rng, (1, 2, 90, 40), *2 * [(1, 2, 60, 40)])
    check(*(x.astype(BFLOAT16) for x in (q, k, np.sign(v))))


@pytest.mark.parametrize(
    "dtype", [np.float16, pytest.param(BFLOAT16, marks=needs_bfloat16)], ids=["float16", "bfloat16"]
)
def test_powers_of_half_types(dtype):
    """One key is the largest, and the powers of seven others err alike, at all fractions."""
    q, k, v = np.zeros((1, 1, 256, 32)), np.zeros((1, 1, 8, 32)), np.ones((1, 1, 8, 32))
    q[..., 0] = -np.arange(256.0).reshape(1, 1, 256) / 256  # exact, with 8 digits
    k[:, :, 1:, 0] = 1.0
    result = attention_with_stats(*(x.astype(dtype) for x in (q, k, v)), scale=1.0)
    exact = np.log1p(7.0 * np.exp(q[..., 0]))
    # A logit below 1 and its sum with others, 3 u; the power; sums, and 4 u of the result.
    unit = 2.0**-24
    assert np.all(np.abs(result.logsumexp - exact) <= (3 + 2.4 + 4 * np.maximum(1, exact)) * unit)


@needs_bfloat16
@pytest.mark.parametrize("value_dim", [1, 17, 48, 64, 65])
def test_bfloat16_while_the_maximum_moves(value_dim):
    """What sums are multiplied by changes in some tiles, for some queries, up and down."""
    rng = np.random.default_rng(value_dim)
    shapes = (1, 2, 100, 8), (1, 2, 700, 8), (1, 2, 700, value_dim)
    q, k, v = arrays(rng, *shapes)
    k[..., 0] = np.linspace(0.0, 1.0, 700) + np.sin(np.arange(700) / 70)
    q[..., 0] = np.linspace(-100.0, 100.0, 100)
    q, k, v = (x.astype(BFLOAT16) for x in (q, k, v))
    for options in ({}, {"is_causal": True, "query_offsets": [600]}, {"window": (200, 130)}):
        check(q, k, v, **options)


@needs_bfloat16
def test_bfloat16_that_is_hidden_does_not_leak():
    rng = np.random.default_rng(30)
    q, k, v = (x.astype(BFLOAT16) for x in arrays(rng, *3 * [(1, 2, 200, 40)]))
    options = {"is_causal": True, "threads": 1}
    before = attention_with_stats(q[:, :, :150], k[:, :, :150], v[:, :, :150], **options)
    k[:, :, 150:155], v[:, :, 150:160:2], v[:, :, 151:160:2] = np.nan, np.inf, np.nan
    after = attention_with_stats(q, k, v, **options)
    # A tile with such values is computed otherwise: rounded weights, or not.
    error = np.abs(np.float64(after.output[:, :, :150]) - np.float64(before.output))
    assert np.all(error <= 2.0**-7 * largest(np.float64(v)))
    np.testing.assert_array_equal(after.output[:, :, :128], before.output[:, :, :128])
    np.testing.assert_array_equal(after.entropy[:, :, :128], before.entropy[:, :, :128])
    assert np.all(np.isnan(np.float64(after.output[:, :, 160:])))


@needs_bfloat16
@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_bfloat16_that_is_not_finite(which, is_causal, isa):
    rng = np.random.default_rng(33)
    x = arrays(rng, *3 * [(2, 2, 140, 37)])
    x[which][:, :, [3, 70, 135], [5, 6, 7]] = np.inf, np.nan, -np.inf
    halves = [a.astype(BFLOAT16) for a in x]
    right = 0 if is_causal else 2**61
    out, *stats = kernel_call(*(a.view(np.uint16) for a in halves), isa, right=right)
    wide = [a.astype(np.float32) for a in halves]
    exact, *exact_stats, _ = kernel_call(*wide, _cpu.Isa.scalar, right=right)
    out = np.float32(out.view(BFLOAT16))
    np.testing.assert_array_equal(np.isnan(out), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(out), np.isinf(exact))
    np.testing.assert_allclose(out, exact, rtol=2.0**-7, atol=2.0**-7 * largest(wide[2]))
    for got, want in zip(stats, exact_stats, strict=False):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@needs_bfloat16
def test_queries_of_bfloat16_do_not_change_the_bits_of_others(isa):
    rng = np.random.default_rng(34)
    q, k, v = (
        x.astype(BFLOAT16).view(np.uint16)
        for x in arrays(rng, (2, 2, 140, 40), *2 * [(2, 2, 600, 40)])
    )
    before = kernel_call(q, k, v, isa, left=100, right=50)
    q[:, :, 7], q[:, :, 20], q[:, :, 100, 3] = 0x7F80, 0x4700, 0x7FC0  # infinity, 32768, NaN
    others = np.setdiff1d(np.arange(140), [7, 20, 100])
    for got, want in zip(kernel_call(q, k, v, isa, left=100, right=50), before, strict=True):
        np.testing.assert_array_equal(got[:, :, others], want[:, :, others])


@needs_bfloat16
@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
def test_denormal_bfloat16_counts_as_0(which, isa):
    rng = np.random.default_rng(35)
    x = [a.astype(BFLOAT16).view(np.uint16) for a in arrays(rng, *3 * [(1, 2, 70, 21)])]
    x[which][:, :, ::3, ::2] = 0
    expected = kernel_call(*x, isa)
    x[which][:, :, ::3, ::2] = rng.integers(1, 0x80, size=(1, 2, 24, 11))
    for got, want in zip(kernel_call(*x, isa), expected, strict=True):
        np.testing.assert_array_equal(got, want)


# With tile registers, packed keys are for 128 queries that share them and 32 dimensions at least.
MANY = (2, 2, 140, 40), (2, 2, 200, 40), (2, 2, 200, 36)
of_parts = pytest.mark.parametrize("dtype", [np.float32, np.float16])


@of_parts
@pytest.mark.parametrize(
    ("length", "keys", "dim", "value_dim"),
    [
        (128, 64, 32, 32),
        (129, 65, 33, 47),
        (150, 128, 64, 64),
        (171, 300, 100, 40),
        (64, 1, 32, 80),
        (130, 700, 36, 70),
    ],
)
def test_many_queries(length, keys, dim, value_dim, dtype):
    rng = np.random.default_rng(length)
    shapes = (2, 4, length, dim), (2, 2, keys, dim), (2, 2, keys, value_dim)
    q, k, v = arrays(rng, *shapes, dtype=dtype)
    mask = rng.random((2, 1, length, keys)) < 0.6
    mask[0, 0, 0] = False
    for options in (
        {},
        {"is_causal": True},
        {"is_causal": True, "causal_alignment": "lower_right", "scale": EntropyInvariant()},
        {"window": (11, 70), "scale": -0.3},
        {"scale": 0.0, "sinks": rng.normal(size=4)},
        {"scale": rng.normal(size=4), "key_lengths": [keys // 2, keys]},
        {"mask": mask, "alibi_slopes": rng.random(4)},
        {"mask": np.where(mask, rng.normal(size=mask.shape), -np.inf), "is_causal": True},
        {"bias": rng.normal(size=(4, length, keys)), "softcap": 2.0},
    ):
        check(q, k, v, **options)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_problem_of_many_queries(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    length, keys = data.draw(st.integers(120, 200)), data.draw(st.integers(0, 260))
    dim, value_dim = data.draw(st.integers(30, 70)), data.draw(st.integers(30, 70))
    dtype = data.draw(st.sampled_from([np.float32, np.float16]))
    shapes = (2, 2, length, dim), (2, 1, keys, dim), (2, 1, keys, value_dim)
    limit = st.none() | st.integers(0, 100)
    options = {
        "is_causal": data.draw(st.booleans()),
        "window": (data.draw(limit), data.draw(limit)),
        "query_offsets": data.draw(st.lists(st.integers(-50, 250), min_size=2, max_size=2)),
        "key_lengths": data.draw(st.lists(st.integers(0, keys), min_size=2, max_size=2)),
        "scale": data.draw(st.sampled_from([None, EntropyInvariant(), -0.2])),
    }
    if data.draw(st.booleans()):
        options["mask"] = rng.random((2, 1, length, keys)) < rng.random()
    check(*arrays(rng, *shapes, dtype=dtype), **options)


HARD = {
    "outliers": lambda x, rng: np.where(rng.random(x.shape) < 0.01, 30 * x, x),
    "wide exponents": lambda x, rng: x * 2.0 ** rng.integers(-60, 1, x.shape),
    "tiny": lambda x, _: x * 1e-32,
    "zeros": lambda x, _: 0 * x,
    "a huge row": lambda x, _: np.where(np.arange(x.shape[2])[:, None] == 77, 1e18 * x, x),
    "one sign": lambda x, _: np.abs(x),
    "few digits": lambda x, _: np.float32(x).view(np.uint32) // 2**14 * 2**14,
}


@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
@pytest.mark.parametrize("kind", HARD)
def test_hard_numbers(kind, which):
    rng = np.random.default_rng(11)
    x = arrays(rng, *MANY)
    hard = HARD[kind](np.float64(x[which]), rng)
    x[which] = hard.view(np.float32) if hard.dtype == np.uint32 else hard.astype(np.float32)
    check(*x)
    check(*x, is_causal=True, scale=EntropyInvariant())


@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
def test_denormal_numbers_count_as_0(which):
    x = arrays(np.random.default_rng(11), *MANY)
    x[which] *= np.float32(1e-38)
    flushed = list(x)
    flushed[which] = np.where(np.abs(x[which]) < 2.0**-126, np.float32(0), x[which])
    assert np.any(flushed[which] != x[which])
    for got, want in zip(attention_with_stats(*x), attention_with_stats(*flushed), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2.0**-118)


def test_large_factors_of_small_products():
    rng = np.random.default_rng(12)
    q, k, v = arrays(rng, *MANY)
    check(q * np.float32(1e-20), k * np.float32(1e-10), v, scale=1e29)
    check(q * np.float32(1e25), k * np.float32(1e-30), v, scale=1e4)


@of_parts
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_what_is_not_finite_is_as_without_tile_registers(bad, which, is_causal, isa, dtype):
    rng = np.random.default_rng(13)
    x = arrays(rng, *MANY, dtype=dtype)
    x[which][:, :, [3, 70, 135], 5] = bad
    right = 0 if is_causal else 2**61
    *expected, top = kernel_call(*x, _cpu.Isa.scalar, right=right)
    *results, largest_logit = kernel_call(*x, isa, right=right)
    rounding = 2.0**-16 if dtype == np.float32 else 2.0**-9
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, rtol=rounding, atol=rounding)
    ordered = ~np.isnan(expected[1])
    np.testing.assert_allclose(largest_logit[ordered], top[ordered], rtol=rounding, atol=rounding)


@of_parts
def test_queries_do_not_change_the_bits_of_others(isa, dtype):
    rng = np.random.default_rng(14)
    q, k, v = arrays(rng, MANY[0], *2 * [(2, 2, 600, 40)], dtype=dtype)
    before = kernel_call(q, k, v, isa)
    q[:, :, 7], q[:, :, 20], q[:, :, 100, 3] = np.inf, 1e4 * q[:, :, 20], np.nan
    if dtype == np.float32:
        q[:, :, 55] *= 1e15
    others = np.setdiff1d(np.arange(140), [7, 20, 55, 100])
    for got, want in zip(kernel_call(q, k, v, isa), before, strict=True):
        np.testing.assert_array_equal(got[:, :, others], want[:, :, others])


@of_parts
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_hidden_of_many_does_not_leak(bad, dtype):
    """Tiles with such numbers are computed otherwise, so that bits are those of the others."""
    rng = np.random.default_rng(15)
    q, k, v = arrays(rng, *3 * [(1, 2, 200, 40)], dtype=dtype)
    before = attention_with_stats(q, k, v, is_causal=True)
    k[:, :, 150:155], v[:, :, 150:160:2] = bad, bad
    after = attention_with_stats(q, k, v, is_causal=True)
    clean = slice(0, 150)
    check(*(x[:, :, clean] for x in (q, k, v)), is_causal=True)
    bound = (2.0**-17 if dtype == np.float32 else 2.0**-10) * largest(np.float64(v))
    for got, want in zip(after, before, strict=True):
        np.testing.assert_array_equal(got[:, :, :128], want[:, :, :128])
        np.testing.assert_allclose(got[:, :, clean], want[:, :, clean], rtol=0, atol=bound)
    assert np.all(np.isnan(np.float64(after.output[:, :, 160:])))


@of_each_kind
@pytest.mark.parametrize("offset", [31, 38, 39, 47])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_one_query_does_not_see_does_not_leak(bad, offset, dtype):
    """The edge of what all lanes see may lie within a block of keys."""
    q, k, v = arrays(np.random.default_rng(20), (1, 8, 1, 64), *2 * [(1, 1, 64, 64)], dtype=dtype)
    options = {"is_causal": True, "query_offsets": [offset]}
    before = attention_with_stats(q, k, v, **options)
    k[:, :, offset + 1 :], v[:, :, offset + 1 :] = bad, bad
    after = attention_with_stats(q, k, v, **options)
    for got, want in zip(after, before, strict=True):
        assert np.all(np.isfinite(np.float64(got)))
        np.testing.assert_allclose(np.float64(got), np.float64(want), rtol=0, atol=0.05)


@of_each_kind
def test_huge_logits(dtype):
    """A shift of more digits than a float has: the largest logit still has the weight 1."""
    q, k, v = arrays(np.random.default_rng(21), (1, 1, 192, 64), *2 * [(1, 1, 128, 64)])
    q, k, v = ((x * s).astype(dtype) for x, s in ((q, 2.0**15), (k, 2.0**15), (v, 1.0)))
    exact = reference.attention_with_stats(*(np.float64(x) for x in (q, k, v)))
    result = attention_with_stats(q, k, v)
    np.testing.assert_allclose(result.logsumexp, exact.logsumexp, rtol=1e-5)
    np.testing.assert_allclose(result.max_logit, exact.max_logit, rtol=1e-5)
    assert np.max(np.abs(np.float64(result.output) - exact.output)) < 0.02


@of_each_kind
def test_products_may_be_huge_before_the_scale(dtype):
    q, k, v = arrays(np.random.default_rng(22), (1, 1, 200, 64), *2 * [(1, 1, 130, 64)])
    q, k, v = (x.astype(dtype) for x in (q * 1e18, k * 1e18, v))
    exact = reference.attention(*(np.float64(x) for x in (q, k, v)), scale=3e-37)
    got = attention(q, k, v, scale=3e-37)
    np.testing.assert_allclose(np.float64(got), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("keys", [512, 2048])
@pytest.mark.parametrize("outliers", [False, True])
def test_tile_registers_err_no_more_than_vectors(outliers, keys):
    if _cpu.Isa.amx not in _cpu.supported_isas():
        pytest.skip("no tile registers")
    q, k, v = arrays(np.random.default_rng(16), (1, 2, 512, 64), *2 * [(1, 2, keys, 64)])
    if outliers:
        q[..., ::31] *= 8
        k[..., ::29] *= 8
    exact = reference.attention_with_stats(q, k, v)
    errors = {}
    for isa in (_cpu.Isa.amx, _cpu.Isa.avx512):
        out, lse, *_ = kernel_call(q, k, v, isa)
        errors[isa] = np.sqrt(np.mean((out - exact.output) ** 2))
        assert np.all(np.abs(lse - exact.logsumexp) <= 2e-6 * np.maximum(1, np.abs(lse)))
    assert errors[_cpu.Isa.amx] <= errors[_cpu.Isa.avx512]


@needs_bfloat16
def test_bfloat16_in_a_paged_cache():
    rng = np.random.default_rng(31)
    cache_k, cache_v = (x.astype(BFLOAT16) for x in arrays(rng, *2 * [(12, 24, 2, 40)]))
    q = arrays(rng, (2, 4, 30, 40))[0].astype(BFLOAT16)
    table = np.array([[3, 1, 7, 0], [11, 10, 5, 2]], np.int32)
    check(q, cache_k, cache_v, block_table=table, key_lengths=[90, 30])


def test_every_float16_is_read_and_written():
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = x[np.isfinite(x)]
    v = x.reshape(1, 1, -1, 8)
    q = k = np.ones((*v.shape[:3], 1), np.float16)
    out = attention(q, k, v, window=(0, 0))
    normal = np.abs(x) >= 2.0**-14  # float32 has them all, but 0 times one is 0
    np.testing.assert_array_equal(out.ravel()[normal], x[normal])
    np.testing.assert_allclose(out.ravel(), x, atol=0)


def test_packed_sequences():
    rng = np.random.default_rng(10)
    cu_q, cu_k = [0, 5, 5, 70, 71], [0, 80, 83, 83, 150]
    q, k, v = arrays(rng, (71, 4, 16), *2 * [(150, 2, 16)])
    for options in (
        {},
        {"is_causal": True},
        {"is_causal": True, "causal_alignment": "lower_right", "scale": EntropyInvariant()},
        {"key_lengths": [10, 0, 0, 67]},
        {"scale": rng.random((71, 4))},
    ):
        result = check(q, k, v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, **options)
        assert result.logsumexp.shape == (71, 4)
    alone = attention(q[5:70].swapaxes(0, 1), k[83:83].swapaxes(0, 1), v[83:83].swapaxes(0, 1))
    np.testing.assert_array_equal(
        attention(q, k, v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k)[5:70], alone.swapaxes(0, 1)
    )


def test_paged_cache():
    rng = np.random.default_rng(11)
    cache_k, cache_v = arrays(rng, *2 * [(12, 16, 2, 8)])
    q = arrays(rng, (3, 4, 2, 8))[0]
    table = np.array([[3, 1, 7, 0, 2], [11, 10, -1, 99, 5], [4, 4, 4, 4, 4]], np.int32)
    options = {"key_lengths": [70, 30, 0], "is_causal": True, "causal_alignment": "lower_right"}
    result = check(q, cache_k, cache_v, block_table=table, **options)
    keys = cache_k[table[0]].reshape(80, 2, 8)[:70].swapaxes(0, 1)
    values = cache_v[table[0]].reshape(80, 2, 8)[:70].swapaxes(0, 1)
    dense = attention(q[0], keys, values, is_causal=True, causal_alignment="lower_right")
    np.testing.assert_array_equal(result.output[0], dense)
    packed_q = q.swapaxes(1, 2).reshape(6, 4, 8)
    packed = check(
        packed_q, cache_k, cache_v, cu_seqlens_q=[0, 2, 4, 6], block_table=table, **options
    )
    np.testing.assert_array_equal(packed.output.reshape(3, 2, 4, 8).swapaxes(1, 2), result.output)


def test_axes_and_broadcasting():
    rng = np.random.default_rng(12)
    q, k, v = arrays(rng, (5, 1, 2, 30, 8), (3, 2, 40, 8), (3, 2, 40, 6))
    check(q, k, v, mask=rng.random((3, 1, 1, 40)) < 0.8)
    check(q[0, 0, 0], k[0, 0], v[0, 0], mask=rng.random((30, 40)) < 0.8)
    check(q[0, 0], k[0], v[0])
    check(q[0, 0], k[:, :1], v[:, :1])
    transposed = [np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) for x in (q, k, v)]
    np.testing.assert_array_equal(attention(*transposed), attention(q, k, v))
    strided = [x.swapaxes(-2, -3).copy().swapaxes(-2, -3)[..., ::-1, :] for x in (q, k, v)]
    np.testing.assert_array_equal(
        attention(*strided), attention(*(np.ascontiguousarray(x) for x in strided))
    )


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_empty(shape):
    b, h, n = shape
    q, k = np.ones((b, h, n, 4), np.float32), np.ones((b, h, 5, 4), np.float32)
    result = attention_with_stats(q, k, k)
    assert result.output.shape == q.shape
    assert result.logsumexp.shape == q.shape[:3]
    nothing = attention_with_stats(k, k[:, :, :0], k[:, :, :0])
    assert np.all(nothing.output == 0)
    assert np.all(nothing.logsumexp == -np.inf)


def test_offsets_beyond_all_numbers():
    rng = np.random.default_rng(16)
    q, k, v = arrays(rng, *3 * [(1, 2, 20, 8)])
    everything = attention_with_stats(q, k, v, is_causal=True, query_offsets=[2**63 - 1])
    for got, want in zip(everything, attention_with_stats(q, k, v), strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.flags.writeable
    nothing = attention_with_stats(q, k, v, is_causal=True, query_offsets=[-(2**63)])
    assert np.all(nothing.n_visible == 0)


def test_scores_far_apart():
    """A spread of 110 and more leaves weights that are denormal, or none."""
    rng = np.random.default_rng(13)
    q, k, v = arrays(rng, *3 * [(1, 2, 300, 16)])
    for spread in (110.0, 1e4):
        bias = -spread * rng.random((300, 300))
        check(q, k, v, bias=bias)
    check(1e3 * q, k, v)


def test_large_scores_do_not_overflow():
    q = k = np.full((1, 1, 3, 1), 1e15, np.float32)
    v = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1)
    result = attention_with_stats(q, k, v)
    np.testing.assert_allclose(result.output, 1.0)
    np.testing.assert_allclose(result.logsumexp, 1e30, rtol=1e-6)


@of_each_kind
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_bits_do_not_depend_on_threads_or_batch(threads, dtype):
    rng = np.random.default_rng(14)
    q, k, v = arrays(rng, (3, 4, 301, 32), *2 * [(3, 2, 333, 32)], dtype=dtype)
    options = {"is_causal": True, "scale": EntropyInvariant(), "threads": threads}
    result = attention_with_stats(q, k, v, **options)
    alone = attention_with_stats(q, k, v, **options | {"threads": 1})
    one = attention_with_stats(q[1:2], k[1:2], v[1:2], **options | {"threads": 1})
    for got, want, single in zip(result, alone, one, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got[1:2], single)


@of_each_kind
@pytest.mark.parametrize("length", [1, 3, 70])
def test_bits_of_a_long_cache_do_not_depend_on_threads_or_batch(length, dtype):
    rng = np.random.default_rng(15)
    q, k, v = arrays(rng, (9, 2, length, 16), *2 * [(9, 2, 2 * 2048 + 700, 16)], dtype=dtype)
    whole = attention_with_stats(q, k, v, threads=2)
    for batch, heads in ((slice(3, 4), slice(None)), (slice(3, 4), slice(1, 2))):
        part = attention_with_stats(q[batch, heads], k[batch, heads], v[batch, heads])
        for got, want in zip(part, whole, strict=True):
            np.testing.assert_array_equal(got, want[batch, heads])


def kernel_call(q, k, v, isa, **options):
    """Call the kernel itself, with an instruction set."""
    out = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    compute = np.float64 if q.dtype == np.float64 else np.float32
    lse, entropy, top = (np.empty(q.shape[:3], compute) for _ in range(3))
    sequences = np.array([[b, 0, q.shape[2], b, 0, k.shape[2], 0] for b in range(len(q))])
    scale = np.broadcast_to(compute(q.shape[3] ** -0.5), q.shape[:3])
    options = {"left": 2**61, "right": 2**61, **options}
    stats = {"logsumexp": lse, "entropy": entropy, "max_logit": top}
    _cpu.attention(q, k, v, out, sequences, scale, **stats, **options, isa=isa)
    return out, lse, entropy, top


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_instruction_sets(isa, dtype):
    rng = np.random.default_rng(15)
    q, k, v = arrays(rng, (2, 2, 77, 19), *2 * [(2, 2, 141, 19)], dtype=dtype)
    bias = rng.normal(size=(1, 2, 77, 141)).astype(dtype)
    slopes, sinks = rng.random(2).astype(dtype), rng.normal(size=2).astype(dtype)
    mask = (rng.random((2, 1, 77, 141)) < 0.6).view(np.uint8)
    mask[0, 0, 5] = 0
    results = kernel_call(
        q, k, v, isa, right=0, softcap=2.0, slopes=slopes, sinks=sinks, mask=mask, terms=bias
    )
    exact = reference.attention_with_stats(
        q, k, v, is_causal=True, softcap=2.0, alibi_slopes=slopes, sinks=sinks, bias=bias,
        mask=mask.view(bool),
    )  # fmt: skip
    tolerance = 200 * UNIT[np.dtype(dtype)]
    for got, want in zip(results, exact[:4], strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_reads_and_writes_nothing_outside_of_many(isa, guarded, dtype):
    rng = np.random.default_rng(16)
    q, k, v = map(guarded, arrays(rng, (1, 1, 131, 35), *2 * [(1, 1, 70, 35)], dtype=dtype))
    out = guarded(np.zeros((1, 1, 131, 35), dtype))
    sequences = np.array([[0, 0, 131, 0, 0, 70, 0]])
    scale = np.full((1, 1, 131), 0.2, np.float32)
    _cpu.attention(q, k, v, out, sequences, scale, left=2**61, right=0, isa=isa)
    exact = reference.attention(q, k, v, scale=np.float32(0.2), is_causal=True)
    np.testing.assert_allclose(out, exact, rtol=0, atol=2.0**-9 if dtype == np.float16 else 1e-5)


def test_reads_and_writes_nothing_outside(isa, guarded):
    rng = np.random.default_rng(16)
    for length, keys, dim, half in ((3, 5, 3, 0), (50, 70, 20, 0), (5, 3, 1, 1), (50, 79, 37, 1)):
        xs = arrays(rng, (1, 2, length, dim), *2 * [(1, 2, keys, dim)])
        if half:  # the upper halves of numbers are bfloat16
            xs = [(x.view(np.uint32) >> 16).astype(np.uint16) for x in xs]
        q, k, v = (guarded(x) for x in xs)
        bias = guarded(rng.normal(size=(1, 2, length, keys)).astype(np.float32))
        mask = guarded((rng.random((1, 1, length, keys)) < 0.5).view(np.uint8))
        out, lse, _, _ = kernel_call(q, k, v, isa, terms=bias, mask=mask)
        into = guarded(np.zeros_like(out))
        sequences = np.array([[0, 0, length, 0, 0, keys, 0]])
        scale = np.broadcast_to(np.float32(dim**-0.5), (1, 2, length))
        stats = {"logsumexp": guarded(np.zeros_like(lse))}
        limits = {"left": 2**61, "right": 2**61}
        _cpu.attention(
            q, k, v, into, sequences, scale, **limits, **stats, terms=bias, mask=mask, isa=isa
        )
        np.testing.assert_array_equal(into, out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork")  # it is what is tested
def test_forked_child_computes():
    rng = np.random.default_rng(17)
    q, k, v = arrays(rng, *3 * [(1, 4, 200, 16)])
    expected = attention(q, k, v, threads=4)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a hang is a failure, not a hang of the tests
        same = np.array_equal(attention(q, k, v, threads=4), expected)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_problem(data):
    size = st.integers(1, 70)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    key_heads, group = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    length, keys, dim = data.draw(size), data.draw(st.integers(0, 200)), data.draw(size)
    q, k, v = arrays(
        rng, (2, key_heads * group, length, dim), (2, key_heads, keys, dim), (2, key_heads, keys, 9)
    )
    limit = st.none() | st.integers(0, 100)
    options = {
        "is_causal": data.draw(st.booleans()),
        "window": (data.draw(limit), data.draw(limit)),
        "query_offsets": data.draw(st.lists(st.integers(-50, 250), min_size=2, max_size=2)),
        "key_lengths": data.draw(st.lists(st.integers(0, keys), min_size=2, max_size=2)),
    }
    if data.draw(st.booleans()):
        options["mask"] = rng.random((2, 1, length, keys)) < rng.random()
    check(q, k, v, **options, scale=data.draw(st.sampled_from([None, EntropyInvariant()])))


BAD = [
    ({"key": (1, 2, 5, 4)}, ValueError, r"head_dim.*\(1, 2, 3, 8\).*\(1, 2, 5, 4\)"),
    ({"value": (1, 2, 6, 8)}, ValueError, r"value like key.*\(1, 2, 5, 8\).*\(1, 2, 6, 8\)"),
    ({"key": (1, 3, 5, 8), "value": (1, 3, 5, 8)}, ValueError, "multiple"),
    ({"query": (2, 2, 3, 8), "key": (3, 2, 5, 8), "value": (3, 2, 5, 8)}, ValueError, "broadcast"),
    (
        {"mask": np.ones((4, 5), bool)},
        ValueError,
        r"mask that broadcasts to \(1, 2, 3, 5\).*\(4, 5\)",
    ),
    ({"mask": np.ones((3, 5), int)}, TypeError, "mask of bool or floats, not int64"),
    ({"bias": np.ones((3, 5), bool)}, TypeError, "bias of floats, not bool"),
    ({"key_lengths": [-1]}, ValueError, r"key_lengths from 0.*\[5\], not \[-1\]"),
    ({"key_lengths": [6]}, ValueError, r"\[5\], not \[6\]"),
    ({"key_lengths": [1, 1]}, ValueError, "1 elements"),
    ({"window": (-1, 0)}, ValueError, "window"),
    ({"window": 5}, ValueError, r"\(left, right\)"),
    ({"window": (2.5, 0)}, ValueError, r"\(2\.5, 0\)"),
    ({"softcap": 0.0}, ValueError, "softcap"),
    ({"sinks": np.ones(3)}, ValueError, "2 real numbers"),
    ({"scale": np.ones(3)}, ValueError, "2 heads"),
    ({"causal_alignment": "left"}, ValueError, "'left'"),
    ({"threads": 0}, ValueError, "threads"),
    ({"cu_seqlens_q": [0, 3]}, ValueError, "together"),
    ({"block_table": [[0]]}, ValueError, "key_lengths"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_arguments(changes, error, message):
    shapes = {"query": (1, 2, 3, 8), "key": (1, 2, 5, 8), "value": (1, 2, 5, 8)}
    q, k, v = (np.ones(changes.pop(name, shape), np.float32) for name, shape in shapes.items())
    with pytest.raises(error, match=message):
        attention(q, k, v, **changes)


def test_bad_packed_arguments():
    q = np.ones((6, 2, 8), np.float32)
    for cu in ([], [0, 5], [1, 6], [0, 7], [0, 4, 3, 6], [[0, 6]], [0.0, 6.0]):
        with pytest.raises(ValueError, match="cu_seqlens"):
            attention(q, q, q, cu_seqlens_q=cu, cu_seqlens_k=[0, 6])
    with pytest.raises(ValueError, match="3 elements"):
        attention(q, q, q, cu_seqlens_q=[0, 2, 6], cu_seqlens_k=[0, 6])
    with pytest.raises(ValueError, match="no mask"):
        attention(q, q, q, cu_seqlens_q=[0, 6], cu_seqlens_k=[0, 6], mask=np.ones((6, 6), bool))
    cache = np.ones((4, 16, 2, 8), np.float32)
    with pytest.raises(ValueError, match=r"0 to 3, not 4 at \[0, 1\]"):
        attention(q[None].swapaxes(1, 2), cache, cache, block_table=[[0, 4]], key_lengths=[17])


def test_types():
    q = np.ones((1, 1, 2, 4), np.float32)
    with pytest.raises(TypeError, match="one type, not float32, float64"):
        attention(q, q.astype(np.float64), q)
    with pytest.raises(TypeError, match="int64"):
        attention(q.astype(int), q, q)
    big = attention(q.astype(">f4"), q, q)
    np.testing.assert_array_equal(big, attention(q, q, q))


def test_torch_semantics():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.scaled_dot_product_attention
    ours = logitkit.scaled_dot_product_attention
    rng = np.random.default_rng(18)
    q, k, v = arrays(rng, (2, 4, 33, 16), (2, 4, 50, 16), (2, 4, 50, 16))
    mask = rng.random((2, 1, 33, 50)) < 0.7
    for options in (
        {},
        {"is_causal": True},
        {"attn_mask": mask},
        {"attn_mask": rng.normal(size=(33, 50)).astype(np.float32)},
        {"attn_mask": mask, "is_causal": True},
        {"attn_mask": rng.normal(size=(33, 50)).astype(np.float32), "is_causal": True},
        {"scale": 0.3},
    ):
        tensors = {k: torch.from_numpy(x) if hasattr(x, "shape") else x for k, x in options.items()}
        want = theirs(*map(torch.from_numpy, (q, k, v)), **tensors).numpy()
        np.testing.assert_allclose(ours(q, k, v, **options), want, atol=4e-6)
    want = theirs(*map(torch.from_numpy, (q, k[:, :2].copy(), v[:, :2].copy())), enable_gqa=True)
    np.testing.assert_allclose(ours(q, k[:, :2], v[:, :2], enable_gqa=True), want, atol=4e-6)


def test_a_key_of_nan_makes_logsumexp_nan_and_leaves_max_logit_to_the_others():
    x = np.array([[1.0, np.nan, 0.0], [0.0, 1.0, 2.0]])[:, :, None]
    result = attention_with_stats(x[1:], x[:1], x[:1], scale=1.0)
    assert np.isnan(result.logsumexp).all()
    assert np.isnan(result.output).all()
    assert all(np.isnan(m) or m in (0.0, 1.0, 2.0) for m in result.max_logit.flat)


def test_scaled_dot_product_attention_refuses():
    q = np.ones((1, 4, 3, 8), np.float32)
    with pytest.raises(ValueError, match="dropout"):
        logitkit.scaled_dot_product_attention(q, q, q, dropout_p=0.1)
    with pytest.raises(ValueError, match="enable_gqa"):
        logitkit.scaled_dot_product_attention(q, q[:, :2], q[:, :2])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_scores_are_not_stored():
    from pathlib import Path

    def peak():
        status = Path("/proc/self/status").read_text().split()
        return int(status[status.index("VmHWM:") + 1]) / 1024

    rng = np.random.default_rng(19)
    q, k, v = arrays(rng, *3 * [(1, 1, 6000, 8)])  # scores: 137 MiB
    attention(q[:, :, :100], k, v)
    before = peak()
    attention(q, k, v, is_causal=True)
    assert peak() - before < 16
