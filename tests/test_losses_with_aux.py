"""Losses of classes that return log-sum-exp, accuracy and entropy of the rows, too."""

import pickle

import numpy as np
import pytest
from loss_cases import CASES, ERRORS

from logitkit import losses
from logitkit.reference import losses as reference

NAMES = {name.removesuffix("_with_aux") for name in losses.__all__ if name.endswith("_with_aux")}
OPTIONS = {"smooth_top_k_accuracy": {"k": 2}}  # by default as many classes as 5
OF_CLASSES = [case for case in CASES if case.name in NAMES]


def test_every_loss_of_classes_has_one():
    named = {case.name: case for case in CASES}
    found = {"linear_cross_entropy"}  # whose rows are those of a layer
    for name, case in named.items():
        terms = getattr(losses, name).terms(*case.args, **case.options)
        if getattr(terms, "classes", None) is not None:
            found.add(name)
    assert found == NAMES - {"smooth_balanced_accuracy"}  # of whole batches: not among the cases


@pytest.mark.parametrize(
    "case", OF_CLASSES, ids=[f"{i}-{case.name}" for i, case in enumerate(OF_CLASSES)]
)
def test_statistics_are_those_of_the_reference(case):
    keep = np.array([True] * (len(case.args[0]) - 1) + [False])
    for options in (case.options, {**case.options, "mask": keep}):
        aux = getattr(losses, f"{case.name}_with_aux")(*case.args, **options)
        assert aux.loss == getattr(losses, case.name)(*case.args, **options)
        expected = reference.with_aux(getattr(reference, case.name))(*case.args, **options)
        error = ERRORS.get(case.name, 1e-12)
        for ours, theirs in zip(aux, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=error, atol=error)
    assert aux.logsumexp[-1] == aux.accuracy[-1] == aux.entropy[-1] == 0.0


def test_rows_that_are_left_out_may_hold_anything():
    x, y = np.array([[0.0, 1.0], [np.nan, np.inf], [3.0, 0.0]]), [1, -100, 1]
    for name in sorted(NAMES - {"linear_cross_entropy", "logit_adjusted_cross_entropy"}):
        aux = getattr(losses, f"{name}_with_aux")(x, y, **OPTIONS.get(name, {}))
        np.testing.assert_array_equal(aux.accuracy, [1.0, 0.0, 0.0])
        assert aux.entropy[1] == aux.logsumexp[1] == 0.0
        assert np.isfinite(aux.loss)


def test_logit_adjustment_leaves_the_statistics_alone():
    """The rule for unseen data is argmax of the logits, without the prior."""
    x = [[0.5, 0.0], [0.0, 0.5]]
    aux = losses.logit_adjusted_cross_entropy_with_aux(x, [0, 1], prior=[0.01, 0.99])
    np.testing.assert_array_equal(aux.accuracy, [1.0, 1.0])


def test_types():
    aux = losses.focal_with_aux(np.float32([[0.0, 1.0]]), [1])
    assert all(part.dtype == np.float32 for part in aux)
    half = losses.focal_with_aux(np.float16([[0.0, 1.0]]), [1])
    assert all(part.dtype == np.float16 for part in half)


def test_losses_made_of_others():
    x, y = np.array([[0.3, 1.0, -2.0]]), [0]
    loss = losses.stretched(losses.expected_accuracy)
    aux = losses.with_aux(loss)(x, y, scale=0.5)
    assert aux.loss == loss(x, y, scale=0.5)
    assert aux.accuracy == 0.0


def test_losses_without_classes_are_refused():
    with pytest.raises(TypeError, match="one class in each row, not multilabel"):
        losses.with_aux(losses.multilabel_cross_entropy)(np.zeros((1, 2)), [[0, 1]])
    with pytest.raises(TypeError, match="loss function"):
        losses.with_aux(np.mean)


def test_tensors():
    torch = pytest.importorskip("torch")
    x, y = np.array([[0.0, 1.0, 0.5], [3.0, 0.0, -1.0]]), np.array([1, -100])
    for name in sorted(NAMES - {"linear_cross_entropy", "logit_adjusted_cross_entropy"}):
        function = getattr(losses, f"{name}_with_aux")
        leaf = torch.tensor(x, requires_grad=True)
        options = OPTIONS.get(name, {})
        aux = function(leaf, torch.tensor(y), **options)
        for ours, theirs in zip(aux, function(x, y, **options), strict=True):
            np.testing.assert_allclose(ours.detach(), theirs, rtol=1e-13)
        aux.loss.backward()
        _, gradient = losses.value_and_grad(getattr(losses, name))(x, y, **options)
        np.testing.assert_allclose(leaf.grad, gradient, rtol=1e-12, atol=1e-16)


def test_functions_can_be_pickled():
    """A loader or an executor sends them to its processes."""
    for name in NAMES:
        function = getattr(losses, f"{name}_with_aux")
        assert pickle.loads(pickle.dumps(function)) is function
