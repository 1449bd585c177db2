# Arrays are dense, of anything with __dlpack__ in the memory of one GPU; `stream` is the address
# of one of its streams, 0 the default one.
from typing import Any, TypedDict

class _Properties(TypedDict):
    name: str
    compute_capability: tuple[int, int]
    total_memory: int
    multiprocessors: int

class _Versions(TypedDict):
    driver: int
    runtime: int

emulated: bool
architectures: str

def device_count() -> int: ...
def device_properties(device: int) -> _Properties: ...
def versions() -> _Versions: ...
def synchronize(array: Any, *, stream: int = 0) -> None: ...
def softmax_workspace(outer: int, terms: int, inner: int) -> int: ...
def logsumexp(x: Any, out: Any, workspace: Any, *, stream: int = 0) -> None: ...
def softmax(x: Any, y: Any, workspace: Any, *, is_log: bool = False, stream: int = 0) -> None: ...
def softmax_stats(x: Any, scale: float, out: Any, workspace: Any, *, stream: int = 0) -> None: ...
def random_bits(out: Any, seed: int, step: int, rows: Any | None, *, stream: int = 0) -> None: ...
def random_uniform(
    out: Any, seed: int, step: int, rows: Any | None, *, stream: int = 0
) -> None: ...
def random_exponential(
    out: Any, seed: int, step: int, rows: Any | None, *, stream: int = 0
) -> None: ...
def random_gumbel(out: Any, seed: int, step: int, rows: Any | None, *, stream: int = 0) -> None: ...
def random_normal(out: Any, seed: int, step: int, rows: Any | None, *, stream: int = 0) -> None: ...
def gumbel_workspace(rows: int, count: int, k: int) -> int: ...
def gumbel_argmax(
    logits: Any,
    seed: int,
    step: int,
    rows: Any | None,
    indices: Any,
    workspace: Any,
    *,
    stream: int = 0,
) -> None: ...
def gumbel_top_k(
    logits: Any,
    seed: int,
    step: int,
    rows: Any | None,
    values: Any,
    indices: Any,
    workspace: Any,
    *,
    stream: int = 0,
) -> None: ...
def diffusion_update(
    x: Any,
    y: Any | None,
    a: Any,
    b: Any,
    c: Any,
    lower: float,
    upper: float,
    seed: int,
    step: int,
    rows: Any | None,
    out: Any,
    *,
    stream: int = 0,
) -> None: ...
def noise_argmax_workspace(rows: int, classes: int) -> int: ...
def noise_argmax_probs(
    logits: Any,
    law: str | tuple[float, float, float, float],
    scale: float,
    out: Any,
    workspace: Any,
    *,
    is_log: bool = False,
    polynomials: Any | None = None,
    stream: int = 0,
) -> None: ...
def noise_argmax_vjp(
    logits: Any,
    cotangents: Any,
    law: str | tuple[float, float, float, float],
    scale: float,
    out: Any,
    workspace: Any,
    *,
    polynomials: Any | None = None,
    stream: int = 0,
) -> None: ...
def noise_argmax_expected_max(
    logits: Any,
    law: str | tuple[float, float, float, float],
    scale: float,
    out: Any,
    workspace: Any,
    *,
    polynomials: Any | None = None,
    stream: int = 0,
) -> None: ...
def noise_argmax_log_prob(
    logits: Any,
    index: Any,
    law: str | tuple[float, float, float, float],
    scale: float,
    out: Any,
    gradients: Any | None,
    workspace: Any,
    *,
    polynomials: Any | None = None,
    stream: int = 0,
) -> None: ...
def noise_quantiles(
    numbers: Any,
    law: tuple[float, float, float, float],
    polynomials: Any,
    *,
    stream: int = 0,
) -> None: ...
def linear_topk_workspace(rows: int, classes: int, k: int) -> int: ...
def linear_topk(
    x: Any,
    weight: Any,
    bias: Any,
    values: Any,
    indices: Any,
    workspace: Any,
    *,
    exact: bool = False,
    stream: int = 0,
) -> None: ...
def linear_cross_entropy_workspace(rows: int, classes: int) -> int: ...
def linear_cross_entropy_gradient_workspace(
    rows: int, classes: int, depth: int, chunk_bytes: int = ...
) -> int: ...
def linear_cross_entropy(
    input: Any,
    weight: Any,
    labels: Any,
    workspace: Any,
    bias: Any = None,
    softcap: float = 0.0,
    targets: Any = None,
    class_weight: Any = None,
    logsumexp: Any = None,
    entropy: Any = None,
    target: Any = None,
    total: Any = None,
    best: Any = None,
    *,
    exact: bool = False,
    stream: int = 0,
) -> None: ...
def linear_cross_entropy_gradient(
    input: Any,
    weight: Any,
    labels: Any,
    workspace: Any,
    base: Any,
    slope: Any,
    peak: Any,
    spread: Any,
    logsumexp: Any,
    bias: Any = None,
    softcap: float = 0.0,
    targets: Any = None,
    class_weight: Any = None,
    grad_input: Any = None,
    grad_weight: Any = None,
    grad_bias: Any = None,
    *,
    chunk_bytes: int = ...,
    exact: bool = False,
    stream: int = 0,
) -> None: ...
def cross_entropy(
    logits: Any,
    labels: Any,
    values: Any,
    targets: Any = None,
    class_weight: Any = None,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
    logsumexp: Any = None,
    gradient: Any = None,
    *,
    stream: int = 0,
) -> None: ...
def attention_gradient_workspace(rows: int) -> int: ...
def attention(
    query: Any,
    key: Any,
    value: Any,
    scale: Any,
    out: Any,
    *,
    offset: int = 0,
    left: int = ...,
    right: int = ...,
    softcap: float = 0.0,
    slopes: Any = None,
    sinks: Any = None,
    mask: Any = None,
    terms: Any = None,
    more_terms: Any = None,
    sequences: Any = None,
    longest: tuple[int, int] | None = None,
    block_table: Any = None,
    logsumexp: Any = None,
    entropy: Any = None,
    max_logit: Any = None,
    stream: int = 0,
) -> None: ...
def merge_attention(
    parts: Any,
    part_logsumexp: Any,
    part_entropy: Any,
    part_max_logit: Any,
    sinks: Any,
    out: Any,
    logsumexp: Any,
    entropy: Any,
    max_logit: Any,
    *,
    stream: int = 0,
) -> None: ...
def attention_gradient(
    query: Any,
    key: Any,
    value: Any,
    scale: Any,
    out: Any,
    grad_out: Any,
    logsumexp: Any,
    grad_query: Any,
    grad_key: Any,
    grad_value: Any,
    workspace: Any,
    *,
    offset: int = 0,
    left: int = ...,
    right: int = ...,
    softcap: float = 0.0,
    slopes: Any = None,
    mask: Any = None,
    terms: Any = None,
    more_terms: Any = None,
    sequences: Any = None,
    longest: tuple[int, int] | None = None,
    key_sequences: Any = None,
    key_longest: tuple[int, int] | None = None,
    entropy: Any = None,
    grad_logsumexp: Any = None,
    grad_entropy: Any = None,
    grad_scale: Any = None,
    grad_logits: Any = None,
    stream: int = 0,
) -> None: ...
