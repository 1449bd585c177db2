"""The extension module with the kernels for GPUs, and what it says of the machine."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple


@cache
def kernels() -> ModuleType:
    """Return `logitkit._cuda`, which is loaded when it is first needed."""
    try:
        return import_module("logitkit._cuda")
    except ModuleNotFoundError as error:
        if error.name != "logitkit._cuda":  # one that is there but broken says so itself
            raise
        raise RuntimeError(
            "this build of logitkit has no CUDA kernels: build it where the CUDA toolkit is "
            "installed with LOGITKIT_CUDA=ON pip install . or pass an array in main memory"
        ) from error


class DeviceProperties(NamedTuple):
    """
    What a GPU is.

    Parameters
    ----------
    name : str
        As its maker calls it.
    compute_capability : tuple of int
        Major and minor number.
    total_memory : int
        Bytes.
    multiprocessors : int
        How many blocks of threads can run at the least at one time.
    """

    name: str
    compute_capability: tuple[int, int]
    total_memory: int
    multiprocessors: int


class BuildInfo(NamedTuple):
    """
    What the CUDA kernels were built for.

    Parameters
    ----------
    architectures : tuple of str
        Compute capabilities, such as ``"90-real"``: code for 9.0 alone; without ``-real`` also
        for what comes after it.
    runtime : int
        Version of the CUDA runtime, 1000 times the major and 10 times the minor number.
    driver : int
        Latest such version that the driver of this machine supports; 0 without a driver.
    """

    architectures: tuple[str, ...]
    runtime: int
    driver: int


def is_available() -> bool:
    """
    Whether CUDA kernels can run: this build has them and the machine has a GPU for them.

    Returns
    -------
    bool
        False, and no error, without kernels, driver or GPU.

    Examples
    --------
    >>> from logitkit import cuda
    >>> cuda.is_available() == (cuda.device_count() > 0)
    True
    """
    return device_count() > 0


def device_count() -> int:
    """
    Return how many GPUs this process may use.

    Returns
    -------
    int
        0 without kernels, driver or GPU.
    """
    try:
        count: int = kernels().device_count()
    except RuntimeError:  # no kernels in this build
        return 0
    return count


def device_properties(device: int = 0) -> DeviceProperties:
    """
    Return what a GPU is.

    Parameters
    ----------
    device : int, optional
        Its number, from 0.

    Returns
    -------
    DeviceProperties
        Name, compute capability, memory and multiprocessors.

    Raises
    ------
    RuntimeError
        If this build has no CUDA kernels.
    ValueError
        If there is no such device.
    """
    count = kernels().device_count()
    if not 0 <= device < count:
        raise ValueError(f"expected the number of one of {count} CUDA devices, not {device}")
    return DeviceProperties(**kernels().device_properties(device))


def build_info() -> BuildInfo:
    """
    Return what the CUDA kernels were built for.

    Returns
    -------
    BuildInfo
        Architectures, and versions of CUDA.

    Raises
    ------
    RuntimeError
        If this build has no CUDA kernels.
    """
    versions = kernels().versions()
    return BuildInfo(
        tuple(kernels().architectures.split()), versions["runtime"], versions["driver"]
    )
