"""The class check with its products on a GPU, against the check on the processor."""

import numpy as np
import pytest

from logitkit import check_argmaxable
from logitkit.argmaxable import _problem, _self_witness

torch = pytest.importorskip("torch")


@pytest.fixture
def on_gpu(device, monkeypatch):
    """Return a function that puts a weight where a GPU makes the products, or an emulation."""
    if device == "cpu":

        def origin_of(weight):
            return weight if isinstance(weight, torch.Tensor) else None

        monkeypatch.setattr(_problem, "origin_of", origin_of)
    return lambda weight: torch.from_numpy(weight).to(device)


def weights(kind):
    rng = np.random.default_rng(5)
    if kind == "hull":  # the last classes are inside the hull of the others
        w = rng.standard_normal((24, 2)).astype(np.float32)
        w[22:] = w[:20].reshape(2, 10, 2).mean(1)
        return w
    w = rng.standard_normal((140, 20)).astype(np.float32)
    if kind == "duplicates":
        w[139] = w[7]
    return w


@pytest.mark.parametrize(
    ("kind", "with_bias"),
    [("hull", False), ("hull", True), ("easy", True), ("duplicates", False)],
)
def test_verdicts(kind, with_bias, on_gpu, monkeypatch):
    monkeypatch.setattr(_self_witness, "GPU_ROWS", 64)
    w = weights(kind)
    bias = np.random.default_rng(1).standard_normal(len(w)) if with_bias else None
    want = check_argmaxable(w, bias)
    found = check_argmaxable(on_gpu(w), bias)
    np.testing.assert_array_equal(found.unargmaxable, want.unargmaxable)
    assert found.verify()
    assert (kind == "easy") == (len(want.unargmaxable) == 0)


def test_slack_is_a_lower_bound(on_gpu):
    problem = _problem.as_problem(on_gpu(weights("easy")), None)
    assert problem.origin is not None
    from logitkit.argmaxable._lifted import LiftedClasses
    from logitkit.argmaxable._whitening import whiten

    lifted = LiftedClasses(problem, whiten(problem), with_bias=False)
    own = _self_witness.find_self_witnesses(
        lifted, np.arange(problem.n), threads=1, on_settled=lambda count: None
    )
    z = lifted.points(np.arange(problem.n))[:, : lifted.whitening.rank]
    products = z @ z.T
    gap = np.diag(products)[:, None] - products
    np.fill_diagonal(gap, np.inf)
    assert np.all(own.slack <= np.maximum(gap.min(1), 0.0))
    # Nearly all of it: what is given away is some 1e-5 of the squares.
    assert np.all(own.slack >= gap.min(1) - 1e-4 * np.diag(products).max())
