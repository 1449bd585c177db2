"""
Diffusion: one sampler for any forward process.

A `Process` turns data and noise into x_t; a network predicts the data, or the noise, from x_t; a
`Solver` takes one step from a time to an earlier one, and `sample` takes them all. `capabilities`
and `illegality` tell which solver can be used with which process.
"""

from ._adjusted_guidance import AdaptiveProjection, CFGpp
from ._analytic import AnalyticStd, estimate_analytic
from ._degradations import Blur, Compose, Hole, Masking, Mixing, Pool
from ._differential import ProbabilityFlow, ReverseSDE
from ._diffusers import SamplerSetup, from_diffusers
from ._diffusers_scheduler import DiffusersScheduler, as_diffusers_scheduler
from ._draws import Draws
from ._edits import Deletion, DifferentSubstitution, RandomSubstitution
from ._first_order import DDIM, DDPM, euler_ancestral
from ._gaussian import Gaussian
from ._gradient_guidance import (
    Classifier,
    CosineSimilarity,
    GradientGuidance,
    GramSimilarity,
    TorchPullback,
    sum_of,
)
from ._grids import exponential, karras, shifted, trailing, uniform, uniform_log_snr
from ._guidance import (
    AutoGuidance,
    ClassifierFree,
    Guidance,
    MultiCondition,
    PowerWeight,
)
from ._invert import interpolate, invert
from ._lower_order import lower_order_final
from ._multistep import DEIS, DPMpp, ExponentialAdams, UniPC
from ._predictions import Prediction
from ._predictor import PredictionError, Predictor
from ._process import Process, capabilities, from_function, illegality
from ._runge_kutta import DPMpp2S, DPMSolver2, FlowEuler, FlowHeun, Heun
from ._sample import sample, trajectory
from ._schedule_tables import cosine, linear, scaled_linear, sigmoid, su, zero_terminal_snr
from ._schedules import Custom, Schedule, StraightPath, VarianceExploding
from ._solver import Solver, State
from ._token_solvers import Bridge, TokenPosterior, Unmask
from ._tokens import MaskTokens, UniformTokens, linear_keep
from ._training import (
    Encoded,
    TrainingPair,
    Weighting,
    diffusion_loss,
    token_loss,
    training_pair,
)
from ._transition_tokens import TransitionTokens
from ._udm import UDM, Cold, Copula, Fresh, Keep, Kernel, Refresh, Rotate, ddpm_amount
from ._variance_preserving import Cosine, ExponentialDecay, Sigmoid, StepTable, VariancePreserving
from ._wrapped_guidance import DynamicThreshold, Interval

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "UDM",
    "AdaptiveProjection",
    "AnalyticStd",
    "AutoGuidance",
    "Blur",
    "Bridge",
    "CFGpp",
    "Classifier",
    "ClassifierFree",
    "Cold",
    "Compose",
    "Copula",
    "Cosine",
    "CosineSimilarity",
    "Custom",
    "DPMSolver2",
    "DPMpp",
    "DPMpp2S",
    "Deletion",
    "DifferentSubstitution",
    "DiffusersScheduler",
    "Draws",
    "DynamicThreshold",
    "Encoded",
    "ExponentialAdams",
    "ExponentialDecay",
    "FlowEuler",
    "FlowHeun",
    "Fresh",
    "Gaussian",
    "GradientGuidance",
    "GramSimilarity",
    "Guidance",
    "Heun",
    "Hole",
    "Interval",
    "Keep",
    "Kernel",
    "MaskTokens",
    "Masking",
    "Mixing",
    "MultiCondition",
    "Pool",
    "PowerWeight",
    "Prediction",
    "PredictionError",
    "Predictor",
    "ProbabilityFlow",
    "Process",
    "RandomSubstitution",
    "Refresh",
    "ReverseSDE",
    "Rotate",
    "SamplerSetup",
    "Schedule",
    "Sigmoid",
    "Solver",
    "State",
    "StepTable",
    "StraightPath",
    "TokenPosterior",
    "TorchPullback",
    "TrainingPair",
    "TransitionTokens",
    "UniPC",
    "UniformTokens",
    "Unmask",
    "VarianceExploding",
    "VariancePreserving",
    "Weighting",
    "as_diffusers_scheduler",
    "capabilities",
    "cosine",
    "ddpm_amount",
    "diffusion_loss",
    "estimate_analytic",
    "euler_ancestral",
    "exponential",
    "from_diffusers",
    "from_function",
    "illegality",
    "interpolate",
    "invert",
    "karras",
    "linear",
    "linear_keep",
    "lower_order_final",
    "sample",
    "scaled_linear",
    "shifted",
    "sigmoid",
    "su",
    "sum_of",
    "token_loss",
    "trailing",
    "training_pair",
    "trajectory",
    "uniform",
    "uniform_log_snr",
    "zero_terminal_snr",
]
