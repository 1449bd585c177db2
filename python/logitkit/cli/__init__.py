"""The command line: `logitkit check MODEL`."""

from __future__ import annotations

import io
import signal
import sys


def main() -> None:
    """Run the command `logitkit`."""
    if hasattr(signal, "SIGPIPE"):  # `| head` ends the command quietly, and not with code 1
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # labels may not fit a terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        from ._app import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"typer", "rich"}:
            raise
        print(f'logitkit: {missing} is missing: pip install "logitkit[cli,io]"', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("logitkit: interrupted", file=sys.stderr)
        sys.exit(130)
    app(prog_name="logitkit")
