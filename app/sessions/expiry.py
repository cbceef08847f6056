"""Expiry: conversations that have not been used for long are deleted with all that they have, but for their debits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import peewee

from app import db
from app.conversations import threads
from app.db.models import Conversation, Session
from app.errors import NotFound
from app.settings import Settings

from . import removal

#: An ephemeral conversation is kept for so long after it was used last.
EPHEMERAL = timedelta(days=1)
_LONGEST_DAYS = 36_500


def delete_some(settings: Settings, rows: int, now: datetime) -> int:
    """Delete a piece of one conversation that is due, about *rows* rows; 0: none is due.

    What runs or waits keeps its conversation. Runs inside the caller's transaction.
    """
    for due in _due(settings, now):
        query = Conversation.select(Conversation.owner, Conversation.conversation_id).where(due & ~_runs())
        for owner, conversation_id in db.tuples(query.order_by(Conversation.updated_at).limit(1)):
            return _delete(owner, conversation_id, due, rows)
    return 0


def _due(settings: Settings, now: datetime) -> Iterator[Any]:
    yield (Conversation.ephemeral == 1) & (Conversation.updated_at < now - EPHEMERAL)
    if settings.conversation_retention_days:
        before = now - timedelta(days=min(settings.conversation_retention_days, _LONGEST_DAYS))
        yield (Conversation.ephemeral == 0) & (Conversation.updated_at < before)


def _runs() -> Any:
    mine = (Session.conversation_id == Conversation.conversation_id) & (Session.owner == Conversation.owner)
    return peewee.fn.EXISTS(Session.select(Session.id).where(mine & (Session.status == "running")))


def _delete(owner: str, conversation_id: str, due: Any, rows: int) -> int:
    try:
        conversation = threads.lock(owner, conversation_id)
    except NotFound:
        return 1
    if not Conversation.select().where((Conversation.id == conversation.id) & due & ~_runs()).exists():
        # Used since.
        return 1
    return removal.delete_piece(conversation, rows) + 1
