"""Kernels and methods for everything between logits and decisions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import reference
from ._attention import (
    AtLengths,
    AttentionScale,
    Cosine,
    EntropyInvariant,
    EntropyProfile,
    GradientMaximal,
    KappaEstimate,
    LogBase,
    LogClip,
    Natural,
    YaRN,
    attention,
    attention_entropy_profile,
    attention_vjp,
    attention_with_stats,
    estimate_kappa,
    merge_attention,
    scaled_dot_product_attention,
)
from ._entropy_temperature import (
    EntropyTemperatureVJP,
    entropy_temperature,
    entropy_temperature_vjp,
)
from ._linear_argmax import linear_argmax, linear_topk
from ._log_arithmetic import log1mexp, logaddexp, logmeanexp, logsubexp, smooth_max
from ._logsumexp import logsumexp
from ._softmax import log_softmax, softmax
from ._softmax_stats import softmax_stats
from ._softmax_vjp import log_softmax_vjp, logsumexp_vjp, softmax_vjp
from .reference import SoftmaxStats

if TYPE_CHECKING:
    from . import bounds, cuda, diffusion, distributions, losses, random
    from .argmaxable import ArgmaxableReport, Box, Verdict, check_argmaxable

__all__ = [
    "ArgmaxableReport",
    "AtLengths",
    "AttentionScale",
    "Box",
    "Cosine",
    "EntropyInvariant",
    "EntropyProfile",
    "EntropyTemperatureVJP",
    "GradientMaximal",
    "KappaEstimate",
    "LogBase",
    "LogClip",
    "Natural",
    "SoftmaxStats",
    "Verdict",
    "YaRN",
    "attention",
    "attention_entropy_profile",
    "attention_vjp",
    "attention_with_stats",
    "bounds",
    "check_argmaxable",
    "cuda",
    "diffusion",
    "distributions",
    "entropy_temperature",
    "entropy_temperature_vjp",
    "estimate_kappa",
    "linear_argmax",
    "linear_topk",
    "log1mexp",
    "log_softmax",
    "log_softmax_vjp",
    "logaddexp",
    "logmeanexp",
    "logsubexp",
    "logsumexp",
    "logsumexp_vjp",
    "losses",
    "merge_attention",
    "random",
    "reference",
    "scaled_dot_product_attention",
    "smooth_max",
    "softmax",
    "softmax_stats",
    "softmax_vjp",
]


# What takes long to import and few programs need is imported when it is first asked for.
_PACKAGES = ("argmaxable", "bounds", "cuda", "diffusion", "distributions", "losses", "random")
_OF_ARGMAXABLE = ("ArgmaxableReport", "Box", "Verdict", "check_argmaxable")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name in _OF_ARGMAXABLE:
        return getattr(import_module(".argmaxable", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
