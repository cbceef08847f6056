"""Sessions, claims and batches for tests of the core."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from app import db, sessions
from app.db import heartbeats
from app.db.models import Event as EventRow
from app.db.models import Message, Session
from app.events import Event, log
from app.sessions import Created, NewSession, claims, commit
from app.sessions import queries as session_queries
from app.sessions.claims import Claim
from app.sessions.commit import Batch, Committed

T = TypeVar("T")

OWNER = "local"


def make_new(**fields: Any) -> NewSession:
    """What a caller asks for."""
    return NewSession(**({"owner": OWNER, "message": "Hello?", "agent_id": 1, "model": "demo"} | fields))


def make_created(**fields: Any) -> Created:
    return sessions.create(make_new(**fields))


def make_session(**fields: Any) -> str:
    """The id of a new session that waits for a worker."""
    return make_created(**fields).session_id


def make_claim(session_id: str | None = None, *, worker: str = "worker-1", **fields: Any) -> Claim:
    """A claim on this session, or on a new one."""
    limits = {"max_attempts": 3, "turn_timeout_s": 900} | fields
    heartbeats.register(worker)
    taken, _ = claims.take([session_id or make_session()], worker, **limits)  # type: ignore[arg-type]
    assert taken, "there was nothing to claim"
    return taken[0]


def try_claim(session_id: str, **fields: Any) -> Claim | None:
    limits = {"worker": "worker-2", "max_attempts": 3, "turn_timeout_s": 900} | fields
    taken, _ = claims.take([session_id], **limits)  # type: ignore[arg-type]
    return taken[0] if taken else None


def write(claim: Claim, *events: Event, checkpoint: str | None = None, covered: int | None = None) -> Committed:
    """Record *events* of this claim after what its session has, as a flush does; a checkpoint covers them all."""
    state = None if checkpoint is None else (checkpoint, len(events) if covered is None else covered)
    return record(Batch(claim, row(claim.session_id).last_seq, events, state))


def record(batch: Batch) -> Committed:
    [outcome] = commit.commit([batch])
    return outcome


def row(session_id: str) -> Session:
    found = db.reading(lambda: Session.get(Session.session_id == session_id))
    assert isinstance(found, Session)
    return found


def exists(session_id: str) -> bool:
    return bool(db.reading(lambda: Session.select().where(Session.session_id == session_id).exists()))


def change(session_id: str, **columns: Any) -> None:
    """Set columns of a session behind everybody's back."""
    changed = db.transaction(lambda: Session.update(**columns).where(Session.session_id == session_id).execute())
    assert changed == 1


def orphan(session_id: str) -> None:
    """Let the session's worker be dead."""
    change(session_id, lease_until_ms=claims.ORPHANED, cause=heartbeats.DIED)


def events_of(session_id: str, *, owner: str = OWNER) -> list[dict[str, Any]]:
    """All events, read as a client reads them."""
    return log.read(owner, session_id, 0, 100_000).events


def kinds_of(session_id: str) -> list[str]:
    return [event["eventType"] for event in events_of(session_id)]


def seqs_of(session_id: str) -> list[int]:
    """Seqs as they are stored, in their order."""
    query = EventRow.select(EventRow.seq).where(EventRow.session_id == session_id).order_by(EventRow.seq)
    return [seq for (seq,) in db.reading(lambda: db.tuples(query))]


def messages_of(session_id: str) -> list[tuple[str, str]]:
    """Role and content of the session's messages, oldest first."""
    query = Message.select(Message.role, Message.content).where(Message.session_id == session_id).order_by(Message.id)
    return db.reading(lambda: db.tuples(query))  # type: ignore[return-value]


def shown(session_id: str, *, owner: str = OWNER) -> dict[str, Any]:
    """The session as the API shows it."""
    return session_queries.get(owner, session_id)


def assert_sound(session_id: str) -> None:
    """What holds for every session at every time: seqs 1..n, one terminal event at most, and that last."""
    session = row(session_id)
    kinds = [(event["seq"], event["eventType"]) for event in events_of(session_id)]
    terminal = [seq for seq, kind in kinds if kind in ("done", "error")]

    assert [seq for seq, _ in kinds] == list(range(1, session.last_seq + 1))
    assert terminal == ([] if session.status == "running" else [session.last_seq])
    if terminal:
        assert kinds[-1][1] == session.status


def retried(batch: Batch) -> Batch:
    """The same batch, after a try that ended without an answer."""
    return replace(batch, retried=True)


class Statement(str):
    """What the database was asked, with its parameters."""

    parameters: Sequence[Any] = ()


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """What this process asks the database within the block."""
    made = db.database.obj
    asked: list[Statement] = []
    execute = made.execute_sql

    def listen(statement: str, *arguments: Any, **named: Any) -> Any:
        asked.append(Statement(statement))
        if arguments:
            asked[-1].parameters = arguments[0]
        return execute(statement, *arguments, **named)

    made.execute_sql = listen
    try:
        yield asked
    finally:
        del made.execute_sql


def at_once(works: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Call all of *works* on threads of their own, started together; what each returned or raised."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> T | Exception:
        start.wait(30)
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(run, works))


def failures(outcomes: Iterable[object]) -> list[Exception]:
    return [outcome for outcome in outcomes if isinstance(outcome, Exception)]


async def eventually(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Return as soon as *condition*, which may ask the database, is true; for what gives no signal to wait on.

    Raises:
        AssertionError: it did not become true in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not await asyncio.to_thread(condition):
        assert loop.time() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)
