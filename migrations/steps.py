"""Steps that may be repeated, for both databases, beside processes that serve."""

from __future__ import annotations

import time
from typing import Any

from peewee import OperationalError, SqliteDatabase

#: How often a change of a table is tried again while somebody reads it, and for how long.
_TRY_AGAIN_S, _PATIENCE_S = 1.0, 600.0
_LOCKED = 1205
#: Ids that one statement goes through.
_PIECE = 10_000


def is_sqlite(db: Any) -> bool:
    return isinstance(db, SqliteDatabase)


def alter(db: Any, statement: str) -> None:
    """Change a table.

    Raises:
        OperationalError: somebody has read the table in one transaction all the time.
    """
    # A change waits for open reads, and all others wait behind it: the connection lets it wait for a second at most
    # (`lock_wait_timeout`), then they go first.
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            db.execute_sql(statement)
            return
        except OperationalError as error:
            if error.args[0] != _LOCKED or time.monotonic() > deadline:
                raise
        time.sleep(_TRY_AGAIN_S)


def in_pieces(db: Any, table: str, statement: str) -> None:
    """Run an UPDATE of *table* for some ids after the others, so that nobody waits for all of its rows.

    Args:
        statement: Ends with a condition; `AND id > … AND id <= …` is added.
    """
    ((last,),) = db.execute_sql(f"SELECT COALESCE(MAX(id), 0) FROM {table}").fetchall()
    for first in range(0, last, _PIECE):
        db.execute_sql(f"{statement} AND id > {first} AND id <= {first + _PIECE}")


def add_columns(db: Any, table: str, columns: dict[str, str]) -> None:
    """Add the columns that *table* lacks: name → type and constraints."""
    present = {column.name for column in db.get_columns(table)}
    missing = {name: kind for name, kind in columns.items() if name not in present}
    if is_sqlite(db):
        for name, kind in missing.items():
            alter(db, f'ALTER TABLE "{table}" ADD COLUMN "{name}" {kind}')
    elif missing:
        # One statement: a large adopted table is copied once, not once a column.
        added = ", ".join(f"ADD COLUMN `{name}` {kind}" for name, kind in missing.items())
        alter(db, f"ALTER TABLE `{table}` {added}")


def add_index(db: Any, table: str, name: str, columns: tuple[str, ...], *, unique: bool = False) -> None:
    """Create the index unless one of this name stands."""
    if any(index.name == name for index in db.get_indexes(table)):
        return
    quote = '"' if is_sqlite(db) else "`"
    listed = ", ".join(f"{quote}{column}{quote}" for column in columns)
    kind = "UNIQUE INDEX" if unique else "INDEX"
    alter(db, f"CREATE {kind} {quote}{name}{quote} ON {quote}{table}{quote} ({listed})")


def drop_index(db: Any, table: str, name: str) -> None:
    """Drop the index if it stands."""
    if not any(index.name == name for index in db.get_indexes(table)):
        return
    alter(db, f'DROP INDEX "{name}"' if is_sqlite(db) else f"DROP INDEX `{name}` ON `{table}`")
