"""Log-sum-exp, softmax and statistics on a GPU, against the reference in float64."""

import numpy as np
import pytest

import logitkit
from logitkit import cuda, reference
from logitkit.cuda import _device

torch = pytest.importorskip("torch")

INF, NAN = np.inf, np.nan
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# One more and one less than what the registers of a group hold, slices, columns of each width.
SHAPES = (
    [(3, n, 1) for n in (1, 2, 8, 63, 64, 65, 255, 256, 257, 1000, 1023, 1024, 1025)]
    + [(2, n, 1) for n in (2048, 4096, 4104, 8192, 8200, 16384)]
    + [(1, n, 1) for n in (16385, 16392, 32768, 32769, 70001)]
    + [(2, 7, i) for i in (2, 3, 31, 33)]
    + [(3, 1500, 5), (1, 3000, 40), (70, 4, 3), (300, 5, 1)]
)


# The contract in csrc/softmax/softmax_cuda.h, and one rounding to the type of the result.
def bound(dtype):
    rounding = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)
    return rounding + (2.0**-49 if dtype is torch.float64 else 2.0**-21)


def logits(shape, dtype, device, spread=5.0, seed=0):
    x = spread * np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(x).to(device, dtype)


def exact(x):
    return x.double().cpu().numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape, dtype, device, guarded):
    x, _ = guarded(logits(shape, dtype, device))
    z, e = exact(x), bound(dtype)
    tiny = torch.finfo(dtype).smallest_normal

    want = reference.logsumexp(z, 1)
    assert np.all(np.abs(exact(cuda.logsumexp(x, 1)) - want) <= e * (1.0 + np.abs(want)))

    out, is_intact = guarded(torch.empty_like(x))
    y = exact(cuda.softmax(x, 1, out=out))
    assert is_intact()
    p = reference.softmax(z, 1)
    ulps = (2.0 + z.max(1, keepdims=True) - z) * bound(
        torch.float64 if dtype is torch.float64 else torch.float32
    )
    half = e - bound(torch.float32) if dtype in DTYPES[2:] else 0.0
    assert np.all(np.abs(y - p) <= (ulps + 2.0 * half) * p + tiny)

    want = reference.log_softmax(z, 1)
    found = exact(cuda.log_softmax(x, 1))
    assert np.all(
        np.abs(found - want) <= 2.0 * e * (1.0 + np.abs(z).max(1, keepdims=True) + np.abs(want))
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 1), (2, 1000, 1), (1, 20001, 1), (2, 900, 3)], ids=str)
@pytest.mark.parametrize("scale", [0.0, 0.25, 3.0])
def test_statistics(shape, scale, dtype, device):
    x = logits(shape, dtype, device)
    x[0, 0] = -INF
    stats = cuda.softmax_stats(x, 1, scale=scale)
    want = logitkit.softmax_stats(
        exact(x), 1, scale=scale
    )  # sums along axis 1 of the reference err more
    z = scale * np.where(np.isinf(exact(x)), 0.0, exact(x))
    e = 2.0**-49 if dtype is torch.float64 else 2.0**-21
    wide = e * (1.0 + np.abs(z).max(1) + np.log(shape[1]))
    assert stats.entropy.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert np.all(np.abs(exact(stats.logsumexp) - want.logsumexp) <= wide)
    assert np.all(np.abs(exact(stats.entropy) - want.entropy) <= wide)
    assert np.all(np.abs(exact(stats.max) - want.max) <= e * np.abs(want.max))
    np.testing.assert_allclose(
        exact(stats.sum_of_squares), want.sum_of_squares, rtol=e * (4.0 + np.ptp(z))
    )


SPECIAL = [
    [-INF, -INF],
    [INF, 0.0],
    [INF, -INF],
    [INF, INF],
    [NAN, 0.0],
    [NAN, INF],
    [NAN, -INF],
    [0.0, -INF],
    [1e30, -1e30],
    [-1e30, -INF],
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [2, 70, 1500, 40000])
@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_special_values(n, inner, dtype, device):
    rows = np.full((len(SPECIAL), n, inner), -INF)
    for row, values in zip(rows, SPECIAL, strict=True):
        row[n // 2, :], row[n - 1, :] = values[0], values[1]
    x = torch.from_numpy(rows).to(device, dtype)
    for name in ("logsumexp", "softmax", "log_softmax"):
        found = exact(getattr(cuda, name)(x, 1))
        want = getattr(logitkit, name)(rows.astype(str(dtype)[6:]), 1)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(want))
        np.testing.assert_allclose(found, want, rtol=1e-6)
    stats, want = cuda.softmax_stats(x, 1), logitkit.softmax_stats(rows.astype(str(dtype)[6:]), 1)
    for found, expected in zip(stats, want, strict=True):
        np.testing.assert_allclose(exact(found), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [5, 64, 1000, 30000])
def test_a_line_does_not_depend_on_others(n, device):
    x = logits((7, n), torch.float32, device)
    whole = cuda.softmax(x, 1)
    for i in (0, 6):
        assert torch.equal(cuda.softmax(x[i : i + 1].clone(), 1)[0], whole[i])
        assert torch.equal(cuda.logsumexp(x[i].clone()), cuda.logsumexp(x, 1)[i])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 1), (1, 2), (0, 2), (2, 0), None, ()])
def test_axes(axis, device):
    x = logits((3, 4, 5), torch.float64, device)
    for keepdims in (False, True):
        found = cuda.logsumexp(x, axis, keepdims=keepdims)
        want = reference.logsumexp(exact(x), axis, keepdims=keepdims)
        assert tuple(found.shape) == np.shape(want)
        np.testing.assert_allclose(exact(found), want, rtol=1e-14)
    np.testing.assert_allclose(exact(cuda.softmax(x, axis)), reference.softmax(exact(x), axis))
    strided = x.permute(2, 0, 1)[:, ::2]
    np.testing.assert_allclose(
        exact(cuda.softmax(strided, axis)), reference.softmax(exact(strided), axis)
    )


def test_lines_and_arrays_without_elements(device):
    x = torch.empty(3, 0, device=device)
    assert cuda.logsumexp(x, 1).tolist() == [-INF] * 3
    assert cuda.softmax_stats(x, 1).entropy.tolist() == [0.0] * 3
    assert cuda.softmax(x.T, 1).shape == (0, 3)
    assert cuda.logsumexp(x, 0).shape == (0,)
    with pytest.raises(ValueError, match="at least one element"):
        cuda.softmax(x, 1)


def test_numbers_without_axes(device):
    x = torch.tensor(3.0, device=device)
    assert cuda.logsumexp(x).item() == 3.0
    assert cuda.softmax(x).item() == 1.0


def test_integers_count_as_float64(device):
    x = torch.arange(5, device=device)
    assert cuda.softmax(x).dtype == torch.float64
    with pytest.raises(TypeError, match="complex64"):
        cuda.softmax(x.to(torch.complex64))


def test_bad_arguments(device):
    x = torch.zeros(2, 3, device=device)
    with pytest.raises(TypeError, match="float64"):
        cuda.softmax(x, out=torch.empty(2, 3, dtype=torch.float64, device=device))
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        cuda.softmax(x, out=torch.empty(3, 2, device=device))
    with pytest.raises(np.exceptions.AxisError):
        cuda.softmax(x, 2)
    with pytest.raises(ValueError, match="scale"):
        cuda.softmax_stats(x, scale=-1.0)


def test_the_private_module_refuses_what_does_not_fit(device):
    kernels = _device.kernels()
    x, out = torch.zeros(2, 3, 1, device=device), torch.zeros(2, 1, device=device)
    memory = torch.empty(0, dtype=torch.uint8, device=device)
    with pytest.raises(ValueError, match="out has an unexpected shape"):
        kernels.logsumexp(x, out.T, memory)
    with pytest.raises(ValueError, match="x is not dense"):
        kernels.logsumexp(x.expand(2, 3, 1)[:, ::2], out, memory)
    with pytest.raises(ValueError, match="out has another type"):
        kernels.logsumexp(x, out.double(), memory)
    with pytest.raises(ValueError, match="x does not hold"):
        kernels.logsumexp(x.int(), out, memory)
    long = torch.zeros(1, 100000, 1, device=device)
    with pytest.raises(ValueError, match="workspace is too small"):
        kernels.logsumexp(long, out[:1], memory)


def test_what_the_machine_has(device):
    properties = cuda.device_properties()
    assert properties.name
    assert properties.multiprocessors > 0
    assert cuda.build_info().architectures
    with pytest.raises(ValueError, match="not 99"):
        cuda.device_properties(99)


@pytest.mark.parametrize("name", ["LogSumExp", "Softmax", "LogSoftmax", "Stats"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=str)
def test_operators_of_pytorch_find_the_kernels(name, order, device):
    from logitkit.torch import _logsumexp, _softmax, _softmax_stats

    definition = next(
        getattr(module, name)
        for module in (_logsumexp, _softmax, _softmax_stats)
        if hasattr(module, name)
    )
    x = logits((3, 4, 5), torch.float64, device).permute(order)
    more = (0.5,) if name == "Stats" else ()
    for dim in ([1], [0, 2]):
        found = definition.compute_on_gpu(x, dim, *more)
        want = definition.compute(x.cpu(), dim, *more)
        fake = definition.fake(x, dim, *more)
        for y, z, like in zip(*(v if more else (v,) for v in (found, want, fake)), strict=True):
            torch.testing.assert_close(y.cpu(), z)
            assert y.stride() == like.stride()
            assert y.shape == like.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gradients_on_a_gpu():
    x = logits((3, 4), torch.float64, "cuda").requires_grad_()
    for function in (logitkit.logsumexp, logitkit.softmax, logitkit.log_softmax):
        assert torch.autograd.gradcheck(lambda x, f=function: f(x, 1), x)
        assert torch.autograd.gradgradcheck(lambda x, f=function: f(x, 1), x)
    assert torch.autograd.gradcheck(lambda x: tuple(logitkit.softmax_stats(x, 1)), x)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("axis", [0, 1, (0, 2), None])
def test_arrays_of_jax_stay_that(dtype, axis, device):
    jax = pytest.importorskip("jax")
    if device != "cpu" and jax.default_backend() not in ("gpu", "cuda"):
        pytest.skip("JAX has no GPU")
    x = jax.numpy.asarray(logits((3, 40, 5), torch.float32, "cpu").numpy(), dtype=dtype)
    z = np.asarray(x, np.float64)
    e = bound(getattr(torch, dtype))
    for name in ("logsumexp", "softmax"):
        found = getattr(cuda, name)(x, axis)
        want = getattr(reference, name)(z, axis)
        assert isinstance(found, jax.Array)
        assert found.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(found, np.float64), want, rtol=30 * e, atol=e)
