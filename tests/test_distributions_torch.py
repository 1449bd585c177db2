"""logitkit.distributions.ArgmaxNoise of tensors: values, derivatives, types."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from logitkit.distributions import (
    ArgmaxNoise,
    Cauchy,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    Normal,
    Probit,
    ReversedExponential,
)

MU = np.array([[0.7, -0.3, 0.1, 0.55, -1.2], [0.0, 0.3, -0.2, 0.1, 0.4]])
NOISES = [
    Normal(),
    Logistic(),
    Laplace(),
    Cauchy(),
    Exponential(),
    ReversedExponential(),
    Gumbel(),
]
of_noise = pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)


def leaf(x=MU):
    return torch.tensor(x, requires_grad=True)


@of_noise
def test_values_are_those_of_arrays(noise):
    tensors, arrays = ArgmaxNoise(leaf(), noise, 0.5), ArgmaxNoise(MU, noise, 0.5)
    for name, args in [
        ("probs", None),
        ("mode", None),
        ("log_prob", ([1, 3],)),
        ("score", (2,)),
        ("vjp", (np.ones(5),)),
        ("expected_max", ()),
        ("entropy", ()),
        ("top_k_inclusion", (2,)),
    ]:
        actual, expected = (getattr(d, name) for d in (tensors, arrays))
        if args is not None:
            actual, expected = actual(*args), expected(*args)
        np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    for draw in (lambda d: d.sample(4, rng=1), lambda d: d.sample_k(2, (1, 2), rng=1)):
        np.testing.assert_array_equal(draw(tensors).numpy(), draw(arrays))
    np.testing.assert_allclose(
        tensors.rsample(3, rng=1).detach().numpy(), arrays.rsample(3, rng=1), rtol=1e-9
    )


@of_noise
def test_gradients(noise):
    def results(x):
        d = ArgmaxNoise(x, noise, 0.8)
        other = ArgmaxNoise(torch.zeros(5, dtype=torch.float64), noise)
        rest = [] if isinstance(noise, Cauchy) else [d.expected_max()]
        value = [[0], [4], [2]]
        return (
            d.probs,
            d.log_prob(value),
            d.entropy(),
            d.kl_divergence(other),
            d.rsample(2, rng=3),
            *rest,
        )

    # Laplace and exponential densities have kinks, which a difference quotient rounds off.
    rough = isinstance(noise, (Laplace, Exponential, ReversedExponential))
    assert torch.autograd.gradcheck(results, (leaf(),), atol=1e-4 if rough else 1e-6, eps=1e-5)


def test_straight_through_has_the_gradient_of_the_relaxation():
    weights = torch.arange(5.0, dtype=torch.float64)
    gradients = []
    for straight_through in (False, True):
        x = leaf()
        y = ArgmaxNoise(x).rsample(4, rng=2, temperature=0.7, straight_through=straight_through)
        (y * weights).sum().backward()
        gradients.append(x.grad)
    assert set(y.detach().numpy().round(12).ravel()) == {0.0, 1.0}
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_types(dtype):
    x = torch.tensor([[0.5, 0.0, 1.0]], dtype=dtype, requires_grad=True)
    d = Probit(x)
    assert d.probs.dtype == d.log_prob([0]).dtype == d.entropy().dtype == dtype
    d.log_prob([0]).sum().backward()
    assert x.grad.dtype == dtype
    assert d.batch_shape == (1,)
    assert d.num_classes == 3


def test_zero_probability_has_no_gradient():
    x = torch.tensor([0.0, -torch.inf, 0.3], dtype=torch.float64, requires_grad=True)
    ArgmaxNoise(x).entropy().backward()
    assert torch.all(torch.isfinite(x.grad))
    assert x.grad[1] == 0.0


def test_errors_name_the_value():
    with pytest.raises(ValueError, match=r"not nan at \(1,\)"):
        ArgmaxNoise(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="0 to 1, not 2"):
        ArgmaxNoise(torch.zeros(2)).log_prob(2)
    with pytest.raises(RuntimeError, match="quantile"):
        ArgmaxNoise(leaf(), rule="quantile").log_prob(0)
    with pytest.raises(ValueError, match="temperature"):
        ArgmaxNoise(leaf()).rsample(rng=0, temperature=-1.0)
