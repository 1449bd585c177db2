"""Cross-entropy of a linear layer on a GPU, against the processor's kernels in float64."""

import numpy as np
import pytest

from logitkit.cuda import _linear_cross_entropy as on_device
from logitkit.losses import _layer_kernel as on_processor
from logitkit.losses._layer_kernel import LayerArrays, LayerNumbers

torch = pytest.importorskip("torch")

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# (m, n, d): one of everything, odd ones, and more than a tile, a stage and a chunk.
SHAPES = [(1, 1, 1), (5, 9, 3), (6, 300, 40), (131, 133, 9)]
# bias, targets of all classes, weights of classes; softcap, label_smoothing, z_loss
OPTIONS = {
    "plain": ((False, False, False), (0.0, 0.0, 0.0)),
    "bias, weights, smoothing": ((True, False, True), (0.0, 0.1, 0.0)),
    "bias, softcap, z-loss": ((True, False, False), (3.0, 0.0, 0.01)),
    "targets, all": ((True, True, True), (2.0, 0.2, 0.1)),
}


def layer(shape, dtype, device, which, seed=0):
    """Return arrays of a layer whose second row takes no part, and the same in float64."""
    rng = np.random.default_rng(seed)
    m, n, d = shape

    def make(x):
        return torch.from_numpy(np.asarray(x)).to(device, dtype)

    labels = rng.integers(0, n, m)
    x = rng.standard_normal((m, d))
    if m > 1:
        labels[1], x[1] = -1, np.nan
    with_bias, with_targets, with_weights = which
    arrays = LayerArrays(
        make(x),
        make(rng.standard_normal((n, d))),
        make(rng.standard_normal(n)) if with_bias else None,
        torch.from_numpy(labels).to(device),
        make(rng.dirichlet(np.ones(n), m)) if with_targets else None,
        make(rng.random(n) * (np.arange(n) != 2)) if with_weights else None,
    )
    wide = (None if a is None else a.cpu().numpy().astype(np.float64) for a in map(as_wide, arrays))
    exact = LayerArrays(*wide)
    return arrays, exact._replace(labels=labels)


def as_wide(x):
    return None if x is None else x.double()


def unit(dtype):
    return 2.0**-53 if dtype is torch.float64 else 2.0**-24


def terms(count, dtype):
    """Return what a product may err by, relative to the sum of its terms' sizes."""
    if dtype is torch.float64:
        return count * unit(dtype)
    return (3.5 if dtype is torch.float32 else 1.1) * (count + 16) * 2.0**-23


def logits(exact, softcap):
    z = exact.input @ exact.weight.T + (0.0 if exact.bias is None else exact.bias)
    return softcap * np.tanh(z / softcap) if softcap else z


def logit_error(exact, dtype, softcap):
    """Return s of linear_cross_entropy_cuda.h, for each row."""
    sizes = np.abs(exact.input) @ np.abs(exact.weight).T
    bias = 0.0 if exact.bias is None else np.abs(exact.bias)
    z = np.abs(logits(exact, softcap))
    return (terms(exact.input.shape[1], dtype) * sizes + 4 * unit(dtype) * (bias + z)).max(1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_statistics(options, shape, dtype, device):
    which, given = OPTIONS[options]
    arrays, exact = layer(shape, dtype, device, which)
    numbers, u = LayerNumbers(*given), unit(dtype)
    found = on_device.row_stats(arrays, numbers, aux=True)
    want = on_processor.row_stats(exact, numbers, aux=True)
    kept = exact.labels >= 0
    z, s = logits(exact, numbers.softcap)[kept], logit_error(exact, dtype, numbers.softcap)[kept]
    weight = np.ones(shape[1]) if exact.class_weight is None else exact.class_weight
    shares = np.eye(shape[1])[exact.labels[kept]] if exact.targets is None else exact.targets[kept]
    shares = shares * (1.0 if exact.targets is None else weight)

    def of_sum(shares):
        return (np.abs(shares) * (s[:, None] + 128 * u * np.abs(z))).sum(1)

    bounds = {
        "logsumexp": s + 128 * u,
        "entropy": (2 * s + 128 * u) * (1 + np.log(shape[1])),
        "target": of_sum(shares),
        "total": of_sum(np.broadcast_to(weight, z.shape)),
    }
    for name, bound in bounds.items():
        x, y = getattr(found, name), getattr(want, name)
        if y is not None:
            assert np.all(np.abs(x.cpu().numpy() - y)[kept] <= bound), name
            assert np.all(x.cpu().numpy()[~kept] == 0.0)
    best = found.best.cpu().numpy()[kept]
    assert np.all(np.take_along_axis(z, best[:, None], 1)[:, 0] >= z.max(1) - 2 * s)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_gradients(options, shape, dtype, device):
    which, given = OPTIONS[options]
    arrays, exact = layer(shape, dtype, device, which)
    numbers, u = LayerNumbers(*given), unit(dtype)
    g = np.random.default_rng(1).random(shape[0])
    argnums = (0, 1, 3) if which[0] else (0, 1)
    _, found = on_device.values_and_gradients(
        arrays, numbers, torch.from_numpy(g).to(device), argnums
    )
    values, want = on_processor.values_and_gradients(exact, numbers, g, argnums)
    assert np.all(np.isfinite(values))

    # G is at most its terms' sum, and errs by s + 64 u of it and by its rounding.
    kept = (exact.labels >= 0)[:, None]
    z = np.where(kept, logits(exact, numbers.softcap), 0.0)
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    weight = 1.0 if exact.class_weight is None else exact.class_weight
    hard = np.eye(shape[1])[np.maximum(exact.labels, 0)]
    t = (hard if exact.targets is None else exact.targets) + numbers.label_smoothing / shape[1]
    lse = np.abs(on_processor.row_stats(exact, numbers).logsumexp)[:, None]
    mass = (t * weight).sum(1, keepdims=True) + 2 * numbers.z_loss * lse
    size = np.where(kept, g[:, None] * (mass * p + t * weight), 0.0)
    s = np.where(kept[:, 0], logit_error(exact, dtype, numbers.softcap), 0.0)[:, None]
    half = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)
    tiny = 2.0**-25 if dtype is torch.float16 else 0.0  # half of the least denormal
    # Of a capped logit near the cap the slope 1 - tanh^2 errs by 4 u.
    error = size * (2 * s + 64 * u + half) + (tiny + 4 * u * size * bool(numbers.softcap)) * kept
    x = np.where(kept, exact.input, 0.0)
    bounds = {
        0: error @ np.abs(exact.weight) + terms(shape[1], dtype) * (size @ np.abs(exact.weight)),
        1: error.T @ np.abs(x) + terms(shape[0], dtype) * (size.T @ np.abs(x)),
        3: error.sum(0) + terms(shape[0], dtype) * size.sum(0),
    }
    for i in argnums:
        bound = bounds[i] + half * np.abs(want[i]) + tiny
        assert np.all(np.abs(found[i].double().cpu().numpy() - want[i]) <= bound), i
        assert found[i].dtype == dtype
    if shape[0] > 1:
        assert not found[0][1].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_do_not_depend_on_chunks(dtype, device):
    arrays, _ = layer((4, 700, 17), dtype, device, (True, False, False))
    numbers, g = LayerNumbers(0.0, 0.0, 0.0), torch.ones(4, device=device)
    values, whole = on_device.values_and_gradients(arrays, numbers, g, (0, 1, 3))
    chunked = on_device.values_and_gradients(arrays, numbers, g, (0, 1, 3), chunk_bytes=1)
    assert torch.equal(values, chunked[0])
    for i in (0, 1, 3):
        assert torch.equal(whole[i], chunked[1][i])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_of_a_row_do_not_depend_on_others(dtype, device):
    arrays, _ = layer((131, 140, 9), dtype, device, (False, False, False))
    numbers = LayerNumbers(0.0, 0.0, 0.0)
    g = torch.ones(131, device=device)
    values, of_all = on_device.values_and_gradients(arrays, numbers, g, (0,))
    some = arrays._replace(input=arrays.input[129:], labels=arrays.labels[129:])
    few, of_some = on_device.values_and_gradients(some, numbers, g[129:], (0,))
    assert torch.equal(values[129:], few)
    assert torch.equal(of_all[0][129:], of_some[0])


def test_special_values(device):
    inf = float("inf")
    weight = torch.zeros((4, 1), device=device)
    labels = torch.tensor([0, 0, 3, 9], device=device)

    def stats(bias):
        given = torch.tensor(bias, device=device)
        x = torch.ones((4, 1), device=device)
        arrays = LayerArrays(x, weight, given, labels, None, None)
        return on_device.row_stats(arrays, LayerNumbers(0.0, 0.0, 0.0), aux=True)

    hidden = stats([0.0, -inf, 0.0, -inf])
    np.testing.assert_allclose(hidden.logsumexp.cpu()[0], np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(hidden.entropy.cpu()[0], np.log(2.0), rtol=1e-6)
    assert hidden.target[2] == -inf
    assert hidden.target[3].isnan()
    assert hidden.best[0] == 0
    none = stats([-inf] * 4)
    assert none.logsumexp[0] == -inf
    assert none.entropy[0] == 0.0
    assert stats([0.0, inf, 0.0, 0.0]).logsumexp[0] == inf
    assert stats([0.0, float("nan"), 0.0, 0.0]).logsumexp[0].isnan()


def test_all_rows_left_out(device):
    arrays, _ = layer((3, 5, 2), torch.float32, device, (True, False, False))
    arrays = arrays._replace(labels=torch.full((3,), -1, device=device))
    numbers = LayerNumbers(0.0, 0.0, 0.0)
    values, found = on_device.values_and_gradients(
        arrays, numbers, torch.ones(3, device=device), (0, 1, 3)
    )
    assert not values.any()
    assert not any(x.any() for x in found.values())
