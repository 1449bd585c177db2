"""Options, errors and exit codes of the commands."""

from __future__ import annotations

import os
import time
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import logitkit

from ..argmaxable._report_files import is_special
from ..argmaxable.readers import ModelFileError, OutputLayer, read_output_layer
from ._progress import progress_bar
from ._show import show_layer, show_report

FAILED, BAD_INPUT, UNDECIDED, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Kernels and methods for everything between logits and decisions.",
)


class DeployedDtype(str, Enum):
    """The types that a model may be rounded to."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"logitkit {version('logitkit')}")
        raise typer.Exit


@app.callback()
def _logitkit(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def check(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A .safetensors, .onnx, .npz or .npy file, or a folder with one of them.",
        ),
    ],
    weight: Annotated[
        str | None, typer.Option(metavar="NAME", help="The tensor of the output layer.")
    ] = None,
    bias: Annotated[
        str | None, typer.Option(metavar="NAME", help="The tensor of its bias.")
    ] = None,
    no_bias: Annotated[bool, typer.Option("--no-bias", help="Leave the bias out.")] = False,
    transpose: Annotated[
        bool, typer.Option("--transpose", help="The rows of the weight are features.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of the classes: lines of text, or JSON."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write the full report to this file.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Re-check in exact rational numbers.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads; all cores by default.")
    ] = None,
    box: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LO HI", help="Bounds on every feature; none by default."),
    ] = None,
    deployed_dtype: Annotated[
        DeployedDtype | None,
        typer.Option(help="Mark the classes that rounding to this type may revive."),
    ] = None,
    fail_on_unargmaxable: Annotated[
        bool,
        typer.Option(
            "--fail-on-unargmaxable", help="Exit with 1 if some class can never be predicted."
        ),
    ] = False,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="The most rows of the table.")
    ] = 50,
) -> None:
    """
    Find the classes that a model can never predict, whatever its input.

    Exit code: 0; 1 with --fail-on-unargmaxable if there is such a class; 2 for bad
    input; 3 if a class stays undecided (and 1 does not apply); 130 after Ctrl-C.
    """
    if bias is not None and no_bias:
        _stop("--bias and --no-bias contradict each other: give one of them")
    try:
        _check_target(json, [model, labels])
        layer = read_output_layer(
            model,
            weight=weight,
            bias=False if no_bias else bias,
            labels=labels,
            transpose=transpose,
        )
        show_layer(layer)
        start = time.perf_counter()
        report = _run(layer, box, deployed_dtype, exact=exact, threads=threads)
        seconds = time.perf_counter() - start
        if json is not None:
            report.to_json(json)
        show_report(report, layer.labels, seconds, limit, json)
    except KeyboardInterrupt:
        typer.echo("logitkit: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, ImportError, OSError, MemoryError) as error:
        _stop(_message(error))
    if fail_on_unargmaxable and len(report.unargmaxable):
        raise typer.Exit(FAILED)
    if len(report.undecided):
        raise typer.Exit(UNDECIDED)


def _run(
    layer: OutputLayer,
    box: tuple[float, float] | None,
    deployed_dtype: DeployedDtype | None,
    *,
    exact: bool,
    threads: int | None,
) -> Any:
    features = None
    if box is not None:
        from ..argmaxable._features import Box

        features = Box(*box)
    with progress_bar(len(layer.weight)) as progress:
        return logitkit.check_argmaxable(
            layer.weight,
            layer.bias,
            features=features,
            deployed_dtype=None if deployed_dtype is None else deployed_dtype.value,
            exact=exact,
            threads=threads,
            progress=progress,
        )


def _check_target(path: Path | None, inputs: list[Path | None]) -> None:
    """Refuse a report file that cannot be written, before the work rather than after."""
    if path is None:
        return
    if path.is_dir():
        raise ModelFileError(f"--json {path}: is a folder, expected a file")
    if path.resolve() in {file.resolve() for file in inputs if file is not None}:
        raise ModelFileError(f"--json {path}: would overwrite an input, give another name")
    if is_special(path):  # such as /dev/stdout, which is written to as it stands
        if not os.access(path, os.W_OK):
            raise ModelFileError(f"--json {path}: no permission to write to it")
        return
    folder = Path(os.path.realpath(path)).parent  # a link is written through
    if not folder.is_dir():
        raise ModelFileError(f"--json {path}: there is no folder {path.parent}")
    if not os.access(folder, os.W_OK):
        raise ModelFileError(f"--json {path}: no permission to write into {path.parent}")


def _message(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory: {error or 'the model is too large for this machine'}"
    return str(error)


def _stop(message: str) -> NoReturn:
    typer.echo(f"logitkit: {message}", err=True)
    raise typer.Exit(BAD_INPUT)
