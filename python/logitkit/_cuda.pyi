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
def synchronize(stream: int) -> None: ...
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
    law: str,
    scale: float,
    out: Any,
    workspace: Any,
    *,
    is_log: bool = False,
    stream: int = 0,
) -> None: ...
def noise_argmax_vjp(
    logits: Any,
    cotangents: Any,
    law: str,
    scale: float,
    out: Any,
    workspace: Any,
    *,
    stream: int = 0,
) -> None: ...
def noise_argmax_expected_max(
    logits: Any, law: str, scale: float, out: Any, workspace: Any, *, stream: int = 0
) -> None: ...
def noise_argmax_log_prob(
    logits: Any,
    index: Any,
    law: str,
    scale: float,
    out: Any,
    gradients: Any | None,
    workspace: Any,
    *,
    stream: int = 0,
) -> None: ...
