"""python/logitkit/_backend.py without a GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

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
