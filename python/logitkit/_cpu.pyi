import enum
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

class Isa(enum.Enum):
    scalar = 0
    neon = 1
    avx2 = 2
    avx512 = 3
    avx512_bf16 = 4
    amx = 5

class NoiseLaw:
    normal: NoiseLaw
    logistic: NoiseLaw
    laplace: NoiseLaw
    cauchy: NoiseLaw
    uniform: NoiseLaw
    exponential: NoiseLaw
    def __init__(
        self,
        *,
        width: float,
        low: float,
        step: float,
        tail_index: float,
        log_cdf: NDArray[np.float64],
        log_ratio: NDArray[np.float64],
    ) -> None: ...

def supported_isas() -> list[Isa]: ...
def default_isa() -> Isa: ...
def default_threads() -> int: ...
@overload
def logsumexp(
    x: NDArray[np.float32], axis: int, out: NDArray[np.float32], *, threads: int = 0, isa: Isa = ...
) -> None: ...
@overload
def logsumexp(
    x: NDArray[np.float64], axis: int, out: NDArray[np.float64], *, threads: int = 0, isa: Isa = ...
) -> None: ...
@overload
def softmax(
    x: NDArray[np.float32], axis: int, out: NDArray[np.float32], *, threads: int = 0, isa: Isa = ...
) -> None: ...
@overload
def softmax(
    x: NDArray[np.float64], axis: int, out: NDArray[np.float64], *, threads: int = 0, isa: Isa = ...
) -> None: ...
@overload
def log_softmax(
    x: NDArray[np.float32], axis: int, out: NDArray[np.float32], *, threads: int = 0, isa: Isa = ...
) -> None: ...
@overload
def log_softmax(
    x: NDArray[np.float64], axis: int, out: NDArray[np.float64], *, threads: int = 0, isa: Isa = ...
) -> None: ...
@overload
def softmax_stats(
    x: NDArray[np.float32],
    axis: int,
    scale: float,
    logsumexp: NDArray[np.float32],
    entropy: NDArray[np.float32],
    max: NDArray[np.float32],
    sum_of_squares: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def softmax_stats(
    x: NDArray[np.float64],
    axis: int,
    scale: float,
    logsumexp: NDArray[np.float64],
    entropy: NDArray[np.float64],
    max: NDArray[np.float64],
    sum_of_squares: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
def attention(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    out: NDArray[Any],
    sequences: NDArray[np.int64],
    scale: NDArray[Any],
    *,
    left: int,
    right: int,
    softcap: float = 0.0,
    slopes: NDArray[Any] | None = None,
    sinks: NDArray[Any] | None = None,
    mask: NDArray[np.uint8] | None = None,
    terms: NDArray[Any] | None = None,
    more_terms: NDArray[Any] | None = None,
    block_table: NDArray[np.int32] | None = None,
    logsumexp: NDArray[Any] | None = None,
    entropy: NDArray[Any] | None = None,
    max_logit: NDArray[Any] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
def attention_gradient(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    sequences: NDArray[np.int64],
    scale: NDArray[Any],
    out: NDArray[Any],
    grad_out: NDArray[Any],
    logsumexp: NDArray[Any],
    grad_query: NDArray[Any],
    grad_key: NDArray[Any],
    grad_value: NDArray[Any],
    *,
    left: int,
    right: int,
    softcap: float = 0.0,
    slopes: NDArray[Any] | None = None,
    mask: NDArray[np.uint8] | None = None,
    terms: NDArray[Any] | None = None,
    more_terms: NDArray[Any] | None = None,
    entropy: NDArray[Any] | None = None,
    grad_logsumexp: NDArray[Any] | None = None,
    grad_entropy: NDArray[Any] | None = None,
    grad_scale: NDArray[Any] | None = None,
    grad_logits: NDArray[Any] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
def multiply_add(count: int, *, isa: Isa = ...) -> int: ...
def linear_argmax(
    x: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    values: NDArray[np.float32],
    indices: NDArray[np.int64],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
def linear_topk(
    x: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    values: NDArray[np.float32],
    indices: NDArray[np.int64],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
def witness_tails(columns: int) -> int: ...
def prepare_self_witness(
    z: NDArray[np.float32],
    tails: NDArray[np.float32],
    squares: NDArray[np.float32],
    *,
    error: float,
    threads: int = 0,
) -> None: ...
def self_witness(
    z: NDArray[np.float32],
    tails: NDArray[np.float32],
    squares: NDArray[np.float32],
    slack: NDArray[np.float32],
    *,
    begin: int,
    end: int,
    threads: int = 0,
    isa: Isa = ...,
) -> int: ...

class LeastDistance:
    class Status(enum.Enum):
        feasible = 0
        infeasible = 1
        paused = 2
        stalled = 3

    def __init__(self, dim: int) -> None: ...
    def add_points(
        self, center: NDArray[np.float64], points: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> int: ...
    def add_rays(self, rays: NDArray[np.float64], labels: NDArray[np.int64]) -> int: ...
    @property
    def direction(self) -> NDArray[np.float64]: ...
    @property
    def margin(self) -> float: ...
    @property
    def active_labels(self) -> NDArray[np.int64]: ...
    @property
    def active_weights(self) -> NDArray[np.float64]: ...
    @property
    def constraints(self) -> int: ...
    @property
    def iterations(self) -> int: ...

def solve_least_distances(
    problems: list[LeastDistance], *, max_iterations: int, threads: int = 0, isa: Isa = ...
) -> list[LeastDistance.Status]: ...
def random_bits(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.uint64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_uniform(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_uniform(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_exponential(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_exponential(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_gumbel(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_gumbel(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_normal(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def random_normal(
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def gumbel_argmax(
    logits: NDArray[np.float32],
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    indices: NDArray[np.int64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def gumbel_argmax(
    logits: NDArray[np.float64],
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    indices: NDArray[np.int64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def gumbel_top_k(
    logits: NDArray[np.float32],
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
    indices: NDArray[np.int64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def gumbel_top_k(
    logits: NDArray[np.float64],
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    indices: NDArray[np.int64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def diffusion_update(
    x: NDArray[np.float32],
    y: NDArray[np.float32] | None,
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    c: NDArray[np.float32] | None,
    lower: float,
    upper: float,
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
@overload
def diffusion_update(
    x: NDArray[np.float64],
    y: NDArray[np.float64] | None,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64] | None,
    lower: float,
    upper: float,
    seed: int,
    step: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> None: ...
def combine(
    arrays: tuple[Any, ...], factors: tuple[float | NDArray[np.float64], ...], /
) -> Any: ...
def combine_with_noise(
    arrays: tuple[Any, ...],
    factors: tuple[float | NDArray[np.float64], ...],
    c: float | NDArray[np.float64] | None,
    seed: int,
    step: int,
    ids: NDArray[np.int64] | None,
    *,
    threads: int = 0,
    isa: Isa | None = None,
) -> Any: ...
def update(
    x: object,
    y: object,
    a: object,
    b: object,
    c: object,
    seed: int,
    step: int,
    lower: float,
    upper: float,
    out: object,
    /,
) -> Any: ...
def fits(value: object, x: object, /) -> bool: ...
def has_nan(x: object, *, isa: Isa | None = None) -> bool: ...
@overload
def noise_argmax_probs(
    logits: NDArray[np.float32],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_probs(
    logits: NDArray[np.float64],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_log_probs(
    logits: NDArray[np.float32],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_log_probs(
    logits: NDArray[np.float64],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_vjp(
    logits: NDArray[np.float32],
    cotangents: NDArray[np.float32],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_vjp(
    logits: NDArray[np.float64],
    cotangents: NDArray[np.float64],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_expected_max(
    logits: NDArray[np.float32],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float32],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_expected_max(
    logits: NDArray[np.float64],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float64],
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_log_prob(
    logits: NDArray[np.float32],
    index: NDArray[np.uintp],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float32],
    gradients: NDArray[np.float32] | None,
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def noise_argmax_log_prob(
    logits: NDArray[np.float64],
    index: NDArray[np.uintp],
    law: NoiseLaw,
    scale: float,
    out: NDArray[np.float64],
    gradients: NDArray[np.float64] | None,
    *,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def cross_entropy(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    values: NDArray[np.float64],
    *,
    targets: NDArray[np.float32] | None = None,
    class_weight: NDArray[np.float32] | None = None,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
    logsumexp: NDArray[np.float64] | None = None,
    gradient: NDArray[np.float32] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def cross_entropy(
    logits: NDArray[np.float64],
    labels: NDArray[np.int64],
    values: NDArray[np.float64],
    *,
    targets: NDArray[np.float64] | None = None,
    class_weight: NDArray[np.float64] | None = None,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
    logsumexp: NDArray[np.float64] | None = None,
    gradient: NDArray[np.float64] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def linear_cross_entropy(
    input: NDArray[np.float32],
    weight: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    bias: NDArray[np.float32] | None = None,
    softcap: float = 0.0,
    targets: NDArray[np.float32] | None = None,
    class_weight: NDArray[np.float32] | None = None,
    logsumexp: NDArray[np.float64] | None = None,
    entropy: NDArray[np.float64] | None = None,
    target: NDArray[np.float64] | None = None,
    total: NDArray[np.float64] | None = None,
    best: NDArray[np.int64] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def linear_cross_entropy(
    input: NDArray[np.float64],
    weight: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    bias: NDArray[np.float64] | None = None,
    softcap: float = 0.0,
    targets: NDArray[np.float64] | None = None,
    class_weight: NDArray[np.float64] | None = None,
    logsumexp: NDArray[np.float64] | None = None,
    entropy: NDArray[np.float64] | None = None,
    target: NDArray[np.float64] | None = None,
    total: NDArray[np.float64] | None = None,
    best: NDArray[np.int64] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def linear_cross_entropy_gradient(
    input: NDArray[np.float32],
    weight: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    base: NDArray[np.float64],
    slope: NDArray[np.float64],
    peak: NDArray[np.float64],
    spread: NDArray[np.float64] | None = None,
    bias: NDArray[np.float32] | None = None,
    softcap: float = 0.0,
    targets: NDArray[np.float32] | None = None,
    class_weight: NDArray[np.float32] | None = None,
    logsumexp: NDArray[np.float64] | None = None,
    entropy: NDArray[np.float64] | None = None,
    target: NDArray[np.float64] | None = None,
    total: NDArray[np.float64] | None = None,
    best: NDArray[np.int64] | None = None,
    grad_input: NDArray[np.float32] | None = None,
    grad_weight: NDArray[np.float32] | None = None,
    grad_bias: NDArray[np.float32] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
@overload
def linear_cross_entropy_gradient(
    input: NDArray[np.float64],
    weight: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    base: NDArray[np.float64],
    slope: NDArray[np.float64],
    peak: NDArray[np.float64],
    spread: NDArray[np.float64] | None = None,
    bias: NDArray[np.float64] | None = None,
    softcap: float = 0.0,
    targets: NDArray[np.float64] | None = None,
    class_weight: NDArray[np.float64] | None = None,
    logsumexp: NDArray[np.float64] | None = None,
    entropy: NDArray[np.float64] | None = None,
    target: NDArray[np.float64] | None = None,
    total: NDArray[np.float64] | None = None,
    best: NDArray[np.int64] | None = None,
    grad_input: NDArray[np.float64] | None = None,
    grad_weight: NDArray[np.float64] | None = None,
    grad_bias: NDArray[np.float64] | None = None,
    threads: int = 0,
    isa: Isa = ...,
) -> None: ...
