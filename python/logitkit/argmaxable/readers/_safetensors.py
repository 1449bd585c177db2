"""Tensors of .safetensors files, memory-mapped; sharded checkpoints too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ._layer import Array, ModelFileError, Shape, require

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
INDEX = ".safetensors.index.json"


class Safetensors:
    """One .safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        safetensors = require("safetensors", path)
        try:
            # The library checks the header and that it matches the size of the file.
            with safetensors.safe_open(path, framework="numpy"):
                pass
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise ModelFileError(
                f"{path}: not a complete .safetensors file ({error}); download it again"
            ) from None
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            self._header: dict[str, Any] = json.loads(file.read(length))
        self._header.pop("__metadata__", None)
        self._start = 8 + length

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._header)

    def describe(self, name: str) -> tuple[Shape, str]:
        """Return the shape and the dtype of one tensor."""
        entry = self._header[name]
        return tuple(entry["shape"]), _DTYPES.get(entry["dtype"], entry["dtype"])

    def load(self, name: str) -> Array:
        """Map one tensor into memory."""
        shape, dtype = self.describe(name)
        kind = require("ml_dtypes", self.path).bfloat16 if dtype == "bfloat16" else dtype
        offset = self._start + self._header[name]["data_offsets"][0]
        if not np.prod(shape):
            return np.empty(shape, kind)
        array = np.memmap(self.path, kind, "r", offset, shape)
        return array if array.flags.aligned else np.array(array)


class ShardedSafetensors:
    """A checkpoint in several files, found through its index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            shards = json.loads(path.read_text("utf-8"))["weight_map"]
            self._shards: dict[str, str] = {str(name): str(file) for name, file in shards.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise ModelFileError(
                f'{path}: expected {{"weight_map": {{tensor: file}}}}, the index of a sharded '
                "checkpoint; download it again"
            ) from None
        self._open: dict[str, Safetensors] = {}

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._shards)

    def describe(self, name: str) -> tuple[Shape, str]:
        """Return the shape and the dtype of one tensor."""
        return self._shard(name).describe(name)

    def load(self, name: str) -> Array:
        """Map one tensor into memory."""
        return self._shard(name).load(name)

    def _shard(self, name: str) -> Safetensors:
        file = self._shards[name]
        if file not in self._open:
            path = self.path.parent / file
            if Path(file).name != file or not path.is_file():
                raise ModelFileError(
                    f"{self.path}: tensor {name!r} is in {file!r}, which is not a file in the same "
                    "folder; download the whole checkpoint"
                )
            self._open[file] = Safetensors(path)
        if name not in self._open[file].names():
            raise ModelFileError(
                f"{self.path}: the index places tensor {name!r} in {file!r}, which does not hold "
                "it; download the checkpoint again"
            )
        return self._open[file]
