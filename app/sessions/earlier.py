"""Where a session goes that follows exactly another one: what its conversation is, and what was said before it."""

from __future__ import annotations

from dataclasses import dataclass

from app import db
from app.conversations import exchanges
from app.db.models import Session, SessionOptions
from app.errors import NotFound

from . import options
from .options import Said


@dataclass(frozen=True, slots=True)
class Place:
    """What `sessions.create` needs of it."""

    #: None: a conversation of its own.
    conversation_id: str | None
    #: What was said before; None: the conversation's own history says it.
    messages: tuple[Said, ...] | None


def after(owner: str, session_id: str) -> Place:
    """The place right behind this session: in its conversation if it is the last there, else in a new one.

    Raises:
        NotFound: no such session for this owner.
        DatabaseUnavailable: no connection.
    """

    def look() -> Place:
        mine = (Session.session_id == session_id) & (Session.owner == owner)
        row = Session.select().where(mine).first()
        if row is None:
            raise NotFound("no such session")
        there = (Session.conversation_id == row.conversation_id) & (Session.owner == owner)
        is_last = row.conversation_id is not None and not Session.select().where(there & (Session.id > row.id)).exists()
        brought = SessionOptions.messages.is_null(False) & SessionOptions.session_id.in_(
            Session.select(Session.session_id).where(there & (Session.id <= row.id))
        )
        if is_last and not SessionOptions.select().where(brought).exists():
            return Place(row.conversation_id, None)
        return Place(row.conversation_id if is_last else None, (*_before(row), *_exchange(row)))

    return db.reading(look)


def _before(row: Session) -> list[Said]:
    """What the model was told before the message of this session."""
    own = options.of(row.session_id).messages
    if own is not None:
        return list(own)
    said: list[Said] = []
    for each in exchanges.newest_first(row.owner, row.conversation_id, row.id):
        said[:0] = [Said("user", each.user), Said("assistant", each.assistant)]
    return said


def _exchange(row: Session) -> list[Said]:
    """What this session adds; a turn that did not come to its end is no exchange."""
    if row.status != "done":
        return []
    return [Said("user", row.user_message), Said("assistant", row.final_response or "")]
