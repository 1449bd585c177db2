"""Losses of n problems of m classes: the numbers and laws of their stationary points."""

import numpy as np
import pytest
from scipy.optimize import minimize

from logitkit import losses, softmax
from logitkit.reference import losses as reference

grad = losses.value_and_grad
grouped = losses.grouped_cross_entropy


def minimised(t):
    """Return scores where the first form is least for a target."""

    def loss(x):
        value, gradient = grad(grouped)(x.reshape(t.shape), t)
        return value, gradient.reshape(-1)

    options = {"ftol": 0.0, "gtol": 1e-11, "maxiter": 2000}
    found = minimize(loss, np.zeros(t.size), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(t.shape)


@pytest.mark.parametrize("n", [1, 5])
def test_two_classes_are_two_kinds_of_labels(n):
    rng = np.random.default_rng(n)
    s = 3.0 * rng.normal(size=(n, 2))
    p = rng.random(n)
    t = np.stack([p, 1.0 - p], 1)
    gap = s[:, 0] - s[:, 1]
    expected = losses.multilabel_cross_entropy(gap, p)
    assert grouped(s, t) == pytest.approx(expected, rel=1e-13)
    centred = grouped(s, t, form="centred")
    assert centred == pytest.approx(losses.multilabel_cross_entropy(gap / 2, p), rel=1e-13)


def test_worked_optimum_of_one_item():
    t = np.array([[0.5, 0.3, 0.2]])
    s = minimised(t)
    p = softmax(s, 1)
    np.testing.assert_allclose(p, [[0.404400, 0.323600, 0.272001]], atol=1e-6)
    found = losses.grouped_stationary_target(s)
    np.testing.assert_allclose(found.sums, [1.73640, 1.62707, 1.53529], atol=1e-5)
    np.testing.assert_allclose(found.target, t, atol=1e-9)
    np.testing.assert_allclose(losses.grouped_probabilities(s, sums=found.sums), t, atol=1e-9)


@pytest.mark.parametrize(("n", "m"), [(1, 3), (4, 3), (6, 5), (50, 10)])
def test_gradient_vanishes_at_the_stationary_target(n, m):
    s = np.random.default_rng(n * m).normal(size=(n, m))
    found = losses.grouped_stationary_target(s)
    np.testing.assert_allclose(found.target.sum(1), 1.0, rtol=1e-14)
    _, gradient = grad(grouped)(s, found.target)
    # The fixed point has come to rest to 1e-12, and the slowest error shrinks by 0.99 a step.
    np.testing.assert_allclose(gradient, 0.0, atol=1e-9)


def test_decoding_finds_the_class_where_scores_alone_do_not():
    rng = np.random.default_rng(0)
    t = rng.dirichlet(np.ones(4), 30)
    s = minimised(t)
    decoded = losses.grouped_probabilities(s)
    assert (decoded.argmax(1) == t.argmax(1)).all()
    assert np.abs(decoded - t).max() < 1e-3


def test_centred_form_is_least_at_the_softmax():
    t = np.random.default_rng(1).dirichlet(np.ones(3), 4)
    _, gradient = grad(grouped)(np.log(t), t, form="centred")
    np.testing.assert_allclose(gradient, 0.0, atol=1e-15)
    value = grouped([[5.0, 6.0, -11.0]], [0], form="centred")  # and small at a wrong argmax
    assert value == pytest.approx(0.0067, abs=5e-5)
    assert losses.focal([[5.0, 6.0, -11.0]], [0], gamma=0.0) == pytest.approx(1.313, abs=5e-4)


def test_scores_of_sum_zero_are_the_centred_form():
    s = np.random.default_rng(2).normal(size=(4, 3))
    s -= s.mean(1, keepdims=True)
    y = [0, 1, 2, 2]
    assert grouped(s, y, form="scores") == pytest.approx(grouped(s, y, form="centred"), rel=1e-14)


def test_debiased_gradient_vanishes_at_softmax_of_twice_the_scores():
    t = np.random.default_rng(3).dirichlet(np.ones(4), 20)
    _, gradient = grad(grouped)(0.5 * np.log(t), t, form="debiased")
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)
    t = t[:6]
    s = np.zeros(t.shape)
    for _ in range(300):
        s -= 2.0 * grad(grouped)(s, t, form="debiased")[1]
    np.testing.assert_allclose(softmax(2.0 * s, 1), t, atol=1e-4)


def test_edges():
    assert grouped(np.ones((3, 1)), [0, 0, 0]) == 0.0  # one class: nothing to tell
    assert grouped([[0.0, 800.0]], [0]) == 800.0
    assert grouped([[0.0, -800.0]], [0]) == 0.0
    assert np.isnan(grouped(np.zeros((2, 3)), [-100, -100]))
    with pytest.raises(ValueError, match="form"):
        grouped(np.zeros((2, 3)), [0, 0], form="third")
    with pytest.raises(ValueError, match="segments or over"):
        grouped(np.zeros((2, 3)), [0, 0], over=0, segments=[0, 1])
    with pytest.raises(ValueError, match="that of classes"):
        grouped(np.zeros((2, 3)), [0, 0], over=1)
    with pytest.raises(ValueError, match=r"segments from 0, not -1 at \[1\]"):
        grouped(np.zeros((2, 3)), [0, 0], segments=[0, -1])
    with pytest.raises(ValueError, match="finite"):
        losses.grouped_stationary_target([[0.0, np.inf]])
    with pytest.raises(RuntimeError, match="allow more"):
        losses.grouped_stationary_target(np.arange(6.0).reshape(2, 3), max_steps=2)


def test_groups_are_alone():
    rng = np.random.default_rng(4)
    s, y = rng.normal(size=(5, 4, 3)), rng.integers(0, 3, (5, 4))
    each = [float(grouped(a, b)) for a, b in zip(s, y, strict=True)]
    np.testing.assert_allclose(grouped(s, y, over=1, reduction="none"), each, rtol=1e-14)
    ids = np.repeat(np.arange(5), 4)
    flat = grouped(s.reshape(20, 3), y.reshape(20), segments=ids, reduction="none")
    np.testing.assert_allclose(flat, each, rtol=1e-14)


@pytest.mark.parametrize("mask", [None, [True] * 4])
def test_numbers_that_no_item_has_are_no_groups(mask):
    rng = np.random.default_rng(3)
    s, y = rng.normal(size=(4, 3)), np.array([0, 2, 1, 1])
    dense = grouped(s, y, segments=[0, 0, 1, 1], mask=mask)
    sparse = grouped(s, y, segments=[1, 1, 4, 4], mask=mask)
    assert sparse == dense
    assert sparse == pytest.approx(reference.grouped_cross_entropy(s, y, segments=[1, 1, 4, 4]))
    assert grouped(s, y, segments=[1, 1, 4, 4], mask=mask, reduction="none").shape == (5,)


def test_segments_as_a_tensor_inside_of_transforms():
    torch = pytest.importorskip("torch")
    s, y = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    ids = torch.tensor([0, 0, 1, 1])
    leaf = s.clone().requires_grad_()
    grouped(leaf, y, segments=ids).backward()
    gradient = torch.func.grad(lambda x: grouped(x, y, segments=ids))(s)
    torch.testing.assert_close(gradient, leaf.grad)


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        ([1.0, np.inf], "sums > 0 and finite, not inf"),
        ([1.0, 2.0, 3.0], r"sums that broadcasts to \(2,\), not of shape \(3,\)"),
    ],
)
def test_sums_that_are_none_are_named(sums, message):
    with pytest.raises(ValueError, match=message):
        losses.grouped_probabilities(np.zeros((4, 2)), sums=sums)
    for wrong in (np.zeros(2), np.full((1, 2), np.inf), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=r"logits of shape|finite logits"):
            losses.grouped_probabilities(wrong, sums=[1.0, 2.0][: wrong.shape[-1]])


def test_probabilities_of_huge_scores():
    found = losses.grouped_probabilities(np.array([[1e308, -1e308]]), sums=[1.0, 2.0])
    np.testing.assert_array_equal(found, [[1.0, 0.0]])
