"""What a model provider said of a failure, for whoever runs the deployment."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatSessions", {"providerSaid": "LONGTEXT NULL"})
