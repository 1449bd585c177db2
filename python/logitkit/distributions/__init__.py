"""
Distributions over classes: the largest of logits with independent noise of any law.

`ArgmaxNoise` is the distribution; `Noise` says what a law of noise is, and the other classes are
such laws. `Probit` and `Softmax` are the two that have names of their own.
"""

from ._argmax_noise import ArgmaxNoise, Probit, Softmax
from ._noise import (
    Cauchy,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    Noise,
    Normal,
    ReversedExponential,
    StudentT,
    Uniform,
)

__all__ = [
    "ArgmaxNoise",
    "Cauchy",
    "Exponential",
    "Gumbel",
    "Laplace",
    "Logistic",
    "Noise",
    "Normal",
    "Probit",
    "ReversedExponential",
    "Softmax",
    "StudentT",
    "Uniform",
]
