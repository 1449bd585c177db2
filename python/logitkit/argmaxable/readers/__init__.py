"""Output layers of model files: .safetensors, .onnx, .npz and .npy."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Literal

from ._checkpoint import read_checkpoint
from ._labels import labels_beside, labels_in_metadata, read_labels
from ._layer import ModelFileError, OutputLayer
from ._numpy import Npy, Npz
from ._onnx import open_graph, read_onnx
from ._safetensors import INDEX, Safetensors, ShardedSafetensors

__all__ = ["ModelFileError", "OutputLayer", "read_output_layer"]

SUFFIXES = (".safetensors", ".onnx", ".npz", ".npy")
_PICKLES = frozenset((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"))
_LFS = b"version https://git-lfs"


def read_output_layer(
    path: str | PathLike[str],
    *,
    weight: str | None = None,
    bias: str | Literal[False] | None = None,
    labels: str | PathLike[str] | None = None,
    transpose: bool = False,
) -> OutputLayer:
    """
    Read the output layer of a model file.

    Parameters
    ----------
    path : path-like
        A ``.safetensors``, ``.onnx``, ``.npz`` or ``.npy`` file, the index of a
        sharded checkpoint (``model.safetensors.index.json``), or a folder with one
        of them.
    weight : str, optional
        The tensor that holds the weight. By default it is found: the last linear
        layer before the output of an ONNX graph, or the tensor that has the name of
        an output layer or of a tied embedding.
    bias : str or False, optional
        The tensor that holds the bias; False for none. By default the one that
        belongs to the weight.
    labels : path-like, optional
        Text with one label per line, or JSON (list, vocabulary, ``tokenizer.json``).
        By default the metadata of an ONNX model or the ``config.json``,
        ``tokenizer.json``, ``vocab.json`` or ``vocab.txt`` beside the model, if it
        fits.
    transpose : bool, default False
        Whether the rows of the stored matrix are features rather than classes, where
        neither the graph nor a bias shows it.

    Returns
    -------
    OutputLayer
        Weight (classes x features), bias, labels and where each of them was found.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged or of another kind; if a named tensor is
        missing or does not fit; if several layers could be meant.
    ModuleNotFoundError
        If the extra ``io`` is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from logitkit.argmaxable.readers import read_output_layer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/head.npz", W=np.zeros((2, 5)), b=np.zeros(5))
    ...     layer = read_output_layer(f"{folder}/head.npz")
    >>> layer.weight.shape, layer.weight_name, layer.bias_name
    ((5, 2), 'W', 'b')
    """
    file = _model_file(Path(path))
    metadata: dict[str, str] = {}
    if file.suffix.lower() == ".onnx":
        graph = open_graph(file)
        layer, metadata = read_onnx(graph, weight, bias, transpose), graph.metadata
    else:
        layer = read_checkpoint(_open_checkpoint(file), weight, bias, transpose)
    return _with_labels(layer, file, metadata, labels)


def _model_file(path: Path) -> Path:
    if path.is_dir():
        path = _in_folder(path)
    if not path.exists():
        raise ModelFileError(f"{path}: no such file")
    if not path.is_file():
        raise ModelFileError(f"{path}: not a regular file")
    if path.name.endswith(INDEX):
        return path
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        hint = "; save it with safetensors first" if suffix in _PICKLES else ""
        raise ModelFileError(
            f"{path}: unknown kind of file {suffix or '(no extension)'!r}, expected "
            f"{', '.join(SUFFIXES)} or *{INDEX}{hint}"
        )
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    if not start:
        raise ModelFileError(f"{path}: the file is empty; download it again")
    if start == _LFS:
        raise ModelFileError(f"{path}: only the Git LFS pointer to the file; run git lfs pull")
    return path


def _in_folder(folder: Path) -> Path:
    """Return the one model of a folder."""
    indices = sorted(folder.glob(f"*{INDEX}"))
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    single = folder / "model.safetensors"
    if single in files:
        return single
    found = indices or files
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelFileError(f"{folder}: a folder without {', '.join(SUFFIXES)} or *{INDEX}")
    names = ", ".join(p.name for p in found[:20])
    raise ModelFileError(f"{folder}: a folder with several models, give one of {names}")


def _open_checkpoint(file: Path) -> Safetensors | ShardedSafetensors | Npz | Npy:
    if file.name.endswith(INDEX):
        return ShardedSafetensors(file)
    suffix = file.suffix.lower()
    if suffix == ".safetensors":
        return Safetensors(file)
    return Npz(file) if suffix == ".npz" else Npy(file)


def _with_labels(
    layer: OutputLayer,
    file: Path,
    metadata: dict[str, str],
    labels: str | PathLike[str] | None,
) -> OutputLayer:
    n = len(layer.weight)
    found: tuple[list[str], str] | None = None
    if labels is not None:
        found = read_labels(Path(labels), n)
    elif file.suffix.lower() not in {".npz", ".npy"}:
        found = labels_in_metadata(metadata, n) or labels_beside(file.parent, n)
    if found is None:
        return layer
    return replace(layer, labels=found[0], label_source=found[1])
