"""logitkit.distributions.CorrelatedArgmaxNoise: closed forms, laws, and what is off by how much."""

import copy
import doctest
import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from logitkit import reference
from logitkit.distributions import (
    ArgmaxNoise,
    Cauchy,
    CorrelatedArgmaxNoise,
    Gumbel,
    Laplace,
    Logistic,
    Normal,
    Uniform,
)
from logitkit.random import Philox

MU = np.array([0.7, -0.3, 0.1, 0.55, -1.2])
B = np.array([[1.0, 0.2], [0.8, -0.5], [0.0, 0.3], [-0.4, 0.6], [0.1, -0.9]])
SCALES = np.array([0.7, 1.3, 1.0, 0.9, 1.6])
ERROR = 3e-9  # of a grid that agrees with the one before


def two(mu, b, scale=1.0):
    """Return log P of the first of two classes: their difference is normal."""
    sigma = np.broadcast_to(scale, 2)
    deviation = np.sqrt((sigma**2).sum() + ((b[0] - b[1]) ** 2).sum())
    return special.log_ndtr((mu[0] - mu[1]) / deviation)


def test_worked_numbers():
    """Classes 1 and 2 are one bus in two colours: P(3) = P(max(e1, e2) + 2 z < e3)."""
    p = CorrelatedArgmaxNoise([0.0, 0.0, 0.0], [[2.0], [2.0], [0.0]]).probs
    # Orthant of two normals with covariance [[6, 5], [5, 6]]: 1/4 + asin(5/6) / (2 pi).
    third = 0.25 + math.asin(5.0 / 6.0) / (2.0 * math.pi)
    np.testing.assert_allclose(p, [(1.0 - third) / 2.0] * 2 + [third], rtol=0, atol=ERROR)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("size", [0.05, 0.5, 2.0, 8.0])
@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_two_classes_are_normal_and_the_error_is_what_it_says(rank, size, scale):
    b = size * np.random.default_rng(rank).normal(size=(2, rank))
    mu = np.array([0.3, -0.4])
    d = CorrelatedArgmaxNoise(mu, b, scale=scale)
    p, error = d.probs_with_error()
    assert abs(p[0] - np.exp(two(mu, b, scale))) <= error
    assert abs(p.sum() - 1.0) <= ERROR
    if rank < 3:
        assert abs(d.log_prob(0) - two(mu, b, scale)) <= 1e-6


@pytest.mark.parametrize("lead", [-3.0, -30.0, -300.0])
@pytest.mark.parametrize("scale", [0.5, (0.5, 1.5)])
def test_log_prob_far_into_the_tail(lead, scale):
    b, mu = np.array([[1.0, 0.5], [-0.5, 0.2]]), np.array([lead, 0.0])
    d = CorrelatedArgmaxNoise(mu, b, scale=scale)
    expected = two(mu, b, scale)
    assert abs(d.log_prob(0) - expected) <= 1e-9 * max(1.0, abs(expected))
    h = 1e-3 * abs(lead)
    up, down = (two(mu + s * np.array([1.0, 0.0]), b, scale) for s in (h, -h))
    np.testing.assert_allclose(d.score(0)[0], (up - down) / (2.0 * h), rtol=1e-6)
    np.testing.assert_allclose(d.score(0).sum(), 0.0, atol=1e-9 * abs(d.score(0)[0]))


@pytest.mark.parametrize("noise", [Normal(), Logistic(), Laplace(), Gumbel(), Cauchy()], ids=str)
def test_without_a_factor_it_is_independent(noise):
    d, independent = CorrelatedArgmaxNoise(MU, 0.0 * B, noise, 0.8), ArgmaxNoise(MU, noise, 0.8)
    np.testing.assert_allclose(d.probs, independent.probs, rtol=0, atol=ERROR)
    np.testing.assert_allclose(d.log_prob(4), independent.log_prob(4), rtol=1e-8)
    np.testing.assert_allclose(d.score(4), independent.score(4), rtol=0, atol=1e-8)
    g = np.arange(5.0)
    gradients = d.vjp(g)
    np.testing.assert_allclose(gradients.logits, independent.vjp(g), rtol=0, atol=1e-8)
    np.testing.assert_allclose(gradients.factor, 0.0, atol=1e-8)  # even in B
    if not isinstance(noise, Cauchy):
        np.testing.assert_allclose(d.expected_max(), independent.expected_max(), atol=1e-8)


@pytest.mark.parametrize(
    ("noise", "scale"),
    [(Normal(), 1.0), (Gumbel(), 0.8), (Logistic(), 0.5), (Normal(), SCALES)],
    ids=["normal", "gumbel", "logistic", "scales"],
)
def test_equals_the_reference(noise, scale):
    # 20 Gauss-Hermite nodes are exact to 1e-7 at these sizes; in one dimension 48 to 1e-9.
    for b, nodes, error in ((B[:, :1], 48, 1e-8), (B, 20, 2e-6)):
        expected = reference.correlated_argmax_probs(MU, b, noise, scale=scale, nodes=nodes)
        d = CorrelatedArgmaxNoise(MU, b, noise, scale)
        np.testing.assert_allclose(d.probs, expected, rtol=0, atol=error)


def test_mixed_logit_is_a_mean_of_softmaxes():
    z, w = np.polynomial.hermite_e.hermegauss(80)
    expected = (w / w.sum()) @ special.softmax(MU + z[:, None] * B[:, 0], axis=-1)
    d = CorrelatedArgmaxNoise(MU, B[:, :1], Gumbel())
    np.testing.assert_allclose(d.probs, expected, rtol=0, atol=ERROR)


@pytest.mark.parametrize("scale", [0.6, np.array([0.6, 1.0, 0.3])])
def test_three_classes_by_draws(scale):
    mu, b, count = MU[:3], 1.5 * B[:3], 400_000
    p = CorrelatedArgmaxNoise(mu, b, scale=scale).probs
    rng = np.random.default_rng(0)
    own = scale * rng.normal(size=(count, 3))
    drawn = np.argmax(mu + rng.normal(size=(count, 2)) @ b.T + own, axis=-1)
    expected = count * p
    chi_square = np.sum((np.bincount(drawn, minlength=3) - expected) ** 2 / expected)
    assert chi_square <= stats.chi2.ppf(1.0 - 1e-6, 2)


@pytest.mark.parametrize("rng", [None, 5])
def test_laws(rng):
    d = CorrelatedArgmaxNoise(MU, B, rng=rng)
    np.testing.assert_allclose(d.probs.sum(), 1.0, rtol=0, atol=ERROR)
    # What all classes share decides nothing.
    moved = CorrelatedArgmaxNoise(MU + 3.0, B + np.array([0.7, -2.0]), rng=rng)
    np.testing.assert_allclose(moved.probs, d.probs, rtol=0, atol=ERROR)
    scaled = CorrelatedArgmaxNoise(3.0 * MU, 3.0 * B, scale=3.0, rng=rng)
    np.testing.assert_allclose(scaled.probs, d.probs, rtol=0, atol=ERROR)
    order = np.array([3, 0, 4, 1, 2])
    permuted = CorrelatedArgmaxNoise(MU[order], B[order], rng=rng)
    np.testing.assert_allclose(permuted.probs, d.probs[order], rtol=0, atol=ERROR)
    logs = d.log_prob(np.arange(5))
    np.testing.assert_allclose(np.exp(logs), d.probs, atol=ERROR if rng is None else 2e-3)


def test_mode_and_entropy():
    # The largest logit shares what it has with its double; the third is alone.
    d = CorrelatedArgmaxNoise([0.1, 0.1, 0.0], [[3.0], [3.0], [0.0]], scale=0.5)
    assert d.mode == 2
    p = d.probs
    assert d.entropy() == pytest.approx(-(p * np.log(p)).sum(), rel=1e-14)
    alone = CorrelatedArgmaxNoise([[0.0, -np.inf]] * 2, np.ones((2, 1)))
    np.testing.assert_allclose(alone.entropy(), 0.0, atol=ERROR)


def test_the_covariance_alone_decides():
    """B B^T is the same for B Q, and D may be given by class."""
    q = np.array([[0.6, 0.8], [-0.8, 0.6]])
    p = CorrelatedArgmaxNoise(MU, B).probs
    np.testing.assert_allclose(CorrelatedArgmaxNoise(MU, B @ q).probs, p, rtol=0, atol=ERROR)
    equal = CorrelatedArgmaxNoise(MU, B, scale=np.ones(5))
    np.testing.assert_allclose(equal.probs, p, rtol=0, atol=ERROR)
    assert equal.expected_max() == pytest.approx(CorrelatedArgmaxNoise(MU, B).expected_max())
    # A factor of one class alone is noise of that class.
    alone = np.zeros((5, 1))
    alone[2] = 0.75
    scales = np.array([1.0, 1.0, 1.25, 1.0, 1.0])
    found = CorrelatedArgmaxNoise(MU, alone).probs
    none = CorrelatedArgmaxNoise(MU, 0.0 * alone, scale=scales)
    np.testing.assert_allclose(none.probs, found, rtol=0, atol=ERROR)


@pytest.mark.parametrize("scale", [0.7, SCALES], ids=["one", "each"])
def test_gradients(scale):
    g, h = np.array([0.5, -1.0, 2.0, 0.3, 0.0]), 1e-4
    d = CorrelatedArgmaxNoise(MU, B, scale=scale)
    gradients = d.vjp(g)
    assert gradients.logits.sum() == pytest.approx(0.0, abs=1e-8)

    def difference(mu=0.0, b=0.0, s=0.0):
        ends = [
            g @ CorrelatedArgmaxNoise(MU + e * mu, B + e * b, scale=scale + e * s).probs
            for e in (h, -h)
        ]
        return (ends[0] - ends[1]) / (2.0 * h)

    # The difference quotient errs by h^2 and 2 ERROR |g| / h.
    mu, b = np.cos(np.arange(5.0)), np.sin(np.arange(10.0)).reshape(5, 2)
    assert difference(mu=mu) == pytest.approx(mu @ gradients.logits, abs=1e-4)
    assert difference(b=b) == pytest.approx((b * gradients.factor).sum(), abs=1e-4)
    s = 1.0 if np.ndim(scale) == 0 else mu
    assert difference(s=s) == pytest.approx(np.sum(s * gradients.scale), abs=1e-4)


def test_probabilities_are_the_gradient_of_the_expected_max():
    d, h = CorrelatedArgmaxNoise(MU, B), 1e-3
    for i in range(5):
        up, down = (CorrelatedArgmaxNoise(MU + s * np.eye(5)[i], B).expected_max() for s in (h, -h))
        assert (up - down) / (2.0 * h) == pytest.approx(d.probs[i], abs=1e-5)


@pytest.mark.parametrize("rank", [1, 4, 10])
def test_lattices_converge_and_know_their_error(rank):
    b, mu = np.random.default_rng(rank).normal(size=(2, rank)), np.array([0.3, -0.4])
    expected, points = np.exp(two(mu, b, 0.7)), 2**12
    found = [
        CorrelatedArgmaxNoise(mu, b, scale=0.7, points=points, rng=seed).probs_with_error()
        for seed in range(16)
    ]
    rms = np.sqrt(np.mean([(p[0] - expected) ** 2 for p, _ in found]))
    said = np.sqrt(np.mean([error**2 for _, error in found]))
    assert 0.4 <= rms / said <= 2.5  # of 16 with 7 degrees of freedom each
    # With independent z it would be the standard deviation over the root of their number.
    z = np.random.default_rng(0).normal(size=10_000) * np.sqrt(((b[0] - b[1]) ** 2).sum())
    independent = np.std(special.ndtr((0.7 + z) / (0.7 * np.sqrt(2.0)))) / np.sqrt(points)
    assert rms <= 0.5 * independent


def test_lattices_in_the_tail():
    b, mu = np.random.default_rng(0).normal(size=(2, 6)), np.array([-30.0, 0.0])
    log_p = CorrelatedArgmaxNoise(mu, b, rng=1).log_prob(0)
    assert abs(log_p - two(mu, b)) <= 0.02


def test_batches_rows_and_seeds():
    rng = np.random.default_rng(1)
    x, b = rng.normal(size=(2, 1, 4)), rng.normal(size=(2, 1, 4, 1))
    for seed in (None, 3):
        d = CorrelatedArgmaxNoise(x, b, scale=0.8, rng=seed)
        assert d.batch_shape == (2, 1)
        assert (d.num_classes, d.rank) == (4, 1)
        p, error = d.probs_with_error()
        assert p.shape == x.shape
        assert error.shape == (2, 1)
        one = CorrelatedArgmaxNoise(x[1, 0], b[1, 0], scale=0.8, rng=seed)
        np.testing.assert_array_equal(p[1, 0], one.probs)
        np.testing.assert_array_equal(d.log_prob(3)[1, 0], one.log_prob(3))
        np.testing.assert_array_equal(d.vjp(x).factor[1, 0], one.vjp(x[1, 0]).factor)
    shared = CorrelatedArgmaxNoise(x, b[0, 0]).vjp(x)
    assert shared.factor.shape == (4, 1)
    each = CorrelatedArgmaxNoise(x, np.broadcast_to(b[0, 0], b.shape)).vjp(x)
    np.testing.assert_allclose(shared.factor, each.factor.sum((0, 1)), rtol=1e-12, atol=1e-15)
    again = CorrelatedArgmaxNoise(x, b, scale=0.8, rng=Philox(3))
    np.testing.assert_array_equal(again.probs, d.probs)
    np.testing.assert_array_equal(copy.copy(d).probs, d.probs)


@pytest.mark.parametrize("rng", [None, 5], ids=["grid", "lattice"])
@pytest.mark.parametrize(
    ("noise", "scale"),
    [
        (Normal(), 0.8),
        (Gumbel(), 0.4),
        (Laplace(), 1.0),
        (Normal(), np.array([0.3, 1.0, 2.0, 0.7])),
    ],
    ids=["normal", "Gumbel", "Laplace", "scales"],
)
def test_rows_do_not_influence_each_other(noise, scale, rng):
    """Rows that need coarse and fine grids, and classes that cannot win, to the bit."""
    random = np.random.default_rng(2)
    x, b = random.normal(size=(6, 4)), random.normal(size=(6, 4, 1))
    b *= np.array([0.01, 0.3, 1.0, 3.0, 8.0, 0.0])[:, None, None]
    x[2, 1] = -np.inf
    x[4] *= 30.0
    g, y = random.normal(size=x.shape), np.array([0, 1, 1, 2, 3, 0])

    def results(rows):
        d = CorrelatedArgmaxNoise(x[rows], b[rows], noise, scale, points=256, rng=rng)
        mean = d.vjp(g[rows])
        found = (*d.probs_with_error(), d.log_prob(y[rows]), d.score(y[rows]), d.expected_max())
        return *found, mean.logits, mean.factor

    together = results(np.arange(6))
    for row in range(6):
        for whole, alone in zip(together, results(np.array([row])), strict=True):
            np.testing.assert_array_equal(whole[row], alone[0])
    for whole in results(np.arange(0)):
        assert whole.shape[0] == 0


def test_masked_classes():
    d = CorrelatedArgmaxNoise([0.0, -np.inf, 0.5], B[:3])
    np.testing.assert_allclose(
        d.probs[[0, 2]], CorrelatedArgmaxNoise([0.0, 0.5], B[[0, 2]]).probs, atol=1e-12
    )
    assert d.probs[1] == 0.0
    assert d.log_prob(1) == -np.inf
    assert not d.score(1).any()
    assert not d.vjp([1.0, 2.0, 3.0]).factor[1].any()
    each = CorrelatedArgmaxNoise([0.0, -np.inf, 0.5], B[:3], scale=np.ones(3))
    np.testing.assert_allclose(each.probs, d.probs, rtol=0, atol=ERROR)
    assert each.expected_max() == pytest.approx(d.expected_max())


def test_noise_with_bounds():
    """Its probabilities are not analytic, but errors are still what they say they are."""
    mu, b = [0.2, 0.0], np.array([[0.4], [0.0]])
    p, error = CorrelatedArgmaxNoise(mu, b, Uniform()).probs_with_error()
    z = np.linspace(-8.0, 8.0, 200_001)
    lead = 0.2 + 0.4 * z
    first = np.where(lead > 0, 1 - 0.5 * np.maximum(0, 1 - lead) ** 2, 0.5 * np.maximum(0, 1 + lead) ** 2)  # fmt: skip
    assert abs(p[0] - integrate.trapezoid(first * stats.norm.pdf(z), z)) <= error <= 1e-4


def test_draws_follow_the_probabilities():
    d, count = CorrelatedArgmaxNoise(MU, 2.0 * B, scale=0.5), 200_000
    draws = d.sample(count, rng=3)
    expected = count * d.probs
    chi_square = np.sum((np.bincount(draws, minlength=5) - expected) ** 2 / expected)
    assert chi_square <= stats.chi2.ppf(1.0 - 1e-6, 4)
    np.testing.assert_array_equal(d.sample(100, rng=3), draws[:100])
    assert CorrelatedArgmaxNoise(np.zeros((2, 5)), B).sample((3, 1), rng=0).shape == (3, 1, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_types(dtype):
    d = CorrelatedArgmaxNoise(np.array([0, 1, 2], dtype), B[:3, :1])
    kind = np.float64 if dtype == np.int64 else dtype
    for result in (d.probs, d.log_prob(0), d.score(0), d.expected_max(), d.vjp(1.0).scale):
        assert result.dtype == kind


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CorrelatedArgmaxNoise(MU, B[:4]), ValueError, r"shape \(..., 5, r\).*not \(4, 2"),
        (lambda: CorrelatedArgmaxNoise(MU, B[:, 0]), ValueError, r"not \(5,\)"),
        (lambda: CorrelatedArgmaxNoise(MU, np.zeros((2, 5, 1))), ValueError, r"not \(2,\)"),
        (lambda: CorrelatedArgmaxNoise(MU, B + np.inf), ValueError, r"not inf at \(0, 0\)"),
        (lambda: CorrelatedArgmaxNoise(MU, np.zeros((5, 4))), ValueError, "pass rng, a seed"),
        (lambda: CorrelatedArgmaxNoise(MU, B, points=9), ValueError, "at least 613 points.*not 9"),
        (lambda: CorrelatedArgmaxNoise(MU, B, scale=-1.0), ValueError, "scale < inf, not -1.0"),
        (lambda: CorrelatedArgmaxNoise(MU, B, scale=[1.0]), ValueError, "each of 5 classes"),
        (lambda: CorrelatedArgmaxNoise(MU, B, scale=0.0 * MU), ValueError, r"not 0.0 at \(0,\)"),
        (lambda: CorrelatedArgmaxNoise(MU, B, Gumbel(), SCALES), ValueError, "normal noise.*Gum"),
        (lambda: CorrelatedArgmaxNoise([np.nan], B[:1]), ValueError, "not nan"),
        (lambda: CorrelatedArgmaxNoise(MU, B).log_prob(5), ValueError, "0 to 4, not 5"),
        (lambda: CorrelatedArgmaxNoise(MU, B, rng=0.5), TypeError, "rng"),
    ],
)
def test_errors_name_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_examples():
    for test in doctest.DocTestFinder(recurse=False).find(CorrelatedArgmaxNoise, globs={}):
        assert doctest.DocTestRunner().run(test).failed == 0
