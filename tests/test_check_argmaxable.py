"""The laws of logitkit.check_argmaxable, with Qhull and HiGHS as oracles."""

import dataclasses
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from logitkit import ArgmaxableReport, Box, Verdict, check_argmaxable, reference
from logitkit.argmaxable import Proof

LIVE, DEAD = Verdict.ARGMAXABLE, Verdict.UNARGMAXABLE


def generator(*seed):
    return np.random.default_rng(seed)


def live_by_qhull(weight, bias=None):
    """Vertices of the hull; with a bias those of its upper side."""
    points = weight / np.abs(weight).max(axis=0)
    if bias is not None:
        points = np.column_stack([points, bias / np.abs(bias).max()])
    live = np.zeros(len(weight), bool)
    if points.shape[1] == 1:
        live[[np.argmax(points), np.argmin(points)]] = True
        return live
    hull = ConvexHull(points)
    if bias is None:
        live[hull.vertices] = True
    else:
        live[np.unique(hull.simplices[hull.equations[:, -2] > 1e-9])] = True
    return live


def assert_decided(report, live):
    """Every class has the verdict that the oracle gives it, and the evidence holds."""
    expected = np.where(live, LIVE, DEAD)
    wrong = np.flatnonzero(report.verdicts != expected)
    assert len(wrong) == 0, (wrong[:10], report.verdicts[wrong[:10]], report.reasons)
    assert report.verify()


def planted(n, d, dead, seed, dtype=np.float32, deep=0.5):
    """Random rows, the last `dead` of them well inside the hull of the others."""
    rng = generator(n, d, dead, seed)
    weight = rng.normal(size=(n, d))
    mixed = rng.dirichlet(np.full(n - dead, 0.2), size=dead) @ weight[: n - dead]
    weight[n - dead :] = deep * mixed
    return weight.astype(dtype)


# Oracles.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("n", "d"), [(30, 1), (40, 2), (200, 3), (300, 5), (400, 6)])
def test_agrees_with_qhull(n, d, with_bias, dtype):
    rng = generator(n, d, with_bias)
    weight = rng.normal(size=(n, d)).astype(dtype)
    bias = rng.normal(size=n).astype(dtype) if with_bias else None
    report = check_argmaxable(weight, bias)
    assert_decided(report, live_by_qhull(weight, bias))


@pytest.mark.parametrize("with_bias", [False, True])
def test_agrees_with_qhull_in_eight_dimensions(with_bias):
    rng = generator(8, with_bias)
    weight = rng.normal(size=(150, 8 - with_bias))
    bias = 0.3 * rng.normal(size=150) if with_bias else None
    assert_decided(check_argmaxable(weight, bias), live_by_qhull(weight, bias))


@pytest.mark.parametrize("spread", [1e-2, 1e-5, 1e-7])
@pytest.mark.parametrize("with_bias", [False, True])
def test_agrees_with_qhull_where_classes_have_collapsed(spread, with_bias):
    rng = generator(int(-np.log10(spread)), with_bias)
    weight = rng.normal(size=(300, 4))
    weight[:150] = 0.2 + spread * rng.normal(size=(150, 4))
    weight[150:200] = weight[299] * 1.1 + spread * rng.normal(size=(50, 4))
    bias = 0.1 * rng.normal(size=300) if with_bias else None
    assert_decided(check_argmaxable(weight, bias), live_by_qhull(weight, bias))


@pytest.mark.parametrize("with_bias", [False, True])
def test_agrees_with_linear_programs(with_bias):
    weight = planted(160, 12, 20, seed=1, dtype=np.float64)
    bias = 0.5 * generator(7).normal(size=160) if with_bias else None
    report = check_argmaxable(weight, bias)
    oracle = reference.check_argmaxable(weight, bias)
    assert not np.any(report.verdicts * oracle < 0)  # live against dead
    assert np.count_nonzero(oracle == Verdict.UNDECIDED) <= 1
    assert len(report.undecided) == 0
    assert report.verify()


def test_hand_example():
    weight = np.array([[1, 2], [2, 1], [1, 0], [0, 1], [1, 1]], np.float32)
    assert check_argmaxable(weight).unargmaxable.tolist() == [4]
    raised = check_argmaxable(weight, np.array([0, 0, 0, 0, 0.5]))
    assert len(raised.unargmaxable) == 0
    assert raised.verify()


# Constructions with a known answer.


@pytest.mark.parametrize(("n", "d", "dead"), [(300, 20, 30), (900, 64, 60), (400, 128, 20)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_planted_combinations_are_dead(n, d, dead, dtype):
    report = check_argmaxable(planted(n, d, dead, seed=2, dtype=dtype))
    assert set(range(n - dead, n)) <= set(report.unargmaxable.tolist())
    assert len(report.undecided) == 0
    assert report.verify()


@pytest.mark.parametrize(("n", "d"), [(5, 1), (100, 2), (500, 16), (300, 100)])
def test_rows_on_a_sphere_are_live(n, d):
    weight = generator(n, d).normal(size=(n, d))
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    if d == 1:
        weight = np.array([[1.0], [-1.0]])
    report = check_argmaxable(weight)
    assert_decided(report, np.ones(len(weight), bool))


def test_paraboloid_bias_makes_every_row_live():
    # w_i.x - |w_i|^2 / 2 is largest for i at x = w_i.
    weight = generator(3).normal(size=(600, 5))
    bias = -0.5 * np.sum(weight**2, axis=1)
    assert_decided(check_argmaxable(weight, bias), np.ones(600, bool))


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 7), (2, 1), (2, 5), (6, 5), (4, 30), (65, 64)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_few_independent_rows_are_live(n, d, with_bias):
    rng = generator(n, d)
    bias = rng.normal(size=n) if with_bias else None
    assert_decided(check_argmaxable(rng.normal(size=(n, d)), bias), np.ones(n, bool))


def test_the_only_class_of_largest_bias_is_live():
    weight = planted(200, 10, 50, seed=3)
    bias = np.zeros(200)
    bias[170] = 1e-3
    assert check_argmaxable(weight, bias).verdict(170) == LIVE


# Ties: strictness is part of the verdict.


@pytest.mark.parametrize("with_bias", [False, True])
def test_duplicates_kill_each_other(with_bias):
    weight = generator(4).normal(size=(60, 20)).astype(np.float32)
    weight[50] = weight[3]
    bias = np.linspace(-0.1, 0.1, 60) if with_bias else None
    if with_bias:
        bias[50] = bias[3]
    live = np.ones(60, bool)
    live[[3, 50]] = False
    assert_decided(check_argmaxable(weight, bias), live)


def test_of_equal_rows_the_lower_bias_dies():
    weight = generator(5).normal(size=(60, 20)).astype(np.float32)
    weight[50] = weight[3]
    bias = np.zeros(60, np.float32)
    bias[50] = -(2.0**-20)
    live = np.ones(60, bool)
    live[50] = False
    assert_decided(check_argmaxable(weight, bias), live)


def test_exact_midpoints_are_dead():
    rng = generator(6)
    weight = rng.integers(-1000, 1000, size=(80, 30)).astype(np.float64)
    weight[70] = (weight[0] + weight[1]) / 2
    weight[71] = 0.25 * weight[2] + 0.75 * weight[3]
    live = np.ones(80, bool)
    live[[70, 71]] = False
    assert_decided(check_argmaxable(weight), live)


def test_midpoint_raised_by_its_bias_is_live():
    weight = generator(7).integers(-99, 99, size=(50, 20)).astype(np.float64)
    weight[40] = (weight[0] + weight[1]) / 2
    bias = np.zeros(50)
    bias[40] = 2.0**-30
    assert check_argmaxable(weight, bias).verdict(40) == LIVE


def test_outward_near_duplicates():
    # w (1 + 2^-20) leaves w strictly inside the segment to the origin, itself inside.
    weight = generator(8).normal(size=(400, 6))
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    weight[200:] = weight[:200] * (1.0 + 2.0**-20)
    live = np.arange(400) >= 200
    assert_decided(check_argmaxable(weight), live)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("n", "d"), [(27, 3), (81, 4), (200, 6)])
def test_small_integers_are_full_of_ties(n, d, with_bias):
    rng = generator(23, n, with_bias)
    weight = rng.integers(-2, 3, size=(n, d)).astype(np.float32)
    bias = rng.integers(-2, 3, size=n).astype(np.float32) if with_bias else None
    report = check_argmaxable(weight, bias)
    oracle = reference.check_argmaxable(weight, bias)
    assert not np.any(report.verdicts * oracle < 0)
    assert len(report.undecided) == 0
    assert report.verify()


def test_all_rows_equal():
    weight = np.full((9, 4), 1.5, np.float32)
    assert_decided(check_argmaxable(weight), np.zeros(9, bool))
    bias = np.arange(9.0)
    assert_decided(check_argmaxable(weight, bias), np.arange(9) == 8)


# Rank, scale and shape.


@pytest.mark.parametrize("with_bias", [False, True])
def test_columns_that_say_nothing(with_bias):
    weight = generator(9).normal(size=(120, 3))
    bias = 0.2 * generator(10).normal(size=120) if with_bias else None
    live = live_by_qhull(weight, bias)
    padded = np.column_stack(
        [np.full(120, 7.0), weight, np.zeros(120), weight[:, 1], np.full(120, -1e-3)]
    )
    assert_decided(check_argmaxable(padded, bias), live)


@pytest.mark.parametrize("rank", [2, 4])
def test_product_of_low_rank(rank):
    weight = generator(11, rank).normal(size=(200, rank))
    report = check_argmaxable(weight @ generator(12).normal(size=(rank, 12)))
    assert report.rank == rank
    assert_decided(report, live_by_qhull(weight))


def test_low_rank_in_integers():
    weight = generator(13).integers(-50, 50, size=(150, 3))
    weight = np.unique(weight, axis=0)
    product = (weight @ generator(14).integers(-9, 9, size=(3, 9))).astype(np.float32)
    assert_decided(check_argmaxable(product), live_by_qhull(weight.astype(float)))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("with_bias", [False, True])
def test_scale_does_not_matter(scale, with_bias):
    weight = generator(15).normal(size=(150, 4))
    bias = 0.1 * generator(16).normal(size=150) if with_bias else None
    live = live_by_qhull(weight, bias)
    scaled = None if bias is None else bias * scale
    assert_decided(check_argmaxable(weight * scale, scaled), live)


def test_columns_of_very_different_scale():
    weight = generator(17).normal(size=(200, 5))
    live = live_by_qhull(weight)
    scales = 10.0 ** np.array([-6, -3, 0, 3, 6])
    assert_decided(check_argmaxable(weight * scales), live)


def test_one_feature():
    weight = generator(18).normal(size=(50, 1))
    live = np.zeros(50, bool)
    live[[weight.argmax(), weight.argmin()]] = True
    assert_decided(check_argmaxable(weight), live)


def test_thousands_of_collapsed_classes():
    rng = generator(19)
    weight = rng.normal(size=(3000, 24)).astype(np.float32)
    weight[2000:] = 0.05 + 1e-6 * rng.normal(size=(1000, 24)).astype(np.float32)
    bias = 0.01 * rng.normal(size=3000).astype(np.float32)
    bias[2000:] -= 0.1
    report = check_argmaxable(weight, bias)
    assert report.unargmaxable.tolist() == list(range(2000, 3000))
    assert len(report.undecided) == 0
    assert report.verify()


# Invariances.


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), with_bias=st.booleans())
def test_invariances(seed, with_bias):
    rng = generator(seed)
    n, d = int(rng.integers(5, 120)), int(rng.integers(1, 9))
    weight = rng.normal(size=(n, d)) * np.exp(0.5 * rng.normal(size=(n, 1)))
    bias = 0.5 * rng.normal(size=n) if with_bias else None
    verdicts = check_argmaxable(weight, bias).verdicts

    def same(other_weight, other_bias, order=slice(None)):
        report = check_argmaxable(other_weight, other_bias)
        np.testing.assert_array_equal(report.verdicts, verdicts[order])
        assert report.verify()

    order = rng.permutation(n)
    same(weight[order], None if bias is None else bias[order], order)
    same(weight @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)) / d), bias)
    same(weight + rng.normal(size=d), bias)
    same(weight * 3.7, None if bias is None else bias * 3.7)
    if bias is not None:
        same(weight, bias + 2.5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_new_class_can_only_kill(seed):
    rng = generator(seed)
    n, d = int(rng.integers(5, 80)), int(rng.integers(1, 7))
    weight, bias = rng.normal(size=(n + 1, d)), 0.3 * rng.normal(size=n + 1)
    fewer = check_argmaxable(weight[:n], bias[:n]).verdicts
    more = check_argmaxable(weight, bias).verdicts[:n]
    assert not np.any((fewer == DEAD) & (more == LIVE))


def test_threads_and_subsets_do_not_matter():
    weight, bias = planted(700, 30, 60, seed=4), 0.1 * generator(20).normal(size=700)
    one, two = (check_argmaxable(weight, bias, threads=t) for t in (1, 2))
    for name in ("verdicts", "margins", "self_scale", "witnesses", "support", "coefficients"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    some = np.array([3, 650, 699, 20])
    part = check_argmaxable(weight, bias, classes=some)
    assert part.classes.tolist() == [3, 20, 650, 699]
    np.testing.assert_array_equal(part.verdicts, one.verdicts[part.classes])
    assert part.verify()


# Inputs.


@pytest.mark.parametrize("order", ["C", "F"])
def test_strides_and_memory_maps(tmp_path, order):
    weight = np.asarray(planted(200, 10, 20, seed=5), order=order)
    expected = check_argmaxable(np.ascontiguousarray(weight)).verdicts
    np.testing.assert_array_equal(check_argmaxable(weight).verdicts, expected)
    np.testing.assert_array_equal(
        check_argmaxable(np.repeat(weight, 2, axis=0)[::2]).verdicts, expected
    )
    np.save(tmp_path / "weight.npy", weight)
    mapped = np.load(tmp_path / "weight.npy", mmap_mode="r")
    report = check_argmaxable(mapped)
    np.testing.assert_array_equal(report.verdicts, expected)
    assert report.verify()


def test_bfloat16_and_dlpack():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    weight = planted(150, 8, 20, seed=6).astype(ml_dtypes.bfloat16)
    report = check_argmaxable(weight)
    widened = check_argmaxable(weight.astype(np.float64))
    np.testing.assert_array_equal(report.verdicts, widened.verdicts)
    assert report.verify()

    class Exporter:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    exported = check_argmaxable(Exporter(weight.astype(np.float32)))
    np.testing.assert_array_equal(exported.verdicts, widened.verdicts)


def test_parameters_of_torch_serve_everywhere(tmp_path):
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16):
        layer = torch.nn.Linear(3, 5).to(dtype)
        report = check_argmaxable(layer.weight, layer.bias)
        report.to_json(tmp_path / "report.json")
        stored = ArgmaxableReport.from_json(tmp_path / "report.json")
        for each in (report, stored):
            assert each.verify(layer.weight, layer.bias)
            i = int(each.argmaxable[0])
            assert each.margin(i, layer.weight, layer.bias) > 0
            each.witness(i, layer.weight, layer.bias)
            each.nearest_argmaxable(i, layer.weight, layer.bias)


def test_tensors_without_numbers_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"float8_e4m3fn .*\.float\(\)"):
        check_argmaxable(torch.eye(3).to(torch.float8_e4m3fn))
    with pytest.raises(TypeError, match=r"sparse_coo .*\.to_dense\(\)"):
        check_argmaxable(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match="weight holds no numbers"):
        check_argmaxable(torch.empty(3, 2, device="meta"))
    with pytest.raises(TypeError, match="weight must be a tensor, not a Linear: pass its weight"):
        check_argmaxable(torch.nn.Linear(2, 3))


def test_integer_weights():
    weight = np.array([[2, 0], [0, 2], [0, 0], [1, 1]])
    report = check_argmaxable(weight)
    assert report.unargmaxable.tolist() == [3]
    assert report.verify(weight)


@pytest.mark.parametrize(
    ("weight", "bias", "error", "message"),
    [
        (np.zeros(3), None, ValueError, r"shape \(classes, features\), not \(3,\)"),
        (np.zeros((0, 3)), None, ValueError, "no classes"),
        (np.zeros((3, 0)), None, ValueError, "no features"),
        (np.zeros((3, 2)), np.zeros(4), ValueError, r"bias must have shape \(3,\)"),
        (np.zeros((3, 2), complex), None, TypeError, "complex128"),
        (np.array([["a"]]), None, TypeError, "weight must hold"),
        (np.array([[0], [2**53 + 1]]), None, TypeError, r"weight\[1, 0\] is 9007199254740993"),
        ([[1.0], [1.0, 2.0]], None, ValueError, "weight must have rows of equal length"),
        ([[1.0, 2.0], [np.nan, 0.0]], None, ValueError, r"weight\[1, 0\] is nan"),
        ([[1.0, -np.inf]], None, ValueError, r"weight\[0, 1\] is -inf"),
        (np.zeros((2, 2)), [0.0, np.inf], ValueError, r"bias\[1\] is inf"),
        (np.eye(2) * 1e-310, None, ValueError, "denormal, the largest is 1e-310: multiply"),
    ],
)
def test_bad_input_is_named(weight, bias, error, message):
    with pytest.raises(error, match=message):
        check_argmaxable(weight, bias)


def test_bad_options_are_named():
    weight = np.eye(3)
    with pytest.raises(ValueError, match="classes contains 3"):
        check_argmaxable(weight, classes=[0, 3])
    with pytest.raises(TypeError, match="classes must be integers"):
        check_argmaxable(weight, classes=[0.5])
    with pytest.raises(ValueError, match="threads must be at least 1"):
        check_argmaxable(weight, threads=0)
    with pytest.raises(TypeError, match="threads must be an integer or None, not inf"):
        check_argmaxable(weight, threads=np.inf)
    with pytest.raises(ValueError, match="deployed_dtype"):
        check_argmaxable(weight, deployed_dtype="float8")
    with pytest.raises(TypeError, match=r"features must be a Box, .* not \(-1, 1\)"):
        check_argmaxable(weight, features=(-1, 1))


@pytest.mark.parametrize("exponent", [-1021, 1021])
def test_smallest_and_largest_weights(exponent):
    weight = np.ldexp([[1.0, 2], [2, 1], [1, 0], [0, 1], [1, 1]], exponent)
    report = check_argmaxable(weight)
    assert report.unargmaxable.tolist() == [4]
    assert report.verify()
    assert np.isfinite([report.witness(i).norm for i in range(4)]).all()


@pytest.mark.parametrize("exponent", [-850, 950])
@pytest.mark.parametrize("features", [None, Box(-1, 2)])
def test_scales_far_from_one_need_no_warning(exponent, features):
    rng = generator(23)
    weight, bias = rng.normal(size=(15, 4)), rng.normal(size=15)
    plain = check_argmaxable(weight, bias, features=features)
    report = check_argmaxable(
        np.ldexp(weight, exponent), np.ldexp(bias, exponent), features=features
    )
    assert report.verify()
    np.testing.assert_array_equal(report.verdicts, plain.verdicts)


def test_numerical_certificates_hold_whatever_they_are_checked_with():
    # Seven rows in a space of three dimensions and some rounding: nearly all of them.
    for seed in (245, 399, 480):
        rng = generator(seed)
        weight = rng.normal(size=(7, 5))
        for row in (1, 2, 0):
            weight[row] = rng.dirichlet(np.ones(4)) @ weight[3:]
        weight[0] *= 1 + (seed % 3 - 1) * 2.0**-28
        assert check_argmaxable(weight).verify()


def test_coefficients_of_rows_of_very_different_lengths():
    # A group is proved around one of its classes, next to which another is a rounding error.
    for seed in range(30):
        rng = generator(seed)
        weight = rng.normal(size=(12, 1)) * 10.0 ** rng.integers(-20, 20, (12, 1))
        assert check_argmaxable(weight, np.zeros(12)).verify()


def test_rows_that_differ_by_rounding_alone():
    weight = np.array([[1.0, 3.0], [1.0 + 2.0**-52, 3.0]])
    for features in (None, Box(-1, 1)):
        report = check_argmaxable(weight, features=features)
        assert report.verify()
        assert not np.any(report.verdicts == DEAD)  # they are not equal


# Features in a box.


def test_box_kills_what_needs_large_features():
    # Class 1 wins for x > 10 only, class 2 for x < -1.
    weight, bias = np.array([[0.0], [1.0], [-1.0]]), np.array([0.0, -10.0, -1.0])
    assert check_argmaxable(weight, bias).unargmaxable.tolist() == []
    report = check_argmaxable(weight, bias, features=Box(-5.0, 5.0))
    assert report.unargmaxable.tolist() == [1]
    assert report.verify()
    assert check_argmaxable(weight, bias, features=Box(-5.0, 11.0)).unargmaxable.tolist() == []


@pytest.mark.parametrize("box", [Box(-1.0, 1.0), Box(0.0, 2.0), Box(0.5, 1.0)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_box_agrees_with_linear_programs(box, with_bias):
    weight = planted(80, 5, 10, seed=7, dtype=np.float64)
    bias = generator(21).normal(size=80) if with_bias else None
    report = check_argmaxable(weight, bias, features=box)
    oracle = reference.check_argmaxable(weight, bias, features=box)
    assert not np.any(report.verdicts * oracle < 0)
    assert len(report.undecided) == 0
    assert report.verify()
    everywhere = check_argmaxable(weight, bias)
    assert not np.any((everywhere.verdicts == DEAD) & (report.verdicts == LIVE))
    lo, hi = box.bounds(5)
    for i in report.argmaxable:
        x = report.witness(i).x
        assert np.all((lo <= x) & (x <= hi))


@pytest.mark.parametrize("box", [Box(0.0, 4.0), Box(-1.0, 1.0), Box([0.0] * 4, [1, 2, 3, 4])])
@pytest.mark.parametrize("with_bias", [False, True])
def test_ties_of_small_integers_in_a_box_are_decided(box, with_bias):
    exact = 0
    for seed in range(8):
        rng = generator(seed)
        weight = rng.integers(-2, 3, (12, 4)).astype(np.float64)
        bias = rng.integers(-2, 3, 12).astype(np.float64) if with_bias else None
        report = check_argmaxable(weight, bias, features=box)
        assert len(report.undecided) == 0
        assert report.verify()
        oracle = reference.check_argmaxable(weight, bias, features=box)
        assert not np.any(report.verdicts * oracle < 0)
        everywhere = check_argmaxable(weight, bias).unargmaxable
        own = ~np.isin(report.unargmaxable, everywhere)
        exact += np.count_nonzero(report.proof[own] == Proof.EXACT)
    # Around 0 and without a bias, what dies in a box dies everywhere.
    assert exact > 0 or (not with_bias and np.min(box.lo) < 0)


def test_witnesses_of_rows_that_nearly_lie_on_a_line_stay_in_the_box():
    # Of such a metric two computations of a witness differ by far more than rounding.
    bias = np.array([-2, 0, -1], np.float32)
    for seed in range(20):
        rng = generator(seed)
        weight = rng.normal(size=(3, 2)).astype(np.float32)
        weight[0] = rng.dirichlet([1, 1]) @ weight[1:]
        assert check_argmaxable(weight, bias, features=Box(-1, 1)).verify()


# Progress and interruption.


def test_progress_counts_every_class():
    seen = []
    weight = planted(500, 16, 100, seed=8)
    check_argmaxable(weight, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (500, 500)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(seen))


def test_an_exception_of_progress_stops_the_check():
    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    start = time.perf_counter()
    with pytest.raises(Stop):
        check_argmaxable(planted(3000, 64, 500, seed=9), progress=stop)
    assert time.perf_counter() - start < 10.0


def test_exact():
    pytest.importorskip("flint")
    weight = planted(120, 10, 15, seed=10)
    report = check_argmaxable(weight, exact=True)
    assert len(report.undecided) == 0
    assert set(report.proof.tolist()) == {2}
    assert report.verify(exact=True)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_exact_reports_hold_by_enclosures_too(scale):
    # Whose lower bounds of the slack are below what rational arithmetic states.
    pytest.importorskip("flint")
    weight, bias = planted(300, 16, 40, seed=29), scale * generator(30).normal(size=300)
    report = check_argmaxable(weight, bias, exact=True)
    assert report.unargmaxable.size > 20
    assert report.verify()
    assert report.verify(exact=True)
    assert not dataclasses.replace(report, slack=report.slack * (1 + 1e-6) + 1e-9 * scale).verify()


def test_report_survives_a_file(tmp_path):
    weight, bias = planted(150, 9, 20, seed=11), generator(22).normal(size=150)
    report = check_argmaxable(weight, bias)
    for write, read, name in (
        (report.to_json, ArgmaxableReport.from_json, "report.json"),
        (report.save, ArgmaxableReport.load, "report.npz"),
    ):
        write(tmp_path / name)
        again = read(tmp_path / name)
        np.testing.assert_array_equal(again.verdicts, report.verdicts)
        assert again.verify(weight, bias)


def test_exact_in_a_box():
    pytest.importorskip("flint")
    weight, bias = planted(60, 4, 8, seed=12), generator(24).normal(size=60)
    box = Box(-0.5, 0.5)
    report = check_argmaxable(weight, bias, features=box, exact=True)
    np.testing.assert_array_equal(
        report.verdicts, check_argmaxable(weight, bias, features=box).verdicts
    )
    assert report.verify(exact=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_deployed_dtype_flags_shallow_certificates(dtype):
    weight = planted(300, 6, 40, seed=13)
    weight[0] *= 4.0  # a corner of the hull, and class 299 just inside it
    weight[299] = weight[0] * np.float32(1 - 2.0**-20) + np.float32(2.0**-20) * weight[299]
    report = check_argmaxable(weight, deployed_dtype=dtype)
    assert report.deployed_dtype == dtype
    assert report.certificate(299).below_rounding
    deepest = report.unargmaxable[np.argmax(report.depth)]
    assert report.certificate(deepest).depth > 100 * report.certificate(299).depth
    assert report.verify()
