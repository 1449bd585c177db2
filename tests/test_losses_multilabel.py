"""Losses of many labels: worked numbers, laws, and digits where others lose them."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitkit import losses
from logitkit.reference import losses as reference

INF, NAN = float("inf"), float("nan")
grad = losses.value_and_grad


def logit(p):
    return np.log(p) - np.log1p(-p)


def test_worked_number():
    s = np.array([[3.0, -2.0, 1.0]])
    expected = np.log1p(np.exp(-3.0) + np.exp(-1.0)) + np.log1p(np.exp(-2.0))
    assert losses.multilabel_cross_entropy(s, [[1, 0, 1]]) == pytest.approx(expected, rel=1e-15)


def test_one_true_label_without_threshold_is_softmax():
    """Both forms without a threshold compare with the other labels alone."""
    s = np.random.default_rng(0).normal(size=(4, 5))
    y = np.array([0, 1, 4, 2])
    hard = y[:, None] == np.arange(5)
    expected = losses.focal(s, y, gamma=0.0)
    assert losses.circle_loss(s, hard) == pytest.approx(expected, rel=1e-14)
    assert losses.combinatorial_cross_entropy(s, hard) == pytest.approx(expected, rel=1e-14)


def test_at_most_the_sum_of_binary_cross_entropies():
    rng = np.random.default_rng(1)
    s, t = 3.0 * rng.normal(size=(50, 8)), rng.random((50, 8)) > 0.5
    binary = np.logaddexp(0.0, np.where(t, -s, s)).sum(1)
    assert (losses.multilabel_cross_entropy(s, t, reduction="none") <= binary).all()


def test_least_at_half_the_logit_of_a_soft_target():
    t = np.random.default_rng(2).random((3, 7))
    s = logit(t) / 2
    np.testing.assert_allclose(losses.multilabel_probabilities(s), t, rtol=1e-13)
    value, gradient = grad(losses.multilabel_cross_entropy)(s, t, reduction="none")
    np.testing.assert_allclose(gradient, 0.0, atol=1e-15)
    least = 2.0 * np.log1p(np.sqrt(t * (1.0 - t)).sum(1))
    np.testing.assert_allclose(value, least, rtol=1e-14)
    excess = losses.excess_multilabel_cross_entropy(s, t, reduction="none")
    np.testing.assert_allclose(excess, 0.0, atol=4e-15)


def test_each_sum_moves_the_loss_by_less_than_one():
    rng = np.random.default_rng(3)
    s, t = 5.0 * rng.normal(size=(20, 9)), rng.random((20, 9)) > 0.7
    _, gradient = grad(losses.multilabel_cross_entropy)(s, t, reduction="sum")
    assert (np.where(t, -gradient, 0.0).sum(1) < 1.0).all()
    assert (np.where(t, 0.0, gradient).sum(1) < 1.0).all()


def test_no_true_label_or_nothing_else():
    s = np.array([[1.0, -1.0]])
    both = [losses.multilabel_cross_entropy(s, [[v, v]]) for v in (0, 1)]
    expected = np.log1p(np.exp(1.0) + np.exp(-1.0))
    np.testing.assert_allclose(both, expected, rtol=1e-15)
    assert losses.circle_loss(s, [[0, 0]]) == 0.0
    assert not grad(losses.circle_loss)(s, [[1, 1]])[1].any()
    assert losses.multilabel_cross_entropy(np.zeros((2, 0)), np.zeros((2, 0))) == 0.0


def test_infinite_scores():
    """A label at -inf that is not true drops out; a true one there is an infinite loss."""
    value, gradient = grad(losses.multilabel_cross_entropy)([[0.0, -INF, 1.0]], [[1, 0, 0]])
    expected, short = grad(losses.multilabel_cross_entropy)([[0.0, 1.0]], [[1, 0]])
    assert value == expected
    np.testing.assert_array_equal(gradient, [[short[0, 0], 0.0, short[0, 1]]])
    assert losses.multilabel_cross_entropy([[-INF, 0.0]], [[1, 0]]) == INF
    assert losses.multilabel_cross_entropy([[INF, 0.0]], [[0, 1]]) == INF
    assert np.isnan(losses.multilabel_cross_entropy([[NAN, 0.0]], [[0, 1]]))
    # Soft targets of exactly 0 and 1 are hard ones, and need no clipping.
    t = np.array([[1.0, 0.0]])
    assert losses.multilabel_cross_entropy([[90.0, -90.0]], t) == pytest.approx(
        2.0 * np.exp(-90.0), rel=1e-14
    )


def test_slopes_in_a_target_of_zero_and_one():
    """Where naive derivatives are NaN there are limits: e^-s / (1 + sum) - e^s / (1 + sum)."""
    s, t = np.array([[0.5, -0.5]]), np.array([[1.0, 0.0]])
    _, (_, slope) = grad(losses.multilabel_cross_entropy, (0, 1))(s, t)
    positive, negative = 1.0 + np.exp(-0.5), 1.0 + np.exp(-0.5)
    np.testing.assert_allclose(slope, np.exp(-s) / positive - np.exp(s) / negative, rtol=1e-14)


def test_threshold_is_two_sums_with_it():
    rng = np.random.default_rng(4)
    s, t, s0 = rng.normal(size=(5, 6)), rng.random((5, 6)) > 0.5, rng.normal(size=5)
    expected = np.log(np.exp(s0) + np.where(t, 0.0, np.exp(s)).sum(1))
    expected += np.log(np.exp(-s0) + np.where(t, np.exp(-s), 0.0).sum(1))
    actual = losses.multilabel_cross_entropy(s, t, threshold=s0, reduction="none")
    np.testing.assert_allclose(actual, expected, rtol=1e-13)
    labels = losses.multilabel_labels(s, threshold=s0[:, None])
    np.testing.assert_array_equal(labels, s > s0[:, None])


@pytest.mark.parametrize("score", [10.0, 15.0, 20.0, 30.0, 60.0, 300.0])
def test_sparse_form_keeps_its_digits(score):
    """A common implementation has 0.693 -> -1.12, 13.9 and 43.9 at 15, 30 and 60."""
    s = np.full((1, 1000), -score / 2, np.float32)
    s[0, :2] = score
    s[0, 2] = 0.0
    lists = [[0, 1, 1, -1]]
    value, gradient = grad(losses.sparse_multilabel_cross_entropy)(s, lists)
    wide = s.astype(np.float64)
    expected = reference.sparse_multilabel_cross_entropy(wide, lists)
    assert value.dtype == np.float32
    assert value == pytest.approx(expected, rel=1e-6)
    exact = grad(losses.sparse_multilabel_cross_entropy)(wide, lists)[1]
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-40)


@given(
    st.lists(st.lists(st.integers(-1, 7), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_lists_are_truths(lists, seed):
    s = 20.0 * np.random.default_rng(seed).normal(size=(len(lists), 8))
    truths = [[label in row for label in range(8)] for row in lists]
    value, gradient = grad(losses.sparse_multilabel_cross_entropy)(s, lists)
    expected, dense = grad(losses.multilabel_cross_entropy)(s, truths)
    assert value == expected
    np.testing.assert_array_equal(gradient, dense)


def test_sparse_errors_and_edges():
    s = np.zeros((2, 3))
    sparse = losses.sparse_multilabel_cross_entropy
    assert sparse(s, np.zeros((2, 0), int)) == pytest.approx(np.log(4.0))
    with pytest.raises(ValueError, match=r"from 0 to 2 in positives.*not 3 at \[1, 0\]"):
        sparse(s, [[0], [3]])
    with pytest.raises(ValueError, match="not -2"):
        sparse(s, [[0], [-2]])
    with pytest.raises(ValueError, match=r"positives of shape \(2, 'k'\)"):
        sparse(s, [0, 1])
    with pytest.raises(TypeError, match="integers"):
        sparse(s, [[0.0], [1.0]])


def test_spans():
    rng = np.random.default_rng(5)
    s = rng.normal(size=(2, 3, 4, 4))
    s[..., 2, 1] = NAN  # ends before it begins
    lists = np.array([[[[0, 1], [3, 3]], [[-1, -1]] * 2, [[2, 2], [0, 3]]]] * 2)
    dense = np.zeros(s.shape, bool)
    for i, j in product(range(2), range(3)):
        for first, last in lists[i, j]:
            if first >= 0:
                dense[i, j, first, last] = True
    values = losses.span_cross_entropy(s, lists, reduction="none")
    assert values.shape == (2, 3)
    np.testing.assert_array_equal(values, losses.span_cross_entropy(s, dense, reduction="none"))
    upper = np.triu_indices(4)
    expected = losses.multilabel_cross_entropy(s[0, 0][upper][None], dense[0, 0][upper][None])
    assert values[0, 0] == pytest.approx(expected, rel=1e-14)
    with pytest.raises(ValueError, match=r"\(3, 1\) at \[0, 0, 0\]"):
        losses.span_cross_entropy(s[:1, :1], [[[[3, 1]]]])


def test_symmetric_kl_without_cancellation():
    s = np.array([[30.0, -20.0]])
    value = losses.symmetric_kl(s, s + 1e-6)
    exact = sum(np.exp(-abs(x)) for x in s[0]) * 1e-12
    assert value == pytest.approx(exact, rel=1e-5)


def test_circle_is_every_pair():
    s, t = np.array([[1.0, 0.5, -2.0, 0.0]]), np.array([[1, 0, 1, 0]])
    pairs = [np.exp(2.0 * (s[0, i] - s[0, j] + 0.25)) for i in (1, 3) for j in (0, 2)]
    value = losses.circle_loss(s, t, gamma=2.0, margin=0.25)
    assert value == pytest.approx(np.log1p(sum(pairs)), rel=1e-14)


def test_subsets_where_newtons_identities_return_zero():
    """The sum over 3 of 200 labels of wide range, by logarithms and by exact integers."""
    rng = np.random.default_rng(6)
    powers = rng.integers(0, 60, 60)
    x = [2 ** int(p) for p in powers]
    e = [1, 0, 0, 0]
    for value in x:
        for j in (3, 2, 1):
            e[j] += value * e[j - 1]
    s = np.log(2.0) * powers[None].astype(float)
    t = np.arange(60) < 3
    expected = np.log(float(e[3])) - s[0, :3].sum()
    value = losses.combinatorial_cross_entropy(s, t[None])
    assert value == pytest.approx(expected, rel=1e-13)
    padded = losses.combinatorial_cross_entropy(s, t[None], at_most=3)
    assert padded == pytest.approx(np.log(float(sum(e))) - s[0, :3].sum(), rel=1e-13)
    _, gradient = grad(losses.combinatorial_cross_entropy)(s, t[None])
    assert gradient.sum() == pytest.approx(0.0, abs=1e-12)  # shares add up to 3
    with pytest.raises(ValueError, match="at most 2 true labels in a row, not 3"):
        losses.combinatorial_cross_entropy(s, t[None], at_most=2)
    with pytest.raises(ValueError, match="not probabilities"):
        losses.combinatorial_cross_entropy(s, t[None] * 0.5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_lists_of_short_integers(dtype):
    """The number of a span, and the one after the last label, may be beyond their type."""
    rng = np.random.default_rng(2)
    spans = np.array([[[17, 19], [0, 3]]])
    x = rng.normal(size=(1, 20, 20))
    expected = losses.span_cross_entropy(x, spans)
    assert losses.span_cross_entropy(x, spans.astype(dtype)) == expected
    s, labels = rng.normal(size=(1, 40_000)), np.array([[100, 3]])
    expected = losses.sparse_multilabel_cross_entropy(s, labels)
    assert losses.sparse_multilabel_cross_entropy(s, labels.astype(dtype)) == expected


def test_tokens_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"token_mask that broadcasts to \(4, 3\), .* \(2,\)"):
        losses.span_cross_entropy(np.zeros((4, 3, 3)), np.zeros((4, 3, 3)), token_mask=[True] * 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", [[0.3, 0.5, 0.7, 0.2], [1.0, 0.0, 1.0, 0.0]])
def test_slopes_beside_an_infinite_term(dtype, target):
    """Other scores have finite slopes, even those whose exponential overflows."""
    s = np.array([[-np.inf, 300.0, -300.0, 5.0]], dtype)
    for t in (np.array([target], dtype), np.array([target]) > 0.4):
        t[0, 0] = 1
        value, gradient = grad(losses.multilabel_cross_entropy)(s, t)
        assert value == np.inf
        assert np.isfinite(gradient[0, 1:]).all()
        assert gradient[0, 2] == pytest.approx(0.0, abs=1e-12)


def test_the_reference_of_the_symmetric_divergence_does_not_overflow():
    s, t = np.array([[300.0, -700.0, 0.5]]), np.array([[-2.0, 1.0, 0.4]])
    expected = reference.symmetric_kl(s, t)
    assert losses.symmetric_kl(s, t) == pytest.approx(expected, rel=1e-13)
