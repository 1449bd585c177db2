"""Processes of logitkit.diffusion: each recovers a known law in three steps, and more."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import comb

from logitkit import diffusion as d

N = 20_000
TOKENS = np.array([[0, 0, 1], [2, 1, 0], [1, 1, 2], [2, 2, 2]])
RAGGED = np.array([[0, 1, 0, 2], [1, 1, -1, -1], [2, 0, 1, -1], [0, 2, 1, 1]])
VALUES = np.array(
    [[1.0, 2.0, 4.0, 3.0], [2.0, 1.0, 3.0, 3.5], [1.0, 2.0, 3.5, 5.0], [6.0, 1.0, 1.0, 2.0]]
)
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4])
OTHERS = np.array([[9.0, 8.0, 7.0, 9.0], [7.5, 9.0, 8.5, 7.0]])
rng_matrices = np.random.default_rng(3)
MATRICES = rng_matrices.dirichlet(np.ones(3), size=(6, 3))


def same(x, y):
    return np.all(np.abs(x - y) < 1e-9, axis=-1).astype(float)


def by_log_prob(process):
    return lambda x, atom, t: np.exp(process.log_prob(x, np.broadcast_to(atom, x.shape), t))


def cold(process):
    return lambda x, atom, t: same(x, process.forward(atom[None], None, t))


def noisy(first, second):
    """Return the density of normal noise around what a process without noise makes of an atom."""

    def likelihood(x, atom, t):
        mean = second.schedule.alpha(t) * first.forward(atom[None], None, t)
        return np.exp(-0.5 * np.sum(((x - mean) / second.schedule.sigma(t)) ** 2, axis=-1))

    return likelihood


def masked(x, atom, t):
    return np.all((x == 0.0) | (x == atom), axis=-1).astype(float)


def mixed(process):
    def likelihood(x, atom, t):
        alpha, sigma = process.path.alpha(t), process.path.sigma(t)
        return sum(same(x, alpha * atom + sigma * other) for other in OTHERS)

    return likelihood


def randomly_substituted(x, atom, t):
    m, length = (x != atom).sum(-1), x.shape[1]
    return comb(length - m, t - m)


def differently_substituted(x, atom, t):
    return ((x != atom).sum(-1) == t).astype(float)


def part_of(x, atom, t):
    """In how many ways of those that there are a sequence is a part of another."""
    whole = atom[atom >= 0]
    gone = min(int(t), len(whole))
    ways = {}
    for kept in itertools.combinations(range(len(whole)), len(whole) - gone):
        row = np.full(len(atom), -1)
        row[: len(kept)] = whole[list(kept)]
        key = tuple(row)
        ways[key] = ways.get(key, 0.0) + 1.0
    return np.array([ways.get(tuple(row), 0.0) for row in x]) / comb(len(whole), gone)


MASK, UNIFORM = d.MaskTokens(3), d.UniformTokens(3)
MATRIX = d.TransitionTokens(MATRICES)
BLUR, POOL = d.Blur(1.5, axes=1), d.Pool((2, 4), axes=1)
HOLE = d.Hole(np.array([0.2, 0.9, 0.5, 0.7]))
NOISE = d.Gaussian(d.VarianceExploding(1.0))
POOL_NOISE = d.Gaussian(d.Custom(np.ones_like, lambda t: 0.5 * t, span=(0.0, 2.0)))
MIXING = d.Mixing(OTHERS, d.StraightPath())
UNIT, COUNT = [1.0, 0.6, 0.3, 0.0], [3.0, 2.0, 1.0, 0.0]
CASES = {
    "mask bridge": (MASK, d.Bridge(), TOKENS, by_log_prob(MASK), UNIT),
    "mask fresh": (MASK, d.UDM(), TOKENS, by_log_prob(MASK), UNIT),
    "mask keep": (MASK, d.UDM(d.Keep()), TOKENS, by_log_prob(MASK), UNIT),
    "mask refresh": (MASK, d.UDM(d.Refresh(0.5)), TOKENS, by_log_prob(MASK), UNIT),
    "uniform bridge": (UNIFORM, d.Bridge(), TOKENS, by_log_prob(UNIFORM), UNIT),
    "uniform keep": (UNIFORM, d.UDM(d.Keep()), TOKENS, by_log_prob(UNIFORM), UNIT),
    "uniform fresh": (UNIFORM, d.UDM(), TOKENS, by_log_prob(UNIFORM), UNIT),
    "matrix bridge": (MATRIX, d.Bridge(), TOKENS, by_log_prob(MATRIX), [6.0, 4.0, 1.0, 0.0]),
    "matrix fresh": (MATRIX, d.UDM(), TOKENS, by_log_prob(MATRIX), [6.0, 4.0, 1.0, 0.0]),
    "random substitution fresh": (
        d.RandomSubstitution(3, 3), d.UDM(), TOKENS, randomly_substituted, COUNT,
    ),
    "random substitution keep": (
        d.RandomSubstitution(3, 3), d.UDM(d.Keep()), TOKENS, randomly_substituted, COUNT,
    ),
    "different substitution": (
        d.DifferentSubstitution(3, 3), d.UDM(d.Keep()), TOKENS, differently_substituted, COUNT,
    ),
    "deletion fresh": (d.Deletion(4), d.UDM(), RAGGED, part_of, [4.0, 3.0, 1.0, 0.0]),
    "deletion keep": (d.Deletion(4), d.UDM(d.Keep()), RAGGED, part_of, [4.0, 3.0, 1.0, 0.0]),
    "masking fresh": (d.Masking(), d.UDM(), VALUES, masked, UNIT),
    "masking keep": (d.Masking(), d.UDM(d.Keep()), VALUES, masked, UNIT),
    "hole": (HOLE, d.UDM(), VALUES, cold(HOLE), UNIT),
    "pool": (POOL, d.UDM(), VALUES, cold(POOL), [2.0, 1.0, 0.5, 0.0]),
    "blur": (BLUR, d.UDM(), VALUES, cold(BLUR), UNIT),
    "blur and noise": (
        d.Compose(BLUR, NOISE), d.UDM(d.Rotate(0.7)), VALUES, noisy(BLUR, NOISE), UNIT,
    ),
    "pool and noise": (
        d.Compose(POOL, POOL_NOISE), d.UDM(d.Keep()), VALUES, noisy(POOL, POOL_NOISE),
        [2.0, 1.0, 0.5, 0.0],
    ),
    "mixing fresh": (MIXING, d.UDM(), VALUES, mixed(MIXING), [0.9, 0.6, 0.3, 0.0]),
    "mixing keep": (MIXING, d.UDM(d.Keep()), VALUES, mixed(MIXING), [0.9, 0.6, 0.3, 0.0]),
}  # fmt: skip


def oracle(atoms, likelihood, rng):
    """Return a network that draws the data from their exact law given x_t."""

    def predict(x, t):
        p = np.stack([w * likelihood(x, a, t) for w, a in zip(WEIGHTS, atoms, strict=True)], -1)
        assert (p.sum(-1) > 0.0).all(), "x_t is impossible"
        total = np.cumsum(p, axis=-1)
        pick = (rng.random(len(x))[:, None] * total[:, -1:] > total).sum(-1)
        return atoms[pick]

    return predict


@pytest.mark.parametrize("case", CASES)
def test_recovers_the_data_in_three_steps(case):
    process, solver, atoms, likelihood, times = CASES[case]
    rng = np.random.default_rng(5)
    data = atoms[rng.choice(len(atoms), N, p=WEIGHTS)]
    draws = d.Draws(9, 0, np.arange(N))
    begin = process.forward(data, process.noise(draws, data), times[0])
    x = d.sample(
        process, oracle(atoms, likelihood, rng), solver=solver, times=times, initial=begin,
        prediction="x0", rng=1,
    )  # fmt: skip
    found = np.array([same(x, atom).mean() for atom in atoms])
    assert found.sum() == 1.0
    assert np.abs(found - WEIGHTS).max() < 5 * math.sqrt(0.25 / N)


@pytest.mark.parametrize(
    ("process", "s", "t"), [(MASK, 0.3, 0.7), (UNIFORM, 0.3, 0.7), (MATRIX, 2.0, 5.0)]
)
def test_bridge_transition_and_log_prob_agree(process, s, t):
    # q(x_t | x_0) by two transitions, q(x_s | x_0) by transition and bridge, each by frequency
    x0 = np.full((N * 4, 1), 1)
    draws = d.Draws(2, 0, np.arange(len(x0)))
    x_s = process.transition(x0, 0.0, s, draws)
    x_t = process.transition(x_s, s, t, draws)
    back = process.bridge(x_t, x0, t, s, draws)
    for x, time in ((x_s, s), (x_t, t), (back, s)):
        for token in range(4 if process is MASK else 3):
            exact = math.exp(process.log_prob(np.array([[token]]), np.array([[1]]), time).item())
            assert (x == token).mean() == pytest.approx(exact, abs=5 * 0.5 / math.sqrt(len(x0)))


@pytest.mark.parametrize("process", [MASK, UNIFORM, MATRIX], ids=lambda p: type(p).__name__)
def test_posterior_is_the_mix_of_bridges(process):
    t, s = (5.0, 2.0) if process is MATRIX else (0.7, 0.3)
    logits = np.log([[0.2, 0.5, 0.3]])
    for token in range(4 if process is MASK else 3):
        x = np.array([[token]])
        p = process.posterior(d.Prediction(logits[None], "logits", x, t), s).ravel()
        assert p.sum() == pytest.approx(1.0, abs=1e-12)
        x, draws = np.full((N * 4, 1), token), d.Draws(3, 0, np.arange(N * 4))
        prediction = d.Prediction(np.broadcast_to(logits, (N * 4, 1, 3)), "logits", x, t)
        drawn = process.bridge(x, process.restore(prediction, draws), t, s, draws)
        for other in range(len(p)):
            # for a token that is shown, the data are known in the process of masks
            assert (drawn == other).mean() == pytest.approx(p[other], abs=0.01)


def test_uniform_posterior_against_matrices():
    # the same process by its matrices, to rounding
    keep = np.array([1.0, 0.8, 0.5, 0.1])
    steps = [a / b * np.eye(4) + (1 - a / b) / 4 for a, b in zip(keep[1:], keep[:-1], strict=True)]
    by_matrix = d.TransitionTokens(steps)
    by_form = d.UniformTokens(4, keep=lambda t: float(keep[int(t)]))
    rng = np.random.default_rng(0)
    x, logits = rng.integers(0, 4, (2, 5)), rng.standard_normal((2, 5, 4))
    logits[0, 0, 1] = -np.inf
    for t, s in ((3.0, 2.0), (3.0, 1.0), (2.0, 1.0)):
        prediction = d.Prediction(logits, "logits", x, t)
        np.testing.assert_allclose(
            by_form.posterior(prediction, s), by_matrix.posterior(prediction, s), atol=1e-12
        )


def test_unmasking_probability():
    # [N] (alpha_s - alpha_t) / (1 - alpha_t)
    assert MASK.unmask(0.8, 0.5) == pytest.approx(0.3 / 0.8)


@pytest.mark.parametrize("remask", [0.0, 0.2, 1.0])
def test_remasking_keeps_the_law_of_the_masks(remask):
    logits = np.log([0.2, 0.5, 0.3])
    states = d.trajectory(
        MASK, lambda x, t: np.broadcast_to(logits, (*x.shape, 3)),
        solver=d.Unmask("random", remask=remask), times=[1.0, 0.7, 0.4, 0.1], shape=(N, 4),
        prediction="logits",
    )  # fmt: skip
    for state in states:
        assert (state.x == 3).mean() == pytest.approx(state.t, abs=5 * 0.5 / math.sqrt(4 * N))
    shown = state.x[state.x < 3]
    assert (shown == 1).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("solver", [d.Unmask(), d.Unmask("confidence"), d.Bridge()], ids=repr)
def test_all_masks_go_in_one_step(solver):
    x = d.sample(
        MASK, lambda x, t: np.zeros((*x.shape, 3)), solver=solver, times=[1.0, 0.0],
        shape=(50, 4), prediction="logits",
    )  # fmt: skip
    assert (x < 3).all()


def test_unmasking_by_confidence_counts_exactly():
    logits = np.log([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    states = list(
        d.trajectory(
            d.MaskTokens(2), lambda x, t: np.broadcast_to(logits, (*x.shape, 2)),
            solver=d.Unmask("confidence", temperature=0.0), times=[1.0, 0.75, 0.5, 0.25, 0.0],
            shape=(1, 4), prediction="logits",
        )
    )  # fmt: skip
    assert [state.x.ravel().tolist() for state in states] == [
        [2, 2, 2, 2], [0, 2, 2, 2], [0, 2, 2, 1], [0, 0, 2, 1], [0, 0, 0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("solver", [d.Bridge(), d.TokenPosterior(), d.Unmask()], ids=repr)
def test_token_solvers_on_independent_tokens(solver):
    logits = np.log([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    x = d.sample(
        MASK, lambda x, t: np.broadcast_to(logits, (*x.shape, 3)), solver=solver,
        times=np.linspace(1.0, 0.0, 6), shape=(N, 2), prediction="logits",
    )  # fmt: skip
    for place, law in enumerate(np.exp(logits)):
        found = np.bincount(x[:, place], minlength=3) / N
        assert np.abs(found - law).max() < 5 * 0.5 / math.sqrt(N)


def test_different_substitution_restores_at_exactly_t_places():
    process = d.DifferentSubstitution(4, length=6)
    rng = np.random.default_rng(0)
    x, logits = rng.integers(0, 4, (50, 6)), rng.standard_normal((50, 6, 4))
    for t in range(7):
        prediction = d.Prediction(logits, "logits", x, float(t))
        x0 = process.restore(prediction, d.Draws(0, t, np.arange(50)))
        assert ((x0 != x).sum(-1) == t).all()


def test_encode_inverts_forward():
    rng = np.random.default_rng(0)
    tokens, values = rng.integers(0, 3, (40, 5)), rng.standard_normal((40, 4)) + 9.0
    for process, x0, t in [
        (MASK, tokens, 0.4), (UNIFORM, tokens, 0.4), (d.RandomSubstitution(3, 5), tokens, 2.0),
        (d.DifferentSubstitution(3, 5), tokens, 3.0), (d.Deletion(5), tokens, 2.0),
        (d.Masking(), values, 0.6), (MIXING, values, 0.5), (NOISE, values, 0.7),
        (d.Compose(BLUR, NOISE), values, 0.7),
    ]:  # fmt: skip
        draws = d.Draws(1, 0, np.arange(40))
        x = process.forward(x0, process.noise(draws, x0), t)
        again = process.forward(x0, process.encode(x, x0, t, draws), t)
        np.testing.assert_allclose(again, x, atol=1e-12)


# --- degradations --------------------------------------------------------------------------------


def test_blur_is_the_cosine_transform():
    from scipy import fft

    x = np.random.default_rng(0).standard_normal((3, 2, 8, 6))
    blurred = d.Blur(2.0).forward(x, None, np.array([0.0, 0.5, 1.0]))
    for i, t in enumerate((0.0, 0.5, 1.0)):
        spectrum = fft.dctn(x[i], axes=(-2, -1), norm="ortho")
        rate = (math.pi * np.arange(8) / 8)[:, None] ** 2 + (math.pi * np.arange(6) / 6) ** 2
        exact = fft.idctn(
            spectrum * np.exp(-rate * (2.0 * t) ** 2 / 2), axes=(-2, -1), norm="ortho"
        )
        np.testing.assert_allclose(blurred[i], exact, atol=1e-13)


def test_pooling():
    x = np.arange(16.0).reshape(1, 4, 4)
    assert (POOL.forward(x, None, 0.0) == x).all()
    pooled = d.Pool((2, 4)).forward(x, None, 1.0)
    assert pooled[0, 0, 0] == pooled[0, 1, 1] == 2.5
    assert (d.Pool((2, 4)).forward(x, None, 2.0) == 7.5).all()
    with pytest.raises(ValueError, match="multiple of 3"):
        d.Pool((3,)).forward(x, None, 1.0)


def test_cold_is_exact_for_what_is_added_in_time():
    # [N] x_0 + t e and any restorer: exact to rounding
    e = np.array([0.3, -2.0, 1.0])
    process = d.from_function(lambda x0, eps, t: x0 + t * e)
    x0 = np.random.default_rng(0).standard_normal((4, 3))
    x = d.sample(
        process, lambda x, t: np.tanh(x) - 7.0, solver=d.Cold(), times=np.linspace(1, 0, 11),
        initial=x0 + e, prediction="x0",
    )  # fmt: skip
    np.testing.assert_allclose(x, x0, atol=1e-14)
    naive = d.sample(
        process, lambda x, t: np.tanh(x) - 7.0, solver=d.UDM(), times=np.linspace(1, 0, 11),
        initial=x0 + e, prediction="x0",
    )  # fmt: skip
    assert np.abs(naive - x0).max() > 1.0


def test_wiener_posterior_of_blurred_normal_data():
    # x_t = K x_0 + sigma eps with x_0 ~ N(0, S): mean and covariance of x_0 in closed form.
    # Drawn from, ten rotations of the noise keep the covariance of the data.
    process, size = d.Compose(BLUR, NOISE), 4
    index = np.arange(size)
    cov = 0.8 ** np.abs(index[:, None] - index)
    rng = np.random.default_rng(0)

    def predict(x, t):
        k = BLUR.forward(np.eye(size), None, t).T
        noise = np.eye(size) * NOISE.schedule.sigma(t) ** 2
        gain = cov @ k.T @ np.linalg.inv(k @ cov @ k.T + noise)
        spread = np.linalg.cholesky(cov - gain @ k @ cov + 1e-12 * np.eye(size))
        return x @ gain.T + rng.standard_normal(x.shape) @ spread.T

    k = BLUR.forward(np.eye(size), None, 1.0).T
    begin = rng.multivariate_normal(np.zeros(size), k @ cov @ k.T + np.eye(size), N)
    x = d.sample(
        process, predict, solver=d.UDM(d.Rotate(0.5)), times=np.linspace(1.0, 0.0, 4),
        initial=begin, prediction="x0",
    )  # fmt: skip
    np.testing.assert_allclose(np.cov(x.T), cov, atol=6 / math.sqrt(N))


# --- what is legal -------------------------------------------------------------------------------


def test_capabilities_tell_which_solvers_are_legal():
    assert "schedule" in d.illegality(d.DPMpp(2), MASK)
    assert "bridge" in d.illegality(d.Bridge(), d.Deletion(3))
    assert "encode" in d.illegality(d.UDM(d.Keep()), BLUR)
    assert "posterior" in d.illegality(d.TokenPosterior(), NOISE)
    assert d.illegality(d.UDM(d.Keep()), d.Compose(BLUR, NOISE)) == ""
    assert not d.capabilities(d.Compose(d.Masking(), NOISE))["encode"]
    with pytest.raises(TypeError, match="DDIM needs schedule"):
        d.sample(MASK, lambda x, t: x, solver=d.DDIM(), times=[1.0, 0.0], shape=(1, 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: d.MaskTokens(0),
        lambda: d.DifferentSubstitution(1, 4),
        lambda: d.TransitionTokens(np.eye(3)),
        lambda: d.TransitionTokens(np.full((2, 3, 3), 0.4)),
        lambda: d.Unmask("any"),
        lambda: d.Unmask("confidence", remask=0.1),
        lambda: MASK.prior((2,), 0.5, d.Draws(0, 0, np.arange(2)), np.empty(0)),
        lambda: d.Masking().prior((2,), 0.5, d.Draws(0, 0, np.arange(2)), np.empty(0)),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError, match="expected"):
        call()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize(
    "process",
    [
        d.MaskTokens(5),
        d.UniformTokens(5),
        d.TransitionTokens(np.full((4, 5, 5), 0.2)),
        d.RandomSubstitution(5, 3),
    ],
    ids=lambda process: type(process).__name__,
)
def test_tokens_to_begin_with_have_the_type_asked_for(process, dtype):
    x = d.sample(
        process, lambda x, t: np.zeros((*x.shape, 5), np.float32), solver=d.UDM(),
        times=d.uniform(process, 2), shape=(6, 3), prediction="logits", like=np.empty(0, dtype),
    )  # fmt: skip
    assert x.dtype == dtype
    assert (x < 5).all()


def test_tokens_that_do_not_fit_their_type():
    draws, like = d.Draws(0, 0, np.arange(2)), np.empty(0, np.int8)
    d.MaskTokens(127).prior((3,), 1.0, draws, like)
    with pytest.raises(ValueError, match="numbers from 0 to 128, not int8"):
        d.MaskTokens(128).prior((3,), 1.0, draws, like)


def test_matrices_of_single_precision_are_scaled_to_probabilities():
    steps = np.random.default_rng(0).dirichlet(np.ones(50), size=(3, 50)).astype(np.float32)
    process = d.TransitionTokens(steps)
    np.testing.assert_allclose(np.asarray(process.matrices).sum(-1), 1.0, rtol=1e-14)
    steps[1, 7, 0] = np.nan
    with pytest.raises(ValueError, match=r"sum to 1, not matrices\[1, 7\] with the sum nan"):
        d.TransitionTokens(steps)


def test_one_token_needs_no_noise():
    x = d.sample(
        d.UniformTokens(1), lambda x, t: np.zeros((*x.shape, 1)), solver=d.Bridge(),
        times=[1.0, 0.5, 0.0], shape=(3, 2), prediction="logits",
    )  # fmt: skip
    assert (x == 0).all()


def test_priors_are_the_ends_of_the_forward_process():
    draws = d.Draws(0, 0, np.arange(N))
    x = UNIFORM.prior((2,), 1.0, draws, np.empty(0))
    assert np.abs(np.bincount(x.ravel(), minlength=3) / (2 * N) - 1 / 3).max() < 0.02
    assert (MASK.prior((2,), 1.0, draws, np.empty(0)) == 3).all()
    assert (d.Deletion(3).prior((3,), 3.0, draws, np.empty(0)) == -1).all()
