"""Look at conversations: one, the recent ones. Nothing here changes a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee

from app import db
from app.access import Principal
from app.db.cursors import Cursor
from app.db.models import Conversation, Session
from app.db.paging import Page, cut
from app.db.times import from_ms, iso, to_ms
from app.errors import NotFound

_CURSOR = Cursor("c", 2)


def get(owner: str, conversation_id: str) -> dict[str, Any]:
    """One conversation.

    Raises:
        NotFound: no such conversation for this owner.
        DatabaseUnavailable: no connection.
    """
    mine = (Conversation.conversation_id == conversation_id) & (Conversation.owner == owner)

    def read() -> list[dict[str, Any]]:
        return _to_json(list(Conversation.select().where(mine)))

    found = db.reading(read)
    if not found:
        raise NotFound("no such conversation")
    return found[0]


def agent_of(owner: str, conversation_id: str) -> int:
    """The agent that a conversation began with; it never changes.

    Raises:
        NotFound: no such conversation for this owner.
        DatabaseUnavailable: no connection.
    """
    mine = (Conversation.conversation_id == conversation_id) & (Conversation.owner == owner)
    found = db.reading(lambda: db.tuples(Conversation.select(Conversation.agent_id).where(mine)))
    if not found:
        raise NotFound("no such conversation")
    return int(found[0][0])


def list_recent(
    owner: str, *, limit: int = 20, cursor: str | None = None, within: Principal | None = None
) -> Page[dict[str, Any]]:
    """Conversations of *owner*, those with the newest message first.

    One that gets a message while somebody pages moves to the front and is not shown again.

    Args:
        within: Only those in the scope of this principal; None: all.

    Raises:
        Invalid: the cursor is not one of ours.
        DatabaseUnavailable: no connection.
    """
    wanted = Conversation.owner == owner
    if within is not None and within.conversations is not None:
        wanted &= Conversation.conversation_id.in_(list(within.conversations))
    if within is not None and within.agents is not None:
        wanted &= Conversation.agent_id.in_(list(within.agents))
    if cursor is not None:
        milliseconds, row_id = _CURSOR.decode(cursor)
        before = from_ms(milliseconds)
        # A range condition first, so that the index is entered where the page begins.
        wanted &= (Conversation.updated_at <= before) & (
            (Conversation.updated_at < before) | (Conversation.id < row_id)
        )
    newest_first = (Conversation.updated_at.desc(), Conversation.id.desc())

    def read() -> Page[dict[str, Any]]:
        rows = list(Conversation.select().where(wanted).order_by(*newest_first).limit(limit + 1))
        shown, next_cursor = cut(rows, limit, lambda row: _CURSOR.encode(to_ms(row.updated_at), row.id))
        return Page(_to_json(shown), next_cursor)

    return db.reading(read)


def _to_json(rows: Sequence[Conversation]) -> list[dict[str, Any]]:
    # All of one owner.
    running = _running(rows[0].owner, [row.conversation_id for row in rows]) if rows else {}
    return [
        {
            "conversationId": row.conversation_id,
            "title": row.title,
            "agentId": row.agent_id,
            "messageCount": row.message_count,
            "runningSessionId": running.get(row.conversation_id),
            "ephemeral": bool(row.ephemeral),
            "createdAt": iso(row.created_at),
            "updatedAt": iso(row.updated_at),
        }
        for row in rows
    ]


def _running(owner: str, conversation_ids: Sequence[str]) -> dict[str, str]:
    """The session that runs in each of these conversations: the oldest, others wait for it."""
    mine = Session.conversation_id.in_(conversation_ids) & (Session.owner == owner)
    is_running = mine & (Session.status == "running")
    oldest = Session.select(peewee.fn.MIN(Session.id)).where(is_running).group_by(Session.conversation_id)
    row_ids = [row_id for (row_id,) in db.tuples(oldest)]
    if not row_ids:
        return {}
    return dict(db.tuples(Session.select(Session.conversation_id, Session.session_id).where(Session.id << row_ids)))
