"""Look at the history of an agent: pages both ways, filters, totals, a summary; and delete it.

Rows are in the order of (time, row): a cursor holds both, so that rows of one time never repeat or get lost. Totals of
an agent come from the counts that writers keep, so a first page costs the same however long the history is; totals of
a conversation, a session or a span of time are counted in its index, up to `COUNTED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import peewee

from app import db
from app.db.cursors import Cursor
from app.db.models import AgentCount, AgentEvent
from app.db.paging import Page, cut, size_of
from app.db.times import from_ms, iso, to_ms
from app.errors import NotFound

from . import entries
from .entries import HistoryType

Order = Literal["asc", "desc"]
_CURSOR = Cursor("h", 2)
_DELETED_AT_ONCE = 1000
#: Rows that are counted for a total; of more it is only known that there are more.
COUNTED = 10_000
_LAST_ROW = 2**62


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose rows, and which of them; None: all."""

    owner: str
    agent_id: int
    types: frozenset[HistoryType] | None = None
    #: A session's id, or the number of a context.
    session: str | int | None = None
    conversation_id: str | None = None
    #: Inclusive.
    since: datetime | None = None
    #: Exclusive.
    until: datetime | None = None

    @property
    def of_whole_agent(self) -> bool:
        return self.session is None and self.conversation_id is None

    @property
    def at_any_time(self) -> bool:
        return self.since is None and self.until is None

    def condition(self) -> Any:
        condition = (AgentEvent.owner == self.owner) & (AgentEvent.agent_id == self.agent_id)
        if isinstance(self.session, int):
            condition &= AgentEvent.session_number == self.session
        elif self.session is not None:
            condition &= AgentEvent.session_id == self.session
        if self.conversation_id is not None:
            condition &= AgentEvent.conversation_id == self.conversation_id
        if self.since is not None:
            condition &= AgentEvent.created_at >= _up(self.since)
        if self.until is not None:
            condition &= AgentEvent.created_at < _up(self.until)
        return condition


@dataclass(frozen=True, slots=True)
class Place:
    """Between two rows: what is after it, what is before it."""

    at: datetime
    #: Rows of the time `at` up to this one are before the place.
    row_id: int

    def after(self) -> Any:
        later = (AgentEvent.created_at > self.at) | (AgentEvent.row_id > self.row_id)
        # A range condition first, so that the index is entered where the page begins.
        return (AgentEvent.created_at >= self.at) & later

    def before(self) -> Any:
        earlier = (AgentEvent.created_at < self.at) | (AgentEvent.row_id < self.row_id)
        return (AgentEvent.created_at <= self.at) & earlier


@dataclass(frozen=True, slots=True)
class HistoryPage(Page[dict[str, Any]]):
    """Some rows; `next_cursor` goes on in the same direction."""

    #: Rows that match, on all pages; `COUNTED` and inexact where there are more than are counted.
    total: int
    total_is_exact: bool = True


def before_time(moment: datetime) -> Place:
    """The place for `before` a time, which is itself not before it."""
    return Place(_up(moment), 0)


def after_time(moment: datetime) -> Place:
    """The place for `after` a time, which is itself not after it."""
    return Place(_up(moment), 0) if moment.microsecond % 1000 else Place(moment, _LAST_ROW)


def place_of(cursor: str, parameter: str) -> Place:
    """The place that a cursor stands for.

    Raises:
        Invalid: it is not one of ours.
    """
    milliseconds, row_id = _CURSOR.decode(cursor, parameter)
    return Place(from_ms(milliseconds), row_id)


def _up(moment: datetime) -> datetime:
    """*moment* rounded up to a millisecond, the precision of rows, so that `<` and `>=` compare exactly."""
    missing = -moment.microsecond % 1000
    return moment + timedelta(microseconds=missing) if missing else moment


def page(
    wanted: Wanted,
    *,
    limit: int = 100,
    before: Place | None = None,
    after: Place | None = None,
    offset: int = 0,
    order: Order = "asc",
) -> HistoryPage:
    """Rows next to a place: `after` gives those just after it, `before` those just before; without: from the first
    on, or from the last back when *order* is `desc`. With both, *order* says from which. Shown in *order*.

    Args:
        offset: Rows to pass over; all of them are looked at.

    Raises:
        DatabaseUnavailable: no connection.
    """
    forward = order == "asc" if (before is None) == (after is None) else after is not None

    def read() -> HistoryPage:
        keys = _keys(wanted, offset + limit + 1, before, after, forward)[offset:]
        sizes = _sizes([row_id for _, row_id in keys])
        shown, next_cursor = cut(keys, limit, lambda key: _CURSOR.encode(to_ms(key[0]), key[1]), sizes)
        if forward != (order == "asc"):
            shown.reverse()
        total, is_exact = _total(wanted)
        return HistoryPage(_rows([row_id for _, row_id in shown]), next_cursor, total, is_exact)

    return db.reading(read)


def _keys(
    wanted: Wanted, limit: int, before: Place | None, after: Place | None, forward: bool
) -> list[tuple[datetime, int]]:
    condition = wanted.condition()
    if before is not None:
        condition &= before.before()
    if after is not None:
        condition &= after.after()
    if wanted.types is None:
        conditions = [condition]
    elif wanted.of_whole_agent:
        # The index has each type in order. One query for several types would sort all rows, or scan for rare ones.
        conditions = [condition & (AgentEvent.event_type == kind) for kind in wanted.types]
    else:
        conditions = [condition & AgentEvent.event_type.in_(sorted(wanted.types))]
    columns = (AgentEvent.created_at, AgentEvent.row_id)
    order = columns if forward else tuple(column.desc() for column in columns)
    found: list[tuple[datetime, int]] = []
    for each in conditions:
        query = AgentEvent.select(*columns).where(each).order_by(*order).limit(limit)
        found += [(at, row_id) for at, row_id in db.tuples(query)]
    return sorted(found, reverse=not forward)[:limit]


def _sizes(row_ids: Sequence[int]) -> list[int]:
    if not row_ids:
        return []
    size = size_of(AgentEvent.content, AgentEvent.metadata)
    sizes = dict(db.tuples(AgentEvent.select(AgentEvent.row_id, size).where(AgentEvent.row_id.in_(row_ids))))
    return [sizes.get(row_id, 0) for row_id in row_ids]


def _rows(row_ids: Sequence[int]) -> list[dict[str, Any]]:
    if not row_ids:
        return []
    rows = {row.row_id: row for row in AgentEvent.select().where(AgentEvent.row_id.in_(row_ids))}
    # One that was pruned since its key was read is missing.
    return [to_json(rows[row_id]) for row_id in row_ids if row_id in rows]


def _total(wanted: Wanted) -> tuple[int, bool]:
    """How many rows match, and whether those are all."""
    if wanted.of_whole_agent and wanted.at_any_time:
        mine = (AgentCount.agent_id == wanted.agent_id) & (AgentCount.owner == wanted.owner)
        counted = db.tuples(AgentCount.select(AgentCount.event_type, AgentCount.n).where(mine))
        return int(sum(n for kind, n in counted if wanted.types is None or kind in wanted.types)), True
    condition = wanted.condition()
    if wanted.types is not None:
        condition &= AgentEvent.event_type.in_(sorted(wanted.types))
    found = int(AgentEvent.select(AgentEvent.row_id).where(condition).limit(COUNTED + 1).count())
    return min(found, COUNTED), found <= COUNTED


def to_json(row: AgentEvent) -> dict[str, Any]:
    """A row as the API shows it."""
    return {
        "id": row.id,
        "agentId": row.agent_id,
        "conversationId": row.conversation_id,
        "sessionId": row.session_id,
        "seq": row.seq,
        "sessionNumber": row.session_number,
        "eventType": row.event_type,
        "content": row.content,
        "metadata": row.metadata,
        "createdAt": iso(row.created_at),
    }


def get(owner: str, agent_id: int, event_id: str) -> dict[str, Any]:
    """One row.

    Raises:
        NotFound: no such row of this agent for this owner.
        DatabaseUnavailable: no connection.
    """
    mine = (AgentEvent.id == event_id) & (AgentEvent.agent_id == agent_id) & (AgentEvent.owner == owner)
    # MariaDB refuses to compare what is no ASCII with the column that holds ids.
    row = db.reading(lambda: AgentEvent.select().where(mine).first()) if event_id.isascii() else None
    if row is None:
        raise NotFound("no such event in the history of this agent")
    return to_json(row)


def summary(owner: str, agent_id: int) -> dict[str, Any]:
    """What the history of an agent has, counted by the database.

    Raises:
        DatabaseUnavailable: no connection.
    """
    mine = Wanted(owner, agent_id).condition()
    by_type = AgentEvent.select(AgentEvent.event_type, peewee.fn.COUNT(AgentEvent.row_id)).where(mine)
    span = AgentEvent.select(peewee.fn.MIN(AgentEvent.created_at), peewee.fn.MAX(AgentEvent.created_at)).where(mine)
    numbers = AgentEvent.select(peewee.fn.COUNT(AgentEvent.session_number.distinct())).where(mine)

    def read() -> dict[str, Any]:
        counts: dict[str, int] = dict(db.tuples(by_type.group_by(AgentEvent.event_type)))
        ((first, last),) = db.tuples(span)
        ((session_count,),) = db.tuples(numbers)
        return {
            "agentId": agent_id,
            "totalEvents": sum(counts.values()),
            "eventCounts": {kind: counts.get(kind, 0) for kind in entries.HISTORY_TYPES},
            "sessionCount": session_count,
            "firstEventAt": iso(first),
            "lastEventAt": iso(last),
        }

    return db.reading(read)


def delete(owner: str, agent_id: int) -> int:
    """Delete the history of an agent, in pieces; returns how many rows. Later rows go on with their numbers.

    Raises:
        DatabaseUnavailable: no connection; some of it may be deleted.
    """
    mine = Wanted(owner, agent_id).condition()

    def work() -> int:
        return entries.delete_rows(mine, _DELETED_AT_ONCE)

    deleted = 0
    while some := db.transaction(work):
        deleted += some
    return deleted
