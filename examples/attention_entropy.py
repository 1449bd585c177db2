"""How attention's entropy grows with the number of keys, for each scale schedule.

    python examples/attention_entropy.py [plot.png]

Prints the slope of the entropy against log n from 64 to 8,192 visible keys: 0 is invariant, 1 is
attention that spreads over all there is. Normal queries and keys, queries and keys on a sphere,
and scores that are uniform; it depends on them which schedule is flat.
"""

from __future__ import annotations

import sys

import numpy as np

from logitkit import (
    AttentionScale,
    EntropyInvariant,
    EntropyProfile,
    GradientMaximal,
    LogBase,
    LogClip,
    Natural,
    YaRN,
    attention_entropy_profile,
    estimate_kappa,
)

LENGTH, DIM, LEAST = 8192, 64, 64


def normal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return independent normal queries and keys."""
    query, key = rng.normal(size=(2, 1, LENGTH, DIM))
    return query, key


def sphere(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and keys of norm sqrt(DIM)."""
    query, key = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in normal(rng))
    return query * np.sqrt(DIM), key * np.sqrt(DIM)


def uniform(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return queries of one direction, so that the scores are uniform on [-2 d, 2 d]."""
    key = np.zeros((1, LENGTH, DIM))
    key[..., 0] = rng.uniform(-2.0, 2.0, size=(1, LENGTH))
    query = np.zeros_like(key)
    query[..., 0] = DIM
    return query, key


def main() -> None:
    """Print the slopes, and draw the profiles if a file is named."""
    profiles: dict[str, dict[str, EntropyProfile]] = {}
    for make in (normal, sphere, uniform):
        query, key = make(np.random.default_rng(0))
        lengths = [LEAST, 256, 1024, 4096]
        estimate = estimate_kappa(query[:, :4096], key[:, :4096], lengths=lengths, entropy=3.0)
        schedules: dict[str, AttentionScale | None] = {
            "1 / sqrt(d)": None,
            "log n / log 512": LogBase(512),
            f"log n, kappa = {estimate.kappa[0]:.2f}": EntropyInvariant(estimate.kappa),
            "log n beyond 512": LogClip(512),
            "YaRN beyond 512": YaRN(512),
            "log n": Natural(),
            "most gradient": GradientMaximal(),
        }
        print(f"\n{make.__name__:<24}{'slope':>7}{'from':>8}{'to':>7}  (nats)")
        profiles[make.__name__] = {}
        for name, scale in schedules.items():
            profile = attention_entropy_profile(query, key, scale=scale, least=LEAST)
            ends = profile.entropy[0, [1, -1]]
            verdict = "   flat" if abs(profile.slope[0]) < 0.1 else ""
            print(f"{name:<24}{profile.slope[0]:7.2f}{ends[0]:8.2f}{ends[1]:7.2f}{verdict}")
            profiles[make.__name__][name] = profile
        laws = ", ".join(f"{law} {misfit[0]:.1%}" for law, misfit in estimate.misfit.items())
        print(f"misfit of the scale that holds 3 nats, to laws in proportion to: {laws}")
    if len(sys.argv) > 1:
        draw(profiles, sys.argv[1])


def draw(profiles: dict[str, dict[str, EntropyProfile]], path: str) -> None:
    """Draw one panel for each kind of scores."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(profiles), 4), layout="constrained")
    for ax, (kind, by_schedule) in zip(
        figure.subplots(1, len(profiles), sharey=True), profiles.items(), strict=True
    ):
        for name, profile in by_schedule.items():
            profile.plot(ax, label=name)
        ax.set_title(f"{kind} scores")
        ax.legend(fontsize="small")
    figure.savefig(path)
    print(f"\ndrawn to {path}")


if __name__ == "__main__":
    main()
