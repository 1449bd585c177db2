"""One step of a diffusion sampler on a GPU: the bits of the kernels in main memory."""

import numpy as np
import pytest

from logitkit import cuda
from logitkit._diffusion_update import diffusion_update
from logitkit.random import Philox

torch = pytest.importorskip("torch")

INF, NAN = np.inf, np.nan
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
COUNTS = (1, 3, 8, 37, 512, 1024, 1500, 4000)
A, B = np.array([0.7, -1.5, 0.0, 2.0, 1e-3]), np.array([0.1, 0.2, -0.3, 3.0, 0.0])
NOISES = (0.0, 0.5, np.array([1.0, 0.0, 2.0, -0.0, -1.0]), NAN)


def samples(count, dtype, device, seed):
    x = np.random.default_rng([count, seed]).standard_normal((5, count))
    x[0, 0] = NAN
    if count > 3:
        x[1, 2], x[2, 1] = INF, -INF
    return torch.from_numpy(x).to(device, dtype)


def same_bits(found, want):
    """Whether results are the same, but for what NaNs hold."""
    found, want = found.cpu(), want.cpu()
    nan = torch.isnan(want)
    return (
        torch.equal(torch.isnan(found), nan)
        and torch.equal(found[~nan], want[~nan])
        and torch.equal(torch.signbit(found[~nan]), torch.signbit(want[~nan]))
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("two", [False, True])
def test_the_bits_are_the_same(count, two, dtype, device, guarded):
    x, _ = guarded(samples(count, dtype, device, 0))
    y = guarded(samples(count, dtype, device, 1))[0] if two else None
    compute = dtype if dtype in DTYPES[:2] else torch.float32
    rng, ids = Philox(9, step=1), np.array([3, 1, -4, 2**40, 5])
    for c in NOISES:
        for a, b, bounds in ((0.7, 0.4, (-INF, INF)), (A, B, (-1.0, 0.5))):
            options = {"a": a, "b": b, "c": c, "lower": bounds[0], "upper": bounds[1]}
            out, is_intact = guarded(torch.zeros_like(x))
            found = cuda.diffusion_update(x, y, rng=rng, rows=ids, out=out, **options)
            assert found is out
            assert is_intact()
            of_y = None if y is None else y.to("cpu", compute).numpy()
            want = diffusion_update(
                x.to("cpu", compute).numpy(), of_y, rng=rng, rows=ids, **options
            )
            assert same_bits(found, torch.from_numpy(want).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_in_place_and_anywhere_in_memory(dtype, device):
    want = cuda.diffusion_update(samples(37, dtype, device, 0), a=0.5, c=2.0, rng=1)
    memory = torch.zeros(1 + 5 * 37, dtype=dtype, device=device)
    x = memory[1:].view(5, 37)
    x.copy_(samples(37, dtype, device, 0))
    assert cuda.diffusion_update(x, a=0.5, c=2.0, rng=1, out=x) is x
    assert same_bits(x, want)
    assert memory[0] == 0.0


def test_shapes_coefficients_on_the_device_and_rows(device):
    x = torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(0)).to(device)
    a = np.array([1.0, 2.0, 3.0])
    want = diffusion_update(x.cpu().numpy(), a=a, c=1.0, rng=4)
    found = cuda.diffusion_update(x, a=torch.from_numpy(a).to(device), c=np.float32(1.0), rng=4)
    assert np.array_equal(found.cpu().numpy(), want)
    transposed = cuda.diffusion_update(x.transpose(1, 2), a=1.0)
    assert torch.equal(transposed, x.transpose(1, 2))
    # A sample alone is what it is in the batch.
    one = cuda.diffusion_update(x[1:2], a=2.0, c=1.0, rng=4, rows=[1])
    assert torch.equal(one[0], found[1])


def test_errors(device):
    x = torch.zeros((2, 3), device=device)
    with pytest.raises(ValueError, match="lower <= upper"):
        cuda.diffusion_update(x, a=1.0, lower=1.0, upper=0.0)
    with pytest.raises(ValueError, match="expected y of type"):
        cuda.diffusion_update(x, x.double(), a=1.0)
    with pytest.raises(ValueError, match="expected a to be a number or of shape"):
        cuda.diffusion_update(x, a=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="floating-point type"):
        cuda.diffusion_update(x.long(), a=1.0)
    with pytest.raises(ValueError, match="out of shape"):
        cuda.diffusion_update(x, a=1.0, out=torch.zeros(6, device=device))
    assert cuda.diffusion_update(x[:0], a=1.0).shape == (0, 3)
