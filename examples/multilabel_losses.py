"""
Losses of many labels and of many classes: what they keep, and how to read their logits.

Runs in a few seconds, on the processor:

    pip install . && python examples/multilabel_losses.py
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from logitkit import losses, softmax

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def headline(text: str) -> None:
    """Print a title with a line under it."""
    print(f"\n{text}\n{'-' * len(text)}")


def few_of_many(rng: np.random.Generator) -> None:
    """Learn 3 true labels of 100 by two losses, with the weight decay that suits each best."""
    headline("3 true labels of 100, from 300 examples: F1 of 1000 unseen ones")
    labels, features = 100, 20
    weight = rng.normal(size=(features, labels))
    x = rng.normal(size=(1300, features))
    scores = x @ weight + rng.gumbel(size=(1300, labels))
    truth = scores >= np.sort(scores, 1)[:, -3, None]
    decays = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
    multilabel = losses.value_and_grad(losses.multilabel_cross_entropy)
    for name, loss in (("binary cross-entropies", binary), ("multilabel", multilabel)):
        results = []
        for decay in decays:
            w = fitted(loss, x[:300], truth[:300], decay)
            guessed = losses.multilabel_labels(x[300:] @ w[:-1] + w[-1])
            hits = (guessed & truth[300:]).sum()
            f1 = 2.0 * hits / (guessed.sum() + truth[300:].sum())
            results.append((f1, guessed.sum(1).mean()))
        f1, count = max(results)
        print(f"  {name:24s} {f1:.3f}, with {count:.1f} labels an example")


def binary(s: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the sum of binary cross-entropies, averaged over examples, and its gradient."""
    value = np.logaddexp(0.0, np.where(t, -s, s)).sum() / len(s)
    return value, (1.0 / (1.0 + np.exp(-s)) - t) / len(s)


def fitted(loss: Loss, x: np.ndarray, truth: np.ndarray, decay: float) -> np.ndarray:
    """Return weights and, below, biases of a linear model with weight decay."""
    shape = (x.shape[1] + 1, truth.shape[1])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(shape)
        value, gradient = loss(x @ w[:-1] + w[-1], truth)
        down = np.vstack([x.T @ gradient, gradient.sum(0)])
        return value + 0.5 * decay * (w**2).sum(), (down + decay * w).ravel()

    start = np.zeros(shape[0] * shape[1])
    options = {"maxiter": 100}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x.reshape(shape)


def digits() -> None:
    """Score a true label ever better, and see what subtracting it from the rest leaves."""
    headline("A true label at a growing score, another one at 0: the loss tends to log 2; float32")
    print("   score   subtracting   logitkit")
    for score in (5.0, 15.0, 30.0, 60.0):
        s = np.float32([[score, 0.0, -80.0]])
        total = np.float32(np.log1p(np.exp(s).sum(dtype=np.float32)))
        rest = np.maximum(np.float32(1.0) - np.exp(s[0, 0] - total), np.float32(1e-7))
        value = losses.sparse_multilabel_cross_entropy(s, [[0]])
        subtracted = np.log1p(np.exp(-s[0, 0])) + total + np.log(rest)
        print(f"  {score:6.0f}   {subtracted:11.6f}   {value:8.6f}")


def reading_logits(rng: np.random.Generator) -> None:
    """Minimise losses for soft targets, and recover these from the logits."""
    headline("Soft targets read back from the logits: largest error")
    t = rng.random((1, 6))
    s = best(lambda s: losses.value_and_grad(losses.multilabel_cross_entropy)(s, t), t.shape)
    decoded = losses.multilabel_probabilities(s)
    print(f"  many labels, sigmoid(2 s)              {np.abs(decoded - t).max():.1e}")
    wrong = 1.0 / (1.0 + np.exp(-s))
    print(f"  many labels, sigmoid(s)                {np.abs(wrong - t).max():.1e}")

    step = losses.value_and_grad(losses.grouped_cross_entropy)
    t = rng.dirichlet(np.ones(4), 30)
    s = best(lambda s: step(s, t), t.shape)
    decoded = losses.grouped_probabilities(s)
    print(f"  30 items of 4 classes, by the solution {np.abs(decoded - t).max():.1e}")
    print(f"  30 items of 4 classes, softmax(s)      {np.abs(softmax(s, 1) - t).max():.1e}")
    right = [np.mean(p.argmax(1) == t.argmax(1)) for p in (decoded, s)]
    print(f"  the same class first: {right[0]:.0%} by the solution, {right[1]:.0%} by the scores")


def best(step, shape) -> np.ndarray:
    """Return the scores at which a loss is least."""

    def objective(s: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = step(s.reshape(shape))
        return value, gradient.ravel()

    options = {"ftol": 0.0, "gtol": 1e-11, "maxiter": 2000}
    start = np.zeros(int(np.prod(shape)))
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x.reshape(shape)


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    few_of_many(generator)
    digits()
    reading_logits(generator)
