"""Attention trained on 64 keys and read on up to 16,384, with and without a scale by log n.

    python examples/attention_read_long.py

A query is a noisy copy of one of n random codes, and asks for the class of that item. One matrix
between queries and codes is trained on 64 items, once with the usual scale and once with one in
proportion to log n, which is the same at 64; then both read longer lists. Where the noise leaves
the item in no doubt, the usual scale spreads its attention over ever more items, and the other
one holds its entropy and its loss. Where the noise does leave doubt, doubt grows with the list:
an entropy that does not grow is then false confidence, and the usual scale has the lower loss.
"""

from __future__ import annotations

import numpy as np

from logitkit import AttentionScale, LogBase, attention_vjp, attention_with_stats

CLASSES, TRAINED = 8, 64


def lists(rng: np.random.Generator, n: int, size: int, dim: int, noise: float) -> tuple:
    """Return queries (size, 1, 1, dim), codes, one-hot classes of all items, the class wanted."""
    codes = rng.normal(size=(size, 1, n, dim))
    classes = rng.integers(CLASSES, size=(size, n))
    item, row = rng.integers(n, size=size), np.arange(size)
    query = codes[row, :, item][:, :, None] + noise * rng.normal(size=(size, 1, 1, dim))
    return query, codes, np.eye(CLASSES)[classes][:, None], classes[row, item]


def train(scale: AttentionScale | None, dim: int, noise: float, steps: int) -> np.ndarray:
    """Minimise the cross-entropy of the class by Adam."""
    rng = np.random.default_rng(0)
    weight = 0.1 * np.eye(dim)
    mean, square = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(1, steps + 1):
        query, codes, values, wanted = lists(rng, TRAINED, 128, dim, noise)
        result = attention_with_stats(query @ weight, codes, values, scale=scale)
        row = np.arange(len(wanted))
        grad_output = np.zeros_like(result.output)
        p = result.output[row, 0, 0, wanted]
        grad_output[row, 0, 0, wanted] = -1.0 / np.maximum(p, 1e-6) / len(row)
        grads = attention_vjp(
            query @ weight, codes, values, grad_output, result=result, scale=scale
        )
        grad = np.einsum("bhid,bhie->de", query, grads.query)
        mean, square = 0.9 * mean + 0.1 * grad, 0.99 * square + 0.01 * grad**2
        size = np.sqrt(square / (1 - 0.99**step)) + 1e-9
        weight = weight - 0.03 * mean / (1 - 0.9**step) / size
    return weight


def read(weight: np.ndarray, scale: AttentionScale | None, n: int, noise: float) -> str:
    """Return accuracy, loss and entropy on lists of n items."""
    query, codes, values, wanted = lists(np.random.default_rng(n), n, 64, len(weight), noise)
    result = attention_with_stats(query @ weight, codes, values, scale=scale)
    p = result.output[:, 0, 0]
    loss = -np.mean(np.log(np.maximum(p[np.arange(64), wanted], 1e-12)))
    accuracy = np.mean(p.argmax(axis=1) == wanted)
    return f"{accuracy:6.0%}{loss:8.3f}{result.entropy.mean():8.2f}"


def main() -> None:
    """Print both regimes."""
    head = f"{'accuracy':>8}{'loss':>6}{'entropy':>8}"
    for title, dim, noise, steps in (("no doubt", 64, 0.5, 100), ("doubt", 16, 0.9, 400)):
        scales = {"usual": None, "log n": LogBase(TRAINED)}
        weights = {name: train(scale, dim, noise, steps) for name, scale in scales.items()}
        print(f"\n{title:<10}" + "".join(f"{name:>12}{head[8:]:>10}" for name in scales))
        for n in (16, 64, 256, 1024, 4096, 16384):
            lines = (read(weights[name], scale, n, noise) for name, scale in scales.items())
            print(f"{n:>8}  " + "    ".join(lines))


if __name__ == "__main__":
    main()
