"""python/logitkit/_backend.py without a GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import logitkit
from logitkit import _backend, _cpu


def test_numpy_runs_on_the_processor():
    x = np.zeros(3, np.float32)
    assert _backend.as_array(x) is x
    assert _backend.namespace_of(x) is np
    assert _backend.kernels_for(x) is _cpu


@pytest.mark.parametrize("given", [3, [1.0, 2.0], np.float32(3), np.arange(3).astype(">i4")])
def test_everything_else_becomes_a_native_array(given):
    x = _backend.as_array(given)
    assert isinstance(x, np.ndarray)
    assert x.dtype.isnative
    np.testing.assert_array_equal(x, given)


def test_cupy_needs_a_build_with_cuda(monkeypatch):
    class Array:
        pass

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=Array))
    monkeypatch.setitem(sys.modules, "logitkit._cuda", None)  # as if it had not been built
    x = Array()
    assert _backend.as_array(x) is x
    assert _backend.namespace_of(x) is sys.modules["cupy"]
    _backend._cuda.cache_clear()
    with pytest.raises(RuntimeError, match="LOGITKIT_CUDA=ON"):
        _backend.kernels_for(x)


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


def test_functions_without_cuda_kernels_say_so(monkeypatch):
    class Array:
        pass

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=Array))
    for function in (logitkit.softmax, logitkit.log_softmax, logitkit.softmax_stats):
        with pytest.raises(TypeError, match=r"pass cupy.asnumpy\(x\)"):
            function(Array())
