"""Whose turn it is: of the sessions that wait, those of owners of whom the fewest run begin first.

A ring says only that something waits; whether the session that it names may begin is decided here, by what the database
says. An owner with hundreds of sessions delays only their own: the first session of another owner begins next.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from app import db
from app.access.principal import LOCAL_OWNER

# In an index, without the rows.
_BY_OWNER = (
    "SELECT owner, SUM(leaseUntilMs IS NOT NULL), SUM(leaseUntilMs IS NULL), MIN(id),"
    " (SELECT a.maxRunning FROM chatAccounts AS a WHERE a.owner = s.owner)"
    " FROM chatSessions AS s WHERE status = 'running' GROUP BY owner"
)
# In the same statement, so that none of them counts as running and as beginning.
_BEGINNING = (
    " UNION ALL SELECT owner, NULL, COUNT(*), NULL, NULL FROM chatSessions"
    " WHERE sessionId IN ({}) AND status = 'running' AND leaseUntilMs IS NULL GROUP BY owner"
)
# The condition on the conversation is that of a claim.
_OLDEST = (
    "SELECT sessionId FROM chatSessions AS s WHERE owner = ? AND status = 'running' AND leaseUntilMs IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM chatSessions AS e WHERE e.conversationId = s.conversationId"
    " AND e.owner = s.owner AND e.status = 'running' AND e.id < s.id) ORDER BY id LIMIT ?"
)


@dataclass(slots=True)
class Waiting:
    """What one owner has."""

    owner: str
    running: int
    #: Sessions that nobody holds; some may wait for an earlier one of their conversation.
    waiting: int
    oldest_id: int
    #: How many may run at once; 0: any number.
    most: int

    @property
    def places(self) -> int:
        """How many of those that wait may begin."""
        return min(self.waiting, max(0, self.most - self.running)) if self.most else self.waiting


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the rings for some sessions."""

    #: They may begin: by their ids, whose they are; None: nobody's that is known.
    begin: dict[str, str | None]
    #: It is not their turn: ring for them again when something has ended.
    later: dict[str, str]
    #: Whose turn it is instead.
    first: list[str]


def by_owner(running_per_owner: int, beginning: Sequence[str] = ()) -> list[Waiting]:
    """What each owner has that runs and waits.

    Args:
        beginning: Sessions that may begin already; those that are not claimed yet count as running.
        running_per_owner: How many may run at once, for owners who have no limit of their own; 0: any number.

    Raises:
        DatabaseUnavailable: no connection.
    """
    query = _BY_OWNER + (_BEGINNING.format(db.marks(len(beginning))) if beginning else "")
    rows = db.reading(lambda: db.sql(query, beginning).fetchall())
    begin = {owner: int(count) for owner, running, count, _, _ in rows if running is None}
    return [
        Waiting(
            owner,
            int(running) + begin.get(owner, 0),
            int(waiting) - begin.get(owner, 0),
            oldest_id,
            _most(owner, own, running_per_owner),
        )
        for owner, running, waiting, oldest_id, own in rows
        if running is not None
    ]


def _most(owner: str, own: int | None, running_per_owner: int) -> int:
    if own is not None:
        return own
    return 0 if owner == LOCAL_OWNER else running_per_owner


def judge(asked: Sequence[str], places: int, beginning: Sequence[str], *, running_per_owner: int) -> Judgement:
    """Whether it is the turn of these sessions.

    Those that a worker had begun before have their turn.

    Args:
        places: How many sessions can begin now; what is rung for next gets those that are left.
        beginning: Those that this worker lets begin already.

    Raises:
        DatabaseUnavailable: no connection.
    """
    look = (
        f"SELECT sessionId, owner FROM chatSessions WHERE sessionId IN ({db.marks(len(asked))})"
        " AND status = 'running' AND attempt = 0"
    )
    fresh = dict(db.reading(lambda: db.sql(look, asked).fetchall()))
    begin: dict[str, str | None] = {each: None for each in asked if each not in fresh}
    if not fresh:
        return Judgement(begin, {}, [])
    there = {each.owner: each for each in by_owner(running_per_owner, beginning)}
    shares = _shares([each for each in there.values() if each.places > 0], max(places, len(fresh)))
    later: dict[str, str] = {}
    for session_id in (each for each in asked if each in fresh):
        owner = fresh[session_id]
        if shares.get(owner):
            shares[owner] -= 1
            begin[session_id] = owner
        else:
            later[session_id] = owner
    first: list[str] = []
    for owner in sorted(shares, key=lambda owner: there[owner].running):
        if len(first) < len(later) and shares[owner]:
            first += _oldest(owner, min(shares[owner], len(later) - len(first)))
    return Judgement(begin, later, first)


def _shares(there: list[Waiting], places: int) -> dict[str, int]:
    """How many of *places* each owner gets: always one more for whom the fewest run, then for whom waits longest."""
    heap = [(each.running, each.oldest_id, each.owner, each.places) for each in there]
    heapq.heapify(heap)
    shares: dict[str, int] = {}
    while heap and places:
        running, oldest_id, owner, left = heapq.heappop(heap)
        shares[owner] = shares.get(owner, 0) + 1
        places -= 1
        if left > 1:
            heapq.heappush(heap, (running + 1, oldest_id, owner, left - 1))
    return shares


def _oldest(owner: str, count: int) -> list[str]:
    rows = db.reading(lambda: db.sql(_OLDEST, [owner, count]).fetchall())
    return [session_id for (session_id,) in rows]
