"""csrc/noise_argmax against logitkit.reference, closed forms and its own contract."""

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special

from logitkit import _cpu, reference
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

NOISES = {
    "normal": Normal(),
    "logistic": Logistic(),
    "laplace": Laplace(),
    "cauchy": Cauchy(),
    "uniform": Uniform(),
    "exponential": Exponential(),
    "student": StudentT(2.5),
}
HEAVY = ("cauchy", "student")  # tails
TYPES = [np.float32, np.float64]
PROBABILITY_ERROR = {np.float32: 1e-5, np.float64: 1e-9}  # relative, of the contract
LOG_ERROR = {np.float32: 2e-6, np.float64: 1e-12}  # of one class, times max(1, |log p|)
VJP_ERROR = {np.float32: 2e-6, np.float64: 2e-9}  # times max |cotangents| / scale
MAX_ERROR = {np.float32: 1e-6, np.float64: 1e-9}  # times scale + |value|

by_law = pytest.mark.parametrize("law", list(NOISES))
by_type = pytest.mark.parametrize("dtype", TYPES)


def logits(*shape, spread=1.0, seed=0):
    """Return numbers that both types have."""
    x = np.random.default_rng([seed, *shape]).normal(scale=spread, size=shape)
    return x.astype(np.float32).astype(np.float64)


def law_of(name):
    return student_table(2.5) if name == "student" else getattr(_cpu.NoiseLaw, name)


def probs(x, law, scale=1.0, **options):
    out = np.empty_like(x)
    _cpu.noise_argmax_probs(x, law_of(law), scale, out, **options)
    return out


def log_prob(x, index, law, scale=1.0, **options):
    out, gradients = np.empty(len(x), x.dtype), np.empty_like(x)
    index = np.asarray(index, np.uintp)
    law = law_of(law)
    _cpu.noise_argmax_log_prob(x, index, law, scale, out, gradients, **options)
    return out, gradients


def vjp(x, g, law, scale=1.0, **options):
    out = np.empty_like(x)
    _cpu.noise_argmax_vjp(x, g, law_of(law), scale, out, **options)
    return out


def expected_max(x, law, scale=1.0, **options):
    out = np.empty(len(x), x.dtype)
    _cpu.noise_argmax_expected_max(x, law_of(law), scale, out, **options)
    return out


def assert_probabilities(actual, expected):
    counts = expected > 1e-30
    error = np.abs(actual[counts].astype(np.float64) / expected[counts] - 1.0)
    assert np.max(error) <= PROBABILITY_ERROR[actual.dtype.type]
    assert np.all(actual[~counts] <= 1.1e-30)


def of_repeated(values, counts, law):
    """
    Return the probabilities of classes of which there are many with the same logit.

    Gauss-Legendre rules on many panels, with every break point at an end.
    """
    noise = NOISES[law]
    mu = values - values.max()
    far = 1e16 if law in HEAVY else 60.0
    low, high = np.clip(noise.support, -far, far)
    if law == "exponential":
        low = 1e-12
    if law == "uniform":
        low += 1e-9
    grid = np.sinh(np.linspace(np.arcsinh(low), np.arcsinh(high), 4000))

    def log_g(u):
        return noise.log_cdf(u[:, None] - mu) @ counts

    first = max(0, np.searchsorted(log_g(grid), -150.0) - 1)
    breaks = (mu[:, None] + np.asarray(noise.break_points)).ravel()
    edges = np.unique(np.concatenate([grid[first::4], breaks]))
    edges = edges[(edges >= grid[first]) & (edges <= high)]
    x, w = np.polynomial.legendre.leggauss(12)
    half = 0.5 * np.diff(edges)[:, None]
    u, w = (edges[:-1, None] + half * (1.0 + x)).ravel(), (half * w).ravel()
    with np.errstate(divide="ignore"):
        ratio = np.exp(noise.log_pdf(u[:, None] - mu) - noise.log_cdf(u[:, None] - mu))
    return (w * np.exp(log_g(u))) @ ratio


@by_type
@by_law
@pytest.mark.parametrize(("n", "spread"), [(1, 0.0), (2, 6.0), (5, 1.0), (17, 3.0)])
def test_probabilities_are_within_contract(isa, law, n, spread, dtype):
    x = logits(1, n, spread=0.3 if law == "uniform" and spread > 1 else spread)
    expected = reference.noise_argmax_probs(x, NOISES[law])
    assert_probabilities(probs(x.astype(dtype), law, isa=isa), expected)


@by_type
@by_law
@pytest.mark.parametrize("spread", [0.0, 0.03, 1.0, 5.0])
def test_many_classes(law, spread, dtype):
    rng = np.random.default_rng(7)
    spread = min(spread, 0.3) if law == "uniform" else spread
    values = rng.normal(scale=spread, size=100 if spread else 1).astype(np.float32)
    values = np.unique(values).astype(np.float64)
    counts = rng.multinomial(50_000 - len(values), np.ones(len(values)) / len(values)) + 1
    of_class = rng.permutation(np.repeat(np.arange(len(values)), counts))
    expected = of_repeated(values, counts, law) if spread else np.array([1.0 / 50_000])
    actual = probs(values[None, of_class].astype(dtype), law)[0]
    assert_probabilities(actual, expected[of_class])


@by_type
@by_law
@pytest.mark.parametrize("n", [3, 16, 300])
@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_scale_and_shift(law, n, scale, dtype):
    x = logits(2, n, spread=0.3)
    expected = probs(x, law)
    moved = np.ldexp(x, int(math.log2(scale))) + 1024.0  # exact in float64
    if dtype == np.float64:
        np.testing.assert_allclose(probs(moved, law, scale), expected, rtol=2e-9, atol=1e-30)
    np.testing.assert_allclose(probs(x.astype(dtype), law), expected, rtol=2e-5, atol=1e-30)


@by_type
@by_law
@pytest.mark.parametrize("n", [2, 17])
def test_vjp_is_within_contract(isa, law, n, dtype):
    x, g = logits(2, n, spread=0.5), logits(2, n, seed=1)
    actual = vjp(x.astype(dtype), g.astype(dtype), law, 0.5, isa=isa)
    expected = reference.noise_argmax_vjp(x, g, NOISES[law], scale=0.5)
    assert np.max(np.abs(actual - expected)) <= VJP_ERROR[dtype] * np.max(np.abs(g)) / 0.5


@cache
def close_logits(n, spread):
    """Return logits of uniform noise, a cotangent, and what the reference makes of them."""
    x, g = logits(1, n, spread=spread), logits(1, n, seed=1)
    noise = NOISES["uniform"]
    return (
        x,
        g,
        reference.noise_argmax_probs(x, noise),
        reference.noise_argmax_vjp(x, g, noise),
        reference.noise_argmax_expected_max(x, noise),
    )


@by_type
@pytest.mark.parametrize(("n", "spread"), [(200, 1e-3), (250, 0.04)])
def test_close_logits_with_uniform_noise(isa, n, spread, dtype):
    """Each class adds a break point near the upper end, where all of the mass is."""
    x, g, p, product, largest = close_logits(n, spread)
    x = x.astype(dtype)
    assert_probabilities(probs(x, "uniform", isa=isa), p)
    error = (2e-9 if dtype == np.float64 else 2e-6) * np.max(np.abs(g))
    assert np.max(np.abs(vjp(x, g.astype(dtype), "uniform", isa=isa) - product)) <= error
    actual = expected_max(x, "uniform", isa=isa)
    assert np.all(np.abs(actual - largest) <= MAX_ERROR[dtype] * (1.0 + np.abs(largest)))


@by_law
def test_jacobian_is_symmetric_and_positive(law):
    n = 40
    x = np.repeat(logits(1, n, spread=0.5), n, axis=0)
    jacobian = vjp(x, np.eye(n), law)
    np.testing.assert_allclose(jacobian, jacobian.T, rtol=0, atol=2e-9)
    np.testing.assert_allclose(jacobian.sum(axis=1), 0.0, rtol=0, atol=2e-9)
    assert np.linalg.eigvalsh(jacobian).min() >= -2e-9


@by_law
@pytest.mark.parametrize("n", [30, 2000])
def test_vjp_is_the_derivative(law, n):
    x, g, t = (logits(1, n, spread=0.5, seed=seed) for seed in range(3))
    h = 1e-4  # central differences of order four err by h^4
    values = [np.sum(g * probs(x + k * h * t, law)) for k in (-2, -1, 1, 2)]
    slope = (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * h)
    bound = {"uniform": 1e-4, "laplace": 1e-6}.get(law, 1e-7)  # densities that are not smooth
    assert abs(np.sum(t * vjp(x, g, law)) - slope) <= bound


@by_type
@by_law
@pytest.mark.parametrize("n", [1, 2, 40])
def test_expected_max_is_within_contract(isa, law, n, dtype):
    x = logits(2, n)
    actual = expected_max(x.astype(dtype), law, 0.5, isa=isa)
    if law == "cauchy":
        assert np.all(actual == np.inf)
        return
    expected = reference.noise_argmax_expected_max(x, NOISES[law], scale=0.5)
    if n == 1:
        noise_mean = {"exponential": 0.5}.get(law, 0.0)
        expected = x[:, 0] + noise_mean
    assert np.all(np.abs(actual - expected) <= MAX_ERROR[dtype] * (0.5 + np.abs(expected)))


def two_classes(law, d):
    """Log P(0 wins) for the logits (0, d), d >= 0."""
    a = math.exp(-d)
    return {
        "normal": special.log_ndtr(-d / math.sqrt(2.0)),
        "logistic": math.log((d - 1.0 + a) / (1.0 - a) ** 2) - d if d > 0.1 else math.log(0.5),
        "laplace": math.log(0.5 * (1.0 + 0.5 * d)) - d,
        "cauchy": math.log(math.atan2(1.0, 0.5 * d) / math.pi),
        "uniform": 2.0 * math.log1p(-d) - math.log(2.0) if d < 1.0 else -math.inf,
        "exponential": -math.log(2.0) - d,
    }[law]


@by_type
@pytest.mark.parametrize("law", [law for law in NOISES if law != "student"])
@pytest.mark.parametrize("d", [0.0, 0.5, 2.0, 100.0, 199.0])
def test_one_class_of_two(isa, law, d, dtype):
    x = np.array([[0.0, d]], dtype)
    actual, gradients = log_prob(x, [0], law, isa=isa)
    expected = two_classes(law, d)
    if expected == -np.inf:
        assert actual[0] == -np.inf
        assert np.all(gradients == 0.0)
        return
    assert abs(actual[0] - expected) <= LOG_ERROR[dtype] * max(1.0, abs(expected))
    assert gradients[0, 0] == -gradients[0, 1] >= 0.0


@by_type
@pytest.mark.parametrize("law", ["normal", "logistic", "laplace", "exponential"])
@pytest.mark.parametrize("d", [0.0, 3.0, 30.0])
def test_one_class_of_many(law, d, dtype):
    n = 50_000  # all others equal
    x = np.zeros((1, n), dtype)
    x[0, 7] = -d
    actual, gradients = log_prob(x, [7], law)
    two = np.array([-d, 0.0])
    expected = np.log(of_repeated(two, np.array([1, n - 1]), law)[0])
    # The oracle itself is not better than 1e-11.
    assert abs(actual[0] - expected) <= max(LOG_ERROR[dtype], 1e-11) * max(1.0, abs(expected))
    np.testing.assert_allclose(gradients.sum(), 0.0, atol=1e-3 * gradients[0, 7])
    others = np.delete(gradients[0], 7)
    np.testing.assert_allclose(others, -gradients[0, 7] / (n - 1), rtol=1e-5)


@by_law
def test_gradient_of_one_class_is_the_derivative(law):
    x = logits(3, 6, spread=0.4)
    index = np.argmax(x, axis=1)
    index[1] = np.argsort(x[1])[-3]
    _, gradients = log_prob(x, index, law)
    h = 1e-5
    for j in range(6):
        step = h * np.eye(6)[j]
        slope = (log_prob(x + step, index, law)[0] - log_prob(x - step, index, law)[0]) / (2.0 * h)
        atol = 1e-4 if law == "uniform" else 1e-7  # a density with a jump
        np.testing.assert_allclose(gradients[:, j], slope, rtol=0, atol=atol)


@by_type
@by_law
def test_minus_infinity_leaves_a_class_out(law, dtype):
    x = logits(2, 30, spread=0.3).astype(dtype)
    wide = np.full((2, 60), -np.inf, dtype)
    wide[:, ::2] = x
    np.testing.assert_array_equal(probs(wide, law)[:, ::2], probs(x, law))
    assert np.all(probs(wide, law)[:, 1::2] == 0.0)
    g = np.ones_like(wide)
    g[:, 1::2] = np.nan
    assert np.all(np.isfinite(vjp(wide, g, law)[:, ::2]))
    assert np.all(vjp(wide, g, law)[:, 1::2] == 0.0)
    assert np.all(log_prob(wide, [1, 1], law)[0] == -np.inf)


@by_type
@by_law
@pytest.mark.parametrize("n", [1, 7, 3000])
def test_rows_and_threads_do_not_change_a_bit(isa, law, n, dtype):
    n = min(n, 300) if isa is _cpu.Isa.scalar else n
    x = logits(3, n, spread=0.3).astype(dtype)
    together = probs(x, law, isa=isa, threads=1)
    np.testing.assert_array_equal(probs(x, law, isa=isa, threads=3), together)
    alone = np.concatenate([probs(row[None], law, isa=isa) for row in x])
    np.testing.assert_array_equal(alone, together)


@by_type
@pytest.mark.parametrize("n", [1, 3, 16, 33])
def test_reads_and_writes_stay_inside(isa, n, dtype, guarded):
    x = logits(3, n).astype(dtype)
    out, fenced = guarded(np.zeros_like(x)), guarded(x)
    _cpu.noise_argmax_probs(fenced, _cpu.NoiseLaw.normal, 1.0, out, isa=isa)
    np.testing.assert_array_equal(out, probs(x, "normal", isa=isa))
    _cpu.noise_argmax_vjp(fenced, fenced, _cpu.NoiseLaw.normal, 1.0, out, isa=isa)
    np.testing.assert_array_equal(out, vjp(x, x, "normal", isa=isa))


# log P(class 1 wins), by mpmath 1.3 with 25 digits: quad of f(u - mu_1) prod_(j != 1) F(u - mu_j)
# by Gauss-Legendre rules between all mu_j and all mu_j -+ 0.5 * 1.3^k (1.1^k for logistic noise) up
# to 1e8 (1e40 for df = 3); Student's F by hyp2f1 of df / (df + x^2) below 1/2, else by betainc.
FAR_TAILS = [
    (StudentT(3.0), (0.0, -10000.0, -3000.0), -27.5332975329402809),
    (StudentT(30.0), (0.0, -300.0, -90.0), -122.722689978680399),
    (StudentT(30.0), (0.0, -1000.0), -158.149357198639199),
    (StudentT(1000.0), (0.0, -70.0, -21.0), -798.619828011475362),
    (StudentT(1000.0), (0.0, -200.0), -1848.06689136234485),
    (StudentT(10000.0), (0.0, -100.0), -2236.24625941102559),
    (StudentT(10000.0), (0.0, -240.0), -8758.92465394171607),
    (Logistic(), (0.0, -8570.0, -5495.0), -8561.38840613316228),
    (Logistic(), (0.0, -5482.0, -3364.0), -5473.87911397890716),
]


def kernel_of(noise):
    return student_table(noise.df) if isinstance(noise, StudentT) else _cpu.NoiseLaw.logistic


@by_type
@pytest.mark.parametrize(("noise", "x", "expected"), FAR_TAILS, ids=str)
def test_far_tails(isa, noise, x, expected, dtype):
    x, out = np.array([x], dtype), np.empty(1, dtype)
    index = np.ones(1, np.uintp)
    _cpu.noise_argmax_log_prob(x, index, kernel_of(noise), 1.0, out, None, isa=isa)
    assert abs(out[0] - expected) <= LOG_ERROR[dtype] * abs(expected)


@pytest.mark.parametrize(("noise", "x", "expected"), FAR_TAILS, ids=str)
def test_far_tails_of_the_reference(noise, x, expected):
    found = reference.noise_argmax_log_prob(np.array(x), np.array(1), noise)
    assert abs(found - expected) <= 1e-12 * abs(expected)


@pytest.mark.parametrize("df", [0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 30.0, 100.0, 1000.0, 1e4])
def test_student_with_any_gap(df):
    rng = np.random.default_rng(3)
    noise, law = StudentT(df), student_table(df)
    for n in (2, 6, 20):
        for gap in (0.0, 1.0, 20.0, 100.0, 1e3, 1e4):
            x = np.concatenate([[0.0, -gap], -gap * rng.uniform(size=n - 2)])[None]
            expected = reference.noise_argmax_log_prob(x, np.ones(1, int), noise)[0]
            if expected < -1e4:
                continue
            out = np.empty(1)
            _cpu.noise_argmax_log_prob(x, np.ones(1, np.uintp), law, 1.0, out, None)
            assert abs(out[0] - expected) <= 1e-12 * max(1.0, -expected)


@pytest.mark.parametrize("n", [2, 50, 1000])
@pytest.mark.parametrize("df", [0.5, 3.0, 30.0, 1000.0, 1e4])
def test_equal_logits_with_student_noise(df, n):
    """Errors of log F in the table would add up over the classes."""
    out = np.empty(1)
    law = student_table(df)
    _cpu.noise_argmax_log_prob(np.zeros((1, n)), np.zeros(1, np.uintp), law, 1.0, out, None)
    assert abs(out[0] + math.log(n)) <= 1e-12 * math.log(n) + 1e-15


# A law of a user's own: logistic noise of the scale 1 / 1000.
NARROW = SimpleNamespace(
    support=(-math.inf, math.inf),
    break_points=(),
    log_cdf=lambda x: special.log_expit(1e3 * x),
    log_pdf=lambda x: math.log(1e3) + special.log_expit(1e3 * x) + special.log_expit(-1e3 * x),
    ppf=lambda q: special.logit(q) / 1e3,
)


@pytest.mark.parametrize("d", [0.0, 0.003, 0.2, 5.0])
def test_the_reference_with_a_law_of_the_users_own(d):
    found = reference.noise_argmax_log_prob(np.array([0.0, d]), np.array(0), NARROW)
    expected = two_classes("logistic", 1000.0 * d)
    assert abs(found - expected) <= 1e-12 * max(1.0, abs(expected))


@by_type
@pytest.mark.parametrize("d", [0.0, 1.0, 30.0])
def test_student_of_one_degree_is_cauchy(isa, d, dtype):
    x, out = np.array([[0.0, d]], dtype), np.empty(1, dtype)
    _cpu.noise_argmax_log_prob(
        x, np.zeros(1, np.uintp), student_table(1.0), 1.0, out, None, isa=isa
    )
    expected = two_classes("cauchy", d)
    assert abs(out[0] - expected) <= LOG_ERROR[dtype] * max(1.0, abs(expected))


def test_refuses_tables_that_do_not_fit():
    tables = {"log_cdf": np.zeros((3, 9)), "log_ratio": np.zeros((3, 9))}
    with pytest.raises(ValueError, match="tables of 10 columns"):
        _cpu.NoiseLaw(width=1.0, low=-1.0, step=0.5, tail_index=1.0, **tables)


@pytest.mark.parametrize("far", [1e14, 1e16, 1e18, 3.4e38, 1e155, 1e300])
@by_law
def test_classes_out_of_reach_do_not_change_the_others(law, far):
    near = np.array([[0.0, 0.3, -0.2]])
    mask = np.array([[0.0, 0.3, -0.2, -far]])
    log_p = log_prob(mask, np.array([0]), law)
    assert abs(log_p[0] - log_prob(near, np.array([0]), law)[0]) <= 2e-12
    np.testing.assert_allclose(probs(mask, law)[:, :3], probs(near, law), rtol=1e-9, atol=1e-12)
    last = log_prob(mask, np.array([3]), law)
    assert last[0] < -30.0


@pytest.mark.parametrize("far", [1.0, 39.0, 45.0, 1e3, 1e6, 1e9, 1e15])
def test_the_lower_of_two_classes_with_laplace_noise(isa, far):
    """P(difference of two > far) = e^-far (2 + far) / 4."""
    x, out = np.array([[0.0, -far]]), np.empty(1)
    _cpu.noise_argmax_log_prob(
        x, np.ones(1, np.uintp), _cpu.NoiseLaw.laplace, 1.0, out, None, isa=isa
    )
    expected = np.log1p(far / 2) - np.log(2) - far
    assert abs(out[0] - expected) <= 1e-12 * max(1.0, abs(expected))


@pytest.mark.parametrize("x", [(0.0, 0.0, -3e3), (0.0, -3e3, -1.5e3), (0.0, -60.0, -45.0, -3e3)])
def test_laplace_noise_between_logits_far_from_each_other(x):
    for index in range(len(x)):
        found = log_prob(np.array([x]), np.array([index]), "laplace")[0]
        expected = reference.noise_argmax_log_prob(np.array(x), np.array(index), Laplace())
        assert abs(found - expected) <= 2e-12 * max(1.0, abs(expected))


def test_wide_logits():
    x = np.array([[0.0, -1e3, -1e8, -np.inf, -np.finfo(np.float64).max / 2, -1.0]])
    for law in NOISES:
        p = probs(x, law)
        assert np.all(np.isfinite(p))
        assert abs(p.sum() - 1.0) <= 1e-9


def test_refuses_what_does_not_fit():
    x = np.zeros((2, 3))
    normal = _cpu.NoiseLaw.normal
    with pytest.raises(ValueError, match="two dimensions"):
        _cpu.noise_argmax_probs(np.zeros(3), normal, 1.0, np.zeros(3))
    with pytest.raises(ValueError, match="out has 5 elements, not 6"):
        _cpu.noise_argmax_probs(x, normal, 1.0, np.zeros(5))
    with pytest.raises(ValueError, match="index"):
        log_prob(x, [0, 3], "normal")
    with pytest.raises(TypeError):
        _cpu.noise_argmax_probs(x, normal, 1.0, np.zeros((2, 3), np.float32))


def test_the_reference_copes_with_nodes_below_a_support():
    x = np.random.default_rng(36).normal(scale=0.3, size=(2, 17))
    found = reference.noise_argmax_log_prob(x, np.array([0, 16]), Uniform())
    np.testing.assert_allclose(found, log_prob(x, [0, 16], "uniform")[0], rtol=1e-12)
