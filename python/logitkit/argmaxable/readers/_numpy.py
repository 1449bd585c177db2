"""Tensors of .npy and .npz files, listed by their headers alone."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ._layer import Array, ModelFileError, Shape

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What NumPy and zipfile raise on a file that is short, damaged or holds Python objects;
# the header of an array is Python source, hence the last four.
_DAMAGE = (
    *(OSError, ValueError, EOFError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(SyntaxError, tokenize.TokenError, TypeError, KeyError),
)


class Npy:
    """One .npy file: a single array, memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except _DAMAGE as error:
            raise ModelFileError(
                f"{path}: not a complete .npy file of plain numbers ({error}); "
                "write it with numpy.save"
            ) from None
        if not isinstance(self._array, np.ndarray):
            raise ModelFileError(f"{path}: holds several arrays: rename it to .npz")

    def names(self) -> list[str]:
        """Return the name of the file, which is all the name its array has."""
        return [self.path.stem]

    def describe(self, name: str) -> tuple[Shape, str]:
        """Return the shape and the dtype of the array."""
        return self._array.shape, self._array.dtype.name

    def load(self, name: str) -> Array:
        """Return the array."""
        return self._array


class Npz:
    """One .npz file: arrays in a zip archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._described: dict[str, tuple[Shape, str]] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith(".npy"):
                        described = _read_header(archive, member)
                        self._described[member.removesuffix(".npy")] = described
        except _DAMAGE as error:
            raise ModelFileError(
                f"{path}: not a complete .npz file ({error}); write it with numpy.savez"
            ) from None
        if not self._described:
            raise ModelFileError(f"{path}: holds no array; write it with numpy.savez")

    def names(self) -> list[str]:
        """Return the names of all arrays."""
        return list(self._described)

    def describe(self, name: str) -> tuple[Shape, str]:
        """Return the shape and the dtype of one array."""
        return self._described[name]

    def load(self, name: str) -> Array:
        """Read one array."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                array: Array = arrays[name]
        except _DAMAGE as error:
            raise ModelFileError(
                f"{self.path}: array {name!r} is damaged ({error}); write the file again"
            ) from None
        return array


def _read_header(archive: zipfile.ZipFile, member: str) -> tuple[Shape, str]:
    with archive.open(member) as file:
        read = _HEADERS.get(np.lib.format.read_magic(file))
        if read is None:  # version 3.0 is for field names, which no matrix has
            return (), "structured"
        shape, _, dtype = read(file)
    return tuple(shape), dtype.name
