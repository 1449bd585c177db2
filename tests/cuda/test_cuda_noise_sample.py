"""Draws of argmax(logits + noise) on a GPU: those of main memory."""

import numpy as np
import pytest

from logitkit import cuda, distributions
from logitkit.cuda import _device, _noise_argmax, _noise_sample

torch = pytest.importorskip("torch")

from logitkit.torch import ArgmaxNoise

LAWS = {
    law.__name__: law()
    for law in (
        distributions.Normal,
        distributions.Gumbel,
        distributions.Exponential,
        distributions.ReversedExponential,
        distributions.Logistic,
        distributions.Laplace,
        distributions.Cauchy,
        distributions.Uniform,
    )
} | {"StudentT": distributions.StudentT(2.5)}
TYPES = [torch.float16, torch.float32, torch.float64]
X = np.random.default_rng(0).normal(scale=0.5, size=(2, 3, 11)).astype(np.float32)

by_law = pytest.mark.parametrize("noise", LAWS.values(), ids=LAWS)
by_type = pytest.mark.parametrize("dtype", TYPES, ids=str)


def in_memory(x, noise):
    return distributions.ArgmaxNoise(
        x.cpu().float().numpy() if x.dtype == torch.float16 else x.cpu().numpy(), noise, 0.7
    )


@by_type
@by_law
def test_draws_are_those_of_main_memory(noise, dtype, device):
    x = torch.from_numpy(X).to(device, dtype)
    want = in_memory(x, noise)
    found = cuda.noise_argmax_sample(x, noise, 5, (4, 2), scale=0.7)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.cpu().numpy(), want.sample((4, 2), rng=5))
    found = cuda.noise_argmax_sample(x, noise, 5, 3, k=4, scale=0.7)
    np.testing.assert_array_equal(found.cpu().numpy(), want.sample_k(4, 3, rng=5))


# The contract in csrc/noise_argmax/quantiles_cuda.h.
@pytest.mark.parametrize("df", [0.1, 1.0, 2.5, 40.0, 1e4])
def test_quantiles_of_student(df, device):
    noise = distributions.StudentT(df)
    tails = np.concatenate([10.0 ** -np.arange(1.0, 20.0), np.linspace(0.01, 0.5, 60)])
    q = np.concatenate([tails, 1.0 - tails[1.0 - tails < 1.0]])
    x = torch.from_numpy(q.copy()).to(device)
    _device.kernels().noise_quantiles(x, *_noise_argmax.law_and_table(noise, x))
    x = x.cpu().numpy()
    np.testing.assert_array_equal(np.sign(x[q != 0.5]), np.sign(q[q != 0.5] - 0.5))
    log_tail, seen = np.log(np.minimum(q, 1.0 - q)), np.isfinite(x)
    found = noise.log_cdf(-np.abs(x[seen]))
    assert np.all(np.abs(found - log_tail[seen]) <= 1e-13 * np.maximum(1.0, -log_tail[seen]))
    # Where x is infinite, the largest number is no quantile yet.
    assert np.all(log_tail[~seen] < noise.log_cdf(-1e300))
    assert seen.sum() >= 75


def test_draws_do_not_depend_on_how_many_are_made_at_once(device, monkeypatch):
    x = torch.from_numpy(X).to(device)
    want = cuda.noise_argmax_sample(x, LAWS["Normal"], 7, 5)
    monkeypatch.setattr(_noise_sample, "_CHUNK", 4 * X.shape[-1])
    assert torch.equal(cuda.noise_argmax_sample(x, LAWS["Normal"], 7, 5), want)


def test_shapes_without_elements(device):
    x = torch.from_numpy(X).to(device)
    assert cuda.noise_argmax_sample(x, LAWS["Gumbel"], 1, (0, 2)).shape == (0, 2, 2, 3)
    assert cuda.noise_argmax_sample(x[:0], LAWS["Gumbel"], 1, k=2).shape == (0, 3, 2)
    assert cuda.noise_argmax_sample(x[0, 0], LAWS["Gumbel"], 1).shape == ()


def test_errors(device):
    x = torch.from_numpy(X).to(device)
    with pytest.raises(TypeError, match=r"StudentT.* noise has no CUDA kernel"):
        cuda.noise_argmax_sample(x, distributions.StudentT(2e4), 1)
    with pytest.raises(ValueError, match="k = 12 classes or more"):
        cuda.noise_argmax_sample(x, LAWS["Normal"], 1, k=12)
    with pytest.raises(ValueError, match="at least one class"):
        cuda.noise_argmax_sample(x[..., :0], LAWS["Normal"], 1)
    with pytest.raises(ValueError, match="0 < scale < inf"):
        cuda.noise_argmax_sample(x, LAWS["Normal"], 1, scale=-1.0)


@pytest.fixture
def on_gpu(monkeypatch, device):
    """Take all tensors for those on a GPU, where they lie on the processor too."""
    if device == "cpu":
        monkeypatch.setattr(ArgmaxNoise, "_is_on_gpu", True)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("name", ["Normal", "Logistic", "StudentT"])
def test_a_distribution_of_tensors(name, device):
    noise, x = LAWS[name], torch.from_numpy(X).to(device)
    law, want = ArgmaxNoise(x, noise, 0.7), in_memory(x, noise)
    for found, exact in (
        (law.sample((4, 2), rng=5), want.sample((4, 2), rng=5)),
        (law.sample_k(3, rng=5), want.sample_k(3, rng=5)),
        (law.rsample(4, rng=5), want.rsample(4, rng=5)),
        (law.rsample(rng=5, straight_through=True), want.rsample(rng=5, straight_through=True)),
        (law.score(2), want.score(2)),
        (law.score([[0, 1, 2]]), want.score([[0, 1, 2]])),
        (law.vjp(X[0]), want.vjp(X[0])),
    ):
        assert found.device == x.device
        np.testing.assert_allclose(found.cpu().numpy(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("on_gpu")
def test_relaxed_draws_have_a_gradient(device):
    x = torch.from_numpy(X).to(device, torch.float64).requires_grad_()
    (ArgmaxNoise(x, LAWS["Gumbel"]).rsample(3, rng=1, temperature=0.5) ** 2).sum().backward()
    y = torch.from_numpy(X.astype(np.float64)).requires_grad_()
    noise = distributions._sampling.sums(np.zeros((6, 11)), 3, LAWS["Gumbel"], 1.0, 1)
    sums = y + torch.from_numpy(noise).reshape(3, 2, 3, 11)
    (torch.softmax(sums / 0.5, -1) ** 2).sum().backward()
    torch.testing.assert_close(x.grad.cpu(), y.grad)


@pytest.mark.usefixtures("on_gpu")
def test_what_has_no_kernel_says_so(device):
    law = ArgmaxNoise(torch.from_numpy(X).to(device), rule="quantile")
    with pytest.raises(TypeError, match=r"no CUDA kernel .* pass logits.cpu\(\)"):
        _ = law.probs
