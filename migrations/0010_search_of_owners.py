"""Full text search finds the entries that have no mark of their owner yet, in order to give them one."""

from __future__ import annotations

from typing import Any

from migrations.steps import alter, is_sqlite


def up(migrator: Any, db: Any) -> None:
    if any(index.name == "search_unmarked" for index in db.get_indexes("chatSearch")):
        return
    # No column that says so: an older process that renames a conversation would not change it.
    unmarked = "(id) WHERE words >= 'x'" if is_sqlite(db) else "(words(1))"
    alter(db, f"CREATE INDEX search_unmarked ON chatSearch {unmarked}")
