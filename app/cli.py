"""The command line: `python -m app.cli …`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from . import access, database, schema
from .errors import BackchatError
from .settings import Settings


@click.group()
def main() -> None:
    """Backchat: chat runs that live on the server."""


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date; safe to run from many processes at once."""
    try:
        database.open_database(Settings.from_environment().database_url)
        applied = schema.migrate()
    except BackchatError as error:
        raise click.ClickException(error.detail) from error
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


if __name__ == "__main__":
    main()
