"""Messages: what the user said and the assistant answered. Add them, list them, find them, delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from app import db
from app.db.cursors import Cursor
from app.db.models import Conversation, Message, Session
from app.db.paging import Page, cut, size_of
from app.db.statements import Insert, Row
from app.db.times import iso
from app.errors import Invalid, NotFound
from app.events import parts

from . import search as message_search
from . import threads
from .search import Text

Order = Literal["asc", "desc"]
_CURSOR = Cursor("m", 1)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """What the user said, or the assistant."""

    #: Locked.
    conversation: Conversation
    session_id: str
    role: Literal["user", "assistant"]
    content: str
    #: `timestamp` is added.
    metadata: dict[str, Any]
    #: As `app.events.parts` stores them; None: it has none.
    parts: list[dict[str, Any]] | None = None
    #: When it was said; None: now.
    at: datetime | None = None


def add(new: Sequence[NewMessage]) -> None:
    """Store and index messages, in the transaction that accepts or ends their sessions; `threads.store` follows."""
    ids = _insert.with_ids([_row(message) for message in new])
    # Of one that begins here the title is found as well.
    titles = [Text(each.conversation, each.conversation.title) for each in new if threads.begins(each.conversation)]
    contents = [
        Text(message.conversation, message.content, message.session_id, message_id)
        for message, message_id in zip(new, ids, strict=True)
    ]
    message_search.add(titles + contents)


def _row(message: NewMessage) -> Row:
    conversation = message.conversation
    now = conversation.updated_at = message.at or threads.now_in(conversation)
    conversation.message_count += 1
    metadata = Message.metadata.db_value(message.metadata | {"timestamp": iso(now)})
    at = Message.created_at.db_value(now)
    return (
        conversation.owner,
        conversation.conversation_id,
        message.session_id,
        message.role,
        message.content,
        metadata,
        Message.parts.db_value(message.parts),
        at,
    )


_insert = Insert(
    Message.owner, Message.conversation_id, Message.session_id, Message.role, Message.content, Message.metadata,
    Message.parts, Message.created_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MessagePage(Page[dict[str, Any]]):
    """Some messages of one conversation."""

    conversation_id: str | None
    #: Messages on all pages.
    total: int
    #: Of one session: the request that it came with.
    request_id: str | None = None


def to_json(message: Message) -> dict[str, Any]:
    """A message as the API shows it."""
    return {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "sessionId": message.session_id,
        "metadata": message.metadata,
        "parts": parts.shown(message.parts, message.content),
        "createdAt": iso(message.created_at),
    }


def of_conversation(
    owner: str,
    conversation_id: str,
    *,
    limit: int = 50,
    cursor: str | None = None,
    offset: int | None = None,
    order: Order = "asc",
) -> MessagePage:
    """Messages of a conversation in the order in which they were stored, or in reverse.

    At most *limit*, fewer when they are large: page by *offset* with the number of messages received.

    Raises:
        NotFound: no such conversation for this owner.
        Invalid: the cursor is not one of ours, or came together with an offset.
        DatabaseUnavailable: no connection.
    """
    mine = (Conversation.conversation_id == conversation_id) & (Conversation.owner == owner)
    counted = Conversation.select(Conversation.message_count).where(mine)

    def read() -> MessagePage:
        found = db.tuples(counted)
        if not found:
            raise NotFound("no such conversation")
        of_it = (Message.conversation_id == conversation_id) & (Message.owner == owner)
        return _page(conversation_id, of_it, found[0][0], limit, position, order)

    position = _position(cursor, offset)
    return db.reading(read)


def of_session(
    owner: str,
    session_id: str,
    *,
    limit: int = 50,
    cursor: str | None = None,
    offset: int | None = None,
    order: Order = "asc",
) -> MessagePage:
    """Messages of one session: what the user said and, once it has ended, the answer.

    Raises:
        NotFound: no such session for this owner.
        Invalid: the cursor is not one of ours, or came together with an offset.
        DatabaseUnavailable: no connection.
    """
    mine = (Session.session_id == session_id) & (Session.owner == owner)
    of_session = Session.select(Session.conversation_id, Session.request_id).where(mine)

    def read() -> MessagePage:
        found = db.tuples(of_session)
        if not found:
            raise NotFound("no such session")
        of_it = Message.session_id == session_id
        total = Message.select().where(of_it).count()
        ((conversation_id, request_id),) = found
        return replace(_page(conversation_id, of_it, total, limit, position, order), request_id=request_id)

    position = _position(cursor, offset)
    return db.reading(read)


@dataclass(frozen=True, slots=True)
class _Position:
    beyond_id: int | None
    offset: int


def _position(cursor: str | None, offset: int | None) -> _Position:
    if cursor is not None and offset is not None:
        raise Invalid("send cursor or offset, not both", parameter="offset")
    return _Position(None if cursor is None else _CURSOR.decode(cursor)[0], offset or 0)


def _page(
    conversation_id: str | None, wanted: Any, total: int, limit: int, position: _Position, order: Order
) -> MessagePage:
    if position.beyond_id is not None:
        wanted &= Message.id > position.beyond_id if order == "asc" else Message.id < position.beyond_id
    by_id = Message.id.asc() if order == "asc" else Message.id.desc()
    size = size_of(Message.content, Message.metadata, Message.parts)
    keys = Message.select(Message.id, size).where(wanted).order_by(by_id)
    found = db.tuples(keys.limit(limit + 1).offset(position.offset))
    sizes = [size for _, size in found]
    shown, next_cursor = cut([row_id for row_id, _ in found], limit, _CURSOR.encode, sizes)
    rows = Message.select().where(Message.id.in_(shown)).order_by(by_id) if shown else ()
    return MessagePage([to_json(row) for row in rows], next_cursor, conversation_id, total)


def containing(owner: str, conversation_id: str | None, text: str, limit: int) -> list[Message]:
    """Messages of one conversation that contain *text* (any case), newest first."""
    if conversation_id is None or not text.strip():
        return []
    mine = (Message.conversation_id == conversation_id) & (Message.owner == owner)
    query = (
        Message.select().where(mine & Message.content.contains(text.strip())).order_by(Message.id.desc()).limit(limit)
    )
    return db.reading(lambda: list(query))
