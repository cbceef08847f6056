"""An index of the conversations that have not been used for long."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_index


def up(migrator: Any, db: Any) -> None:
    add_index(db, "chatConversations", "conversations_by_age", ("ephemeral", "updatedAt"))
