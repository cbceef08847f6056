"""An interrupt leaves a mark on its conversation; what stands before it ends afterwards."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatConversations", {"interruptedBefore": "BIGINT NOT NULL DEFAULT 0"})
