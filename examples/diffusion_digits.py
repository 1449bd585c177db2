"""
Digits from noise: train a small denoiser on 8x8 digits, and ask it for each of them.

Needs torch and scikit-learn, and two or three minutes of one processor:

    pip install .[torch] scikit-learn && python examples/diffusion_digits.py

Prints the share of samples that an independent classifier takes for the digit asked for, with and
without guidance; with matplotlib it also draws ten of each into diffusion_digits.png.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import nn

from logitkit import diffusion as d

PROCESS = d.Gaussian(d.Cosine())
NONE = 10  # the class that stands for no condition
STEPS, BATCH = 6000, 128


class Denoiser(nn.Module):
    """A residual network of the pixels, the time and the digit."""

    def __init__(self, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.digit = nn.Embedding(11, width)
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Linear(64, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(),
                          nn.Linear(2 * width, width))
            for _ in range(depth)
        )  # fmt: skip
        self.leave = nn.Linear(width, 64)

    def forward(self, x: torch.Tensor, t: torch.Tensor, digit: torch.Tensor) -> torch.Tensor:
        """Return the prediction of v."""
        angle = t[:, None] * torch.pi * 2.0 ** torch.arange(8)
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))
        hidden = self.enter(x)
        for block in self.blocks:
            hidden = hidden + block(hidden + time + self.digit(digit))
        return self.leave(hidden)


def train(images: np.ndarray, digits: np.ndarray) -> Denoiser:
    """Return a denoiser that has seen every image some hundred times."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = Denoiser()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        pick = rng.integers(len(images), size=BATCH)
        t = rng.uniform(0.001, 0.999, BATCH)
        pair = d.training_pair(
            PROCESS, torch.from_numpy(images[pick]), t, prediction="v", rng=1, step=step,
            condition=digits[pick], no_condition=NONE, p_uncond=0.1,
        )  # fmt: skip
        at = torch.from_numpy(t.astype(np.float32))
        said = network(pair.x, at, torch.from_numpy(pair.condition))
        loss = d.diffusion_loss(PROCESS, said, pair, kind="v").mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if (step + 1) % 2000 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    return network.eval()


def draw_digits(network: Denoiser, digits: np.ndarray, guidance: d.Guidance | None) -> np.ndarray:
    """Return samples, of these digits if there is guidance, and of any if not."""

    @torch.no_grad()
    def predict(x: torch.Tensor, t: float, condition: np.ndarray | None = None) -> torch.Tensor:
        digit = np.full(len(x), NONE) if condition is None else condition
        return network(x, torch.full((len(x),), float(t)), torch.from_numpy(digit))

    x = d.sample(
        PROCESS, predict, solver=d.DPMpp(2), times=d.uniform(PROCESS, 40), shape=(len(digits), 64),
        prediction="v", guidance=guidance, condition=None if guidance is None else digits,
        like=torch.empty(0),
    )  # fmt: skip
    return x.numpy().clip(-1.0, 1.0)


def main() -> None:
    """Train, sample and score."""
    torch.set_num_threads(1)
    images, digits = load_digits(return_X_y=True)
    images = (images / 8.0 - 1.0).astype(np.float32)
    judge = SVC(gamma=0.03, C=10.0).fit(images, digits)
    network = train(images, digits)
    asked = np.repeat(np.arange(10), 50)
    print("\nSamples that a classifier takes for the digit asked for:")
    guides = {
        "no guidance, no condition": None,
        "condition alone, w = 0": d.ClassifierFree(0.0),
        "w = 1": d.ClassifierFree(1.0),
        "w = 2, between t = 0.1 and 0.9": d.Interval(d.ClassifierFree(2.0), 0.1, 0.9),
    }
    for name, guidance in guides.items():
        samples = draw_digits(network, asked, guidance)
        print(f"  {name:<32}{(judge.predict(samples) == asked).mean():>6.0%}")
    try:
        from matplotlib import image
    except ModuleNotFoundError:
        return
    tiles = samples.reshape(10, 50, 8, 8)[:, :10].swapaxes(1, 2).reshape(80, 80)
    image.imsave("diffusion_digits.png", tiles, cmap="gray")
    print("\nTen of each: diffusion_digits.png")


if __name__ == "__main__":
    main()
