"""Losses of one true class: worked numbers, special values, and what PyTorch has of them."""

import doctest

import numpy as np
import pytest

from logitkit import losses

INF = float("inf")
grad = losses.value_and_grad
cross_entropy = losses.stretched(losses.smooth_accuracy)


@pytest.mark.parametrize("p", [0.5, 0.9, 1e-3])
def test_worked_numbers(p):
    x = np.log([[p, 0.6 * (1.0 - p), 0.4 * (1.0 - p)]])
    assert losses.focal(x, [0]) == pytest.approx(-((1 - p) ** 2) * np.log(p), rel=1e-13)
    assert losses.poly(x, [0]) == pytest.approx(-np.log(p) + 1.0 - p, rel=1e-13)
    expected = (1.0 - p**0.7) / 0.7
    assert losses.generalized_cross_entropy(x, [0]) == pytest.approx(expected, rel=1e-13)
    assert losses.smooth_accuracy(x, [0]) == pytest.approx(1.0 - p, rel=1e-13)


def test_factors_of_the_slope():
    """Cross-entropy 1 - p, accuracy p (1 - p), and p^q (1 - p) between them."""
    p = 0.2
    x = np.log([[p, 1.0 - p]])
    slopes = [
        -grad(loss)(x, [0])[1][0, 0]
        for loss in (cross_entropy, losses.generalized_cross_entropy, losses.smooth_accuracy)
    ]
    expected = [1.0 - p, p**0.7 * (1.0 - p), p * (1.0 - p)]
    np.testing.assert_allclose(slopes, expected, rtol=1e-13)


def test_logit_adjustment_is_a_shift():
    rng = np.random.default_rng(0)
    x, y, prior = rng.normal(size=(4, 3)), [0, 2, 1, 1], np.array([5.0, 1.0, 2.0])
    actual = losses.logit_adjusted_cross_entropy(x, y, prior=prior, tau=0.5)
    assert actual == pytest.approx(cross_entropy(x + 0.5 * np.log(prior), y), rel=1e-15)
    # The scale of the prior does not matter, nor does tau = 0.
    scaled = losses.logit_adjusted_cross_entropy(x, y, prior=7.0 * prior, tau=0.5)
    assert scaled == pytest.approx(actual, rel=1e-14)
    without = losses.logit_adjusted_cross_entropy(x, y, prior=prior, tau=0.0)
    assert without == cross_entropy(x, y)


def test_classes_that_are_masked_by_their_logits():
    x, y = np.array([[0.5, -INF, 0.0], [0.5, -INF, 0.0]]), [2, 1]
    short = np.array([[0.5, 0.0]])
    for loss, lost in (
        (cross_entropy, INF),
        (losses.focal, INF),
        (losses.poly, INF),
        (losses.smooth_accuracy, 1.0),
        (losses.generalized_cross_entropy, 1.0 / 0.7),
    ):
        values, gradient = grad(loss)(x, y, reduction="none")
        expected, of_short = grad(loss)(short, [1])
        np.testing.assert_allclose(values, [expected, lost], rtol=1e-15)
        np.testing.assert_allclose(gradient[0], [of_short[0, 0], 0.0, of_short[0, 1]], rtol=1e-14)
    # A soft target may have nothing on such a class.
    soft = cross_entropy(x[:1], [[0.25, 0.0, 0.75]])
    assert soft == pytest.approx(cross_entropy(short, [[0.25, 0.75]]), rel=1e-14)


def test_large_logits():
    x = np.float32([[1e30, 0.0], [0.0, -3e38]])
    np.testing.assert_array_equal(cross_entropy(x, [0, 0], reduction="none"), [0.0, 0.0])
    np.testing.assert_array_equal(
        cross_entropy(x, [1, 1], reduction="none"), np.float32([1e30, 3e38])
    )


def test_against_pytorch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), 5)
    y, weight = np.array([0, 3, -1, 2, 2]), np.array([1.0, 0.5, 2.0, 3.0])
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.3}):
        for target, more in ((y, {"ignore_index": -1}), (t, {})):
            for reduction in ("mean", "sum", "none"):
                theirs = {k: torch.tensor(v) if k == "weight" else v for k, v in options.items()}
                leaf = torch.tensor(x, requires_grad=True)
                expected = functional.cross_entropy(
                    leaf, torch.tensor(target), reduction=reduction, **theirs, **more
                )
                expected.sum().backward()
                value, gradient = grad(cross_entropy)(
                    x, target, reduction=reduction, **options, **more
                )
                np.testing.assert_allclose(value, expected.detach(), rtol=1e-13, atol=1e-15)
                np.testing.assert_allclose(gradient, leaf.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", losses.__all__)
def test_examples(name):
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner()
    for test in finder.find(getattr(losses, name), name, globs={}):
        assert runner.run(test).failed == 0


def test_worked_numbers_of_beta_bernoulli():
    # two classes with logits 1 and -1: p = sigmoid(2) = 0.880797; -log(w theta + (1 - w) p)
    x, y = [[1.0, -1.0], [-1.0, 1.0]], [0, 0]
    value = losses.beta_bernoulli(x, y, share=0.1, reduction="none")
    assert value[0] == pytest.approx(0.17112364388500304, rel=1e-14)  # theta = 1 / n = 0.5
    value = losses.beta_bernoulli(x, y, share=0.4, prior=0.3, reduction="none")
    assert value[1] == pytest.approx(1.6527538830097444, rel=1e-14)
    _, slope = losses.value_and_grad(losses.beta_bernoulli)(x[:1], y[:1], share=0.1)
    # -(1 - w) p (1 - p) / (w theta + (1 - w) p)
    np.testing.assert_allclose(slope, [[-0.1121303894, 0.1121303894]], rtol=1e-9)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "poly", "generalized_cross_entropy"])
@pytest.mark.parametrize("target", [[1], [[0.25, 0.5, 0.25]]], ids=["hard", "soft"])
def test_hidden_classes_without_weight_do_not_count(name, target):
    """Where they have one, the value is what the loss tends to, infinite or not; none is NaN."""
    step, x = losses.value_and_grad(getattr(losses, name)), np.array([[1.0, -np.inf, 2.0]])
    for smoothing in (0.0, 0.1):
        options = {"label_smoothing": smoothing, "reduction": "sum"}
        value, gradient = step(x, target, weight=[1.0, 0.0, 2.0], **options)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        near, slopes = step(
            np.where(x == -np.inf, -700.0, x), target, weight=[1.0, 0.0, 2.0], **options
        )
        assert value == pytest.approx(near, rel=1e-12, abs=1e-15)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-12, atol=1e-15)
        value, _ = step(x, target, weight=[1.0, 1.0, 2.0], **options)
        if name != "generalized_cross_entropy":
            assert value == np.inf
        assert np.isnan(step([[np.nan, 0.0, 1.0]], target, weight=[1.0, 0.0, 2.0], **options)[0])
