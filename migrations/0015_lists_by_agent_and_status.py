"""The list of an owner's sessions by agent and status has an index in its order."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_index


def up(migrator: Any, db: Any) -> None:
    add_index(db, "chatSessions", "sessions_owner_agent_status", ("owner", "agentId", "status", "id"))
