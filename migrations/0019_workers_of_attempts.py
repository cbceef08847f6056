"""Which worker ran which attempt, as `show` reports it."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatSessions", {"workers": "LONGTEXT NULL"})
