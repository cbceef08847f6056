"""Commands that work on the deployment's own database: open it, migrate it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from .. import db
from ..db import errors as database_errors
from ..db import schema
from ..errors import BackchatError, DatabaseUnavailable, QueueUnavailable
from ..plain_text import plain
from ..sessions import adoption
from ..settings import Settings
from .output import EXIT_UNREACHABLE

#: Longest wait for one statement of a migration.
MIGRATION_S = 86_400


@contextmanager
def opened() -> Iterator[Settings]:
    """The deployment's settings, its database opened; what can't be reached ends the command with 3."""
    try:
        settings = Settings.from_environment()
        db.open_database(settings.database_url)
        schema.require_current()
        yield settings
    except (DatabaseUnavailable, QueueUnavailable) as error:
        click.echo(f"backchat: {database_errors.in_full(error)}", err=True)
        sys.exit(EXIT_UNREACHABLE)
    except BackchatError as error:
        raise click.ClickException(error.detail) from error


@click.command()
def migrate() -> None:
    """Bring the database's tables up to date; safe to run from many processes at once.

    Sessions that the first deployment left become ADOPT_OWNER's, each in a conversation of its own.
    """
    try:
        # Altering a large table, and waiting for another process that does, takes longer than any query may.
        settings = Settings.from_environment()
        db.open_database(settings.database_url, answer_s=MIGRATION_S)
        applied = schema.migrate()
        adopted = adoption.adopt(settings.adopt_owner)
    except BackchatError as error:
        raise click.ClickException(database_errors.in_full(error)) from error
    for name in applied:
        click.echo(f"applied {name}")
    if adopted:
        click.echo(f"adopted {adopted} sessions for {plain(settings.adopt_owner)}")
    if not applied:
        click.echo("the database is up to date")
