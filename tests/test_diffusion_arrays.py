"""logitkit.diffusion on arrays of other libraries: of the same type, and the same numbers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from logitkit import diffusion as d

PROCESS = d.Gaussian(d.VariancePreserving())
TIMES = d.uniform(PROCESS, 4, end=0.02)
SOLVERS = [
    d.DDIM(), d.DDIM(0.5), d.DDPM(), d.Heun(), d.DPMSolver2(), d.DPMpp2S(1.0), d.DPMpp(3),
    d.DPMpp(2, 1.0), d.UniPC(3), d.DEIS(3), d.ExponentialAdams(3), d.FlowHeun(), d.ReverseSDE(),
    d.UDM(), d.UDM(d.Keep()), d.UDM(d.Refresh(0.3)), d.ProbabilityFlow(1e-3, 1e-3),
]  # fmt: skip


@dataclass(frozen=True)
class Library:
    """How to make an array of a library, and one of NumPy of it."""

    make: Any
    back: Any
    type: type


@pytest.fixture(params=["torch", "array_api_strict", "jax.numpy"], scope="module")
def library(request):
    module = pytest.importorskip(request.param)
    back = np.asarray if request.param != "array_api_strict" else np.from_dlpack
    made = module.asarray(np.zeros(1, np.float32))
    return Library(lambda x: module.asarray(np.array(x)), back, type(made))


def assert_same(library, function, atol=2e-5):
    """Compare what a function makes of arrays of the library with what it makes of NumPy's."""
    result, expected = function(library.make), function(np.array)
    assert type(result) is library.type
    assert result.dtype == library.make(np.zeros(1, expected.dtype)).dtype
    np.testing.assert_allclose(library.back(result), expected, rtol=1e-5, atol=atol)


def network(x, t, condition=None):
    return (0.9 if condition is None else 0.8) * x


@pytest.mark.parametrize(
    "times", [TIMES, np.repeat(TIMES[:, None], 4, axis=1)], ids=["one", "each"]
)
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_solvers(library, solver, times):
    run = {"solver": solver, "times": times, "rng": 7, "shape": (4, 3)}
    zero = np.zeros(1, np.float32)
    # the velocity at the end is a small difference of large numbers
    atol = 1e-3 if "Flow" in repr(solver) else 2e-5
    assert_same(library, lambda make: d.sample(PROCESS, network, like=make(zero), **run), atol)


GUIDANCE = {
    "free": d.ClassifierFree(1.0, rescale=0.5), "cfg++": d.CFGpp(0.5),
    "apg": d.AdaptiveProjection(1.0, 0.3, norm=2.0, momentum=-0.5),
    "interval": d.Interval(d.ClassifierFree(d.PowerWeight(0.0, 2.0)), 0.2, 0.8),
    "threshold": d.DynamicThreshold(d.ClassifierFree(1.0)), "auto": d.AutoGuidance(network, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_guidance(library, guidance):
    run = {
        "solver": d.DPMpp(2), "times": TIMES, "shape": (4, 3), "guidance": GUIDANCE[guidance],
        "condition": 1,
    }  # fmt: skip
    zero = np.zeros(1, np.float32)
    assert_same(library, lambda make: d.sample(PROCESS, network, like=make(zero), **run))


TOKENS = np.random.default_rng(0).integers(0, 3, (6, 4))
MATRICES = np.random.default_rng(3).dirichlet(np.ones(3), size=(4, 3))
LOGITS = np.log([0.2, 0.5, 0.3])
PROCESSES = [
    d.MaskTokens(3), d.UniformTokens(3), d.RandomSubstitution(3, 4),
    d.DifferentSubstitution(3, 4), d.TransitionTokens(MATRICES), d.Deletion(4),
]  # fmt: skip


TOKEN_SOLVERS = [
    d.UDM(), d.UDM(d.Keep()), d.Bridge(), d.TokenPosterior(), d.Unmask(), d.Unmask("confidence"),
]  # fmt: skip
LEGAL = [(p, s) for p in PROCESSES for s in TOKEN_SOLVERS if not d.illegality(s, p)]


@pytest.mark.parametrize(("process", "solver"), LEGAL, ids=lambda v: repr(v)[:24])
def test_token_solvers(library, process, solver):
    first = {d.MaskTokens: 3, d.Deletion: -1}.get(type(process), 1)
    last = process.span[1]

    def samples(make):
        def predict(x, t):
            if isinstance(process, d.Deletion):
                return make(TOKENS)
            return make(np.broadcast_to(LOGITS, (*x.shape, 3)).astype(np.float32))

        kind = "x0" if isinstance(process, d.Deletion) else "logits"
        return d.sample(
            process, predict, solver=solver, times=[last, 0.5 * last, 0.0],
            initial=make(np.full((6, 4), first)), prediction=kind,
        )  # fmt: skip

    assert_same(library, samples)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_laws_of_tokens(library, process):
    t = 0.5 * process.span[1]

    def degraded(make):
        x0 = make(TOKENS)
        return process.forward(x0, process.noise(d.Draws(0, 1, np.arange(6)), x0), t)

    assert_same(library, degraded)
    draws = d.Draws(0, 2, np.arange(6))
    x, x0 = degraded(library.make), library.make(TOKENS)
    back = (
        process.forward(x0, process.encode(x, x0, t, draws), t) if hasattr(process, "encode") else x
    )
    assert (library.back(back) == library.back(x)).all()
    if hasattr(process, "log_prob"):
        wide = process.log_prob(degraded(np.array), TOKENS, t)
        np.testing.assert_allclose(library.back(process.log_prob(x, x0, t)), wide, rtol=1e-5)
    if isinstance(process, (d.MaskTokens, d.UniformTokens, d.Deletion)):
        end = process.span[1]
        like = np.zeros((1, 4), np.int64)
        assert_same(
            library, lambda m: process.prior((4,), end, d.Draws(0, 0, np.arange(6)), m(like))
        )


IMAGES = np.random.default_rng(0).standard_normal((6, 4, 4)).astype(np.float32)
DEGRADATIONS = {
    "blur": d.Blur(3.0), "pool": d.Pool((2, 4)), "hole": d.Hole(np.linspace(0, 1, 16).reshape(4, 4)),
    "noisy blur": d.Compose(d.Blur(3.0), PROCESS), "masking": d.Masking(), "noise": PROCESS,
    "mixing": d.Mixing(IMAGES[:2], d.StraightPath()),
}  # fmt: skip


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degradations(library, name):
    process = DEGRADATIONS[name]
    last = process.span[1]
    for t in (0.4 * last, np.linspace(0.2, 0.6, 6) * last):
        assert_same(
            library,
            lambda make, t=t: d.training_pair(process, make(IMAGES), t, prediction="x0").x,
        )
    for solver in (d.UDM(), d.UDM(d.Keep()), d.Cold()):
        if not d.illegality(solver, process):
            run = {"solver": solver, "times": [last, 0.5 * last, 0.0], "prediction": "x0"}
            assert_same(
                library,
                lambda make, run=run: d.sample(process, network, initial=make(IMAGES), **run),
            )


def test_the_rest(library):
    pair = {"t": 0.4, "prediction": "v"}

    def losses(make):
        made = d.training_pair(PROCESS, make(IMAGES), **pair)
        return d.diffusion_loss(PROCESS, 0.5 * made.target, made, kind="v")

    def by_threads(make):
        with ThreadPoolExecutor(2) as executor:
            return d.sample(
                PROCESS, network, solver=d.DDPM(), times=TIMES, initial=make(IMAGES),
                executor=executor,
            )  # fmt: skip

    assert_same(library, losses)
    assert_same(library, by_threads)
    run = {"solver": d.DDIM(), "times": TIMES}
    assert_same(library, lambda make: d.invert(PROCESS, network, make(IMAGES), **run))
    assert_same(library, lambda make: d.interpolate(make(IMAGES), make(IMAGES), 0.3))
    assert_same(library, lambda make: PROCESS.log_prob(make(IMAGES), make(0.5 * IMAGES), 0.4), 1e-4)


def test_nan_and_wrong_types_are_told(library):
    run = {"solver": d.DDIM(), "times": TIMES, "initial": library.make(IMAGES)}
    wrong = library.make(IMAGES[:, :2])
    with pytest.raises(d.PredictionError, match=r"step 1 of 4.*shape"):
        d.sample(PROCESS, lambda x, t: wrong, **run)
    whole = library.make(TOKENS)
    with pytest.raises(d.PredictionError, match="step 1 of 4"):
        d.sample(PROCESS, lambda x, t: whole, **run)
