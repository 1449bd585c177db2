"""argmaxable/_proof.py: what it proves is true, and what is false it does not prove."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitkit.argmaxable._deployed import deployed_dtype_name, rounding_of
from logitkit.argmaxable._error_free import accurate_residual, two_difference, two_product
from logitkit.argmaxable._exact import combine_exactly, load_flint
from logitkit.argmaxable._features import Box
from logitkit.argmaxable._proof import (
    exact_margin,
    prove_unargmaxable,
    prove_unargmaxable_in_box,
    rounding_loss_in_box,
    witness_margins,
)
from logitkit.argmaxable._verdict import Proof

# The example of spec section 2 of Su Jianlin, kexue.fm 9046: class 4 is the middle of 0 and 2.
HAND = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def index(*classes):
    return np.array(classes, np.int64)


def planted(d, g, *, dtype=np.float64, seed=0, concentration=5.0):
    """Return weights whose last g rows lie well inside the simplex of the first d + 1."""
    rng = np.random.default_rng([d, g, seed])
    vertices = rng.normal(size=(d + 1, d)).astype(dtype).astype(np.float64)
    coefficients = rng.dirichlet(np.full(d + 1, concentration), size=g)
    weight = np.vstack([vertices, coefficients @ vertices]).astype(dtype)
    return weight, np.arange(d + 1, d + 1 + g), np.arange(d + 1), coefficients


def rational_margin(weight, bias, cls, x):
    rows = [[Fraction(float(v)) for v in row] for row in weight]
    features = [Fraction(float(v)) for v in x]
    offset = [Fraction(0)] * len(rows) if bias is None else [Fraction(float(v)) for v in bias]
    logits = [
        sum(map(Fraction.__mul__, row, features), b) for row, b in zip(rows, offset, strict=True)
    ]
    return min((logits[cls] - s for j, s in enumerate(logits) if j != cls), default=None)


# Margins of witnesses.


def test_margins_of_the_hand_example():
    bias = np.array([0, 0, 0, 0, 0.5])
    x = np.array([[-1.0, 3.0], [3.0, -1.0], [0.0, -1.0], [-1.0, 0.0]])
    margins = witness_margins(HAND, None, np.arange(4), x)
    np.testing.assert_allclose(margins, [2.0, 2.0, 1.0, 1.0], rtol=1e-4)
    assert exact_margin(HAND, bias, 4, np.zeros(2)) == pytest.approx(0.5, rel=1e-15)
    # Without bias class 4 never wins; at zero all tie.
    grid = np.array([[a, b] for a in range(-5, 6) for b in range(-5, 6)], float)
    assert not (witness_margins(HAND, None, np.full(len(grid), 4), grid) > 0).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_margins_are_lower_bounds(dtype, with_bias, size):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(37, 9)).astype(dtype)
    bias = rng.normal(size=37).astype(dtype) if with_bias else None
    classes = np.arange(37)
    x = weight.astype(np.float64) * size
    found = witness_margins(weight, bias, classes, x)
    for i in classes:
        exact = rational_margin(weight, bias, i, x[i])
        assert Fraction(found[i]) <= exact
        assert (found[i] > 0) == (exact > 0)
        assert found[i] >= 0.9 * float(exact) or exact < 0
        close = exact_margin(weight, bias, int(i), x[i])
        assert Fraction(close) <= exact
        assert close == pytest.approx(float(exact), rel=1e-15)


def test_margins_of_a_unit_in_the_last_place():
    # The rows differ in the last bit of float64: only exact products see who wins.
    weight = np.array([[1.0, -1.0], [1.0 + 2.0**-52, -1.0], [0.0, 0.0]])
    x = np.array([[1.0, 0.0]])
    assert witness_margins(weight, None, index(1), x)[0] > 0
    assert witness_margins(weight, None, index(0), x)[0] < 0
    assert witness_margins(weight[[0, 0]], None, index(0), x)[0] <= 0  # a tie is no win


def test_margins_far_from_the_origin():
    # A common offset cancels in exact arithmetic, and must not hide the winner.
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(50, 6))
    offset = weight + 2.0**30 * rng.normal(size=6)
    x = offset - offset.mean(axis=0)
    found = witness_margins(offset, None, np.arange(50), x)
    exact = [float(rational_margin(offset, None, i, x[i])) for i in range(50)]
    assert np.array_equal(found > 0, np.array(exact) > 0)


def test_margins_of_single_class_and_not_finite():
    assert witness_margins(np.ones((1, 3)), None, index(0), np.zeros((1, 3)))[0] == np.inf
    x = np.array([[np.nan, 0.0], [np.inf, 0.0]])
    assert (witness_margins(HAND, None, index(0, 1), x) == -np.inf).all()
    with pytest.raises(ValueError, match=r"2 classes and 2 features.*\(3, 2\)"):
        witness_margins(HAND, None, index(0, 1), np.zeros((3, 2)))


def test_margins_across_blocks():
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(5000, 3)).astype(np.float32)  # more than one block of classes
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    classes = rng.permutation(5000)[:2050]  # more than one block of queries
    x = weight[classes].astype(np.float64)
    logits = x @ weight.T.astype(np.float64)
    own = logits[np.arange(2050), classes]
    logits[np.arange(2050), classes] = -np.inf
    np.testing.assert_allclose(
        witness_margins(weight, None, classes, x), own - logits.max(axis=1), rtol=0.07, atol=1e-12
    )


# Simplices.


@pytest.mark.parametrize("d", [1, 2, 3, 31, 32, 33, 120, 257])
@pytest.mark.parametrize("g", [1, 5])
def test_planted_classes_are_proved(d, g):
    weight, classes, support, coefficients = planted(d, g)
    found = prove_unargmaxable(weight, None, classes, support)
    assert (found.proof == Proof.INTERVAL).all()
    np.testing.assert_allclose(found.coefficients, coefficients, rtol=1e-8, atol=1e-13)
    assert (found.residual < 1e-13).all()
    assert (found.slack == 0).all()
    assert (found.depth > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_planted_classes_of_every_dtype(dtype):
    weight, classes, support, _ = planted(6, 4, dtype=dtype)
    bias = np.r_[np.zeros(7), -np.ones(4)].astype(dtype)
    found = prove_unargmaxable(weight, bias, classes, support)
    assert (found.proof == Proof.INTERVAL).all()
    np.testing.assert_allclose(found.slack, 1.0)
    combined = found.coefficients @ weight[support].astype(np.float64)
    np.testing.assert_allclose(combined, weight[classes].astype(np.float64), rtol=0, atol=1e-14)


def test_strides_and_read_only_memory_maps(tmp_path):
    weight, classes, support, _ = planted(5, 3, dtype=np.float32)
    plain = prove_unargmaxable(weight, None, classes, support)
    np.save(tmp_path / "w.npy", np.asfortranarray(weight))
    for other in (
        np.load(tmp_path / "w.npy", mmap_mode="r"),
        np.repeat(weight, 2, axis=0)[::2],
        weight.astype(">f4"),
    ):
        again = prove_unargmaxable(other, None, classes, support)
        assert np.array_equal(again.coefficients, plain.coefficients)


def test_classes_outside_are_not_proved():
    weight, classes, support, _ = planted(8, 3)
    weight[classes[1]] = weight[0] + 2.0**-20 * (weight[0] - weight[1])  # outward, just so
    found = prove_unargmaxable(weight, None, classes, support)
    assert found.proof.tolist() == [Proof.INTERVAL, Proof.NONE, Proof.INTERVAL]
    bias = np.zeros(12)
    bias[classes[0]] = 2.0**-40  # inside, but a hair above its support
    found = prove_unargmaxable(weight, bias, classes, support)
    assert found.proof.tolist() == [Proof.NONE, Proof.NONE, Proof.INTERVAL]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [1e-3, 1e-6])
def test_collapsed_clusters(dtype, spread):
    # Supports mix far vertices with members of a cluster, to which the classes belong:
    # the coefficients of the far ones are tiny, and still must be proved positive.
    rng = np.random.default_rng(4)
    d, g = 40, 50
    centre = rng.normal(size=d)
    vertices = rng.normal(size=(d + 1, d))
    near = np.arange(d + 1) % 2 == 0
    vertices[near] = centre + spread * rng.normal(size=(near.sum(), d))
    vertices = vertices.astype(dtype).astype(np.float64)
    coefficients = np.where(near, 1.0, 1e-2 * spread) * rng.uniform(0.5, 1.0, size=(g, d + 1))
    coefficients /= coefficients.sum(axis=1, keepdims=True)
    weight = np.vstack([vertices, coefficients @ vertices])
    found = prove_unargmaxable(weight, None, np.arange(d + 1, d + 1 + g), np.arange(d + 1))
    assert (found.proof == Proof.INTERVAL).all()
    exact = combine_exactly(
        vertices, weight[d + 1 :], np.zeros(d + 1), np.zeros(g), flint=load_flint()
    )
    assert exact.proved.all()
    np.testing.assert_allclose(found.coefficients, exact.coefficients, rtol=2.0**-8)


def test_depth_is_the_distance_to_the_boundary():
    # Triangle (0,0), (4,0), (0,4): from (1,1) the nearest sides are at distance 1.
    weight = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
    found = prove_unargmaxable(weight, None, index(3), index(0, 1, 2))
    assert found.depth[0] == pytest.approx(1.0, rel=1e-6)
    assert found.depth[0] <= 1.0
    weight[3] = 0.5, 1.0
    found = prove_unargmaxable(weight, None, index(3), index(0, 1, 2))
    assert found.depth[0] == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int8"])
def test_below_rounding_is_sufficient(name):
    # Where the flag says that nothing breaks, rounding indeed breaks nothing.
    rng = np.random.default_rng(5)
    safe = 0
    for seed in range(30):
        weight, classes, support, _ = planted(3, 8, seed=seed, concentration=1.0)
        bias = np.r_[np.zeros(4), -(10.0 ** rng.uniform(-4, 0, size=8))]
        unit, half_step = rounding_of(name, weight)
        found = prove_unargmaxable(
            weight, bias, classes, support, unit_roundoff=unit, half_step=half_step
        )
        if name == "int8":
            step = np.abs(weight).max() / 127
            rounded, rounded_bias = np.rint(weight / step) * step, bias
        else:
            dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
            rounded, rounded_bias = (a.astype(dtype).astype(float) for a in (weight, bias))
        again = prove_unargmaxable(rounded, rounded_bias, classes, support)
        assert (again.proof[~found.below_rounding] != Proof.NONE).all()
        safe += np.count_nonzero(~found.below_rounding)
    assert safe > 0


# Supports smaller than a simplex.


def test_exact_middle_of_two():
    found = prove_unargmaxable(HAND, None, index(4), index(0, 2))
    assert found.proof[0] == Proof.INTERVAL  # a constant column leaves one equation
    assert found.coefficients.tolist() == [[0.5, 0.5]]
    assert (found.residual[0], found.slack[0], found.depth[0]) == (0.0, 0.0, 0.0)
    # A hundred equations, and one of them broken in its last bit.
    weight = np.random.default_rng(6).integers(-99, 99, size=(3, 100)).astype(float)
    weight[2] = weight[:2].mean(axis=0)
    assert prove_unargmaxable(weight, None, index(2), index(0, 1)).proof[0] == Proof.EXACT
    weight[2, 77] += 2.0**-30
    assert prove_unargmaxable(weight, None, index(2), index(0, 1)).proof[0] == Proof.NONE


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (0.0, (0.0, 0.0), Proof.INTERVAL),  # a tie is dead
        (0.25, (0.0, 0.5), Proof.EXACT),  # slack exactly zero
        (np.nextafter(0.25, 1), (0.0, 0.5), Proof.NONE),
        (0.125, (0.0, 0.5), Proof.INTERVAL),
    ],
)
def test_bias_of_a_middle(own, others, expected):
    bias = np.array([others[0], -9.0, others[1], -9.0, own])
    assert prove_unargmaxable(HAND, bias, index(4), index(0, 2)).proof[0] == expected


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [(0.0, 0.0, Proof.EXACT), (0.0, 1.0, Proof.EXACT), (1.0, 0.0, Proof.NONE)],
)
def test_duplicates(own, other, expected):
    weight = np.array([[0.1, 0.2], [0.1, 0.2], [0.1, np.nextafter(0.2, 1)]])
    bias = np.array([other, own, 9.0])
    found = prove_unargmaxable(weight, bias, index(1, 2), index(0), unit_roundoff=2.0**-8)
    assert found.proof.tolist() == [expected, Proof.NONE]
    if expected == Proof.EXACT:
        assert (found.slack[0], found.residual[0]) == (other - own, 0.0)
        assert not found.below_rounding[0]  # equal rows stay equal


def test_constant_and_repeated_columns():
    weight, classes, support, _ = planted(4, 3)
    wide = np.column_stack([weight, np.full(8, 7.0), weight[:, 1], -4.0 * weight[:, 2]])
    found = prove_unargmaxable(wide, None, classes, support)
    assert (found.proof == Proof.INTERVAL).all()
    assert (found.depth == 0).all()
    wide[classes[0], 5] += 2.0**-50  # the copy of a column is none for this class
    assert prove_unargmaxable(wide, None, classes[:1], support).proof[0] != Proof.INTERVAL


def test_rank_deficient_weights_are_numerical():
    rng = np.random.default_rng(7)
    low, classes, support, _ = planted(40, 3)
    weight = low @ rng.normal(size=(40, 64))  # rounding breaks the exact equations
    found = prove_unargmaxable(weight, None, classes, support)
    assert (found.proof == Proof.NUMERICAL).all()
    assert (found.residual < 1e-12).all()
    outside = weight.copy()
    outside[classes] += 2.0**-20 * rng.normal(size=(3, 64))
    assert (prove_unargmaxable(outside, None, classes, support).proof == Proof.NONE).all()
    # With integers the equations hold exactly, which rational arithmetic shows.
    flat = rng.integers(-9, 9, size=(33, 8)) @ rng.integers(-9, 9, size=(8, 64))
    flat = np.vstack([flat[:9], (flat[:8].sum(axis=0)) / 8.0])
    assert prove_unargmaxable(flat, None, index(9), np.arange(8)).proof[0] == Proof.EXACT


@pytest.mark.parametrize("d", [12, 50])
def test_exact_tie_of_the_bias(d):
    # The slack of all classes is exactly zero, with unequal biases: rounding cannot tell.
    rng = np.random.default_rng(d)
    counts = rng.multinomial(1024 - (d + 1), np.full(d + 1, 1 / (d + 1)), size=3) + 1
    weight = rng.integers(-9, 10, size=(d + 1, d)).astype(float)
    bias = rng.integers(-9, 10, size=d + 1).astype(float)
    weight = np.vstack([weight, counts @ weight / 1024])
    bias = np.r_[bias, counts @ bias / 1024]
    classes, support = np.arange(d + 1, d + 4), np.arange(d + 1)
    found = prove_unargmaxable(weight, bias, classes, support)
    assert (found.proof == (Proof.EXACT if d < 32 else Proof.NUMERICAL)).all()
    np.testing.assert_allclose(found.coefficients, counts / 1024, rtol=1e-10)
    assert (found.depth > 0).all()
    exact = prove_unargmaxable(weight, bias, classes, support, exact=True)
    assert (exact.proof == Proof.EXACT).all()
    assert (exact.slack == 0).all()
    bias[classes] += 2.0**-30
    for exactly in (False, True):
        above = prove_unargmaxable(weight, bias, classes, support, exact=exactly)
        assert (above.proof == Proof.NONE).all()


def test_supports_that_prove_nothing():
    weight, classes, support, _ = planted(3, 2)
    cls = classes[:1]
    none = [
        index(),
        index(0, 0, 1, 2),
        index(0, 1, 2, int(cls[0])),  # the class itself
        np.arange(5),  # more than d + 1
        index(0, 1, 2),  # too few
    ]
    for wrong in none:
        found = prove_unargmaxable(weight, None, cls, wrong)
        assert found.proof.tolist() == [Proof.NONE]
    with pytest.raises(IndexError, match="support 6"):
        prove_unargmaxable(weight, None, cls, index(0, 1, 2, 6))
    with pytest.raises(IndexError, match="class -1"):
        prove_unargmaxable(weight, None, index(-1), support)


def test_degenerate_simplex():
    # Four points of a plane in three dimensions: their coefficients are not unique.
    weight = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1], [0.5, 0.5, 1]], float)
    found = prove_unargmaxable(weight, None, index(4), index(0, 1, 2, 3))
    assert found.proof[0] in (Proof.NONE, Proof.NUMERICAL)
    assert prove_unargmaxable(weight, None, index(4), index(0, 3)).proof[0] == Proof.INTERVAL


# Rational arithmetic.


@pytest.mark.parametrize("d", [1, 2, 7, 31, 60])
def test_exact_agrees_with_enclosures(d):
    weight, classes, support, _ = planted(d, 3, dtype=np.float32)
    bias = np.random.default_rng(d).normal(size=d + 4).astype(np.float32)
    bias[classes] = -3
    enclosed = prove_unargmaxable(weight, bias, classes, support)
    exact = prove_unargmaxable(weight, bias, classes, support, exact=True)
    assert (enclosed.proof == Proof.INTERVAL).all()
    assert (exact.proof == Proof.EXACT).all()
    np.testing.assert_allclose(enclosed.coefficients, exact.coefficients, rtol=2.0**-8)
    assert (enclosed.slack <= exact.slack).all()
    np.testing.assert_allclose(enclosed.slack, exact.slack, rtol=1e-6)
    assert np.array_equal(enclosed.depth, exact.depth)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_exact_backends_agree_with_enclosures_on_grids(seed):
    # Small integers: boundaries, ties and degenerate simplices all the time.
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 5))
    k = int(rng.integers(1, d + 2))
    weight = rng.integers(-3, 4, size=(k + 4, d)).astype(float)
    bias = rng.integers(-1, 2, size=k + 4).astype(float)
    classes, support = np.arange(k, k + 4), np.arange(k)
    if len(np.unique(weight[:k], axis=0)) < k:
        return
    args = weight[:k], weight[k:], bias[:k], bias[k:]
    python, flint = combine_exactly(*args), combine_exactly(*args, flint=load_flint())
    for name in ("proved", "refuted", "coefficients", "slack"):
        np.testing.assert_array_equal(getattr(python, name), getattr(flint, name))
    found = prove_unargmaxable(weight, bias, classes, support)
    # Whatever is called proved is, and what is a combination is found.
    assert not (python.refuted & (found.proof != Proof.NONE)).any()
    assert (found.proof[python.proved] != Proof.NONE).all()
    for i in np.flatnonzero(np.isin(found.proof, [Proof.INTERVAL, Proof.EXACT])):
        assert python.proved[i]


def test_exact_without_flint_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install logitkit\[exact\]"):
        prove_unargmaxable(HAND, None, index(4), index(0, 2), exact=True)


def test_exact_of_extreme_exponents():
    weight = np.array([[2.0**-1000, 0.0], [0.0, 2.0**1000], [0.0, 0.0], [2.0**-1002, 2.0**998]])
    found = prove_unargmaxable(weight, None, index(3), index(0, 1, 2), exact=True)
    assert found.proof[0] == Proof.EXACT
    assert found.coefficients.tolist() == [[0.25, 0.25, 0.5]]


# Laws.


@given(st.integers(0, 2**32 - 1), st.integers(-200, 200), st.integers(-3, 3))
@settings(max_examples=60, deadline=None)
def test_invariances(seed, scale, shift):
    rng = np.random.default_rng(seed)
    weight, classes, support, _ = planted(4, 5, seed=seed, concentration=1.0)
    weight = np.round(weight * 2.0**20)  # so that shifts are exact
    bias = rng.integers(-3, 3, size=10).astype(float)
    plain = prove_unargmaxable(weight, bias, classes, support).proof
    order = rng.permutation(10)
    where = np.argsort(order)
    for w, b, c, s in (
        (weight[order], bias[order], where[classes], where[support]),
        (weight, bias, classes, support[::-1]),
        (weight * 2.0**scale, bias, classes, support),
        (weight, bias * 2.0**scale, classes, support),
        (weight + shift * np.arange(4.0), bias + shift, classes, support),
    ):
        again = prove_unargmaxable(w, b, c, s).proof
        assert np.array_equal(again == Proof.NONE, plain == Proof.NONE)


def test_groups_do_not_matter():
    weight, classes, support, _ = planted(12, 20, concentration=0.3)
    together = prove_unargmaxable(weight, None, classes, support)
    alone = [prove_unargmaxable(weight, None, index(i), support) for i in classes]
    assert np.array_equal(together.proof, [one.proof[0] for one in alone])
    np.testing.assert_allclose(
        together.coefficients, np.concatenate([one.coefficients for one in alone]), rtol=2.0**-8
    )


# Boxes of features.


def test_box_decides():
    # Class 0 wins at x > 2 only.
    weight, bias = np.array([[1.0], [0.0]]), np.array([0.0, 2.0])
    one = np.ones(1)
    for bound, expected in ((1.0, -1.0), (1.5, -0.5), (2.0, 0.0), (3.0, 1.0)):
        value, proof = prove_unargmaxable_in_box(
            weight, bias, -bound * one, bound * one, 0, index(1), one
        )
        assert value == pytest.approx(expected, abs=1e-12)
        assert value >= expected
        assert (proof == Proof.INTERVAL) == (expected < 0)
    loss = rounding_loss_in_box(weight, bias, -one, one, 0, index(1), unit_roundoff=0.5)
    assert loss == pytest.approx(0.5 + 2.0, rel=1e-5)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_box_bounds_every_feature(seed):
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(6, 3)), rng.normal(size=6)
    lo = rng.normal(size=3)
    hi = lo + rng.uniform(0.1, 5, size=3)
    coefficients = rng.uniform(size=3)
    value, _ = prove_unargmaxable_in_box(weight, bias, lo, hi, 5, index(0, 1, 2), coefficients)
    x = rng.uniform(lo, hi, size=(100, 3))
    x[:50] = np.where(rng.random((50, 3)) < 0.5, lo, hi)
    logits = x @ weight.T + bias
    average = (logits[:, 5:] - logits[:, :3]) @ coefficients
    assert average.max() <= value


def test_box_certificate_that_is_none():
    args = HAND, None, -np.ones(2), np.ones(2), 4
    for support, coefficients in (
        (index(0, 2), [0.5, -0.5]),
        (index(0, 2), [0.0, 0.0]),
        (index(0, 2), [np.nan, 1.0]),
        (index(4, 2), [0.5, 0.5]),
    ):
        value, proof = prove_unargmaxable_in_box(*args, support, np.array(coefficients))
        assert (value, proof) == (np.inf, Proof.NONE)


@pytest.mark.parametrize(
    ("lo", "hi", "message"),
    [
        (1.0, 1.0, "lo = 1.0 is not below hi = 1.0"),
        ([0.0, 2.0], [1.0, 1.0], r"lo\[1\] = 2.0 is not below hi\[1\] = 1.0"),
        (0.0, [1.0, -1.0], r"lo\[1\] = 0.0 is not below hi\[1\] = -1.0"),
        (-np.inf, 1.0, "lo = -inf is not finite"),
        (0.0, [1.0, np.nan], r"hi\[1\] = nan is not finite"),
        ([0.0, 0.0], [1.0, 1.0, 1.0], "lo has 2 entries and hi has 3"),
        ([[0.0]], 1.0, r"shape \(1, 1\)"),
    ],
)
def test_box_errors(lo, hi, message):
    with pytest.raises(ValueError, match=message):
        Box(lo, hi)


def test_box_bounds():
    assert Box(-1, 1) == Box(-1.0, 1.0)
    assert Box(-1, 1) != Box(-1, [1.0, 1.0])
    with pytest.raises(ValueError, match="hi has 2 entries, but there are 3 features"):
        Box(-1, [1.0, 1.0]).bounds(3)


# Dtypes and arithmetic.


@pytest.mark.parametrize(
    ("given_", "name"),
    [
        (None, None),
        ("bfloat16", "bfloat16"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.float16, "float16"),
        (np.dtype("<f4"), "float32"),
        ("int8", "int8"),
        (np.int8, "int8"),
    ],
)
def test_deployed_dtype(given_, name):
    assert deployed_dtype_name(given_) == name


@pytest.mark.parametrize("wrong", ["int4", np.float64, "fp8", 3])
def test_deployed_dtype_error(wrong):
    with pytest.raises(ValueError, match="expected None or one of float32, float16, bfloat16"):
        deployed_dtype_name(wrong)


@given(
    st.floats(-1e100, 1e100, allow_subnormal=False), st.floats(-1e100, 1e100, allow_subnormal=False)
)
def test_error_free_transformations(a, b):
    d, e = two_difference(np.float64(a), np.float64(b))
    assert Fraction(float(d)) + Fraction(float(e)) == Fraction(a) - Fraction(b)
    if a == 0 or b == 0 or abs(a * b) > 1e-250:
        p, e = two_product(np.float64(a), np.float64(b))
        assert Fraction(float(p)) + Fraction(float(e)) == Fraction(a) * Fraction(b)


@pytest.mark.parametrize("k", [1, 2, 17, 120])
def test_accurate_residual(k):
    rng = np.random.default_rng(k)
    matrix = rng.normal(size=(k, k)) * 10.0 ** rng.integers(-9, 9, size=k)
    y = rng.normal(size=(3, k)) * 10.0 ** rng.integers(-9, 9, size=(3, k))
    low = matrix * 2.0**-60
    b = y @ matrix  # nearly everything cancels
    found, bound = accurate_residual(b, np.zeros_like(b), y, matrix, low)
    for i in range(3):
        for j in range(k):
            column = [
                Fraction(float(u)) + Fraction(float(v))
                for u, v in zip(matrix[:, j], low[:, j], strict=True)
            ]
            exact = Fraction(float(b[i, j])) - sum(
                Fraction(float(v)) * m for v, m in zip(y[i], column, strict=True)
            )
            assert abs(exact - Fraction(float(found[i, j]))) <= Fraction(float(bound[i, j]))
    scale = np.abs(y).max(axis=1, keepdims=True) * np.abs(matrix).max(axis=0)
    assert (bound <= k * (2.0**-90 * scale * k + 2.0**-50 * np.abs(found)) + 1e-250).all()
