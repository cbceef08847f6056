"""A database as the first deployment of this design left it, with the damage that its races and crashes did."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import peewee

MARIADB = (
    """
    CREATE TABLE IF NOT EXISTS chatSessions (
        id INT AUTO_INCREMENT PRIMARY KEY,
        sessionId VARCHAR(64) NOT NULL UNIQUE,
        agentId INT NOT NULL DEFAULT 1,
        status ENUM('running','done','error') NOT NULL DEFAULT 'running',
        userMessage TEXT NOT NULL,
        finalResponse TEXT,
        model VARCHAR(128),
        totalTokens INT DEFAULT 0,
        processingTimeMs INT DEFAULT 0,
        errorMessage TEXT,
        createdAt TIMESTAMP NOT NULL DEFAULT NOW(),
        updatedAt TIMESTAMP NOT NULL DEFAULT NOW() ON UPDATE NOW(),
        INDEX chatSessions_status_idx (status),
        INDEX chatSessions_createdAt_idx (createdAt)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
    """
    CREATE TABLE IF NOT EXISTS chatEvents (
        id INT AUTO_INCREMENT PRIMARY KEY,
        sessionId VARCHAR(64) NOT NULL,
        seq INT NOT NULL DEFAULT 0,
        eventType ENUM('thinking','tool_call','delta','done','error') NOT NULL,
        content TEXT,
        toolName VARCHAR(128),
        toolArgs JSON,
        toolResult TEXT,
        toolSuccess TINYINT(1),
        durationMs INT,
        model VARCHAR(128),
        usageJson JSON,
        errorMsg TEXT,
        createdAt TIMESTAMP(3) NOT NULL DEFAULT NOW(3),
        INDEX chatEvents_sessionId_seq_idx (sessionId, seq)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
)


def _for_sqlite(statement: str) -> str:
    for there, here in (
        ("INT AUTO_INCREMENT PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
        (" ON UPDATE NOW()", ""),
        ("NOW(3)", "CURRENT_TIMESTAMP"),
        ("NOW()", "CURRENT_TIMESTAMP"),
        (") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4", ")"),
    ):
        statement = statement.replace(there, here)
    statement = re.sub(r"ENUM\([^)]*\)", "TEXT", statement)
    # Its indexes are statements of their own.
    return re.sub(r",\s*INDEX \w+ \([^)]*\)", "", statement)


#: The most that TEXT holds, in characters of four bytes.
LARGE = "🙂" * (65_535 // 4)
CREATED, UPDATED = "2024-02-03 04:05:06", "2024-02-03 04:06:07"

#: Session → (columns of its row, its events as (seq, type, further columns)); in the order of their ids.
SESSIONS: dict[str, tuple[dict[str, Any], Sequence[tuple[int, str, dict[str, Any]]]]] = {
    "whole": (
        {"status": "done", "finalResponse": "Hello world", "model": "m", "totalTokens": 7, "processingTimeMs": 900},
        (
            (1, "thinking", {"content": "hm"}),
            (2, "tool_call", {"toolName": "add", "toolArgs": json.dumps({"a": [1, "ж"]})}),
            (
                3,
                "tool_call",
                {
                    "toolName": "add",
                    "toolArgs": json.dumps({"a": [1, "ж"]}),
                    "toolResult": "3",
                    "toolSuccess": 1,
                    "durationMs": 4,
                },
            ),
            (4, "delta", {"content": "Hello "}),
            (5, "delta", {"content": "world"}),
            (6, "done", {"content": "Hello world", "model": "m", "usageJson": json.dumps({"totalTokens": 7})}),
        ),
    ),
    "from zero, with duplicates": (
        {"status": "done", "finalResponse": "abc"},
        (
            (0, "thinking", {"content": ""}),
            (1, "delta", {"content": "a"}),
            (1, "delta", {"content": "b"}),
            (1, "delta", {"content": "c"}),
            (2, "done", {}),
        ),
    ),
    "gaps, written out of order": (
        {"status": "done", "finalResponse": "ab"},
        (
            (100, "delta", {"content": "b"}),
            (7, "delta", {"content": "a"}),
            (5, "thinking", {"content": "x"}),
            (2_000_000_000, "done", {"content": "ab"}),
        ),
    ),
    "text after its end": (
        {"status": "done", "finalResponse": "ab"},
        (
            (1, "delta", {"content": "a"}),
            (2, "done", {"content": "ab"}),
            (3, "delta", {"content": "b"}),
        ),
    ),
    "ended twice": (
        {"status": "done", "finalResponse": "a"},
        (
            (1, "delta", {"content": "a"}),
            (2, "done", {"content": "a"}),
            (2, "done", {"content": "a"}),
        ),
    ),
    "done, then an error": (
        {"status": "done", "finalResponse": "a"},
        ((1, "delta", {"content": "a"}), (2, "done", {"content": "a"}), (3, "error", {"errorMsg": "late"})),
    ),
    "an error whose row says done": (
        {"status": "done", "finalResponse": "a"},
        ((1, "delta", {"content": "a"}), (2, "error", {"errorMsg": "odd"})),
    ),
    "done without an end": (
        {"status": "done", "finalResponse": "ab", "model": "m"},
        ((1, "delta", {"content": "ab"}),),
    ),
    "done without events": ({"status": "done", "finalResponse": "silent"}, ()),
    "failed": (
        {"status": "error", "errorMessage": "boom", "finalResponse": "part"},
        ((1, "delta", {"content": "part"}), (2, "error", {"content": "part", "errorMsg": "boom"})),
    ),
    "failed without a word": ({"status": "error"}, ()),
    "nothing was counted": (
        {"status": "done", "finalResponse": "Ответ", "totalTokens": None, "processingTimeMs": None},
        (
            (1, "delta", {"content": "Ответ", "model": None, "usageJson": None, "durationMs": None}),
            (2, "done", {"content": "Ответ"}),
        ),
    ),
    "failed, and nobody had counted": (
        {"status": "error", "errorMessage": "упало", "totalTokens": None, "processingTimeMs": None},
        ((1, "error", {"errorMsg": "упало"}),),
    ),
    "orphan": (
        {"status": "running"},
        (
            (1, "thinking", {"content": "hm"}),
            (3, "delta", {"content": "c"}),
            (2, "delta", {"content": "ab"}),
            (3, "delta", {"content": "d"}),
        ),
    ),
    "orphan without events": ({"status": "running"}, ()),
    "orphan with a long answer": (
        {"status": "running"},
        tuple((number, "delta", {"content": LARGE}) for number in range(1, 41)),
    ),
    "answered, and died before its row was": (
        {"status": "running"},
        ((1, "delta", {"content": "all"}), (2, "done", {"content": "all", "model": "m"})),
    ),
    "failed, and died before its row was": (
        {"status": "running"},
        ((1, "delta", {"content": "x"}), (2, "error", {"errorMsg": "boom"})),
    ),
    "large": (
        {"status": "done", "userMessage": LARGE, "finalResponse": LARGE},
        (
            (1, "tool_call", {"toolName": "read", "toolResult": LARGE, "toolSuccess": 0}),
            (2, "delta", {"content": LARGE}),
            (3, "done", {"content": LARGE}),
        ),
    ),
}
#: Events whose session is gone.
STRAY = ((1, "delta", {"content": "a"}), (1, "delta", {"content": "b"}), (1, "done", {"content": "ab"}))


def create_tables(db: peewee.Database) -> None:
    for statement in MARIADB:
        db.execute_sql(_for_sqlite(statement) if isinstance(db, peewee.SqliteDatabase) else statement)


def fill(db: peewee.Database, *, large: bool = True) -> None:
    """Store `SESSIONS`, without those that are *large* if so asked, and `STRAY`."""
    with db.atomic():
        for session_id, (columns, events) in SESSIONS.items():
            if not large and any(LARGE in event[2].values() for event in events):
                continue
            common = {"sessionId": session_id, "userMessage": "What?", "createdAt": CREATED, "updatedAt": UPDATED}
            _insert(db, "chatSessions", common | columns)
            _insert_events(db, session_id, events)
        _insert_events(db, "stray", STRAY)


def _insert_events(db: peewee.Database, session_id: str, events: Sequence[tuple[int, str, dict[str, Any]]]) -> None:
    for seq, kind, columns in events:
        _insert(
            db, "chatEvents", {"sessionId": session_id, "seq": seq, "eventType": kind, "createdAt": CREATED} | columns
        )


def _insert(db: peewee.Database, table: str, columns: dict[str, Any]) -> None:
    mark = "?" if isinstance(db, peewee.SqliteDatabase) else "%s"
    marks = ", ".join([mark] * len(columns))
    db.execute_sql(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", tuple(columns.values()))


def rows(db: peewee.Database, table: str) -> list[dict[str, Any]]:
    """All rows of a table, by id."""
    cursor = db.execute_sql(f"SELECT * FROM {table} ORDER BY id")
    names = [column[0] for column in cursor.description]
    # A column that got milliseconds shows the same time with more digits.
    return [
        {
            name: datetime.fromisoformat(value) if name.endswith("At") and isinstance(value, str) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in cursor.fetchall()
    ]
