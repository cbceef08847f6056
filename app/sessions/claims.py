"""Claims: a worker holds sessions, one attempt of each, until it lets them go or is dead.

The column `leaseUntilMs` says who may claim a running session. Older processes that run beside these ones still write
a time into it, and take what is in the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from app import db
from app.conversations import threads
from app.db.models import Conversation, Session
from app.db.statements import Row
from app.db.times import utc_now
from app.events import Usage
from app.history import entries

from . import observed, spending

_USED = ", ".join(field.column_name for field in spending.FIELDS)
#: `leaseUntilMs` of a session that a worker holds: a time that never comes, so that older processes leave it alone.
HELD = 9_000_000_000_000_000
#: … of one that only the worker which its row names may claim, and nobody has claimed yet.
RESERVED = HELD + 1
#: … of one whose worker is dead: anybody may claim it.
ORPHANED = 0

HANDED_BACK = "handed back"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a session: what it needs to run it, and the attempt that fences it."""

    row_id: int
    session_id: str
    conversation_id: str | None
    owner: str
    agent_id: int
    model: str | None
    message: str
    attempt: int
    last_seq: int
    checkpoint: str | None
    checkpoint_seq: int
    #: Until the turn has taken too long.
    remaining_s: float
    #: Why the attempt before this one ended; None: it is the first, or nobody knows.
    cause: str | None = None
    #: Its conversation has complete turns before this one.
    has_history: bool = True
    #: Its caller said more than a message.
    has_options: bool = False
    #: By earlier attempts, with an estimate of the request that the last one had open.
    used: Usage = field(default_factory=Usage)
    created_at: datetime | None = None
    #: The worker that held it and was judged dead; None: it was free.
    taken_from: str | None = None
    #: What it is charged to; None: its owner had no account when it was claimed.
    account_id: int | None = None
    #: `X-Request-Id` and `traceparent` of the POST.
    request_id: str | None = None
    traceparent: str | None = None

    @property
    def conversation(self) -> threads.Key:
        return self.owner, self.conversation_id


def take(
    session_ids: Sequence[str],
    worker: str,
    *,
    max_attempts: int,
    turn_timeout_s: int,
    wait: bool = True,
) -> tuple[list[Claim], list[str]]:
    """Take those of these sessions that nobody holds, and those reserved for *worker*, in one transaction.

    A session waits while an earlier one of its conversation is running.

    Args:
        wait: Wait for whoever has locked a conversation. A lock that somebody keeps for seconds would hold up the
            others too and, by their locks, everybody else.

    Returns:
        The claims, and the ids of sessions that were left out because their conversations are locked.

    Raises:
        DatabaseUnavailable: no connection; at worst the worker holds what it does not know of: see `held_by`.
    """
    if not session_ids:
        return [], []
    return db.transaction(lambda: _take(session_ids, worker, max_attempts, turn_timeout_s, wait))


def _take(
    session_ids: Sequence[str], worker: str, max_attempts: int, turn_timeout_s: int, wait: bool
) -> tuple[list[Claim], list[str]]:
    wanted = _next_of_their_conversations(session_ids)
    locked = threads.lock_many((each.conversation for each in wanted.values()), wait=wait)
    held_up: list[str] = []
    if not wait:
        mine = [
            row_id for row_id, each in wanted.items() if each.conversation[1] is None or each.conversation in locked
        ]
        # Rows of locked conversations only: two claimers that each held what the other needs would take nothing.
        unlocked = lock_free(mine)
        held_up = [each.session_id for row_id, each in wanted.items() if row_id not in unlocked]
        wanted = {row_id: each for row_id, each in wanted.items() if row_id in unlocked}
    interrupted = {row_id for row_id, each in wanted.items() if _is_interrupted(row_id, locked.get(each.conversation))}
    wanted = {row_id: each for row_id, each in wanted.items() if row_id not in interrupted}
    if not wanted:
        return [], held_up
    clock = db.now_ms().sql
    guard = (
        f"status = 'running' AND (leaseUntilMs IS NULL OR leaseUntilMs < {clock} OR (leaseUntilMs = {RESERVED}"
        f" AND worker = ?)) AND attempt - handbacks < ? AND id IN ({db.marks(len(wanted))})"
        f" ORDER BY id{db.for_update()}"
    )
    free = (
        "SELECT id, sessionId, conversationId, owner, agentId, model, userMessage, attempt + 1, lastSeq, checkpoint,"
        f" checkpointSeq, COALESCE(deadlineMs - {clock}, ?), cause, createdAt,"
        f" CASE WHEN leaseUntilMs IS NOT NULL THEN COALESCE(worker, '') END, requestId, traceparent,"
        f" openRequest, {_USED} FROM chatSessions{db.only_by('PRIMARY')} WHERE {guard}"
    )
    rows = db.sql(free, [turn_timeout_s * 1000, worker, max_attempts, *wanted]).fetchall()
    claims = [_claim(row, wanted[row[0]]) for row in rows]
    if claims:
        _record_starts(claims, locked)
        # The time of the turns begins here: recording many large messages takes seconds.
        _store(claims, locked, worker, turn_timeout_s)
        _charge({claim.row_id: claim.account_id for claim in claims if claim.account_id is not None})
        db.after_commit(lambda: observed.claimed(claims, worker))
    return claims, held_up


def _claim(row: Row, found: _Next) -> Claim:
    *of_session, remaining_ms, cause, created_at, taken_from, request_id, trace, opened = row[: -len(spending.FIELDS)]
    used = spending.counted(*row[-len(spending.FIELDS) :])
    beside = used, Session.created_at.python_value(created_at), taken_from, found.account_id, request_id, trace
    claim = Claim(*(*of_session, remaining_ms / 1000, cause, found.has_history, found.has_options, *beside))
    if opened is None:
        return claim
    # The attempt before this one was cut off: from now on the row counts that.
    used += spending.lost(claim.session_id, opened)
    spending.store(claim.row_id, used, None)
    return replace(claim, used=used)


def _is_interrupted(row_id: int, conversation: Conversation | None) -> bool:
    """A later message has ended it, but for the writing; see `interrupts`."""
    return conversation is not None and row_id < conversation.interrupted_before


def lock_free(row_ids: list[int]) -> set[int]:
    """Those of these rows that nobody else has locked; they are locked from now on."""
    if not row_ids:
        return set()
    where = f"WHERE id IN ({db.marks(len(row_ids))}) ORDER BY id{db.for_update(wait=False)}"
    found = db.sql(f"SELECT id FROM chatSessions{db.only_by('PRIMARY')} {where}", row_ids)
    return {row_id for (row_id,) in found.fetchall()}


class _Next(NamedTuple):
    """A running session that no earlier one keeps waiting."""

    session_id: str
    conversation: threads.Key
    has_history: bool
    has_options: bool
    account_id: int | None


def _next_of_their_conversations(session_ids: Sequence[str]) -> dict[int, _Next]:
    """Those of these sessions that are next in their conversations, by row id."""
    # Ids of one conversation are given under its lock, so an earlier one can't appear after this look.
    earlier = (
        "SELECT 1 FROM chatSessions AS e WHERE e.conversationId = s.conversationId AND e.owner = s.owner"
        " AND e.id < s.id AND e.status ="
    )
    options = "SELECT 1 FROM chatSessionOptions AS o WHERE o.sessionId = s.sessionId"
    look = (
        f"SELECT id, sessionId, owner, conversationId, EXISTS({earlier} 'done'), EXISTS({options}),"
        " (SELECT a.id FROM chatAccounts AS a WHERE a.owner = s.owner) FROM chatSessions AS s"
        f" WHERE sessionId IN ({db.marks(len(session_ids))}) AND status = 'running'"
        f" AND NOT EXISTS({earlier} 'running')"
    )
    found = db.sql(look, session_ids).fetchall()
    return {
        row_id: _Next(session_id, (owner, conversation_id), bool(has_history), bool(has_options), account_id)
        for row_id, session_id, owner, conversation_id, has_history, has_options, account_id in found
    }


def _store(claims: Sequence[Claim], locked: dict[threads.Key, Conversation], worker: str, turn_timeout_s: int) -> None:
    now, clock = Session.started_at.db_value(utc_now()), db.now_ms().sql
    numbers = {
        claim.row_id: locked[claim.conversation].session_number for claim in claims if claim.conversation in locked
    }
    number, number_values = db.by_id(numbers)
    db.sql(
        # `workers` first: one server counts with the attempt that it has just raised, the other with the one before.
        "UPDATE chatSessions SET workers = COALESCE(workers, '') || CAST(attempt + 1 AS CHAR) || ?,"
        f" attempt = attempt + 1, worker = ?, leaseUntilMs = {HELD}, cause = NULL,"
        f" deadlineMs = COALESCE(deadlineMs, {clock} + ?), startedAt = COALESCE(startedAt, ?), updatedAt = ?,"
        f" sessionNumber = COALESCE(sessionNumber, {number}) WHERE id IN ({db.marks(len(claims))})",
        [
            f" {now} {worker}\n", worker, turn_timeout_s * 1000, now, now, *number_values,
            *(claim.row_id for claim in claims),
        ],
    )  # fmt: skip


def _charge(account_ids: dict[int, int]) -> None:
    """Say which accounts these sessions, by row id, are charged to."""
    if account_ids:
        account, values = db.by_id(account_ids)
        where = f"WHERE id IN ({db.marks(len(account_ids))})"
        db.sql(f"UPDATE chatSessions SET accountId = {account} {where}", [*values, *account_ids])


def _record_starts(claims: Sequence[Claim], locked: dict[threads.Key, Conversation]) -> None:
    """Store the start of sessions in the history of their agents; only a first claim is one."""
    rows: list[Row] = []
    changed: list[Conversation] = []
    for claim in claims:
        conversation = locked.get(claim.conversation)
        if conversation is None or claim.attempt > 1:
            continue
        now = conversation.updated_at = threads.now_in(conversation)
        started = entries.of_start(claim.message, claim.model)
        rows += entries.number(conversation, started, now, agent_id=claim.agent_id, session_id=claim.session_id)
        changed.append(conversation)
    entries.insert(rows)
    threads.store(changed)


class Held(NamedTuple):
    """What the database says that a worker holds."""

    row_id: int
    attempt: int
    session_id: str
    request_id: str | None


def held_by(worker: str) -> set[Held]:
    """What this worker holds; also a claim of which it never heard, as its connection broke in the commit.

    Raises:
        DatabaseUnavailable: no connection.
    """
    mine = (Session.status == "running") & (Session.lease_until_ms == HELD) & (Session.worker == worker)
    found = Session.select(Session.id, Session.attempt, Session.session_id, Session.request_id).where(mine)
    return {Held(*row) for row in db.reading(lambda: db.tuples(found))}


def reserved_for(worker: str) -> list[str]:
    """The sessions that only this worker may claim.

    Raises:
        DatabaseUnavailable: no connection.
    """
    mine = (Session.status == "running") & (Session.lease_until_ms == RESERVED) & (Session.worker == worker)
    found = Session.select(Session.session_id).where(mine).order_by(Session.id)
    return [session_id for (session_id,) in db.reading(lambda: db.tuples(found))]


def hand_back(claim: Claim | Held) -> bool:
    """Free a session for another worker without counting the attempt; False: it was not ours any more."""
    # Not one that was orphaned meanwhile: it may be reserved for somebody.
    held = (Session.id == claim.row_id) & (Session.attempt == claim.attempt) & (Session.lease_until_ms == HELD)

    def update() -> int:
        freed = Session.update(
            lease_until_ms=None, handbacks=Session.handbacks + 1, cause=HANDED_BACK, updated_at=utc_now()
        )
        return int(freed.where(held & (Session.status == "running")).execute())

    freed = db.transaction(update) == 1
    if freed:
        observed.handed_back(claim)
    return freed
