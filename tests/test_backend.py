"""python/logitkit/_backend.py without a GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import logitkit
from logitkit import _backend, bounds, distributions
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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: logitkit.softmax(x, "ab"), TypeError, "axis as an integer, a tuple .* 'ab'"),
        (lambda x: logitkit.logsumexp(x, [0]), TypeError, r"axis as .* not \[0\]"),
        (lambda x: logitkit.smooth_max(x, 1.5, tau=1.0), TypeError, r"axis as .* not 1\.5"),
        (lambda x: logitkit.smooth_max(x, tau="1"), TypeError, "tau as one number, not '1'"),
        (lambda x: logitkit.softmax_stats(x, scale=[1.0]), TypeError, "scale as one number"),
        (
            lambda x: logitkit.logaddexp(x, x[0, :1].repeat(2)),
            ValueError,
            r"x1 of .* x2 of .*\(2,\)",
        ),
        (lambda x: logitkit.softmax(x.astype(object)), TypeError, r"pass x\.astype\(float\)"),
        (lambda x: bounds.tempered(x, tau="1"), TypeError, "tau as one number"),
        (lambda x: bounds.top_k(x, k=1.5), TypeError, "k as an integer"),
        (lambda x: bounds.convexity(x, x, weight="1"), TypeError, "weight as one number"),
        (lambda x: bounds.hoelder(x, x + 1.0 / 3.0, t="2"), TypeError, "t as one number"),
        (lambda x: bounds.basic(x, axis=None), TypeError, "axis as one integer"),
        (lambda x: distributions.entmax(x, alpha="2"), TypeError, "alpha as one number"),
        (lambda x: distributions.top_k_softmax(x, k=1.5), TypeError, "k as an integer"),
        (lambda x: distributions.sparsemax(x, axis=(0, 1)), TypeError, "axis as one integer"),
        (lambda x: distributions.taylor_softmax(x, order=2.0), TypeError, "order as an integer"),
        (
            lambda x: distributions.margin_softmax(x, [0, 0], margin="1"),
            TypeError,
            "margin as one number",
        ),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3)))
