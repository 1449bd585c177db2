"""
Maps from logits to probabilities beside softmax, and smooth forms of the top k.

All have one interface: ``name(x, axis=-1)`` with its parameters as keywords, and
``name_vjp(x, g, axis=-1)`` with the same ones, the gradient at `x` of ``sum(g * name(x))``.
"""

from ._entmax import entmax, entmax15, entmax15_vjp, entmax_vjp, sparsemax, sparsemax_vjp
from ._smooth_top_k import (
    gradient_top_k,
    gradient_top_k_vjp,
    iterative_top_k,
    iterative_top_k_vjp,
    threshold_top_k,
    threshold_top_k_vjp,
)
from ._softmax_forms import (
    margin_softmax,
    margin_softmax_vjp,
    taylor_softmax,
    taylor_softmax_vjp,
    top_k_softmax,
    top_k_softmax_vjp,
)

__all__ = [
    "entmax",
    "entmax15",
    "entmax15_vjp",
    "entmax_vjp",
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
