"""Make and end sessions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import peewee

from app import accounts, db
from app.access import erasures
from app.accounts import Charge
from app.conversations import messages, threads
from app.conversations.messages import NewMessage
from app.db.ids import new_id
from app.db.models import Conversation, Session
from app.db.statements import insert_one
from app.db.times import utc_now
from app.errors import BackchatError, Busy, IdempotencyConflict
from app.events import Error, Terminal, log

from . import observed, options, outcomes, spending
from .locking import lock_with_conversation, patiently
from .options import Options
from .outcomes import Outcome

logger = logging.getLogger(__name__)

OnBusy = Literal["enqueue", "reject", "interrupt"]
IDEMPOTENCY_KEPT = timedelta(hours=24)
#: How long an end waits for a row that somebody else has locked.
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a caller asks for."""

    owner: str
    message: str
    agent_id: int
    model: str
    conversation_id: str | None = None
    on_busy: OnBusy = "enqueue"
    idempotency_key: str | None = None
    #: SHA-256 of the request; two requests with one key must agree on it.
    request_hash: str | None = None
    #: As the request named itself, for logs and traces.
    request_id: str | None = None
    traceparent: str | None = None
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Created:
    session_id: str
    conversation_id: str
    #: False: the idempotency key had been used before, this is that session.
    new: bool
    #: Sessions that `interrupt` ended.
    interrupted: tuple[Ended, ...] = ()


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


def create(new: NewSession) -> Created:
    """Commit a session and its user message, or find the one that this idempotency key made.

    Raises:
        Busy: `on_busy` is `reject` and the conversation has a running session; `extra["sessionId"]` names it.
        IdempotencyConflict: the key was used with another request.
        OwnerErased: everything of this owner is being erased.
        DatabaseUnavailable: nothing is known to be written.
    """
    for _ in range(3):
        try:
            return db.transaction(lambda: _create(new))
        except peewee.IntegrityError:
            # The same idempotency key, committed by another request since we looked: look again.
            if new.idempotency_key is None:
                raise
    raise IdempotencyConflict("this key is in use by many requests at once")


def _create(new: NewSession) -> Created:
    erasures.refuse_during(new.owner)
    earlier = _by_idempotency_key(new)
    if earlier is not None:
        return earlier
    conversation_id = new.conversation_id or new_id()
    interrupted: list[Ended] = []
    if new.conversation_id is None:
        conversation = threads.begin(new.owner, conversation_id, new.agent_id, new.message)
    else:
        conversation = threads.lock_or_create(new.owner, conversation_id, new.agent_id, new.message)
        # A request with the same key may have committed while this one waited for the lock: look before `on_busy`.
        earlier = _by_idempotency_key(new)
        if earlier is not None:
            return earlier
    if new.conversation_id is not None and new.on_busy != "enqueue":
        for running in _running_in(new.owner, conversation_id):
            if new.on_busy == "reject":
                raise Busy("the conversation has a running session", sessionId=running.session_id)
            interrupted.append(_end(running, conversation, Error("cancelled", "interrupted by the next message")))
    session_id = new_id()
    insert_one(
        Session,
        session_id=session_id,
        conversation_id=conversation_id,
        owner=new.owner,
        agent_id=new.agent_id,
        model=new.model,
        user_message=new.message,
        request_id=new.request_id,
        traceparent=new.traceparent,
        idempotency_key=new.idempotency_key,
        request_hash=new.request_hash,
    )
    options.add(session_id, new.options)
    messages.add([NewMessage(conversation, session_id, "user", new.message, {})])
    threads.store([conversation])
    db.after_commit(observed.accepted)
    return Created(session_id, conversation_id, new=True, interrupted=tuple(interrupted))


def _by_idempotency_key(new: NewSession) -> Created | None:
    if new.idempotency_key is None:
        return None
    same_key = (Session.owner == new.owner) & (Session.idempotency_key == new.idempotency_key)
    found = Session.select().where(same_key).first()
    if found is None:
        return None
    if found.created_at < utc_now() - IDEMPOTENCY_KEPT:
        Session.update(idempotency_key=None).where(Session.id == found.id).execute()
        return None
    if found.request_hash != new.request_hash:
        raise IdempotencyConflict("this Idempotency-Key was used with another body")
    return Created(found.session_id, found.conversation_id, new=False)


def _running_in(owner: str, conversation_id: str) -> list[Session]:
    mine = (Session.conversation_id == conversation_id) & (Session.owner == owner)
    return list(db.locked(Session.select().where(mine & (Session.status == "running")).order_by(Session.id)))


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
        return _end(row, conversation if message else None, error, text=text)

    # Twice with message and history: what was in the way may be over.
    for message in (True, True, False):
        try:
            return patiently(partial(work, message=message, text=True), deadline)
        except BackchatError:
            raise
        except Exception:
            logger.exception("message or history of a session rejected", extra={"session_id": session_id})
    return patiently(partial(work, message=False, text=False), deadline)


def _end(row: Session, conversation: Conversation | None, error: Error, *, text: bool = True) -> Ended:
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
