"""Heartbeats: each worker has one row that moves while it lives, and that says of a dead one what it died of.

Another worker, or the parent that reaped its process, marks a worker as dead. A marked worker never beats again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import peewee

from app import db, notes

from .models import Worker

#: How long a heartbeat tries again before the next one takes its place.
_PATIENCE_S = 1.0

DIED = "worker died"
FROZEN = "worker frozen"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The row of one worker."""

    name: str
    beat: int
    #: What it died of; None: nobody has found it dead.
    cause: str | None


def register(name: str) -> None:
    """Make the row of this worker.

    Raises:
        DatabaseUnavailable: no connection.
    """

    def work() -> None:
        try:
            with db.database.atomic():
                Worker.insert(name=name).execute()
        except peewee.IntegrityError:
            # Committed by a try whose answer was lost.
            pass

    db.transaction(work)


def beat(name: str) -> tuple[bool, list[Heartbeat]]:
    """Move the row of this worker. Returns whether it still counts as alive, and the rows of all workers.

    Raises:
        DatabaseUnavailable: no connection, or somebody has locked the row or the table.
    """

    def work() -> tuple[bool, list[Heartbeat]]:
        mine = (Worker.name == name) & Worker.cause.is_null()
        alive = Worker.update(beat=Worker.beat + 1).where(mine).execute() == 1
        rows = db.tuples(Worker.select(Worker.name, Worker.beat, Worker.cause))
        return alive, [Heartbeat(*row) for row in rows]

    return db.transaction(work, patience_s=_PATIENCE_S)


def leave(name: str) -> None:
    """Take the row of this worker away: it has stopped, and what it still holds is free for others.

    Raises:
        DatabaseUnavailable: no connection.
    """
    # A dead one's is still needed by whoever takes over.
    db.transaction(lambda: Worker.delete().where((Worker.name == name) & Worker.cause.is_null()).execute())


def mark_dead(name: str, cause: str, *, beat: int | None = None, suspects: Iterable[int] | None = None) -> bool:
    """Say that a worker is dead; False: it is marked already, is gone, or has moved.

    Args:
        beat: Only if its heartbeat stands here.
        suspects: Rows of the sessions whose own code ran when it died; None: nobody knows.

    Raises:
        DatabaseUnavailable: no connection.
    """
    mine = (Worker.name == name) & Worker.cause.is_null()
    if beat is not None:
        mine &= Worker.beat == beat
    known = None if suspects is None else sorted(suspects)

    def work() -> bool:
        # A worker that is frozen within its own heartbeat holds the lock of its row: nobody else waits for it.
        if not db.tuples(db.locked(Worker.select(Worker.name).where(mine), wait=False)):
            return False
        return bool(Worker.update(cause=cause, suspects=known).where(mine).execute() == 1)

    return db.transaction(work)


def mark_reaped() -> list[str]:
    """Mark those workers as dead that were processes of this machine and have ended without a word.

    Raises:
        DatabaseUnavailable: no connection.
    """
    query = Worker.select(Worker.name).where(Worker.cause.is_null())
    return [name for (name,) in db.reading(lambda: db.tuples(query)) if mark_if_ended(name)]


def mark_if_ended(name: str) -> bool:
    """Mark a worker as dead if its process was one of this machine and has ended.

    Raises:
        DatabaseUnavailable: no connection.
    """
    left = notes.left_by(name)
    if left is None:
        return False
    marked = mark_dead(name, left.cause or DIED, suspects=left.suspects)
    notes.forget(name)
    return marked
