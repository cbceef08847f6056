"""The older version: its code, and a database that it has filled."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

from app import db
from app.db.ids import new_id
from app.db.models import Session
from app.db.times import to_ms, utc_now
from tests.servers import ROOT

OWNERS = 50
SESSIONS_OF_A_CONVERSATION = 10
_ROWS_AT_ONCE = 1_000

#: What the version of migration 0006 has.
_COLUMNS = {
    "chatConversations": "conversationId owner agentId title historySeq messageCount createdAt updatedAt",
    "chatSessions": "sessionId conversationId owner agentId status userMessage finalResponse lastSeq attempt"
    " sessionNumber createdAt updatedAt startedAt endedAt",
    "chatEvents": "sessionId seq eventType content createdAt",
    "chatMessages": "conversationId sessionId role content metadata createdAt",
    "chatSearch": "owner conversationId sessionId messageId words",
    "chatAgentEvents": "id agentId owner conversationId sessionId seq sessionNumber eventType content metadata"
    " createdAt",
}


def check_out(commit: str, folder: Path) -> Path:
    """The code of *commit* in *folder*."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


class _Rows:
    """Rows of one table, many in a statement."""

    def __init__(self, table: str, columns: str) -> None:
        names = columns.split()
        self._insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES "
        self._marks = f"({db.marks(len(names))})"
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *row: Any) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            statement = self._insert + ",".join((self._marks,) * len(rows))
            db.transaction(lambda: db.sql(statement, [value for row in rows for value in row]))


def fill(sessions: int) -> list[tuple[str, str]]:
    """Store so many sessions that ended, with events, messages, words and history; some (owner, conversation)s.

    The database is open, and has the older schema.
    """
    tables = {name: _Rows(name, columns) for name, columns in _COLUMNS.items()}
    start = utc_now() - timedelta(days=20)
    some = []
    for number in range(0, sessions, SESSIONS_OF_A_CONVERSATION):
        begun = start + timedelta(days=19) * number / sessions
        moment, owner = Session.created_at.db_value(begun), f"owner{number // SESSIONS_OF_A_CONVERSATION % OWNERS}"
        conversation = new_id(to_ms(begun))
        turns = min(SESSIONS_OF_A_CONVERSATION, sessions - number)
        tables["chatConversations"].add(conversation, owner, 1, f"Title {number}", 2 * turns, 2 * turns, moment, moment)
        for turn in range(turns):
            session, question, answer = new_id(to_ms(begun)), f"question {number + turn}", "an answer " * 20
            tables["chatSessions"].add(
                session, conversation, owner, 1, "done", question, answer, 2, 1, 1, moment, moment, moment, moment
            )
            tables["chatEvents"].add(session, 1, "delta", answer, moment)
            tables["chatEvents"].add(session, 2, "done", answer, moment)
            for which, (role, kind, text) in enumerate(
                (("user", "prompt_sent", question), ("assistant", "output", answer))
            ):
                tables["chatMessages"].add(conversation, session, role, text, "{}", moment)
                words = " ".join(f"xx{word}" for word in dict.fromkeys(text.split()))
                tables["chatSearch"].add(owner, conversation, session, 2 * (number + turn) + which + 1, words)
                tables["chatAgentEvents"].add(
                    new_id(), 1, owner, conversation, session, 2 * turn + which + 1, 1, kind, text, "{}", moment
                )
        if len(some) < 100:
            some.append((owner, conversation))
    for table in tables.values():
        table.flush()
    return some
