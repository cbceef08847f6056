"""Full text over messages and titles: FULLTEXT on MariaDB/MySQL, FTS5 on SQLite, over words that `app` prepares.

Triggers keep SQLite's index in step with its table, in the same transaction.
"""

from __future__ import annotations

from typing import Any

from migrations.steps import add_index, is_sqlite

MYSQL = """
    CREATE TABLE IF NOT EXISTS chatSearch (
        id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        owner VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        conversationId VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        sessionId VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
        messageId BIGINT NULL,
        words LONGTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        FULLTEXT INDEX search_words (words)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

SQLITE = (
    """
    CREATE TABLE IF NOT EXISTS chatSearch (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner VARCHAR(64) NOT NULL,
        conversationId VARCHAR(64) NOT NULL,
        sessionId VARCHAR(64) NULL,
        messageId BIGINT NULL,
        words TEXT NOT NULL
    )
    """,
    """
    CREATE VIRTUAL TABLE IF NOT EXISTS chatSearchWords USING fts5(
        words, content='chatSearch', content_rowid='id', detail='none', tokenize='ascii'
    )
    """,
    """
    CREATE TRIGGER IF NOT EXISTS search_added AFTER INSERT ON chatSearch BEGIN
        INSERT INTO chatSearchWords(rowid, words) VALUES (new.id, new.words);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS search_removed AFTER DELETE ON chatSearch BEGIN
        INSERT INTO chatSearchWords(chatSearchWords, rowid, words) VALUES ('delete', old.id, old.words);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS search_changed AFTER UPDATE OF words ON chatSearch BEGIN
        INSERT INTO chatSearchWords(chatSearchWords, rowid, words) VALUES ('delete', old.id, old.words);
        INSERT INTO chatSearchWords(rowid, words) VALUES (new.id, new.words);
    END
    """,
)


def up(migrator: Any, db: Any) -> None:
    for statement in SQLITE if is_sqlite(db) else (MYSQL,):
        db.execute_sql(statement)
    add_index(db, "chatSearch", "search_session", ("sessionId",))
    add_index(db, "chatSearch", "search_conversation", ("conversationId",))
