"""Tokens that hold no longer."""

from __future__ import annotations

from typing import Any

from migrations.steps import is_sqlite


def up(migrator: Any, db: Any) -> None:
    text = "VARCHAR(160)" if is_sqlite(db) else "VARCHAR(160) CHARACTER SET ascii COLLATE ascii_bin"
    end = "" if is_sqlite(db) else "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
    columns = f"subject {text} NOT NULL PRIMARY KEY, untilMs BIGINT NOT NULL"
    db.execute_sql(f"CREATE TABLE IF NOT EXISTS chatRevocations ({columns}) {end}")
