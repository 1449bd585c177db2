"""The distribution of argmax(logits + noise) on a GPU, within the contract of its kernels."""

import numpy as np
import pytest
from scipy import special

from logitkit import _cpu, cuda, reference
from logitkit.cuda import _device, _noise_argmax
from logitkit.distributions import (
    Cauchy,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    Normal,
    ReversedExponential,
    StudentT,
    Uniform,
    _integrals,
)
from logitkit.distributions._student_table import student_table

torch = pytest.importorskip("torch")

INF, NAN = np.inf, np.nan
NOISES = {
    "normal": Normal(),
    "logistic": Logistic(),
    "laplace": Laplace(),
    "cauchy": Cauchy(),
    "uniform": Uniform(),
    "exponential": Exponential(),
    "student": StudentT(2.5),
}
TYPES = (torch.float32, torch.float64)
# The contract in csrc/noise_argmax/noise_argmax_cuda.h.
PROBABILITY_ERROR = {torch.float32: 1e-5, torch.float64: 1e-9}  # relative
LOG_ERROR = {torch.float32: 2e-6, torch.float64: 1e-12}  # of one class, times max(1, |log p|)
GRADIENT_ERROR = {torch.float32: 2e-6, torch.float64: 1e-9}  # of the largest
VJP_ERROR = {torch.float32: 2e-6, torch.float64: 2e-9}  # times max |cotangents| / scale
MAX_ERROR = {torch.float32: 1e-6, torch.float64: 1e-9}  # times scale + |value|

by_law = pytest.mark.parametrize("law", list(NOISES))
by_type = pytest.mark.parametrize("dtype", TYPES, ids=str)


def logits(*shape, spread=1.0, seed=0):
    """Return numbers that both types have."""
    x = np.random.default_rng([seed, *shape]).normal(scale=spread, size=shape)
    return x.astype(np.float32).astype(np.float64)


def on_processor(law):
    return student_table(2.5) if law == "student" else getattr(_cpu.NoiseLaw, law)


def tensor(x, dtype, device):
    return torch.from_numpy(np.asarray(x)).to(device, dtype)


def host(x):
    return x.double().cpu().numpy()


def assert_probabilities(found, expected, dtype):
    counts = expected > 1e-30
    assert np.max(np.abs(found[counts] / expected[counts] - 1.0)) <= PROBABILITY_ERROR[dtype]
    assert np.all(found[~counts] <= 1.1e-30)


@by_type
@by_law
@pytest.mark.parametrize(("n", "spread"), [(1, 0.0), (2, 6.0), (5, 1.0), (17, 3.0)])
def test_values_are_within_contract(law, n, spread, dtype, device):
    x = logits(1, n, spread=0.3 if law == "uniform" and spread > 1 else spread)
    noise, scale = NOISES[law], 0.7
    z = tensor(x, dtype, device)
    expected = reference.noise_argmax_probs(x, noise, scale=scale)
    found = host(cuda.noise_argmax_probs(z, noise, scale=scale))
    assert_probabilities(found, expected, dtype)

    logs = host(cuda.noise_argmax_log_probs(z, noise, scale=scale))
    counts = expected > 1e-30
    error = np.abs(logs[counts] - np.log(expected[counts]))
    assert np.max(error) <= PROBABILITY_ERROR[dtype]

    g = logits(1, n, seed=1)
    want = reference.noise_argmax_vjp(x, g, noise, scale=scale)
    found = host(cuda.noise_argmax_vjp(z, tensor(g, dtype, device), noise, scale=scale))
    assert np.max(np.abs(found - want)) <= VJP_ERROR[dtype] * np.max(np.abs(g)) / scale

    found = host(cuda.noise_argmax_expected_max(z, noise, scale=scale))
    if law == "cauchy":
        assert np.all(found == INF)
    else:
        want = reference.noise_argmax_expected_max(x, noise, scale=scale)
        assert np.all(np.abs(found - want) <= MAX_ERROR[dtype] * (scale + np.abs(want)))


def log_prob_on_processor(x, index, law, scale=1.0):
    out, gradients = np.empty(len(x)), np.empty_like(x)
    index = np.asarray(index, np.uintp)
    _cpu.noise_argmax_log_prob(x, index, on_processor(law), scale, out, gradients)
    return out, gradients


@by_type
@by_law
@pytest.mark.parametrize(("n", "spread"), [(1, 0.0), (3, 9.0), (40, 3.0), (300, 0.4)])
def test_one_class_is_within_contract(law, n, spread, dtype, device):
    x = logits(3, n, spread=min(spread, 0.4) if law == "uniform" else spread, seed=2)
    index = np.array([0, n // 2, n - 1])
    want, of_logits = log_prob_on_processor(x, index, law, 0.7)
    found, gradient = cuda.noise_argmax_log_prob(
        tensor(x, dtype, device),
        torch.from_numpy(index).to(device),
        NOISES[law],
        scale=0.7,
        return_gradient=True,
    )
    found, gradient = host(found), host(gradient)
    possible = want > -INF
    assert np.array_equal(found > -INF, possible)
    allowed = LOG_ERROR[dtype] * np.maximum(1.0, np.abs(want[possible]))
    assert np.all(np.abs(found[possible] - want[possible]) <= allowed)
    largest = np.max(np.abs(of_logits), axis=-1, keepdims=True)
    assert np.all(np.abs(gradient - of_logits) <= GRADIENT_ERROR[dtype] * largest)


@by_law
@pytest.mark.parametrize(("n", "spread"), [(40, 12.0), (257, 1.5), (300, 0.3)])
def test_many_classes_are_those_of_the_processor(law, n, spread, device):
    x = logits(2, n, spread=0.3 if law == "uniform" else spread)
    x[1, 2] = -INF
    of_law = on_processor(law)
    z, noise = tensor(x, torch.float64, device), NOISES[law]
    want = np.empty_like(x)
    _cpu.noise_argmax_probs(x, of_law, 1.0, want)
    found = host(cuda.noise_argmax_probs(z, noise))
    assert found[1, 2] == 0.0
    # Both are within the contract.
    counts = want > 1e-30
    error = np.abs(found[counts] / want[counts] - 1.0)
    assert np.max(error) <= 2.0 * PROBABILITY_ERROR[torch.float64]

    g = logits(2, n, seed=1)
    _cpu.noise_argmax_vjp(x, g, of_law, 1.0, want)
    found = host(cuda.noise_argmax_vjp(z, tensor(g, torch.float64, device), noise))
    assert np.max(np.abs(found - want)) <= 2.0 * VJP_ERROR[torch.float64] * np.max(np.abs(g))


@pytest.mark.parametrize(
    ("logit", "log_p"),
    # log Phi(-t / sqrt 2), from scipy.special.log_ndtr
    [(-t, special.log_ndtr(-t / np.sqrt(2.0))) for t in (0.5, 10.0, 60.0, 150.0)],
)
@by_type
def test_two_normal_classes_far_into_the_tail(logit, log_p, dtype, device):
    x = tensor([[0.0, logit]], dtype, device)
    found = host(cuda.noise_argmax_log_prob(x, [1], Normal()))
    assert np.abs(found[0] - log_p) <= LOG_ERROR[dtype] * max(1.0, -log_p)


@by_law
def test_rows_without_meaning(law, device):
    x = np.zeros((5, 3))
    x[0, 1], x[1, 1], x[2] = NAN, INF, -INF
    z, noise = tensor(x, torch.float64, device), NOISES[law]
    g, index = torch.ones_like(z), torch.tensor([0, 0, 0, 3, 1], device=device)
    for found in (
        cuda.noise_argmax_probs(z, noise),
        cuda.noise_argmax_log_probs(z, noise),
        cuda.noise_argmax_vjp(z, g, noise),
        cuda.noise_argmax_expected_max(z, noise),
    ):
        assert torch.all(torch.isnan(found[:3]))
        assert not torch.any(torch.isnan(found[3:]))
    found, gradient = cuda.noise_argmax_log_prob(z, index, noise, return_gradient=True)
    assert torch.isnan(found).tolist() == [True, True, True, True, False]
    assert torch.isnan(gradient).all(-1).tolist() == [True, True, True, True, False]


@by_law
def test_classes_that_cannot_win(law, device):
    x = np.array([[0.0, -INF, -0.5], [0.0, -1e5, -0.5]])
    z, noise = tensor(x, torch.float64, device), NOISES[law]
    p = host(cuda.noise_argmax_probs(z, noise))
    assert p[0, 1] == 0.0
    assert np.allclose(p.sum(-1), 1.0, rtol=0.0, atol=1e-9)
    assert cuda.noise_argmax_log_probs(z, noise)[0, 1] == -INF
    found, gradient = cuda.noise_argmax_log_prob(z, [1, 1], noise, return_gradient=True)
    assert found[0] == -INF
    assert torch.all(gradient[0] == 0.0)
    if law == "uniform":
        assert found[1] == -INF


@by_law
@pytest.mark.parametrize("near", [[0.0], [0.0, 0.3], [0.0, 0.3, -0.2]], ids=len)
@pytest.mark.parametrize("far", [1e14, 1e16, 1e18, 1e155, 1e300])
def test_classes_out_of_reach_do_not_change_the_others(law, near, far, device):
    alone, noise = np.array([near]), NOISES[law]
    z, n = tensor([[*near, -far]], torch.float64, device), len(near)
    want, of_logits = log_prob_on_processor(alone, [0], law)
    found, gradient = cuda.noise_argmax_log_prob(z, [0], noise, return_gradient=True)
    assert abs(host(found)[0] - want[0]) <= 2e-12
    assert np.max(np.abs(host(gradient)[0, :n] - of_logits)) <= 1e-9
    p = np.empty_like(alone)
    _cpu.noise_argmax_probs(alone, on_processor(law), 1.0, p)
    found = host(cuda.noise_argmax_probs(z, noise))[:, :n]
    np.testing.assert_allclose(found, p, rtol=2e-9, atol=1e-12)
    last, gradient = cuda.noise_argmax_log_prob(z, [n], noise, return_gradient=True)
    assert host(last)[0] < -30.0
    assert not torch.isnan(gradient).any()


@by_law
def test_results_do_not_depend_on_the_batch(law, device):
    x = tensor(logits(5, 37, spread=0.4), torch.float32, device)
    together = cuda.noise_argmax_probs(x, NOISES[law])
    for row in range(5):
        assert torch.equal(cuda.noise_argmax_probs(x[row], NOISES[law]), together[row])


def test_more_rows_than_blocks(device):
    x = tensor(logits(540, 2), torch.float32, device)
    p = cuda.noise_argmax_probs(x, Logistic())
    assert torch.equal(p[525:], cuda.noise_argmax_probs(x[525:], Logistic()))


@pytest.mark.parametrize("df", [0.1, 1.0, 1.5, 30.0, 1e4])
@pytest.mark.parametrize(("n", "spread"), [(2, 6.0), (40, 12.0)])
def test_degrees_of_freedom(df, n, spread, device):
    x, noise, index = logits(2, n, spread=spread), StudentT(df), np.array([n - 1, n // 2])
    x[1, 0] = -INF
    z = tensor(x, torch.float64, device)
    want, found = _integrals.probs(x, noise, 1.0), host(cuda.noise_argmax_probs(z, noise))
    counts = want > 1e-30
    assert np.max(np.abs(found[counts] / want[counts] - 1.0)) <= 2e-9
    assert found[1, 0] == 0.0
    logs, slopes = cuda.noise_argmax_log_prob(
        z, torch.from_numpy(index).to(device), noise, return_gradient=True
    )
    want = _integrals.log_prob(x, index.astype(np.uintp), noise, 1.0)
    assert np.all(np.abs(host(logs) - want) <= 2e-12 * np.maximum(1.0, np.abs(want)))
    want = _integrals.score(x, index.astype(np.uintp), noise, 1.0)
    largest = np.max(np.abs(want), axis=-1, keepdims=True)
    assert np.all(np.abs(host(slopes) - want) <= 2e-9 * largest)
    want, found = (
        _integrals.expected_max(x, noise, 1.0),
        host(cuda.noise_argmax_expected_max(z, noise)),
    )
    if df <= 1.0:
        assert np.all(found == INF)
    else:
        assert np.all(np.abs(found - want) <= 2e-9 * (1.0 + np.abs(want)))


def test_student_of_one_degree_is_cauchy(device):
    z = tensor(logits(3, 20, spread=5.0), torch.float64, device)
    found, want = (host(cuda.noise_argmax_probs(z, noise)) for noise in (StudentT(1.0), Cauchy()))
    assert np.max(np.abs(found / want - 1.0)) <= 2e-9


@pytest.mark.parametrize(
    ("df", "gap"), [(1000.0, 60.0), (1000.0, 300.0), (300.0, 1e4), (1e4, 200.0)]
)
def test_far_tails_of_student(df, gap, device):
    # Gauss-Legendre rules over what matters of the integrand of the class that is behind.
    noise, (t, w) = StudentT(df), np.polynomial.legendre.leggauss(16)
    edges = np.sinh(np.linspace(-np.arcsinh(1e7), np.arcsinh(1e7), 2000))
    edges = np.unique([*edges, *(edges - gap)])  # fine at both peaks
    half = 0.5 * np.diff(edges)[:, None]
    u, w = (edges[:-1, None] + half * (1.0 + t)).ravel(), (half * w).ravel()
    logs = noise.log_cdf(u) + noise.log_pdf(u + gap)
    want = special.logsumexp(logs, b=w)
    z = tensor([[0.0, -gap]], torch.float64, device)
    found, slopes = cuda.noise_argmax_log_prob(z, [1], noise, return_gradient=True)
    assert want < -600.0
    # The oracle's distribution function itself is not better.
    assert abs(host(found)[0] - want) <= 1e-11 * abs(want)
    assert torch.isfinite(slopes).all()
    assert slopes[0, 1] == -slopes[0, 0] > 0.0


def test_logistic_logits_far_from_each_other(device):
    """Worked numbers of FAR_TAILS in tests/test_noise_argmax.py."""
    x = [[0.0, -8570.0, -5495.0], [0.0, -5482.0, -3364.0]]
    want = np.array([-8561.38840613316228, -5473.87911397890716])
    found = host(cuda.noise_argmax_log_prob(tensor(x, torch.float64, device), [1, 1], Logistic()))
    assert np.all(np.abs(found - want) <= 1e-12 * np.abs(want))


@pytest.mark.parametrize("far", [1.0, 45.0, 1e6, 1e15])
def test_the_lower_of_two_classes_with_laplace_noise(far, device):
    """P(difference of two > far) = e^-far (2 + far) / 4."""
    x = tensor([[0.0, -far], [-far, 0.0]], torch.float64, device)
    found = host(cuda.noise_argmax_log_prob(x, [1, 0], Laplace()))
    want = np.log1p(far / 2) - np.log(2) - far
    assert np.all(np.abs(found - want) <= 1e-12 * max(1.0, abs(want)))


def test_a_table_is_copied_to_the_gpu_once(device):
    x = torch.zeros((1, 2), device=device)
    law, first = _noise_argmax.law_and_table(StudentT(7.5), x)
    again = _noise_argmax.law_and_table(StudentT(7.5), x.double())
    assert again[0] == law
    assert again[1] is first
    assert first.device == x.device


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_rounded_results(dtype, device):
    x = tensor(logits(3, 9), dtype, device)
    want = cuda.noise_argmax_probs(x.float(), Normal())
    assert torch.equal(cuda.noise_argmax_probs(x, Normal()), want.to(dtype))


@by_type
def test_gumbel_noise_is_a_softmax(dtype, device):
    x = logits(3, 9, spread=3.0)
    z = tensor(x, dtype, device)
    want = reference.noise_argmax_probs(x, Gumbel(), scale=0.5)
    found = host(cuda.noise_argmax_probs(z, Gumbel(), scale=0.5))
    assert_probabilities(found, want, dtype)
    want = reference.noise_argmax_expected_max(x, Gumbel(), scale=0.5)
    found = host(cuda.noise_argmax_expected_max(z, Gumbel(), scale=0.5))
    assert np.all(np.abs(found - want) <= MAX_ERROR[dtype] * (0.5 + np.abs(want)))
    logs, gradient = cuda.noise_argmax_log_prob(z, [1, 2, 9], Gumbel(), return_gradient=True)
    want = special.log_softmax(x, axis=-1)
    expected = np.array([want[0, 1], want[1, 2]])
    assert np.max(np.abs(host(logs)[:2] - expected)) <= 10.0 * LOG_ERROR[dtype]
    assert torch.isnan(logs[2])
    assert np.max(np.abs(host(gradient)[0] - (np.eye(9)[1] - np.exp(want[0])))) <= 1e-6


@pytest.mark.parametrize("n", [1, 2, 40])
@by_type
def test_reversed_exponential_noise_has_a_closed_form(n, dtype, device):
    noise, scale, index = ReversedExponential(), 0.5, np.array([0, n - 1, n // 2])
    x, g = logits(3, n, spread=3.0), logits(3, n, seed=1)
    if n > 2:
        x[0, 3], x[1, 4] = -INF, -600.0
    index[1] = min(4, n - 1)
    z, cotangent = (tensor(a, dtype, device) for a in (x, g))
    want = _integrals.probs(x, noise, scale)
    assert_probabilities(host(cuda.noise_argmax_probs(z, noise, scale=scale)), want, dtype)
    found = host(cuda.noise_argmax_log_probs(z, noise, scale=scale))
    exact = _integrals.log_probs(x, noise, scale)
    counts = exact > -600.0
    bound = PROBABILITY_ERROR[dtype] * np.maximum(1.0, np.abs(exact[counts]))
    assert np.all(np.abs(found[counts] - exact[counts]) <= bound)
    assert np.all(found[exact < -700.0] == -INF)
    found = host(cuda.noise_argmax_vjp(z, cotangent, noise, scale=scale))
    bound = VJP_ERROR[dtype] * np.max(np.abs(g)) / scale
    assert np.max(np.abs(found - _integrals.vjp(x, g, noise, scale))) <= bound
    found = host(cuda.noise_argmax_expected_max(z, noise, scale=scale))
    want = _integrals.expected_max(x, noise, scale)
    assert np.all(np.abs(found - want) <= MAX_ERROR[dtype] * (scale + np.abs(want)))
    logs, slopes = (
        host(a)
        for a in cuda.noise_argmax_log_prob(z, index, noise, scale=scale, return_gradient=True)
    )
    want = _integrals.log_prob(x, index, noise, scale)
    assert np.all(np.abs(logs - want) <= LOG_ERROR[dtype] * np.maximum(1.0, np.abs(want)))
    want = _integrals.score(x, index, noise, scale)
    assert np.max(np.abs(slopes - want)) <= GRADIENT_ERROR[dtype] * max(1.0, np.abs(want).max())


def test_rows_without_a_reversed_exponential_maximum_are_nan(device):
    noise = ReversedExponential()
    x = torch.tensor([[0.0, NAN], [INF, 0.0], [-INF, -INF], [0.0, 0.0]], device=device)
    found = cuda.noise_argmax_probs(x, noise)
    assert found[:3].isnan().all()
    assert torch.equal(found[3].cpu(), torch.tensor([0.5, 0.5]))
    logs, slopes = cuda.noise_argmax_log_prob(x, [0, 0, 0, 2], noise, return_gradient=True)
    assert logs.isnan().all()
    assert slopes.isnan().all()
    assert cuda.noise_argmax_expected_max(x, noise)[:3].isnan().all()
    hidden = torch.tensor([[0.0, -INF]], device=device)
    logs, slopes = cuda.noise_argmax_log_prob(hidden, [1], noise, return_gradient=True)
    assert logs.tolist() == [-INF]
    assert slopes.tolist() == [[0.0, 0.0]]


def test_errors(device):
    x = torch.zeros((2, 3), device=device)
    with pytest.raises(TypeError, match=r"StudentT\(df=20000.0\) noise has no CUDA kernel"):
        cuda.noise_argmax_probs(x, StudentT(2e4))
    for polynomials in (0, 2 * 10 * 8 + 1):
        with pytest.raises(ValueError, match="polynomials is not of whole cells"):
            _device.kernels().noise_argmax_probs(
                x,
                (1.0, -1.0, 0.5, 3.0),
                1.0,
                x,
                x,
                polynomials=torch.zeros(polynomials, dtype=torch.uint8, device=device),
            )
    with pytest.raises(ValueError, match="0 < scale < inf"):
        cuda.noise_argmax_probs(x, Normal(), scale=0.0)
    with pytest.raises(ValueError, match="at least one class"):
        cuda.noise_argmax_probs(x[:, :0], Normal())
    with pytest.raises(ValueError, match="an index for each of 2 rows"):
        cuda.noise_argmax_log_prob(x, [0], Normal())
    assert cuda.noise_argmax_probs(x[:0], Normal()).shape == (0, 3)
