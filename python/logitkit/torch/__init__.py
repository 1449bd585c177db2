"""
The functions of logitkit for PyTorch's tensors, with derivatives of any order.

``logitkit.softmax(x)`` and its like call these when `x` is a tensor; ``import logitkit`` does
not import this module. It needs the extra ``logitkit[torch]``.

Values are those of the functions for arrays, bit by bit, and no memory is copied for them:
tensors are read, and results written, where they lie. They are in the type of the tensor;
integers and truth values count as ``torch.get_default_dtype()``, as in PyTorch. Tensors lie in
main memory.

A masked element, ``-inf``, takes no part: its gradient is zero, and a gradient that arrives at
its result is ignored. So lines of nothing else have gradient zero, although their softmax is
NaN. Elements of a line with ``+inf`` or NaN have gradient NaN.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":  # one that is there but broken says so itself
        raise
    raise ImportError(
        "logitkit.torch needs PyTorch, which is not installed: pip install 'logitkit[torch]'"
    ) from error

from ._argmax_noise import ArgmaxNoise
from ._attention import (
    attention,
    attention_entropy_profile,
    attention_vjp,
    attention_with_stats,
    estimate_kappa,
    merge_attention,
)
from ._correlated_argmax_noise import CorrelatedArgmaxNoise
from ._diffusion_update import diffusion_update
from ._entropy_temperature import entropy_temperature
from ._gumbel import gumbel_argmax, gumbel_top_k
from ._log_arithmetic import logmeanexp, smooth_max
from ._logsumexp import logsumexp
from ._probability_maps import (
    entmax,
    entmax15,
    gradient_top_k,
    iterative_top_k,
    margin_softmax,
    sparsemax,
    taylor_softmax,
    threshold_top_k,
    top_k_softmax,
)
from ._softmax import log_softmax, softmax
from ._softmax_stats import softmax_stats

__all__ = [
    "ArgmaxNoise",
    "CorrelatedArgmaxNoise",
    "attention",
    "attention_entropy_profile",
    "attention_vjp",
    "attention_with_stats",
    "diffusion_update",
    "entmax",
    "entmax15",
    "entropy_temperature",
    "estimate_kappa",
    "gradient_top_k",
    "gumbel_argmax",
    "gumbel_top_k",
    "iterative_top_k",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "margin_softmax",
    "merge_attention",
    "smooth_max",
    "softmax",
    "softmax_stats",
    "sparsemax",
    "taylor_softmax",
    "threshold_top_k",
    "top_k_softmax",
]
