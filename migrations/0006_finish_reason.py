"""Why the model stopped: an answer that reached its limit is not whole."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns


def up(migrator: Any, db: Any) -> None:
    for table in ("chatSessions", "chatEvents"):
        add_columns(db, table, {"finishReason": "VARCHAR(32) NULL"})
