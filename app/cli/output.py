"""What commands print: for people on a terminal, for programs in a pipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..plain_text import plain

EXIT_FAULT = 1
EXIT_UNREACHABLE = 3
EXIT_LEFT_RUNNING = 130

_COLOURS = {"running": "yellow", "done": "green", "error": "red", "warning": "yellow", "ok": "green"}

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")


def dump(*values: Any) -> None:
    """A line of JSON for each."""
    for value in values:
        click.echo(json.dumps(value, default=str))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, colour: int | None = None) -> None:
    """Rows of texts: on a terminal a table whose last column may be cut, in a pipe whole, separated by tabs.

    Args:
        colour: The column whose words have a colour.
    """
    lines = [[" ".join(plain(cell).split()) for cell in row] for row in rows]
    console = Console()
    if not console.is_terminal:
        for line in lines:
            click.echo("\t".join(line))
        return
    shown = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in headings[:-1]:
        shown.add_column(heading, no_wrap=True)
    shown.add_column(headings[-1])
    for *cells, last in lines:
        texts = [Text(cell, _COLOURS.get(cell, "") if n == colour else "") for n, cell in enumerate(cells)]
        shown.add_row(*texts, Text(last, no_wrap=True, overflow="ellipsis"))
    console.print(shown)


def pairs(values: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line; those without a value are left out."""
    for name, value in values:
        if value is not None and value != "":
            click.echo(f"{name}: {plain(value)}")
