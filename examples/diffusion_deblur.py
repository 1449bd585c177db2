"""
Deblur a photograph with a prior in closed form: what the mean of the data hides.

The photograph is one that scikit-learn ships; the prior is normal, with the spectrum of another
one. So the law of the data given a blurred and noisy picture is known, and both its mean and draws
from it are exact. Takes a few seconds; with matplotlib it also draws diffusion_deblur.png:

    pip install . scikit-learn && python examples/diffusion_deblur.py
"""

from __future__ import annotations

import numpy as np
from scipy import fft
from sklearn.datasets import load_sample_image

from logitkit import diffusion as d

SIZE, WIDTH, NOISE = 256, 4.0, 0.02


def noise_at(t: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the noise at a time."""
    return NOISE * t


BLUR = d.Blur(WIDTH)
PROCESS = d.Compose(BLUR, d.Gaussian(d.Custom(np.ones_like, noise_at)))


def photograph(name: str) -> np.ndarray:
    """Return the middle of a photograph, grey and around 0."""
    grey = load_sample_image(name).mean(axis=-1) / 255.0
    top, left = (grey.shape[0] - SIZE) // 2, (grey.shape[1] - SIZE) // 2
    return grey[top : top + SIZE, left : left + SIZE] - 0.5


def power_law(picture: np.ndarray) -> np.ndarray:
    """Return the variance of each frequency of a normal prior, as a power of the frequency."""
    k = np.hypot(*np.meshgrid(np.arange(SIZE), np.arange(SIZE))) + 1.0
    log_power = np.log(fft.dctn(picture, norm="ortho") ** 2 + 1e-12)
    slope, level = np.polyfit(np.log(k).ravel(), log_power.ravel(), 1)
    # the mean of the logarithm of a squared normal number is 1.27 below that of the number
    return np.exp(level + 1.27 + slope * np.log(k))


def posterior(variance: np.ndarray, spread: float, rng: np.random.Generator) -> object:
    """Return a network: the mean of the data given x_t, and `spread` deviations around it."""
    rate = 0.5 * (np.pi * np.arange(SIZE) / SIZE) ** 2

    def predict(x: np.ndarray, t: float) -> np.ndarray:
        decay = np.exp(-((WIDTH * t) ** 2) * np.add.outer(rate, rate))
        noise = noise_at(t) ** 2
        total = variance * decay**2 + noise
        mean = variance * decay / total * fft.dctn(x, axes=(-2, -1), norm="ortho")
        std = np.sqrt(variance * noise / total)
        mean = mean + spread * std * rng.standard_normal(x.shape)
        return fft.idctn(mean, axes=(-2, -1), norm="ortho")

    return predict


def report(name: str, picture: np.ndarray, true: np.ndarray) -> None:
    """Print the error of a picture, and the energy of its upper half of frequencies."""
    psnr = -10.0 * np.log10(np.mean((picture - true) ** 2))
    fine = [
        np.sum(fft.dctn(p, norm="ortho")[SIZE // 8 :, SIZE // 8 :] ** 2) for p in (picture, true)
    ]
    print(f"  {name:<44}{psnr:>8.2f} dB{fine[0] / fine[1]:>12.2f}")


def main() -> None:
    """Blur a photograph, and bring it back."""
    true, variance = photograph("china.jpg"), power_law(photograph("flower.jpg"))
    draws = d.Draws(0, 0, np.arange(1))
    seen = PROCESS.forward(true[None], PROCESS.noise(draws, true[None]), 1.0)
    print(f"{'':<46}{'PSNR':>8}   {'fine detail, of the true':>12}")
    report("seen", seen[0], true)
    pictures = {"seen": seen[0]}
    times = np.linspace(1.0, 0.0, 21)
    for name, solver, spread in (
        ("mean, 1 step", None, 0.0),
        ("mean, 20 steps, noise kept", d.UDM(d.Keep()), 0.0),
        ("mean, 20 steps, noise drawn anew", d.UDM(d.Fresh()), 0.0),
        ("drawn from the posterior, 20 steps", d.UDM(d.Keep()), 1.0),
    ):
        predict = posterior(variance, spread, np.random.default_rng(0))
        picture = d.sample(
            PROCESS, predict, solver=solver or d.UDM(d.Keep()),
            times=times if solver else [1.0, 0.0], initial=seen, prediction="x0",
        )[0]  # fmt: skip
        pictures[name] = picture
        report(name, picture, true)
    draw({**pictures, "true": true})


def draw(pictures: dict[str, np.ndarray]) -> None:
    """Draw pictures side by side."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ModuleNotFoundError:
        return
    figure, axes = plt.subplots(1, len(pictures), figsize=(3 * len(pictures), 3.3))
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=-0.5, vmax=0.5)
        axis.set_title(name, fontsize=8)
        axis.set_axis_off()
    figure.savefig("diffusion_deblur.png", dpi=100)
    print("\nPictures: diffusion_deblur.png")


if __name__ == "__main__":
    main()
