"""Guidance of logitkit.diffusion against laws that are known in closed form."""

import itertools
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from diffusion_oracles import Mixture

from logitkit import diffusion as d

WEIGHTS, MEANS, STDS = (0.3, 0.7), (-1.0, 2.0), (0.5, 0.3)
MIXTURE = Mixture(WEIGHTS, MEANS, STDS)
PROCESS = d.Gaussian(d.VariancePreserving())
SCHEDULE = PROCESS.schedule


def network(x, t, condition=None):
    """Predict the noise, for the mixture or for the component that is asked for."""
    data = (
        MIXTURE
        if condition is None
        else Mixture((1.0,), MEANS[condition:][:1], STDS[condition:][:1])
    )
    return data.network(PROCESS, "eps")(x, t)


def class_logits(x, t):
    """Return log p(component, x_t), and its pullback, in closed form."""
    alpha, sigma = (np.reshape(v, (-1, 1)) for v in (SCHEDULE.alpha(t), SCHEDULE.sigma(t)))
    mean, variance = alpha * np.array(MEANS), (alpha * np.array(STDS)) ** 2 + sigma**2
    gap = x - mean  # (n, 1) against (1, 2)
    logits = np.log(WEIGHTS) - 0.5 * np.log(variance) - gap**2 / (2 * variance)
    return logits, lambda g: np.sum(-gap / variance * g, axis=-1, keepdims=True)


def predict(guidance, x, t, condition=None, of=network, kind="eps", process=PROCESS):
    return d.Predictor(process, of, kind, condition, guidance)(x, t)


X = np.linspace(-2.0, 2.0, 9)[:, None]


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "score", "flow"])
def test_classifier_free_in_any_kind(kind):
    def of(x, t, condition=None):
        eps = d.Prediction(network(x, t, condition), "eps", x, t)
        return PROCESS.convert(eps, kind)

    result = predict(d.ClassifierFree(2.0), X, 0.4, 1, of, kind)
    expected = 3.0 * network(X, 0.4, 1) - 2.0 * network(X, 0.4)
    np.testing.assert_allclose(PROCESS.convert(result, "eps"), expected, rtol=1e-9)
    unguided = d.Prediction(result.unguided, kind, X, 0.4)
    np.testing.assert_allclose(PROCESS.convert(unguided, "eps"), network(X, 0.4), rtol=1e-9)


@pytest.mark.parametrize(("weight", "condition"), [(0.0, 1), (-1.0, None)])
def test_weights_without_guidance(weight, condition):
    result = predict(d.ClassifierFree(weight), X, 0.4, 1)
    np.testing.assert_allclose(result.value, network(X, 0.4, condition), rtol=1e-14)


def test_negative_condition_and_several():
    negative = predict(d.ClassifierFree(1.5, negative=0), X, 0.4, 1).value
    several = predict(d.MultiCondition((2.5, -1.5)), X, 0.4, (1, 0)).value
    np.testing.assert_allclose(negative, several, rtol=1e-12)
    one = predict(d.MultiCondition((3.0,)), X, 0.4, (1,)).value
    np.testing.assert_allclose(one, predict(d.ClassifierFree(2.0), X, 0.4, 1).value, rtol=1e-12)


def test_rescaling_and_its_guard():
    x = np.random.default_rng(0).standard_normal((3, 2, 5))
    full = predict(d.ClassifierFree(4.0, rescale=1.0), x, 0.4, 1).value
    want = network(x, 0.4, 1)
    np.testing.assert_allclose(full.std(axis=(1, 2)), want.std(axis=(1, 2)), rtol=1e-12)
    half = predict(d.ClassifierFree(4.0, rescale=0.5), x, 0.4, 1).value
    none = predict(d.ClassifierFree(4.0), x, 0.4, 1).value
    np.testing.assert_allclose(half, 0.5 * (full + none), rtol=1e-12)
    flat = predict(d.ClassifierFree(4.0, rescale=1.0), x, 0.4, 1, lambda x, t, y: 0 * x + 2.0)
    assert (flat.value == 2.0).all()


def test_classifier_free_guidance_is_not_the_tilted_density():
    # [N] p(x) = N(0, 1), p(x | y) = N(1, 1/4): p(x) p(y | x)^3 is N(1.200, 0.100), and DDIM with
    # 1 + w = 3 samples N(1.495, 0.015)
    laws = {None: Mixture((1.0,), (0.0,), (1.0,)), 1: Mixture((1.0,), (1.0,), (0.5,))}

    def of(x, t, condition):
        return laws[condition].network(PROCESS)(x, t)

    x = d.sample(
        PROCESS, of, solver=d.DDIM(), times=d.uniform(PROCESS, 2000), prediction="x0",
        initial=np.array([[-1.0], [1.0]]), guidance=d.ClassifierFree(2.0), condition=1,
    ).ravel()  # fmt: skip
    # each step is affine, so two samples at -1 and 1 give mean and standard deviation
    assert x.mean() == pytest.approx(1.495, abs=5e-3)
    assert (0.5 * (x[1] - x[0])) ** 2 == pytest.approx(0.015, abs=2e-3)


def test_logits():
    logits = {None: np.log([0.5, 0.3, 0.2]), 1: np.log([0.2, 0.2, 0.6])}

    def of(x, t, condition):
        return np.broadcast_to(logits[condition] + 7.0, (*x.shape, 3))

    result = predict(
        d.ClassifierFree(2.0), np.zeros((1, 2), int), 0.5, 1, of, "logits", d.MaskTokens(3)
    ).value
    p = np.exp(result) / np.exp(result).sum(-1, keepdims=True)
    expected = np.array([0.2**3 / 0.5**2, 0.2**3 / 0.3**2, 0.6**3 / 0.2**2])
    np.testing.assert_allclose(p[0, 0], expected / expected.sum(), rtol=1e-12)


def test_logits_that_rule_tokens_out():
    logits = {
        None: np.array([0.0, -np.inf, 0.0, -np.inf]),
        1: np.array([0.0, 0.0, -np.inf, -np.inf]),
    }

    def of(x, t, condition):
        return np.broadcast_to(logits[condition], (*x.shape, 4))

    result = predict(
        d.ClassifierFree(2.0), np.zeros((1, 1), int), 0.5, 1, of, "logits", d.MaskTokens(4)
    ).value.ravel()
    assert np.isfinite(result[:2]).all()
    assert (result[2:] == -np.inf).all()


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("label", [0, 1])
def test_classifier_guidance_is_the_condition(t, label):
    # Bayes: the score given y is the score plus the gradient of log p(y | x_t)
    guidance = d.GradientGuidance(d.Classifier(class_logits))
    labels = np.full(len(X), label)
    result = predict(guidance, X, t, labels)
    np.testing.assert_allclose(result.value, network(X, t, label), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.unguided, network(X, t), rtol=1e-14)


def test_power_and_tempered_forms():
    gamma, t, labels = 3.0, 0.4, np.ones(len(X), int)
    logits, _ = class_logits(X, t)
    step = 1e-6

    def log_softmax(power, x):
        scaled = power * class_logits(x, t)[0]
        return (scaled - np.log(np.exp(scaled).sum(-1, keepdims=True)))[:, 1:]

    for temper in (1.0, gamma):
        slope = gamma * d.Classifier(class_logits, temper=temper)(X, t, labels)
        power = 1.0 if temper == 1.0 else gamma
        exact = (log_softmax(power, X + step) - log_softmax(power, X - step)) / (2 * step)
        np.testing.assert_allclose(slope, exact * (gamma if temper == 1.0 else 1.0), atol=4e-8)
    assert logits.shape == (9, 2)


@pytest.mark.parametrize(
    ("t", "ratio"), [(2, 2.20), (3, 1.64), (10, 1.17), (100, 1.02), (500, 1.006)]
)
def test_the_two_forms_differ_at_finite_steps(t, ratio):
    # [N] sigma_t^2 / (alpha_t sigma_s^2) for the steps of the linear schedule
    process = d.Gaussian(d.linear())
    shifts = []
    for form in ("eps", "mean"):
        guidance = d.GradientGuidance(lambda x, t, y: y + 0 * x, scale=1e-3, form=form)
        run = [
            d.DDPM().step(
                d.State(np.ones((1, 1)), float(t), np.arange(1)),
                d.Predictor(process, lambda x, t: 0 * x, "eps", condition, g),
                float(t), t - 1.0, process=process, rng=0,
            ).x.item()
            for condition, g in ((1.0, guidance), (None, None))
        ]  # fmt: skip
        shifts.append(run[0] - run[1])
    assert shifts[0] / shifts[1] == pytest.approx(ratio, abs=5e-3)


def test_gradient_at_the_mean():
    process, places = d.Gaussian(d.linear()), []

    def gradient(x, t, y):
        places.append(x.item())
        return 0 * x

    for at in ("x", "mean"):
        guidance = d.GradientGuidance(gradient, form="mean", at=at)
        predictor = d.Predictor(process, lambda x, t: 0 * x + 1.0, "eps", 1, guidance)
        state = d.State(np.ones((1, 1)), 500.0, np.arange(1))
        d.DDPM().step(state, predictor, 500.0, 400.0, process=process, rng=0)
    hop = process.hop(500.0, 400.0)
    x0 = (1.0 - hop.sigma_t) / hop.alpha_t
    mean = hop.alpha_s * x0 + hop.sigma_s * math.exp(-hop.h)
    assert places == [1.0, pytest.approx(mean, rel=1e-12)]


@pytest.mark.parametrize(
    ("solver", "steps", "form"),
    [(d.DDPM(), 400, "mean"), (d.DDPM(), 400, "eps"), (d.DDIM(), 200, "eps"),
     (d.DPMpp(2), 60, "eps"), (d.ReverseSDE(), 600, "mean"), (d.UniPC(2), 120, "eps")],
    ids=repr,
)  # fmt: skip
def test_guided_samples_have_the_law_of_the_class(solver, steps, form):
    n = 4000
    guidance = d.GradientGuidance(d.Classifier(class_logits), form=form)
    times = d.uniform(PROCESS, steps, end=1e-3)
    x = d.sample(
        PROCESS, network, solver=solver, times=times, shape=(n, 1), guidance=guidance,
        condition=np.ones(n, int),
    )  # fmt: skip
    assert x.mean() == pytest.approx(2.0, abs=0.05)
    assert x.std() == pytest.approx(0.3, abs=0.03)


def test_similarities_are_gradients():
    rng = np.random.default_rng(0)
    x, wanted, step = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), 1e-6
    w = rng.standard_normal((4, 4))

    def cosine(x):
        e = x @ w
        return np.sum(e * wanted, -1) / np.linalg.norm(e, axis=-1) / np.linalg.norm(wanted, axis=-1)

    slope = d.CosineSimilarity(lambda x, t: (x @ w, lambda g: g @ w.T))(x, 0.5, wanted)
    maps, gram = rng.standard_normal((3, 2, 6)), rng.standard_normal((3, 2, 2))
    gram = gram + gram.swapaxes(1, 2)

    def likeness(f):
        return -np.sum((f @ f.swapaxes(1, 2) / 6 - gram) ** 2, axis=(1, 2))

    style = d.GramSimilarity(lambda x, t: (x, lambda g: g))(maps, 0.5, gram)
    for function, at, found in ((cosine, x, slope), (likeness, maps, style)):
        for index in np.ndindex(at.shape[1:]):
            e = np.zeros_like(at)
            e[(slice(None), *index)] = step
            exact = (function(at + e) - function(at - e)) / (2 * step)
            np.testing.assert_allclose(found[(slice(None), *index)], exact, atol=1e-7)


def test_similarity_of_nothing_has_no_gradient():
    similar = d.CosineSimilarity(lambda x, t: (x, lambda g: g))
    assert (similar(np.zeros((1, 2)), 0.5, np.ones((1, 2))) == 0.0).all()
    assert (similar(np.ones((1, 2)), 0.5, np.zeros((1, 2))) == 0.0).all()


def test_discrete_classifier():
    # p(x_s | x_t) p(y | x_s), exact where log p(y | x) is a sum over tokens
    logits, gain = np.log([0.5, 0.3, 0.2]), np.array([0.0, 0.0, 1.5])
    guidance = d.GradientGuidance(lambda x, t, y: np.broadcast_to(gain, (*x.shape, 3)), form="mean")
    x = d.sample(
        d.UniformTokens(3), lambda x, t: np.broadcast_to(logits, (*x.shape, 3)),
        solver=d.TokenPosterior(), times=[1.0, 0.0], shape=(20_000, 1), prediction="logits",
        guidance=guidance, condition=1,
    )  # fmt: skip
    expected = np.exp(logits + gain) / np.exp(logits + gain).sum()
    found = np.bincount(x.ravel(), minlength=3) / len(x)
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / math.sqrt(len(x)))


# --- others --------------------------------------------------------------------------------------


def test_cfgpp_with_ddim_is_its_equation():
    t, s, lam = 0.6, 0.3, 0.7
    predictor = d.Predictor(PROCESS, network, "eps", 1, d.CFGpp(lam))
    x = d.DDIM().step(d.State(X, t, np.arange(9)), predictor, t, s, process=PROCESS, rng=0).x
    eps, eps_y = network(X, t), network(X, t, 1)
    mixed = eps + lam * (eps_y - eps)
    x0 = (X - SCHEDULE.sigma(t) * mixed) / SCHEDULE.alpha(t)
    expected = SCHEDULE.alpha(s) * x0 + SCHEDULE.sigma(s) * eps
    np.testing.assert_allclose(x, expected, rtol=1e-11, atol=1e-12)


ALL = {
    "cfg": d.ClassifierFree(1.0), "cfg++": d.CFGpp(0.6), "apg": d.AdaptiveProjection(1.0),
    "rescale": d.ClassifierFree(1.0, rescale=0.3), "interval": d.Interval(d.ClassifierFree(1.0), 0.2, 0.8),
    "auto": d.AutoGuidance(network, 0.5), "threshold": d.DynamicThreshold(d.ClassifierFree(1.0), limit=3.0),
    "apg with momentum": d.AdaptiveProjection(1.0, 0.5, norm=2.0, momentum=-0.5),
    "ramp": d.ClassifierFree(d.PowerWeight(0.0, 1.0)), "interval of cfg++": d.Interval(d.CFGpp(0.6), 0.2, 0.8),
}  # fmt: skip
SOLVERS = [
    d.DDIM(), d.DDIM(0.5), d.DDPM(), d.Heun(), d.DPMSolver2(), d.DPMpp2S(), d.DPMpp(2), d.DPMpp(3),
    d.DPMpp(2, 1.0), d.UniPC(3), d.DEIS(3), d.ExponentialAdams(3), d.FlowEuler(), d.FlowHeun(),
    d.ReverseSDE(), d.UDM(), d.UDM(d.Keep()), d.ProbabilityFlow(1e-3, 1e-3), d.Cold(),
]  # fmt: skip


@pytest.mark.parametrize("guidance", ALL)
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_any_guidance_works_with_any_solver(guidance, solver):
    times = d.uniform(PROCESS, 4, end=0.02)
    run = {"solver": solver, "times": times, "guidance": ALL[guidance], "condition": 1}
    x = d.sample(PROCESS, network, shape=(6, 1), **run)
    assert np.isfinite(x).all()
    # each sample by itself, with times of its own
    alone = d.sample(PROCESS, network, shape=(1, 1), first=4, **run)
    np.testing.assert_allclose(x[4:5], alone, rtol=1e-9)
    run["times"] = np.repeat(times[:, None], 6, axis=1)
    np.testing.assert_allclose(d.sample(PROCESS, network, shape=(6, 1), **run), x, rtol=1e-7)


def test_projection():
    x = np.random.default_rng(0).standard_normal((3, 5))
    full = predict(d.AdaptiveProjection(2.0, parallel=1.0), x, 0.4, 1)
    free = predict(d.ClassifierFree(2.0), x, 0.4, 1)
    np.testing.assert_allclose(full.value, PROCESS.convert(free, "x0"), rtol=1e-9)
    data = PROCESS.convert(predict(d.ClassifierFree(0.0), x, 0.4, 1), "x0")
    step = predict(d.AdaptiveProjection(2.0), x, 0.4, 1).value - data
    np.testing.assert_allclose(np.sum(step * data, axis=-1), 0.0, atol=1e-12)
    short = predict(d.AdaptiveProjection(1.0, parallel=1.0, norm=0.1), x, 0.4, 1).value - data
    assert (np.linalg.norm(short, axis=-1) <= 0.1 + 1e-12).all()


def apg_by_its_algorithm(conditional, unconditional, average, w, beta, norm, eta):
    """Algorithm 1 of arXiv:2410.02416, for one sample; its scale is 1 + w."""
    average = conditional - unconditional + beta * average
    change = average * min(1.0, norm / np.linalg.norm(average))
    unit = conditional / np.linalg.norm(conditional)
    parallel = np.sum(change * unit) * unit
    return conditional + w * (change - parallel + eta * parallel), average


@pytest.mark.parametrize("wrap", [lambda g: g, lambda g: d.Interval(g, 0.0, 1.0)])
def test_momentum_by_the_algorithm_of_the_article(wrap):
    inner = d.AdaptiveProjection(3.0, parallel=0.2, norm=1.5, momentum=-0.7)
    x = np.random.default_rng(0).standard_normal((4, 3, 5))

    def bent(x, t, condition):
        return np.tanh(x) * (1.0 + t) if condition is None else np.sin(x + t)

    times = [1.0, 0.7, 0.4, 0.2]
    states = list(
        d.trajectory(
            PROCESS, bent, solver=d.DDIM(), times=times, initial=x, prediction="x0",
            guidance=wrap(inner), condition=1,
        )
    )  # fmt: skip
    average = np.zeros_like(x)
    for (t, s), (state, following) in zip(
        itertools.pairwise(times), itertools.pairwise(states), strict=True
    ):
        pairs = [
            apg_by_its_algorithm(*arrays, w=3.0, beta=-0.7, norm=1.5, eta=0.2)
            for arrays in zip(
                bent(state.x, t, 1), bent(state.x, t, None), average, strict=True
            )
        ]  # fmt: skip
        guided, average = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        hop = PROCESS.hop(t, s)
        eps = (state.x - hop.alpha_t * guided) / hop.sigma_t
        expected = hop.alpha_s * guided + hop.sigma_s * eps
        np.testing.assert_allclose(following.x, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(following.memory, average, rtol=1e-12, atol=1e-12)


def test_momentum_is_in_the_state():
    run = {
        "solver": d.DPMpp(2), "times": d.uniform(PROCESS, 6, end=0.02), "condition": 1,
        "guidance": d.AdaptiveProjection(2.0, 0.5, momentum=-0.5), "rng": 3,
    }  # fmt: skip
    states = list(d.trajectory(PROCESS, network, shape=(5, 1), **run))
    halfway = pickle.loads(pickle.dumps(states[3]))
    assert (d.sample(PROCESS, network, initial=halfway, **run) == states[-1].x).all()
    for workers in (2, 3):
        with ThreadPoolExecutor(workers) as executor:
            parts = d.sample(PROCESS, network, shape=(5, 1), executor=executor, **run)
        assert (parts == states[-1].x).all()
    without = d.sample(
        PROCESS, network, shape=(5, 1), **{**run, "guidance": d.AdaptiveProjection(2.0, 0.5)}
    )
    assert not np.allclose(without, states[-1].x)
    with pytest.raises(ValueError, match="memory that momentum needs"):
        predict(run["guidance"], X, 0.4, 1)


def test_dynamic_threshold_against_numpy():
    x = 3.0 * np.random.default_rng(0).standard_normal((4, 3, 5))
    result = predict(d.DynamicThreshold(quantile=0.9), x, 0.3, None, lambda x, t: x, "x0")
    s = np.maximum(1.0, np.quantile(np.abs(x).reshape(4, -1), 0.9, axis=1))[:, None, None]
    np.testing.assert_allclose(result.value, np.clip(x, -s, s) / s, rtol=1e-14)
    clipped = predict(d.DynamicThreshold(most=1.0), x, 0.3, None, lambda x, t: x, "x0")
    np.testing.assert_allclose(clipped.value, np.clip(x, -1.0, 1.0))


def test_interval():
    guidance = d.Interval(d.ClassifierFree(2.0), low=0.3, high=0.6)
    for t, weight in ((0.7, 0.0), (0.6, 2.0), (0.31, 2.0), (0.3, 0.0)):
        expected = predict(d.ClassifierFree(weight), X, t, 1).value
        np.testing.assert_allclose(predict(guidance, X, t, 1).value, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("guidance", "condition", "solver", "message"),
    [
        (d.ClassifierFree(1.0), None, d.DDIM(), "pass `condition`"),
        (d.Interval(d.CFGpp(0.5), 0.1, 0.2), None, d.DDIM(), "pass `condition`"),
        (d.MultiCondition((1.0, 2.0)), (1,), d.DDIM(), "tuple of 2 conditions"),
        (d.GradientGuidance(class_logits, form="mean"), 1, d.DDIM(), "shifts a step"),
        (d.GradientGuidance(class_logits, form="mean"), 1, d.DPMpp(2), "shifts a step"),
    ],
)
def test_guidance_that_cannot_be_used(guidance, condition, solver, message):
    with pytest.raises(ValueError, match=message):
        d.sample(
            PROCESS, network, solver=solver, times=[1.0, 0.5], shape=(1, 1), guidance=guidance,
            condition=condition,
        )  # fmt: skip


def test_gradient_of_a_torch_network():
    torch = pytest.importorskip("torch")
    w = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    classify = d.Classifier(d.TorchPullback(lambda x, t: torch.tanh(x) @ w))
    x = torch.zeros(2, 1, dtype=torch.float64)
    slope = classify(x, 0.5, np.array([0, 1]))
    p = 1.0 / 3.0
    exact = [1.0 - p * (1.0 - 2.0 + 0.5), -2.0 - p * (1.0 - 2.0 + 0.5)]
    np.testing.assert_allclose(slope.numpy().ravel(), exact, rtol=1e-12)
