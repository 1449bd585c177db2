"""python/logitkit/_backend.py without a GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import logitkit
from logitkit import _backend
from logitkit.cuda import _device


def test_numpy_stays_what_it_is():
    x = np.zeros(3, np.float32)
    assert _backend.as_array(x) is x
    assert _backend.bridge_for(x) is None


@pytest.mark.parametrize("given", [3, [1.0, 2.0], np.float32(3), np.arange(3).astype(">i4")])
def test_everything_else_becomes_a_native_array(given):
    x = _backend.as_array(given)
    assert isinstance(x, np.ndarray)
    assert x.dtype.isnative
    np.testing.assert_array_equal(x, given)


class OnGPU:
    """What CuPy has, as far as it is looked at here."""


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=OnGPU))


@pytest.mark.usefixtures("cupy")
def test_arrays_on_a_gpu_go_to_their_functions():
    assert _backend.bridge_for(OnGPU()) is logitkit.cuda


def test_arrays_of_jax_go_where_they_lie(monkeypatch):
    class Array:
        def __init__(self, platform):
            self.device = SimpleNamespace(platform=platform)

    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(Array=Array))
    assert _backend.bridge_for(Array("gpu")) is logitkit.cuda
    assert _backend.bridge_for(Array("cpu")) is None


def test_kernels_for_gpus_need_a_build_with_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "logitkit._cuda", None)  # as if it had not been built
    _device.kernels.cache_clear()
    with pytest.raises(RuntimeError, match="LOGITKIT_CUDA=ON"):
        _device.kernels()
    assert not logitkit.cuda.is_available()
    with pytest.raises(RuntimeError, match="LOGITKIT_CUDA=ON"):
        logitkit.cuda.build_info()


def test_tensors_go_to_their_bridge(monkeypatch):
    class Tensor:
        pass

    class Parameter(Tensor):  # subclasses, too
        pass

    calls = []

    def record(name):
        return lambda *args, **kwargs: calls.append((name, args, kwargs))

    names = ("logsumexp", "softmax", "log_softmax", "softmax_stats")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(Tensor=Tensor))
    functions = SimpleNamespace(**{name: record(name) for name in names})
    monkeypatch.setattr(_backend, "_torch_functions", lambda: functions)
    x, out = Parameter(), Tensor()
    logitkit.logsumexp(x, 1, None, True, out=out)
    logitkit.softmax(x, axis=1)
    logitkit.log_softmax(x, out=out)
    logitkit.softmax_stats(x, scale=2.0)
    assert calls == [
        ("logsumexp", (x, 1, None, True, False), {"out": out}),
        ("softmax", (x, 1), {"out": None}),
        ("log_softmax", (x, None), {"out": out}),
        ("softmax_stats", (x, -1), {"scale": 2.0}),
    ]


def test_a_half_imported_framework_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    assert _backend.bridge_for([1.0]) is None


def test_masks_are_not_dropped_in_silence():
    x = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(TypeError, match="without a mask"):
        logitkit.logsumexp(x)
    with pytest.raises(TypeError, match="without a mask"):
        logitkit.logsumexp([1.0, 2.0], b=x)


def test_subclasses_become_plain_arrays():
    x = np.zeros((2, 3)).view(type("Subclass", (np.ndarray,), {}))
    assert type(_backend.as_array(x)) is np.ndarray
    assert type(logitkit.softmax(x)) is np.ndarray


@pytest.mark.usefixtures("cupy")
def test_functions_without_cuda_kernels_say_so():
    with pytest.raises(TypeError, match=r"pass a copy, such as cupy.asnumpy\(x\)"):
        logitkit.linear_argmax(OnGPU(), OnGPU())
    with pytest.raises(TypeError, match="sparsemax has no CUDA kernel"):
        logitkit.distributions.sparsemax(OnGPU())


def test_all_that_has_no_cuda_kernel_is_known():
    pytest.importorskip("torch")
    from logitkit import torch

    missing = set(torch.__all__) - set(logitkit.cuda.__all__)
    assert missing == set(logitkit.cuda._WITHOUT_KERNEL)
