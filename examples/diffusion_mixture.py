"""
A mixture in the plane: what solvers, grids and guidance do where everything is known.

Runs in a few seconds, on the processor; with matplotlib it also draws the paths of the samples and
the score field into diffusion_mixture.png:

    pip install . && python examples/diffusion_mixture.py
"""

from __future__ import annotations

import numpy as np

from logitkit import diffusion as d

PROCESS = d.Gaussian(d.VariancePreserving())
MEANS = np.array([[-2.0, 0.0], [1.5, 1.5], [1.5, -1.5]])
STD = 0.3


def network(x: np.ndarray, t: object, condition: int | None = None) -> np.ndarray:
    """Return the mean of the data given x_t, for one component or for all three."""
    alpha, sigma = (np.reshape(f(t), (-1, 1, 1)) for f in (PROCESS.schedule.alpha,
                                                           PROCESS.schedule.sigma))  # fmt: skip
    means = MEANS if condition is None else MEANS[[condition]]
    variance = alpha**2 * STD**2 + sigma**2
    gap = x[:, None] - alpha * means
    share = -0.5 * np.sum(gap**2, axis=-1, keepdims=True) / variance
    share = np.exp(share - share.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return np.sum(share * (means + alpha * STD**2 / variance * gap), axis=1)


def compare_solvers() -> None:
    """Print how far samples are from where the exact flow takes them."""
    x = np.random.default_rng(0).standard_normal((200, 2))
    end = 1e-3
    exact = d.sample(
        PROCESS, network, solver=d.ProbabilityFlow(1e-10, 1e-10), times=[1.0, end], initial=x,
        prediction="x0",
    )  # fmt: skip
    print("Root of the mean squared error, by predictions:")
    counts = (8, 16, 32, 64)
    print(f"{'':<30}" + "".join(f"{count:>10}" for count in counts))
    solvers = {
        1: (d.DDIM(), d.DPMpp(2), d.DPMpp(3), d.DEIS(3), d.UniPC(3)),
        2: (d.Heun(), d.DPMpp2S()),
    }
    for cost, group in solvers.items():
        for solver in group:
            errors = []
            for count in counts:
                times = d.karras(PROCESS, count // cost, start=1.0, end=end, clean=False)
                last = d.sample(
                    PROCESS, network, solver=solver, times=times, initial=x, prediction="x0"
                )
                errors.append(np.sqrt(np.mean((last - exact) ** 2)))
            print(f"{solver!r:<30}" + "".join(f"{error:>10.1e}" for error in errors))


def sweep_guidance() -> None:
    """Print what the weight of classifier-free guidance does to the samples of one component."""
    print("\nGuided towards the first component, mean and standard deviation of x:")
    for weight in (-1.0, 0.0, 1.0, 3.0, 7.0):
        x = d.sample(
            PROCESS, network, solver=d.DPMpp(2), times=d.karras(PROCESS, 30, end=1e-3),
            shape=(2000, 2), prediction="x0", guidance=d.ClassifierFree(weight), condition=0,
        )[:, 0]  # fmt: skip
        print(f"  w = {weight:4.1f}   {x.mean():6.2f}  {x.std():5.2f}")


def draw() -> None:
    """Draw the paths of samples, and the score halfway."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ModuleNotFoundError:
        print("\nWithout matplotlib, no picture.")
        return
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), sharex=True, sharey=True)
    times = d.uniform(PROCESS, 60, end=1e-3)
    for axis, solver in zip(axes, (d.DPMpp(2), d.DDPM()), strict=True):
        states = d.trajectory(
            PROCESS, network, solver=solver, times=times, shape=(60, 2), prediction="x0"
        )
        paths = np.stack([state.x for state in states])
        axis.plot(paths[..., 0], paths[..., 1], color="0.7", linewidth=0.5)
        axis.plot(*paths[-1].T, ".", color="C3")
        axis.set_title(f"{solver}")
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 20), np.linspace(-3, 3, 20)), -1).reshape(-1, 2)
    halfway = d.Prediction(network(grid, 0.2), "x0", grid, 0.2)
    axes[0].quiver(*grid.T, *PROCESS.convert(halfway, "score").T, color="C0", alpha=0.5)
    figure.savefig("diffusion_mixture.png", dpi=120)
    print("\nPaths and scores: diffusion_mixture.png")


if __name__ == "__main__":
    compare_solvers()
    sweep_guidance()
    draw()
