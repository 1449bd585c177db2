"""logitkit.distributions.ArgmaxNoise of tensors: values, derivatives, types."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck, gradgradcheck

import logitkit.torch  # noqa: F401, registers the operators
from logitkit.distributions import (
    ArgmaxNoise,
    Cauchy,
    CorrelatedArgmaxNoise,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    Normal,
    Probit,
    ReversedExponential,
    Uniform,
    margin_softmax,
)
from logitkit.random import gumbel_argmax

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

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


KINKED = (Laplace, Exponential, Uniform)
SMOOTH = [noise for noise in NOISES if not isinstance(noise, KINKED)]


@pytest.mark.parametrize("noise", SMOOTH, ids=lambda noise: type(noise).__name__)
def test_second_derivatives(noise):
    def results(x):
        d = ArgmaxNoise(x, noise, 0.8)
        rest = [] if isinstance(noise, Cauchy) else [d.expected_max()]
        return d.probs, d.log_prob([1]), d.entropy(), *rest

    # The kernels err by 1e-9, which a difference quotient divides by its step.
    options = {"eps": 1e-4, "atol": 1e-5, "fast_mode": True}
    assert gradcheck(results, (leaf(MU[:1]),), check_forward_ad=True, **options)
    assert gradgradcheck(results, (leaf(MU[:1]),), check_fwd_over_rev=True, **options)


@pytest.mark.parametrize("noise", [Laplace(), Exponential(), Uniform()], ids=str)
def test_second_derivatives_where_densities_have_kinks(noise):
    """Away from the kinks they are those of differences of the first ones."""
    g, h = np.cos(np.arange(10.0)).reshape(2, 5), 1e-4
    mu = 0.9 * MU  # logits of MU differ by 1, where uniform noise has a kink
    x = leaf(mu)
    for function, first in (
        (lambda x: (ArgmaxNoise(x, noise).probs * torch.tensor(g)).sum(), "vjp"),
        (lambda x: ArgmaxNoise(x, noise).log_prob([0, 3]).sum(), "score"),
    ):
        (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
        (second,) = torch.autograd.grad((gradient * torch.tensor(g)).sum(), x)
        argument = g if first == "vjp" else np.array([0, 3])
        up, down = (getattr(ArgmaxNoise(mu + s * g, noise), first)(argument) for s in (h, -h))
        np.testing.assert_allclose(second, (up - down) / (2.0 * h), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("gap", "expected"), [(0.3, 1.0), (0.0, 1.0), (-0.3, -1.0), (1.2, 0.0)], ids=str
)
def test_second_derivatives_of_uniform_noise(gap, expected):
    """For two classes p = 1 - (1 - d)^2 / 2 where d >= 0; the first of equal logits is larger."""
    x = leaf([gap, 0.0])
    (gradient,) = torch.autograd.grad(ArgmaxNoise(x, Uniform()).probs[0], x, create_graph=True)
    (second,) = torch.autograd.grad(gradient[0], x)
    np.testing.assert_allclose(second, [-expected, expected], rtol=0, atol=1e-12)


def test_laws_of_a_users_own_have_first_derivatives():
    class Own(Normal):
        pass

    x = leaf()
    d = ArgmaxNoise(x, Own())
    for result, expected in (
        (d.log_prob([0, 1]).sum(), ArgmaxNoise(MU).score([0, 1])),
        (d.expected_max().sum(), ArgmaxNoise(MU).probs),
        (d.probs[:, 2].sum(), ArgmaxNoise(MU).vjp(np.eye(5)[2])),
    ):
        (gradient,) = torch.autograd.grad(result, x)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)


def operands(name):
    x, g, h = (leaf(s * MU) for s in (1.0, 0.7, -0.4))
    index = torch.tensor([1, 3])
    return {
        "expected_max": (x,),
        "noise_argmax_probs": (x,),
        "noise_argmax_vjp": (x, g),
        "noise_argmax_second_vjp": (x.detach(), g.detach(), h.detach()),
        "noise_argmax_log_prob": (x, index),
        "noise_argmax_score": (x, index),
        "noise_argmax_score_vjp": (x.detach(), index, g.detach()),
    }[name]


@pytest.mark.parametrize("name", ["expected_max", "noise_argmax_probs", "noise_argmax_vjp",
    "noise_argmax_second_vjp", "noise_argmax_log_prob", "noise_argmax_score",
    "noise_argmax_score_vjp"])  # fmt: skip
@pytest.mark.parametrize("noise", ["Normal", "StudentT 3.0"])
def test_opcheck(name, noise):
    op = getattr(torch.ops.logitkit, name).default
    torch.library.opcheck(op, (*operands(name), noise, 0.8))


@pytest.mark.parametrize("noise", [Normal(), Gumbel(), Uniform()], ids=str)
def test_compile(noise):
    torch.compiler.reset()
    scaled = 0.2 * MU

    def function(x):
        d = ArgmaxNoise(x, noise, 0.8)
        return d.probs.square().sum() + d.log_prob(torch.tensor([0, 4])).sum() + d.entropy().sum()

    x = leaf(scaled)
    expected = function(x)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    actual = compiled(x)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0.0)
    gradients = [torch.autograd.grad(y, x)[0] for y in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_transforms():
    x = torch.tensor(MU)
    entropy = lambda x: ArgmaxNoise(x).entropy()
    gradients = torch.vmap(torch.func.grad(entropy))(x)
    y = leaf()
    entropy(y).sum().backward()
    torch.testing.assert_close(gradients, y.grad)
    hessian = torch.func.hessian(lambda x: ArgmaxNoise(x).log_prob(2))(x[0])
    torch.testing.assert_close(hessian, hessian.T)
    torch.testing.assert_close(hessian.sum(0), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)  # fmt: skip


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_divergence_from_a_class_that_is_almost_impossible(dtype):
    """Value and slopes, where probabilities are 0 and have no logarithm."""
    x = torch.tensor([0.0, 0.1], dtype=dtype, requires_grad=True)
    y = torch.tensor([[0.0, 60.0]], dtype=dtype, requires_grad=True)
    p, q = ArgmaxNoise(x), ArgmaxNoise(y)
    arrays = ArgmaxNoise(x.detach().numpy()), ArgmaxNoise(y.detach().numpy())
    value = p.kl_divergence(q)
    rtol = 1e-5 if dtype is torch.float32 else 1e-9
    torch.testing.assert_close(
        value.detach().numpy(), arrays[0].kl_divergence(arrays[1]), rtol=rtol, atol=0.0
    )
    of_x, of_y = torch.autograd.grad(value.sum(), (x, y))
    score = arrays[1].score([0])
    expected = -arrays[0].probs[0] * score - arrays[0].probs[1] * arrays[1].score([1])
    torch.testing.assert_close(of_y.numpy(), expected, rtol=rtol, atol=0.0)
    logs = arrays[0].log_prob([0, 1]) - arrays[1].log_prob([0, 1])
    torch.testing.assert_close(of_x.numpy(), arrays[0].vjp(logs.astype(x.detach().numpy().dtype)))
    torch.testing.assert_close(p.cross_entropy(arrays[1]), p.cross_entropy(q))


def test_relaxed_draws_at_any_temperature():
    p = ArgmaxNoise(torch.tensor([0.0, 1.0, -torch.inf], requires_grad=True))
    y = p.rsample(100, rng=3, temperature=1e-40)
    torch.testing.assert_close(y.argmax(-1), p.sample(100, rng=3))
    assert y.sum() == 100.0
    (gradient,) = torch.autograd.grad(y[:, 0].sum(), p.logits)
    assert not gradient.isnan().any()


def test_classes_that_do_not_fit_the_batch_are_named():
    p = ArgmaxNoise(torch.zeros(2, 3))
    for value in ([0, 1, 2], torch.tensor([0, 1, 2])):
        with pytest.raises(ValueError, match=r"against the batch \(2,\), not of shape \(3,\)"):
            p.log_prob(value)
    with pytest.raises(TypeError, match="classes as integers"):
        p.log_prob("a")
    with pytest.raises(TypeError, match="cotangent of real numbers"):
        p.vjp("a")


def test_relaxed_draws_in_transforms():
    """The noise is that of the same rows outside, so that a mapped one is drawn for each alike."""
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def total(logits):
        return ArgmaxNoise(logits).rsample(5, rng=1, temperature=0.5)[..., 0].sum()

    leaf = x.clone().requires_grad_()
    total(leaf).backward()
    torch.testing.assert_close(torch.func.grad(total)(x), leaf.grad)
    torch.testing.assert_close(torch.vmap(total)(x), torch.stack([total(row) for row in x]))


def test_elements_that_cannot_be_read_are_named():
    x = torch.zeros(2, 3)
    with pytest.raises(TypeError, match=r"elements can be read: .* outside of torch\.vmap"):
        torch.vmap(lambda row: ArgmaxNoise(row).sample(rng=0))(x)
    with pytest.raises(TypeError, match="in main memory, not on meta"):
        ArgmaxNoise(x.to("meta")).sample(rng=0)
    with pytest.raises(TypeError, match="expected logits as a tensor whose elements"):
        torch.func.grad(lambda y: CorrelatedArgmaxNoise(y, torch.ones(3, 1)).probs[0, 0])(x)
    with pytest.raises(TypeError, match="expected logits as a tensor whose elements"):
        torch.vmap(lambda row: gumbel_argmax(row, 0))(x)


def test_margin_softmax_in_transforms():
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 2])
    whole = margin_softmax(x, y, margin=0.3)
    np.testing.assert_allclose(whole, margin_softmax(x.numpy(), y.numpy(), margin=0.3), rtol=1e-14)
    torch.testing.assert_close(
        torch.vmap(lambda a, b: margin_softmax(a, b, margin=0.3))(x, y), whole
    )
    jacobian = torch.func.jacrev(lambda a: margin_softmax(a, y, margin=0.3))(x)
    leaf = x.clone().requires_grad_()
    margin_softmax(leaf, y, margin=0.3)[0, 1].backward()
    torch.testing.assert_close(jacobian[0, 1], leaf.grad)
    for target in ([0, 3], torch.tensor([0, 3])):
        with pytest.raises(ValueError, match=r"targets from 0 to 2, not 3 at \(1,\)"):
            margin_softmax(x, target)
