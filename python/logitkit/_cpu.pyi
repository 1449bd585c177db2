import enum

import numpy as np
from numpy.typing import NDArray

class Isa(enum.Enum):
    scalar = 0
    neon = 1
    avx2 = 2
    avx512 = 3

def supported_isas() -> list[Isa]: ...
def default_isa() -> Isa: ...
def default_threads() -> int: ...
def logsumexp(
    x: NDArray[np.float32], out: NDArray[np.float32], *, threads: int = 0, isa: Isa = ...
) -> None: ...
