"""End sessions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app import accounts, db
from app.accounts import Charge
from app.db.models import Conversation, Session
from app.db.times import utc_now
from app.errors import BackchatError
from app.events import Error, Terminal, log

from . import observed, outcomes, spending
from .locking import lock_with_conversation, patiently
from .outcomes import Outcome

logger = logging.getLogger(__name__)

#: How long an end waits for a row that somebody else has locked.
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that was ended from outside its run."""

    row_id: int
    session_id: str
    conversation_id: str | None
    owner: str
    status: str
    last_seq: int
    attempt: int
    #: The worker that was running it, if any.
    worker: str | None
    #: False: it had ended before.
    changed: bool


@dataclass(frozen=True, slots=True)
class End:
    """How a running session ends. Its terminal event is stored as event *last_seq* in the same transaction."""

    #: Locked, and checked to be running.
    row: Session
    #: Locked; None: it has none.
    conversation: Conversation | None
    terminal: Terminal
    attempt: int
    last_seq: int


def finish(ends: Sequence[End]) -> None:
    """End these sessions: the rows, the assistant's messages, the history of the agent and the debits."""
    outcomes.store([_finish(end) for end in ends])
    accounts.debit([Charge(end.row.account_id, end.row.session_id, end.terminal.usage) for end in ends])
    for end in ends:
        db.after_commit(partial(observed.ended, end.row, end.terminal, end.attempt))


def _finish(end: End) -> Outcome:
    now = utc_now()
    outcome = outcomes.of(end.row, end.conversation, end.terminal, attempt=end.attempt, last_seq=end.last_seq, now=now)
    Session.update(
        outcome.columns
        | {
            "status": end.terminal.type,
            "last_seq": end.last_seq,
            "lease_until_ms": None,
            "checkpoint": None,
            "open_request": None,
            "updated_at": now,
            "ended_at": now,
        }
    ).where(Session.id == end.row.id).execute()
    return outcome


def end(session_id: str, error: Error, *, owner: str | None = None) -> Ended:
    """End a running session from outside its run, keeping the partial answer; an ended one stays as it is.

    Ends the session even if the database rejects its message or history; what was dropped is logged.

    Args:
        owner: Only a session of this owner; None: of any.

    Raises:
        NotFound: no such session for this owner.
        DatabaseBusy: somebody else has locked it for too long; nothing was written.
        DatabaseUnavailable: no connection.
    """
    return _end_if(session_id, error, owner, still=None)


def end_attempt(session_id: str, attempt: int, error: Error) -> Ended:
    """End a session as `end` does, if *attempt* is its current one."""
    return _end_if(session_id, error, None, still=Session.attempt == attempt)


def end_overdue(session_id: str, attempt: int, error: Error) -> Ended:
    """End a session as `end` does, if *attempt* is its current one and its deadline has passed."""
    late = (Session.attempt == attempt) & (Session.deadline_ms < db.now_ms())
    return _end_if(session_id, error, None, still=late, patience_s=0)


def end_orphaned(session_id: str, attempt: int, error: Error) -> Ended:
    """End a session as `end` does, if *attempt* is its current one and its worker is dead."""
    orphaned = (Session.attempt == attempt) & (Session.lease_until_ms < db.now_ms())
    return _end_if(session_id, error, None, still=orphaned, patience_s=0)


def _end_if(session_id: str, error: Error, owner: str | None, *, still: Any, patience_s: float = PATIENCE_S) -> Ended:
    """End a session if *still* holds under the lock of its row; None: in any case."""
    deadline = time.monotonic() + patience_s

    def work(*, message: bool, text: bool) -> Ended:
        row, conversation = lock_with_conversation(session_id, owner, wait=False)
        if still is not None and not Session.select().where((Session.id == row.id) & still).exists():
            return ended(row, row.last_seq, changed=False)
        return end_locked(row, conversation if message else None, error, text=text)

    # Twice with message and history: what was in the way may be over.
    for message in (True, True, False):
        try:
            return patiently(partial(work, message=message, text=True), deadline)
        except BackchatError:
            raise
        except Exception:
            logger.exception("message or history of a session rejected", extra={"session_id": session_id})
    return patiently(partial(work, message=False, text=False), deadline)


def end_locked(row: Session, conversation: Conversation | None, error: Error, *, text: bool = True) -> Ended:
    """End a locked session; without its *conversation* it leaves no message and no history.

    The partial answer is what *error* says, else what is stored; none without *text*.
    """
    if row.status != "running":
        return ended(row, row.last_seq, changed=False)
    content = error.content if text else ""
    if content is None:
        content = log.answer_text(row.session_id)
    used = spending.of(row)
    error = replace(
        error,
        content=content,
        duration_ms=outcomes.elapsed_ms(row, utc_now()),
        usage=used if used.total_tokens else None,
    )
    log.insert(log.rows(row.session_id, max(row.attempt, 1), row.last_seq, [error]))
    finish([End(row, conversation, error, row.attempt, row.last_seq + 1)])
    return ended(row, row.last_seq + 1, changed=True)


def ended(row: Session, last_seq: int, *, changed: bool) -> Ended:
    return Ended(
        row_id=row.id,
        session_id=row.session_id,
        conversation_id=row.conversation_id,
        owner=row.owner,
        status="error" if changed else row.status,
        last_seq=last_seq,
        attempt=row.attempt,
        worker=row.worker if row.lease_until_ms is not None else None,
        changed=changed,
    )
