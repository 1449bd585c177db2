"""What other packages of logitkit do with tensors on a GPU, here by the kernels alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from logitkit import cuda, diffusion, distributions
from logitkit.diffusion import _draws, _update
from logitkit.losses._fenchel_young import name_of

torch = pytest.importorskip("torch")

from logitkit.losses._row_losses import ROW_LOSSES
from logitkit.torch import _linear_cross_entropy, _losses, _noise_argmax


@pytest.fixture
def on_gpu(monkeypatch, device):
    """Send all arrays to the kernels for GPUs, where they lie on the processor too."""
    nothing = SimpleNamespace(combine=lambda *_: None, combine_with_noise=lambda *_: None)
    if device == "cpu":
        for module in (_update, _draws):
            monkeypatch.setattr(module, "gpu_functions_for", lambda _: cuda)
        monkeypatch.setattr(_update, "_cpu", nothing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("solver", [diffusion.DDIM(), diffusion.DDPM(), diffusion.ReverseSDE()])
def test_a_sample_has_the_bits_of_main_memory(solver, dtype, device, request):
    process = diffusion.Gaussian(diffusion.Cosine())

    def predict(x, t):
        return 0.5 * x

    def drawn(device):
        return diffusion.sample(
            process,
            predict,
            solver=solver,
            times=np.linspace(0.9, 0.1, 5),
            initial=torch.ones(3, 7, dtype=dtype, device=device),
            rng=3,
        )

    want = drawn("cpu")
    request.getfixturevalue("on_gpu")
    found = drawn(device)
    assert torch.equal(found.cpu(), want)


def test_draws_have_the_bits_of_main_memory(device, request):
    like = torch.empty(0, dtype=torch.float32, device=device)
    draws = [_draws.Draws(5, 2, np.array([4, 0, 9])) for _ in range(2)]
    want = [getattr(draws[0], law)((3, 3), like.cpu()) for law in ("normal", "uniform", "gumbel")]
    request.getfixturevalue("on_gpu")
    for law, x in zip(("normal", "uniform", "gumbel"), want, strict=True):
        assert torch.equal(getattr(draws[1], law)((3, 3), like).cpu(), x)


@pytest.mark.parametrize("noise", [distributions.Normal(), distributions.Gumbel()])
def test_operators_of_noise_find_the_kernels(noise, device):
    x = torch.tensor([[0.3, -1.0, 2.0, 0.0], [1.0, 1.0, -3.0, 0.5]], dtype=torch.float64)
    g = torch.tensor([[1.0, 2.0, -1.0, 0.5], [0.0, 1.0, 1.0, -2.0]], dtype=torch.float64)
    index = torch.tensor([1, 3])
    name = name_of(noise)
    for definition, args in (
        (_noise_argmax._ExpectedMax, (x,)),
        (_noise_argmax._Probabilities, (x,)),
        (_noise_argmax._Vjp, (x, g)),
        (_noise_argmax._LogProb, (x, index)),
        (_noise_argmax._Score, (x, index)),
    ):
        want = definition.compute(*args, name, 0.7)
        found = definition.compute_on_gpu(*(y.to(device) for y in args), name, 0.7)
        assert found.shape == definition.fake(*args, name, 0.7).shape
        torch.testing.assert_close(found.cpu(), want, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_cross_entropy_of_tensors_finds_the_kernel(hard, weighted, device):
    rng = np.random.default_rng(2)
    x = torch.from_numpy(3.0 * rng.standard_normal((2, 3, 7)))
    target = torch.from_numpy(
        rng.integers(0, 7, (2, 3)) if hard else rng.dirichlet(np.ones(7), (2, 3))
    )
    weight = torch.from_numpy(rng.uniform(0.5, 2.0, 7)) if weighted else None
    loss = next(loss for loss in ROW_LOSSES if loss.name == "cross_entropy")
    for argnums in ([], [0]):
        args = (x, target, weight, 0.1, 0.02, argnums)
        want = _losses._compute(loss, *args)
        moved = [y.to(device) if isinstance(y, torch.Tensor) else y for y in args]
        for found, expected in zip(_losses._on_gpu(loss, *moved), want, strict=True):
            torch.testing.assert_close(found.cpu(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hard", [True, False])
def test_cross_entropy_of_a_layer_of_tensors_finds_the_kernels(hard, device):
    rng = np.random.default_rng(3)
    x, weight, bias, targets = (
        torch.from_numpy(rng.standard_normal(shape)) for shape in ((5, 4), (9, 4), (9,), (5, 9))
    )
    labels = torch.from_numpy(rng.integers(0, 9, 5))
    if hard:
        labels[2] = -1
    rest = (labels, None if hard else targets.softmax(1), bias.exp(), 2.0, 0.1, 0.02)
    g = torch.from_numpy(rng.standard_normal(5))

    def moved(args):
        return [y.to(device) if isinstance(y, torch.Tensor) else y for y in args]

    args = (x, weight, bias, *rest)
    found = _linear_cross_entropy._values_on_gpu(*moved(args))
    torch.testing.assert_close(found.cpu(), _linear_cross_entropy._values(*args))
    args = (x, weight, bias, g, *rest, [0, 1, 3])
    found = _linear_cross_entropy._total_on_gpu(*moved(args))
    for y, want in zip(found, _linear_cross_entropy._total(*args), strict=True):
        torch.testing.assert_close(y.cpu(), want, rtol=1e-12, atol=1e-12)
