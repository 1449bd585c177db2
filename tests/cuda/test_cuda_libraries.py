"""
Arrays of JAX and CuPy, against tensors.

JAX has no numbers of 64 bits unless it is told to. Arrays of CuPy need a GPU.
"""

import numpy as np
import pytest

import logitkit
from logitkit import cuda
from logitkit.distributions import Laplace, Normal, ReversedExponential, StudentT

torch = pytest.importorskip("torch")

X = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
CALLS = {
    "logsumexp": lambda x: [cuda.logsumexp(x, 0), cuda.logsumexp(x, 1, keepdims=True)],
    "softmax": lambda x: [cuda.softmax(x, 0), cuda.log_softmax(x)],
    "weights": lambda x: cuda.logsumexp(x, 1, b=x, return_sign=True),
    "products": lambda x: [
        cuda.softmax_vjp(cuda.softmax(x, 1), x, 1),
        cuda.log_softmax_vjp(cuda.log_softmax(x, 0), x, 0),
        cuda.logsumexp_vjp(x, x[:, 0], 1),
    ],
    "stats": lambda x: cuda.softmax_stats(x),
    "argmax": lambda x: cuda.linear_argmax(x, x),
    "top k": lambda x: cuda.linear_topk(x, x, k=2),
    "gumbel argmax": lambda x: [cuda.gumbel_argmax(x, 1, rows=[4, 5, 6])],
    "gumbel top k": lambda x: cuda.gumbel_top_k(x, 3, 1),
    "update": lambda x: [cuda.diffusion_update(x, a=1.0, c=[1.0, 2.0, 3.0], rng=1, rows=[4, 5, 6])],
    "log-prob": lambda x: cuda.noise_argmax_log_prob(x, [0, 1, 2], Normal(), return_gradient=True),
    "table": lambda x: [cuda.noise_argmax_probs(x, StudentT(3.0))],
    "closed form": lambda x: [cuda.noise_argmax_probs(x, ReversedExponential())],
    "draws": lambda x: [
        cuda.noise_argmax_sample(x, Normal(), 3, 2),
        cuda.noise_argmax_sample(x, Laplace(), 3, k=2),
    ],
    "attention": lambda x: [cuda.attention(x, x, x, is_causal=True, key_lengths=[2])],
    "attention, statistics": lambda x: cuda.attention_with_stats(x, x, x, scale=0.1),
    "attention, gradient": lambda x: cuda.attention_vjp(x, x, x, x, is_causal=True)[:3],
}


@pytest.fixture(params=["jax", "cupy"])
def library(request, device):
    """Return what makes an array of a library where the kernels can read it, and its type."""
    if request.param == "jax":
        jax = pytest.importorskip("jax")
        if device != "cpu" and jax.default_backend() not in ("gpu", "cuda"):
            pytest.skip("JAX has no GPU")
        return jax.numpy.asarray, jax.Array
    if device == "cpu":
        pytest.skip("CuPy has no arrays in main memory")
    cupy = pytest.importorskip("cupy")
    return cupy.asarray, cupy.ndarray


# What the library's own exponentials and sums make, of numbers that cancel.
BY_LIBRARY = ("weights", "products")


def check(found, want, kind, atol=1e-37):
    for x, y in zip(found, want, strict=True):
        assert isinstance(x, kind)
        assert str(x.dtype) == str(y.dtype)[6:]
        # JAX takes denormal numbers for 0.
        x = x.get() if hasattr(x, "get") else np.asarray(x)
        np.testing.assert_allclose(x, y.cpu().numpy(), rtol=1e-6, atol=atol)


@pytest.mark.parametrize("name", CALLS)
def test_results_are_those_of_tensors(name, library, device):
    (make, kind), call = library, CALLS[name]
    atol = 1e-5 if name in BY_LIBRARY else 1e-37
    check(call(make(X)), call(torch.from_numpy(X).to(device)), kind, atol)


def test_arrays_of_cupy_on_streams_of_their_own(device):
    if device == "cpu":
        pytest.skip("CuPy has no arrays in main memory")
    cupy = pytest.importorskip("cupy")
    want = cuda.noise_argmax_probs(torch.from_numpy(X).to(device), StudentT(2.25))
    for _ in range(3):
        with cupy.cuda.Stream(non_blocking=True) as stream:
            found = cuda.noise_argmax_probs(cupy.asarray(X), StudentT(2.25))
            stream.synchronize()
        check([found], [want], cupy.ndarray)
    rows = cupy.zeros((3, 5), dtype=cupy.float32)
    assert cuda.random_normal(7, rows) is rows
    assert rows.get().tobytes() == logitkit.random.Philox(7).normal(3, 5, np.float32).tobytes()
    assert isinstance(logitkit.softmax(rows, 1), cupy.ndarray)
    out = cupy.empty_like(rows)
    assert logitkit.softmax(rows, 1, out=out) is out


def test_jax_is_not_told_to_have_wide_numbers(device):
    jax = pytest.importorskip("jax")
    if device != "cpu" and jax.default_backend() not in ("gpu", "cuda"):
        pytest.skip("JAX has no GPU")
    before = jax.config.jax_enable_x64
    assert cuda.gumbel_argmax(jax.numpy.asarray(X), 1).dtype == np.int64
    assert jax.config.jax_enable_x64 == before
