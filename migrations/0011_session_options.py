"""What a caller says of a session beside its message; and the parts of an answer, in order."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, is_sqlite


def up(migrator: Any, db: Any) -> None:
    text = "VARCHAR(64)" if is_sqlite(db) else f"VARCHAR(64) CHARACTER SET utf8mb4 COLLATE {_collation(db)}"
    end = "" if is_sqlite(db) else "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
    long = "TEXT" if is_sqlite(db) else "LONGTEXT"
    columns = ", ".join(f"{name} {long} NULL" for name in ("messages", "instructions", "parameters", "metadata"))
    db.execute_sql(
        f"CREATE TABLE IF NOT EXISTS chatSessionOptions (sessionId {text} NOT NULL PRIMARY KEY, {columns}) {end}"
    )
    add_columns(db, "chatMessages", {"parts": f"{long} NULL"})


def _collation(db: Any) -> str:
    """That of the sessions' ids: the two are compared."""
    found = db.execute_sql(
        "SELECT collation_name FROM information_schema.columns WHERE table_schema = DATABASE()"
        " AND table_name = 'chatSessions' AND column_name = 'sessionId'"
    ).fetchone()
    return str(found[0])
