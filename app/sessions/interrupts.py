"""Interrupts: a message that ends what its conversation has running before it.

A few it ends in its own transaction. Where there are more it commits its own session and one mark on the conversation:
what stands before the mark is claimed by nobody, and ends in chunks afterwards, since hundreds in one transaction would
keep their locks, and those of the counts, for many seconds.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

import peewee

from app import db
from app.conversations import threads
from app.db.models import Conversation, Session
from app.errors import BackchatError, DatabaseUnavailable, NotFound
from app.events import Error

from . import lifecycle
from .lifecycle import Ended

logger = logging.getLogger(__name__)

#: Ends in one transaction.
CHUNK = 10
#: How long whoever interrupts goes on with it; the sweeper does the rest.
_WHILE_S = 1.0
_TRY_AGAIN_S = 0.02
_ERROR = Error("cancelled", "interrupted by the next message")


class EndRefused(Exception):
    """A session can't be ended together with others."""


def end_few(conversation: Conversation) -> list[Ended] | None:
    """In the transaction of the message that interrupts: end what runs in its locked conversation.

    What was said then stands before that message. None: it is too much, or others have locked some; a mark is needed.

    Raises:
        EndRefused: one of them can't be ended so; the transaction must be undone.
    """
    running = _of(conversation) & (Session.status == "running")
    found = db.tuples(Session.select(Session.id).where(running).limit(CHUNK + 1))
    rows = _unlocked(running) if len(found) <= CHUNK else []
    if len(rows) != len(found):
        return None
    try:
        return [lifecycle.end_locked(row, conversation, _ERROR) for row in rows]
    except (BackchatError, peewee.OperationalError, peewee.InternalError):
        raise
    except Exception as error:
        raise EndRefused from error


def _of(conversation: Conversation) -> Any:
    return (Session.conversation_id == conversation.conversation_id) & (Session.owner == conversation.owner)


def _unlocked(wanted: Any) -> list[Session]:
    """The first of these rows that nobody else has locked; they are locked from now on."""
    return list(db.locked(Session.select().where(wanted).order_by(Session.id).limit(CHUNK), wait=False))


def end_for_a_while(owner: str, conversation_id: str, while_s: float = _WHILE_S) -> tuple[Ended, ...]:
    """End what was interrupted in a conversation; never raises: the sweeper goes on where this ends."""
    deadline = time.monotonic() + while_s
    ended: list[Ended] = []
    try:
        while True:
            began = time.monotonic()
            some, left = _end_some(owner, conversation_id)
            ended += some
            if not left or time.monotonic() > deadline:
                break
            # Others get as much time. Where nothing ended somebody has locked what is left: a flush, mostly.
            time.sleep(max(time.monotonic() - began, _TRY_AGAIN_S))
    except NotFound:
        pass  # deleted meanwhile
    except DatabaseUnavailable:
        logger.warning("interrupted sessions are ended later", extra={"sessions": len(ended)})
    return tuple(ended)


def pending(limit: int = 50) -> list[tuple[str, str]]:
    """Owner and id of conversations with sessions that were interrupted and still run.

    Raises:
        DatabaseUnavailable: no connection.
    """
    query = (
        "SELECT DISTINCT c.owner, c.conversationId FROM chatSessions AS s JOIN chatConversations AS c"
        " ON c.conversationId = s.conversationId AND c.owner = s.owner"
        " WHERE s.status = 'running' AND s.id < c.interruptedBefore LIMIT ?"
    )
    return [(owner, found) for owner, found in db.reading(lambda: db.sql(query, [limit]).fetchall())]


def _end_some(owner: str, conversation_id: str) -> tuple[list[Ended], bool]:
    """End a chunk; returns what it ended, and whether there is more."""
    found: list[str] = []
    try:
        return db.transaction(partial(_end_chunk, owner, conversation_id, found))
    except BackchatError:
        raise
    except Exception:
        # One of them may be at fault: each by itself, with as much as the database takes.
        logger.exception("interrupted sessions are ended one by one", extra={"sessions": len(found)})
    return [lifecycle.end(session_id, _ERROR) for session_id in found], True


def _end_chunk(owner: str, conversation_id: str, found: list[str]) -> tuple[list[Ended], bool]:
    conversation = threads.lock(owner, conversation_id)
    marked = _of(conversation) & (Session.status == "running") & (Session.id < conversation.interrupted_before)
    rows = _unlocked(marked)
    found[:] = [row.session_id for row in rows]
    ended = [lifecycle.end_locked(row, conversation, _ERROR) for row in rows]
    return ended, Session.select().where(marked).exists()
