"""Names of the classes: ONNX metadata, vocabularies and plain lists of lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._layer import ModelFileError

BLANK = "<blank>"
# Layers are often padded to a round number of rows; a vocabulary that leaves more than
# one class in four without a token was made for another layer.
_MOST_PADDING = 1 / 4


def read_labels(path: Path, n: int) -> tuple[list[str], str]:
    """
    Read one label per class from a file.

    Text (UTF-8): line i is the label of class i. JSON: a list of strings, a
    vocabulary ``{token: id}``, ``{id: label}``, a ``config.json`` with
    ``id2label``, a ``tokenizer.json``, or an object with one list of n strings.

    Returns
    -------
    labels : list of str
        n labels.
    source : str
        The file and what was filled in.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelFileError(
            f"{path}: labels must be UTF-8 text ({error}); convert the file"
        ) from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read the labels ({error.strerror})") from None
    if path.suffix.lower() != ".json":
        return _exact(path, split_lines(text), n, "lines"), str(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ModelFileError(f"{path}: not valid JSON ({error})") from None
    labels, missing = _from_json(path, content, n)
    return labels, f"{path} ({missing} of {n} classes have no token)" if missing else str(path)


def labels_beside(folder: Path, n: int) -> tuple[list[str], str] | None:
    """Return the labels of a tokenizer or config file next to a model, if one fits."""
    for name in ("config.json", "tokenizer.json", "vocab.json", "vocab.txt"):
        try:
            if name == "config.json" and b'"id2label"' not in (folder / name).read_bytes():
                continue
            return read_labels(folder / name, n)
        except (ModelFileError, OSError):
            continue  # not there, or made for another layer
    return None


def labels_in_metadata(metadata: Mapping[str, str], n: int) -> tuple[list[str], str] | None:
    """
    Return the labels in the metadata of an ONNX model, if they fit.

    PaddleOCR models keep their dictionary under the key "character", without the
    blank of CTC, which is class 0, and mostly without the space, the last class.
    """
    text = metadata.get("character")
    if text is None:
        return None
    source = "ONNX metadata 'character'"
    # Dictionaries may hold characters at which str.splitlines would break a line.
    for lines in (split_lines(text), text.splitlines()):
        if len(lines) == n:
            return lines, source
        if len(lines) == n - 1:
            return [BLANK, *lines], f"{source}, class 0 is the CTC blank"
        if len(lines) == n - 2:
            added = f"class 0 is the CTC blank, class {n - 1} the space"
            return [BLANK, *lines, " "], f"{source}, {added}"
    return None


def split_lines(text: str) -> list[str]:
    """Split at line feeds only, with or without one at the end."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def _exact(path: Path, labels: list[str], n: int, unit: str) -> list[str]:
    if len(labels) == n:
        return labels
    hint = ""
    if len(labels) in {n - 1, n - 2}:
        hint = f"; if this is the dictionary of a CTC model, put a line {BLANK} before it" + (
            " and a line with one space at its end" if len(labels) == n - 2 else ""
        )
    raise ModelFileError(
        f"{path}: {len(labels)} {unit} for {n} classes, expected one label per class{hint}"
    )


def _from_json(path: Path, content: Any, n: int) -> tuple[list[str], int]:
    if isinstance(content, list) and all(isinstance(label, str) for label in content):
        return _exact(path, content, n, "labels"), 0
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: expected a list of strings or an object, see docs/check.md")
    lists = [
        value
        for value in content.values()
        if isinstance(value, list) and len(value) == n and all(isinstance(x, str) for x in value)
    ]
    if len(lists) == 1:
        return lists[0], 0
    return _by_id(path, _token_ids(path, content), n)


def _token_ids(path: Path, content: dict[str, Any]) -> dict[int, str]:
    """Return {id: token} of a vocabulary, an id2label table or a tokenizer.json."""
    try:
        if "id2label" in content:
            return {int(key): str(label) for key, label in content["id2label"].items()}
        if "model" in content:
            vocab = content["model"]["vocab"]
            if isinstance(vocab, list):  # Unigram: [[token, score], ...]
                tokens = {i: str(token) for i, (token, _) in enumerate(vocab)}
            else:
                tokens = {int(i): str(token) for token, i in vocab.items()}
            added = content.get("added_tokens") or []
            return tokens | {int(token["id"]): str(token["content"]) for token in added}
        if all(isinstance(i, int) for i in content.values()):
            return {i: token for token, i in content.items()}
        if all(isinstance(label, str) for label in content.values()):
            return {int(key): label for key, label in content.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(
            f"{path}: expected a vocabulary, cannot use {type(error).__name__} {error}"
        ) from None
    raise ModelFileError(
        f"{path}: expected {{token: id}}, {{id: label}} or a tokenizer.json, see docs/check.md"
    )


def _by_id(path: Path, tokens: Mapping[int, str], n: int) -> tuple[list[str], int]:
    size = max(tokens, default=-1) + 1
    if not tokens or min(tokens) < 0 or size > n or n - len(tokens) > _MOST_PADDING * n:
        raise ModelFileError(
            f"{path}: {len(tokens)} labels with ids up to {size - 1} for {n} classes, "
            "expected one label per class"
        )
    return [tokens.get(i, f"<no token {i}>") for i in range(n)], n - len(tokens)
