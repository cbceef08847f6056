"""Retention: delete what is older or more than the settings keep, oldest first.

setting                 deletes                                   keeps
RETENTION_DAYS          rows of agents' history, by age           those of running sessions
MAX_EVENTS_PER_AGENT    rows of one agent's history above it      those of running sessions
FORGET_REMOVED_AGENTS   the history of agents not configured      those of running sessions
EVENT_RETENTION_DAYS    the events of sessions that ended before  their rows and messages; a poll answers 410
CONVERSATION_RETENTION_ conversations not used since, whole; by   debits; what runs or waits
DAYS                    default none, ephemeral ones after a day

The events of sessions that were adopted from the first deployment stay.
Each transaction deletes few rows, by their ids, and a pause follows that is several times as long as it took: writers
never wait for more than one of them, and a busy machine is given time. Agents that are no longer configured are pruned
as well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from app import db
from app.db import leases
from app.db.models import AgentCount, AgentEvent, Event, Session
from app.db.times import FIRST_MOMENT, utc_now
from app.observability.metrics import EVENTS_PRUNED
from app.settings import Settings

from . import entries

logger = logging.getLogger(__name__)

#: One process prunes at a time; when it dies another may go on after so many seconds.
LEASE_S = 60.0
#: Rows of one transaction: begins with the first, grows and shrinks so that each takes about `_AIM_S`.
_FEWEST, _FIRST, _MOST = 50, 200, 2000
_AIM_S = 0.015
#: Of the time that passes, one part in this many is spent on deleting.
_SHARE = 5
_SHORTEST_PAUSE_S = 0.01
#: Sessions whose events are deleted together.
_SESSIONS_AT_ONCE = 50
#: `eventsPrunedAt` while the events are being deleted: should this process die, the next one goes on.
_UNDER_WAY = FIRST_MOMENT
_LONGEST_DAYS = 36_500


class _Stopped(Exception):
    """The process stops, or another one has the lease."""


class Pruner:
    """Call `prune` at the start and then from time to time, from one thread.

    Args:
        holder: This process, as the holder of the lease.
        repairs: Each is called before pruning with a number of rows, mends up to so many that an older process has
            written, and returns how many; until that is 0.
        agents: Those that are configured: the history of others is deleted. None: it is kept like theirs.
        expire: Deletes a piece of what is not kept any longer, about so many rows, by the time that it is given; how
            many, 0: nothing is due.
        now: The time by which rows are old.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        holder: str,
        settings: Settings,
        *,
        repairs: Sequence[Callable[[int], int]] = (),
        agents: Collection[int] | None = None,
        expire: Callable[[Settings, int, datetime], int] = lambda settings, rows, now: 0,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holder = holder
        self._settings = settings
        self._repairs = repairs
        self._agents = agents
        self._expire = expire
        self._now = now
        self._clock = clock
        self._stop = threading.Event()
        self._leased_at = float("-inf")
        self._rows = _FIRST

    def stop(self) -> None:
        """Have `prune` return after the transaction it is in."""
        self._stop.set()

    def prune(self) -> bool:
        """Delete what is due. False: another process does, or this one was stopped; look again later.

        Raises:
            DatabaseUnavailable: no connection; what was deleted until then stays deleted.
        """
        try:
            self._keep_lease()
            self._repair()
            self._of_removed_agents()
            self._by_age()
            self._by_number()
            self._events()
            self._conversations()
        except _Stopped:
            return False
        return True

    def _repair(self) -> None:
        for repair in self._repairs:
            while self._transaction(partial(repair, self._rows)):
                continue

    def _keep_lease(self) -> None:
        if self._stop.is_set():
            raise _Stopped
        if self._clock() - self._leased_at > LEASE_S / 4:
            if not leases.take("retention", self._holder, LEASE_S):
                raise _Stopped
            self._leased_at = self._clock()

    def _transaction(self, work: Callable[[], int]) -> int:
        """Run *work*, then leave the database to others."""
        self._keep_lease()
        started = self._clock()
        done = db.transaction(work)
        took = self._clock() - started
        if took > 2 * _AIM_S:
            self._rows = max(_FEWEST, self._rows // 2)
        elif took < _AIM_S / 2:
            self._rows = min(_MOST, self._rows * 2)
        self._stop.wait(max(took * (_SHARE - 1), _SHORTEST_PAUSE_S))
        return done

    def _cutoff(self, days: int) -> datetime:
        return self._now() - timedelta(days=min(days, _LONGEST_DAYS))

    def _by_age(self) -> None:
        cutoff = self._cutoff(self._settings.retention_days)
        self._history(AgentEvent.row_id > 0, "retention_days", lambda at: at < cutoff)

    def _of_removed_agents(self) -> None:
        if self._agents is None:
            return
        for (agent_id,) in _read(AgentCount.select(AgentCount.agent_id).distinct().order_by(AgentCount.agent_id)):
            if agent_id not in self._agents:
                self._history(AgentEvent.agent_id == agent_id, "forget_removed_agents", lambda _: True)

    def _by_number(self) -> None:
        most = self._settings.max_events_per_agent
        for (agent_id,) in _read(AgentCount.select(AgentCount.agent_id).distinct().order_by(AgentCount.agent_id)):
            above = db.reading(partial(entries.total_of_agent, agent_id)) - most
            self._history(AgentEvent.agent_id == agent_id, "max_events_per_agent", lambda _: True, most=above)

    def _history(self, of: Any, reason: str, is_old: Callable[[datetime], bool], *, most: int | None = None) -> None:
        """Delete rows *of* an agent or all, from the oldest on, up to *most*; stops where none is old any more."""
        after = 0
        while most is None or most > 0:
            self._keep_lease()
            limit = self._rows if most is None else min(self._rows, most)
            query = AgentEvent.select(AgentEvent.row_id, AgentEvent.session_id, AgentEvent.created_at)
            rows = _read(query.where(of & (AgentEvent.row_id > after)).order_by(AgentEvent.row_id).limit(limit))
            old = [(row_id, session_id) for row_id, session_id, at in rows if is_old(at)]
            if not old:
                return
            after = rows[-1][0]
            running = _running(session_id for _, session_id in old)
            due = [row_id for row_id, session_id in old if session_id not in running]
            if due:
                deleted = self._transaction(partial(_delete_history, due))
                EVENTS_PRUNED.labels(reason, "chatAgentEvents").inc(deleted)
                most = None if most is None else most - deleted

    def _events(self) -> None:
        self._delete_events(Session.events_pruned_at == _UNDER_WAY)
        ended = (Session.status != "running") & (Session.ended_at < self._cutoff(self._settings.event_retention_days))
        # Their one attempt was no worker's of ours.
        adopted = Session.conversation_id.is_null() | (Session.worker.is_null() & (Session.attempt == 1))
        self._delete_events(Session.events_pruned_at.is_null() & ended & ~adopted)

    def _conversations(self) -> None:
        while self._transaction(lambda: self._expire(self._settings, self._rows, self._now())):
            continue

    def _delete_events(self, where: Any) -> None:
        query = Session.select(Session.id, Session.session_id).where(where)
        while sessions := _read(query.order_by(Session.ended_at).limit(_SESSIONS_AT_ONCE)):
            row_ids = [row_id for row_id, _ in sessions]
            session_ids = [session_id for _, session_id in sessions]
            # From now on a poll answers 410: nobody may see half of a log.
            self._transaction(partial(_mark, row_ids, _UNDER_WAY))
            while deleted := self._transaction(partial(_delete_events, session_ids, self._rows)):
                EVENTS_PRUNED.labels("event_retention_days", "chatEvents").inc(deleted)
            self._transaction(partial(_mark, row_ids, self._now()))


def _read(query: Any) -> list[tuple[Any, ...]]:
    return db.reading(lambda: db.tuples(query))


def _running(session_ids: Iterable[str | None]) -> set[str]:
    asked = {session_id for session_id in session_ids if session_id is not None}
    query = Session.select(Session.session_id).where(Session.session_id.in_(asked) & (Session.status == "running"))
    return {session_id for (session_id,) in _read(query)}


def _delete_history(row_ids: list[int]) -> int:
    return entries.delete_rows(AgentEvent.row_id.in_(row_ids))


def _mark(row_ids: list[int], moment: datetime) -> int:
    still = Session.id.in_(row_ids) & (Session.status != "running")
    return int(Session.update(events_pruned_at=moment).where(still).execute())


def _delete_events(session_ids: list[str], limit: int) -> int:
    query = Event.select(Event.id).where(Event.session_id.in_(session_ids))
    # Each log from its end: whoever reads it meanwhile sees no gap.
    found = db.tuples(query.order_by(Event.session_id.desc(), Event.seq.desc()).limit(limit))
    if not found:
        return 0
    return int(Event.delete().where(Event.id.in_([row_id for (row_id,) in found])).execute())
