"""The first deployment's index on (sessionId, seq) goes: the unique one covers it, and events are written to both."""

from __future__ import annotations

from typing import Any

from migrations.steps import drop_index


def up(migrator: Any, db: Any) -> None:
    indexes = db.get_indexes("chatEvents")
    ours = ["sessionId", "seq"]
    if not any(index.unique and list(index.columns) == ours for index in indexes):
        return
    # It has another name in each deployment.
    for index in indexes:
        if not index.unique and list(index.columns) == ours:
            drop_index(db, "chatEvents", index.name)
