"""Attention of arrays of any library on a GPU, against that of arrays in main memory."""

from itertools import pairwise

import numpy as np
import pytest

import logitkit
from logitkit import EntropyInvariant, LogClip, cuda

torch = pytest.importorskip("torch")

INF = np.inf


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


MASK = normal(9, 17) > -0.5
MASK[2:4] = False  # rows that see nothing
CASES = {
    "plain": {},
    "causal": {"is_causal": True},
    "lower right": {"window": (5, 0), "causal_alignment": "lower_right"},
    "bool mask": {"mask": MASK},
    "mask and bias": {"mask": np.where(MASK, normal(9, 17), -INF), "bias": normal(2, 4, 1, 17)},
    "numbers": {"scale": 0.3, "softcap": 2.0, "alibi_slopes": [0.0, 0.1, 0.2, 0.3]},
    "of heads": {"scale": [0.1, 0.2, 0.3, 0.4], "sinks": normal(4)},
    "of rows": {"scale": np.exp(0.3 * normal(2, 4, 9))},
    "schedule": {"scale": LogClip(8), "is_causal": True},
    "schedule of heads": {"scale": EntropyInvariant([1.0, 2.0, 3.0, 4.0]), "mask": MASK},
    "lengths": {"key_lengths": [17, 3], "query_offsets": [1, -2], "is_causal": True},
}
PACKED = {
    "causal": {"is_causal": True},
    "schedule of heads": {"is_causal": True, "scale": EntropyInvariant([1.0, 2.0, 3.0, 4.0])},
    "of rows": {"sinks": normal(4), "scale": np.exp(0.1 * normal(10, 4))},
}


def moved(x, device):
    return torch.from_numpy(x).to(device) if isinstance(x, np.ndarray) else x


def host(x):
    return x.cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def check(arrays, options, move):
    """Compare within what csrc/attention/attention_cuda.h says of such arguments, or less."""
    want = logitkit.attention_with_stats(*arrays, **options)
    given = {name: move(x) for name, x in options.items()}
    found = cuda.attention_with_stats(*map(move, arrays), **given)
    for x, y in zip(map(host, found), want, strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        largest = np.abs(y[np.isfinite(y)]).max(initial=1.0)
        np.testing.assert_allclose(x, y, rtol=0.0, atol=2.0**-15 * largest)
    alone = host(cuda.attention(*map(move, arrays), **given))
    np.testing.assert_allclose(alone, want.output, rtol=0.0, atol=2.0**-15)


def dense(lead=(2,), key_lead=(2,)):
    return normal(*lead, 4, 9, 24), normal(*key_lead, 2, 17, 24), normal(*key_lead, 2, 17, 40)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_dense(options, device):
    check(dense(), options, lambda x: moved(x, device))


@pytest.mark.parametrize(
    ("lead", "key_lead"), [((), ()), ((3, 2), (1,)), ((1,), (2,)), ((2,), (3, 1))]
)
def test_batches_broadcast(lead, key_lead, device):
    full = np.broadcast_shapes(lead, key_lead)
    options = {"bias": normal(*full, 1, 9, 17), "is_causal": True}
    check(dense(lead, key_lead), options, lambda x: moved(x, device))


def test_one_head_without_its_axis(device):
    arrays = normal(9, 24), normal(17, 24), normal(17, 8)
    check(arrays, {"mask": MASK, "scale": 0.2}, lambda x: moved(x, device))


@pytest.mark.parametrize("options", PACKED.values(), ids=PACKED)
def test_packed(options, device):
    arrays = normal(10, 4, 24), normal(12, 2, 24), normal(12, 2, 40)
    ends = {"cu_seqlens_q": [0, 3, 3, 10], "cu_seqlens_k": [0, 4, 5, 12]}
    check(arrays, ends | options, lambda x: moved(x, device))


def test_paged_and_many_keys(device):
    arrays = normal(2, 4, 1, 24), normal(80, 16, 2, 24), normal(80, 16, 2, 24)
    table = np.random.default_rng(0).permutation(80).reshape(2, 40)
    options = {"block_table": table, "key_lengths": [600, 11], "scale": EntropyInvariant()}
    check(arrays, options, lambda x: moved(x, device))


def check_gradient(arrays, options, move):
    """Compare the gradient, given cotangents of all that has one, and the results or not."""
    want = logitkit.attention_with_stats(*arrays, **options)
    incoming = [normal(*x.shape) for x in want[:3]]
    named = dict(zip(("grad_logsumexp", "grad_entropy"), incoming[1:], strict=True))
    exact = logitkit.attention_vjp(*arrays, incoming[0], **named, **options)
    given = {name: move(x) for name, x in (options | named).items()}
    result = logitkit.cuda.attention_with_stats(
        *map(move, arrays), **{name: given[name] for name in options}
    )
    for more in ({}, {"result": result}):
        found = cuda.attention_vjp(*map(move, (*arrays, incoming[0])), **given, **more)
        for x, y in zip(found, exact, strict=True):
            if y is None:
                assert x is None
                continue
            x = host(x)
            assert x.shape == np.shape(y)
            assert x.dtype == y.dtype
            largest = np.abs(y).max(initial=1.0)
            np.testing.assert_allclose(x, y, rtol=0.0, atol=2.0**-15 * largest)


WITH_GRADIENT = [name for name in CASES if name != "schedule of heads"]


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_gradients(name, device):
    check_gradient(dense(), CASES[name], lambda x: moved(x, device))


@pytest.mark.parametrize("shape", [(2, 4, 9, 17), (1, 1, 17), (9, 1), (4, 1, 1), (2, 1, 9, 1)])
def test_gradients_of_a_bias(shape, device):
    options = {"bias": normal(*shape), "mask": normal(9, 17), "is_causal": True}
    check_gradient(dense(), options, lambda x: moved(x, device))


@pytest.mark.parametrize(("lead", "key_lead"), [((), ()), ((3, 2), (1,)), ((2,), (3, 1))])
def test_gradients_of_what_is_broadcast(lead, key_lead, device):
    options = {"bias": normal(2, 1, 9, 1) if lead or key_lead else normal(17), "scale": 0.2}
    check_gradient(dense(lead, key_lead), options, lambda x: moved(x, device))


def test_gradients_of_one_head_and_of_packed_batches(device):
    arrays = normal(9, 24), normal(17, 24), normal(17, 1)
    check_gradient(arrays, {"bias": normal(9, 17)}, lambda x: moved(x, device))
    arrays = normal(10, 4, 24), normal(12, 2, 24), normal(12, 2, 40)
    ends = {"cu_seqlens_q": [0, 3, 3, 10], "cu_seqlens_k": [0, 4, 5, 12]}
    check_gradient(arrays, ends | PACKED["of rows"], lambda x: moved(x, device))
    query, key, value = (moved(x, device) for x in dense())
    grad = moved(normal(2, 4, 9, 40), device)
    with pytest.raises(TypeError, match="the parameter of a schedule has no gradient"):
        cuda.attention_vjp(query, key, value, grad, scale=EntropyInvariant())
    with pytest.raises(ValueError, match="a paged cache has no gradients"):
        cuda.attention_vjp(query, key, value, grad, block_table=[[0]])


@pytest.mark.parametrize("name", CASES)
def test_arrays_of_jax(name, device):
    jax = pytest.importorskip("jax")
    if device != "cpu" and jax.default_backend() not in ("gpu", "cuda"):
        pytest.skip("JAX has no GPU")

    def move(x):
        return jax.numpy.asarray(x) if isinstance(x, np.ndarray) else x

    assert isinstance(cuda.attention(*map(move, dense())), jax.Array)
    check(dense(), CASES[name], move)
    if name in WITH_GRADIENT:
        check_gradient(dense(), CASES[name], move)


@pytest.mark.parametrize("name", PACKED)
def test_packed_arrays_of_jax(name, device):
    jax = pytest.importorskip("jax")
    if device != "cpu" and jax.default_backend() not in ("gpu", "cuda"):
        pytest.skip("JAX has no GPU")

    def move(x):
        return jax.numpy.asarray(x) if isinstance(x, np.ndarray) else x

    arrays = normal(10, 4, 24), normal(12, 2, 24), normal(12, 2, 40)
    options = {"cu_seqlens_q": [0, 3, 3, 10], "cu_seqlens_k": [0, 4, 5, 12], **PACKED[name]}
    check(arrays, options, move)
    if name != "schedule of heads":  # whose parameter has no gradient there
        check_gradient(arrays, options, move)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_merge(count, library, device):
    if library == "jax":
        jax = pytest.importorskip("jax")
        if device != "cpu" and jax.default_backend() not in ("gpu", "cuda"):
            pytest.skip("JAX has no GPU")
    query, key, value = dense()
    ends = np.linspace(0, 17, count + 1).astype(int)
    parts = [
        logitkit.attention_with_stats(
            query,
            key[:, :, a:b],
            value[:, :, a:b],
            mask=MASK[:, a:b],
            sinks=normal(4) if a == 0 else None,
        )
        for a, b in pairwise(ends)
    ]

    def move(x):
        return moved(x, device) if library == "torch" else jax.numpy.asarray(x)

    found = cuda.merge_attention([logitkit.reference.AttentionResult(*map(move, x)) for x in parts])
    for x, y in zip(map(host, found), logitkit.merge_attention(parts), strict=True):
        assert x.shape == y.shape
        assert library == "jax" or x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=0.0, atol=2.0**-19)


def test_errors(device):
    query, key, value = (moved(x, device) for x in dense())
    with pytest.raises(TypeError, match="of one type, not float32, float64 and float32"):
        cuda.attention(query, key.double(), value)
    with pytest.raises(TypeError, match="query of float16, bfloat16, float32, float64, not int32"):
        cuda.attention(query.int(), key, value)
    with pytest.raises(ValueError, match="batches that broadcast"):
        cuda.attention(
            query, key[:, None].expand(2, 3, 2, 17, 24), value[:, None].expand(2, 3, 2, 17, 40)
        )
    with pytest.raises(TypeError, match="mask of Tensor like query"):
        cuda.attention(query, key, value, mask=MASK)
    with pytest.raises(ValueError, match="at least one part"):
        cuda.merge_attention([])
    parts = [cuda.attention_with_stats(query[:, :, :n], key, value) for n in (2, 3)]
    with pytest.raises(
        ValueError, match=r"parts of one shape, not \(2, 4, 2, 40\), \(2, 4, 3, 40\)"
    ):
        cuda.merge_attention(parts)
    with pytest.raises(TypeError, match="bias of floats"):
        cuda.attention(query, key, value, bias=moved(MASK, device))
    with pytest.raises(ValueError, match="expected mask that broadcasts"):
        cuda.attention(query, key, value, mask=moved(MASK[:, :3], device))
    with pytest.raises(ValueError, match="scale for each of 4 heads"):
        cuda.attention(query, key, value, scale=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="sinks of real numbers"):
        cuda.attention(query, key, value, sinks=[1j] * 4)
    with pytest.raises(TypeError, match="key_lengths of integers"):
        cuda.attention(query, key, value, key_lengths=[1.0, 2.0])
