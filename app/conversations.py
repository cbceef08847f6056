"""Conversations and their messages: what is stored on receipt and at the end, and what the model is told.

The conversation's row is the lock of its order: whoever adds a session or ends one locks it first, then sessions
in id order. That one order everywhere is what keeps these transactions from deadlocking.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import peewee

from . import database
from .errors import NotFound
from .models import Conversation, Message, Session, iso, utc_now

_TITLE_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user's message and the complete answer to it."""

    user: str
    assistant: str
    created_at: datetime


def lock_or_create(owner: str, conversation_id: str, agent_id: int, first_message: str) -> Conversation:
    """The conversation, locked until the transaction ends; created when it does not exist.

    Raises:
        NotFound: it belongs to another owner.
    """
    found = _lock(conversation_id)
    if found is None:
        try:
            with database.db.atomic():
                Conversation.insert(
                    conversation_id=conversation_id, owner=owner, agent_id=agent_id, title=title_of(first_message)
                ).execute()
        except peewee.IntegrityError:
            # Another request created it between the look and the insert.
            pass
        found = _lock(conversation_id)
    if found is None or found.owner != owner:
        raise NotFound("no such conversation")
    return found


def _lock(conversation_id: str) -> Conversation | None:
    query = Conversation.select().where(Conversation.conversation_id == conversation_id)
    return database.locked(query).first()  # type: ignore[no-any-return]


def lock_many(conversation_ids: Iterable[str | None]) -> None:
    """Lock these conversations in id order; None is passed over (adopted sessions have no conversation)."""
    wanted = sorted({each for each in conversation_ids if each is not None})
    if wanted and not database.is_sqlite():
        query = Conversation.select(Conversation.id).where(Conversation.conversation_id.in_(wanted))
        list(database.locked(query.order_by(Conversation.id)).tuples())


def title_of(message: str) -> str:
    """The title that a first message gives: its first line, cut at 80 characters."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "")
    return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1].rstrip() + "…"


def add_user_message(conversation_id: str, session_id: str, content: str) -> None:
    """Store what the user said, in the transaction that accepts it."""
    now = utc_now()
    Message.insert(
        conversation_id=conversation_id,
        session_id=session_id,
        role="user",
        content=content,
        metadata={"timestamp": iso(now)},
        created_at=now,
    ).execute()
    _touch(conversation_id, now)


def add_assistant_message(conversation_id: str, session_id: str, content: str, metadata: dict[str, Any]) -> None:
    """Store the answer, whole or partial, in the transaction that ends its session."""
    now = utc_now()
    Message.insert(
        conversation_id=conversation_id,
        session_id=session_id,
        role="assistant",
        content=content,
        metadata=metadata | {"timestamp": iso(now)},
        created_at=now,
    ).execute()
    _touch(conversation_id, now)


def _touch(conversation_id: str, now: datetime) -> None:
    Conversation.update(updated_at=now).where(Conversation.conversation_id == conversation_id).execute()


def exchanges(conversation_id: str | None, before_id: int, limit: int = 200) -> list[Exchange]:
    """The newest complete exchanges before session row *before_id*, oldest first.

    Failed and cancelled turns are left out, and all before the context was cleared.
    """
    if conversation_id is None:
        return []
    cleared = Conversation.select(Conversation.context_after).where(Conversation.conversation_id == conversation_id)
    query = (
        Session.select(Session.user_message, Session.final_response, Session.created_at)
        .where(
            (Session.conversation_id == conversation_id)
            & (Session.status == "done")
            & (Session.id < before_id)
            & (Session.id > cleared)
        )
        .order_by(Session.id.desc())
        .limit(limit)
    )
    newest_first = database.tuples(query)
    return [Exchange(user, answer or "", created_at) for user, answer, created_at in reversed(newest_first)]


def search(conversation_id: str | None, text: str, limit: int) -> list[Message]:
    """Messages of one conversation that contain *text* (any case), newest first."""
    if conversation_id is None or not text.strip():
        return []
    query = (
        Message.select()
        .where((Message.conversation_id == conversation_id) & Message.content.contains(text.strip()))
        .order_by(Message.id.desc())
        .limit(limit)
    )
    return database.reading(lambda: list(query))
