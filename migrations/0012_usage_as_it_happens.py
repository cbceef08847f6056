"""What a session has used so far, also of a request that is under way; conversations that are not kept."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns


def up(migrator: Any, db: Any) -> None:
    sessions = {
        "cost": "BIGINT NOT NULL DEFAULT 0",
        "usageEstimated": "INTEGER NOT NULL DEFAULT 0",
        "openRequest": "VARCHAR(255) NULL",
    }
    add_columns(db, "chatSessions", sessions)
    add_columns(db, "chatConversations", {"ephemeral": "INTEGER NOT NULL DEFAULT 0"})
