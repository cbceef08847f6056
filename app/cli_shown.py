"""Shows the events of a session in a terminal."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from .events.fold import Fold
from .plain_text import plain

EXIT_ENDED_IN_ERROR = 1


class Shown:
    """Shows events: text on stdout, what else happens in a line on stderr."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._fold = Fold()
        self._last: dict[str, Any] = {}
        self._progress: Status | None = None
        self._errors = Console(stderr=True, highlight=False)
        if not as_json and self._errors.is_terminal:
            self._progress = self._errors.status("waiting for a worker")
            self._progress.start()

    def event(self, event: dict[str, Any]) -> None:
        self._last = event
        if self._as_json:
            click.echo(json.dumps(event))
            return
        if self._lost_text(event):
            self._say("\n— resumed; what counts of the answer so far: —")
            click.echo(plain(self._fold.text), nl=False)
        kind = event["eventType"]
        if kind == "delta":
            self.pause()
            click.echo(plain(event["content"]), nl=False)
        elif kind == "thinking":
            self._doing("thinking")
        elif kind == "tool_call":
            self._tool(event)

    def _lost_text(self, event: dict[str, Any]) -> bool:
        """Take the event; whether text that was shown no longer counts."""
        if event.get("supersedesFrom") is None:
            self._fold.add(event)
            return False
        before = len(self._fold.text)
        self._fold.add(event)
        return len(self._fold.text) < before

    def _tool(self, event: dict[str, Any]) -> None:
        if event["toolSuccess"] is None:
            self._doing(f"running {event['toolName']}")
        else:
            mark = "✓" if event["toolSuccess"] else "✗"
            self._say(f"\n{mark} {event['toolName']} ({event['durationMs'] or 0} ms)")

    def _doing(self, what: str) -> None:
        if self._progress is not None:
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
        self.pause()
        failed = self._last.get("eventType") == "error"
        if not self._as_json:
            click.echo()
            if self._last.get("finishReason") == "length":
                click.echo("the model reached the limit of its output", err=True)
            if failed:
                click.echo(plain(f"{self._last['errorCode']}: {self._last['errorMsg']}"), err=True)
        return EXIT_ENDED_IN_ERROR if failed else 0
