"""Look at sessions: one, the recent ones, those that nobody attends to. Nothing here changes a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import peewee

from app import db
from app.access import Principal
from app.broker.heads import Head
from app.db.cursors import Cursor
from app.db.fields import UtcField
from app.db.models import Session
from app.db.paging import Page, cut, size_of
from app.db.statements import Row
from app.db.times import iso_of
from app.errors import NotFound

_LOOKED_UP_AT_ONCE = 500
_CURSOR = Cursor("s", 1)

_SHOWN = (
    Session.id, Session.session_id, Session.conversation_id, Session.agent_id, Session.status, Session.user_message,
    Session.final_response, Session.model, Session.total_tokens, Session.input_tokens, Session.output_tokens,
    Session.cache_read_tokens, Session.cache_write_tokens, Session.cost, Session.usage_estimated,
    Session.processing_time_ms, Session.error_message,
    Session.error_code, Session.finish_reason, Session.attempt, Session.last_seq, Session.created_at,
    Session.updated_at, Session.started_at, Session.ended_at,
)  # fmt: skip


# Written by hand: building the statement costs more than running it.
_SELECT = (
    f"SELECT {', '.join(f's.{field.column_name}' for field in _SHOWN)}, o.metadata FROM chatSessions AS s"
    " LEFT JOIN chatSessionOptions AS o ON o.sessionId = s.sessionId"
)
_NAMES = tuple(field.column_name for field in _SHOWN)


def _shown(rest: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
    """Sessions as the API shows them: by the names of their columns. *rest* follows the names of the tables."""
    return [_to_json(row) for row in db.sql(f"{_SELECT} {rest}", parameters).fetchall()]


def _to_json(row: Row) -> dict[str, Any]:
    *values, metadata = row
    shown = dict(zip(_NAMES, values, strict=True))
    for name in _TIMES:
        shown[name] = shown[name] and iso_of(shown[name])
    for name in ("totalTokens", "processingTimeMs"):
        # Null in adopted sessions.
        shown[name] = shown[name] or 0
    return shown | {"usageEstimated": bool(shown["usageEstimated"]), "metadata": json.loads(metadata or "{}")}


_TIMES = tuple(field.column_name for field in _SHOWN if isinstance(field, UtcField))


def get(owner: str, session_id: str) -> dict[str, Any]:
    """One session.

    Raises:
        NotFound: no such session for this owner.
        DatabaseUnavailable: no connection.
    """
    found = db.reading(lambda: _shown("WHERE s.sessionId = ? AND s.owner = ?", (session_id, owner)))
    if not found:
        raise NotFound("no such session")
    return found[0]


def place(owner: str, session_id: str) -> tuple[str | None, int]:
    """The conversation and the agent of a session; they never change.

    Raises:
        NotFound: no such session for this owner.
        DatabaseUnavailable: no connection.
    """
    mine = (Session.session_id == session_id) & (Session.owner == owner)
    found = db.reading(lambda: db.tuples(Session.select(Session.conversation_id, Session.agent_id).where(mine)))
    if not found:
        raise NotFound("no such session")
    return found[0][0], found[0][1]


def list_recent(
    owner: str,
    *,
    limit: int = 20,
    cursor: str | None = None,
    status: str | None = None,
    agent_id: int | None = None,
    conversation_id: str | None = None,
    within: Principal | None = None,
) -> Page[dict[str, Any]]:
    """Sessions of *owner*, newest first: at most *limit*, fewer when their texts are large.

    Args:
        within: Only those in the scope of this principal; None: all.

    Raises:
        Invalid: the cursor is not one of ours.
        DatabaseUnavailable: no connection.
    """
    wanted = Session.owner == owner
    if status is not None:
        wanted &= Session.status == status
    if agent_id is not None:
        wanted &= Session.agent_id == agent_id
    if conversation_id is not None:
        wanted &= Session.conversation_id == conversation_id
    if within is not None:
        wanted &= _in_scope(within)
    if cursor is not None:
        wanted &= Session.id < _CURSOR.decode(cursor)[0]
    size = size_of(Session.user_message, Session.final_response, Session.error_message)
    keys = Session.select(Session.id, size).where(wanted).order_by(Session.id.desc()).limit(limit + 1)
    if within is None or not within.scopes:
        keys = db.by_index(
            keys, Session, _INDEXES[conversation_id is not None, agent_id is not None, status is not None]
        )

    def read() -> Page[dict[str, Any]]:
        found = db.tuples(keys)
        shown, next_cursor = cut([row_id for row_id, _ in found], limit, _CURSOR.encode, [size for _, size in found])
        rest = f"WHERE s.id IN ({db.marks(len(shown))}) ORDER BY s.id DESC"
        return Page(_shown(rest, shown) if shown else [], next_cursor)

    return db.reading(read)


#: What serves a list in order, by whether a conversation, an agent and a status are given.
_INDEXES = {
    (False, False, False): "sessions_owner",
    (False, False, True): "sessions_owner_status",
    (False, True, False): "sessions_owner_agent",
    (False, True, True): "sessions_owner_agent_status",
    # The sessions of a conversation have one agent, but for a few.
    (True, False, False): "sessions_owner_conversation",
    (True, True, False): "sessions_owner_conversation",
    (True, False, True): "sessions_of_conversation",
    (True, True, True): "sessions_of_conversation",
}


def _in_scope(who: Principal) -> Any:
    scope: Any = peewee.SQL("1 = 1")
    for column, allowed in (
        (Session.session_id, who.sessions),
        (Session.conversation_id, who.conversations),
        (Session.agent_id, who.agents),
    ):
        if allowed is not None:
            scope = scope & column.in_(list(allowed))
    return scope


def heads(session_ids: Sequence[str]) -> dict[str, Head]:
    """The heads of these sessions as the database has them, by id; deleted ones are missing.

    Raises:
        DatabaseUnavailable: no connection.
    """
    found: dict[str, Head] = {}
    for start in range(0, len(session_ids), _LOOKED_UP_AT_ONCE):
        some = session_ids[start : start + _LOOKED_UP_AT_ONCE]
        for session_id, owner, seq, status, updated_at, attempt in db.reading(partial(_read_heads, some)):
            moved_at = Session.updated_at.python_value(updated_at).timestamp()
            found[session_id] = Head(session_id, owner, seq, status, moved_at, attempt)
    return found


def _read_heads(session_ids: Sequence[str]) -> list[tuple[Any, ...]]:
    select = (
        "SELECT sessionId, owner, lastSeq, status, updatedAt, attempt FROM chatSessions"
        f" WHERE sessionId IN ({db.marks(len(session_ids))})"
    )
    return list(db.sql(select, session_ids).fetchall())


@dataclass(frozen=True, slots=True)
class Unattended:
    """A running session that no worker holds (any more), or that has taken too long."""

    session_id: str
    owner: str
    attempt: int
    #: Attempts that died (a claim that is still held counts as well).
    failures: int
    #: False: it was never claimed or was handed back.
    orphaned: bool
    overdue: bool

    @property
    def waits_for_first_worker(self) -> bool:
        """No worker has begun it."""
        return not self.attempt and not self.overdue


def unattended(limit: int = 500) -> list[Unattended]:
    """Running sessions that no living worker holds, or past their deadline: orphans first, then by age.

    Those that wait for an earlier session of their conversation are left out, unless they are overdue.
    """
    now = db.now_ms()
    earlier = Session.alias()
    waits_for_earlier = peewee.fn.EXISTS(
        earlier.select(earlier.id).where(
            (earlier.conversation_id == Session.conversation_id)
            & (earlier.owner == Session.owner)
            & (earlier.status == "running")
            & (earlier.id < Session.id)
        )
    )
    overdue = Session.deadline_ms < now
    expired = Session.lease_until_ms < now
    query = (
        Session.select(
            Session.session_id,
            Session.owner,
            Session.attempt,
            Session.attempt - Session.handbacks,
            Session.lease_until_ms.is_null(False),
            peewee.fn.COALESCE(overdue, 0),
        )
        .where(
            (Session.status == "running")
            & (((Session.lease_until_ms.is_null() | expired) & ~waits_for_earlier) | overdue)
        )
        # Behind a long queue orphans would not be seen in time, nor those of others behind one owner's hundreds.
        .order_by(
            Session.lease_until_ms.is_null(),
            peewee.fn.ROW_NUMBER().over(partition_by=[Session.owner], order_by=[Session.id]),
            Session.id,
        )
        .limit(limit)
    )
    return [
        Unattended(session_id, owner, attempt, failures, bool(held), bool(late))
        for session_id, owner, attempt, failures, held, late in db.reading(lambda: db.tuples(query))
    ]


def next_waiting(owner: str, conversation_id: str | None) -> tuple[str, int] | None:
    """The oldest running session of a conversation that nobody has claimed, and its attempt.

    It is what may start once an earlier one has ended.
    """
    if conversation_id is None:
        return None
    mine = (Session.conversation_id == conversation_id) & (Session.owner == owner)
    query = (
        Session.select(Session.session_id, Session.attempt, Session.lease_until_ms)
        .where(mine & (Session.status == "running"))
        .order_by(Session.id)
        .limit(1)
    )
    for session_id, attempt, lease_until_ms in db.reading(lambda: db.tuples(query)):
        return (session_id, attempt) if lease_until_ms is None else None
    return None
