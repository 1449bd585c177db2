"""logitkit.attention_vjp against the reference, which is checked by finite differences."""

from functools import partial

import numpy as np
import pytest

from logitkit import (
    AttentionScale,
    EntropyInvariant,
    LogBase,
    _cpu,
    attention,
    attention_vjp,
    attention_with_stats,
    reference,
)

FIELDS = ("query", "key", "value", "bias", "sinks", "scale")


@pytest.fixture(params=_cpu.supported_isas(), ids=lambda isa: isa.name)
def isa(request):
    """Each instruction set of this machine in turn, tile registers too."""
    return request.param


def arrays(rng, *shapes, dtype=np.float64):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def gradients_of_row_scales(query, key, value, grad, result, more, options):
    """Those of scales that no rows share; the gradient of a shared one is their sum."""
    scale, head_dim = options["scale"], query.shape[-1]
    if isinstance(scale, AttentionScale):
        scale = scale.row_scale(result.n_visible, head_dim)
    elif np.ndim(scale) < 2:
        scale = np.asarray(scale)[..., None]
    of_rows = options | {"scale": np.broadcast_to(scale, result.n_visible.shape)}
    return reference.attention_vjp(query, key, value, grad, **more, **of_rows).scale


def check(query, key, value, *, seed=0, stats=True, **options):
    rng = np.random.default_rng(seed)
    result = attention_with_stats(query, key, value, **options)
    grad = rng.normal(size=result.output.shape).astype(query.dtype)
    more = {}
    if stats:
        more["grad_logsumexp"] = rng.normal(size=result.entropy.shape).astype(result.entropy.dtype)
        more["grad_entropy"] = rng.normal(size=result.entropy.shape).astype(result.entropy.dtype)
    exact = reference.attention_vjp(query, key, value, grad, **more, **options)
    got = attention_vjp(query, key, value, grad, **more, **options)
    eps = 2.0**-24 if result.entropy.dtype == np.float32 else 2.0**-53
    for name in FIELDS:
        ours, theirs = getattr(got, name), getattr(exact, name)
        assert (ours is None) == (theirs is None), name
        if ours is None:
            continue
        assert np.shape(ours) == np.shape(theirs), name
        size = np.max(np.abs(theirs), initial=1.0)  # the contract of csrc/attention/attention.h
        if name == "scale" and result.n_visible.ndim == 3:
            rows = gradients_of_row_scales(query, key, value, grad, result, more, options)
            size = max(size, np.max(np.linalg.norm(rows.reshape(*rows.shape[:2], -1), axis=(0, 2))))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=300 * eps * size, err_msg=name)
    assert got.query.dtype == query.dtype
    again = attention_vjp(query, key, value, grad, result=result, **more, **options)
    np.testing.assert_array_equal(again.key, got.key)
    return got


def test_the_reference_by_finite_differences():
    rng = np.random.default_rng(0)
    q, k, v = arrays(rng, (2, 4, 5, 6), (2, 2, 7, 6), (2, 2, 7, 3))
    grad, g_lse, g_h = arrays(rng, (2, 4, 5, 3), (2, 4, 5), (2, 4, 5))
    given = {
        "bias": rng.normal(size=(4, 5, 7)),
        "sinks": rng.normal(size=4),
        "scale": rng.random(4),
    }
    fixed = {
        "is_causal": True,
        "causal_alignment": "lower_right",
        "softcap": 2.0,
        "alibi_slopes": rng.random(4),
        "mask": rng.random((2, 1, 5, 7)) < 0.8,
    }

    def loss(q, k, v, **options):
        r = reference.attention_with_stats(q, k, v, **options, **fixed)
        lse = np.where(np.isfinite(r.logsumexp), r.logsumexp, 0)
        return np.sum(r.output * grad) + np.sum(lse * g_lse) + np.sum(r.entropy * g_h)

    grads = reference.attention_vjp(
        q, k, v, grad, grad_logsumexp=g_lse, grad_entropy=g_h, **given, **fixed
    )
    arguments = {"query": q, "key": k, "value": v, **given}
    step = 1e-5
    for name, x in arguments.items():
        want = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            losses = []
            for sign in (1, -1):
                moved = x.copy()
                moved[i] += sign * step
                changed = arguments | {name: moved}
                first = [changed.pop(n) for n in ("query", "key", "value")]
                losses.append(loss(*first, **changed))
            want[i] = (losses[0] - losses[1]) / (2 * step)
        np.testing.assert_allclose(getattr(grads, name), want, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    ("length", "keys"), [(1, 1), (1, 100), (7, 63), (16, 65), (49, 128), (100, 9), (145, 300)]
)
def test_sizes(length, keys, is_causal, dtype, isa, monkeypatch):
    for name in ("attention", "attention_gradient"):
        monkeypatch.setattr(_cpu, name, partial(getattr(_cpu, name), isa=isa))
    rng = np.random.default_rng(length + keys)
    shapes = (2, 2, length, 33), (2, 2, keys, 33), (2, 2, keys, 33)
    check(*arrays(rng, *shapes, dtype=dtype), is_causal=is_causal)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("head_dim", "value_dim"), [(1, 1), (2, 7), (15, 16), (17, 5), (64, 64), (65, 33), (130, 3)]
)
def test_head_dims(head_dim, value_dim, dtype):
    rng = np.random.default_rng(head_dim)
    shapes = (1, 2, 177, head_dim), (1, 2, 70, head_dim), (1, 2, 70, value_dim)
    check(*arrays(rng, *shapes, dtype=dtype))


OPTIONS = {
    "none": {},
    "lower right": {"is_causal": True, "causal_alignment": "lower_right"},
    "window": {"window": (20, 9)},
    "softcap": {"softcap": 1.5},
    "offsets": {"query_offsets": [3, -70], "is_causal": True},
    "key lengths": {"key_lengths": [130, 0]},
    "scale": {"scale": 0.1},
    "scale 0": {"scale": np.array([0.1, 0.0, 1.0])},
    "scale of rows": {"scale": np.linspace(0, 1, 170)[None]},
    "entropy scale": {"scale": EntropyInvariant(), "is_causal": True},
    "kappa": {"scale": EntropyInvariant(np.array([1.0, 2.0, 3.0])), "window": (30, 0)},
    "one kappa": {"scale": EntropyInvariant(1.5), "is_causal": True},
    "nothing to learn": {"scale": LogBase(least=16), "is_causal": True},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stats", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, stats, dtype):
    rng = np.random.default_rng(3)
    q, k, v = arrays(rng, (2, 3, 170, 32), *2 * [(2, 3, 130, 32)], dtype=dtype)
    check(q, k, v, stats=stats, **OPTIONS[name])
    extra = {
        "sinks": rng.normal(size=3),
        "bias": rng.normal(size=(3, 170, 130)),
        "alibi_slopes": rng.random(3),
        "mask": rng.random((2, 1, 170, 130)) < 0.3,
    }
    check(q, k, v, stats=stats, **OPTIONS[name], **extra)


@pytest.mark.parametrize(
    "shape", [(60, 70), (1, 70), (60, 1), (3, 1, 70), (2, 1, 1, 70), (2, 3, 60, 70), (1, 1, 1, 1)]
)
def test_bias_broadcasts(shape):
    rng = np.random.default_rng(5)
    q, k, v = arrays(rng, (2, 3, 60, 8), *2 * [(2, 3, 70, 8)])
    bias = np.where(rng.random(shape) < 0.2, -np.inf, rng.normal(size=shape))
    check(q, k, v, bias=bias, mask=rng.random((60, 70)) < 0.9)


@pytest.mark.parametrize("length", [1, 3, 23, 50])
@pytest.mark.parametrize("heads", [(8, 2), (6, 1)])
def test_groups_of_heads(heads, length):
    rng = np.random.default_rng(0)
    q, k, v = arrays(rng, (2, heads[0], length, 32), *2 * [(2, heads[1], 90, 32)], dtype=np.float32)
    check(q, k, v, is_causal=True, causal_alignment="lower_right")


def test_packed_sequences():
    rng = np.random.default_rng(10)
    q, k, v = arrays(rng, (171, 4, 32), *2 * [(250, 2, 32)], dtype=np.float32)
    packed = {"cu_seqlens_q": [0, 105, 105, 170, 171], "cu_seqlens_k": [0, 180, 183, 183, 250]}
    check(q, k, v, **packed)
    check(q, k, v, **packed, is_causal=True, scale=EntropyInvariant(np.ones(4)), sinks=np.ones(4))
    check(q, k, v, **packed, scale=rng.random((171, 4)))


def test_axes_and_broadcasting():
    rng = np.random.default_rng(12)
    q, k, v = arrays(rng, (5, 1, 2, 30, 8), (3, 2, 40, 8), (3, 2, 40, 6))
    grad = rng.normal(size=(5, 3, 2, 30, 6))
    got = attention_vjp(q, k, v, grad)
    whole = attention_vjp(
        *(np.broadcast_to(x, (5, 3, *x.shape[-3:])).copy() for x in (q, k, v)), grad
    )
    np.testing.assert_allclose(got.key, whole.key.sum(0), atol=1e-12)
    np.testing.assert_allclose(got.query, whole.query.sum(1, keepdims=True), atol=1e-12)
    check(q[0, 0, 0], k[0, 0], v[0, 0], bias=rng.normal(size=(30, 40)))
    check(q[0, 0], k[0], v[0])


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_types(half):
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), half, half))
    rng = np.random.default_rng(9)
    q, k, v = (x.astype(dtype) for x in arrays(rng, (2, 4, 160, 40), *2 * [(2, 2, 130, 40)]))
    result = attention_with_stats(q, k, v)
    grad = rng.normal(size=q.shape).astype(dtype)
    got = attention_vjp(q, k, v, grad, result=result)
    wide = [x.astype(np.float32) for x in (q, k, v, grad)]
    exact = attention_vjp(*wide, result=result._replace(output=result.output.astype(np.float32)))
    for name in ("query", "key", "value"):
        assert getattr(got, name).dtype == dtype
        np.testing.assert_array_equal(getattr(got, name), getattr(exact, name).astype(dtype))


def test_rows_that_see_nothing_have_no_gradient():
    rng = np.random.default_rng(7)
    q, k, v = arrays(rng, (1, 2, 170, 32), *2 * [(1, 2, 66, 32)], dtype=np.float32)
    mask = np.ones((170, 66), bool)
    mask[[0, 13, 169]] = False
    mask[:, 5] = False
    for options in ({}, {"sinks": np.array([0.5, -np.inf])}):
        got = check(q, k, v, mask=mask, **options)
        assert np.all(got.query[:, :, [0, 13, 169]] == 0)
        for x in (got.key, got.value):
            assert np.all(x[:, :, 5] == 0)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_hidden_does_not_leak(bad, softcap, isa, monkeypatch):
    # The bits of the pass forward may depend on hidden values with tile registers.
    forward = isa if isa.name != "amx" else _cpu.Isa.avx512
    for name, of_pass in (("attention", forward), ("attention_gradient", isa)):
        monkeypatch.setattr(_cpu, name, partial(getattr(_cpu, name), isa=of_pass))
    rng = np.random.default_rng(8)
    q, k, v = arrays(rng, *3 * [(1, 2, 150, 32)], dtype=np.float32)
    mask = np.ones((150, 150), bool)
    mask[:, [3, 70, 149]] = False
    grad = rng.normal(size=q.shape).astype(np.float32)
    expected = attention_vjp(q, k, v, grad, mask=mask, softcap=softcap)
    k[:, :, 3] = v[:, :, 70] = v[:, :, 149] = bad
    got = attention_vjp(q, k, v, grad, mask=mask, softcap=softcap)
    for ours, theirs in zip(got[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def vjps_by_isa(query, key, value, grad, *, given=None, **options):
    """
    Return what tile registers find, and what AVX-512 does, for the same result of attention.

    It is that of AVX-512, but for the fields that are given. Skips the test where there are no tile
    registers.
    """
    isas = {isa.name: isa for isa in _cpu.supported_isas()}
    if "amx" not in isas:
        pytest.skip("no tile registers")
    of_isa, got = _cpu.attention_gradient, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cpu, "attention", partial(_cpu.attention, isa=isas["avx512"]))
        result = attention_with_stats(query, key, value, **options)
        result = result._replace(**(given or {}))
        for name in ("amx", "avx512"):
            patch.setattr(_cpu, "attention_gradient", partial(of_isa, isa=isas[name]))
            got.append(attention_vjp(query, key, value, grad, result=result, **options))
    return got


def outliers(rng, x, factor):
    x[..., ::7] *= factor
    x[..., ::31, :] *= factor


def wide(rng, x, exponent):
    x *= np.exp2(rng.uniform(-exponent, exponent, size=x.shape)).astype(np.float32)


def positive(rng, x, least):
    np.abs(x, out=x)
    x += least


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    ("kind", "logits", "linear"),
    [
        (positive, 0.0, 1.0),
        (outliers, 1.0, 1.0),
        (outliers, 3.0, 100.0),
        (wide, 1.0, 20.0),
        (wide, 3.0, 38.0),
    ],
)
def test_tile_registers_are_as_accurate(kind, logits, linear, is_causal):
    rng = np.random.default_rng(20)
    q, k, v, grad = arrays(rng, *4 * [(1, 2, 300, 64)], dtype=np.float32)
    for x, size in ((q, logits), (k, logits), (v, linear), (grad, linear)):
        kind(rng, x, size)
    exact = reference.attention_vjp(*map(np.float64, (q, k, v, grad)), is_causal=is_causal)
    # The errors of a pass forward with AVX-512 would be those of its own logits.
    stats = reference.attention_with_stats(*map(np.float64, (q, k, v)), is_causal=is_causal)
    given = {name: getattr(stats, name).astype(np.float32) for name in ("output", "logsumexp")}
    ours, theirs = vjps_by_isa(q, k, v, grad, given=given, is_causal=is_causal)
    for a, b, c in zip(ours[:3], theirs[:3], exact[:3], strict=True):
        size = np.max(np.abs(c))
        error, other = (np.sqrt(np.mean(((x - c) / size) ** 2)) for x in (a, b))
        assert error <= 1.25 * other, (error, other)  # the contract of csrc/attention/attention.h


def test_what_may_not_be_split_is_not():
    """Numbers near the limits of floats are left to AVX-512, bit for bit."""
    rng = np.random.default_rng(21)
    q, k, v, grad = arrays(rng, *4 * [(1, 2, 150, 33)], dtype=np.float32)
    for power in (-100, 60):
        ours, theirs = vjps_by_isa(q, k, v, np.float32(2.0**power) * grad)
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(a, b)
    for factor in (np.float32(2.0**-120), np.float32(2.0**-60), np.float32(2.0**70)):
        ours, theirs = vjps_by_isa(q, k, factor * v, grad)
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(a, b)
    # These are the same, but for their weights.
    ours, theirs = vjps_by_isa(q * np.float32(2.0**60), k * np.float32(2.0**-60), v, grad)
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_array_equal(a, b)


def test_denormal_numbers_count_as_zero():
    rng = np.random.default_rng(22)
    xs = arrays(rng, *4 * [(1, 2, 200, 32)], dtype=np.float32)
    small = [np.where(rng.random(x.shape) < 0.3, np.float32(1e-40), x) for x in xs]
    zeros = [np.where(x == np.float32(1e-40), np.float32(0), x) for x in small]
    for got, want in zip(vjps_by_isa(*small), vjps_by_isa(*zeros), strict=True):
        for a, b in zip(got[:3], want[:3], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("where", ["query", "key", "value", "grad"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_spreads_as_far(bad, where):
    rng = np.random.default_rng(23)
    xs = dict(
        zip(
            ("query", "key", "value", "grad"),
            arrays(rng, *4 * [(1, 2, 200, 34)], dtype=np.float32),
            strict=True,
        )
    )
    xs[where][0, 1, 100, 3] = bad
    for options in ({}, {"is_causal": True}, {"window": (30, 10)}):
        ours, theirs = vjps_by_isa(*xs.values(), **options)
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            size = np.max(np.abs(b[:, :1]))
            np.testing.assert_allclose(a[:, :1], b[:, :1], rtol=0, atol=300 * 2.0**-24 * size)


@pytest.mark.parametrize("bad", [-80, -60, -np.inf, np.inf, np.nan])
def test_weights_of_another_logsumexp(bad):
    """It may be too small, which makes weights that tile registers had better not see."""
    rng = np.random.default_rng(24)
    q, k, v, grad = arrays(rng, *4 * [(1, 1, 200, 32)], dtype=np.float32)
    logsumexp = attention_with_stats(q, k, v).logsumexp
    logsumexp[0, 0, [3, 50]] = bad
    ours, theirs = vjps_by_isa(q, k, v, grad, given={"logsumexp": logsumexp})
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        seen = ~np.isnan(b)
        size = np.max(np.abs(b), where=seen, initial=0)
        np.testing.assert_allclose(a[seen], b[seen], rtol=0, atol=300 * 2.0**-24 * size)


@pytest.mark.parametrize("heads", [1, 20])
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_bits_do_not_depend_on_threads(threads, heads):
    rng = np.random.default_rng(14)
    long, short = (1, heads, 1700, 32), (1, heads, 301, 32)  # queries of two parts
    q, k, v, grad = arrays(rng, long, short, short, long, dtype=np.float32)
    options = {"is_causal": True, "scale": EntropyInvariant(np.ones(heads))}
    got = attention_vjp(q, k, v, grad, **options, threads=threads)
    alone = attention_vjp(q, k, v, grad, **options, threads=1)
    for ours, theirs in zip(got, alone, strict=True):
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("length", [70, 200, 1700])
def test_bits_do_not_depend_on_other_heads_and_batches(length):
    rng = np.random.default_rng(19)
    long, short = (2, 3, length, 32), (2, 3, 130, 32)
    xs = arrays(rng, long, short, short, long, dtype=np.float32)
    whole = attention_vjp(*xs, is_causal=True)
    for batch, head in ((slice(1, 2), slice(None)), (slice(0, 1), slice(2, 3))):
        part = attention_vjp(*(x[batch, head] for x in xs), is_causal=True)
        for got, want in zip(part[:3], whole, strict=False):
            np.testing.assert_array_equal(got, want[batch, head])


def test_torch_agrees():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(18)
    q, k, v, grad = arrays(rng, *4 * [(2, 4, 90, 16)])
    tensors = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=True)
    out.backward(torch.from_numpy(grad))
    got = attention_vjp(q, k, v, grad, is_causal=True)
    for ours, theirs in zip(got[:3], tensors, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-12)


def test_bad_arguments():
    q = np.ones((1, 2, 5, 8), np.float32)
    with pytest.raises(
        ValueError, match=r"shape of the output, \(1, 2, 5, 8\), not \(1, 2, 5, 7\)"
    ):
        attention_vjp(q, q, q, np.ones((1, 2, 5, 7), np.float32))
    with pytest.raises(ValueError, match=r"grad_entropy of shape \(1, 2, 5\)"):
        attention_vjp(q, q, q, q, grad_entropy=np.ones((1, 2, 4)))
    other = attention_with_stats(q[:, :, :4], q, q)
    with pytest.raises(ValueError, match=r"result of shape \(1, 2, 5, 8\), not \(1, 2, 4, 8\)"):
        attention_vjp(q, q, q, q[:, :, :4], result=other)
    assert attention(q, q, q).shape == q.shape


def test_no_heads():
    rng = np.random.default_rng(12)
    q, k, v = arrays(rng, (1, 0, 5, 64), *2 * [(1, 4, 100, 64)])
    got = attention_vjp(q, k, v, np.zeros_like(q))
    assert got.query.shape == q.shape
    for grad in (got.key, got.value):
        np.testing.assert_array_equal(grad, np.zeros_like(k))
