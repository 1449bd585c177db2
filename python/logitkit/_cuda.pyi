# Arrays are anything with __cuda_array_interface__.
from typing import Any

def logsumexp(x: Any, axis: int, out: Any, *, stream: int = 0) -> None: ...
