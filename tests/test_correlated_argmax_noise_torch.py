"""logitkit.distributions.CorrelatedArgmaxNoise of tensors: values, derivatives, types."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck, gradgradcheck

from logitkit.distributions import CorrelatedArgmaxNoise, Gumbel, Normal

X = np.array([[0.3, -0.4, 0.1], [0.0, 0.5, 0.2]])
B = np.array([[1.0], [0.3], [-0.6]])
SCALES = {"one": 0.8, "each": np.array([0.8, 1.0, 1.3])}
each_scale = pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)


def leaves(scale):
    return [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (X, B, scale)]


@each_scale
@pytest.mark.parametrize("rng", [None, 4])
def test_values_and_gradients_are_those_of_arrays(scale, rng):
    x, b, sigma = leaves(scale)
    d = CorrelatedArgmaxNoise(x, b, scale=sigma, points=2**9, rng=rng)
    arrays = CorrelatedArgmaxNoise(X, B, scale=scale, points=2**9, rng=rng)
    p, error = d.probs_with_error()
    np.testing.assert_allclose(p.detach(), arrays.probs, rtol=1e-12)
    np.testing.assert_array_equal(error, arrays.probs_with_error().error)
    logs = d.log_prob(torch.tensor([2, 0]))
    np.testing.assert_allclose(logs.detach(), arrays.log_prob([2, 0]), rtol=1e-12)
    np.testing.assert_allclose(d.score(1), arrays.score(1), rtol=1e-12)
    np.testing.assert_array_equal(d.sample(5, rng=1), arrays.sample(5, rng=1))
    np.testing.assert_allclose(d.entropy().detach(), arrays.entropy(), rtol=1e-12)
    np.testing.assert_array_equal(d.mode, arrays.mode)
    assert (d.logits, d.batch_shape, d.num_classes, d.rank) == (x, (2,), 3, 1)
    g = np.arange(6.0).reshape(2, 3)
    found = torch.autograd.grad((p * torch.tensor(g)).sum(), (x, b, sigma))
    for ours, theirs, again in zip(found, arrays.vjp(g), d.vjp(g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(again, theirs)
    (of_log,) = torch.autograd.grad(logs.sum(), x)
    np.testing.assert_allclose(of_log, arrays.score([2, 0]), rtol=1e-9, atol=1e-12)


def results(x, b, sigma, noise=None):
    d = CorrelatedArgmaxNoise(x, b, noise, sigma)
    more = [d.expected_max()] if sigma.ndim == 0 else []
    return d.probs, d.log_prob([1, 2]), *more


@each_scale
def test_derivatives(scale):
    assert gradcheck(results, leaves(scale), fast_mode=True)
    x, _, sigma = leaves(scale)
    x = x[:1].detach().requires_grad_()
    one = lambda x: CorrelatedArgmaxNoise(x[0], B, scale=sigma.detach()).log_prob(1)
    assert gradgradcheck(one, x, fast_mode=True)
    if sigma.ndim == 0:
        assert gradcheck(lambda *a: results(*a, noise=Gumbel()), leaves(scale), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types(dtype):
    x = torch.tensor(X[0], dtype=dtype, requires_grad=True)
    d = CorrelatedArgmaxNoise(x, B)
    assert d.probs.dtype == d.log_prob(0).dtype == d.expected_max().dtype == dtype
    d.log_prob(0).backward()
    assert x.grad.dtype == dtype


def test_errors():
    class Own(Normal):
        pass

    with pytest.raises(TypeError, match="not Own: pass arrays"):
        CorrelatedArgmaxNoise(torch.zeros(3), B, Own())
    with pytest.raises(ValueError, match="0 to 2, not 3"):
        CorrelatedArgmaxNoise(torch.zeros(3), B).log_prob(3)
    with pytest.raises(NotImplementedError, match="one scale"):
        CorrelatedArgmaxNoise(torch.zeros(3), B, scale=SCALES["each"]).expected_max()
