"""
Distributions over classes: the largest of logits with independent noise of any law.

`ArgmaxNoise` is the distribution, and `CorrelatedArgmaxNoise` that of noise with common factors; `Noise` says what a law of noise is, and the other classes are
such laws. `Probit` and `Softmax` are the two that have names of their own. `fit` estimates
linear utilities of discrete choices. The functions are other maps from logits to probabilities,
and smooth forms of the top k, each with its ``_vjp``.
"""

from .._probability_maps import (
    entmax,
    entmax15,
    entmax15_vjp,
    entmax_vjp,
    gradient_top_k,
    gradient_top_k_vjp,
    iterative_top_k,
    iterative_top_k_vjp,
    margin_softmax,
    margin_softmax_vjp,
    sparsemax,
    sparsemax_vjp,
    taylor_softmax,
    taylor_softmax_vjp,
    threshold_top_k,
    threshold_top_k_vjp,
    top_k_softmax,
    top_k_softmax_vjp,
)
from ._argmax_noise import ArgmaxNoise, Probit, Softmax
from ._correlated_argmax_noise import CorrelatedArgmaxNoise, CorrelatedGradients, ProbsWithError
from ._discrete_choice import ChoiceFit, fit
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
    "ChoiceFit",
    "CorrelatedArgmaxNoise",
    "CorrelatedGradients",
    "Exponential",
    "Gumbel",
    "Laplace",
    "Logistic",
    "Noise",
    "Normal",
    "Probit",
    "ProbsWithError",
    "ReversedExponential",
    "Softmax",
    "StudentT",
    "Uniform",
    "entmax",
    "entmax15",
    "entmax15_vjp",
    "entmax_vjp",
    "fit",
    "gradient_top_k",
    "gradient_top_k_vjp",
    "iterative_top_k",
    "iterative_top_k_vjp",
    "margin_softmax",
    "margin_softmax_vjp",
    "sparsemax",
    "sparsemax_vjp",
    "taylor_softmax",
    "taylor_softmax_vjp",
    "threshold_top_k",
    "threshold_top_k_vjp",
    "top_k_softmax",
    "top_k_softmax_vjp",
]
