"""
Text from masks: how many steps a network needs that predicts each letter by itself.

The network is exact: for text in which a letter depends on the one before, the law of each masked
letter given those that are shown is found by passing messages. What is lost with few steps is the
dependence between letters unmasked together. Takes some seconds:

    pip install . && python examples/diffusion_text.py
"""

from __future__ import annotations

import numpy as np

from logitkit import diffusion as d

TEXT = (
    "the thing that is there is the other thing and the rain in the north is in the rather thin "
    "heather near the shore and then there are the stones that share the heat of the sun and "
    "the sand and the sea that hears it all and returns to the shore "
)
LETTERS = sorted(set(TEXT))
SIZE, LENGTH = len(LETTERS), 32
CODES = np.array([LETTERS.index(letter) for letter in TEXT])
CHAIN = np.full((SIZE, SIZE), 1e-3)
np.add.at(CHAIN, (CODES, np.roll(CODES, -1)), 1.0)
CHAIN /= CHAIN.sum(axis=1, keepdims=True)
START = np.bincount(CODES, minlength=SIZE) / len(CODES)


def network(x: np.ndarray, t: float) -> np.ndarray:
    """Return the logarithm of the law of each letter given those that are shown."""
    masked = x == SIZE
    seen = np.where(masked[..., None], 1.0, np.eye(SIZE + 1)[x][..., :SIZE])
    forth, back = np.empty_like(seen), np.ones_like(seen)
    forth[:, 0] = START * seen[:, 0]
    for i in range(1, LENGTH):
        step = (forth[:, i - 1] / forth[:, i - 1].sum(-1, keepdims=True)) @ CHAIN
        forth[:, i] = step * seen[:, i]
    for i in range(LENGTH - 2, -1, -1):
        message = (back[:, i + 1] * seen[:, i + 1]) @ CHAIN.T
        back[:, i] = message / message.sum(-1, keepdims=True)
    law = forth * back
    with np.errstate(divide="ignore"):
        return np.log(law / law.sum(-1, keepdims=True))


def score(x: np.ndarray) -> float:
    """Return the mean log-probability of a letter given the one before, in nats."""
    return float(np.log(CHAIN[x[:, :-1], x[:, 1:]]).mean())


def main() -> None:
    """Sample text with few and with many steps, in several orders."""
    process, rng = d.MaskTokens(SIZE), np.random.default_rng(0)
    true = np.empty((2000, LENGTH), int)
    true[:, 0] = rng.choice(SIZE, 2000, p=START)
    for i in range(1, LENGTH):
        u = rng.random((2000, 1))
        true[:, i] = (u > CHAIN[true[:, i - 1]].cumsum(-1)).sum(-1).clip(max=SIZE - 1)
    print(f"Mean log-probability of a letter; text of the chain itself has {score(true):.2f}\n")
    solvers = {
        "at random": d.Unmask("random"),
        "at random, masking 20 % again": d.Unmask("random", remask=0.2),
        "the surest first": d.Unmask("confidence"),
    }
    print(f"{'':<32}" + "".join(f"{steps:>8} steps" for steps in (1, 4, 16, 64)))
    for name, solver in solvers.items():
        scores = []
        for steps in (1, 4, 16, 64):
            x = d.sample(
                process, network, solver=solver, times=np.linspace(1.0, 0.0, steps + 1),
                shape=(500, LENGTH), prediction="logits",
            )  # fmt: skip
            scores.append(score(x))
        print(f"{name:<32}" + "".join(f"{value:>14.2f}" for value in scores))
        print("  " + "".join(LETTERS[i] for i in x[0]))


if __name__ == "__main__":
    main()
