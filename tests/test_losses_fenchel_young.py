"""The Fenchel-Young loss of noisy scores: closed forms, and laws that only NumPy knows."""

import numpy as np
import pytest
from scipy.stats import norm

from logitkit import distributions, losses

grad = losses.value_and_grad
loss = losses.fenchel_young


def test_gumbel_noise_is_cross_entropy():
    s, y = np.random.default_rng(0).normal(size=(3, 5)), [0, 4, 2]
    value, gradient = grad(loss)(s, y, noise=distributions.Gumbel())
    expected, exact = grad(losses.focal)(s, y, gamma=0.0)
    assert value == pytest.approx(expected + np.euler_gamma, rel=1e-12)
    np.testing.assert_allclose(gradient, exact, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("gap", [0.0, 1.0, -4.0])
def test_two_normal_scores(gap):
    """E max of two normal variables is known: mean, and the density of their difference."""
    width = 0.5 * np.sqrt(2.0)
    largest = gap * norm.cdf(gap / width) + width * norm.pdf(gap / width)
    value, gradient = grad(loss)([[gap, 0.0]], [0], scale=0.5)
    assert value == pytest.approx(largest - gap, rel=1e-8, abs=1e-9)
    p = norm.cdf(gap / width)
    np.testing.assert_allclose(gradient, [[p - 1.0, 1.0 - p]], rtol=1e-8, atol=1e-12)


def test_a_class_without_a_chance_still_has_a_slope():
    value, gradient = grad(loss)([[-1.5, 0.0]], [0], noise=distributions.Uniform())
    assert value == pytest.approx(1.5, rel=1e-9)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0]], atol=1e-12)


def test_least_is_the_mean_of_the_noise():
    value = loss([[40.0, 0.0]], [0], noise=distributions.Exponential(), scale=2.0)
    assert value == pytest.approx(2.0, rel=1e-7)


class Wide:
    """Logistic noise of twice the width, by a law of one's own."""

    support, break_points = (-np.inf, np.inf), ()

    def log_cdf(self, x):
        """Return the logarithm of the distribution function."""
        return distributions.Logistic().log_cdf(np.asarray(x) / 2.0)

    def log_pdf(self, x):
        """Return the logarithm of the density."""
        return distributions.Logistic().log_pdf(np.asarray(x) / 2.0) - np.log(2.0)

    def ppf(self, q):
        """Return quantiles."""
        return 2.0 * distributions.Logistic().ppf(q)


def test_a_law_of_ones_own():
    s, y = np.array([[0.3, -1.0, 0.5]]), [1]
    value, gradient = grad(loss)(s, y, noise=Wide())
    expected, exact = grad(loss)(s, y, noise=distributions.Logistic(), scale=2.0)
    assert value == pytest.approx(expected, rel=4e-9)
    np.testing.assert_allclose(gradient, exact, rtol=1e-8)
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="not Wide: pass arrays"):
        loss(torch.tensor(s), torch.tensor(y), noise=Wide())


def test_edges():
    with pytest.raises(ValueError, match="finite mean"):
        loss([[0.0, 1.0]], [0], noise=distributions.Cauchy())
    with pytest.raises(ValueError, match="scale > 0"):
        loss([[0.0, 1.0]], [0], scale=0.0)
    value, gradient = grad(loss)([[np.nan, 1.0], [0.0, 0.0]], [0, 0], reduction="none")
    assert np.isnan(value[0])
    assert np.isnan(gradient[0]).all()
    assert value[1] == pytest.approx(1.0 / np.sqrt(np.pi), rel=1e-9)
