"""Follow a session on the terminal, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..api_client import ApiError, Server, Unreachable
from ..plain_text import plain
from .output import EXIT_LEFT_RUNNING, EXIT_UNREACHABLE
from .shown import Shown


@contextmanager
def server_errors() -> Iterator[None]:
    """What a server refuses, or that it does not answer, ends the command with 3."""
    try:
        yield
    except (ApiError, Unreachable) as error:
        click.echo(f"backchat: {plain(error)}", err=True)
        if isinstance(error, Unreachable):
            click.echo("start it with `make run`, or say where it is: --url, BACKCHAT_URL or PORT", err=True)
        elif error.status == 401:
            click.echo("give one by --token or BACKCHAT_BEARER; the command `token` prints it", err=True)
        sys.exit(EXIT_UNREACHABLE)


def follow(server: Server, session_id: str, *, after: int = 0, as_json: bool = False, as_it_comes: bool = False) -> int:
    """Show a session to its end; returns the exit status."""
    shown = Shown(as_json, as_it_comes=as_it_comes)
    while True:
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
    click.echo(f"left running: {program} attach {plain(session_id)}", err=True)
