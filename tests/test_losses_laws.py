"""What holds for every loss: its reference, exact gradients, and what is left out."""

import inspect

import numpy as np
import pytest
from loss_cases import CASES, ERRORS, LABELS, METRICS, function

import logitkit
from logitkit import losses
from logitkit.reference import losses as reference

NAN = float("nan")
each = pytest.mark.parametrize(
    "case", CASES, ids=[f"{i}-{case.name}" for i, case in enumerate(CASES)]
)
NAMES = sorted({case.name for case in CASES})


def reference_of(case):
    return lambda *args, **more: getattr(reference, case.name)(
        *args, *case.args[len(args) :], **case.options, **more
    )


def varied(case):
    return case.args[: case.differentiable]


@each
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", np.max])
def test_value_is_that_of_the_reference(case, reduction):
    actual = function(case)(*varied(case), reduction=reduction)
    expected = reference_of(case)(*varied(case), reduction=reduction)
    error = ERRORS.get(case.name, 1e-12)
    np.testing.assert_allclose(actual, expected, rtol=error, atol=error)


@each
def test_gradient_is_that_of_differences(case):
    argnums = tuple(range(case.differentiable))
    step = losses.value_and_grad(getattr(losses, case.name), argnums)
    value, gradients = step(*case.args, **case.options)
    assert value == getattr(losses, case.name)(*case.args, **case.options)
    if case.options.get("form") == "debiased":
        return  # not the gradient of its value
    loss = reference_of(case)
    # Rows of probabilities stay so in one direction less: PyTorch's tests vary them.
    if case.differentiable == 2 and case.name not in LABELS:
        gradients = (gradients[0],)
    for i, gradient in enumerate(gradients):
        assert gradient.shape == case.args[i].shape
        for at in np.ndindex(*gradient.shape):
            change = np.zeros(gradient.shape)
            change[at] = 1e-5
            args = list(varied(case))
            ends = [loss(*args[:i], args[i] + sign * change, *args[i + 1 :]) for sign in (1, -1)]
            # The step leaves an error of its square, and rounding one of 1e-16 over it.
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient[at], rel=1e-7, abs=1e-9)


@each
def test_float32_is_float64_rounded(case):
    args = [x.astype(np.float32) if x.dtype == np.float64 else x for x in case.args]
    step = losses.value_and_grad(getattr(losses, case.name))
    value, gradient = step(*args, **case.options)
    assert value.dtype == gradient.dtype == np.float32
    wide = [x.astype(np.float64) if x.dtype == np.float32 else x for x in args]
    expected, exact = step(*wide, **case.options)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-7)


@each
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradient_of_none_is_that_of_the_sum(case, reduction):
    step = losses.value_and_grad(getattr(losses, case.name))
    _, of_sum = step(*case.args, **case.options, reduction="sum")
    values, gradient = step(*case.args, **case.options, reduction="none")
    np.testing.assert_array_equal(gradient, of_sum)
    total = np.sum(values) if reduction == "sum" else np.sum(values) / 7.0
    more = {"denominator": 7.0} if reduction == "mean" else {}
    value, scaled = step(*case.args, **case.options, reduction=reduction, **more)
    assert value == pytest.approx(total, rel=1e-14)
    np.testing.assert_allclose(scaled * (7.0 if more else 1.0), of_sum, rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_that_of_the_reference(name):
    ours = inspect.signature(getattr(losses, name)).parameters
    theirs = inspect.signature(getattr(reference, name)).parameters
    if any(p.kind is p.VAR_KEYWORD for p in theirs.values()):
        theirs = {k: v for k, v in theirs.items() if v.kind is not v.VAR_KEYWORD}
        assert set(theirs) <= set(ours)
    else:
        assert list(ours) == list(theirs)
    for key, parameter in theirs.items():
        assert ours[key].default == parameter.default


def with_another_row(case, x, position):
    """Return an argument with one row more, that of NaN for logits, if it has rows."""
    rows = case.args[0].shape[0]
    if not isinstance(x, np.ndarray) or x.shape[:1] != (rows,):
        return x
    fill = NAN if position == 0 else x[:1]
    return np.concatenate([x, np.full((1, *x.shape[1:]), fill, x.dtype)])


@each
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_a_row_that_is_left_out_changes_nothing(case, reduction):
    if case.name == "span_cross_entropy" or case.options.get("axis", -1) != -1:
        pytest.skip("no rows are left out")
    if case.name in METRICS:
        pytest.skip("labels are left out, which the reference does")
    args = [with_another_row(case, x, i) for i, x in enumerate(case.args)]
    rows = len(args[0])
    options = dict(case.options)
    of_labels = case.name in LABELS
    shape = args[0].shape if of_labels else (rows,)
    if case.name == "grouped_cross_entropy":
        shape = args[0].shape[:2]
        if "segments" in options:
            options["segments"] = np.concatenate([options["segments"], [[0, 1, 2, 0]]])
    mask = np.ones(shape, bool)
    if "mask" in options:
        mask[:-1] = options["mask"]
    mask[-1] = False
    if "threshold" in options:
        options["threshold"] = np.append(options["threshold"], NAN)
    options["mask"] = mask
    step = losses.value_and_grad(getattr(losses, case.name))
    value, gradient = step(*args, **options, reduction=reduction)
    expected, before = step(*case.args, **case.options, reduction=reduction)
    if np.shape(value) != np.shape(expected):
        assert value[-1] == 0.0
        value = value[:-1]
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient[:-1], before)
    assert not gradient[-1].any()


def test_ignored_classes_do_not_count():
    x, y = np.array([[0.0, 1.0], [NAN, NAN], [2.0, 0.0]]), np.array([1, -100, 0])
    step = losses.value_and_grad(losses.focal)
    value, gradient = step(x, y, weight=[1.0, 3.0], label_smoothing=0.1)
    expected, short = step(x[[0, 2]], y[[0, 2]], weight=[1.0, 3.0], label_smoothing=0.1)
    assert value == expected
    np.testing.assert_array_equal(gradient, [short[0], [0.0, 0.0], short[1]])


def test_the_mean_of_nothing_is_nan_and_has_no_gradient():
    value, gradient = losses.value_and_grad(losses.poly)(np.zeros((2, 3)), [-100, -100])
    assert np.isnan(value)
    assert not gradient.any()


def test_class_weights_divide_a_mean_as_in_pytorch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(6, 4))
    y, weight = np.array([0, 1, -100, 3, 1, 2]), np.array([1.0, 2.0, 0.5, 4.0])
    for smoothing in (0.0, 0.2):
        expected = torch.nn.functional.cross_entropy(
            torch.tensor(x), torch.tensor(y), torch.tensor(weight), label_smoothing=smoothing
        )
        actual = losses.focal(x, y, gamma=0.0, weight=weight, label_smoothing=smoothing)
        assert actual == pytest.approx(expected.item(), rel=1e-13)


@each
def test_axis_and_sample_weight(case):
    if case.name == "grouped_cross_entropy":
        pytest.skip("has axes of items")
    laid_out = {"mask", "threshold", "axis", "sample_weight"}
    if laid_out & set(case.options) or case.name in METRICS or case.name.startswith("s"):
        pytest.skip("laid out with the rows")
    loss = function(case)
    rows = case.args[0].shape[0]
    sample_weight = np.linspace(0.5, 2.0, rows)
    values = loss(*varied(case), reduction="none")
    moved = [x.T if x.ndim == 2 else x for x in case.args]
    actual = getattr(losses, case.name)(
        *moved, **case.options, axis=0, sample_weight=sample_weight, reduction="none"
    )
    np.testing.assert_array_equal(actual, values * sample_weight)
    _, gradient = losses.value_and_grad(getattr(losses, case.name))(
        *moved, **case.options, axis=0, sample_weight=sample_weight
    )
    assert gradient.shape == moved[0].shape


@each
@pytest.mark.parametrize("special", [NAN, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_stays_in_its_row(case, special, dtype):
    """And raises no warning, which here would be an error."""
    x = case.args[0].astype(dtype)
    others = case.args[1:]
    step = losses.value_and_grad(getattr(losses, case.name))
    rows_alone = case.options.get("axis", -1) == -1 and case.name not in METRICS
    if case.name == "grouped_cross_entropy":
        rows_alone = case.options.get("over") is not None
    values, gradient = step(x, *others, **case.options, reduction="none")
    for at in (0, (0, 0), (0, 1), (0, -1)):
        changed = x.copy()
        changed[at] = special
        found, slopes = step(changed, *others, **case.options, reduction="none")
        if rows_alone and np.ndim(values):
            np.testing.assert_array_equal(found[1:], values[1:])
            np.testing.assert_array_equal(slopes[1:], gradient[1:])


@each
def test_memory_order_does_not_matter(case):
    """Not that of arrays with several axes, nor the sign of their strides."""
    step = losses.value_and_grad(getattr(losses, case.name), tuple(range(case.differentiable)))
    value, gradients = step(*case.args, **case.options)

    def lies_otherwise(x):
        return np.asfortranarray(x)[..., ::-1].copy(order="F")[..., ::-1] if np.ndim(x) else x

    args = [lies_otherwise(x) for x in case.args]
    options = {
        k: lies_otherwise(x) if isinstance(x, np.ndarray) else x for k, x in case.options.items()
    }
    found, slopes = step(*args, **options)
    assert found == pytest.approx(value, rel=1e-14)
    for a, b in zip(slopes, gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


TYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "name", ["cross_entropy", "focal", "hinge", "entmax_loss", "grouped_cross_entropy"]
)
def test_classes_of_any_integer_type(name, dtype):
    """With the default ignore_index, -100, and rows that are left out, which become -1."""
    loss, rng = getattr(losses, name), np.random.default_rng(1)
    x, y = rng.normal(size=(3, 120)), np.array([100, 3, 7])
    for options in ({}, {"mask": np.array([True, False, True])}, {"ignore_index": 7}):
        expected = loss(x, y, **options)
        assert loss(x, y.astype(dtype), **options) == expected


def test_a_class_beyond_all_integers_is_none():
    for wrong in (2**64 - 1, 2**64 - 100, 2**63):  # -1 and -100, if taken for int64
        with pytest.raises(ValueError, match="class from 0 to 2"):
            losses.focal(np.zeros((1, 3)), np.array([wrong], np.uint64))


def test_one_class_that_is_ignored():
    for loss in (losses.cross_entropy, losses.focal):
        value = loss(np.zeros((2, 1)), [0, 0], ignore_index=0, reduction="none")
        np.testing.assert_array_equal(value, [0.0, 0.0])


def test_an_empty_list_is_one_of_classes():
    assert np.isnan(losses.cross_entropy(np.zeros((0, 3)), []))
    x = np.array([[0.5, -1.0], [2.0, 0.0]])
    none = losses.sparse_multilabel_cross_entropy(x, [[], []])
    assert none == losses.sparse_multilabel_cross_entropy(x, [[-1], [-1]])


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("n", [5, 50_000])
def test_probabilities_that_were_rounded_to_a_short_type_sum_to_one(kind, n):
    dtype = getattr(pytest.importorskip("ml_dtypes"), kind) if kind == "bfloat16" else kind
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(8, n)), rng.dirichlet(np.ones(n), 8)
    rounded = t.astype(dtype)
    value = losses.cross_entropy(x, rounded)
    assert value == pytest.approx(losses.cross_entropy(x, t), rel=1e-2)
    losses.linear_cross_entropy(rng.normal(size=(8, 2)), rng.normal(size=(n, 2)), rounded)
    with pytest.raises(ValueError, match="sum to 1"):
        losses.cross_entropy(x, (0.9 * t).astype(dtype))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: losses.focal(x, [0, 1], gamma="2"), "expected gamma as one number, not '2'"),
        (lambda x: losses.focal(x, [0, 1], label_smoothing=None), "label_smoothing .* not None"),
        (lambda x: losses.focal(x, [0, 1], z_loss=[1.0]), "z_loss as one number"),
        (lambda x: losses.focal(x, [0, 1], axis=1.0), "axis as one integer, not 1.0"),
        (lambda x: losses.cross_entropy(x, [0, 1], axis=(0, 1)), r"axis .* not \(0, 1\)"),
        (lambda x: losses.multilabel_cross_entropy(x, x, axis=None), "axis .* not None"),
        (lambda x: losses.focal(x, [0, 1], ignore_index="a"), "ignore_index as an integer"),
        (lambda x: losses.cross_entropy(x, [0, 1], ignore_index=1.0), "ignore_index as an integer"),
        (lambda x: losses.focal(x, [0, 1], denominator=[1.0, 2.0]), "denominator as one number"),
        (lambda x: losses.focal(x, [0, 1], denominator="2"), "denominator as one number"),
        (lambda x: losses.smooth_top_k_accuracy(x, [0, 1], k=1.5), "k as an integer, not 1.5"),
        (lambda x: losses.truncate_classes(x, [0, 1], rivals=1.5), "rivals as an integer"),
        (lambda x: losses.combinatorial_cross_entropy(x, x > 0, at_most=1.5), "at_most as an int"),
        (lambda x: losses.expected_accuracy(x, [0, 1], margin="1"), "margin as one number"),
        (lambda x: losses.fenchel_young(x, [0, 1], scale=[1.0, 2.0]), "scale as one number"),
        (lambda x: losses.smooth_f_score(x, x > 0, beta="1"), "beta as one number"),
    ],
)
def test_numbers_of_the_wrong_type_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call(np.zeros((2, 3)))


def test_errors_name_the_value_and_its_place():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"class from 0 to 2 in target.*not 3 at \[1\]"):
        losses.focal(x, [0, 3])
    with pytest.raises(ValueError, match=r"sum to 1, not 0\.5 in row \[1\]"):
        losses.focal(x, [[0.0, 0.0, 1.0], [0.5, 0.0, 0.0]])
    with pytest.raises(ValueError, match=r"from 0 to 1, not 2 at \[1, 0\]"):
        losses.multilabel_cross_entropy(x, [[0, 1, 1], [2, 0, 0]])
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        losses.focal(x, [0, 1, 2])
    with pytest.raises(ValueError, match=r"expected prior > 0 and finite, not 0\.0 of class 1"):
        losses.logit_adjusted_cross_entropy(x, [0, 1], prior=[1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="reduction"):
        losses.focal(x, [0, 1], reduction="avg")
    with pytest.raises(ValueError, match=r"reduction .* not array\("):
        losses.focal(x, [0, 1], reduction=np.zeros(2))
    with pytest.raises(ValueError, match="gamma >= 0"):
        losses.focal(x, [0, 1], gamma=-1.0)
    with pytest.raises(ValueError, match=r"sample_weight that broadcasts to \(2,\), .* \(2, 1\)"):
        losses.focal(x, [0, 1], sample_weight=[[1.0], [1.0]])
    with pytest.raises(ValueError, match=r"mask that broadcasts to \(2,\), not of shape \(3,\)"):
        losses.focal(x, [0, 1], mask=[True] * 3)
    with pytest.raises(ValueError, match=r"mask that broadcasts to \(2, 3\), not of shape \(2,\)"):
        losses.multilabel_cross_entropy(x, x, mask=[True] * 2)
    with pytest.raises(ValueError, match=r"threshold that broadcasts to \(2,\), .* \(3,\)"):
        losses.multilabel_cross_entropy(x, x, threshold=np.zeros(3))
    with pytest.raises(ValueError, match="scale > 0 and finite, not 0"):
        losses.expected_accuracy(x, [0, 1], scale=0)
    with pytest.raises(ValueError, match=r"scale > 0 and finite, not nan at \[2\]"):
        losses.expected_accuracy(x, [0, 1], scale=[1.0, 1.0, np.nan])
    with pytest.raises(ValueError, match=r"scale that broadcasts to \(2, 3\)"):
        losses.expected_accuracy(x, [0, 1], scale=[1.0, 1.0])
    with pytest.raises(TypeError, match=r"law of noise, .* not 'normal'"):
        losses.fenchel_young(x, [0, 1], noise="normal")
    with pytest.raises(ValueError, match="argnums"):
        losses.value_and_grad(losses.focal, 2)(x, [0, 1])
    with pytest.raises(ValueError, match=r"argnums without repetition, not \(0, 0\)"):
        losses.value_and_grad(losses.focal, (0, 0))
    with pytest.raises(TypeError, match=r"argnums as an integer, not 1\.5"):
        losses.value_and_grad(losses.focal, 1.5)
    with pytest.raises(ValueError, match="margin to be finite, not nan"):
        losses.circle_loss(x, x, margin=np.nan)
    with pytest.raises(ValueError, match=r"threshold that broadcasts to \(2, 3\), .* \(2,\)"):
        losses.multilabel_labels(x, threshold=[0.0, 1.0])
    with pytest.raises(TypeError, match="loss function"):
        losses.value_and_grad(logitkit.softmax)
