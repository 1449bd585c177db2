"""Bridges of logitkit.diffusion to the library diffusers, against it."""

import warnings

import numpy as np
import pytest

from logitkit import diffusion as d

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that it imports
    diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in it


def network(x, t):
    """Stand for a network: smooth in both arguments."""
    return torch.tanh(x) * (0.2 + float(t) / 1500.0)


def theirs(scheduler, steps, x):
    scheduler.set_timesteps(steps)
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    scaling = hasattr(scheduler, "scale_model_input")
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if scaling else x
        x = scheduler.step(network(scaled, t), t, x).prev_sample
    return x


COMMON = {"clip_sample": False}
SAME = {
    "ddim": (diffusers.DDIMScheduler, {**COMMON}),
    "ddim scaled": (diffusers.DDIMScheduler, {**COMMON, "beta_schedule": "scaled_linear"}),
    "ddim cosine": (diffusers.DDIMScheduler, {**COMMON, "beta_schedule": "squaredcos_cap_v2"}),
    "ddim v": (diffusers.DDIMScheduler, {**COMMON, "prediction_type": "v_prediction"}),
    "ddim sample": (diffusers.DDIMScheduler, {**COMMON, "prediction_type": "sample"}),
    "ddim to the first step": (diffusers.DDIMScheduler, {**COMMON, "set_alpha_to_one": False}),
    "ddim trailing": (diffusers.DDIMScheduler, {**COMMON, "timestep_spacing": "trailing"}),
    "ddim zero": (
        diffusers.DDIMScheduler,
        {
            **COMMON, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True,
            "prediction_type": "v_prediction",
        },
    ),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler, {}),
    "flow shifted": (diffusers.FlowMatchEulerDiscreteScheduler, {"shift": 3.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_trajectories_agree(case):
    make, options = SAME[case]
    scheduler = make(**options)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 4, 4)))
    setup = d.from_diffusers(scheduler, steps=10)
    ours = d.sample(setup, network, initial=x)
    # their tables are of single precision; near pure noise that is magnified
    np.testing.assert_allclose(ours, theirs(scheduler, 10, x), rtol=2e-4, atol=2e-4)


METHODS = {
    "Euler": (diffusers.EulerDiscreteScheduler, {}),
    "2M": (diffusers.DPMSolverMultistepScheduler, {}),
    "3M": (diffusers.DPMSolverMultistepScheduler, {"solver_order": 3}),
    "DEIS 2": (diffusers.DEISMultistepScheduler, {}),
    "DEIS 3": (diffusers.DEISMultistepScheduler, {"solver_order": 3}),
    "UniPC 1": (diffusers.UniPCMultistepScheduler, {"solver_order": 1}),
    "UniPC 2": (diffusers.UniPCMultistepScheduler, {}),
    "UniPC 3": (diffusers.UniPCMultistepScheduler, {"solver_order": 3}),
}
OWN = {
    "Euler": d.DDIM(), "2M": d.DPMpp(2), "3M": d.DPMpp(3),
    "UniPC 1": d.UniPC(1), "UniPC 2": d.UniPC(2), "UniPC 3": d.UniPC(3),
}  # fmt: skip
GRIDS = {
    "Karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "trailing": {"timestep_spacing": "trailing"},
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "linspace": {"timestep_spacing": "linspace"},
}
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def their_path(scheduler, setup, steps, predict, x):
    """
    Return their states in a run whose sigmas are ours, of double precision.

    The network gets the times of the sigmas, not rounded ones.
    """
    scheduler.set_timesteps(steps)
    ratio = np.exp(-setup.process.schedule.log_snr(setup.times))
    np.testing.assert_allclose(scheduler.sigmas[:steps], ratio[:steps], rtol=2e-4)
    repeated = scheduler.sigmas[-1] == scheduler.sigmas[-2]
    last = ratio[steps - 1 if repeated else steps]
    scheduler.sigmas = torch.from_numpy(np.append(ratio[:steps], last))
    scaled = "Euler" in type(scheduler).__name__  # there x is divided by alpha
    x = x / setup.process.schedule.alpha(setup.times[0]) if scaled else x
    path = []
    for t, time in zip(scheduler.timesteps, setup.times, strict=False):
        seen = scheduler.scale_model_input(x, t)
        x = scheduler.step(predict(seen, setup.network_time(time)), t, x).prev_sample
        path.append(x)
    return path


@pytest.mark.parametrize("steps", [8, 16, 40])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", METHODS)
def test_the_same_method_on_the_same_times_gives_the_same_samples(name, grid, steps):
    make, options = METHODS[name]
    scheduler = make(**SCALED, **options, **GRIDS[grid])
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 1)))
    setup = d.from_diffusers(scheduler, steps)
    other = their_path(scheduler, setup, steps, network, x)
    ours = [state.x for state in d.trajectory(setup, network, initial=x)][1:]
    assert len(ours) == len(other) == steps
    if name.startswith("DEIS") and grid in ("Karras", "exponential"):
        other, ours = other[:-1], ours[:-1]  # there the last step repeats the last sigma
    kept = slice(-1, None) if name == "Euler" else slice(None)  # there x is divided by alpha
    in_float32 = name in ("Euler", "2M", "3M")  # there samples are rounded to it at each step
    tolerance = 1e-5 if in_float32 else 1e-10
    for mine, theirs_ in zip(ours[kept], other[kept], strict=True):
        np.testing.assert_allclose(mine, theirs_, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (diffusers.HeunDiscreteScheduler, {}),
        (diffusers.KDPM2DiscreteScheduler, {}),
        (diffusers.LMSDiscreteScheduler, {"order": 3}),
    ],
    ids=["Heun", "DPM-Solver 2", "LMS 3"],
)
def test_the_same_method_with_calls_at_the_same_times(make, arguments, grid):
    scheduler = make(**SCALED, **GRIDS[grid])
    setup, times = d.from_diffusers(scheduler, 12), []

    def at_exact_times(x, t):
        times.append(t)
        return network(x, t)

    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 1)))
    ours = d.sample(setup, at_exact_times, initial=x)
    scheduler.set_timesteps(12)
    y = x / setup.process.schedule.alpha(setup.times[0])
    for t, time in zip(scheduler.timesteps, times, strict=True):
        seen = scheduler.scale_model_input(y, t)
        y = scheduler.step(network(seen, time), t, y, **arguments).prev_sample
    np.testing.assert_allclose(ours, y, rtol=1e-5, atol=1e-5)  # sigmas there are of float32


def test_the_same_method_up_to_the_last_sigma():
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SCALED, **GRIDS["Karras"], final_sigmas_type="sigma_min"
    )
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 1)))
    setup = d.from_diffusers(scheduler, 12)
    assert len(setup.times) == 12  # there the last step repeats the last sigma
    last = their_path(scheduler, setup, 12, network, x)[-1]
    np.testing.assert_allclose(d.sample(setup, network, initial=x), last, rtol=1e-5, atol=1e-5)


def test_orders_at_the_end():
    config = {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}
    few, many = (d.from_diffusers(config, steps).solver for steps in (12, 16))
    assert [solver.order for solver in few] == [3] * 10 + [2, 1]
    assert [solver.order for solver in many] == [3] * 15 + [1]
    config = {"_class_name": "UniPCMultistepScheduler", "lower_order_final": False}
    assert [solver.order for solver in d.from_diffusers(config, 4).solver] == [2, 2, 2, 1]


def test_the_same_in_a_pipeline():
    # a tiny random network, and no hub
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1,
        block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        ours = as_loop(unet, d.as_diffusers_scheduler(scheduler), x)
        other = as_loop(unet, scheduler, x)
        np.testing.assert_allclose(ours, other, rtol=2e-3, atol=2e-3)
        for solver in (d.DPMpp(2), d.UniPC(2), d.DDPM()):
            assert torch.isfinite(
                as_loop(unet, d.as_diffusers_scheduler(scheduler, solver=solver), x)
            ).all()


def as_loop(unet, scheduler, x):
    scheduler.set_timesteps(5)
    for t in scheduler.timesteps:
        noise = unet(scheduler.scale_model_input(x, t), t).sample
        x = scheduler.step(noise, t, x, return_dict=False)[0]
    return x


def test_a_whole_pipeline():
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1,
        block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipeline = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler())
    pipeline.scheduler = d.as_diffusers_scheduler(pipeline.scheduler, solver=d.DDPM())
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(batch_size=2, num_inference_steps=4, output_type="np").images
    assert images.shape == (2, 8, 8, 3)
    assert np.isfinite(images).all()


def test_noise_is_added_alike():
    scheduler = diffusers.DDIMScheduler()
    ours = d.as_diffusers_scheduler(scheduler)
    x, noise = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    t = torch.tensor([3, 700])
    np.testing.assert_allclose(
        ours.add_noise(x, noise, t), scheduler.add_noise(x, noise, t), atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "options", "solver"),
    [
        ("DDPMScheduler", {"variance_type": "fixed_large"}, d.DDPM("large")),
        ("EulerDiscreteScheduler", {}, d.DDIM()),
        ("EulerAncestralDiscreteScheduler", {}, d.DDIM(1.0)),
        ("HeunDiscreteScheduler", {"use_karras_sigmas": True}, d.Heun()),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}, d.DPMpp(3, halved=True)),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, d.DPMpp(2, 1.0)),
        ("DPMSolverSinglestepScheduler", {}, d.DPMpp2S()),
        ("UniPCMultistepScheduler", {"use_exponential_sigmas": True}, d.UniPC(2)),
        (
            "DEISMultistepScheduler",
            {"timestep_spacing": "trailing"},
            d.ExponentialAdams(2, "eps", corrected=False),
        ),
        ("LMSDiscreteScheduler", {}, d.DEIS(3, corrected=False)),
    ],
)
def test_configurations(name, options, solver):
    setup = d.from_diffusers({"_class_name": name, **options}, steps=12)
    first = setup.solver[0] if isinstance(setup.solver, tuple) else setup.solver
    assert first == solver
    assert len(setup.times) == 13
    assert (np.diff(setup.times) < 0.0).all()
    assert setup.times[-1] == (1.0 if name.startswith("DEIS") else 0.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "PNDMScheduler"}, "not PNDMScheduler"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "laplace"}, "beta_schedule"),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "any"}, "timestep_spacing"),
        ({"_class_name": "UniPCMultistepScheduler", "predict_x0": False}, "predict_x0 to be True"),
        ({"_class_name": "UniPCMultistepScheduler", "solver_type": "bh1"}, "'bh2'.*not 'bh1'"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "use_lu_lambdas": True},
            "use_lu_lambdas to be False or None, not True",
        ),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True},
            "use_dynamic_shifting",
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"},
            "algorithm_type",
        ),
    ],
)
def test_what_has_no_counterpart(config, message):
    with pytest.raises(ValueError, match=message):
        d.from_diffusers(config, steps=5)


@pytest.mark.parametrize(
    "name",
    [
        "DDIM", "DDPM", "DEISMultistep", "DPMSolverMultistep", "DPMSolverSinglestep",
        "EulerAncestralDiscrete", "EulerDiscrete", "FlowMatchEulerDiscrete",
        "FlowMatchHeunDiscrete", "HeunDiscrete", "KDPM2Discrete", "LMSDiscrete", "UniPCMultistep",
    ],
)  # fmt: skip
def test_default_configurations_are_read(name):
    setup = d.from_diffusers(getattr(diffusers, f"{name}Scheduler")(), 8)
    assert len(setup.times) == 9
    assert (np.diff(setup.times) < 0.0).all()


def test_solvers_of_two_predictions_do_not_fit():
    with pytest.raises(ValueError, match="one prediction a step"):
        d.as_diffusers_scheduler({"_class_name": "HeunDiscreteScheduler"})


class Normal:
    """Data from N(1.5, 0.09) with the scaled linear schedule, and 64 paths of their flow."""

    table = d.scaled_linear()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 1)))

    def std(self, t):
        """Return the standard deviation of x_t."""
        return np.hypot(0.3 * self.table.alpha(t), self.table.sigma(t))

    def predict(self, x, t):
        """Return what a network that has learnt the data predicts."""
        t = float(t) + 1.0
        return self.table.sigma(t) * (x - self.table.alpha(t) * 1.5) / self.std(t) ** 2

    def error(self, end, t, s):
        """Return the largest error of paths from `t` to `s`."""
        exact = (self.x - self.table.alpha(t) * 1.5) * self.std(s) / self.std(t)
        return np.abs(end - exact - 1.5 * self.table.alpha(s)).max().item()


@pytest.mark.parametrize("steps", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("grid", ["Karras", "exponential", "trailing"])
@pytest.mark.parametrize("name", METHODS)
def test_errors_on_normal_data_are_not_above_theirs(name, grid, steps):
    make, options = METHODS[name]
    scheduler, data = make(**SCALED, **options, **GRIDS[grid]), Normal()
    setup = d.from_diffusers(scheduler, steps)
    begin = float(setup.times[0])
    y = their_path(scheduler, setup, steps, data.predict, data.x)[-1]
    end = 0.0 if scheduler.sigmas[-1] == 0.0 else 1.0
    *_, ours = (s.x for s in d.trajectory(setup, data.predict, initial=data.x) if s.t >= end)
    rounding = 1e-5  # there to float32, in part
    assert data.error(ours, begin, end) <= data.error(y, begin, end) + rounding
    if steps >= 64 and not name.startswith("DEIS"):
        to_data = np.append(setup.times[:steps], 0.0)
        own = d.sample(setup, data.predict, initial=data.x, times=to_data, solver=OWN[name])
        assert data.error(own, begin, 0.0) <= data.error(y, begin, 0.0) + rounding


@pytest.mark.parametrize("steps", [128, 256, 600])
def test_ddim_on_trailing_times_is_not_off_its_schedule(steps):
    scheduler, data = diffusers.DDIMScheduler(**SCALED, **COMMON, **GRIDS["trailing"]), Normal()
    ours = d.sample(d.from_diffusers(scheduler, steps), data.predict, initial=data.x)
    scheduler.set_timesteps(steps)
    y = data.x
    for t in scheduler.timesteps:
        y = scheduler.step(data.predict(y, t), t, y).prev_sample
    assert data.error(ours, 1000.0, 0.0) < 0.5 * data.error(y, 1000.0, 0.0)


def test_a_run_may_begin_at_any_timestep_and_then_goes_on_in_order():
    # as pipelines do that change a picture
    scheduler = d.as_diffusers_scheduler(diffusers.DDIMScheduler(), solver=d.DPMpp(2))
    scheduler.set_timesteps(5)
    x = begin = torch.ones(1, 2, dtype=torch.float64)
    for t in scheduler.timesteps[2:]:
        x = scheduler.step(0.5 * x, t, x).prev_sample
    setup = scheduler.setup
    expected = d.sample(
        setup, lambda x, t: 0.5 * x, solver=d.DPMpp(2), times=setup.times[2:], initial=begin
    )
    torch.testing.assert_close(x, expected)
    with pytest.raises(ValueError, match="all 5 steps are taken: call set_timesteps"):
        scheduler.step(x, scheduler.timesteps[0], x)
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match=r"one of the timesteps of this scheduler, not 7\.0: \["):
        scheduler.step(x, 7, x)
    scheduler.step(x, scheduler.timesteps[0], x)
    with pytest.raises(ValueError, match=r"expected the next timestep, .* set_timesteps begins"):
        scheduler.step(x, scheduler.timesteps[0], x)


@pytest.mark.parametrize(
    ("scheduler", "steps", "error", "message"),
    [
        ("DDIM", 10, TypeError, "a scheduler of diffusers or its configuration, .* not 'DDIM'"),
        (None, 10, TypeError, "a scheduler of diffusers or its configuration, .* not None"),
        ({"_class_name": "DDIMScheduler"}, 0, ValueError, "steps to be a whole number from 1"),
        ({"_class_name": "DDIMScheduler"}, 2.5, ValueError, "steps to be a whole number from 1"),
    ],
)
def test_what_is_no_scheduler_is_refused(scheduler, steps, error, message):
    with pytest.raises(error, match=message):
        d.from_diffusers(scheduler, steps)
