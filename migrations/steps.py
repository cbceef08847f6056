"""Steps that may be repeated, for both databases."""

from __future__ import annotations

from typing import Any

from peewee import SqliteDatabase


def is_sqlite(db: Any) -> bool:
    return isinstance(db, SqliteDatabase)


def add_columns(db: Any, table: str, columns: dict[str, str]) -> None:
    """Add the columns that *table* lacks: name → type and constraints."""
    present = {column.name for column in db.get_columns(table)}
    missing = {name: kind for name, kind in columns.items() if name not in present}
    if is_sqlite(db):
        for name, kind in missing.items():
            db.execute_sql(f'ALTER TABLE "{table}" ADD COLUMN "{name}" {kind}')
    elif missing:
        # One statement: a large adopted table is copied once, not once a column.
        added = ", ".join(f"ADD COLUMN `{name}` {kind}" for name, kind in missing.items())
        db.execute_sql(f"ALTER TABLE `{table}` {added}")


def add_index(db: Any, table: str, name: str, columns: tuple[str, ...], *, unique: bool = False) -> None:
    """Create the index unless one of this name stands."""
    if any(index.name == name for index in db.get_indexes(table)):
        return
    quote = '"' if is_sqlite(db) else "`"
    listed = ", ".join(f"{quote}{column}{quote}" for column in columns)
    kind = "UNIQUE INDEX" if unique else "INDEX"
    db.execute_sql(f"CREATE {kind} {quote}{name}{quote} ON {quote}{table}{quote} ({listed})")


def drop_index(db: Any, table: str, name: str) -> None:
    """Drop the index if it stands."""
    if not any(index.name == name for index in db.get_indexes(table)):
        return
    db.execute_sql(f'DROP INDEX "{name}"' if is_sqlite(db) else f"DROP INDEX `{name}` ON `{table}`")
