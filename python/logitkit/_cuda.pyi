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
    entropy: Any = None,
    grad_logsumexp: Any = None,
    grad_entropy: Any = None,
    grad_scale: Any = None,
    grad_logits: Any = None,
    stream: int = 0,
) -> None: ...
