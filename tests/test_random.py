"""logitkit.random against the published generator, and against its laws."""

import pickle

import numpy as np
import pytest

from logitkit import reference
from logitkit.random import Philox, as_philox
from logitkit.reference._philox import philox_4x32

# Random123, tests/kat_vectors, "philox4x32 10": counter, key, words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip
LAWS = ["uniform", "exponential", "gumbel", "normal"]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, expected):
    np.testing.assert_array_equal(philox_4x32(words(counter), words(key)), words(expected))


def test_bits_are_laid_out_as_documented():
    """Counter (block, row, step), key seed; the low word of an element first."""
    row, step, seed = 2**33 + 5, 7, 2**34 + 3
    expected = philox_4x32([[0, 5, 2, 7], [1, 5, 2, 7]], [3, 4]).astype(np.uint64)
    low, high = expected.reshape(2, 2, 2)[..., 0], expected.reshape(2, 2, 2)[..., 1]
    bits = Philox(seed, step=step).bits([row], 4)
    np.testing.assert_array_equal(bits, (low + (high << np.uint64(32))).reshape(1, 4))


@pytest.mark.parametrize("law", ["bits", *LAWS])
@pytest.mark.parametrize("shape", [(), 1, 2, 3, (2, 5), (0,), (3, 1, 2), 40])
def test_numbers_depend_on_seed_step_row_and_position_alone(law, shape):
    rng = Philox(2**63 + 5, step=9)
    draw = getattr(rng, law)
    sizes = (shape,) if isinstance(shape, int) else shape
    ids = np.array([3, -1, 0, 2**40, 7])
    together = draw(ids, shape)
    assert together.shape == (5, *sizes)
    for i, row in enumerate(ids):
        np.testing.assert_array_equal(draw([row], shape)[0], together[i])
    np.testing.assert_array_equal(draw(4, shape), draw(np.arange(4), shape))
    count = int(np.prod(sizes))
    longer = draw(ids, count + 7)
    np.testing.assert_array_equal(longer[:, :count], together.reshape(5, count))


@pytest.mark.parametrize("law", LAWS)
def test_float32_is_float64_rounded(law):
    draw = getattr(Philox(1), law)
    wide, narrow = draw(4, 1000), draw(4, 1000, np.float32)
    assert narrow.dtype == np.float32
    # The contract of float32: 2^-21 (1 + |x|).
    np.testing.assert_array_less(np.abs(narrow - wide), 2.0**-21 * (1.0 + np.abs(wide)))


def test_streams_differ():
    rng = Philox(1)
    others = [Philox(2), rng.at(1), rng.fold_in(0), rng.fold_in(1), rng.at(1).fold_in(0)]
    drawn = [other.bits(1, 100) for other in (rng, *others)]
    assert len(np.unique(drawn)) == 600


def test_is_a_value():
    rng = Philox(5, step=2)
    assert rng == Philox(5, step=2) == rng.at(2) == rng.at(0).advanced(2)
    assert pickle.loads(pickle.dumps(rng)) == rng
    assert hash(rng) == hash(Philox(5, step=2))
    with pytest.raises(AttributeError):
        rng.seed = 3
    assert as_philox(rng) is rng
    assert as_philox(np.int64(5)) == Philox(5)
    assert rng.fold_in(1).step == 2


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_bad_seed_is_an_error(seed):
    with pytest.raises(ValueError, match=f"expected seed from 0 to {2**64 - 1}, not {seed}"):
        Philox(seed)


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match="expected step from 0 to 4294967294, not 4294967295"):
        Philox(0, step=2**32 - 1)
    with pytest.raises(ValueError, match="not -1"):
        Philox(0).advanced(-1)
    with pytest.raises(TypeError, match="seed to be an integer, not a float"):
        Philox(1.0)
    with pytest.raises(TypeError, match="Philox, not a Generator"):
        as_philox(np.random.default_rng(0))
    with pytest.raises(TypeError, match="float32 or float64, not float16"):
        Philox(0).normal(1, 2, np.float16)
    with pytest.raises(ValueError, match="not negative, not -2"):
        Philox(0).normal(-2)
    with pytest.raises(TypeError, match=r"type float64 and shape \(2,\)"):
        Philox(0).normal([0.0, 1.0])
    with pytest.raises(ValueError, match=r"shape \(2, -1\)"):
        Philox(0).normal(1, (2, -1))
    with pytest.raises(ValueError, match=r"at most 2\*\*33"):
        Philox(0).normal(0, 2**33 + 1)


def test_tails_have_64_bits(monkeypatch):
    """The smallest and the largest bits give what the docstrings say, and no infinity."""
    ends = np.array([[0, 2**64 - 1, 2**63 - 1, 2**63]], np.uint64)
    monkeypatch.setattr(reference.Philox, "bits", lambda *_: ends)
    rng = reference.Philox(0)
    np.testing.assert_array_equal(rng.uniform(1, 4)[0, :2], [2.0**-65, 1 - 2.0**-53])
    np.testing.assert_array_equal(rng.uniform(1, 4, np.float32)[0, 1], np.float32(1 - 2.0**-24))
    np.testing.assert_allclose(rng.uniform(1, 4)[0, 2:], 0.5, rtol=2.0**-53)
    np.testing.assert_allclose(rng.exponential(1, 4)[0, :2], [65 * np.log(2), 2.0**-65], rtol=1e-15)
    np.testing.assert_allclose(
        rng.gumbel(1, 4)[0, :2], [-np.log(65 * np.log(2)), 65 * np.log(2)], rtol=1e-15
    )
    assert np.all(np.abs(rng.normal(1, 4)) < 9.5)


@pytest.mark.parametrize("law", LAWS)
def test_laws_by_chi_square(law):
    from scipy import stats

    frozen = {
        "uniform": stats.uniform(),
        "exponential": stats.expon(),
        "gumbel": stats.gumbel_r(),
        "normal": stats.norm(),
    }[law]
    drawn = getattr(Philox(11), law)(1000, 1000).ravel()
    edges = frozen.ppf(np.linspace(0, 1, 257)[1:-1])
    counts = np.bincount(np.searchsorted(edges, drawn), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4  # the seed is fixed: this cannot fail by chance
