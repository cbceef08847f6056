"""The command line's part for operators: export and erase what an owner has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import click

from .. import audit, db, owners
from ..broker.client import open_redis
from ..broker.heads import Heads
from ..broker.queue import TurnQueue
from ..conversations import search_purge
from ..db import errors as database_errors
from ..db import schema
from ..errors import BackchatError
from ..sessions.doorbell import Doorbell
from ..settings import Settings

#: Longest wait for one statement: a table without an index on its owner is read whole.
ANSWER_S = 3600


@click.group()
def owner() -> None:
    """Export or erase all that an owner has."""


@contextmanager
def _database() -> Iterator[Settings]:
    try:
        settings = Settings.from_environment()
        db.open_database(settings.database_url, answer_s=ANSWER_S)
        schema.require_current()
        yield settings
    except BackchatError as error:
        raise click.ClickException(database_errors.in_full(error)) from error


@owner.command()
@click.argument("name", metavar="OWNER")
@click.option("--output", type=click.File("w", encoding="utf-8"), default="-", help="A file; default: standard output.")
def export(name: str, output: IO[str]) -> None:
    """Write every row of OWNER as a line of JSON; the last line says how many they are."""
    with _database():
        for line in owners.export(name):
            output.write(json.dumps(line, ensure_ascii=False) + "\n")
    audit.record("owner exported", owner=name)


@owner.command()
@click.argument("name", metavar="OWNER")
@click.option("--yes", is_flag=True, help="Don't ask.")
def erase(name: str, yes: bool) -> None:
    """Delete everything of OWNER, in all tables, in Redis and in the index of search words.

    What runs is cancelled, the owner's tokens are revoked, and nothing new is stored for it meanwhile. It takes half a
    minute or more. Exit status: 0 all is gone, 1 it is not; call it again.
    """
    if not yes:
        click.confirm(f"Delete everything of {name!r}? Nobody can bring it back", abort=True)
    with _database() as settings:
        if not settings.redis_url:
            raise click.ClickException("set REDIS_URL: jobs and heads in Redis name its sessions")
        queue = TurnQueue(settings.redis_url)
        doorbell = Doorbell(Heads(open_redis(settings.redis_url)), queue)
        erased = owners.erase(name, settings.chat_secret, queue, doorbell)
    audit.record("owner erased", owner=name, rows=sum(erased.rows.values()))
    for table, count in erased.rows.items():
        click.echo(f"{table}: {count}")
    if not erased.words_purged:
        click.echo("The full text index keeps words of deleted rows until the database's administrator runs:", err=True)
        for statement in search_purge.STATEMENTS:
            click.echo(f"    {statement}", err=True)
        sys.exit(1)
