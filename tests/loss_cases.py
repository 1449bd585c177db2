"""Every loss of rows with arguments that reach all of its code, for the tests of their laws."""

from typing import NamedTuple

import numpy as np

from logitkit import distributions, losses


class Case(NamedTuple):
    """A loss, its arguments by position, which of them are differentiable, and its options."""

    name: str
    args: tuple
    differentiable: int
    options: dict


def of_classes():
    """Yield the losses of one true class in each row."""
    rng = np.random.default_rng(5)
    x, y = 2.0 * rng.normal(size=(4, 5)), np.array([1, 0, 4, 2])
    t = rng.dirichlet(np.ones(5), 4)
    weight = np.array([0.5, 1.0, 2.0, 0.25, 1.5])
    own = {
        "beta_bernoulli": [{}, {"share": 0.4, "prior": 0.3}, {"share": 0.0}],
        "cross_entropy": [{}],
        "focal": [{}, {"gamma": 0.5}, {"gamma": 0.0}],
        "generalized_cross_entropy": [{}, {"q": 0.0}, {"q": 1.0}],
        "logit_adjusted_cross_entropy": [
            {"prior": np.array([0.1, 0.2, 0.3, 0.2, 0.2]), "tau": 0.5}
        ],
        "poly": [{}, {"epsilon": -1.0}],
        "smooth_accuracy": [{}],
    }
    for name, numbers in own.items():
        for number in numbers:
            yield Case(name, (x, y), 1, number)
            yield Case(name, (x, t), 2, {**number, "weight": weight})
        common = {"label_smoothing": 0.1, "z_loss": 0.02, "weight": weight}
        yield Case(name, (x, y), 1, {**number, **common})
        yield Case(name, (x, t), 2, {**number, **common})


def of_sparse_maps():
    """Yield the losses of maps with a threshold."""
    rng = np.random.default_rng(4)
    x, y, t = rng.normal(size=(4, 5)), np.array([1, 0, 4, 2]), rng.dirichlet(np.ones(5), 4)
    for alpha in (1.2, 1.5, 2.0):
        yield Case("entmax_loss", (x, y), 1, {"alpha": alpha})
        yield Case("entmax_loss", (x, t), 2, {"alpha": alpha, "label_smoothing": 0.1})
    yield Case("sparsemax_loss", (x, y), 1, {})
    yield Case("smooth_top_k_accuracy", (x, y), 1, {"k": 2})
    yield Case("z_loss", (x,), 1, {})


def of_leads():
    """Yield the losses of the lead over the best of the others."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4, 5)), np.array([1, 0, 4, 2])
    yield Case("hinge", (x, y), 1, {})
    yield Case("hinge", (x, y), 1, {"margin": 2.5})
    yield Case("sigmoid_zero_one", (x, y), 1, {"gain": 3.0})
    yield Case("polynomial_zero_one", (x, y), 1, {"width": 2.0})


def of_labels():
    """Yield the losses of many labels in each row."""
    rng = np.random.default_rng(6)
    s, t = 2.0 * rng.normal(size=(3, 6)), rng.random((3, 6))
    mask = rng.random((3, 6)) > 0.3
    yield Case("multilabel_cross_entropy", (s, t > 0.6), 1, {})
    yield Case("multilabel_cross_entropy", (s, t > 0.6), 1, {"mask": mask})
    yield Case("multilabel_cross_entropy", (s, t), 2, {"label_smoothing": 0.2, "mask": mask})
    yield Case("multilabel_cross_entropy", (s, t), 2, {"threshold": np.array([0.3, -1.0, 0.0])})
    lists = np.array([[0, 2, 2], [-1, -1, -1], [5, -1, 1]])
    yield Case("sparse_multilabel_cross_entropy", (s, lists), 1, {})
    spans = np.array([[[0, 0], [1, 2]], [[-1, -1], [0, 2]], [[2, 2], [2, 2]]])
    yield Case("span_cross_entropy", (rng.normal(size=(3, 3, 3)), spans), 1, {})
    tokens = np.array([[True, True, False]] * 3)
    dense = np.tile(np.eye(3, dtype=bool), (3, 1, 1))
    options = {"token_mask": tokens}
    yield Case("span_cross_entropy", (rng.normal(size=(3, 3, 3)), dense), 1, options)
    yield Case("excess_multilabel_cross_entropy", (s, t), 1, {"mask": mask})
    yield Case("symmetric_kl", (s, rng.normal(size=(3, 6))), 2, {"mask": mask})
    yield Case("circle_loss", (s, t > 0.6), 1, {"gamma": 2.0, "margin": 0.25, "mask": mask})
    yield Case("combinatorial_cross_entropy", (s, t > 0.6), 1, {"mask": mask})
    yield Case("combinatorial_cross_entropy", (s, t > 0.6), 1, {"at_most": 4})


def of_metrics():
    """Yield one less the smooth metrics."""
    rng = np.random.default_rng(7)
    s, y = 2.0 * rng.normal(size=(3, 6)), rng.random((3, 6))
    hard, mask = y > 0.6, rng.random((3, 6)) > 0.3
    for name in ("f_score", "iou", "precision", "recall", "matthews", "auc"):
        yield Case(f"smooth_{name}", (s, hard), 1, {})
        yield Case(f"smooth_{name}", (s, y), 1, {"axis": 1, "mask": mask})
    yield Case("smooth_f_score", (s, hard), 1, {"axis": 0, "beta": 2.0, "sample_weight": y})


def of_noise():
    """Yield the expected accuracy, with noise of each kind of scale."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(4, 5)), np.array([1, 0, 4, 2])
    yield Case("expected_accuracy", (x, y), 1, {})
    yield Case("expected_accuracy", (x, y), 1, {"scale": 0.4, "margin": 0.7})
    scales = rng.uniform(0.5, 2.0, 5)
    yield Case("expected_accuracy", (x, y), 1, {"scale": scales, "weight": scales})
    x, y = x[:2, :4], y[:2]
    yield Case("fenchel_young", (x, y), 1, {})
    t = rng.dirichlet(np.ones(4), 2)
    yield Case("fenchel_young", (x, t), 2, {"noise": distributions.Laplace(), "scale": 0.5})
    yield Case("fenchel_young", (x, y), 1, {"noise": distributions.StudentT(3.0)})


def of_groups():
    """Yield the losses of groups of items."""
    rng = np.random.default_rng(9)
    s, y = rng.normal(size=(3, 4, 3)), rng.integers(0, 3, (3, 4))
    t = rng.dirichlet(np.ones(3), (3, 4))
    for form in ("ratios", "scores", "centred", "debiased"):
        yield Case("grouped_cross_entropy", (s, t), 2, {"form": form, "over": 1})
    segments = np.array([[0, 0, 2, 1], [1, 1, 0, 0], [2, 2, 2, 2]])
    yield Case("grouped_cross_entropy", (s, y), 1, {})
    yield Case("grouped_cross_entropy", (s, y), 1, {"segments": segments})
    masked = {"over": (1,), "mask": rng.random((3, 4)) > 0.3}
    yield Case("grouped_cross_entropy", (s, y), 1, masked)


CASES = [
    *of_classes(),
    *of_sparse_maps(),
    *of_leads(),
    *of_labels(),
    *of_groups(),
    *of_metrics(),
    *of_noise(),
]

# Losses whose mask is one of labels.
LABELS = {
    "circle_loss",
    "combinatorial_cross_entropy",
    "excess_multilabel_cross_entropy",
    "multilabel_cross_entropy",
    "sparse_multilabel_cross_entropy",
    "symmetric_kl",
}

# Errors of values that a contract allows beyond 1e-12, relative and absolute.
ERRORS = {"fenchel_young": 2e-9}

# Losses of groups of labels, one to a metric.
METRICS = {case.name for case in of_metrics()}


def function(case):
    """Return the loss as a function of its differentiable arguments."""
    rest = case.args[case.differentiable :]
    loss = getattr(losses, case.name)
    return lambda *args, **more: loss(*args, *rest, **case.options, **more)
