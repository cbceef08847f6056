"""What operators ask of sessions, whoever owns them: who holds what, and how one of them went."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from app import db
from app.db.models import Event, Session, Worker
from app.db.times import iso, utc_now
from app.errors import Invalid, NotFound

from . import claims
from .claims import Held

_SHOWN = (
    Session.session_id, Session.conversation_id, Session.owner, Session.agent_id, Session.model, Session.status,
    Session.error_code, Session.error_message, Session.provider_said, Session.request_id, Session.worker, Session.cause,
    Session.attempt, Session.handbacks, Session.last_seq, Session.total_tokens, Session.created_at, Session.started_at,
    Session.updated_at, Session.ended_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker as the database knows it, and the sessions that it holds."""

    name: str
    #: Why it was judged dead; None: it lives, as far as anybody knows.
    cause: str | None
    sessions: list[str]


def workers() -> list[Holder]:
    """Every worker, by name; one that holds sessions and is not registered has the cause `unknown`.

    Raises:
        DatabaseUnavailable: no connection.
    """

    def read() -> tuple[list[tuple[str, str | None]], list[tuple[str, str]]]:
        held = (Session.status == "running") & (Session.lease_until_ms >= claims.HELD)
        query = Session.select(Session.worker, Session.session_id).where(held).order_by(Session.id)
        return db.tuples(Worker.select(Worker.name, Worker.cause)), db.tuples(query)

    registered, held = db.reading(read)
    sessions: dict[str, list[str]] = defaultdict(list)
    for worker, session_id in held:
        sessions[worker or ""].append(session_id)
    causes: dict[str, str | None] = dict.fromkeys(sessions, "unknown")
    causes.update(registered)
    return [Holder(name, causes[name], sessions[name]) for name in sorted(causes)]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, and what it left among the events."""

    attempt: int
    #: Who claimed it, and when; None: a process that did not write it down.
    worker: str | None
    claimed_at: str | None
    began_at: str | None
    last_event_at: str | None
    events: int
    #: Why the attempt before it ended.
    cause: str | None


def look(session_id: str) -> dict[str, Any]:
    """One session with its state and attempts, by the names of its columns.

    Raises:
        NotFound: there is none.
        DatabaseUnavailable: no connection.
    """

    def read() -> tuple[Session | None, list[Any]]:
        wanted = Session.session_id == session_id
        row = Session.select(*_SHOWN, Session.lease_until_ms, Session.workers).where(wanted).first()
        attempts = db.sql(
            "SELECT attempt, MIN(createdAt), MAX(createdAt), COUNT(*), MAX(cause) FROM chatEvents WHERE sessionId = ?"
            " GROUP BY attempt",
            [session_id],
        ).fetchall()
        return row, attempts

    row, found = db.reading(read)
    if row is None:
        raise NotFound("no such session")
    shown = {field.column_name: getattr(row, field.name) for field in _SHOWN}
    times = {name: iso(value) for name, value in shown.items() if name.endswith("At")}
    attempts = [asdict(each) for each in _attempts(row.workers or "", found)]
    return shown | times | {"state": _state(row.status, row.lease_until_ms), "attempts": attempts}


def _attempts(claims_of_it: str, found: list[Any]) -> list[Attempt]:
    """The attempts by what their claims wrote down (see `Session.workers`) and what is *found* among the events."""
    claimed: dict[int, tuple[str | None, str | None]] = {}
    for line in claims_of_it.splitlines():
        attempt, day, time, name = line.split(" ", 3)
        claimed[int(attempt)] = (name, iso(Session.created_at.python_value(f"{day} {time}")))
    moment = Event.created_at.python_value
    said: dict[int, tuple[str | None, str | None, int, str | None]]
    said = {n: (iso(moment(first)), iso(moment(last)), events, cause) for n, first, last, events, cause in found}
    attempts = []
    for number in sorted(claimed.keys() | said.keys()):
        worker, claimed_at = claimed.get(number, (None, None))
        began_at, last_event_at, events, cause = said.get(number, (None, None, 0, None))
        attempts.append(Attempt(number, worker, claimed_at, began_at, last_event_at, events, cause))
    return attempts


def _state(status: str, lease: int | None) -> str:
    if status != "running":
        return "ended"
    if lease is None:
        return "queued"
    return "orphaned" if lease == claims.ORPHANED else "held"


def free(session_id: str, *, by_force: bool) -> tuple[str, int]:
    """Have some worker look at a session: its id and attempts, to be rung with.

    Args:
        by_force: Also one that a worker holds: what it still says is written until another one has claimed it.

    Raises:
        NotFound: there is none.
        Invalid: it has ended, or a worker holds it.
        DatabaseUnavailable: no connection.
    """
    row = db.reading(lambda: Session.select().where(Session.session_id == session_id).first())
    if row is None:
        raise NotFound("no such session")
    state = _state(row.status, row.lease_until_ms)
    if state == "ended":
        raise Invalid(f"it has ended: {row.error_code or row.status}")
    if state == "held" and not by_force:
        raise Invalid(f"{row.worker} holds it; --force takes it away from there")
    if state == "held" and not claims.hand_back(Held(row.id, row.attempt, row.session_id, row.request_id)):
        raise Invalid("it has just moved; look again")
    return row.session_id, row.attempt


def span_of(session_id: str, attempt: int) -> tuple[datetime, datetime]:
    """When an attempt said its first and its last event; now, if it said none.

    Raises:
        DatabaseUnavailable: no connection.
    """
    query = "SELECT MIN(createdAt), MAX(createdAt) FROM chatEvents WHERE sessionId = ? AND attempt = ?"
    [(first, last)] = db.reading(lambda: db.sql(query, [session_id, attempt]).fetchall())
    moment, now = Event.created_at.python_value, utc_now()
    return moment(first) or now, moment(last) or now
