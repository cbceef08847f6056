"""The history of an agent, its counts, and marks of what retention has pruned."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, add_index, is_sqlite


def _tables(sqlite: bool) -> tuple[str, ...]:
    exact = "VARCHAR({})" if sqlite else "VARCHAR({}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    plain = "VARCHAR({})" if sqlite else "VARCHAR({}) CHARACTER SET ascii COLLATE ascii_bin"
    key = "INTEGER PRIMARY KEY AUTOINCREMENT" if sqlite else "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY"
    time = (
        "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
        if sqlite
        else "TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)"
    )
    text = "TEXT" if sqlite else "LONGTEXT"
    end = "" if sqlite else "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
    return (
        f"""
        CREATE TABLE IF NOT EXISTS chatAgentEvents (
            rowId {key},
            id {plain.format(36)} NOT NULL UNIQUE,
            agentId INTEGER NOT NULL,
            owner {exact.format(64)} NOT NULL,
            conversationId {exact.format(64)} NOT NULL,
            sessionId {exact.format(64)} NULL,
            seq BIGINT NOT NULL,
            sessionNumber INTEGER NOT NULL,
            eventType {plain.format(24)} NOT NULL CHECK (eventType IN ('prompt_sent', 'activity_changed', 'thinking',
                'tool_use', 'output', 'result', 'usage_update', 'context_cleared')),
            content {text} NULL,
            metadata {text} NOT NULL,
            createdAt {time}
        ) {end}
        """,
        f"""
        CREATE TABLE IF NOT EXISTS chatAgentCounts (
            agentId INTEGER NOT NULL,
            owner {exact.format(64)} NOT NULL,
            shard INTEGER NOT NULL,
            eventType {plain.format(24)} NOT NULL,
            n BIGINT NOT NULL,
            PRIMARY KEY (agentId, owner, shard, eventType)
        ) {end}
        """,
    )


def up(migrator: Any, db: Any) -> None:
    sqlite = is_sqlite(db)
    for statement in _tables(sqlite):
        db.execute_sql(statement)
    number = "INTEGER" if sqlite else "INT"
    add_columns(
        db,
        "chatConversations",
        {
            "historySeq": "BIGINT NOT NULL DEFAULT 0",
            "sessionNumber": f"{number} NOT NULL DEFAULT 1",
            "messageCount": f"{number} NOT NULL DEFAULT 0",
        },
    )
    add_columns(
        db,
        "chatSessions",
        {"sessionNumber": f"{number} NULL", "eventsPrunedAt": f"{'TIMESTAMP' if sqlite else 'TIMESTAMP(3)'} NULL"},
    )
    db.execute_sql(
        "UPDATE chatConversations SET messageCount ="
        " (SELECT COUNT(*) FROM chatMessages WHERE chatMessages.conversationId = chatConversations.conversationId)"
    )
    events = "chatAgentEvents"
    add_index(db, events, "agent_events_seq", ("conversationId", "seq"), unique=True)
    add_index(db, events, "agent_events_conversation", ("conversationId", "createdAt", "rowId"))
    add_index(db, events, "agent_events_time", ("owner", "agentId", "createdAt", "rowId"))
    add_index(db, events, "agent_events_type", ("owner", "agentId", "eventType", "createdAt", "rowId"))
    add_index(db, events, "agent_events_session", ("owner", "agentId", "sessionId", "createdAt", "rowId"))
    add_index(db, events, "agent_events_age", ("agentId", "rowId"))
    add_index(db, "chatSessions", "sessions_pruning", ("eventsPrunedAt", "endedAt"))
