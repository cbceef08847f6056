"""Take over from a dead worker, so that whoever killed it is found and those beside it lose nothing.

A session whose own code ran when the worker died is a suspect, and resumes alone, in a process of its own; the others
resume in a few groups. If a group dies as well, it is halved. Only a session that died alone, or as the one suspect,
has used up an attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from app import db
from app.db.models import Session, Worker

from . import claims

logger = logging.getLogger(__name__)

#: The sessions of a worker that took them from the queue resume in so many groups, besides the suspects.
GROUPS = 4
#: So many suspects at most are alone; more share so many groups.
MOST_ALONE = 8
STOPPED = "worker stopped"


@dataclass(frozen=True, slots=True)
class Plan:
    """Who resumes with whom, by row id, and whose attempt counts."""

    groups: list[list[int]]
    counted: set[int]


def plan(held: Sequence[int], suspects: Collection[int], *, started_for: int | None) -> Plan:
    """How the sessions that a dead worker *held* resume.

    Args:
        started_for: How many sessions it was started for; None: it took them from the queue; 0: these are what is
            left of an earlier take-over.
    """
    named = [row_id for row_id in held if row_id in suspects]
    others = [row_id for row_id in held if row_id not in suspects]
    alone = list(held) if len(held) == 1 and started_for != 0 else []
    parts = 2 if started_for else GROUPS
    return Plan([*_split(named, MOST_ALONE), *_split(others, parts)], set(alone or (named if len(named) == 1 else ())))


def _split(row_ids: list[int], parts: int) -> list[list[int]]:
    """*row_ids* in so many parts that differ by one at most; none is empty."""
    parts = min(parts, len(row_ids))
    return [row_ids[n::parts] for n in range(parts)]


def take_over(worker: str, *, max_attempts: int, new_name: Callable[[], str] | None) -> list[str]:
    """Free what a dead worker holds for those who go on with it, or some of it: what nobody else has locked.

    Args:
        max_attempts: A session that has used them up is left to the sweeper.
        new_name: Names the worker of a group; None: there are no groups here, anybody may claim.

    Returns:
        Workers to be started: each has sessions that are reserved for it, and is dead to all if it never starts.

    Raises:
        DatabaseUnavailable: no connection.
    """
    return db.transaction(lambda: _take_over(worker, max_attempts, new_name))


def _take_over(worker: str, max_attempts: int, new_name: Callable[[], str] | None) -> list[str]:
    dead = db.locked(Worker.select().where((Worker.name == worker) & Worker.cause.is_null(False)), wait=False).first()
    if dead is None:
        # Somebody else is at it, or was.
        return []
    found = db.tuples(
        Session.select(Session.id, Session.lease_until_ms, Session.attempt - Session.handbacks)
        .where(_held & (Session.worker == worker))
        .order_by(Session.id)
    )
    free = claims.lock_free([row_id for row_id, _, _ in found])
    # Again under the lock: some have ended meanwhile.
    still = {row_id for (row_id,) in db.tuples(Session.select(Session.id).where(_held & Session.id.in_(free)))}
    held = [each for each in found if each[0] in still]
    planned = plan([row_id for row_id, _, _ in held], dead.suspects or (), started_for=dead.sessions)
    tried = {row_id for row_id, lease, _ in held if lease == claims.HELD}
    counted = planned.counted & tried
    worn_out = {row_id for row_id, _, failures in held if row_id in counted and failures >= max_attempts}
    names: list[str] = []
    for group in planned.groups:
        going_on = [row_id for row_id in group if row_id not in worn_out]
        if going_on and new_name is not None:
            names.append(new_name())
            Worker.insert(name=names[-1], sessions=len(going_on)).execute()
            _free(going_on, counted, tried, dead.cause, lease_until_ms=claims.RESERVED, worker=names[-1])
        elif going_on:
            _free(going_on, counted, tried, dead.cause, lease_until_ms=claims.ORPHANED)
    _free(sorted(worn_out), counted, tried, dead.cause, lease_until_ms=claims.ORPHANED)
    if len(held) == len(found):
        Worker.delete().where(Worker.name == worker).execute()
    else:
        Worker.update(sessions=0).where(Worker.name == worker).execute()
    logger.warning(
        "taken over from a dead worker",
        extra={"worker": worker, "cause": dead.cause, "sessions": len(held), "suspects": len(planned.counted)},
    )
    return names


_held = (Session.status == "running") & Session.lease_until_ms.in_([claims.HELD, claims.RESERVED])


def _free(row_ids: Sequence[int], counted: set[int], tried: set[int], cause: str, **columns: object) -> None:
    for innocent in (True, False):
        some = [row_id for row_id in row_ids if (row_id in tried and row_id not in counted) is innocent]
        if some:
            handbacks = Session.handbacks + int(innocent)
            Session.update(columns | {"handbacks": handbacks, "cause": cause}).where(Session.id.in_(some)).execute()


def free_abandoned() -> int:
    """Free what is held by workers that are gone: they stopped while the database was away. Nobody's attempt counts.

    Raises:
        DatabaseUnavailable: no connection.
    """

    def look() -> list[int]:
        # The sessions first: a worker that registers between the two looks holds none of them.
        held = db.tuples(Session.select(Session.id, Session.worker).where(_held))
        known = {name for (name,) in db.tuples(Worker.select(Worker.name))}
        return [row_id for row_id, worker in held if worker not in known]

    def free(row_ids: list[int]) -> int:
        free = claims.lock_free(row_ids)
        still = db.tuples(
            Session.select(Session.id, Session.worker, Session.lease_until_ms).where(_held & Session.id.in_(free))
        )
        known = {name for (name,) in db.tuples(Worker.select(Worker.name))}
        lost = [(row_id, lease) for row_id, worker, lease in still if worker not in known]
        _free(
            [row_id for row_id, _ in lost],
            set(),
            {row_id for row_id, lease in lost if lease == claims.HELD},
            STOPPED,
            lease_until_ms=claims.ORPHANED,
        )
        return len(lost)

    row_ids = db.reading(look)
    return db.transaction(lambda: free(row_ids)) if row_ids else 0
