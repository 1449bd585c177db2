"""Products with Jacobians and weighted sums of the softmax family on a GPU, against main memory."""

import numpy as np
import pytest

import logitkit
from logitkit import _softmax_vjp, cuda

torch = pytest.importorskip("torch")

INF, NAN = np.inf, np.nan
TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
ULP = {torch.float16: 2**-10, torch.bfloat16: 2**-7, torch.float32: 2**-22, torch.float64: 2**-49}
# Shape, and axes.
LINES = [((3, 40), 1), ((40, 3), 0), ((2, 5, 7), (0, 2)), ((6,), None), ((), None), ((2, 0, 3), 0)]

by_type = pytest.mark.parametrize("dtype", TYPES, ids=str)
by_lines = pytest.mark.parametrize(("shape", "axis"), LINES, ids=str)


def tensor(x, dtype, device):
    return torch.from_numpy(np.asarray(x)).to(device, dtype)


def host(x):
    return x.double().cpu().numpy()


def numbers(shape, dtype, seed=0):
    """Return numbers that a type has, in float64."""
    x = np.random.default_rng(seed).normal(scale=2.0, size=shape)
    return host(torch.from_numpy(np.asarray(x)).to(dtype))


def assert_near(found, want, dtype):
    assert found.dtype == dtype
    assert tuple(found.shape) == np.shape(want)
    np.testing.assert_allclose(host(found), want, rtol=0.0, atol=ULP[dtype] * 8.0)


@by_type
@by_lines
def test_products(shape, axis, dtype, device):
    x, g = numbers(shape, dtype), numbers(shape, dtype, 1)
    for name in ("softmax", "log_softmax"):
        y = getattr(logitkit, name)(x, axis) if x.size else x
        y = host(torch.from_numpy(np.asarray(y)).to(dtype))
        vjp = f"{name}_vjp"
        found = getattr(cuda, vjp)(tensor(y, dtype, device), tensor(g, dtype, device), axis)
        assert_near(found, getattr(logitkit, vjp)(y, g, axis), dtype)
    z = tensor(x, dtype, device)
    for keepdims in (False, True) if shape else (False,):
        of_lines = numbers(np.shape(logitkit.logsumexp(x, axis, keepdims=keepdims)), dtype, 2)
        found = cuda.logsumexp_vjp(z, tensor(of_lines, dtype, device), axis, keepdims)
        want = logitkit.logsumexp_vjp(x, of_lines, axis, keepdims) if x.size else x
        assert_near(found, want, dtype)


@pytest.mark.parametrize("name", ["softmax_vjp", "log_softmax_vjp", "logsumexp_vjp"])
def test_special_values(name, device):
    x = np.array([[0.0, -INF, 1.0], [-INF, -INF, -INF], [NAN, 0.0, 1.0], [INF, 0.0, 1.0]])
    g = np.ones((4, 3)) if name != "logsumexp_vjp" else np.ones(4)
    if name != "logsumexp_vjp":
        x = getattr(logitkit, name.removesuffix("_vjp"))(x, 1)
    want = getattr(logitkit, name)(x, g, 1)
    x, g = (tensor(a, torch.float64, device) for a in (x, g))
    np.testing.assert_allclose(host(getattr(cuda, name)(x, g, 1)), want, rtol=1e-14)


def test_types_are_promoted(device):
    x = tensor([[1, 2, 3]], torch.int64, device)
    g = tensor([[1.0, 0.0, 0.0]], torch.float32, device)
    assert cuda.softmax_vjp(x, g, 1).dtype == torch.float64
    assert cuda.log_softmax_vjp(g, g.half(), 1).dtype == torch.float32
    assert cuda.logsumexp_vjp(g.bfloat16(), g[:, 0].bfloat16(), 1).dtype == torch.bfloat16


def test_shapes_that_do_not_fit(device):
    x = torch.zeros((2, 3), device=device)
    for name in ("softmax_vjp", "log_softmax_vjp"):
        with pytest.raises(
            ValueError, match=r"expected g of shape \(2, 3\), that of y, not \(3,\)"
        ):
            getattr(cuda, name)(x, x[0])
    with pytest.raises(ValueError, match=r"expected g of shape \(2,\), that of the result"):
        cuda.logsumexp_vjp(x, x, 1)
    with pytest.raises(
        ValueError, match=r"cannot broadcast a of shape \(2, 3\) against b of shape"
    ):
        cuda.logsumexp(x, 1, b=[1.0, 2.0])


@by_type
@pytest.mark.parametrize("return_sign", [False, True])
@by_lines
def test_weighted_sums(shape, axis, return_sign, dtype, device):
    a, b = numbers(shape, dtype), numbers(shape, dtype, 1)
    found = cuda.logsumexp(
        *(tensor(a, dtype, device), axis, tensor(b, dtype, device)), return_sign=return_sign
    )
    want = logitkit.logsumexp(a, axis, b, return_sign=return_sign)
    if return_sign:
        assert np.array_equal(host(found[1]), want[1])
        found, want = found[0], want[0]
    assert_near(found, want, dtype)


WEIGHTED = {
    "dropped": ([0.0, INF, NAN], [1.0, 0.0, 0.0]),
    "all dropped": ([0.0, INF], [0.0, 0.0]),
    "negative": ([0.0, 1.0], [1.0, -1.0]),
    "cancels": ([1000.0, 1000.0], [1.0, -1.0]),
    "leaves digits": ([0.0, 0.0, -30.0], [1.0, -1.0, 1.0]),
    "infinite": ([INF, 800.0], [1.0, -1e300]),
    "infinite, negative": ([INF, 0.0], [-1.0, 1.0]),
    "both infinite": ([INF, INF], [1.0, -1.0]),
    "not a number": ([NAN, 0.0], [1.0, 1.0]),
    "weight of infinity": ([0.0, 1.0], [INF, 1.0]),
    "tiny weight": ([1400.0, 0.0], [1e-300, 1.0]),
    "nothing": ([-INF, -INF], [1.0, 2.0]),
    "empty": ([], []),
}


@pytest.mark.parametrize(("a", "b"), WEIGHTED.values(), ids=WEIGHTED)
def test_weighted_sums_of_special_values(a, b, device):
    a, b = np.array(a), np.array(b)
    want, want_sign = logitkit.logsumexp(a, b=b, return_sign=True)
    x, weights = (tensor(v, torch.float64, device) for v in (a, b))
    found, sign = cuda.logsumexp(x, b=weights, return_sign=True)
    np.testing.assert_allclose(host(found), want, rtol=1e-14)
    np.testing.assert_array_equal(host(sign), want_sign)
    np.testing.assert_allclose(
        host(cuda.logsumexp(x, b=weights)), logitkit.logsumexp(a, b=b), rtol=1e-14
    )


def test_digits_of_terms_between_others_that_cancel(device):
    terms = np.random.default_rng(3).normal(size=1000)
    a = np.concatenate([np.log(np.abs(terms)), np.log(np.abs(terms)), [-20.0]])
    b = np.concatenate([np.sign(terms), -np.sign(terms), [1.0]])
    order = np.random.default_rng(4).permutation(2001)
    x, weights = (tensor(v[order], torch.float64, device) for v in (a, b))
    assert abs(float(cuda.logsumexp(x, b=weights)) + 20.0) < 1e-6


def test_weights_are_broadcast_and_may_be_numbers(device):
    a = numbers((3, 1, 4), torch.float64)
    x = tensor(a, torch.float64, device)
    assert_near(cuda.logsumexp(x, 2, 2.0), logitkit.logsumexp(a, 2, 2.0), torch.float64)
    weights = [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, -0.5]]
    found = cuda.logsumexp(x, (1, 2), weights, True)
    assert_near(found, logitkit.logsumexp(a, (1, 2), weights, True), torch.float64)
    out = torch.empty(3, dtype=torch.float64, device=device)
    assert cuda.logsumexp(x, (1, 2), weights, out=out) is out
    assert torch.equal(out, found[:, 0, 0])
    assert cuda.logsumexp(x.float(), 2, weights).dtype == torch.float64
    with pytest.raises(TypeError, match="expected real numbers"):
        cuda.logsumexp(x, b=[1j])


def test_functions_of_logitkit_find_those_for_gpus(device, monkeypatch):
    monkeypatch.setattr(_softmax_vjp, "gpu_bridge_for", lambda _: cuda)
    x = tensor([[0.0, 1.0, 2.0]], torch.float32, device)
    for name, g in (("softmax_vjp", x), ("log_softmax_vjp", x), ("logsumexp_vjp", x[:, 0])):
        assert torch.equal(getattr(logitkit, name)(x, g, 1), getattr(cuda, name)(x, g, 1))
