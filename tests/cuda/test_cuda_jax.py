"""Arrays of JAX, which has no numbers of 64 bits unless it is told to, against tensors."""

import numpy as np
import pytest

from logitkit import cuda
from logitkit.distributions import Normal, ReversedExponential, StudentT

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

X = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
CALLS = {
    "argmax": lambda x: cuda.linear_argmax(x, x),
    "top k": lambda x: cuda.linear_topk(x, x, k=2),
    "gumbel argmax": lambda x: [cuda.gumbel_argmax(x, 1, rows=[4, 5, 6])],
    "gumbel top k": lambda x: cuda.gumbel_top_k(x, 3, 1),
    "update": lambda x: [cuda.diffusion_update(x, a=1.0, c=[1.0, 2.0, 3.0], rng=1, rows=[4, 5, 6])],
    "log-prob": lambda x: cuda.noise_argmax_log_prob(x, [0, 1, 2], Normal(), return_gradient=True),
    "table": lambda x: [cuda.noise_argmax_probs(x, StudentT(3.0))],
    "closed form": lambda x: [cuda.noise_argmax_probs(x, ReversedExponential())],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_results_are_those_of_tensors(call, device):
    if device != "cpu" and jax.default_backend() not in ("gpu", "cuda"):
        pytest.skip("JAX has no GPU")
    assert not jax.config.jax_enable_x64
    found, want = call(jax.numpy.asarray(X)), call(torch.from_numpy(X).to(device))
    for x, y in zip(found, want, strict=True):
        assert isinstance(x, jax.Array)
        assert str(x.dtype) == str(y.dtype)[6:]
        # JAX takes denormal numbers for 0.
        np.testing.assert_allclose(np.asarray(x), y.cpu().numpy(), rtol=1e-6, atol=1e-37)
    assert not jax.config.jax_enable_x64
