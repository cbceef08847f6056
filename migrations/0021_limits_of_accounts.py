"""Limits of an owner's own; and an index of what waits and runs, by owner."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, add_index


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatAccounts", {"maxRunning": "INTEGER NULL", "maxSessions": "INTEGER NULL"})
    add_index(db, "chatSessions", "sessions_by_hold", ("status", "leaseUntilMs", "owner", "id"))
