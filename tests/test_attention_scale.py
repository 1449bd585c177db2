"""Scale schedules, entropy profiles, kappa from data, and results put together from parts."""

from itertools import pairwise

import numpy as np
import pytest

import logitkit
from logitkit import (
    AtLengths,
    AttentionScale,
    Cosine,
    EntropyInvariant,
    GradientMaximal,
    LogBase,
    LogClip,
    Natural,
    YaRN,
    attention,
    attention_entropy_profile,
    attention_with_stats,
    estimate_kappa,
    merge_attention,
)

N = np.array([[0, 1, 2, 15, 16, 17, 511, 512, 513, 100000]])
SCHEDULES = [
    EntropyInvariant(),
    EntropyInvariant(2.0),
    EntropyInvariant([1.0, 2.0]),
    LogBase(100),
    LogBase(512, least=16),
    LogClip(64),
    Natural(),
    YaRN(64),
    GradientMaximal(),
    Cosine(3.5),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_finite_and_ascending(schedule):
    n = np.broadcast_to(N, (2, 10))
    scale = np.broadcast_to(schedule.row_scale(n, 64), n.shape)
    assert np.all(np.isfinite(scale))
    assert np.all(np.diff(scale, axis=-1) >= 0)
    assert np.all(scale[:, 0] == scale[:, 1])  # nothing visible is as one key


def test_values():
    d = 64
    plain = d**-0.5
    at = lambda schedule, n: float(schedule.row_scale(np.array([[n]]), d)[0, 0])
    assert at(EntropyInvariant(3.0), 100) == pytest.approx(3 * np.log(100) / d)
    for schedule in (EntropyInvariant(), LogBase(), LogBase(512, least=16), LogClip(512)):
        assert at(schedule, 512) == pytest.approx(plain)
    same = EntropyInvariant(np.sqrt(d) / np.log(300))
    assert at(same, 77) == pytest.approx(at(LogBase(300), 77))
    assert at(LogBase(512, least=16), 3) == pytest.approx(plain * np.log(16) / np.log(512))
    assert at(LogClip(100), 10) == at(LogClip(100), 100) == pytest.approx(plain)
    assert at(LogClip(100), 10000) == pytest.approx(2 * plain)
    assert at(YaRN(100), 50) == pytest.approx(plain)
    assert at(YaRN(100), 1000) == pytest.approx(plain * (1 + 0.1 * np.log(10)) ** 2)
    assert at(Natural(), 50) == pytest.approx(np.log(50) * plain)
    assert at(Cosine(3.5), 50) == pytest.approx(3.5 * np.log(50))
    assert at(AtLengths(LogBase(10), 100), 3) == pytest.approx(2 * plain)


@pytest.mark.parametrize("n", [2, 10, 512, 10**6])
def test_gradient_maximal_is_maximal(n):
    alpha = float(GradientMaximal().row_scale(np.array([n]), 1)[0])
    size = lambda a: a * (1 - np.exp(a * a) / n)
    assert size(alpha) >= max(size(alpha * 0.999), size(alpha * 1.001))
    if n == 512:
        assert alpha == pytest.approx(2.00839, abs=1e-5)


@pytest.mark.parametrize("bad", [lambda: LogBase(1), lambda: LogBase(2, 0), lambda: LogClip(1)])
def test_bad_parameters(bad):
    with pytest.raises(ValueError, match="expected"):
        bad()


def test_a_schedule_of_ones_own():
    class Constant(AttentionScale):
        def row_scale(self, n, head_dim):
            return np.full(n.shape, 0.25)

    q = np.random.default_rng(0).normal(size=(1, 2, 30, 16)).astype(np.float32)
    np.testing.assert_array_equal(
        attention(q, q, q, scale=Constant()), attention(q, q, q, scale=0.25)
    )
    with pytest.raises(NotImplementedError):
        attention(q, q, q, scale=AttentionScale())


def test_mean_entropies_by_schedule():
    """Published in spirit: the plain scale grows with n, the logarithmic one hardly does."""
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 1, 8192, 64)).astype(np.float32)
    q = q[:, :, :512]
    for n, plain, log512, natural in ((512, 5.731, 5.739, 1.161), (8192, 8.493, 7.951, 0.841)):
        for schedule, want in ((None, plain), (LogBase(512), log512), (Natural(), natural)):
            result = attention_with_stats(q, k[:, :, :n], k[:, :, :n], scale=schedule)
            assert np.mean(result.entropy) == pytest.approx(want, abs=0.15)


def test_entropy_profile():
    rng = np.random.default_rng(1)
    q, k = rng.normal(size=(2, 2, 3, 2048, 32)).astype(np.float32)
    plain = attention_entropy_profile(q, k)
    scaled = attention_entropy_profile(q, k, scale=EntropyInvariant(32**0.5 / np.log(64)))
    assert plain.entropy.shape == (3, len(plain.lengths)) == (3, 8)
    assert np.all(np.diff(plain.lengths) > 0)
    assert np.all(plain.slope > 0.8)
    assert np.all(scaled.slope < plain.slope)
    np.testing.assert_allclose(plain.effective_count, np.exp(plain.entropy))
    flat = attention_entropy_profile(q, k, scale=0.0)  # uniform: entropy log n
    np.testing.assert_allclose(flat.slope, 1.0, atol=0.01)
    alone = attention_entropy_profile(q[0, 0], k[0, 0])
    assert alone.entropy.shape[0] == 1
    with pytest.raises(ValueError, match="two different lengths"):
        attention_entropy_profile(q, k, is_causal=False)


def test_entropy_profile_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    q = np.random.default_rng(1).normal(size=(1, 256, 8)).astype(np.float32)
    ax = attention_entropy_profile(q, q).plot(Figure().add_subplot(), label="plain")
    assert len(ax.lines) == 1


def test_kappa_of_normal_scores():
    rng = np.random.default_rng(2)
    q, k = rng.normal(size=(2, 2, 4096, 64))
    found = estimate_kappa(q, k, entropy=3.0, lengths=[256, 1024, 4096])
    assert np.all(found.misfit["log n"] < 0.06)
    assert np.all(found.misfit["log n"] < found.misfit["sqrt(log n)"])
    assert np.all(found.misfit["log n"] < found.misfit["n"])
    for n, scale in zip(found.lengths, found.scale.T, strict=True):
        result = attention_with_stats(q[:, ::65], k[:, :n], k[:, :n], scale=scale)
        np.testing.assert_allclose(np.mean(result.entropy, axis=-1), 3.0, atol=0.1)
    profile = attention_entropy_profile(q, k, scale=EntropyInvariant(found.kappa), least=256)
    assert np.all(np.abs(profile.slope) < 0.2)


def test_kappa_refuses():
    q = np.random.default_rng(3).normal(size=(1, 100, 8))
    with pytest.raises(ValueError, match="from 2 to 100"):
        estimate_kappa(q, q, lengths=[10, 101])
    with pytest.raises(ValueError, match="between 0 and log 64"):
        estimate_kappa(q, q, entropy=10.0)
    with pytest.raises(ValueError, match="scores that differ"):
        estimate_kappa(np.zeros_like(q), q, entropy=1.0)
    with pytest.raises(ValueError, match="heads, length"):
        estimate_kappa(q[0], q[0])
    with pytest.raises(ValueError, match=r"one head_dim.*\(1, 100, 8\).*\(1, 100, 7\)"):
        estimate_kappa(q, q[..., :7])
    with pytest.raises(ValueError, match=r"multiple.*\(3, 100, 8\).*\(2, 100, 8\)"):
        estimate_kappa(q.repeat(3, axis=0), q.repeat(2, axis=0))
    with pytest.raises(ValueError, match="lengths"):
        estimate_kappa(q, q, lengths=[10.5, 20.5])
    with pytest.raises(ValueError, match="rows >= 1"):
        estimate_kappa(q, q, rows=0)


def test_profile_refuses():
    q = np.random.default_rng(3).normal(size=(1, 100, 8))
    with pytest.raises(ValueError, match="two different lengths"):
        attention_entropy_profile(q, q, is_causal=False)
    with pytest.raises(ValueError, match="least and groups_per_octave of at least 1, not 0"):
        attention_entropy_profile(q, q, least=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cuts", [[70], [1, 64, 65], [0, 50], [10, 20, 30, 150]])
def test_parts_merge_to_the_whole(cuts, dtype):
    rng = np.random.default_rng(4)
    q, k, v = (rng.normal(size=(2, 3, n, 8)).astype(dtype) for n in (40, 150, 150))
    mask = rng.random((40, 150)) < 0.3
    mask[3] = False
    edges = [0, *cuts, 150]
    parts = [
        attention_with_stats(q, k[:, :, a:b], v[:, :, a:b], mask=mask[:, a:b])
        for a, b in pairwise(edges)
    ]
    merged = merge_attention(parts)
    whole = attention_with_stats(q, k, v, mask=mask)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for got, want in zip(merged, whole, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, atol=tolerance)
    positions = {"is_causal": True, "causal_alignment": "upper_left"}
    causal = merge_attention(
        [
            attention_with_stats(
                q, k[:, :, a:b], v[:, :, a:b], is_causal=True, query_offsets=[-a, -a]
            )
            for a, b in pairwise(edges)
        ]
    )
    np.testing.assert_allclose(causal.output, attention(q, k, v, **positions), atol=tolerance)


def test_merge_refuses():
    q = np.ones((1, 1, 3, 4), np.float32)
    with pytest.raises(ValueError, match="at least one"):
        merge_attention([])
    parts = [attention_with_stats(q, q, q), attention_with_stats(q[:, :, :2], q, q)]
    with pytest.raises(ValueError, match="one shape"):
        merge_attention(parts)


def test_everything_is_public():
    for schedule in SCHEDULES:
        assert type(schedule).__name__ in logitkit.__all__


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"softcap": "5"}, TypeError, "softcap as one number, not '5'"),
        ({"threads": 1.5}, TypeError, r"threads as an integer, not 1\.5"),
        (
            {"scale": EntropyInvariant("a")},
            TypeError,
            "parameter of scale as real numbers, not 'a'",
        ),
        ({"scale": Cosine("a")}, TypeError, "parameter of scale as real numbers, not 'a'"),
        (
            {"scale": AtLengths(LogBase(16), [1, 2])},
            ValueError,
            r"AtLengths that broadcasts to \(.*3\), not of shape \(2,\)",
        ),
    ],
)
def test_options_of_the_wrong_kind_are_named(kind, call, error, message):
    x = np.zeros((1, 3, 4))
    if kind == "tensor":
        x = pytest.importorskip("torch").tensor(x)
    with pytest.raises(error, match=message):
        logitkit.attention(x, x, x, **call)


def test_what_is_merged_or_estimated_is_named():
    with pytest.raises(TypeError, match="parts that attention_with_stats returned, not int"):
        logitkit.merge_attention([3])
    with pytest.raises(TypeError, match="key of real numbers"):
        logitkit.estimate_kappa(np.zeros((1, 8, 4)), "a")
