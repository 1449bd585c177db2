"""Which tensor of a checkpoint is the output layer, judged by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

from ._layer import (
    FLOATS,
    Array,
    ModelFileError,
    OutputLayer,
    Shape,
    as_matrix,
    ask,
    check_float,
    missing_tensor,
    orient,
)

# The names that the field gives to output layers, without ".weight".
HEADS = frozenset(
    [
        "lm_head",
        "output",
        "embed_out",
        "decoder",
        "classifier",
        "score",
        "fc",
        "head",
        "logits",
        "out",
        "fc_out",
        "proj_out",
        "output_layer",
        "output_projection",
        "vocab_projector",
        "generator_lm_head",
        "to_logits",
        "ctc_head",
        "ctc_lo",
    ]
)
# ... and to token embeddings, which are the output layer of models that tie the two.
EMBEDDINGS = frozenset(
    [
        "embed_tokens",
        "wte",
        "shared",
        "word_embeddings",
        "tok_embeddings",
        "word_embedding",
        "token_embedding",
        "embeddings",
        "embedding",
        "embed_in",
        "emb",
    ]
)
# Biases that do not stand beside their weight: BERT, RoBERTa, BART and Marian, DistilBERT.
TIED_BIASES = (
    "predictions.bias",
    "lm_head.bias",
    "final_logits_bias",
    "vocab_projector.bias",
    "generator_lm_head.bias",
)
BIAS_OF = {"weight": "bias", "kernel": "bias", "W": "b", "w": "b"}
_WEIGHT = re.compile(r"(?P<stem>(?:.*[./_])?)(?P<last>weight|kernel|W|w)(?P<end>:0)?")


class Checkpoint(Protocol):
    """Named tensors in a file, listed without being read."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of all tensors."""

    def describe(self, name: str) -> tuple[Shape, str]:
        """Return the shape and the dtype of one tensor."""

    def load(self, name: str) -> Array:
        """Read one tensor, as a memory map where the format allows."""


def read_checkpoint(
    checkpoint: Checkpoint, weight: str | None, bias: str | Literal[False] | None, transpose: bool
) -> OutputLayer:
    """Read the output layer of a file of named tensors."""
    path, source = checkpoint.path, "named by the caller"
    if weight is None:
        shapes = matrices(checkpoint)
        if not shapes:
            raise _no_matrix(checkpoint)
        weight, source = choose_weight(path, shapes)
    shape = _shape(checkpoint, weight)
    if as_matrix(shape) is None:
        raise ModelFileError(
            f"{path}: tensor {weight!r} has shape {shape}, expected (classes, features)"
        )
    bias_name = find_bias(checkpoint, weight, shape) if bias is None else bias or None
    if bias_name is not None:
        _shape(checkpoint, bias_name)
    match = _WEIGHT.fullmatch(weight)
    transposed = transpose or (match is not None and match["last"] == "kernel")
    rows, vector = orient(
        path,
        (weight, bias_name),
        checkpoint.load(weight),
        None if bias_name is None else checkpoint.load(bias_name),
        transposed,
    )
    return OutputLayer(rows, vector, None, weight, bias_name, None, source)


def matrices(checkpoint: Checkpoint) -> dict[str, Shape]:
    """Return the shapes of the tensors that could be an output layer, the tallest first."""
    described = [(name, *checkpoint.describe(name)) for name in checkpoint.names()]
    described.sort(key=lambda item: max(item[1], default=0), reverse=True)
    return {
        name: shape
        for name, shape, dtype in described
        if dtype in FLOATS and as_matrix(shape) is not None
    }


def _no_matrix(checkpoint: Checkpoint) -> ModelFileError:
    """Return the error for a file without a candidate, which says what it holds instead."""
    found = [(name, *checkpoint.describe(name)) for name in checkpoint.names()]
    listed = ", ".join(f"{name} ({kind}, shape {shape})" for name, shape, kind in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ModelFileError(
        f"{checkpoint.path}: it holds no floating-point matrix at all: {listed or 'nothing'}{more}; "
        f"expected (classes, features) in one of {', '.join(FLOATS)}"
    )


def choose_weight(path: Path, shapes: Mapping[str, Shape]) -> tuple[str, str]:
    """Return the name of the output layer and how it was recognised."""
    heads = _last_of_each_stack(name for name in shapes if _is_head(_stem(name)))
    if len(heads) == 1:
        return heads[0], "the name of an output layer"
    if heads:
        several = {name: shapes[name] for name in heads}
        raise ask(path, "several tensors look like the output layer", several)
    tied = [name for name in shapes if _named(_stem(name), EMBEDDINGS)]
    tied = (
        [name for name in tied if "decoder" in _stem(name)]
        or [name for name in tied if "encoder" not in _stem(name)]
        or tied
    )
    if len(tied) == 1:
        return tied[0], "token embedding, read as a tied output layer"
    if tied:
        several = {name: shapes[name] for name in tied}
        raise ask(path, "several embeddings could be a tied output layer", several)
    if len(shapes) == 1:
        return next(iter(shapes)), "the only matrix of the file"
    raise ask(path, "no tensor has the name of an output layer", shapes)


def find_bias(checkpoint: Checkpoint, weight: str, shape: Shape) -> str | None:
    """Return the name of the bias that belongs to a weight, or None."""
    names = checkpoint.names()
    match = _WEIGHT.fullmatch(weight)
    if match is not None:
        sibling = match["stem"] + BIAS_OF[match["last"]] + (match["end"] or "")
        if sibling in names:
            return sibling
    stem = _stem(weight)
    if not (_is_head(stem) or _named(stem, EMBEDDINGS)):
        return None
    fitting = [
        name
        for name in names
        if f".{name}".endswith(tuple(f".{bias}" for bias in TIED_BIASES))
        and checkpoint.describe(name)[0] in {(shape[0],), (1, shape[0])}
    ]
    return fitting[0] if len(fitting) == 1 else None


def _shape(checkpoint: Checkpoint, name: str) -> Shape:
    if name not in checkpoint.names():
        raise missing_tensor(checkpoint.path, name, checkpoint.names())
    shape, dtype = checkpoint.describe(name)
    check_float(checkpoint.path, name, dtype)
    return shape


def _stem(name: str) -> list[str]:
    """Split a tensor name into its parts, without the final "weight"."""
    match = _WEIGHT.fullmatch(name)
    stem = name if match is None else match["stem"].rstrip("./_")
    return re.split(r"[./:]", stem) if stem else []


def _is_head(stem: list[str]) -> bool:
    if stem and stem[-1].isdecimal() and stem[:-1]:  # Sequential: classifier.6
        stem = stem[:-1]
    inside = len(stem) > 1 and stem[-1] == "out_proj" and _named(stem[:-1], HEADS)
    return not stem or inside or _named(stem, HEADS)


def _named(stem: list[str], names: frozenset[str]) -> bool:
    # A number among the parents means one of many equal blocks, not the end of the model.
    return bool(stem) and stem[-1] in names and not any(part.isdecimal() for part in stem[:-1])


def _last_of_each_stack(names: Iterator[str]) -> list[str]:
    """Of classifier.1, classifier.4 and classifier.6 keep the last."""
    last: dict[tuple[str, ...], tuple[int, str]] = {}
    for name in names:
        stem = _stem(name)
        index = int(stem.pop()) if stem and stem[-1].isdecimal() else -1
        last[tuple(stem)] = max(last.get(tuple(stem), (-2, "")), (index, name))
    return [name for _, name in last.values()]
