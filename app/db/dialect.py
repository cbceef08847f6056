"""All that differs between MariaDB/MySQL and SQLite, and statements written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import peewee

#: The models' database; `open_database` fills it.
database: Any = peewee.DatabaseProxy()


_SKIP_LOCKED = "FOR UPDATE /*M!100600 SKIP LOCKED */ /*!80000 SKIP LOCKED */"


def is_sqlite() -> bool:
    return isinstance(database.obj, peewee.SqliteDatabase)


def now_ms(plus: int = 0) -> peewee.SQL:
    """SQL for the database's clock, in milliseconds since 1970, and *plus*: the one clock that all processes share."""
    if is_sqlite():
        return peewee.SQL(f"(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) + {int(plus)})")
    return peewee.SQL(f"(CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + {int(plus)})")


def for_update(*, wait: bool = True) -> str:
    """The end of a SELECT written by hand that makes it a locking read; see `locked`.

    Without *wait* it leaves out what others have locked, where the server can: since MariaDB 10.6 and MySQL 8.
    """
    if is_sqlite():
        return ""
    return " FOR UPDATE" if wait else f" {_SKIP_LOCKED}"


def only_by(index: str) -> str:
    """The index hint of a locking read written by hand; follows the name of the table."""
    # A locking read locks every row it scans, in scan order: by the status index it would lock rows that others hold.
    return "" if is_sqlite() else f" FORCE INDEX ({index})"


def by_index(query: Any, model: type[peewee.Model], index: str) -> Any:
    """*query*, which selects from *model* alone, by this index: MariaDB would rather merge two others and sort.

    SQLite takes the one that fits most columns and the order by itself.
    """
    if is_sqlite():
        return query
    return query.from_(peewee.SQL(f"`{model._meta.table_name}` AS `t1` FORCE INDEX (`{index}`)"))


def locked(query: Any, *, wait: bool = True) -> Any:
    """*query* as a locking read; without *wait* as `for_update` says. SQLite needs none: it writes one at a time."""
    if is_sqlite():
        return query
    return query.for_update() if wait else query.for_update(_SKIP_LOCKED)


def sql(statement: str, parameters: Sequence[Any] = ()) -> Any:
    """Run a statement written by hand, for the paths where building it costs more than running it.

    Args:
        statement: Identifiers bare, parameters as `?` (see `marks`).
        parameters: Values as the columns' `db_value` would give them.

    Returns:
        The cursor.
    """
    if not is_sqlite():
        statement = statement.replace("?", "%s")
    return database.execute_sql(statement, parameters)


def id_step() -> int:
    """The step between two ids of one INSERT: over 1 where several servers assign ids, as in a Galera cluster."""
    return 1 if is_sqlite() else int(sql("SELECT @@auto_increment_increment").fetchone()[0])


def marks(count: int) -> str:
    """*count* parameters: `?,?,?`."""
    return ",".join(("?",) * count)


def by_id(values: Mapping[int, Any]) -> tuple[str, list[Any]]:
    """SQL for a value of its own for each row, by its `id`, and its parameters: hundreds of rows in one statement."""
    if not values:
        return "NULL", []
    cases = " WHEN ? THEN ?" * len(values)
    return f"CASE id{cases} END", [each for pair in values.items() for each in pair]


def tuples(query: Any) -> list[tuple[Any, ...]]:
    """The rows of *query* as tuples, all read."""
    return list(query.tuples())
