"""The command line: `backchat …`, or `python -m app.cli …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import cli_access, cli_owner, db
from .api_client import ApiError, Server, Unreachable
from .cli_shown import Shown
from .db import errors as database_errors
from .db import schema
from .errors import BackchatError
from .observability import logs
from .plain_text import plain
from .settings import Settings, read_env_file

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
    context.obj = Server(url or settings.local_url, bearer, on_retry=lambda line: click.echo(plain(line), err=True))


@contextmanager
def _server_errors() -> Iterator[None]:
    try:
        yield
    except (ApiError, Unreachable) as error:
        click.echo(f"backchat: {plain(error)}", err=True)
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
        status_text = Text(plain(row["errorCode"] or row["status"]), _COLOURS.get(row["status"], ""))
        # The one column that may be cut: `attach` and `cancel` need the whole id.
        message = Text(plain(" ".join(row["userMessage"].split()))[:_TITLE_WIDTH], no_wrap=True, overflow="ellipsis")
        created = row["createdAt"][5:16].replace("T", " ")
        session_id = Text(plain(row["sessionId"]))
        table.add_row(session_id, status_text, Text(plain(created)), plain(row["totalTokens"]), message)
    Console().print(table)


@main.command()
@click.argument("session_id")
@_as_json
@click.pass_obj
def cancel(server: Server, session_id: str, as_json: bool) -> None:
    """End a session; its partial answer is kept."""
    with _server_errors():
        row = server.cancel(session_id)
    click.echo(json.dumps(row) if as_json else plain(f"{row['sessionId']}: {row['errorCode'] or row['status']}"))


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


main.add_command(cli_access.token)
main.add_command(cli_access.revoke)
main.add_command(cli_owner.owner)


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


if __name__ == "__main__":
    main()
