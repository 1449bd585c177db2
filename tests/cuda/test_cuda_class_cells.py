"""Noise on a GPU over so many classes that few points stand for them."""

import numpy as np
import pytest

from logitkit import _cpu, cuda
from logitkit.distributions import (
    Cauchy,
    Exponential,
    Laplace,
    Logistic,
    Normal,
    StudentT,
    Uniform,
)
from logitkit.distributions._student_table import student_table

torch = pytest.importorskip("torch")

INF = np.inf
CLASSES = 3000
NOISES = {
    "normal": Normal(),
    "logistic": Logistic(),
    "cauchy": Cauchy(),
    "exponential": Exponential(),
    "student": StudentT(2.5),
}
# The contract in csrc/noise_argmax/noise_argmax_cuda.h; twice, as the processor has errors too.
PROBABILITY_ERROR = {torch.float32: 2e-5, torch.float64: 2e-9}  # relative
LOG_ERROR = {torch.float32: 4e-6, torch.float64: 2e-12}  # times max(1, |log p|)
GRADIENT_ERROR = {torch.float32: 4e-6, torch.float64: 2e-9}  # of the largest
VJP_ERROR = {torch.float32: 4e-6, torch.float64: 4e-9}  # times max |cotangents| / scale
MAX_ERROR = {torch.float32: 2e-6, torch.float64: 2e-9}  # times scale + |value|

by_law = pytest.mark.parametrize("law", list(NOISES))
by_type = pytest.mark.parametrize("dtype", list(PROBABILITY_ERROR), ids=str)


def rows_of_logits(spread=1.0):
    """Return rows with classes in full cells, beside them, left out, and far out of reach."""
    x = np.random.default_rng(5).normal(scale=spread, size=(2, CLASSES)).astype(np.float32)
    x[1, ::50] = -INF
    x[1, 1] = -1e5
    x[1, 2:9] = 2.0 * spread - np.arange(7) * 9.0
    return x.astype(np.float64)


def law_on_processor(law):
    return student_table(2.5) if law == "student" else getattr(_cpu.NoiseLaw, law)


def tensor(x, dtype, device):
    return torch.from_numpy(x).to(device, dtype)


def host(x):
    return x.double().cpu().numpy()


@by_type
@by_law
@pytest.mark.parametrize("scale", [0.4, 3.0])
def test_probabilities(law, scale, dtype, device):
    x, want = rows_of_logits(), np.empty((2, CLASSES))
    _cpu.noise_argmax_probs(x, law_on_processor(law), scale, want)
    z, counts = tensor(x, dtype, device), want > 1e-30
    found = host(cuda.noise_argmax_probs(z, NOISES[law], scale=scale))
    assert np.max(np.abs(found[counts] / want[counts] - 1.0)) <= PROBABILITY_ERROR[dtype]
    assert np.all(found[~counts] <= 1.1e-30)
    assert np.all(found[x == -INF] == 0.0)
    logs = host(cuda.noise_argmax_log_probs(z, NOISES[law], scale=scale))
    assert np.max(np.abs(logs[counts] - np.log(want[counts]))) <= PROBABILITY_ERROR[dtype]
    assert np.all(logs[x == -INF] == -INF)


@by_type
@by_law
def test_products_with_the_jacobian(law, dtype, device):
    x, want, scale = rows_of_logits(), np.empty((2, CLASSES)), 0.7
    g = np.random.default_rng(6).normal(size=x.shape).astype(np.float32).astype(np.float64)
    _cpu.noise_argmax_vjp(x, g, law_on_processor(law), scale, want)
    z, cotangent = (tensor(a, dtype, device) for a in (x, g))
    found = host(cuda.noise_argmax_vjp(z, cotangent, NOISES[law], scale=scale))
    assert np.max(np.abs(found - want)) <= VJP_ERROR[dtype] * np.max(np.abs(g)) / scale
    # Of the entries themselves: probabilities of so many classes are small.
    assert np.max(np.abs(found - want)) <= PROBABILITY_ERROR[dtype] * np.max(np.abs(want))
    assert np.all(found[x == -INF] == 0.0)


@by_type
@by_law
def test_expected_maximum(law, dtype, device):
    x, want = rows_of_logits(), np.empty(2)
    _cpu.noise_argmax_expected_max(x, law_on_processor(law), 0.7, want)
    found = host(cuda.noise_argmax_expected_max(tensor(x, dtype, device), NOISES[law], scale=0.7))
    if law == "cauchy":
        assert np.all(found == INF)
    else:
        assert np.all(np.abs(found - want) <= MAX_ERROR[dtype] * (0.7 + np.abs(want)))


@by_type
@by_law
def test_one_class(law, dtype, device):
    x, want, slopes = rows_of_logits()[[0, 1, 1]], np.empty(3), np.empty((3, CLASSES))
    index = np.array([7, 4, 9])
    _cpu.noise_argmax_log_prob(x, index.astype(np.uintp), law_on_processor(law), 0.7, want, slopes)
    found, gradient = cuda.noise_argmax_log_prob(
        tensor(x, dtype, device), index.tolist(), NOISES[law], scale=0.7, return_gradient=True
    )
    assert np.all(np.abs(host(found) - want) <= LOG_ERROR[dtype] * np.maximum(1.0, np.abs(want)))
    largest = np.max(np.abs(slopes), axis=-1, keepdims=True)
    assert np.all(np.abs(host(gradient) - slopes) <= GRADIENT_ERROR[dtype] * largest)
    assert np.all(host(gradient)[x == -INF] == 0.0)


@by_law
def test_rows_without_meaning(law, device):
    x = rows_of_logits()[[0, 0, 0]]
    x[0, 1], x[1, 1] = np.nan, INF
    z, index = tensor(x, torch.float64, device), [0, 0, CLASSES]
    assert cuda.noise_argmax_probs(z, NOISES[law]).isnan().all(-1).tolist() == [True, True, False]
    found, gradient = cuda.noise_argmax_log_prob(z, index, NOISES[law], return_gradient=True)
    assert found.isnan().all()
    assert gradient.isnan().all()


def test_results_do_not_depend_on_the_batch(device):
    z = tensor(rows_of_logits(), torch.float32, device)
    together = cuda.noise_argmax_probs(z, Normal())
    assert torch.equal(cuda.noise_argmax_probs(z[1:], Normal())[0], together[1])
    together = cuda.noise_argmax_vjp(z, z.sin(), Normal())
    assert torch.equal(cuda.noise_argmax_vjp(z[1:], z[1:].sin(), Normal())[0], together[1])


def test_equal_logits_have_equal_chances(device):
    z = torch.zeros((1, 1 << 16), dtype=torch.float64, device=device)
    p = host(cuda.noise_argmax_probs(z, Normal()))
    assert np.max(np.abs(p * 2.0**16 - 1.0)) <= PROBABILITY_ERROR[torch.float64]


@pytest.mark.parametrize("noise", [Laplace(), Uniform()], ids=lambda noise: type(noise).__name__)
def test_laws_without_cells(noise, device):
    x, want = rows_of_logits(0.1)[:1, :600].copy(), np.empty((1, 600))
    of_law = getattr(_cpu.NoiseLaw, type(noise).__name__.lower())
    _cpu.noise_argmax_probs(x, of_law, 1.0, want)
    found = host(cuda.noise_argmax_probs(tensor(x, torch.float64, device), noise))
    counts = want > 1e-30
    assert np.max(np.abs(found[counts] / want[counts] - 1.0)) <= PROBABILITY_ERROR[torch.float64]
