"""Scaled softmax attention, forward and backward, and what it saw."""

from ..reference._attention_scale import (
    AtLengths,
    AttentionScale,
    Cosine,
    EntropyInvariant,
    GradientMaximal,
    LogBase,
    LogClip,
    Natural,
    YaRN,
)
from ._forward import attention, attention_with_stats, scaled_dot_product_attention
from ._merge import merge_attention
from ._profile import EntropyProfile, KappaEstimate, attention_entropy_profile, estimate_kappa
from ._vjp import attention_vjp

__all__ = [
    "AtLengths",
    "AttentionScale",
    "Cosine",
    "EntropyInvariant",
    "EntropyProfile",
    "GradientMaximal",
    "KappaEstimate",
    "LogBase",
    "LogClip",
    "Natural",
    "YaRN",
    "attention",
    "attention_entropy_profile",
    "attention_vjp",
    "attention_with_stats",
    "estimate_kappa",
    "merge_attention",
    "scaled_dot_product_attention",
]
