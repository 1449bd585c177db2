"""
The kernels for GPUs: on a GPU where there is one, else as an emulation on this processor.

Of a build with LOGITKIT_CUDA=ON the tests run as they are. The emulation is a build with
-DLOGITKIT_CUDA_EMULATION=ON, whose module is named on the command line:

    pytest tests/cuda --cuda-module build/_cuda.cpython-*.so

Without either they are skipped.
"""

import importlib.util
import sys

import pytest

from logitkit import cuda
from logitkit.cuda import _device

if importlib.util.find_spec("torch") is None:  # whose tensors are the arrays of these tests
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def _module(request):
    """Load the module that is named on the command line in the place of the installed one."""
    path = request.config.getoption("--cuda-module")
    if path:
        spec = importlib.util.spec_from_file_location("logitkit._cuda", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules["logitkit._cuda"] = module
        _device.kernels.cache_clear()
    if not cuda.is_available():
        pytest.skip("no GPU, and no --cuda-module")
    yield
    if path:
        del sys.modules["logitkit._cuda"]
        _device.kernels.cache_clear()


@pytest.fixture(scope="session")
def device(_module):
    """Where tensors lie that the kernels can read."""
    return "cpu" if _device.kernels().emulated else "cuda"


@pytest.fixture
def guarded(device):
    """
    Return a function that copies a tensor to where NaNs lie before and after it.

    It returns the copy, and a function that tells whether the NaNs are still there.
    """
    import torch

    def copy(x):
        fence = 64
        memory = torch.full((x.numel() + 2 * fence,), torch.nan, dtype=x.dtype, device=device)
        inside = memory[fence : fence + x.numel()].view(x.shape)
        inside.copy_(x)

        def is_intact():
            return bool(memory[:fence].isnan().all() and memory[-fence:].isnan().all())

        return inside, is_intact

    return copy
