"""The request that a session came with: its id in the logs, and the trace that it belongs to."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatSessions", {"requestId": "VARCHAR(128) NULL", "traceparent": "VARCHAR(64) NULL"})
