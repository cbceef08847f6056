"""What a session has used: what was counted with its checkpoints, and an estimate of a request that is cut off.

A worker that is killed leaves a request open in the row. Whoever takes or ends the session next counts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import peewee

from app import db
from app.accounts import amount_of, ledger
from app.db.models import Event, Session
from app.db.paging import size_of
from app.events import OpenRequest, Usage

#: In the order of `counted`.
FIELDS = (
    Session.input_tokens, Session.output_tokens, Session.cache_read_tokens, Session.cache_write_tokens, Session.cost,
    Session.usage_estimated,
)  # fmt: skip


def counted(*values: int) -> Usage:
    """What the columns `FIELDS` say."""
    *counts, cost, estimated = values
    return Usage.of(counts, cost=cost, estimated=bool(estimated))


def of(row: Session) -> Usage:
    """What a locked session has used if it is stopped now."""
    so_far = counted(*(getattr(row, field.name) for field in FIELDS))
    return so_far if row.open_request is None else so_far + lost(row.session_id, row.open_request)


def lost(session_id: str, open_request: str) -> Usage:
    """An estimate of the request that a session has open; see `OpenRequest.to_text`."""
    request = OpenRequest.from_text(open_request)
    said = (Event.session_id == session_id) & (Event.seq > request.after)
    size = Event.select(peewee.fn.SUM(size_of(Event.content))).where(said & Event.event_type.in_(["delta", "thinking"]))
    [(total,)] = db.tuples(size)
    return request.estimate(int(total or 0))


@dataclass(frozen=True, slots=True)
class Funds:
    """What an account has, and what its owner's running sessions have used of it so far."""

    unit: str
    balance: int
    #: By the id of the row; not yet debited.
    running: dict[int, Usage]

    @property
    def left(self) -> int:
        return self.balance - sum(amount_of(self.unit, used) for used in self.running.values())


# One statement, and so of one moment: a session that ends is either among those that run or in the balance.
_FUNDS = (
    f"SELECT id, {', '.join(field.column_name for field in FIELDS)} FROM chatSessions"
    " WHERE owner = ? AND status = 'running' AND attempt > 0"
    f" UNION ALL SELECT NULL, a.unit = 'money', {ledger.BALANCE}, {ledger.TAIL_ROWS}, 0, 0, 0"
    " FROM chatAccounts AS a WHERE a.id = ?"
)


def funds(account_id: int, owner: str) -> Funds | None:
    """How an account stands; None: there is no such account.

    Raises:
        DatabaseUnavailable: no connection.
    """
    rows = db.reading(lambda: db.sql(_FUNDS, [owner, account_id]).fetchall())
    running = {row_id: counted(*counts) for row_id, *counts in rows if row_id is not None}
    for row_id, is_money, balance, tail, *_ in rows:
        if row_id is None:
            ledger.move_on(account_id, int(tail))
            return Funds("money" if is_money else "tokens", int(balance), running)
    return None


def load(owner: str) -> tuple[int, int]:
    """How many sessions of *owner* run, and how many wait for a worker.

    Raises:
        DatabaseUnavailable: no connection.
    """
    count = (
        "SELECT COUNT(*), COALESCE(SUM(leaseUntilMs IS NOT NULL), 0) FROM chatSessions"
        " WHERE owner = ? AND status = 'running'"
    )
    total, begun = db.reading(lambda: db.sql(count, [owner]).fetchone())
    return int(begun), int(total - begun)


def columns(usage: Usage) -> dict[str, Any]:
    """*usage* as new values of a session's row, by field."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "total_tokens": usage.total_tokens,
        "cost": usage.cost,
        "usage_estimated": int(usage.estimated),
    }


def store(row_id: int, usage: Usage, open_request: str | None) -> None:
    """Store in a locked row what its session has used, and the request that it has open."""
    values = columns(usage)
    names = ", ".join(f"{getattr(Session, name).column_name} = ?" for name in values)
    db.sql(f"UPDATE chatSessions SET {names}, openRequest = ? WHERE id = ?", [*values.values(), open_request, row_id])
