"""Interrupts: a message that ends what its conversation has running before it.

It commits its own session and one mark on the conversation. What stands before the mark is claimed by nobody, and ends
in chunks afterwards: hundreds in one transaction would keep their locks, and those of the counts, for many seconds.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from app import db
from app.conversations import threads
from app.db.models import Session
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
    mine = (Session.conversation_id == conversation_id) & (Session.owner == owner) & (Session.status == "running")
    marked = mine & (Session.id < conversation.interrupted_before)
    rows = list(db.locked(Session.select().where(marked).order_by(Session.id).limit(CHUNK), wait=False))
    found[:] = [row.session_id for row in rows]
    ended = [lifecycle.end_locked(row, conversation, _ERROR) for row in rows]
    return ended, Session.select().where(marked).exists()
