"""Expected accuracy, metrics as losses, and the three points that cross-entropy gets wrong."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, ndtr

from logitkit import losses
from logitkit.losses._class_formulas import LOG_LOSS
from logitkit.losses._metric_kernels import SURROGATES
from logitkit.reference import losses as reference

INF = float("inf")
grad = losses.value_and_grad
exact = losses.expected_accuracy
cross_entropy = losses.stretched(losses.smooth_accuracy)


def log_p(x, y, **options):
    return -losses.stretched(exact)(x, y, reduction="none", **options)


def test_worked_vector():
    mu = np.array([[0.7, -0.3, 0.1, 0.55, -1.2]] * 5)
    p = 1.0 - exact(mu, np.arange(5), reduction="none")
    np.testing.assert_allclose(p, [0.391738, 0.093036, 0.174184, 0.324223, 0.016820], atol=6e-7)
    assert p.sum() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("m", [30.0, 5.0, 0.0, -5.0, -100.0, -1e4])
def test_two_classes_are_the_normal_integral(m):
    actual = log_p([[m, 0.0]], [0])[0]
    expected = log_ndtr(m / np.sqrt(2.0))
    assert abs(actual - expected) <= 1e-12 * max(1.0, abs(expected))


@pytest.mark.parametrize("n", [2, 3, 10, 100, 1000, 50_000])
def test_equal_logits_are_equally_likely(n):
    assert log_p(np.zeros((1, n)), [n // 2])[0] == pytest.approx(-np.log(n), rel=1e-13)


@pytest.mark.parametrize("spread", [0.1, 1.0, 8.0])
def test_probabilities_add_up(spread):
    x = spread * np.random.default_rng(0).normal(size=200)
    p = np.exp(log_p(np.tile(x, (200, 1)), np.arange(200)))
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


def test_scales_of_classes():
    x, scale = np.array([[1.0, 0.0, 0.5]] * 3), np.array([0.5, 2.0, 1.0])
    p = np.exp(log_p(x, [0, 1, 2], scale=scale))
    assert p.sum() == pytest.approx(1.0, abs=1e-13)
    two = np.exp(log_p([[1.0, 0.0]], [0], scale=[3.0, 4.0]))
    assert two[0] == pytest.approx(ndtr(1.0 / 5.0), rel=1e-14)
    np.testing.assert_allclose(log_p(3.0 * x, [0, 1, 2], scale=3.0 * scale), np.log(p), rtol=1e-12)


def test_gradient_is_a_shift_and_far_from_the_truth_that_of_a_square():
    x = np.random.default_rng(1).normal(size=(3, 6))
    _, gradient = grad(exact)(x, [0, 1, 2])
    np.testing.assert_allclose(gradient.sum(1), 0.0, atol=1e-16)
    _, far = grad(losses.stretched(exact))([[-100.0, 0.0]], [0])
    assert far[0, 0] == pytest.approx(-50.0, rel=1e-3)  # (m / 2)**2 has the slope m / 2
    _, gone = grad(exact)([[-100.0, 0.0]], [0])
    assert not gone.any()


def test_margin_is_a_cap_of_the_lead():
    x = np.array([[3.0, 2.9, 0.0]])
    capped = exact(x, [0], margin=1.0)
    assert capped == pytest.approx(exact([[1.0, 0.9, 0.0]], [0]), rel=1e-13)
    _, gradient = grad(exact)(x, [0], margin=1.0)
    assert gradient[0, 2] == 0.0
    assert gradient[0, 1] == -gradient[0, 0] > 0.0
    # In units of logits, so that it comes before the scale.
    scaled = exact(x, [0], margin=1.0, scale=0.5)
    assert scaled == pytest.approx(exact(2.0 * x, [0], margin=2.0), rel=1e-13)


def test_edges_of_expected_accuracy():
    assert exact([[7.0]], [0]) == 0.0
    assert exact([[0.0, -INF]], [0]) == 0.0
    assert exact([[0.0, -INF]], [1]) == 1.0
    assert log_p([[0.0, -INF]], [1])[0] == -INF
    with pytest.raises(ValueError, match=r"scale > 0 and finite, not 0\.0 at \[1\]"):
        exact([[0.0, 1.0]], [0], scale=[1.0, 0.0])
    with pytest.raises(ValueError, match="margin >= 0"):
        exact([[0.0, 1.0]], [0], margin=-1.0)
    with pytest.raises(ValueError, match="a class for each row"):
        exact([[0.0, 1.0]], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="method"):
        exact([[0.0, 1.0]], [0], method="ghk")
    with pytest.raises(ValueError, match="same scale"):
        exact([[0.0, 1.0]], [0], method="genz", scale=[1.0, 2.0])


def test_genz_samples_the_same_probability_and_gradient():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(3, 5)), [0, 3, 1]
    value, gradient = grad(exact)(x, y, reduction="sum")
    estimates = [
        grad(exact)(x, y, method="genz", samples=2000, seed=seed, reduction="sum")
        for seed in range(20)
    ]
    for actual, samples in (
        (value, [v for v, _ in estimates]),
        (gradient, [g for _, g in estimates]),
    ):
        error = np.mean(samples, 0) - actual
        # Four standard errors: once in 1,000 runs of these 16 numbers, and the seeds are fixed.
        assert (abs(error) <= 4.0 * np.std(samples, 0, ddof=1) / np.sqrt(20) + 1e-12).all()


def test_genz_is_as_far_off_as_published():
    x = np.zeros((1, 100))
    values = [1.0 - exact(x, [0], method="genz", samples=16, seed=seed) for seed in range(100)]
    assert 0.1 < np.std(values) / 0.01 < 1.0  # 32 % at 100 classes that are random


# The points -1/4, 0 and 1/4 of labels -1, -1 and 1, and the model x - b.
POINTS, LABELS = np.array([-0.25, 0.0, 0.25]), np.array([0, 0, 1])


def logits(b, k=1.0):
    f = k * (POINTS - b)
    return np.stack([np.zeros(3), f], 1)


def best(loss):
    bounds = (-1.0, 3.0)
    grid = np.linspace(*bounds, 401)
    start = grid[np.argmin([loss(b) for b in grid])]
    found = minimize_scalar(
        loss, bounds=(start - 0.02, start + 0.02), method="bounded", options={"xatol": 1e-9}
    )
    return found.x


def accuracy(b):
    return np.mean((b < POINTS) == LABELS)


@pytest.mark.parametrize(
    ("sigma", "b", "right"),
    [(0.5, 1.0198, False), (0.3, 0.4064, False), (0.2, 0.2190, True), (0.1, 0.1283, True)],
)
def test_three_points_by_scale(sigma, b, right):
    found = best(lambda b: exact(logits(b), LABELS, scale=sigma))
    assert found == pytest.approx(b, abs=1e-4)
    assert (accuracy(found) == 1.0) == right


def test_scale_at_which_three_points_become_right():
    q = np.roots([1.0, 0.0, 0.0, 1.0, -1.0])
    q = q[(abs(q.imag) < 1e-12) & (q.real > 0.0)].real[0]
    sigma = 0.25 / np.sqrt(-2.0 * np.log(q)) / np.sqrt(2.0)
    assert sigma == pytest.approx(0.220186, abs=1e-6)
    for scale, right in ((0.99 * sigma, True), (1.01 * sigma, False)):
        assert (accuracy(best(lambda b, s=scale: exact(logits(b), LABELS, scale=s))) == 1) == right


@pytest.mark.parametrize(
    ("k", "b"), [(1.0, 0.7000875), (2.0, 0.3604), (4.0, 0.2007), (8.0, 0.1386), (16.0, 0.1257)]
)
def test_three_points_by_cross_entropy_of_scaled_logits(k, b):
    found = best(lambda b: cross_entropy(logits(b, k), LABELS))
    assert found == pytest.approx(b, abs=1e-4)
    if k == 1.0:
        assert cross_entropy(logits(found), LABELS) == pytest.approx(0.557797, abs=1e-6)


@pytest.mark.parametrize(("temperature", "b"), [(0.3, 0.4698), (0.1, 0.1356)])
def test_three_points_by_smooth_accuracy(temperature, b):
    found = best(lambda b: losses.smooth_accuracy(logits(b, 1.0 / temperature), LABELS))
    assert found == pytest.approx(b, abs=1e-4)


def test_series_of_cross_entropy():
    """-log p = sum (1 - p)^k / k, of which poly changes the first coefficient."""
    x, y = np.array([[1.0, 0.0, 0.5]]), [0]
    wrong = losses.smooth_accuracy(x, y)
    series = sum(wrong**k / k for k in range(1, 200))
    assert cross_entropy(x, y) == pytest.approx(series, rel=1e-13)
    first_gone = losses.poly(x, y, epsilon=-1.0)
    assert first_gone == pytest.approx(series - wrong, rel=1e-13)
    ends = [losses.generalized_cross_entropy(x, y, q=q) for q in (0.0, 1.0)]
    np.testing.assert_allclose(ends, [series, wrong], rtol=1e-13)


def test_small_losses_keep_their_digits():
    x = np.float32([[60.0, 0.0, 0.0]])
    expected = 2.0 * np.exp(-60.0)
    for loss in (cross_entropy, losses.smooth_accuracy):
        value, gradient = grad(loss)(x, [0])
        assert value == pytest.approx(expected, rel=1e-6)
        assert gradient[0, 0] == pytest.approx(-expected, rel=1e-6)


def test_stretched_forms():
    x, y = np.array([[2.0, 0.0, 1.0]]), [0]
    assert losses.stretched(losses.smooth_accuracy).terms(x, y).loss is LOG_LOSS
    value, gradient = grad(losses.stretched(exact))(x, y)
    error, slope = grad(exact)(x, y)
    assert value == pytest.approx(-np.log1p(-error), rel=1e-13)
    np.testing.assert_allclose(gradient, slope / (1.0 - error), rtol=1e-12)
    s, t = np.array([0.3, -1.0, 0.5]), [1, 0, 0]
    value, gradient = grad(losses.stretched(losses.smooth_f_score))(s, t)
    error, slope = grad(losses.smooth_f_score)(s, t)
    assert value == pytest.approx(-np.log(1.0 - error), rel=1e-14)
    np.testing.assert_allclose(gradient, slope / (1.0 - error), rtol=1e-14)
    with pytest.raises(ValueError, match="errors, not focal"):
        losses.stretched(losses.focal)(x, y)
    with pytest.raises(TypeError, match="loss function"):
        losses.stretched(np.mean)


def confusion(p, y):
    """Return the counts of labels, for p of 0 and 1."""
    return (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum(), ((1 - p) * (1 - y)).sum()


def test_metrics_of_certain_predictions_are_those_of_labels():
    rng = np.random.default_rng(3)
    labels, y = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    s = np.where(labels, 200.0, -200.0)
    tp, fp, fn, tn = confusion(labels, y)
    matthews = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    expected = {
        "smooth_precision": tp / (tp + fp),
        "smooth_recall": tp / (tp + fn),
        "smooth_f_score": 2 * tp / (2 * tp + fp + fn),
        "smooth_iou": tp / (tp + fp + fn),
        "smooth_matthews": (1.0 + matthews) / 2,
    }
    for name, metric in expected.items():
        assert getattr(losses, name)(s, y) == pytest.approx(1.0 - metric, rel=1e-12)
    beta = losses.smooth_f_score(s, y, beta=2.0)
    assert beta == pytest.approx(1.0 - 5 * tp / (5 * tp + 4 * fn + fp), rel=1e-12)
    pairs = (s[y == 1][:, None] < s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0])
    assert losses.smooth_auc(s, y) == pytest.approx(pairs.mean(), rel=1e-12)


def test_slope_of_the_f_score():
    """dF/dp_i = 2 (y_i - F/2) / sum (y + p)."""
    rng = np.random.default_rng(4)
    s, y = rng.normal(size=10), rng.integers(0, 2, 10)
    p = 1.0 / (1.0 + np.exp(-s))
    value, gradient = grad(losses.smooth_f_score)(s, y)
    slope = 2.0 * (y - (1.0 - value) / 2.0) / (y + p).sum()
    np.testing.assert_allclose(gradient, -slope * p * (1.0 - p), rtol=1e-13)
    value, gradient = grad(losses.from_metric(losses.smooth_f_score))(s, y)
    weights = np.where(y == 1, slope, -slope)
    bce = np.where(y == 1, -np.log(p), -np.log1p(-p))
    assert value == pytest.approx((weights * bce).sum(), rel=1e-13)
    np.testing.assert_allclose(gradient, weights * (p - y), rtol=1e-13)


@pytest.mark.parametrize("name", SURROGATES)
def test_cross_entropy_of_a_metric_falls_where_the_metric_rises(name):
    rng = np.random.default_rng(5)
    s, y = rng.normal(size=20), rng.integers(0, 2, 20)
    loss = getattr(losses, name)
    _, toward = grad(losses.from_metric(loss))(s, y)
    _, gradient = grad(loss)(s, y)
    np.testing.assert_array_equal(np.sign(toward), np.sign(gradient))
    assert np.sign(gradient).any()


def test_metrics_of_nothing_have_no_error():
    s = np.zeros(3)
    for name in ("smooth_recall", "smooth_auc", "smooth_matthews"):
        value, gradient = grad(getattr(losses, name))(s, [0, 0, 0])
        assert value == 0.0
        assert not gradient.any()


@pytest.mark.parametrize("name", ["f_score", "iou", "precision", "recall", "matthews", "auc"])
def test_metrics_of_groups_without_labels_and_of_weights(name):
    metric = getattr(losses, f"smooth_{name}")
    for shape in ((2, 0), (0, 2)):
        empty = np.zeros(shape)
        np.testing.assert_array_equal(metric(empty, empty, axis=1, reduction="none"), empty.sum(1))
    s, y, seen = np.array([0.5, -1.0, 2.0]), [1, 0, 1], [True, True, False]
    expected = metric(s[:2], y[:2])
    assert metric(s, y, mask=seen, sample_weight=[1.0, 1.0, np.nan]) == expected
    for wrong in (np.nan, np.inf, -1.0):
        with pytest.raises(ValueError, match=rf"sample_weight >= 0 .* not {wrong} at \[1\]"):
            metric(s, y, sample_weight=[1.0, wrong, 1.0])
    with pytest.raises(ValueError, match=r"sample_weight that broadcasts to \(3,\), .* \(2, 1\)"):
        metric(s, y, sample_weight=[[1.0], [1.0]])
    with pytest.raises(ValueError, match=r"mask that broadcasts to \(3,\), not of shape \(2,\)"):
        metric(s, y, mask=[True, False])


def test_f_scores_tend_to_recall_and_precision():
    rng = np.random.default_rng(7)
    s, y = rng.normal(size=9), rng.random(9) > 0.5
    for beta, limit in ((0.0, losses.smooth_precision), (1e-9, losses.smooth_precision)):
        assert losses.smooth_f_score(s, y, beta=beta) == pytest.approx(limit(s, y), rel=1e-14)
    for beta in (1e9, 1e200, 1e308):
        value, gradient = grad(losses.smooth_f_score)(s, y, beta=beta)
        expected, slopes = grad(losses.smooth_recall)(s, y)
        assert value == pytest.approx(expected, rel=1e-14)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-14, atol=1e-17)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="beta >= 0 and finite"):
            losses.smooth_f_score(s, y, beta=wrong)


def test_balanced_accuracy_of_nothing_has_no_error():
    with np.errstate(all="raise"):
        value, gradient = grad(losses.smooth_balanced_accuracy)(np.eye(2), [-100, -100])
    assert value == 0.0
    assert not gradient.any()


def test_auc_of_many_pairs_in_blocks():
    rng = np.random.default_rng(6)
    s, y = rng.normal(size=3000), rng.integers(0, 2, 3000)
    value, gradient = grad(losses.smooth_auc)(s, y)
    assert value == pytest.approx(reference.smooth_auc(s, y), rel=1e-12)
    assert gradient.sum() == pytest.approx(0.0, abs=1e-15)


def test_schedules():
    schedule = losses.GeometricSchedule(10.0, 0.01)
    np.testing.assert_allclose([schedule(x / 3) for x in range(4)], [10.0, 1.0, 0.1, 0.01])
    assert schedule(2.0) == pytest.approx(0.01)
    assert losses.CrossEntropyFirst(start=0.5, ramp=0.0)(0.6) == 1.0
    with pytest.raises(ValueError, match="final > 0"):
        losses.GeometricSchedule(1.0, 0.0)
    with pytest.raises(ValueError, match="ramp >= 0"):
        losses.CrossEntropyFirst(ramp=-1.0)
    with pytest.raises(ValueError, match="start <= 1"):
        losses.CrossEntropyFirst(start=1.5)


def test_both_quadratures_agree():
    """A scale that differs by class goes another way than one scale, and as far into the tail."""
    rng = np.random.default_rng(7)
    for n, spread in ((2, 1.0), (20, 3.0), (300, 0.5), (40, 300.0)):
        x, y = spread * rng.normal(size=(5, n)), rng.integers(0, n, 5)
        scale = np.full((6, n), 0.7)
        scale[5, 0] = 0.71  # no longer one scale, and a row that is not looked at
        both = np.vstack([x, x[:1]]), np.append(y, y[0])
        loss = losses.value_and_grad(losses.stretched(exact))
        value, gradient = loss(*both, scale=scale, reduction="none")
        kernel, slopes = loss(x, y, scale=0.7, reduction="none")
        assert (abs(value[:5] - kernel) <= 1e-12 * np.maximum(1.0, kernel)).all()
        largest = abs(slopes).max(1, keepdims=True)
        assert (abs(gradient[:5] - slopes) <= 2e-9 * largest).all()


def test_rows_that_are_not_numbers():
    x = np.array([[0.0, np.nan, 1.0], [INF, 0.0, 0.0], [0.0, 1.0, 2.0]])
    value, gradient = grad(exact)(x, [0, 0, 0], reduction="none")
    assert np.isnan(value[:2]).all()
    assert np.isnan(gradient[:2]).all()
    assert value[2] == exact(x[2:], [0])
    assert np.isfinite(gradient[2]).all()
