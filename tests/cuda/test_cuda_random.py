"""Random numbers on a GPU and choices by them: the bits of the kernels in main memory."""

import numpy as np
import pytest

from logitkit import cuda, random
from logitkit.cuda import _device
from logitkit.random import Philox

torch = pytest.importorskip("torch")

INF, NAN = np.inf, np.nan
LAWS = ("uniform", "exponential", "gumbel", "normal")
# Around the packs of a thread, the threads of a block, and chunks.
COUNTS = (1, 2, 3, 4, 5, 7, 8, 33, 511, 512, 513, 1023, 1024, 1025, 2050, 5001)
GENERATORS = (Philox(0), Philox(2**64 - 1, step=2**32 - 2), Philox(12345678901234, step=7))
IDS = np.array([0, 5, -1, 2**40 + 3, 7])
# Around the elements of a warp and of a block.
CLASSES = (1, 2, 3, 17, 511, 512, 513, 1000, 4095, 4096, 4097, 9000, 20001)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def host(x):
    return x.cpu().numpy()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_numbers_have_the_same_bits(law, count, dtype, device, guarded):
    draw = getattr(cuda, f"random_{law}")
    rng = GENERATORS[count % len(GENERATORS)]
    out, is_intact = guarded(torch.zeros((len(IDS), count), dtype=dtype))
    assert draw(rng, out, rows=IDS) is out
    assert is_intact()
    want = getattr(rng, law)(IDS, count, host(out).dtype)
    assert host(out).tobytes() == want.tobytes()


@pytest.mark.parametrize("rng", GENERATORS)
@pytest.mark.parametrize("count", COUNTS)
def test_bits_are_the_same(rng, count, device):
    out = torch.zeros((len(IDS), count), dtype=torch.uint64, device=device)
    cuda.random_bits(rng, out, rows=torch.from_numpy(IDS).to(device))
    assert host(out).tobytes() == rng.bits(IDS, count).tobytes()


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_rows_begin_anywhere(dtype, device):
    memory = torch.zeros(1 + 3 * 37, dtype=dtype, device=device)
    out = memory[1:].view(3, 37)
    cuda.random_normal(3, out)
    assert host(out).tobytes() == Philox(3).normal(3, 37, host(out).dtype).tobytes()
    assert memory[0] == 0.0


def test_shapes_and_default_rows(device):
    out = torch.zeros((2, 3, 4, 5), device=device)
    cuda.random_gumbel(11, out)
    assert np.array_equal(host(out), Philox(11).gumbel(2, (3, 4, 5), np.float32))
    assert cuda.random_uniform(1, torch.zeros((0, 3), device=device)).shape == (0, 3)
    with pytest.raises(TypeError, match="float32 or float64"):
        cuda.random_normal(1, torch.zeros((2, 3), dtype=torch.float16, device=device))
    with pytest.raises(ValueError, match="rows of integers of shape"):
        cuda.random_normal(1, torch.zeros((2, 3), device=device), rows=[1])
    with pytest.raises(ValueError, match="dense"):
        cuda.random_normal(1, torch.zeros((4, 3), device=device).T)


def logits(count, dtype, device, spread=3.0):
    """Return rows among which some have no choice, and some ties."""
    x = spread * np.random.default_rng(count).standard_normal((6, count))
    x[1] = -INF
    x[2, count // 2] = -INF
    x[3, count - 1] = NAN
    x[4, 0] = INF
    x[5, 1:] = -INF
    return torch.from_numpy(x).to(device, dtype)


def in_main_memory(x):
    """Return what the functions for arrays take, and its rows that have a choice."""
    z = x.float() if x.dtype in DTYPES[2:] else x
    z = host(z)
    good = ~np.any(np.isnan(z) | (z == INF), axis=1) & np.any(z > -INF, axis=1)
    return z, good


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", CLASSES)
def test_argmax_is_the_same(count, dtype, device, guarded):
    x, _ = guarded(logits(count, dtype, device))
    z, good = in_main_memory(x)
    rng, ids = Philox(3, step=4), np.array([9, 8, -7, 2**50, 5, 4])
    found = host(cuda.gumbel_argmax(x, rng, rows=ids))
    assert np.all(found[~good] == -1)
    assert np.array_equal(found[good], random.gumbel_argmax(z[good], rng, rows=ids[good]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", CLASSES)
def test_top_k_is_the_same(count, dtype, device, guarded):
    x, _ = guarded(logits(count, dtype, device))
    z, good = in_main_memory(x)
    rng = Philox(17)
    for k in {min(3, count), min(40, count)} if count < 9000 else {3}:
        found = cuda.gumbel_top_k(x, k, rng)
        has_softmax = ~np.any(np.isnan(z) | (z == INF), axis=1)
        assert np.all(np.isnan(found.values.double().cpu().numpy()[~has_softmax]))
        assert np.all(host(found.indices)[~has_softmax] == -1)
        assert found.values.dtype == dtype
        rows = np.flatnonzero(good)
        want = random.gumbel_top_k(z[good], k, rng, rows=rows)
        assert np.array_equal(host(found.indices)[good], want.indices)
        expected = torch.from_numpy(want.values).to(dtype)
        assert torch.equal(found.values[torch.from_numpy(good).to(device)].cpu(), expected)
        masked = np.flatnonzero(has_softmax & ~good)
        assert torch.all(found.values[masked] == -INF)
        assert torch.all(found.indices[masked] == -1)


def test_many_are_drawn_from_several_chunks(device):
    x = torch.randn(1, 4500, generator=torch.Generator().manual_seed(0)).to(device)
    x[:, 300:4200] = -INF  # more than a chunk has
    found, want = cuda.gumbel_top_k(x, 602, 5), random.gumbel_top_k(host(x), 602, 5)
    assert np.array_equal(host(found.indices), want.indices)
    assert np.array_equal(host(found.values), want.values)


def test_ties_go_to_the_first(device):
    # At 2^60 the noise vanishes in rounding.
    x = torch.zeros((1, 5000), device=device)
    x[0, [4999, 4500, 17, 300]] = 2.0**60
    assert cuda.gumbel_argmax(x, 1).item() == 17
    assert cuda.gumbel_top_k(x, 4, 1).indices.tolist() == [[17, 300, 4500, 4999]]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axes(axis, device):
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1)).to(device)
    assert np.array_equal(
        host(cuda.gumbel_argmax(x, 2, axis)), random.gumbel_argmax(host(x), 2, axis)
    )
    found, want = cuda.gumbel_top_k(x, 3, 2, axis), random.gumbel_top_k(host(x), 3, 2, axis)
    assert np.array_equal(host(found.values), want.values)
    assert np.array_equal(host(found.indices), want.indices)


def test_a_draw_does_not_depend_on_the_batch(device):
    x = torch.randn(7, 5000, generator=torch.Generator().manual_seed(2)).to(device)
    together = cuda.gumbel_argmax(x, 3)
    for row in range(7):
        assert cuda.gumbel_argmax(x[row : row + 1], 3, rows=[row]).item() == together[row]


def test_errors(device):
    x = torch.zeros((2, 3), device=device)
    with pytest.raises(ValueError, match="at least one class"):
        cuda.gumbel_argmax(x[:, :0], 1)
    with pytest.raises(ValueError, match="k from 1 to the 3 classes, not 4"):
        cuda.gumbel_top_k(x, 4, 1)
    with pytest.raises(ValueError, match="rows of integers"):
        cuda.gumbel_argmax(x, 1, rows=[0.5, 1.5])
    with pytest.raises(ValueError, match="workspace is too small"):
        _device.kernels().gumbel_argmax(
            torch.zeros((1, 5000), device=device),
            1,
            0,
            None,
            torch.zeros(1, dtype=torch.int64, device=device),
            torch.zeros(0, dtype=torch.uint8, device=device),
        )
    assert cuda.gumbel_argmax(x[:0], 1).shape == (0,)
