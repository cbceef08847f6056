"""Ids that clients choose are unique for each owner, and ids and owners are compared exactly.

MariaDB's `utf8mb4_bin` takes `anna` and `anna ` for the same, its default collation also `a` and `A`.
"""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, add_index, alter, drop_index, in_pieces, is_sqlite

#: Columns that are compared exactly: type and constraints around the collation.
EXACT: dict[str, dict[str, tuple[str, str]]] = {
    "chatSessions": {
        "sessionId": ("VARCHAR(64)", "NOT NULL"),
        "conversationId": ("VARCHAR(64)", "NULL"),
        "owner": ("VARCHAR(64)", "NOT NULL DEFAULT 'local'"),
        "idempotencyKey": ("VARCHAR(255)", "NULL"),
    },
    "chatEvents": {"sessionId": ("VARCHAR(64)", "NOT NULL")},
    "chatMessages": {
        "owner": ("VARCHAR(64)", "NOT NULL DEFAULT ''"),
        "conversationId": ("VARCHAR(64)", "NOT NULL"),
        "sessionId": ("VARCHAR(64)", "NOT NULL"),
    },
    "chatAgentEvents": {
        "id": ("VARCHAR(36)", "NOT NULL"),
        "owner": ("VARCHAR(64)", "NOT NULL"),
        "conversationId": ("VARCHAR(64)", "NOT NULL"),
        "sessionId": ("VARCHAR(64)", "NULL"),
    },
    "chatAgentCounts": {"owner": ("VARCHAR(64)", "NOT NULL")},
    # Older processes join these two, which can't be compared in between: one follows the other, the smaller one last.
    "chatSearch": {
        "owner": ("VARCHAR(64)", "NOT NULL"),
        "conversationId": ("VARCHAR(64)", "NOT NULL"),
        "sessionId": ("VARCHAR(64)", "NULL"),
    },
    "chatConversations": {"conversationId": ("VARCHAR(64)", "NOT NULL"), "owner": ("VARCHAR(64)", "NOT NULL")},
}


def _compare_exactly(db: Any) -> None:
    version = db.execute_sql("SELECT VERSION()").fetchone()[0]
    collation = "utf8mb4_nopad_bin" if "MariaDB" in version else "utf8mb4_0900_bin"
    for table, columns in EXACT.items():
        rows = db.execute_sql(
            "SELECT column_name, collation_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = %s",
            (table,),
        ).fetchall()
        now = dict(rows)
        changed = ", ".join(
            f"MODIFY `{name}` {kind} CHARACTER SET utf8mb4 COLLATE {collation} {rest}"
            for name, (kind, rest) in columns.items()
            if now[name] != collation
        )
        if changed:
            # One statement: a large table is copied once, not once a column.
            alter(db, f"ALTER TABLE `{table}` {changed}")


def _without_unique_id(db: Any) -> None:
    """SQLite can't drop the constraint of a column: copy the table."""
    if not any(index.unique and list(index.columns) == ["conversationId"] for index in db.get_indexes(_THREADS)):
        return
    # Also when an earlier try was broken off.
    db.execute_sql("DROP TABLE IF EXISTS chatConversationsCopy")
    with db.atomic():
        db.execute_sql(
            """
            CREATE TABLE chatConversationsCopy (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                conversationId VARCHAR(64) NOT NULL,
                owner VARCHAR(64) NOT NULL,
                agentId INTEGER NOT NULL DEFAULT 1,
                title VARCHAR(255) NOT NULL DEFAULT '',
                contextAfter BIGINT NOT NULL DEFAULT 0,
                historySeq BIGINT NOT NULL DEFAULT 0,
                sessionNumber INTEGER NOT NULL DEFAULT 1,
                messageCount INTEGER NOT NULL DEFAULT 0,
                createdAt TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
                updatedAt TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
            )
            """
        )
        columns = (
            "id, conversationId, owner, agentId, title, contextAfter, historySeq, sessionNumber, messageCount,"
            " createdAt, updatedAt"
        )
        db.execute_sql(f"INSERT INTO chatConversationsCopy ({columns}) SELECT {columns} FROM {_THREADS}")
        db.execute_sql(f"DROP TABLE {_THREADS}")
        db.execute_sql(f"ALTER TABLE chatConversationsCopy RENAME TO {_THREADS}")
        _unique_for_each_owner(db)


_THREADS = "chatConversations"


def _unique_for_each_owner(db: Any) -> None:
    add_index(db, _THREADS, "conversations_of_owner", ("conversationId", "owner"), unique=True)


#: Others write between two steps.
atomic = False


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatMessages", {"owner": "VARCHAR(64) NOT NULL DEFAULT ''"})
    if not is_sqlite(db):
        # Before owners are compared across tables: of a migration that was killed only some are converted.
        _compare_exactly(db)
    in_pieces(
        db,
        "chatMessages",
        "UPDATE chatMessages SET owner = COALESCE((SELECT c.owner FROM chatConversations AS c"
        " WHERE c.conversationId = chatMessages.conversationId), 'local') WHERE owner = ''",
    )
    if is_sqlite(db):
        _without_unique_id(db)
    _unique_for_each_owner(db)
    if not is_sqlite(db) and any(index.name == "conversationId" and index.unique for index in db.get_indexes(_THREADS)):
        # It stays by its name: the statements of older processes hint at it.
        alter(db, f"ALTER TABLE {_THREADS} DROP INDEX conversationId, ADD INDEX conversationId (conversationId)")
    add_index(db, _THREADS, "conversations_recent", ("owner", "updatedAt", "id"))
    add_index(db, "chatSessions", "sessions_of_conversation", ("conversationId", "owner", "status", "id"))
    drop_index(db, "chatSessions", "sessions_conversation")
    add_index(db, "chatMessages", "messages_of_conversation", ("conversationId", "owner", "id"))
    drop_index(db, "chatMessages", "messages_conversation")
    history = "chatAgentEvents"
    add_index(db, history, "agent_events_of_conversation", ("conversationId", "owner", "seq"), unique=True)
    drop_index(db, history, "agent_events_seq")
    add_index(db, history, "agent_events_in_conversation", ("conversationId", "owner", "createdAt", "rowId"))
    drop_index(db, history, "agent_events_conversation")
