"""What surrounds the EXACT loss in training, and the losses that it is compared with."""

import numpy as np
import pytest

from logitkit import losses
from logitkit.reference import losses as reference

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

INF = float("inf")
grad = losses.value_and_grad
X = np.array([[2.0, 0.0, 1.0, -1.0], [0.5, 0.25, -0.5, 3.0], [1.0, 1.0, 0.0, 0.5]])
MASK = np.array([[True, True, False, True], [True, True, True, False], [False, True, True, True]])


@pytest.mark.parametrize("mask", [None, MASK])
def test_standardized_is_that_of_the_reference(mask):
    actual = losses.standardized(X, mask=mask)
    np.testing.assert_allclose(actual, reference.standardized(X, mask=mask), rtol=1e-14)
    g = np.cos(np.arange(12.0)).reshape(3, 4)
    vjp = losses.standardized_vjp(X, g, mask=mask)
    np.testing.assert_allclose(vjp, reference.standardized_vjp(X, g, mask=mask), atol=1e-15)
    direction, h = np.sin(np.arange(12.0)).reshape(3, 4), 1e-6
    up, down = (reference.standardized(X + s * direction, mask=mask) for s in (h, -h))
    assert (vjp * direction).sum() == pytest.approx((g * (up - down)).sum() / (2 * h), rel=1e-8)


def test_standardized_has_one_mean_and_one_deviation():
    z = losses.standardized(X)
    assert z.mean() == pytest.approx(0.0, abs=1e-15)
    assert z.std() == pytest.approx(1.0, rel=1e-14)
    np.testing.assert_allclose(losses.standardized(5.0 * X - 3.0), z, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(z.argmax(1), X.argmax(1))
    vjp = losses.standardized_vjp(X, X**2)
    assert vjp.sum() == pytest.approx(0.0, abs=1e-14)
    assert (vjp * X).sum() == pytest.approx(0.0, abs=1e-13)  # the scale does not matter


def test_standardized_of_special_values():
    x = np.array([[1.0, -INF], [3.0, 1.0]])
    z = losses.standardized(x)
    assert z[0, 1] == -INF
    np.testing.assert_allclose(z[x > -INF].mean(), 0.0, atol=1e-15)
    assert losses.standardized_vjp(x, np.ones((2, 2)))[0, 1] == 1.0
    equal = np.full((2, 3), 7.0)
    assert not losses.standardized(equal).any()
    assert not losses.standardized_vjp(equal, X[:2, :3]).any()
    assert losses.standardized(np.zeros((0, 3))).shape == (0, 3)
    assert losses.standardized(np.float32(X)).dtype == np.float32
    with pytest.raises(TypeError, match="truth values"):
        losses.standardized(X, mask=np.ones(4))


def test_truncated_classes_are_those_of_the_reference():
    x = np.round(np.random.default_rng(0).normal(size=(6, 7)), 1)  # with ties
    y = np.array([0, 6, 3, -1, 2, 2])
    for rivals in (1, 3, 6, 9):
        actual = losses.truncate_classes(x, y, rivals=rivals)
        np.testing.assert_array_equal(actual, reference.truncate_classes(x, y, rivals=rivals))
        moved = losses.truncate_classes(x.T, y, rivals=rivals, axis=0)
        np.testing.assert_array_equal(moved, actual.T)
    full = losses.truncate_classes(x, y, rivals=6)
    np.testing.assert_array_equal(full, x)


def test_truncation_bounds_the_accuracy():
    x, y = np.random.default_rng(1).normal(size=(5, 20)), np.arange(5)
    errors = [
        losses.expected_accuracy(losses.truncate_classes(x, y, rivals=k), y, reduction="none")
        for k in (1, 5, 19)
    ]
    assert (np.diff(errors, axis=0) > 0.0).all()
    np.testing.assert_array_equal(errors[2], losses.expected_accuracy(x, y, reduction="none"))
    short = losses.truncate_classes(x, y, rivals=2)
    _, gradient = grad(losses.expected_accuracy)(short, y)
    assert (np.count_nonzero(gradient, axis=1) == 3).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.truncate_classes(X, [0, 1, 4], rivals=1), ValueError, r"0 to 3.*not 4"),
        (lambda: losses.truncate_classes(X, [0, 1], rivals=1), ValueError, r"shape \(3,\)"),
        (lambda: losses.truncate_classes(X, [0, 1, 2], rivals=0), ValueError, "rivals >= 1"),
        (lambda: losses.truncate_classes(X, X[:, 0], rivals=1), TypeError, "integers"),
        (lambda: losses.GradientNormalizer(decay=1.0), ValueError, "decay < 1, not 1.0"),
        (lambda: losses.GradientNormalizer(floor=0.0), ValueError, "floor > 0"),
        (lambda: losses.LinearSchedule(0.0, INF), ValueError, "final to be finite, not inf"),
        (lambda: losses.hinge(X, [0, 1, 2], margin=0.0), ValueError, "margin > 0"),
        (lambda: losses.hinge(X, 0.0 * X + 0.25), ValueError, "a class for each row"),
        (lambda: losses.beta_bernoulli(X, [0, 1, 2], share=1.0), ValueError, "share < 1"),
        (lambda: losses.beta_bernoulli(X, [0, 1, 2], prior=0.0), ValueError, "0 < prior"),
    ],
)
def test_errors_name_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_gradient_normalizer_is_a_moving_average():
    normalize, average, expected = losses.GradientNormalizer(), None, None
    for step, norm in enumerate([5.0, 1.0, 0.1, 1e-6]):
        gradients = (np.array([0.6 * norm]), np.array([[0.0, 0.8 * norm]], np.float32))
        scaled, average = normalize(gradients, average)
        expected = norm if step == 0 else 0.9 * expected + 0.1 * norm
        assert average == pytest.approx(expected, rel=1e-6)
        assert scaled[0] == pytest.approx(0.6 * norm / expected, rel=1e-6)
        assert scaled[1].dtype == np.float32
    small = normalize([np.array([1e-4])])
    assert small.gradients[0] == pytest.approx(1e-2, rel=1e-12)  # the floor
    assert normalize([np.array([np.nan])], 2.0).average == 2.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_norms_of_large_and_small_gradients(dtype):
    """The squares of these do not fit into their types."""
    limits = np.finfo(dtype)
    normalize = losses.GradientNormalizer(floor=1e-320)
    for size in (float(limits.max) / 4.0, float(limits.smallest_normal) * 4.0):
        found = normalize(
            [np.full(3, size, dtype), np.full((1, 1), size, dtype), np.ones(0, dtype)]
        )
        assert found.average == pytest.approx(2.0 * size, rel=1e-14)
        np.testing.assert_allclose(found.gradients[0], 0.5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_standardized_keeps_its_digits_far_from_zero_and_at_the_ends(dtype):
    far = dtype(2.0 ** (np.finfo(dtype).nmant - 3))
    x = far + np.arange(8).astype(dtype)
    z = (np.arange(8) - 3.5) / np.sqrt(5.25)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(losses.standardized(x), z, rtol=eps)
    for size in (np.finfo(dtype).max / 8, np.finfo(dtype).smallest_normal):
        x = dtype(size) * np.arange(8).astype(dtype)
        np.testing.assert_allclose(losses.standardized(x), z, rtol=2.0 * eps)
    np.testing.assert_array_equal(
        losses.standardized(np.array([np.inf, 1.0]), mask=[True, True]), [np.nan, np.nan]
    )


def test_linear_schedule_ends_where_it_should():
    schedule = losses.LinearSchedule(0.1, 0.3)
    assert (schedule(0.0), schedule(1.0), schedule(9.0)) == (0.1, 0.3, 0.3)


def test_worked_numbers_of_leads():
    lead = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    x = np.stack([lead, np.zeros(7), np.full(7, -0.3)], 1)
    y = np.zeros(7, int)
    hinge = losses.hinge(x, y, reduction="none")
    np.testing.assert_allclose(hinge, [3.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0], rtol=1e-15)
    cubic = losses.polynomial_zero_one(x, y, reduction="none")
    expected = [1.0, 1.0, 0.84375, 0.5, 0.15625, 0.0, 0.0]
    np.testing.assert_allclose(cubic, expected, rtol=1e-15)
    smooth = losses.sigmoid_zero_one(x, y, gain=4.0, reduction="none")
    np.testing.assert_allclose(smooth, 1.0 / (1.0 + np.exp(4.0 * lead)), rtol=1e-14)


def test_three_points_by_hinge():
    """X - b on -1/4, 0 and 1/4: least for b in [3/4, 1], where one of three is wrong."""

    def loss(b, k=1.0):
        f = k * (np.array([-0.25, 0.0, 0.25]) - b)
        return losses.hinge(np.stack([0.0 * f, f], 1), [0, 0, 1])

    np.testing.assert_allclose([loss(0.75), loss(0.9), loss(1.0)], 0.583333, atol=5e-7)
    assert loss(0.7) > loss(0.75)
    assert loss(1.05) > loss(1.0)
    # Times 8 it is zero where it separates them, for b = 1/8 alone.
    assert loss(0.125, 8.0) == 0.0
    assert min(loss(0.12, 8.0), loss(0.13, 8.0)) > 0.0


def test_small_errors_keep_their_digits():
    t = 2.0**-30  # what is missing of the width
    x = np.array([[1.0 - t, 0.0], [60.0, 0.0]])
    cubic = losses.polynomial_zero_one(x, [0, 0], reduction="none")[0]
    assert cubic == pytest.approx(0.25 * t * t * (3.0 - t), rel=1e-14)
    smooth = losses.sigmoid_zero_one(x, [0, 0], reduction="none")[1]
    assert smooth == pytest.approx(np.exp(-60.0), rel=1e-14)


def test_leads_without_others_and_ties():
    for name in ("hinge", "sigmoid_zero_one", "polynomial_zero_one"):
        step = grad(getattr(losses, name))
        value, gradient = step([[7.0]], [0])
        assert (value, gradient[0, 0]) == (0.0, 0.0)
        value, gradient = step([[0.0, -INF]], [0])
        assert value == 0.0
        assert not gradient.any()
        lost, _ = step([[-INF, 0.0]], [0])
        assert lost == (INF if name == "hinge" else 1.0)
        _, gradient = step([[0.25, 0.5, 0.5]], [0])
        assert gradient[0, 2] == 0.0
        assert gradient[0, 1] == -gradient[0, 0] > 0.0


def test_beta_bernoulli_is_bounded_cross_entropy():
    x, y = np.array([[0.0, 800.0], [800.0, 0.0]]), [0, 0]
    values = losses.beta_bernoulli(x, y, share=0.2, prior=0.3, reduction="none")
    np.testing.assert_allclose(values, [-np.log(0.06), -np.log(0.86)], rtol=1e-14)
    plain = losses.beta_bernoulli(X, [0, 1, 2], share=0.0)
    assert plain == losses.focal(X, [0, 1, 2], gamma=0.0)
    # As a Bernoulli model with a Beta(a, b) prior that has seen one observation of mean p.
    a, b, p = 0.5, 2.0, 0.7
    value = losses.beta_bernoulli(np.log([[p, 1 - p]]), [0], share=(a + b) / (a + b + 1), prior=a / (a + b))  # fmt: skip
    assert value == pytest.approx(-np.log((a + p) / (a + b + 1)), rel=1e-14)


def test_tensors():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    y, g = np.array([0, 1, 2]), np.cos(np.arange(12.0)).reshape(3, 4)
    for mask in (None, torch.tensor(MASK)):
        z = losses.standardized(x, mask=mask)
        (gradient,) = torch.autograd.grad((z * torch.tensor(g)).sum(), x)
        host = None if mask is None else MASK
        np.testing.assert_allclose(z.detach(), losses.standardized(X, mask=host), rtol=1e-14)
        np.testing.assert_allclose(gradient, losses.standardized_vjp(X, g, mask=host), atol=1e-15)
        again = losses.standardized_vjp(x.detach(), torch.tensor(g), mask=mask)
        np.testing.assert_allclose(again, gradient, atol=1e-15)
    assert torch.autograd.gradcheck(losses.standardized, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(losses.standardized, (x,))
    equal = torch.full((2, 2), 3.0, dtype=torch.float64, requires_grad=True)
    losses.standardized(equal)[0, 0].backward()
    assert not equal.grad.isnan().any()
    short = losses.truncate_classes(x, torch.tensor(y), rivals=1)
    np.testing.assert_array_equal(short.detach(), losses.truncate_classes(X, y, rivals=1))
    losses.expected_accuracy(short, torch.tensor(y)).backward()
    _, expected = grad(losses.expected_accuracy)(losses.truncate_classes(X, y, rivals=1), y)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-12, atol=1e-16)
    assert (np.count_nonzero(x.grad, axis=1) == 2).all()
    normal = losses.GradientNormalizer()([x.grad])
    assert isinstance(normal.gradients[0], torch.Tensor)
    torch.testing.assert_close(normal.gradients[0], x.grad / x.grad.norm())

    target = torch.tensor(y)

    def recipe(x):
        z = losses.standardized(losses.truncate_classes(x, target, rivals=2))
        return losses.expected_accuracy(z, target, scale=0.5)

    compiled = torch.compile(recipe, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), recipe(x), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.GeometricSchedule("10"),
        lambda: losses.LinearSchedule(None, 1.0),
        lambda: losses.CrossEntropyFirst(start="0"),
        lambda: losses.LinearSchedule(0.0, 1.0)("a"),
    ],
)
def test_schedules_of_what_is_no_number(call):
    with pytest.raises(TypeError, match="as one number, not"):
        call()
