"""
CUDA: the functions of logitkit for arrays on NVIDIA GPUs.

``logitkit.softmax(x)`` and its like call these where `x` is an array of CuPy, or one of JAX on a
GPU; tensors of PyTorch on a GPU come here through ``logitkit.torch``, with derivatives. Nothing is
copied to main memory and nothing waits for the GPU: work goes to the stream that the array's
library uses, on the device where the array lies. JAX has no streams to offer; for its arrays the
call returns when the result is there.

The extension module with the kernels is part of a build with ``LOGITKIT_CUDA=ON`` and is loaded
when it is first needed. So far the kernels are compiled, and executed by an emulation on a
processor; they have not run on a GPU.
"""

from typing import Any

from ._arrays import is_immutable as is_immutable
from ._attention_arrays import attention, attention_with_stats, merge_attention
from ._attention_vjp import attention_vjp
from ._device import (
    BuildInfo,
    DeviceProperties,
    build_info,
    device_count,
    device_properties,
    is_available,
)
from ._diffusion_update import diffusion_update
from ._linear_argmax import linear_argmax, linear_topk
from ._noise_argmax import (
    noise_argmax_expected_max,
    noise_argmax_log_prob,
    noise_argmax_log_probs,
    noise_argmax_probs,
    noise_argmax_vjp,
)
from ._noise_sample import noise_argmax_sample
from ._random import (
    gumbel_argmax,
    gumbel_top_k,
    random_bits,
    random_exponential,
    random_gumbel,
    random_normal,
    random_uniform,
)
from ._softmax import log_softmax, logsumexp, softmax, softmax_stats
from ._softmax_vjp import log_softmax_vjp, logsumexp_vjp, softmax_vjp

__all__ = [
    "BuildInfo",
    "DeviceProperties",
    "attention",
    "attention_vjp",
    "attention_with_stats",
    "build_info",
    "device_count",
    "device_properties",
    "diffusion_update",
    "gumbel_argmax",
    "gumbel_top_k",
    "is_available",
    "linear_argmax",
    "linear_topk",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "merge_attention",
    "noise_argmax_expected_max",
    "noise_argmax_log_prob",
    "noise_argmax_log_probs",
    "noise_argmax_probs",
    "noise_argmax_sample",
    "noise_argmax_vjp",
    "random_bits",
    "random_exponential",
    "random_gumbel",
    "random_normal",
    "random_uniform",
    "softmax",
    "softmax_stats",
    "softmax_vjp",
]


# What logitkit has for PyTorch's tensors and not here.
_WITHOUT_KERNEL = [
    "ArgmaxNoise",
    "CorrelatedArgmaxNoise",
    "attention_entropy_profile",
    "entmax",
    "entmax15",
    "entropy_temperature",
    "estimate_kappa",
    "gradient_top_k",
    "iterative_top_k",
    "logmeanexp",
    "margin_softmax",
    "smooth_max",
    "sparsemax",
    "taylor_softmax",
    "threshold_top_k",
    "top_k_softmax",
]


def __getattr__(name: str) -> Any:
    if name in _WITHOUT_KERNEL:
        raise TypeError(
            f"{name} has no CUDA kernel for arrays of CuPy and JAX: pass a copy in main memory, such "
            "as cupy.asnumpy(x)"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
