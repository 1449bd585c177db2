"""logitkit.distributions: the worked numbers, identities and errors of its docstrings."""

import copy
import math
import pickle

import numpy as np
import pytest
from scipy import special, stats

from logitkit import distributions, reference
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
    Softmax,
    StudentT,
    Uniform,
)
from logitkit.random import Philox
from logitkit.reference._noise_argmax_second import _slope

MU = np.array([0.7, -0.3, 0.1, 0.55, -1.2])
WORKED = {  # probabilities of MU, to six digits
    Normal(): (0.391738, 0.093036, 0.174184, 0.324223, 0.016820),
    Logistic(): (0.318005, 0.140007, 0.196739, 0.283068, 0.062181),
    Laplace(): (0.358342, 0.114820, 0.180489, 0.302665, 0.043684),
    Uniform(): (0.616083, 0.0, 0.033333, 0.350583, 0.0),
    Exponential(): (0.380133, 0.107992, 0.169933, 0.300413, 0.041528),
    ReversedExponential(): (0.502396, 0.026206, 0.107719, 0.363104, 0.000576),
}
CLOSED = [Gumbel(), ReversedExponential()]
NOISES = [*WORKED, Gumbel(), Cauchy(), StudentT(3.0)]
of_noise = pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)


class Gaussian:
    """A law of a user's own: the normal one, without its kernels."""

    support = (-np.inf, np.inf)
    break_points = ()

    def log_cdf(self, x):  # noqa: D102
        return special.log_ndtr(x)

    def log_pdf(self, x):  # noqa: D102
        return -0.5 * x**2 - 0.5 * math.log(2.0 * math.pi)

    def ppf(self, q):  # noqa: D102
        return special.ndtri(q)


@pytest.mark.parametrize(("noise", "expected"), WORKED.items(), ids=lambda x: type(x).__name__)
def test_worked_vector(noise, expected):
    np.testing.assert_allclose(ArgmaxNoise(MU, noise).probs, expected, rtol=0, atol=5.1e-7)


@of_noise
@pytest.mark.parametrize("d", [0.0, 0.01, 0.7, 3.0])
def test_two_classes(noise, d):
    a = math.exp(-d)
    logistic = 1.0 / (1.0 - a) - d * a / (1.0 - a) ** 2 if d > 0.1 else None
    expected = {
        Gumbel: 1.0 / (1.0 + a),
        Normal: special.ndtr(d / math.sqrt(2.0)),
        Laplace: 1.0 - 0.5 * a * (1.0 + 0.5 * d),
        Uniform: 1.0 - 0.5 * max(0.0, 1.0 - d) ** 2,
        Exponential: 1.0 - 0.5 * a,
        ReversedExponential: 1.0 - 0.5 * a,
        Logistic: logistic,
        Cauchy: 0.5 + math.atan(0.5 * d) / math.pi,
    }.get(type(noise))
    if expected is None:
        pytest.skip("no closed form")
    p = ArgmaxNoise([d, 0.0], noise).probs
    np.testing.assert_allclose(p, [expected, 1.0 - expected], rtol=1e-9, atol=1e-15)


@of_noise
def test_laws_are_consistent(noise):
    """The density is the derivative of the distribution function, and ppf its inverse."""
    q = np.array([0.01, 0.2, 0.5, 0.7, 0.99])
    x = noise.ppf(q)
    np.testing.assert_allclose(np.exp(noise.log_cdf(x)), q, rtol=1e-9)
    h = 1e-5
    low, high = noise.support
    inside = (x - h > low) & (x + h < high) & ~np.isin(x, noise.break_points)
    slope = (np.exp(noise.log_cdf(x + h)) - np.exp(noise.log_cdf(x - h))) / (2.0 * h)
    np.testing.assert_allclose(slope[inside], np.exp(noise.log_pdf(x[inside])), rtol=1e-6)
    if type(noise) is not ReversedExponential:  # whose second derivatives are in closed form
        change = noise.log_pdf(x + h) - noise.log_pdf(x - h)
        slope = _slope(noise, x[inside])
        np.testing.assert_allclose(slope, change[inside] / (2.0 * h), rtol=1e-6, atol=1e-9)
    outside = np.array([low - 1.0, high + 1.0])
    outside = outside[np.isfinite(outside)]
    assert np.all(noise.log_pdf(outside) == -np.inf)


@pytest.mark.parametrize("x", [-30.0, -1.0, 0.0, 2.0, 30.0])
def test_laws_against_scipy(x):
    pairs = [
        (Normal(), stats.norm),
        (Logistic(), stats.logistic),
        (Laplace(), stats.laplace),
        (Gumbel(), stats.gumbel_r),
        (Exponential(), stats.expon),
        (StudentT(2.5), stats.t(2.5)),
    ]
    for noise, law in pairs:
        np.testing.assert_allclose(noise.log_pdf(x), law.logpdf(x), rtol=1e-12)
        if x > -30.0 or isinstance(noise, (Normal, Laplace, Logistic)):
            # SciPy 1.11 rounds that of Laplace's law as it does 1 - 1e-14
            np.testing.assert_allclose(noise.log_cdf(x), law.logcdf(x), rtol=1e-10, atol=1e-16)


@of_noise
@pytest.mark.parametrize("n", [1, 2, 7])
def test_equals_the_reference(noise, n):
    x = np.random.default_rng(n).normal(scale=0.4, size=(3, n))
    g = np.random.default_rng(-1 + n).normal(size=x.shape)
    d = ArgmaxNoise(x, noise, 0.5)
    p = reference.noise_argmax_probs(x, noise, scale=0.5)
    np.testing.assert_allclose(d.probs, p, rtol=1e-9, atol=1e-15)
    v = reference.noise_argmax_vjp(x, g, noise, scale=0.5)
    np.testing.assert_allclose(d.vjp(g), v, rtol=0, atol=1e-8)
    if not isinstance(noise, Cauchy):
        expected = reference.noise_argmax_expected_max(x, noise, scale=0.5)
        np.testing.assert_allclose(d.expected_max(), expected, rtol=2e-9, atol=2e-9)


@of_noise
def test_methods_agree(noise):
    d = ArgmaxNoise(np.stack([MU, 0.5 * MU]), noise)
    p = d.probs
    log_p = np.stack([d.log_prob(np.full(2, i)) for i in range(5)], axis=-1)
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, rtol=1e-9)
    finite = np.where(p > 0.0, log_p, 0.0)
    np.testing.assert_allclose(d.entropy(), -np.sum(p * finite, axis=-1), rtol=1e-8)
    np.testing.assert_allclose(d.kl_divergence(d), 0.0, atol=1e-12)
    other = ArgmaxNoise(np.zeros(5), noise)
    np.testing.assert_allclose(
        d.kl_divergence(other), d.cross_entropy(other) - d.entropy(), rtol=1e-9
    )
    np.testing.assert_array_equal(d.mode, [0, 0])
    order = np.argsort(MU)
    assert np.all(np.diff(p[0, order]) >= -1e-15)  # larger logits have larger probabilities


@of_noise
def test_score_is_the_derivative(noise):
    x = np.array([0.3, -0.2, 0.1])
    score = ArgmaxNoise(x, noise, 0.8).score([0, 1])
    h = 1e-5
    for j in range(3):
        step = h * np.eye(3)[j]
        up, down = (ArgmaxNoise(x + s, noise, 0.8).log_prob([0, 1]) for s in (step, -step))
        np.testing.assert_allclose(score[:, j], (up - down) / (2.0 * h), rtol=0, atol=1e-4)


@of_noise
def test_probabilities_are_the_gradient_of_the_expected_max(noise):
    if isinstance(noise, Cauchy):
        pytest.skip("infinite")
    h = 1e-4
    for j in range(5):
        step = h * np.eye(5)[j]
        up, down = (ArgmaxNoise(MU + s, noise).expected_max() for s in (step, -step))
        assert abs((up - down) / (2.0 * h) - ArgmaxNoise(MU, noise).probs[j]) <= 1e-4


def test_softmax_and_probit():
    np.testing.assert_allclose(Softmax(MU).probs, special.softmax(MU), rtol=1e-12)
    np.testing.assert_allclose(Softmax(MU, 0.1).probs, special.softmax(10.0 * MU), rtol=1e-12)
    expected = special.logsumexp(MU) + np.euler_gamma
    np.testing.assert_allclose(Softmax(MU).expected_max(), expected, rtol=1e-12)
    np.testing.assert_array_equal(Probit(MU).probs, ArgmaxNoise(MU, Normal()).probs)


def test_own_noise_is_integrated():
    own, ours = ArgmaxNoise(MU, Gaussian()), ArgmaxNoise(MU, Normal())
    np.testing.assert_allclose(own.probs, ours.probs, rtol=1e-9)
    np.testing.assert_allclose(own.score(4), ours.score(4), rtol=0, atol=1e-9)
    np.testing.assert_allclose(own.log_prob(4), ours.log_prob(4), rtol=1e-11)


@pytest.mark.parametrize("df", [0.5, 2.0, 30.0])
def test_student_is_between_cauchy_and_normal(df):
    p = ArgmaxNoise([0.0, 1.0], StudentT(df)).probs
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-9)
    cauchy, normal = (ArgmaxNoise([0.0, 1.0], law).probs[1] for law in (StudentT(1.0), Normal()))
    np.testing.assert_allclose(cauchy, 0.5 + math.atan(0.5) / math.pi, rtol=1e-9)
    assert (p[1] < cauchy) == (df < 1.0)
    assert p[1] < normal


def test_student_far_in_the_tail():
    # log F(-x) -> a log(df / x^2) - log(2 a B(a, 1/2)), a = df / 2
    for df in (0.5, 3.0, 30.0):
        a, x = 0.5 * df, 1e100
        expected = a * math.log(df) - df * math.log(x) - math.log(2.0 * a) - special.betaln(a, 0.5)
        np.testing.assert_allclose(StudentT(df).log_cdf(-x), expected, rtol=1e-13)


def test_reversed_exponential_score_far_in_the_tail():
    # log p_3 = 2 mu_3 - mu_1 - mu_2 - log 3
    d = ArgmaxNoise([0.0, -0.5, -1000.0], ReversedExponential())
    np.testing.assert_allclose(d.log_prob(2), -1999.5 - math.log(3.0), rtol=1e-15)
    np.testing.assert_allclose(d.score(2), [-1.0, -1.0, 2.0], rtol=2000.0 * 2.0**-52)  # of log p


@pytest.mark.parametrize(
    ("nodes", "error"), [(8, 3.3e-2), (16, 2.0e-2), (32, 1.1e-2), (64, 5.8e-3)]
)
def test_quantile_rule_has_the_error_of_the_article(nodes, error):
    rule = ArgmaxNoise(MU, rule="quantile", nodes=nodes)
    exact = ArgmaxNoise(MU)
    np.testing.assert_allclose(np.abs(rule.probs - exact.probs).max(), error, rtol=0.03)
    if nodes == 32:
        np.testing.assert_allclose(rule.probs.sum(), 0.964, atol=5e-4)
    g, t, h = np.arange(5.0), MU[::-1], 1e-6
    up, down = (ArgmaxNoise(MU + s * t, rule="quantile", nodes=nodes).probs for s in (h, -h))
    np.testing.assert_allclose(t @ rule.vjp(g), g @ (up - down) / (2.0 * h), rtol=1e-6)


@of_noise
@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_top_k_inclusion(noise, k):
    d = ArgmaxNoise(MU, noise)
    inclusion = d.top_k_inclusion(k)
    assert abs(inclusion.sum() - k) <= 1e-9
    if k == 1:
        np.testing.assert_allclose(inclusion, d.probs, rtol=0, atol=1e-9)
    draws = d.sample_k(k, 40_000, rng=3)
    frequency = np.bincount(draws.ravel(), minlength=5) / 40_000
    assert np.max(np.abs(frequency - inclusion)) <= 5.0 * 0.5 / 200.0  # standard deviations


@pytest.mark.parametrize("noise", [Normal(), Gumbel(), Laplace(), StudentT(3.0)], ids=str)
def test_top_k_inclusion_loses_nothing_at_the_ends(noise):
    x = np.random.default_rng(1).normal(size=(50, 6))
    np.testing.assert_allclose(ArgmaxNoise(x, noise).top_k_inclusion(2).sum(-1), 2.0, rtol=1e-12)


def chi_square(counts, p):
    """Return the statistic and what it exceeds once in a million."""
    possible = p > 0.0
    assert not counts[~possible].any()
    expected = counts.sum() * p[possible]
    statistic = np.sum((counts[possible] - expected) ** 2 / expected)
    return statistic, stats.chi2.ppf(1.0 - 1e-6, np.count_nonzero(possible) - 1)


@of_noise
def test_draws_follow_the_probabilities(noise):
    d, count = ArgmaxNoise(MU, noise), 1_000_000
    drawn = np.bincount(d.sample(count, rng=11), minlength=5)
    statistic, limit = chi_square(drawn, d.probs)
    assert statistic <= limit


def test_draws_without_replacement_follow_plackett_and_luce():
    d, count = Softmax(MU), 1_000_000
    first, second = d.sample_k(2, count, rng=12).T
    drawn = np.bincount(5 * first + second, minlength=25)
    p = special.softmax(MU)
    pairs = np.outer(p / (1.0 - p), p)
    np.fill_diagonal(pairs, 0.0)
    statistic, limit = chi_square(drawn, pairs.ravel())
    assert statistic <= limit


def test_draws_do_not_depend_on_the_batch():
    x = np.random.default_rng(0).normal(size=(4, 300))
    d = ArgmaxNoise(x, Laplace())
    draws = d.sample(3, rng=Philox(5, step=2))
    assert draws.shape == (3, 4)
    np.testing.assert_array_equal(draws[:1], d.sample(1, rng=Philox(5, step=2)))
    np.testing.assert_array_equal(
        draws[0, :2], ArgmaxNoise(x[:2], Laplace()).sample(rng=Philox(5, step=2))
    )
    np.testing.assert_array_equal(d.sample_k(2, 3, rng=Philox(5, step=2))[..., 0], draws)
    relaxed = d.rsample(3, rng=Philox(5, step=2), temperature=0.5)
    np.testing.assert_array_equal(np.argmax(relaxed, axis=-1), draws)
    np.testing.assert_allclose(relaxed.sum(axis=-1), 1.0, rtol=1e-12)
    hard = d.rsample(3, rng=Philox(5, step=2), straight_through=True)
    np.testing.assert_array_equal(hard, np.eye(300)[draws])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_types_and_shapes(dtype):
    x = np.array([[1, 0, 2], [0, 0, 0]], dtype)
    d = ArgmaxNoise(x)
    kind = np.float64 if dtype == np.int32 else dtype
    assert d.batch_shape == (2,)
    assert d.num_classes == 3
    for result, shape in [
        (d.probs, (2, 3)),
        (d.log_prob([0, 1]), (2,)),
        (d.log_prob(np.zeros((4, 1), int)), (4, 2)),
        (d.score(1), (2, 3)),
        (d.vjp(np.ones(3)), (2, 3)),
        (d.expected_max(), (2,)),
        (d.entropy(), (2,)),
        (d.kl_divergence(d), (2,)),
        (d.top_k_inclusion(2), (2, 3)),
        (d.rsample((4, 1), rng=0), (4, 1, 2, 3)),
    ]:
        assert result.dtype == kind
        assert result.shape == shape
    assert d.sample((4, 1), rng=0).shape == (4, 1, 2)
    assert isinstance(ArgmaxNoise(x[0]).log_prob(1), np.generic)
    transposed = ArgmaxNoise(np.asfortranarray(x))
    np.testing.assert_array_equal(transposed.probs, d.probs)
    assert ArgmaxNoise(np.zeros((0, 3), dtype)).probs.shape == (0, 3)


def test_masked_classes():
    d = ArgmaxNoise([0.0, -np.inf, 0.5])
    assert d.probs[1] == 0.0
    assert d.log_prob(1) == -np.inf
    np.testing.assert_allclose(d.probs[[0, 2]], ArgmaxNoise([0.0, 0.5]).probs, rtol=1e-12)
    assert ArgmaxNoise([0.0, 0.1, 0.2]).kl_divergence(d) == np.inf
    assert np.isfinite(d.kl_divergence(ArgmaxNoise([0.0, 0.1, 0.2])))
    np.testing.assert_array_equal(d.top_k_inclusion(2), [1.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ArgmaxNoise([[0.0, np.nan]]), ValueError, r"not nan at \(0, 1\)"),
        (lambda: ArgmaxNoise([0.0, np.inf]), ValueError, r"not inf at \(1,\)"),
        (lambda: ArgmaxNoise([[0.0], [-np.inf]]), ValueError, r"row \(1,\) is -inf"),
        (lambda: ArgmaxNoise(np.zeros((2, 0))), ValueError, "at least one class"),
        (lambda: ArgmaxNoise(["a"]), TypeError, "logits of real numbers"),
        (lambda: ArgmaxNoise([0.0], scale=0.0), ValueError, "0 < scale < inf, not 0.0"),
        (lambda: ArgmaxNoise([0.0], scale=np.nan), ValueError, "0 < scale < inf, not nan"),
        (
            lambda: ArgmaxNoise([0.0], scale=[1.0, 2.0]),
            TypeError,
            r"one number .* not \[1.0, 2.0\]",
        ),
        (lambda: ArgmaxNoise([0.0], "normal"), TypeError, "not 'normal', which has no support"),
        (lambda: ArgmaxNoise([0.0], Laplace), TypeError, "not the class .*Laplace"),
        (lambda: CorrelatedArgmaxNoise(MU, np.ones((5, 1)), Normal), TypeError, "not the class"),
        (lambda: ArgmaxNoise([MU, MU]).log_prob([0, 1, 2]), ValueError, r"\(2,\), not .* \(3,\)"),
        (lambda: ArgmaxNoise([0.0], rule="gauss"), ValueError, "'gauss'"),
        (lambda: ArgmaxNoise([0.0], nodes=0), ValueError, "one node"),
        (lambda: ArgmaxNoise(MU).log_prob([0, 5]), ValueError, r"0 to 4, not 5 at \(1,\)"),
        (lambda: ArgmaxNoise(MU).log_prob(-1), ValueError, "not -1"),
        (lambda: ArgmaxNoise(MU).log_prob(0.0), TypeError, "integers, not float64"),
        (
            lambda: ArgmaxNoise(MU).vjp(np.ones(3)),
            ValueError,
            r"cotangent that broadcasts to \(5,\), .* \(3,\)",
        ),
        (
            lambda: CorrelatedArgmaxNoise(MU, np.ones((5, 1))).vjp(np.ones((2, 5))),
            ValueError,
            r"cotangent that broadcasts to \(5,\), .* \(2, 5\)",
        ),
        (lambda: ArgmaxNoise(MU).top_k_inclusion(6), ValueError, "k <= 5 classes, not k = 6"),
        (lambda: ArgmaxNoise(MU).sample_k(0, rng=0), ValueError, "not k = 0"),
        (lambda: ArgmaxNoise(MU).sample(-1, rng=0), ValueError, "not negative"),
        (lambda: ArgmaxNoise(MU).sample(rng=None), TypeError, "rng"),
        (lambda: ArgmaxNoise(MU).rsample(rng=0, temperature=0.0), ValueError, "temperature"),
        (lambda: ArgmaxNoise(MU).kl_divergence(Probit([0.0])), ValueError, "5 classes, not 1"),
        (lambda: StudentT(0.0), ValueError, "df < inf, not 0.0"),
    ],
)
def test_errors_name_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_probabilities_of_bounded_noise_may_be_equal_for_unequal_logits():
    p = ArgmaxNoise([0.0, -1.5, -1.2], Uniform()).probs  # the article's third condition fails
    assert p[1] == p[2] == 0.0
    assert abs(p[0] - 1.0) <= 1e-9


def test_copies_and_pickles():
    d = ArgmaxNoise(MU, Laplace(), 0.5)
    for other in (copy.copy(d), pickle.loads(pickle.dumps(d))):
        np.testing.assert_array_equal(other.probs, d.probs)


def test_every_law_is_exported():
    for noise in NOISES:
        assert type(noise).__name__ in distributions.__all__


def test_logits_without_a_batch():
    d, batch = ArgmaxNoise(MU, Laplace()), ArgmaxNoise([MU], Laplace())
    assert isinstance(d.sample(rng=1), np.integer)
    assert d.sample(rng=1) == batch.sample(rng=1)[0]
    assert d.sample_k(2, rng=1).shape == (2,)
    assert d.rsample(rng=1).shape == d.probs.shape == (5,)
    for name in ("entropy", "expected_max"):
        np.testing.assert_array_equal(getattr(d, name)(), getattr(batch, name)()[0])
    np.testing.assert_array_equal(d.log_prob(2), batch.log_prob([2])[0])
    np.testing.assert_array_equal(d.mode, batch.mode[0])
    np.testing.assert_array_equal(d.top_k_inclusion(2), batch.top_k_inclusion(2)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_divergence_from_a_class_that_is_almost_impossible(dtype):
    """The probabilities of all classes end at 1e-299, those of one class do not."""
    p, q = ArgmaxNoise(np.array([0.0, 0.1], dtype)), ArgmaxNoise(np.array([[0.0, 60.0]], dtype))
    # log(1 - Phi(x)) by its continued fraction at x = 60 / sqrt(2).
    x = 60.0 / math.sqrt(2.0)
    tail = -0.5 * x * x - 0.5 * math.log(2.0 * math.pi) - math.log(x + 1.0 / (x + 2.0 / x))
    cross = -p.probs[0] * tail
    assert p.cross_entropy(q) == pytest.approx([cross], rel=1e-6 if dtype is np.float32 else 1e-9)
    assert p.kl_divergence(q) == pytest.approx(p.cross_entropy(q) - p.entropy(), rel=1e-6)
    never = ArgmaxNoise(np.array([-np.inf, 0.0], dtype))
    assert p.kl_divergence(never) == np.inf
    assert never.kl_divergence(p) > 0.0


def test_relaxed_draws_at_any_temperature():
    for dtype in (np.float16, np.float32, np.float64):
        p = ArgmaxNoise(np.array([[0.0, 1.0, -np.inf]], dtype))
        drawn = p.sample(100, rng=3)
        for temperature in (1e-320, 1e-300, 1e-40):
            y = p.rsample(100, rng=3, temperature=temperature)
            np.testing.assert_array_equal(y, drawn[..., None] == np.arange(3))
        for temperature in (1e300, 1.7e308):
            np.testing.assert_allclose(p.rsample(rng=0, temperature=temperature)[0, :2], 0.5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: ArgmaxNoise(p.logits, scale="1"), TypeError, "scale as one number, not '1'"),
        (lambda p: ArgmaxNoise(p.logits, nodes=1.5), TypeError, "nodes as an integer"),
        (lambda p: p.sample(2.5, rng=0), TypeError, "sample_shape as an integer or a tuple"),
        (lambda p: p.sample_k(1.5, rng=0), TypeError, "k as an integer"),
        (lambda p: p.top_k_inclusion(1.5), TypeError, "k as an integer"),
        (lambda p: p.rsample(rng=0, temperature="1"), TypeError, "temperature as one number"),
        (lambda p: p.kl_divergence(3), TypeError, "an ArgmaxNoise, not int"),
        (
            lambda p: p.cross_entropy(ArgmaxNoise(np.zeros((5, 3)))),
            ValueError,
            r"broadcasts against \(2,\), not \(5,\)",
        ),
        (lambda p: p.log_prob([0, 1, 2]), ValueError, r"against the batch \(2,\), .* \(3,\)"),
        (lambda p: StudentT("3"), TypeError, "df as one number, not '3'"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(ArgmaxNoise(np.zeros((2, 3))))
