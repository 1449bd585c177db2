"""csrc/self_witness against brute force in float64."""

import numpy as np
import pytest

from logitkit import _cpu

ROUNDING = 2.0**-24


@pytest.fixture(params=_cpu.supported_isas(), ids=lambda isa: isa.name)
def isa(request):
    """Each instruction set of this machine in turn, tile registers too."""
    return request.param


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def ascending(z):
    z = z.astype(np.float32)
    order = np.argsort(np.linalg.norm(z.astype(np.float64), axis=1), kind="stable")
    return np.ascontiguousarray(z[order])


def prepare(z, error, threads=1):
    tails = np.empty((_cpu.witness_tails(z.shape[1]), len(z)), np.float32)
    squares = np.empty(len(z), np.float32)
    _cpu.prepare_self_witness(z, tails, squares, error=error, threads=threads)
    return tails, squares


def run(z, error, isa, *, threads=1, step=None):
    """Return the slack, from one call or from one for every `step` rows."""
    n = len(z)
    tails, squares = prepare(z, error, threads)
    slack = np.full(n + 2, np.inf, np.float32)
    for begin in range(0, n, step or n):
        end = min(n, begin + (step or n))
        _cpu.self_witness(
            z, tails, squares, slack[1:-1], begin=begin, end=end, threads=threads, isa=isa
        )
    assert slack[0] == slack[-1] == np.inf
    return slack[1:-1]


def brute_force(z):
    """Return every |z_i|^2 - z_i . z_j, +inf for j = i, and every |z_i| |z_j|."""
    z = z.astype(np.float64)
    products, norms = z @ z.T, np.linalg.norm(z, axis=1)
    margins = norms[:, None] ** 2 - products
    np.fill_diagonal(margins, np.inf)
    return margins, np.outer(norms, norms)


def assert_sound_and_complete(slack, z, error):
    margins, scale = brute_force(z)
    rounding = z.shape[1] * ROUNDING
    certain = (margins - (error - rounding) * scale + 1e-14 * scale).min(axis=1)
    settled = slack > 0
    assert np.all(slack >= 0)
    assert np.all(slack[settled] <= certain[settled])
    clear = np.all(margins > 4 * error * scale, axis=1)
    assert np.all(settled[clear])
    return settled


def error_of(z):
    return (z.shape[1] + 8) * ROUNDING


def clustered():
    """Half of the rows within a thousandth of one short row, so that none is its own witness."""
    z = normal(900, 70)
    z[::2] = 0.5 * z[0] + 1e-3 * normal(450, 70, seed=1)
    return z


CASES = {
    **{f"{n} rows": normal(n, 40) for n in (1, 2, 7, 8, 9, 23, 24, 25, 47, 48, 49, 63, 64, 65)},
    **{f"{r} columns": normal(130, r) for r in (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200)},
    "several groups": normal(1000, 90),
    "falling columns": normal(600, 128) * 0.97 ** np.arange(128),
    "rising columns": normal(600, 128) * 0.97 ** np.arange(128)[::-1],
    "clustered": clustered(),
    "nearly equal rows": normal(1, 50) + 1e-5 * normal(500, 50),
    "duplicates": np.repeat(normal(150, 33), 3, axis=0),
    "opposites": np.concatenate([normal(100, 33), -normal(100, 33)]),
    "many lengths": normal(700, 30) * np.exp(2 * normal(700, 1)),
    "many lengths of one direction": normal(1, 30) * np.exp(normal(300, 1)),
    "equal lengths": normal(500, 30) / np.linalg.norm(normal(500, 30), axis=1, keepdims=True),
    "orthogonal": np.eye(150),
    "dead rows below longer ones": np.concatenate(
        [np.repeat(np.eye(1, 150), 64, axis=0), 1.5 * np.eye(150)]
    ),
    "zero rows": np.concatenate([np.zeros((70, 20)), normal(200, 20)]),
    "all zero": np.zeros((100, 7)),
    "some tiny numbers": normal(300, 100) * np.where(normal(300, 100, seed=1) > 2.5, 1e-20, 1),
    "coordinates of very different sizes": normal(300, 100) * np.geomspace(1e-30, 1e15, 100),
    "near copies": np.repeat(normal(100, 64), 2, axis=0) * (1 + 1e-6 * normal(200, 1)),
    "small": 1e-15 * normal(300, 20),
    "large": 1e17 * normal(300, 20),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("factor", [1, 100])
def test_sound_and_complete(isa, case, factor):
    z = ascending(CASES[case])
    error = factor * error_of(z)
    settled = assert_sound_and_complete(run(z, error, isa), z, error)
    if case in ("all zero", "duplicates"):
        assert not np.any(settled)
    if case == "orthogonal":
        assert np.all(settled)


@pytest.mark.parametrize("case", ["several groups", "clustered", "many lengths"])
def test_rows_in_any_order(isa, case):
    z = CASES[case].astype(np.float32)
    assert_sound_and_complete(run(z, error_of(z), isa), z, error_of(z))


def test_short_rows_after_long_ones(isa):
    # Each short row is beaten by one long row, which is tiles away and settled itself.
    z = np.concatenate([2 * np.eye(100), np.eye(100)]).astype(np.float32)
    settled = assert_sound_and_complete(run(z, error_of(z), isa), z, error_of(z))
    np.testing.assert_array_equal(settled, np.arange(200) < 100)


def test_tiny_rows_are_never_settled_wrongly(isa):
    # Their squares underflow: nothing can be promised but that nothing false is.
    for scale in (1e-19, 1e-22, 1e-30, 1e-44):
        z = ascending(scale * normal(100, 9))
        slack = run(z, error_of(z), isa)
        certain = brute_force(z)[0].min(axis=1)
        assert np.all(slack[slack > 0] <= certain[slack > 0])


def test_one_row_is_its_own_witness(isa):
    assert run(np.ones((1, 3), np.float32), 1e-6, isa)[0] == np.inf


def test_margins_at_the_edge(isa):
    # Pairs whose margin is the error times -2 ... 4: from lost to settled.
    error = 1e-4
    for multiple in (-2.0, -0.5, 0.5, 0.9, 1.1, 2.0, 4.5):
        base = normal(40, 60)
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        twins = (1 - multiple * error) * base + 0.3 * np.roll(base, 1, axis=1)
        twins -= ((twins * base).sum(1) - 1 + multiple * error)[:, None] * base
        z = ascending(np.concatenate([base, twins]))
        assert_sound_and_complete(run(z, error, isa), z, error)


def test_same_bits_for_any_threads(isa):
    z = ascending(CASES["clustered"])
    one = run(z, error_of(z), isa)
    for threads in (2, 3):
        np.testing.assert_array_equal(run(z, error_of(z), isa, threads=threads), one)
    pieces = run(z, error_of(z), isa, step=100)
    np.testing.assert_array_equal(run(z, error_of(z), isa, step=100, threads=2), pieces)


@pytest.mark.parametrize("step", [1, 47, 48, 100, 899])
def test_ranges_add_up(isa, step):
    z = ascending(CASES["clustered"][:300])
    pieces = run(z, error_of(z), isa, step=step)
    assert_sound_and_complete(pieces, z, error_of(z))
    np.testing.assert_array_equal(pieces > 0, run(z, error_of(z), isa) > 0)


def test_prepared_bounds_point_outward():
    z = ascending(normal(50, 70))
    error = 1e-3
    tails, squares = prepare(z, error)
    exact = (z.astype(np.longdouble) ** 2)[:, ::-1].cumsum(axis=1)[:, ::-1]
    assert np.all(squares <= exact[:, 0])
    assert np.all(squares >= exact[:, 0] * (1 - 2.0**-22))
    for step, begin in enumerate((0, 32, 64, 70)):
        rest = exact[:, begin] if begin < 70 else 0
        bound = np.sqrt(rest + error * exact[:, 0])
        assert np.all(tails[step] >= bound)
        assert np.all(tails[step] <= np.sqrt(bound**2 + 1e-6 * exact[:, 0]) * (1 + 1e-6))


def test_pruning_saves_most_of_the_work(isa):
    z = ascending(normal(2000, 256))
    tails, squares = prepare(z, error_of(z))
    slack = np.full(2000, np.inf, np.float32)
    work = _cpu.self_witness(z, tails, squares, slack, begin=0, end=2000, isa=isa)
    assert np.all(slack > 0)
    assert work < 0.15 * 2000 * 2000 * 256


@pytest.mark.parametrize(("n", "r"), [(1, 1), (9, 5), (49, 33), (130, 64)])
def test_reads_nothing_beyond(isa, guarded, n, r):
    z = guarded(ascending(normal(n, r)))
    tails, squares = map(guarded, prepare(z, error_of(z)))
    slack = guarded(np.full(n, np.inf, np.float32))
    _cpu.self_witness(z, tails, squares, slack, begin=0, end=n, isa=isa)
    assert_sound_and_complete(slack, z, error_of(z))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
def test_refuses_rows_without_a_length(bad):
    z = np.ones((300, 4), np.float32)
    z[[270, 299], 2] = bad
    with pytest.raises(ValueError, match="row 270 of z"):
        prepare(z, 1e-6, threads=2)


def test_bad_arguments():
    z = np.ones((5, 4), np.float32)
    tails, squares = prepare(z, 1e-6)
    slack = np.full(5, np.inf, np.float32)
    with pytest.raises(ValueError, match="error"):
        prepare(z, -1.0)
    with pytest.raises(ValueError, match="error"):
        prepare(z, np.nan)
    with pytest.raises(ValueError, match="tails"):
        _cpu.self_witness(z, tails[:1], squares, slack, begin=0, end=5)
    with pytest.raises(ValueError, match="slack"):
        _cpu.self_witness(z, tails, squares, slack[1:], begin=0, end=5)
    with pytest.raises(ValueError, match="begin <= end <= n"):
        _cpu.self_witness(z, tails, squares, slack, begin=0, end=6)
    with pytest.raises(TypeError):
        _cpu.self_witness(z.astype(np.float64), tails, squares, slack, begin=0, end=5)
