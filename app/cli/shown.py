"""Shows the events of a session: as JSON, as text in a pipe, as Markdown or text on a terminal."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.status import Status
from rich.text import Text

from ..events.fold import Fold
from ..plain_text import plain
from .output import EXIT_FAULT


class Shown:
    """Shows events: the answer on stdout, what else happens in a line on stderr.

    Args:
        as_json: A line of JSON for each event.
        as_it_comes: On a terminal each piece of text at once, in place of Markdown by the paragraph.
    """

    def __init__(self, as_json: bool, *, as_it_comes: bool = False) -> None:
        self._as_json = as_json
        self._out = Console(highlight=False)
        self._is_terminal = self._out.is_terminal
        self._as_it_comes = self._is_terminal and as_it_comes
        self._fold = Fold()
        #: Characters of the answer that stand on the terminal.
        self._printed = 0
        self._last: dict[str, Any] = {}
        self._progress: Status | None = None
        self._errors = Console(stderr=True, highlight=False)
        self._doing("waiting for a worker")

    def event(self, event: dict[str, Any]) -> None:
        self._last = event
        if self._as_json:
            click.echo(json.dumps(event))
            return
        before = len(self._fold.text)
        self._fold.add(event)
        if event.get("supersedesFrom") is not None and len(self._fold.text) < before and self._printed:
            self._say("\n— resumed; what counts of the answer so far: —")
            self._printed = 0
        kind = event["eventType"]
        if kind == "delta":
            self._doing("answering")
            self._print(whole=False)
        elif kind == "thinking":
            self._doing("thinking")
        elif kind == "tool_call":
            self._tool(event)

    def _print(self, *, whole: bool) -> None:
        """Show what is not shown yet: in a pipe only when the answer is *whole*, as what comes may be superseded."""
        new = self._fold.text[self._printed :]
        if not self._is_terminal:
            new = new if whole else ""
        elif not self._as_it_comes and not whole:
            new = new[: _end_of_blocks(new)]
        if not new:
            return
        self._printed += len(new)
        self.pause()
        if self._is_terminal and not self._as_it_comes:
            # No links of the model's: a terminal would follow them.
            self._out.print(Markdown(plain(new), hyperlinks=False))
        else:
            click.echo(plain(new), nl=False)

    def _tool(self, event: dict[str, Any]) -> None:
        if event["toolSuccess"] is None:
            self._doing(f"running {event['toolName']}")
        else:
            mark = "✓" if event["toolSuccess"] else "✗"
            self._say(f"\n{mark} {event['toolName']} ({event['durationMs'] or 0} ms)")

    def _doing(self, what: str) -> None:
        if self._as_json or not self._errors.is_terminal or (self._as_it_comes and self._printed):
            return
        if self._progress is None:
            self._progress = self._errors.status("")
            self._progress.start()
        self._progress.update(Text(plain(what)))

    def _say(self, line: str) -> None:
        self.pause()
        click.echo(plain(line), err=True)

    def pause(self) -> None:
        """Take the progress line away: the terminal is needed for something else."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def close(self) -> int:
        """The session has ended; returns the exit status."""
        failed = self._last.get("eventType") == "error"
        if not self._as_json:
            self._print(whole=True)
            self.pause()
            click.echo()
            if self._last.get("finishReason") == "length":
                click.echo("the model reached the limit of its output", err=True)
            if failed:
                click.echo(plain(f"{self._last['errorCode']}: {self._last['errorMsg']}"), err=True)
        self.pause()
        return EXIT_FAULT if failed else 0


def _end_of_blocks(text: str) -> int:
    """How many characters of *text* are whole blocks of Markdown: up to an empty line that is in no fence."""
    end = at = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        at += len(line)
        mark = line.lstrip()[:3]
        if mark in ("```", "~~~") and fence in ("", mark):
            fence = "" if fence else mark
        elif not fence and not line.strip() and line.endswith("\n"):
            end = at
    return end
