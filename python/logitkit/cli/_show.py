"""What `logitkit check` prints: the layer, the dead classes, the counts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..argmaxable.readers import OutputLayer
from ._nearest import nearest_live
from ._visible import visible

_WIDTH_IN_A_FILE = 120


def show_layer(layer: OutputLayer) -> None:
    """Print which layer was read, and where its labels come from."""
    console = _stdout()
    n, d = layer.weight.shape
    weight = f"{layer.weight_name}: {n:,} classes x {d:,} features, {layer.weight.dtype.name}"
    _line(console, f"weight  {weight} ({layer.source})")
    _line(console, f"bias    {layer.bias_name or 'none'}")
    _line(console, f"labels  {layer.label_source or 'none (give them with --labels FILE)'}")


def show_report(
    report: Any, labels: Sequence[str] | None, seconds: float, limit: int, json: Path | None
) -> None:
    """Print the classes that can never win, those left open, and the counts."""
    console = _stdout()
    dead, undecided = report.unargmaxable, report.undecided
    if len(dead) and limit:
        console.print(_table(report, labels, limit))
    if len(dead) > limit:
        where = f"all are in {json}" if json else "--limit N shows more, --json OUT writes all"
        _line(console, f"... and {len(dead) - limit:,} more ({where})")
    for i in undecided[:limit]:
        named = f" {visible(labels[i])}" if labels else ""
        _line(console, f"undecided: class {i}{named}: {report.reasons.get(int(i), '')}")
    if len(undecided) > limit:
        _line(console, f"... and {len(undecided) - limit:,} more undecided classes")
    _line(console, f"{len(report.argmaxable):>9,} argmaxable: some features make them win")
    _line(console, f"{len(dead):>9,} unargmaxable: the model can never predict them")
    _line(console, f"{len(undecided):>9,} undecided")
    _line(console, f"checked in {seconds:.2f} s")


def _line(console: Console, text: str) -> None:
    # As it is: no markup (labels like [PAD]), no line breaks that a script would see.
    console.print(Text(text), soft_wrap=True)


def _stdout() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_IN_A_FILE
    return console


def _table(report: Any, labels: Sequence[str] | None, limit: int) -> Table:
    table = Table(title="Classes that the model can never predict", title_justify="left")
    table.add_column("class", justify="right", no_wrap=True)
    if labels:
        table.add_column("label", overflow="fold")
    table.add_column("depth", justify="right", no_wrap=True)
    table.add_column("bias depth", justify="right", no_wrap=True)
    if report.deployed_dtype:
        table.add_column(f"dead in {report.deployed_dtype}", no_wrap=True)
    table.add_column("nearest live class", overflow="fold")
    shown = report.unargmaxable[:limit]
    nearest = nearest_live(report.weight, report.argmaxable, shown)
    for row, i in enumerate(shown):
        cells = [str(i), f"{report.depth[row]:.3g}", f"{report.bias_depth[row]:.3g}"]
        if labels:
            cells.insert(1, visible(labels[i]))
        if report.deployed_dtype:
            cells.append("not certain" if report.below_rounding[row] else "yes")
        cells.append(_neighbour(nearest[row], labels))
        table.add_row(*map(Text, cells))
    return table


def _neighbour(i: int, labels: Sequence[str] | None) -> str:
    if i < 0:
        return "none"
    return f"{i} {visible(labels[i])}" if labels else str(i)
