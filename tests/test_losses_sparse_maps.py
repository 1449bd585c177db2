"""Losses of maps with a threshold: known forms, exact zeros, and where they begin."""

import numpy as np
import pytest

from logitkit import losses, softmax
from logitkit.reference import losses as reference

INF = float("inf")
grad = losses.value_and_grad


def test_sparsemax_of_two_classes_is_a_hinge_that_bends():
    """0 from a lead of 1 on, the square of what is missing between, and linear below."""
    lead = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
    s = np.stack([lead, np.zeros(6)], 1)
    expected = np.where(lead >= 1, 0.0, np.where(lead >= -1, (1 - lead) ** 2 / 4, -lead))
    values = losses.sparsemax_loss(s, np.zeros(6, int), reduction="none")
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0, 3.0])
def test_zero_from_a_lead_on(alpha):
    lead = 1.0 / (alpha - 1.0)
    s = np.array([[lead, 0.0, 0.0], [0.9 * lead, 0.0, 0.0]])
    values, gradient = grad(losses.entmax_loss)(s, [0, 0], alpha=alpha, reduction="none")
    assert values[0] == pytest.approx(0.0, abs=1e-14)
    assert values[1] > 0.0
    np.testing.assert_allclose(gradient[0], 0.0, atol=1e-12)


def test_near_one_it_is_cross_entropy():
    s = np.random.default_rng(0).normal(size=(4, 5))
    y = [0, 1, 2, 3]
    value, gradient = grad(losses.entmax_loss)(s, y, alpha=1.0 + 1e-6)
    assert value == pytest.approx(losses.focal(s, y, gamma=0.0), rel=1e-5)
    p = softmax(s, 1)
    np.testing.assert_allclose(gradient, (p - np.eye(5)[y]) / 4, atol=1e-5)


def test_least_where_the_map_is_the_target():
    t = np.array([[0.7, 0.3, 0.0]])
    s = np.array([[0.7, 0.3, -1.0]])  # its own sparsemax, but for the last
    value, gradient = grad(losses.sparsemax_loss)(s, t)
    assert value == pytest.approx(0.0, abs=1e-16)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-15)


def test_masked_classes():
    expected, short = grad(losses.entmax_loss)([[0.5, 0.0]], [1])
    value, gradient = grad(losses.entmax_loss)([[0.5, -INF, 0.0]], [2])
    assert value == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(gradient, [[short[0, 0], 0.0, short[0, 1]]], rtol=1e-15)
    assert losses.entmax_loss([[0.5, -INF]], [1]) == INF
    with pytest.raises(ValueError, match="alpha > 1"):
        losses.entmax_loss([[0.0, 1.0]], [0], alpha=1.0)


def test_top_k_of_equal_scores_and_of_clear_ones():
    for k in (1, 2, 3, 7):
        value = losses.smooth_top_k_accuracy(np.zeros((1, 7)), [3], k=k)
        assert value == pytest.approx(1.0 - k / 7, abs=1e-14)
    s = 60.0 * np.arange(5.0)[None]
    inside = [losses.smooth_top_k_accuracy(s, [y], k=2) for y in range(5)]
    np.testing.assert_allclose(inside, [1.0, 1.0, 1.0, 0.0, 0.0], atol=1e-12)
    assert losses.smooth_top_k_accuracy(s, [0], k=5) == 0.0
    for function in (losses.smooth_top_k_accuracy, reference.smooth_top_k_accuracy):
        for k in (0, 6):
            with pytest.raises(ValueError, match=f"k from 1 to the 5 classes, not {k}"):
                function(s, [0], k=k)


def test_shares_of_the_top_k_add_up_to_k():
    s = np.random.default_rng(1).normal(size=6)
    missing = losses.smooth_top_k_accuracy(np.tile(s, (6, 1)), np.arange(6), k=2, reduction="sum")
    assert 6.0 - missing == pytest.approx(2.0, abs=1e-13)
    stretched = losses.stretched(losses.smooth_top_k_accuracy)
    value = stretched(s[None], [0], k=2)
    assert value == pytest.approx(-np.log(1.0 - losses.smooth_top_k_accuracy(s[None], [0], k=2)))


def test_balanced_accuracy_is_a_mean_over_classes():
    from logitkit.reference import losses as reference

    rng = np.random.default_rng(2)
    s, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    y[:3] = -100
    s[0] = np.nan
    mask = np.arange(20) != 5
    value, gradient = grad(losses.smooth_balanced_accuracy)(s, y, mask=mask)
    assert value == pytest.approx(reference.smooth_balanced_accuracy(s, y, mask=mask), rel=1e-14)
    assert not gradient[[0, 1, 2, 5]].any()
    step = 1e-6 * rng.normal(size=s.shape)
    ends = [losses.smooth_balanced_accuracy(s + sign * step, y, mask=mask) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 2 == pytest.approx((gradient * step)[1:].sum(), rel=1e-7)


def test_square_of_logsumexp():
    value, gradient = grad(losses.z_loss)(np.log([[1.0, 3.0]]))
    assert value == pytest.approx(np.log(4.0) ** 2, rel=1e-15)
    np.testing.assert_allclose(gradient, 2.0 * np.log(4.0) * np.array([[0.25, 0.75]]), rtol=1e-14)
