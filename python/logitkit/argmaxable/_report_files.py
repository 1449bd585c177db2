"""Reads and writes reports as JSON and npz files."""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ._features import Box
from ._verdict import Proof, Verdict
from ._verification import inconsistency

if TYPE_CHECKING:
    from ._report import ArgmaxableReport

FORMAT = "logitkit argmaxable report"
SCHEMA = 1

_ARRAYS: Mapping[str, tuple[str, int]] = {  # dtype and number of axes
    "classes": ("int64", 1),
    "verdicts": ("int8", 1),
    "margins": ("float64", 1),
    "self_scale": ("float64", 1),
    "center": ("float64", 1),
    "metric": ("float64", 2),
    "witness_row": ("int64", 1),
    "witnesses": ("float64", 2),
}
_CERTIFICATES: Mapping[str, tuple[str, int]] = {
    "support_offsets": ("int64", 1),
    "support": ("int64", 1),
    "coefficients": ("float64", 1),
    "residual": ("float64", 1),
    "slack": ("float64", 1),
    "depth": ("float64", 1),
    "bias_depth": ("float64", 1),
    "below_rounding": ("bool", 1),
    "proof": ("int8", 1),
}
_NUMBERS = ("residual", "slack", "depth", "bias_depth")


class _Damaged(Exception):
    """What is wrong with the contents of a file; the reader adds its name."""


# What NumPy and zipfile raise for damaged files. A RuntimeError is an entry that calls
# itself encrypted or compressed in an unknown way, an OSError an impossible position.
_UNREADABLE = (
    _Damaged,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    OSError,
)


def write_json(report: ArgmaxableReport, path: str | os.PathLike[str]) -> None:
    """Write `report` with one readable entry for each unargmaxable or undecided class."""
    content = _metadata(report) | {
        "unargmaxable": _certificate_entries(report),
        "undecided": [
            {"class": i, "margin": _number(margin), "reason": report.reasons.get(i, "")}
            for i, margin in zip(
                report.undecided.tolist(),
                report.margins[report.verdicts == Verdict.UNDECIDED].tolist(),
                strict=True,
            )
        ],
        "arrays": {name: _encoded(getattr(report, name), *_ARRAYS[name]) for name in _ARRAYS},
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    _replace(path, lambda file: file.write(_short_lists(text).encode()))


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the fields of the report in a JSON file."""
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{os.fspath(path)}: not JSON, or cut off, at line {error.lineno} column "
            f"{error.colno}: {error.msg}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: not a text file: {error}") from error
    try:
        values = _read_metadata(content)
        stored = _item(content, "arrays", dict)
        arrays = {name: _decoded(stored, name) for name in _ARRAYS}
        arrays |= _certificate_arrays(_item(content, "unargmaxable", list))
        return _checked(values, arrays)
    except _Damaged as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def write_npz(report: ArgmaxableReport, path: str | os.PathLike[str]) -> None:
    """Write `report` as plain arrays and a JSON text; uncompressed, as it hardly shrinks."""
    kinds = {**_ARRAYS, **_CERTIFICATES}
    arrays = {name: np.asarray(getattr(report, name), kinds[name][0]) for name in kinds}
    text = json.dumps(_metadata(report), allow_nan=False).encode()
    arrays["metadata"] = np.frombuffer(text, np.uint8)
    _replace(path, lambda file: np.savez(file, **cast(Any, arrays)))


def read_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the fields of the report in an npz file."""
    kinds = {**_ARRAYS, **_CERTIFICATES}
    with open(path, "rb") as opened:
        try:
            return _checked(*_read_arrays(opened, kinds))
        except _UNREADABLE as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _read_arrays(
    opened: IO[bytes], kinds: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    file = np.load(opened, allow_pickle=False)
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise _Damaged("an npy file, not an npz file")
    missing = {"metadata", *kinds} - set(file.files)
    if missing:
        raise _Damaged(f"{min(missing)} is missing: not a {FORMAT}")
    values = _read_metadata(json.loads(file["metadata"].tobytes()))
    return values, {name: file[name] for name in kinds}


def _metadata(report: ArgmaxableReport) -> dict[str, Any]:
    box = report.features
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "version": report.version,
        "shape": list(report.shape),
        "has_bias": report.has_bias,
        "fingerprint": report.fingerprint,
        "features": None
        if box is None
        else {"lo": np.asarray(box.lo).tolist(), "hi": np.asarray(box.hi).tolist()},
        "deployed_dtype": report.deployed_dtype,
        "rank": int(report.rank),
        "seconds": {stage: float(time) for stage, time in report.seconds.items()},
        "reasons": {str(i): text for i, text in report.reasons.items()},
        "counts": {
            "checked": int(report.classes.size),
            **{v.name.lower(): int(np.count_nonzero(report.verdicts == v)) for v in Verdict},
        },
    }


def _read_metadata(content: object) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _Damaged(f"not a {FORMAT}")
    if content.get("schema") != SCHEMA:
        raise _Damaged(
            f"schema {content.get('schema')!r}: this version of logitkit reads schema {SCHEMA}"
        )
    shape = _item(content, "shape", list)
    if len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
        raise _Damaged(f"shape is {shape!r}, expected two positive integers")
    box = content.get("features")
    try:
        features = None if box is None else Box(box["lo"], box["hi"])
        reasons = {int(i): str(text) for i, text in _item(content, "reasons", dict).items()}
        seconds = {str(k): float(v) for k, v in _item(content, "seconds", dict).items()}
    except (TypeError, KeyError, ValueError) as error:
        raise _Damaged(f"features, reasons or seconds cannot be read: {error}") from error
    deployed = content.get("deployed_dtype")
    return {
        "shape": tuple(shape),
        "has_bias": _item(content, "has_bias", bool),
        "fingerprint": _item(content, "fingerprint", str),
        "version": _item(content, "version", str),
        "rank": _item(content, "rank", int),
        "deployed_dtype": None if deployed is None else _item(content, "deployed_dtype", str),
        "features": features,
        "reasons": reasons,
        "seconds": seconds,
    }


def _checked(values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Join and check the fields of a report."""
    for name, (dtype, axes) in {**_ARRAYS, **_CERTIFICATES}.items():
        if arrays[name].dtype != np.dtype(dtype) or arrays[name].ndim != axes:
            raise _Damaged(
                f"{name} is a {arrays[name].dtype} array with {arrays[name].ndim} axes, "
                f"expected {dtype} with {axes}"
            )
    found = {"weight": None, "bias": None, **values, **arrays}
    wrong = inconsistency(cast("ArgmaxableReport", SimpleNamespace(**found)))
    if wrong is not None:
        raise _Damaged(wrong)
    return found


def _item(content: dict[str, Any], name: str, kind: type) -> Any:
    if name not in content:
        raise _Damaged(f"{name} is missing")
    value = content[name]
    if type(value) is not kind:
        raise _Damaged(f"{name} is a {type(value).__name__}, expected a {kind.__name__}")
    return value


def _certificate_entries(report: ArgmaxableReport) -> list[dict[str, Any]]:
    entries = []
    for k, i in enumerate(report.unargmaxable.tolist()):
        own = slice(*report.support_offsets[k : k + 2])
        entries.append(
            {
                "class": i,
                "proof": Proof(int(report.proof[k])).name,
                **{name: _number(float(getattr(report, name)[k])) for name in _NUMBERS},
                "below_rounding": bool(report.below_rounding[k]),
                "support": report.support[own].tolist(),
                "coefficients": report.coefficients[own].tolist(),
            }
        )
    return entries


def _certificate_arrays(entries: list[Any]) -> dict[str, NDArray[Any]]:
    lists: dict[str, list[Any]] = {name: [] for name in _CERTIFICATES}
    lists["support_offsets"].append(0)
    for k, entry in enumerate(entries):
        try:
            support, coefficients = list(entry["support"]), list(entry["coefficients"])
            if len(support) != len(coefficients):
                raise ValueError(f"{len(support)} classes and {len(coefficients)} coefficients")
            lists["support"] += [int(j) for j in support]
            lists["coefficients"] += [float(value) for value in coefficients]
            lists["support_offsets"].append(len(lists["support"]))
            lists["proof"].append(Proof[entry["proof"]])
            lists["below_rounding"].append(bool(entry["below_rounding"]))
            for name in _NUMBERS:
                lists[name].append(float(entry[name]))
        except (TypeError, KeyError, ValueError) as error:
            raise _Damaged(
                f"unargmaxable[{k}] cannot be read: {type(error).__name__}: {error}"
            ) from error
    return {name: np.array(lists[name], _CERTIFICATES[name][0]) for name in _CERTIFICATES}


def _number(value: float) -> float | str:
    """Return a number as JSON knows it: there, infinities and nan are words."""
    return value if np.isfinite(value) else str(value)


def _encoded(array: NDArray[Any], dtype: str, _: int) -> dict[str, Any]:
    little = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
    return {
        "dtype": dtype,
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode(),
    }


def _decoded(arrays: dict[str, Any], name: str) -> NDArray[Any]:
    entry = _item(arrays, name, dict)
    dtype, _ = _ARRAYS[name]
    if entry.get("dtype") != dtype:
        raise _Damaged(f"arrays.{name}.dtype is {entry.get('dtype')!r}, expected {dtype!r}")
    try:
        raw = base64.b64decode(_item(entry, "base64", str), validate=True)
        flat = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
        return flat.astype(dtype).reshape(_item(entry, "shape", list))
    except (binascii.Error, TypeError, ValueError) as error:
        raise _Damaged(f"arrays.{name} cannot be read: {error}") from error


def _short_lists(text: str) -> str:
    """Put lists of numbers, which `indent` spreads over lines, on one line each."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if inside:
            inside = not line.lstrip().startswith("]")
            lines[-1] += line.strip() + (" " if line.endswith(",") and inside else "")
        else:
            inside = line.endswith("[") and not line.lstrip().startswith('"un')
            lines.append(line)
    return "\n".join(lines) + "\n"


def _replace(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """
    Write a temporary file in the folder of `path`, then rename it.

    A link stays and its target is replaced. What is no file, such as a pipe or /dev/stdout, is
    written to: a rename would put a file in its place.
    """
    target = Path(os.path.realpath(path))
    if is_special(Path(path)):
        with open(path, "wb") as file:
            file.write(_in_memory(write))
        return
    if target.is_dir():
        raise IsADirectoryError(f"{os.fspath(path)}: is a folder, expected a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)}: there is no folder {target.parent}")
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}")
    with open(temporary, "xb") as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            temporary.unlink()
            raise
    try:
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink()
        raise


def is_special(path: Path) -> bool:
    """Whether a path is that of a pipe, a terminal or another device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _in_memory(write: Callable[[IO[bytes]], object]) -> bytes:
    """Return what is written: an archive needs a file that can be gone back in."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()
