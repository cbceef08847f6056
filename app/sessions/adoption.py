"""Adopt the sessions of the first deployment, which knew no conversations: each gets one, with what was said in it.

What the deployment had stored stays as it is. From then on its sessions are on the page, in search and in `…/messages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from app import db
from app.access import is_owner
from app.conversations import messages, search, threads
from app.conversations.messages import NewMessage
from app.conversations.search import Text
from app.db.ids import new_id
from app.db.models import Conversation, Session
from app.db.statements import Insert
from app.db.times import to_ms
from app.errors import Invalid
from app.events import parts, steps
from app.events.steps import Steps

from .outcomes import provider_of

#: Their texts may have 64 KiB each, and are stored and indexed once more.
_AT_ONCE = 50


def adopt(owner: str) -> int:
    """Give *owner* the sessions that have no conversation; returns how many.

    In pieces, while others serve; when it was interrupted, call it again.

    Raises:
        Invalid: nobody can have this name.
        DatabaseUnavailable: no connection.
    """
    if not is_owner(owner):
        raise Invalid("ADOPT_OWNER must have 1 to 64 printable characters")
    query = Session.select(Session.id).where(Session.conversation_id.is_null() & (Session.status != "running"))
    row_ids = [row_id for (row_id,) in db.reading(lambda: db.tuples(query.order_by(Session.id)))]
    pieces = [row_ids[start : start + _AT_ONCE] for start in range(0, len(row_ids), _AT_ONCE)]
    return sum(db.transaction(partial(_adopt, owner, piece)) for piece in pieces)


def _adopt(owner: str, row_ids: Sequence[int]) -> int:
    # Another process may have been faster.
    still = Session.id.in_(row_ids) & Session.conversation_id.is_null()
    rows = list(db.locked(Session.select().where(still).order_by(Session.id)))
    if not rows:
        return 0
    by_session = steps.read({row.session_id: row.last_seq for row in rows})
    adopted = {row.id: _conversation(owner, row) for row in rows}
    search.add([Text(conversation, conversation.title) for conversation in adopted.values()])
    messages.add([message for row in rows for message in _said(row, adopted[row.id], by_session[row.session_id])])
    _insert(_values(conversation) for conversation in adopted.values())
    ids, parameters = db.by_id({row_id: conversation.conversation_id for row_id, conversation in adopted.items()})
    db.sql(
        f"UPDATE chatSessions SET conversationId = {ids}, owner = ?, sessionNumber = 1"
        f" WHERE id IN ({db.marks(len(adopted))})",
        [*parameters, owner, *adopted],
    )
    return len(rows)


def _conversation(owner: str, row: Session) -> Conversation:
    title = threads.title_of(row.user_message) or threads.title_of(_answer(row))
    return Conversation(
        conversation_id=new_id(to_ms(row.created_at)),
        owner=owner,
        agent_id=row.agent_id,
        title=title,
        created_at=row.created_at,
        updated_at=row.created_at,
    )


_COLUMNS: tuple[Any, ...] = (
    Conversation.conversation_id, Conversation.owner, Conversation.agent_id, Conversation.title,
    Conversation.message_count, Conversation.created_at, Conversation.updated_at,
)  # fmt: skip
_insert = Insert(*_COLUMNS)


def _values(conversation: Conversation) -> tuple[Any, ...]:
    return tuple(field.db_value(getattr(conversation, field.name)) for field in _COLUMNS)


def _answer(row: Session) -> str:
    """What was answered, or why nothing was."""
    return row.final_response or row.error_message or row.error_code or ""


def _said(row: Session, conversation: Conversation, of_session: Steps) -> list[NewMessage]:
    metadata = {
        "status": row.status,
        "model": row.model,
        "provider": provider_of(row.model),
        "attempt": row.attempt,
        # Of what kinds they were nobody knows.
        "tokenUsage": None,
        "toolCalls": of_session.summary,
    }
    if row.status == "error":
        metadata |= {"errorCode": row.error_code, "errorMessage": row.error_message}
    in_order = parts.stored(row.session_id, of_session, row.final_response or "")
    return [
        NewMessage(conversation, row.session_id, "user", row.user_message, {}, at=row.created_at),
        NewMessage(
            conversation,
            row.session_id,
            "assistant",
            _answer(row),
            metadata,
            in_order,
            at=row.ended_at or row.updated_at,
        ),
    ]
