"""Exchanges: a user's message and the complete answer to it. The model sees a conversation as exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app import db
from app.db.models import Conversation, Session

_READ_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user's message and the complete answer to it."""

    user: str
    assistant: str
    created_at: datetime


def newest_first(owner: str, conversation_id: str | None, before_id: int) -> Iterator[Exchange]:
    """The complete exchanges before session row *before_id*, newest first, read as they are taken.

    Failed and cancelled turns are left out, and all before the context was cleared.
    """
    columns = (Session.id, Session.user_message, Session.final_response, Session.created_at)
    while conversation_id is not None:
        query = Session.select(*columns).where(_complete(owner, conversation_id, before_id)).order_by(Session.id.desc())
        rows = db.tuples(query.limit(_READ_AT_ONCE))
        for _, user, answer, created_at in rows:
            yield Exchange(user, answer or "", created_at)
        if len(rows) < _READ_AT_ONCE:
            return
        before_id = rows[-1][0]


def count(owner: str, conversation_id: str | None, before_id: int) -> int:
    """How many exchanges `newest_first` gives."""
    if conversation_id is None:
        return 0
    return int(Session.select().where(_complete(owner, conversation_id, before_id)).count())


def _complete(owner: str, conversation_id: str, before_id: int) -> Any:
    mine = (Conversation.conversation_id == conversation_id) & (Conversation.owner == owner)
    cleared = Conversation.select(Conversation.context_after).where(mine)
    return (
        (Session.conversation_id == conversation_id)
        & (Session.owner == owner)
        & (Session.status == "done")
        & (Session.id > cleared)
        & (Session.id < before_id)
    )
