"""Lock a session to end or delete it. Who can't have it at once tries again outside the transaction, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from app import db
from app.conversations import threads
from app.db.models import Conversation, Session
from app.errors import DatabaseBusy, NotFound

T = TypeVar("T")

_TRY_AGAIN_S = 0.05


class _HeldUp(Exception):
    """Somebody else has locked the row."""


def patiently(work: Callable[[], T], deadline: float) -> T:
    """Run *work* in a transaction; again, until the deadline, while somebody else holds what it needs.

    Args:
        deadline: In `time.monotonic`.

    Raises:
        DatabaseBusy: it did not get it; nothing was written.
        DatabaseUnavailable: no connection.
    """
    while True:
        try:
            return db.transaction(work, patience_s=max(0.0, deadline - time.monotonic()))
        except _HeldUp:
            # Not waited for within the database: this transaction's locks would hold up others meanwhile.
            if time.monotonic() >= deadline:
                raise DatabaseBusy("the session is busy; try again in a moment") from None
            time.sleep(_TRY_AGAIN_S)


def lock_with_conversation(
    session_id: str, owner: str | None, *, wait: bool = True
) -> tuple[Session, Conversation | None]:
    """The session and its conversation, locked.

    Raises:
        NotFound: no such session for this owner.
        _HeldUp: without *wait*, somebody else has locked one of them.
    """
    wanted = Session.session_id == session_id
    if owner is not None:
        wanted &= Session.owner == owner
    found = Session.select(Session.owner, Session.conversation_id).where(wanted).first()
    if found is None:
        raise NotFound("no such session")
    key = (found.owner, found.conversation_id)
    conversation = threads.lock_many([key], wait=wait).get(key)
    if conversation is None and threads.exists(key):
        raise _HeldUp
    row = db.locked(Session.select().where(wanted), wait=wait).first()
    if row is None:
        if Session.select().where(wanted).exists():
            raise _HeldUp
        raise NotFound("no such session")
    return row, conversation
