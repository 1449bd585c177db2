"""Largest scores of a linear layer on a GPU, against products in float64."""

import numpy as np
import pytest

from logitkit import cuda, reference

torch = pytest.importorskip("torch")

INF, NAN = float("inf"), float("nan")
KINDS = [
    (torch.float32, False),
    (torch.float32, True),
    (torch.float64, True),
    (torch.float16, False),
    (torch.bfloat16, False),
]
# (m, n, d, k): one more than a tile, a step and a pass of 16 hold, and one of everything.
SHAPES = [(1, 1, 1, 1), (3, 5, 2, 3), (129, 130, 9, 1), (2, 260, 33, 17), (1, 70, 16, 70)]

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")


def numbers(shape, dtype, device, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(x).to(device, dtype)


def wide(x):
    return x.double().cpu().numpy()


def bound(x, weight, bias, dtype, exact):
    """Return what a score may err by, of csrc/linear_argmax/linear_argmax_cuda.h."""
    d, u = x.shape[1], 2.0**-53 if dtype is torch.float64 else 2.0**-24
    factor = 3.5 if dtype is torch.float32 else 1.1
    c = d * u / (1.0 - d * u) if exact else factor * (d + 16) * 2.0**-23
    scores = reference.linear_topk(x, weight, bias, k=len(weight)).values
    return (c * (np.abs(x) @ np.abs(weight).T)).max() + u * np.abs(scores).max()


@pytest.mark.parametrize(("dtype", "exact"), KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_indices(shape, dtype, exact, device, guarded):
    m, n, d, k = shape
    x, _ = guarded(numbers((m, d), dtype, device))
    weight, _ = guarded(numbers((n, d), dtype, device, 1))
    bias, _ = guarded(numbers((n,), dtype, device, 2)) if k != 1 else (None, None)
    given = wide(x), wide(weight), None if bias is None else wide(bias)
    e = bound(*given, dtype, exact)
    rounding = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)

    values, indices = cuda.linear_topk(x, weight, bias, k=k, exact=exact)
    want = reference.linear_topk(*given, k=k).values
    assert values.dtype == dtype
    assert indices.dtype == torch.int64
    assert np.all(np.abs(wide(values) - want) <= e + rounding * np.abs(want))
    scores = given[0] @ given[1].T + (0.0 if bias is None else given[2])
    found = indices.cpu().numpy()
    assert np.all(np.abs(np.take_along_axis(scores, found, 1) - want) <= 2.0 * e)
    assert all(len(set(row)) == k for row in found.tolist())

    first = cuda.linear_argmax(x, weight, bias, exact=exact)
    assert torch.equal(first.values, values[:, 0])
    assert torch.equal(first.indices, indices[:, 0])


@pytest.mark.parametrize(("dtype", "exact"), KINDS, ids=str)
def test_equal_scores_and_nan(dtype, exact, device):
    n, d = 200, 18
    weight = numbers((n, d), dtype, device)
    weight[150] = weight[3]
    weight[199] = weight[3]
    x = numbers((6, d), dtype, device, 1)
    x[0] = 0.0  # all are equal
    x[1] = weight[3]
    x[2, 0] = NAN
    x[3, 0] = INF  # scores of both signs, without NaN where no weight is 0
    bias = torch.zeros(n, dtype=dtype, device=device)
    bias[7], bias[130], bias[9] = NAN, NAN, -INF
    for b in (None, bias):
        given = wide(x[:, :]), wide(weight), None if b is None else wide(b)
        found = cuda.linear_topk(x, weight, b, k=19, exact=exact)
        want = reference.linear_topk(*given, k=19)
        for row in (0, 2, 3):
            assert found.indices[row].tolist() == want.indices[row].tolist()
        np.testing.assert_array_equal(np.isnan(wide(found.values)), np.isnan(want.values))
    tied = cuda.linear_topk(weight[3:4], weight, k=3, exact=exact).indices[0].tolist()
    assert tied == [3, 150, 199]
    hidden = torch.full((n,), -INF, dtype=dtype, device=device)
    largest = cuda.linear_topk(x[1:2], weight, hidden, k=18, exact=exact)
    assert largest.indices[0].tolist() == list(range(18))


@pytest.mark.parametrize(("dtype", "exact"), KINDS, ids=str)
def test_rows_do_not_depend_on_each_other(dtype, exact, device):
    x, weight = numbers((130, 40), dtype, device), numbers((140, 40), dtype, device, 1)
    all_rows = cuda.linear_topk(x, weight, k=2, exact=exact)
    for rows in (slice(129, 130), slice(3, 5)):
        some = cuda.linear_topk(x[rows], weight, k=2, exact=exact)
        assert torch.equal(some.values, all_rows.values[rows])
        assert torch.equal(some.indices, all_rows.indices[rows])


def test_layouts_and_types(device):
    x, weight = numbers((5, 3), torch.float32, device), numbers((3, 7), torch.float32, device, 1)
    columns = cuda.linear_argmax(x, weight.T)
    dense = cuda.linear_argmax(x, weight.T.contiguous())
    assert torch.equal(columns.values, dense.values)
    counts = torch.arange(6, device=device).reshape(2, 3)
    assert cuda.linear_argmax(counts, counts).values.dtype == torch.float64
    none = cuda.linear_argmax(x[:0], x)
    assert none.values.shape == none.indices.shape == (0,)
    no_columns = cuda.linear_argmax(x[:, :0], weight.T[:, :0])
    assert no_columns.values.tolist() == [0.0] * 5
    assert no_columns.indices.tolist() == [0] * 5


def test_errors(device):
    x = numbers((2, 3), torch.float32, device)
    with pytest.raises(ValueError, match=r"weight of shape \(n, d\)"):
        cuda.linear_argmax(x, x[:, :2])
    with pytest.raises(ValueError, match="k from 1 to the 2 rows"):
        cuda.linear_topk(x, x, k=3)
    with pytest.raises(TypeError, match="arrays of one type"):
        cuda.linear_argmax(x, x.double())
    with pytest.raises(TypeError, match="real numbers"):
        cuda.linear_argmax(x.to(torch.complex64), x)
