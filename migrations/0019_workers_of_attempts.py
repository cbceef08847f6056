"""Which worker ran which attempt, for whoever looks for a fault."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatSessions", {"workers": "LONGTEXT NULL"})
