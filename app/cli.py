"""The command line: `backchat …`, or `python -m app.cli …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from . import access, db, logs
from .api_client import ApiError, Server, Unreachable
from .db import errors as database_errors
from .db import schema
from .errors import BackchatError
from .events.fold import Fold
from .settings import Settings, read_env_file

EXIT_ENDED_IN_ERROR = 1
EXIT_SERVER = 3
EXIT_LEFT_RUNNING = 130
#: Longest wait for one statement of a migration.
MIGRATION_S = 86_400

_COLOURS = {"running": "yellow", "done": "green", "error": "red"}
_TITLE_WIDTH = 60


class _Commands(click.Group):
    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        # Before the options are looked at: their variables may stand in the file as well.
        try:
            read_env_file()
        except BackchatError as error:
            raise click.ClickException(error.detail) from error
        return super().make_context(*arguments, **extra)


@click.group(cls=_Commands, context_settings={"auto_envvar_prefix": "BACKCHAT", "help_option_names": ["-h", "--help"]})
@click.option("--url", default=None, help="The server; default: HOST and PORT of the settings. Or BACKCHAT_URL.")
@click.option("--token", "bearer", default="", help="Bearer token. Or BACKCHAT_BEARER.")
@click.pass_context
def main(context: click.Context, url: str | None, bearer: str) -> None:
    """Backchat: chat runs that live on the server.

    Exit status of ask and attach: 0 it is done, 1 it ended in an error or was cancelled, 3 the server can't be reached
    or refuses, 130 it was left running.
    """
    # Before the settings are read: what they warn of has to be seen.
    logs.configure("WARNING")
    try:
        settings = Settings.from_environment()
    except BackchatError as error:
        raise click.ClickException(error.detail) from error
    context.obj = Server(url or settings.local_url, bearer, on_retry=lambda line: click.echo(line, err=True))


@contextmanager
def _server_errors() -> Iterator[None]:
    try:
        yield
    except (ApiError, Unreachable) as error:
        click.echo(f"backchat: {error}", err=True)
        if isinstance(error, Unreachable):
            click.echo("start it with `make run`, or say where it is: --url, BACKCHAT_URL or PORT", err=True)
        elif error.status == 401:
            click.echo("give one by --token or BACKCHAT_BEARER; the command `token` prints it", err=True)
        sys.exit(EXIT_SERVER)


_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")


@main.command()
@click.argument("message")
@click.option("--conversation", default=None, metavar="UUID", help="Go on with a conversation, or start it.")
@click.option("--agent", type=int, default=None, help="Id of the agent; default: 1.")
@click.option("--model", default=None, help="In place of the agent's.")
@_as_json
@click.pass_obj
def ask(
    server: Server, message: str, conversation: str | None, agent: int | None, model: str | None, as_json: bool
) -> None:
    """Start a session with MESSAGE and show its answer as it comes; `-` reads it from standard input.

    Ctrl-C asks whether to cancel it or to leave it running.
    """
    if message == "-":
        try:
            message = sys.stdin.buffer.read().decode().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise click.UsageError("what stands on standard input is not UTF-8") from error
    with _server_errors():
        started = server.start(message, conversationId=conversation, agentId=agent, model=model)
        if as_json:
            click.echo(json.dumps(started))
        sys.exit(_follow(server, started["sessionId"], as_json=as_json))


@main.command()
@click.argument("session_id")
@click.option("--after", type=click.IntRange(0), default=0, help="Only events above this seq.")
@_as_json
@click.pass_obj
def attach(server: Server, session_id: str, after: int, as_json: bool) -> None:
    """Show a session from its beginning, and go on with it while it runs."""
    with _server_errors():
        sys.exit(_follow(server, session_id, after=after, as_json=as_json))


@main.command()
@click.option("--limit", type=click.IntRange(1, 100), default=20)
@click.option("--status", type=click.Choice(["running", "done", "error"]), default=None)
@_as_json
@click.pass_obj
def sessions(server: Server, limit: int, status: str | None, as_json: bool) -> None:
    """List recent sessions, newest first."""
    with _server_errors():
        rows = server.sessions(limit=limit, status=status)["sessions"]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in ("session", "status", "created UTC", "tokens"):
        table.add_column(heading, no_wrap=True)
    table.add_column("message")
    for row in rows:
        status_text = f"[{_COLOURS[row['status']]}]{row['errorCode'] or row['status']}[/]"
        # The one column that may be cut: `attach` and `cancel` need the whole id.
        message = Text(" ".join(row["userMessage"].split())[:_TITLE_WIDTH], no_wrap=True, overflow="ellipsis")
        created = row["createdAt"][5:16].replace("T", " ")
        table.add_row(row["sessionId"], status_text, created, str(row["totalTokens"]), message)
    Console().print(table)


@main.command()
@click.argument("session_id")
@_as_json
@click.pass_obj
def cancel(server: Server, session_id: str, as_json: bool) -> None:
    """End a session; its partial answer is kept."""
    with _server_errors():
        row = server.cancel(session_id)
    click.echo(json.dumps(row) if as_json else f"{row['sessionId']}: {row['errorCode'] or row['status']}")


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date; safe to run from many processes at once."""
    try:
        # Altering a large table, and waiting for another process that does, takes longer than any query may.
        db.open_database(Settings.from_environment().database_url, answer_s=MIGRATION_S)
        applied = schema.migrate()
    except BackchatError as error:
        raise click.ClickException(database_errors.in_full(error)) from error
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("the database is up to date")


@main.command()
@click.argument("owner")
@click.option("--days", type=click.IntRange(1, 3650), default=None, help="Days until it expires; default: never.")
def token(owner: str, days: int | None) -> None:
    """Print a token that speaks for OWNER (needs CHAT_SECRET)."""
    secret = Settings.from_environment().chat_secret
    if not secret:
        raise click.ClickException("set CHAT_SECRET first")
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    try:
        click.echo(access.issue(secret, owner, expires=expires))
    except BackchatError as error:
        raise click.ClickException(error.detail) from error


def _follow(server: Server, session_id: str, *, after: int = 0, as_json: bool) -> int:
    """Show a session to its end; returns the exit status."""
    while True:
        shown = Shown(as_json)
        try:
            for event in server.follow(session_id, after):
                shown.event(event)
                after = event["seq"]
            return shown.close()
        except KeyboardInterrupt:
            shown.pause()
            if not sys.stdin.isatty():
                _say_left_running(session_id)
                return EXIT_LEFT_RUNNING
            choice = click.prompt(
                "\n[c]ancel it, [l]eave it running, or [g]o on watching?",
                type=click.Choice(["c", "l", "g"]),
                default="l",
                err=True,
                show_choices=False,
            )
            if choice == "l":
                _say_left_running(session_id)
                return EXIT_LEFT_RUNNING
            if choice == "c":
                server.cancel(session_id)


def _say_left_running(session_id: str) -> None:
    # As it was called: without an installation there is no `backchat`.
    program = click.get_current_context().find_root().command_path
    click.echo(f"left running: {program} attach {session_id}", err=True)


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
            click.echo(self._fold.text, nl=False)
        kind = event["eventType"]
        if kind == "delta":
            self.pause()
            click.echo(event["content"], nl=False)
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
            self._progress.update(what)

    def _say(self, line: str) -> None:
        self.pause()
        click.echo(line, err=True)

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
                click.echo(f"{self._last['errorCode']}: {self._last['errorMsg']}", err=True)
        return EXIT_ENDED_IN_ERROR if failed else 0


if __name__ == "__main__":
    main()
