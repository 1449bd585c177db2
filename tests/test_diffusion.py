"""The loop of logitkit.diffusion: batches, states, errors, training; NumPy and torch."""

import pickle
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from logitkit import diffusion as d
from logitkit.random import Philox

PROCESS = d.Gaussian(d.VariancePreserving())
TIMES = d.uniform(PROCESS, 6, end=0.05)
SOLVERS = [
    d.DDIM(), d.DDIM(0.5), d.DDPM(), d.DDPM("large"), d.DPMpp(2), d.DPMpp(3), d.DPMpp(2, 1.0),
    d.DPMpp2S(1.0), d.UniPC(3), d.DEIS(3), d.Heun(), d.ReverseSDE(), d.UDM(), d.UDM(d.Rotate(0.5)),
    d.UDM(d.Refresh(0.5)), d.Cold(), d.ProbabilityFlow(1e-3, 1e-3),
]  # fmt: skip


def network(x, t, condition=None):
    """Predict the noise for data from N(condition, 1)."""
    mean = 0.0 if condition is None else condition
    if np.ndim(t):
        t = np.asarray(t, np.float64).reshape((-1,) + (1,) * (x.ndim - 1))
    return (PROCESS.schedule.sigma(t) * (x - PROCESS.schedule.alpha(t) * mean)).astype(x.dtype)


def run(solver=SOLVERS[0], **changes):
    arguments = {"process": PROCESS, "predict": network, "solver": solver, "times": TIMES}
    arguments |= {"rng": 7} | changes
    if "initial" not in arguments:
        arguments.setdefault("shape", (5, 3, 2))
    return d.sample(**arguments)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_samples_do_not_depend_on_their_batch(solver):
    together = run(solver)
    apart = [run(solver, shape=(1, 3, 2), first=i) for i in range(5)]
    assert (np.concatenate(apart) == together).all()
    assert (run(solver, shape=(2, 3, 2), first=3) == together[3:]).all()


@pytest.mark.parametrize("solver", [d.DDPM(), d.DPMpp(2, 1.0), d.UDM(d.Rotate(0.5))], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_samples_do_not_depend_on_their_batch(solver, dtype):
    # kernels take samples of this size
    like = np.empty(0, dtype)
    together = run(solver, shape=(3, 2500), like=like)
    assert together.dtype == dtype
    assert (run(solver, shape=(1, 2500), first=1, like=like) == together[1:2]).all()


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_state_can_be_pickled_and_resumed(solver):
    states = list(d.trajectory(PROCESS, network, solver=solver, times=TIMES, shape=(2, 3), rng=7))
    assert [state.step for state in states] == list(range(7))
    assert [state.t for state in states] == TIMES.tolist()
    for state in states[:-1]:
        again = pickle.loads(pickle.dumps(state))
        assert (run(solver, initial=again) == states[-1].x).all()
    pickle.loads(pickle.dumps(solver))


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_steps_are_pure(solver):
    x = np.random.default_rng(0).standard_normal((2, 3))
    state, predict = d.State(x, 0.7, np.arange(2)), d.Predictor(PROCESS, network)
    before = x.copy()
    ends = [solver.step(state, predict, 0.7, 0.4, process=PROCESS, rng=3).x for _ in range(2)]
    assert (ends[0] == ends[1]).all()
    assert (x == before).all()


def test_seeds():
    solver = d.DDPM()
    assert (run(solver, rng=7) == run(solver, rng=Philox(7))).all()
    assert (run(solver, rng=7) != run(solver, rng=8)).all()
    assert (run(solver, rng=np.int64(7)) == run(solver, rng=7)).all()


def test_noise_of_steps_and_rows_is_independent():
    draws = [d.Draws(3, step, np.arange(4)).normal((1000,)) for step in range(3)]
    numbers = np.concatenate([x.ravel() for x in draws])
    assert len(np.unique(numbers)) == len(numbers)
    again = d.Draws(3, 0, np.arange(4))
    first, second = again.normal((1000,)), again.normal((1000,))
    assert (first == draws[0]).all()
    assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


def test_draws_are_counted():
    draws = d.Draws(0, 0, np.arange(1))
    for _ in range(64):
        draws.uniform(())
    with pytest.raises(RuntimeError, match="at most 64"):
        draws.uniform(())


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
@pytest.mark.parametrize("solver", [d.DDPM(), d.UniPC(3)], ids=repr)
def test_executor(pool, solver):
    condition = np.arange(15.0).reshape(5, 3, 1)
    times = np.repeat(TIMES[:, None], 5, axis=1)
    whole = run(solver, guidance=d.ClassifierFree(1.0), condition=condition, times=times, first=3)
    with pool(2) as executor:
        parts = run(
            solver, guidance=d.ClassifierFree(1.0), condition=condition, times=times, first=3,
            executor=executor,
        )  # fmt: skip
    assert (parts == whole).all()


def test_callback_and_progress(capsys):
    seen = []
    run(callback=seen.append, progress=True)
    assert [state.step for state in seen] == [1, 2, 3, 4, 5, 6]
    assert capsys.readouterr().err.endswith("step 6 of 6\n")


@pytest.mark.parametrize("solver", [d.DDIM(), d.DPMpp(2), d.Heun(), d.UniPC(2)], ids=repr)
def test_inversion(solver):
    x0 = np.linspace(-2.0, 2.0, 5)[:, None]
    times = d.karras(PROCESS, 200, start=1.0, end=0.01, clean=False)
    z = d.invert(PROCESS, network, x0, solver=solver, times=times)
    back = d.sample(PROCESS, network, solver=solver, times=times, initial=z)
    np.testing.assert_allclose(back, x0, atol=0.06 if solver == d.DDIM() else 3e-4)


def test_inversion_begins_at_clean_data():
    z = d.invert(PROCESS, network, np.ones((1, 1)), solver=d.DDIM(), times=[1.0, 0.5, 0.0])
    assert np.isfinite(z).all()


def test_random_solvers_do_not_invert():
    with pytest.raises(ValueError, match="without noise"):
        d.invert(PROCESS, network, np.ones((1, 1)), solver=d.DDPM(), times=TIMES)


def test_interpolation_keeps_the_variance():
    z = np.random.default_rng(0).standard_normal((2, 100_000))
    for weight in (0.0, 0.3, 1.0):
        assert d.interpolate(*z, weight).var() == pytest.approx(1.0, abs=0.02)
    assert (d.interpolate(*z, 0.0) == z[0]).all()


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"times": [1.0, 0.5, 0.5]}, ValueError, "0.5 followed by 0.5 (entries 1 and 2)"),
        ({"times": [0.2, 0.5]}, ValueError, "expected falling times"),
        ({"times": [1.0, np.nan]}, ValueError, "expected falling times"),
        ({"times": [2.0, 0.5]}, ValueError, "the span of the process"),
        ({"times": [0.5, -0.5]}, ValueError, "the span of the process"),
        ({"times": []}, ValueError, "expected times of shape"),
        ({"times": [[1.0, 1.0], [0.5, 0.5]]}, ValueError, "as many as the times have"),
        ({"shape": None}, ValueError, "either `shape` or `initial`"),
        ({"initial": np.zeros((1, 1)), "shape": (1, 1)}, ValueError, "either `shape` or"),
        ({"shape": ()}, ValueError, "at least one sample"),
        ({"shape": (0, 3)}, ValueError, "at least one sample"),
        ({"prediction": "noise"}, ValueError, "expected a prediction of x0"),
        ({"prediction": "logits"}, d.PredictionError, "and an axis of tokens"),
        ({"solver": d.Bridge(), "prediction": "x0"}, None, ""),
        ({"solver": d.Unmask()}, TypeError, "Unmask needs unmask"),
        ({"solver": "ddim"}, TypeError, "a solver such as DPMpp(2), not 'ddim'"),
        ({"solver": d.DDIM}, TypeError, "a solver such as DPMpp(2), not <class"),
        ({"guidance": d.ClassifierFree(1.0)}, ValueError, "pass `condition`"),
        ({"rng": np.random.default_rng(0)}, TypeError, "expected rng to be"),
        ({"process": None}, TypeError, "a process such as Gaussian(Cosine()), not None"),
        ({"process": d.Gaussian}, TypeError, "a process such as Gaussian(Cosine()), not <class"),
        ({"predict": None}, TypeError, "expected predict to be callable, not None"),
        ({"guidance": 3.0}, TypeError, "a guidance such as ClassifierFree(3.0), not 3.0"),
        ({"guidance": d.ClassifierFree}, TypeError, "a guidance such as ClassifierFree(3.0), not"),
        ({"initial": [[1.0]], "shape": None}, TypeError, "expected initial to be an array"),
        ({"like": "torch"}, TypeError, "expected like to be an array"),
        ({"shape": 3}, TypeError, "a tuple of whole numbers, not 3"),
        ({"shape": (2, -1)}, ValueError, "to be a whole number from 0, not -1"),
    ],
)
def test_bad_arguments(changes, error, message):
    if error is None:
        run(**changes)
        return
    with pytest.raises(error, match=re.escape(message)):
        run(**changes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x[:, :1], "expected a prediction of the shape (5, 3, 2)"),
        (lambda x: x.astype(np.float32), "in the type float64"),
        (lambda x: np.where(x > 1e9, x, np.nan), "the prediction holds NaN at t="),
        (lambda x: None, "not NoneType"),
    ],
)
def test_bad_predictions_are_found_at_their_step(wrong, message):
    calls = []

    def predict(x, t):
        calls.append(t)
        return wrong(x) if len(calls) == 3 else network(x, t)

    with pytest.raises(d.PredictionError, match=re.escape(message)) as error:
        d.sample(PROCESS, predict, solver=d.DDIM(), times=TIMES, shape=(5, 3, 2))
    assert str(error.value).startswith("step 3 of 6, from t=0.68")


@pytest.mark.parametrize("solver", [d.Unmask(), d.Bridge(), d.TokenPosterior()])
def test_logits_of_another_vocabulary_are_refused(solver):
    with pytest.raises(d.PredictionError, match=r"step 1 of 1, .* logits of 4 tokens, not of 9"):
        d.sample(
            d.MaskTokens(4),
            lambda x, t: np.zeros((*x.shape, 9)),
            solver=solver,
            times=[1.0, 0.0],
            shape=(2, 3),
            prediction="logits",
        )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: d.uniform(None, 4), TypeError, "a process such as"),
        (lambda: d.karras(d.Masking(), 4), TypeError, "`schedule`, as Gaussian has, not Masking"),
        (lambda: d.uniform(PROCESS, np.inf), ValueError, "at least one step, a whole number, not"),
        (lambda: d.uniform(PROCESS, 2.5), ValueError, "at least one step, a whole number, not"),
        (lambda: d.shifted([1.0, np.nan], 2.0), ValueError, "expected times from 0 to 1"),
        (
            lambda: d.shifted([1.0], -1.0),
            ValueError,
            "expected shift to be a finite number above 0",
        ),
        (lambda: d.linear(0), ValueError, "steps to be a whole number from 1, not 0"),
        (lambda: d.cosine(2.5), ValueError, "steps to be a whole number from 1, not 2.5"),
        (lambda: d.MaskTokens(np.nan), ValueError, "a vocabulary of at least 1 tokens, not nan"),
        (lambda: d.VarianceExploding(np.nan), ValueError, "expected sigma_max to be a finite"),
        (lambda: d.VariancePreserving(-1.0), ValueError, "number from 0, not -1.0"),
        (lambda: d.Blur("wide"), ValueError, "expected width to be a finite number above 0, not"),
        (lambda: d.DDIM(x0_std=0.1), TypeError, "expected x0_std to be callable, not 0.1"),
        (lambda: d.DPMpp(2, np.inf), ValueError, "expected eta to be a finite number from 0"),
        (lambda: d.ReverseSDE(np.nan), ValueError, "expected noise to be a finite number from 0"),
        (lambda: d.UDM("keep"), TypeError, "a kernel such as Keep(), not 'keep'"),
        (lambda: d.UDM(d.Keep), TypeError, "a kernel such as Keep(), not <class"),
        (lambda: d.Rotate(np.nan), ValueError, "expected amount to be a finite number from 0"),
        (lambda: d.ClassifierFree("7"), ValueError, "a finite number or a function of the time"),
        (lambda: d.ClassifierFree(1.0, rescale=2.0), ValueError, "rescale to be a finite number"),
        (lambda: d.CFGpp(np.nan), ValueError, "expected weight to be a finite number or"),
        (lambda: d.MultiCondition((1.0, np.nan)), ValueError, "expected weights[1] to be"),
        (lambda: d.Interval(3.0, 0.0, 1.0), TypeError, "expected inner to be a guidance"),
        (lambda: d.Interval(d.CFGpp(0.5), 0.8, 0.2), ValueError, "expected low up to high"),
        (lambda: d.DynamicThreshold(quantile=99.5), ValueError, "from 0 to 1, not 99.5"),
        (lambda: d.AdaptiveProjection(1.0, norm=0.0), ValueError, "norm to be a number above 0"),
        (lambda: d.PowerWeight(0.0, np.inf), ValueError, "expected end to be a finite number"),
        (lambda: d.from_function("blur"), TypeError, "expected forward to be callable, not 'blur'"),
        (lambda: d.from_function(abs, span=(1.0, 0.0)), ValueError, "a span of two rising finite"),
        (lambda: d.lower_order_final(d.DDIM(), 3), TypeError, "a solver with an order, such as"),
        (lambda: d.illegality("ddim", PROCESS), TypeError, "a solver such as DPMpp(2), not 'ddim'"),
        (lambda: d.training_pair(PROCESS, [1.0], 0.5), TypeError, "expected x0 to be an array"),
        (lambda: d.training_pair(None, np.ones(1), 0.5), TypeError, "a process such as"),
        (
            lambda: d.training_pair(PROCESS, np.ones(1), np.nan),
            ValueError,
            "expected times in the span (0.0, 1.0) of the process, not nan",
        ),
        (
            lambda: d.invert(PROCESS, network, [1.0], solver=d.DDIM(), times=TIMES),
            TypeError,
            "expected x0 to be an array",
        ),
        (
            lambda: d.invert(PROCESS, network, np.ones((1, 1)), solver=None, times=TIMES),
            TypeError,
            "a solver such as DPMpp(2), not None",
        ),
    ],
)
def test_wrong_arguments_are_named_with_the_remedy(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_process_needs_a_schedule():
    for wrong in ("cosine", d.Cosine):
        with pytest.raises(TypeError, match=r"a schedule such as Cosine\(\), not"):
            d.Gaussian(wrong)


def test_a_process_without_prior_needs_samples():
    process = d.from_function(lambda x0, eps, t: x0)
    with pytest.raises(TypeError, match="pass `initial`"):
        d.sample(process, network, solver=d.UDM(), times=[1.0, 0.0], shape=(1, 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: d.DDIM(1.5), lambda: d.DPMpp(4), lambda: d.DPMpp(2, -1.0), lambda: d.UniPC(0),
        lambda: d.DDPM("middle"), lambda: d.DPMpp2S(-1.0), lambda: d.ExponentialAdams(2, "v"),
        lambda: d.DEIS(4), lambda: d.karras(PROCESS, 5, rho=0.0), lambda: d.ProbabilityFlow(rtol=0.0),
        lambda: d.GradientGuidance(network, form="other"), lambda: d.Weighting("two"),
        lambda: d.AnalyticStd(PROCESS, [1.0, 0.5], [0.0, 0.0]),
    ],
)  # fmt: skip
def test_bad_parameters(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_executor_excludes_what_it_cannot_do():
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="with an executor"):
        run(executor=executor, callback=print)


# --- other arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torch(solver, dtype):
    torch = pytest.importorskip("torch")

    def predict(x, t):
        return torch.from_numpy(network(x.numpy(), t if np.ndim(t) == 0 else t.numpy()))

    # the library draws for tensors what it draws for arrays
    like = torch.empty(0, dtype=getattr(torch, dtype))
    arguments = {"solver": solver, "times": TIMES, "shape": (4, 3), "rng": 7}
    x = d.sample(PROCESS, predict, like=like, **arguments)
    assert x.dtype == like.dtype
    expected = d.sample(PROCESS, network, like=np.empty(0, dtype), **arguments)
    loose = {"float64": 1e-9, "float32": 2e-3 if "Flow" in repr(solver) else 2e-5}[dtype]
    np.testing.assert_allclose(x.numpy(), expected, rtol=loose, atol=loose)


@pytest.mark.parametrize(
    "process",
    [
        d.MaskTokens(3),
        d.UniformTokens(3),
        d.RandomSubstitution(3, 4),
        d.DifferentSubstitution(3, 4),
    ],
    ids=lambda p: type(p).__name__,
)
def test_torch_tokens(process):
    torch = pytest.importorskip("torch")
    last = process.span[1]
    logits = np.log([0.2, 0.5, 0.3])
    for kind in (torch.from_numpy, np.asarray):
        begin = kind(np.full((6, 4), 3 if isinstance(process, d.MaskTokens) else 1))
        solver = d.UDM(d.Keep())
        x = d.sample(
            process, lambda x, t, k=kind: k(np.broadcast_to(logits, (*x.shape, 3)).copy()),
            solver=solver, times=[last, 0.5 * last, 0.0], initial=begin, prediction="logits",
        )  # fmt: skip
        assert type(x) is type(begin)
        first = x.numpy() if kind is torch.from_numpy else x
        if kind is torch.from_numpy:
            other = first
    assert (first == other).all()


def test_half_precision_of_torch():
    torch = pytest.importorskip("torch")
    x = d.sample(
        PROCESS, lambda x, t: (float(PROCESS.schedule.sigma(t)) * x), solver=d.DDPM(), times=TIMES,
        shape=(2, 3), like=torch.empty(0, dtype=torch.bfloat16),
    )  # fmt: skip
    assert x.dtype == torch.bfloat16


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "score", "flow"])
def test_training_pairs_agree_with_conversions(kind):
    x0 = np.random.default_rng(0).standard_normal((4, 3))
    t = np.array([0.1, 0.4, 0.6, 0.9])
    pair = d.training_pair(PROCESS, x0, t, prediction=kind, rng=3, step=5)
    data = PROCESS.convert(d.Prediction(pair.target, kind, pair.x, t), "x0")
    np.testing.assert_allclose(data, x0, atol=1e-10)
    again = d.training_pair(PROCESS, x0[2:], t[2:], prediction=kind, rng=3, step=5, first=2)
    np.testing.assert_array_equal(again.x, pair.x[2:])


def test_conditions_are_dropped():
    x0, labels = np.zeros((4000, 1)), np.arange(4000) % 10
    pair = d.training_pair(PROCESS, x0, 0.5, condition=labels, no_condition=10, p_uncond=0.2)
    assert pair.dropped.mean() == pytest.approx(0.2, abs=0.03)
    assert (pair.condition == np.where(pair.dropped, 10, labels)).all()
    pair = d.training_pair(PROCESS, x0, 0.5, condition=labels, p_uncond=0.2)
    assert (pair.condition == labels).all()
    with pytest.raises(ValueError, match="p_uncond"):
        d.training_pair(PROCESS, x0, 0.5, p_uncond=2.0)
    with pytest.raises(ValueError, match="infinite"):
        d.training_pair(PROCESS, x0, 0.0, prediction="score")


@pytest.mark.parametrize(
    "weighting", [d.Weighting("snr"), d.Weighting("min_snr"), d.Weighting("v")]
)
def test_weighted_losses_do_not_depend_on_the_kind(weighting):
    rng = np.random.default_rng(0)
    x0, guess = rng.standard_normal((2, 4, 3))
    t = np.array([0.1, 0.4, 0.6, 0.9])
    losses = []
    for kind in ("x0", "eps", "v", "score", "flow"):
        pair = d.training_pair(PROCESS, x0, t, prediction=kind)
        predicted = PROCESS.convert(d.Prediction(guess, "x0", pair.x, t), kind)
        losses.append(d.diffusion_loss(PROCESS, predicted, pair, kind=kind, weighting=weighting))
    for loss in losses[1:]:
        np.testing.assert_allclose(loss, losses[0], rtol=1e-9)
    snr = (PROCESS.schedule.alpha(t) / PROCESS.schedule.sigma(t)) ** 2
    weight = {"snr": snr, "min_snr": np.minimum(snr, 5.0), "v": snr + 1.0}[weighting.name]
    np.testing.assert_allclose(losses[0], weight * ((guess - x0) ** 2).mean(-1), rtol=1e-9)


def test_token_loss_bounds_the_likelihood():
    # with the exact law of each token, the mean over t of CE / t is the entropy of the data
    p, process = np.array([0.2, 0.5, 0.3]), d.MaskTokens(3)
    rng = np.random.default_rng(0)
    x0 = rng.choice(3, size=(40_000, 2), p=p)
    t = (np.arange(40_000) + 0.5) / 40_000
    pair = d.training_pair(process, x0, t)
    loss = d.token_loss(
        process, np.broadcast_to(np.log(p), (40_000, 2, 3)), pair, weight=np.reciprocal
    )
    entropy = -2 * (p * np.log(p)).sum()
    assert loss.mean() == pytest.approx(entropy, rel=0.05)


def test_encoded_data():
    codes = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    process = d.Encoded(lambda x0: codes[x0], d.Gaussian(d.StraightPath()))
    pair = d.training_pair(process, np.array([2, 0]), 0.25)
    assert (pair.target == [2, 0]).all()
    eps = (pair.x - 0.75 * codes[[2, 0]]) / 0.25
    assert np.isfinite(eps).all()
    nearest = process.predictor(lambda x, t: np.argmax(x @ codes.T, axis=-1))
    x = d.sample(
        process.inner, nearest, solver=d.DDIM(), times=[1.0, 0.5, 0.0], shape=(50, 2),
        prediction="x0",
    )  # fmt: skip
    assert all((x == code).all(-1).any() for code in codes)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("guidance", [None, d.ClassifierFree(1.0, rescale=0.5), d.CFGpp(0.5)])
def test_arrays_of_the_standard(solver, guidance):
    xp = pytest.importorskip("array_api_strict")

    def predict(x, t, condition=None):
        t = t if isinstance(t, float) else np.from_dlpack(t)
        return xp.asarray(network(np.from_dlpack(x), t, condition))

    condition = None if guidance is None else 0.5
    arguments = {
        "solver": solver, "times": TIMES, "shape": (4, 3), "rng": 7, "guidance": guidance,
        "condition": condition,
    }  # fmt: skip
    x = d.sample(PROCESS, predict, like=xp.empty(0), **arguments)
    assert type(x) is type(xp.empty(0))
    expected = d.sample(PROCESS, network, **arguments)
    np.testing.assert_allclose(np.from_dlpack(x), expected, rtol=1e-9, atol=1e-9)
