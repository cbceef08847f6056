"""Make sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

import peewee

from app import db
from app.access import erasures
from app.conversations import messages, threads
from app.conversations.messages import NewMessage
from app.db.ids import new_id
from app.db.models import Conversation, Session
from app.db.statements import insert_one
from app.db.times import utc_now
from app.errors import Busy, IdempotencyConflict

from . import admission, interrupts, observed, options
from .admission import Limits
from .lifecycle import Ended
from .options import Options

OnBusy = Literal["enqueue", "reject", "interrupt"]
IDEMPOTENCY_KEPT = timedelta(hours=24)


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
    limits: Limits = field(default_factory=Limits)
    #: A conversation that begins is deleted a day after it was used last.
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    session_id: str
    conversation_id: str
    #: False: the idempotency key had been used before, this is that session.
    new: bool
    #: Sessions that `interrupt` has ended by now; the sweeper ends the rest.
    interrupted: tuple[Ended, ...] = ()
    #: There is a rest.
    marked: bool = False


def create(new: NewSession) -> Created:
    """Commit a session and its user message, or find the one that this idempotency key made.

    Raises:
        BalanceExhausted, TooManySessions, ConversationFull, QueueFull: see `admission.admit`.
        Busy: `on_busy` is `reject` and the conversation has a running session; `extra["sessionId"]` names it.
        IdempotencyConflict: the key was used with another request.
        OwnerErased: everything of this owner is being erased.
        DatabaseUnavailable: nothing is known to be written.
    """
    for _ in range(3):
        try:
            created = _created(new)
            if created.marked:
                return replace(created, interrupted=interrupts.end_for_a_while(new.owner, created.conversation_id))
            return created
        except peewee.IntegrityError:
            # The same idempotency key, committed by another request since we looked: look again.
            if new.idempotency_key is None:
                raise
    raise IdempotencyConflict("this key is in use by many requests at once")


def _created(new: NewSession) -> Created:
    try:
        return db.transaction(lambda: _create(new))
    except interrupts.EndRefused:
        return db.transaction(lambda: _create(new, only_marks=True))


def _create(new: NewSession, *, only_marks: bool = False) -> Created:
    erasures.refuse_during(new.owner)
    earlier = _by_idempotency_key(new)
    if earlier is not None:
        return earlier
    conversation_id = new.conversation_id or new_id()
    begins = new.owner, conversation_id, new.agent_id, new.message
    if new.conversation_id is None:
        conversation = threads.begin(*begins, ephemeral=new.ephemeral)
    else:
        conversation = threads.lock_or_create(*begins, ephemeral=new.ephemeral)
        # A request with the same key may have committed while this one waited for the lock: look before `on_busy`.
        earlier = _by_idempotency_key(new)
        if earlier is not None:
            return earlier
    if new.on_busy == "reject" and (running := _first_running(conversation)) is not None:
        raise Busy("the conversation has a running session", sessionId=running)
    # An interrupt ends what is in the conversation.
    admission.admit(new.owner, None if new.on_busy == "interrupt" else new.conversation_id, new.limits)
    interrupted: list[Ended] | None = []
    if new.on_busy == "interrupt" and new.conversation_id is not None:
        interrupted = None if only_marks else interrupts.end_few(conversation)
    session_id = new_id()
    row_id = insert_one(
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
    if interrupted is None:
        conversation.interrupted_before = row_id
    messages.add([NewMessage(conversation, session_id, "user", new.message, {})])
    threads.store([conversation])
    db.after_commit(observed.accepted)
    return Created(
        session_id, conversation_id, new=True, interrupted=tuple(interrupted or ()), marked=interrupted is None
    )


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


def _first_running(conversation: Conversation) -> str | None:
    """The oldest session of a locked conversation that runs and was not interrupted."""
    mine = (Session.conversation_id == conversation.conversation_id) & (Session.owner == conversation.owner)
    running = mine & (Session.status == "running") & (Session.id >= conversation.interrupted_before)
    found = db.tuples(Session.select(Session.session_id).where(running).order_by(Session.id).limit(1))
    return found[0][0] if found else None
