"""Cross-entropy of logits on a GPU, against its definition in float64."""

import numpy as np
import pytest

from logitkit.cuda._cross_entropy import cross_entropy_rows

torch = pytest.importorskip("torch")

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Beside packs of 16 bytes; a warp's rows and a block's; more and less than whole steps of either.
SHAPES = [(1, 1), (5, 7), (6, 64), (3, 300), (2, 1024), (2, 1025), (1, 9000)]
# targets of all classes, weights, label_smoothing, z_loss
OPTIONS = [
    (False, False, 0.0, 0.0),
    (False, True, 0.0, 0.1),
    (False, True, 0.1, 0.0),
    (True, False, 0.0, 0.0),
    (True, True, 0.2, 0.01),
]


def error(dtype):
    return 2.0**-49 if dtype is torch.float64 else 2.0**-21


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients(options, shape, dtype, device, guarded):
    with_targets, with_weights, smoothing, z_loss = options
    rng = np.random.default_rng(3)
    m, n = shape
    x = torch.from_numpy(4.0 * rng.standard_normal(shape)).to(dtype)
    labels = rng.integers(0, n, m)
    if m > 1:
        labels[1], x[1] = -1, torch.nan
    t = torch.from_numpy(rng.dirichlet(np.ones(n), m)).to(dtype) if with_targets else None
    w = torch.from_numpy(rng.random(n)).to(dtype) if with_weights else None
    given, _ = guarded(x)
    found = cross_entropy_rows(
        given,
        torch.from_numpy(labels).to(device),
        targets=None if t is None else t.to(device),
        class_weight=None if w is None else w.to(device),
        label_smoothing=smoothing,
        z_loss=z_loss,
        with_gradient=True,
    )
    kept = labels >= 0
    z = x.double().numpy()[kept]
    top = z.max(1, keepdims=True)
    distance = top + np.log(np.exp(z - top).sum(1, keepdims=True)) - z  # -log p
    lse = distance[:, 0] + z[:, 0]
    share = t.double().numpy()[kept] if with_targets else np.eye(n)[labels[kept]]
    share = (1.0 - smoothing) * share + smoothing / n
    share = share * (w.double().numpy() if with_weights else 1.0)
    values = (share * distance).sum(1) + z_loss * lse**2
    p = np.exp(-distance)
    slope = (share.sum(1) + 2.0 * z_loss * lse)[:, None] * p - share

    e = error(dtype)
    # Each -log p errs by e (1 + |z| + itself) in the type computed in, its share by 4 u.
    size = (share * (1.0 + np.abs(z) + distance)).sum(1) + z_loss * (1.0 + np.abs(lse)) ** 2
    assert np.all(np.abs(found.values.cpu().numpy()[kept] - values) <= e * (size + 1.0))
    assert np.all(np.abs(found.logsumexp.cpu().numpy()[kept] - lse) <= e * (1.0 + np.abs(lse)))
    half = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)
    tiny = 2.0**-25 if dtype is torch.float16 else 0.0
    got = found.gradient.double().cpu().numpy()
    # p errs relatively by e (1 + max - z), and of p (1 + distance) the largest is about 1.
    total = (share.sum(1) + 2.0 * z_loss * np.abs(lse))[:, None]
    bound = e * (2.0 * total + share) + half * np.abs(slope) + tiny
    assert np.all(np.abs(got[kept] - slope) <= bound)
    for rows in (found.values, found.logsumexp, found.gradient):
        assert not rows.cpu()[torch.from_numpy(~kept)].any()
    alone = cross_entropy_rows(
        given,
        torch.from_numpy(labels).to(device),
        targets=None if t is None else t.to(device),
        class_weight=None if w is None else w.to(device),
        label_smoothing=smoothing,
        z_loss=z_loss,
    )
    assert torch.equal(alone.values, found.values)
    assert alone.gradient is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_small_values_keep_their_digits(dtype, device):
    x = torch.tensor([[12.0, 0.0, -1.0]], dtype=dtype, device=device)
    found = cross_entropy_rows(x, torch.tensor([0], device=device), with_gradient=True)
    p = np.exp(-12.0) + np.exp(-13.0)
    half = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)
    tiny = 2.0**-25 if dtype is torch.float16 else 0.0
    assert abs(found.gradient[0, 0].item() + p / (1.0 + p)) <= 2.0 * error(dtype) + half * p + tiny
    assert abs(found.values.item() - np.log1p(p)) <= error(dtype)


@pytest.mark.parametrize("n", [3, 2000])
def test_special_values(n, device):
    inf, nan = float("inf"), float("nan")
    x = torch.zeros((6, n), device=device)
    x[0, 1] = -inf
    x[1] = -inf
    x[2, 1] = inf
    x[3, n - 1] = nan
    labels = torch.tensor([0, 0, 0, 0, n, 0], device=device)
    found = cross_entropy_rows(x, labels, with_gradient=True)
    assert found.values[0].isfinite()
    assert found.gradient[0, 1] == 0.0
    assert found.values[5].isfinite()
    assert found.values[4].isnan()
    for row in (1, 2, 3):
        assert not found.values[row].isfinite()
        assert not found.gradient[row].isfinite().any()
    assert found.logsumexp[1] == -inf
    assert found.logsumexp[2] == inf
    assert found.logsumexp[3].isnan()
