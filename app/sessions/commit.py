"""Group commit: what one flush of the event writer stores, for all sessions of its process, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from app import db
from app.conversations import threads
from app.db.models import Session
from app.db.statements import Row, Select
from app.db.times import utc_now
from app.events import Done, Error, Event, OpenRequest, Terminal, Usage, log

from . import lifecycle, observed, spending
from .claims import Claim
from .lifecycle import End


@dataclass(frozen=True, slots=True)
class Batch:
    """What one flush writes of one session."""

    claim: Claim
    #: The session's newest seq as the writer knows it.
    after: int
    events: Sequence[Event]
    #: Checkpoint (JSON text) and how many of *events* it covers.
    checkpoint: tuple[str, int] | None = None
    #: An earlier try ended without an answer: it may have been committed.
    retried: bool = False
    #: What the session has used until now and the request that it has open, if either has changed.
    used: tuple[Usage, OpenRequest | None] | None = None

    @property
    def terminal(self) -> Terminal | None:
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Done | Error) else None


@dataclass(frozen=True, slots=True)
class Committed:
    """The outcome of one batch."""

    #: False: nothing of the batch was written; the attempt is no longer current, unless it is `held_up`.
    current: bool
    last_seq: int = 0
    status: str = "running"
    #: Somebody else has locked its row: try again.
    held_up: bool = False


def commit(batches: Sequence[Batch]) -> list[Committed]:
    """Number and store the events of *batches*, their checkpoints and ends; outcomes in the order given.

    One batch per session. A batch whose attempt is no longer current writes nothing; the others are not affected.
    Nobody waits for a row that somebody else has locked: its batch is `held_up`.
    A batch that says `retried` and finds itself committed already is not written again.

    Raises:
        DatabaseUnavailable: all of it or nothing was committed; call again with `retried` set.
    """
    return db.transaction(lambda: _commit(batches)) if batches else []


def _commit(batches: Sequence[Batch]) -> list[Committed]:
    ending = {batch.claim.conversation for batch in batches if batch.terminal is not None}
    locked = threads.lock_many(ending, wait=False)
    rows = _lock_rows([batch.claim.row_id for batch in batches])
    held_up = _held_up(batches, rows, {each for each in ending - locked.keys() if threads.exists(each)})
    outcomes: list[Committed] = []
    new_events: list[Row] = []
    appended: list[tuple[Batch, int]] = []
    for batch in batches:
        row = rows.get(batch.claim.row_id)
        if batch.claim.row_id in held_up:
            outcomes.append(Committed(current=False, last_seq=batch.after, held_up=True))
            continue
        outcome = _outcome(row, batch)
        outcomes.append(outcome)
        if row is None or not outcome.current or row.last_seq == outcome.last_seq != batch.after:
            if row is not None and outcome.current and batch.terminal is not None:
                # Committed, but the answer was lost, and with it the line in the log.
                db.after_commit(partial(observed.ended, row, batch.terminal, batch.claim.attempt))
            continue
        new_events += log.rows(row.session_id, batch.claim.attempt, batch.after, batch.events)
        appended.append((batch, outcome.last_seq))
    log.insert(new_events)
    _advance(appended)
    ends = [
        End(row, locked.get(batch.claim.conversation), batch.terminal, batch.claim.attempt, last_seq)
        for batch, last_seq in appended
        if batch.terminal is not None and (row := rows[batch.claim.row_id])
    ]
    lifecycle.finish(ends)
    return outcomes


def _lock_rows(row_ids: list[int]) -> dict[int, Session]:
    rest = f" WHERE id IN ({db.marks(len(row_ids))}) ORDER BY id{db.for_update(wait=False)}"
    return {row.id: row for row in _select(rest, row_ids)}


def _held_up(batches: Sequence[Batch], rows: dict[int, Session], conversations: set[threads.Key]) -> set[int]:
    """Row ids of batches whose row, or whose conversation if they end, is locked by somebody else."""
    missing = [batch.claim.row_id for batch in batches if batch.claim.row_id not in rows]
    found = db.tuples(Session.select(Session.id).where(Session.id.in_(missing))) if missing else []
    waiting = {
        batch.claim.row_id
        for batch in batches
        if batch.terminal is not None and batch.claim.conversation in conversations
    }
    return waiting | {row_id for (row_id,) in found}


_select = Select(
    Session.id, Session.session_id, Session.conversation_id, Session.agent_id, Session.session_number, Session.status,
    Session.attempt, Session.last_seq, Session.model, Session.created_at, Session.started_at, Session.request_id,
    Session.account_id,
)  # fmt: skip


def _outcome(row: Session | None, batch: Batch) -> Committed:
    if row is None or row.attempt != batch.claim.attempt:
        return Committed(current=False)
    last_seq = batch.after + len(batch.events)
    status = batch.terminal.type if batch.terminal is not None else "running"
    if row.status == "running" and row.last_seq == batch.after:
        return Committed(current=True, last_seq=last_seq, status=status)
    # The connection broke during COMMIT: only this attempt can have moved the row to exactly this seq.
    done_already = batch.retried and row.last_seq == last_seq and row.status == status
    return Committed(current=done_already, last_seq=last_seq, status=status)


def _advance(appended: Sequence[tuple[Batch, int]]) -> None:
    now = utc_now()
    plain: dict[int, int] = {}
    for batch, last_seq in appended:
        if batch.terminal is not None:
            continue
        if batch.used is not None:
            usage, request = batch.used
            text = None if request is None else replace(request, after=batch.after).to_text()
            spending.store(batch.claim.row_id, usage, text)
        if batch.checkpoint is None:
            plain[batch.claim.row_id] = last_seq
            continue
        state, covered = batch.checkpoint
        Session.update(last_seq=last_seq, checkpoint=state, checkpoint_seq=batch.after + covered, updated_at=now).where(
            Session.id == batch.claim.row_id
        ).execute()
    if plain:
        # One statement for hundreds of sessions: a round trip each would be most of the flush.
        moved, values = db.by_id(plain)
        db.sql(
            f"UPDATE chatSessions SET lastSeq = {moved}, updatedAt = ? WHERE id IN ({db.marks(len(plain))})",
            [*values, Session.updated_at.db_value(now), *plain],
        )
