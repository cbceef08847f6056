"""Remove what deleted messages and titles leave in the full text index: both databases only note that they are gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import peewee

from app import db

#: For the administrator of a server whose user for Backchat may not do it.
STATEMENTS = (
    "SET GLOBAL innodb_optimize_fulltext_only = 1",
    "OPTIMIZE TABLE chatSearch  -- again and again, until information_schema.INNODB_FT_BEING_DELETED is empty",
    "SET GLOBAL innodb_optimize_fulltext_only = 0",
)
_PAGES_AT_ONCE = 500
_ACCESS_DENIED = 1227


def overwrite_deleted() -> None:
    """Have the current connection overwrite what it deletes, where the database would leave it in its file."""
    if db.is_sqlite():
        db.database.execute_sql("PRAGMA secure_delete = ON")


def purge(keep: Callable[[], None]) -> bool:
    """Remove the words of everything that was deleted until now, in pieces. Needs a connection of its own.

    Args:
        keep: Called before each piece.

    Returns:
        False: the database does not let this user do it; `STATEMENTS` do.
    """
    if db.is_sqlite():
        _merge(keep)
        return True
    try:
        _optimize(keep)
    except peewee.OperationalError as error:
        if error.args[0] != _ACCESS_DENIED:
            raise
        return False
    return True


def _merge(keep: Callable[[], None]) -> None:
    pages = -_PAGES_AT_ONCE  # a negative number has all of the index merged into one, from its beginning
    while True:
        keep()
        # It is done when it changes nothing but its own record.
        if db.transaction(lambda pages=pages: _merge_some(pages)) < 2:  # type: ignore[misc]
            break
        pages = _PAGES_AT_ONCE
    # What was overwritten is in the log still; readers may be in the way of that.
    with suppress(peewee.OperationalError):
        db.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _merge_some(pages: int) -> int:
    before = db.database.connection().total_changes
    db.database.execute_sql("INSERT INTO chatSearchWords(chatSearchWords, rank) VALUES ('merge', ?)", (pages,))
    return int(db.database.connection().total_changes - before)


def _optimize(keep: Callable[[], None]) -> None:
    execute = db.database.execute_sql
    ((was,),) = execute("SELECT @@innodb_optimize_fulltext_only").fetchall()
    ((watched,),) = execute("SELECT @@innodb_ft_aux_table").fetchall()
    execute("SET GLOBAL innodb_optimize_fulltext_only = 1")
    try:
        execute("SET GLOBAL innodb_ft_aux_table = %s", (f"{db.database.database}/chatSearch",))
        # Each call goes through some words; one of before may have left a round unfinished.
        for _ in range(1 + _is_under_way()):
            keep()
            execute("OPTIMIZE TABLE chatSearch").fetchall()
            while _is_under_way():
                keep()
                execute("OPTIMIZE TABLE chatSearch").fetchall()
    finally:
        execute("SET GLOBAL innodb_ft_aux_table = %s", (watched,))
        execute("SET GLOBAL innodb_optimize_fulltext_only = %s", (was,))


def _is_under_way() -> bool:
    found = db.database.execute_sql("SELECT 1 FROM information_schema.INNODB_FT_BEING_DELETED LIMIT 1")
    return bool(found.fetchall())
