"""What becomes of calls that a GPU refuses, and of smaller GPUs."""

import numpy as np
import pytest

import logitkit
from logitkit import cuda
from logitkit.cuda import _device
from logitkit.cuda._attention import attention
from logitkit.torch._attention_operator import Arguments

torch = pytest.importorskip("torch")


def arguments(query, key, value):
    """Return plain attention as the operators take it."""
    rows = query.shape[:-1]
    kind = torch.float64 if query.dtype == torch.float64 else torch.float32
    scale = torch.full(rows, query.shape[-1] ** -0.5, dtype=kind, device=query.device)
    nothing = dict.fromkeys(Arguments._fields)
    numbers = {"left": 2**60, "right": 2**60, "lower_right": False, "softcap": 0.0, "threads": 0}
    tensors = {"query": query, "key": key, "value": value, "scale": scale}
    return Arguments(**nothing | numbers | tensors)


def softmax_of_four(device):
    return cuda.softmax(torch.zeros(4, device=device)).cpu()


def test_a_call_that_is_refused_does_not_fail_the_next_one(device):
    # More shared memory than any GPU has, for four rows of queries and values in float64.
    x = torch.zeros((1, 1, 1, 1 << 13), dtype=torch.float64, device=device)
    with pytest.raises(RuntimeError, match="CUDA: invalid argument"):
        attention(arguments(x, x, x))
    assert torch.equal(softmax_of_four(device), torch.full((4,), 0.25))


def test_more_blocks_than_a_grid_has_are_an_error_and_not_fewer_blocks(device):
    # 2^32 heads, which are one in memory.
    x = torch.zeros((1, 1, 1, 8), device=device).expand(2**22, 2**10, 1, 8)
    scale = torch.ones((1, 1, 1), device=device).expand(2**22, 2**10, 1)
    with pytest.raises(RuntimeError, match="CUDA: invalid configuration argument"):
        _device.kernels().attention(x, x, x, scale, x)
    assert torch.equal(softmax_of_four(device), torch.full((4,), 0.25))


def test_arrays_of_two_devices_are_refused(device):
    x = torch.zeros((2, 3), device=device)
    elsewhere = torch.zeros((4, 3), device="meta")
    with pytest.raises(ValueError, match="not one on meta: copy it"):
        cuda.linear_argmax(x, elsewhere)


@pytest.mark.parametrize("capability", ["75", "80", "90"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("dim", [64, 128, 256])
def test_attention_fits_the_shared_memory_of_every_gpu(device, monkeypatch, capability, dtype, dim):
    if not _device.kernels().emulated:
        pytest.skip("the GPU is what it is")
    monkeypatch.setenv("LOGITKIT_EMULATION_CAPABILITY", capability)
    rng = np.random.default_rng(0)
    q, k, v = (torch.from_numpy(rng.standard_normal((1, 1, 70, dim))).to(dtype) for _ in range(3))
    found = attention(arguments(q, k, v), stats=()).output
    exact = logitkit.attention(*(x.double().numpy() for x in (q, k, v)))
    assert np.abs(found.double().numpy() - exact).max() < 2.0**-6
