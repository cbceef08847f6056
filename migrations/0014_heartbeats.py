"""Each worker has a row whose heartbeat says that it lives; sessions and events say why an attempt ended."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, is_sqlite


def up(migrator: Any, db: Any) -> None:
    text = "TEXT" if is_sqlite(db) else "LONGTEXT"
    end = "" if is_sqlite(db) else "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
    db.execute_sql(
        f"""
        CREATE TABLE IF NOT EXISTS chatWorkers (
            name VARCHAR(128) NOT NULL PRIMARY KEY,
            beat BIGINT NOT NULL DEFAULT 0,
            cause VARCHAR(64) NULL,
            suspects {text} NULL,
            sessions INTEGER NULL
        ) {end}
        """
    )
    add_columns(db, "chatSessions", {"cause": "VARCHAR(64) NULL"})
    add_columns(db, "chatEvents", {"cause": "VARCHAR(64) NULL"})
