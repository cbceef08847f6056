"""Conversations, their messages, and the leases of work that one process does at a time."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_index, is_sqlite


def _tables(sqlite: bool) -> tuple[str, ...]:
    exact = "VARCHAR({})" if sqlite else "VARCHAR({}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
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
        CREATE TABLE IF NOT EXISTS chatConversations (
            id {key},
            conversationId {exact.format(64)} NOT NULL UNIQUE,
            owner {exact.format(64)} NOT NULL,
            agentId INTEGER NOT NULL DEFAULT 1,
            title VARCHAR(255) NOT NULL DEFAULT '',
            contextAfter BIGINT NOT NULL DEFAULT 0,
            createdAt {time},
            updatedAt {time}
        ) {end}
        """,
        f"""
        CREATE TABLE IF NOT EXISTS chatMessages (
            id {key},
            conversationId {exact.format(64)} NOT NULL,
            sessionId VARCHAR(64) NOT NULL,
            role VARCHAR(16) NOT NULL CHECK (role IN ('user', 'assistant')),
            content {text} NOT NULL,
            metadata {text} NOT NULL,
            createdAt {time}
        ) {end}
        """,
        f"""
        CREATE TABLE IF NOT EXISTS chatLeases (
            name VARCHAR(64) NOT NULL PRIMARY KEY,
            holder VARCHAR(128) NOT NULL,
            untilMs BIGINT NOT NULL
        ) {end}
        """,
    )


def up(migrator: Any, db: Any) -> None:
    for statement in _tables(is_sqlite(db)):
        db.execute_sql(statement)
    # A session has one message of each role, whoever writes it.
    add_index(db, "chatMessages", "messages_session", ("sessionId", "role"), unique=True)
    add_index(db, "chatMessages", "messages_conversation", ("conversationId", "id"))
    add_index(db, "chatConversations", "conversations_recent", ("owner", "updatedAt", "id"))
