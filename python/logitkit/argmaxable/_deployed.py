"""The dtype that a layer is deployed in, and how far rounding to it moves a weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._rows import largest_magnitude

# Unit roundoff and half of the spacing of subnormals: round to nearest moves a value by
# at most u|w| + h while it does not overflow (Higham, Accuracy and Stability, 2.1).
_FLOATS = {
    "float32": (2.0**-24, 2.0**-150, 2.0**128),
    "float16": (2.0**-11, 2.0**-25, 65520.0),
    "bfloat16": (2.0**-8, 2.0**-134, 2.0**128),
}
DEPLOYED_DTYPES = (*_FLOATS, "int8")


def deployed_dtype_name(dtype: DTypeLike | None) -> str | None:
    """
    Canonical name of a deployed dtype.

    Parameters
    ----------
    dtype : dtype_like or None
        A name, a NumPy dtype or scalar type, or one of ml_dtypes.

    Returns
    -------
    str or None
        'float32', 'float16', 'bfloat16', 'int8'; None for None.

    Raises
    ------
    ValueError
        For any other dtype.

    Examples
    --------
    >>> deployed_dtype_name(np.float16)
    'float16'
    """
    if dtype is None:
        return None
    # bfloat16 is not a NumPy dtype: accept its name even where ml_dtypes is not installed.
    if isinstance(dtype, str):
        name = {"half": "float16", "single": "float32"}.get(dtype, dtype)
    else:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = str(dtype).removeprefix("torch.")
    if name not in DEPLOYED_DTYPES:
        raise ValueError(
            f"deployed_dtype={dtype!r}: expected None or one of {', '.join(DEPLOYED_DTYPES)}"
        )
    return name


def rounding_of(name: str, weight: NDArray[np.generic]) -> tuple[float, float]:
    """
    Return `(u, h)`: rounding moves a weight `w` by at most ``u * abs(w) + h``.

    "int8" means one symmetric scale for the whole matrix, ``max(abs(W)) / 127``, hence an
    absolute half step. Its bias stays in the 32-bit accumulator (as in the TensorFlow
    Lite quantisation specification), so that ``u = 0`` says what happens to the bias.
    An overflowing weight gives an infinite `h`.
    """
    largest = largest_magnitude(weight)
    if name == "int8":
        return 0.0, largest / 254.0
    u, h, overflow = _FLOATS[name]
    return u, h if largest < overflow else np.inf
